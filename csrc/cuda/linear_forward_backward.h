// Forward-backward by a warp in the linear domain, by the operations of
// csrc/core/linear_kernel.inc.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>

#include "csrc/core/linear_domain.h"
#include "csrc/core/power_of_two.h"
#include "csrc/cuda/warp_labeling.h"
#include "csrc/cuda/warps.h"

namespace egl::cuda {

class LinearForwardBackward {
 public:
  // Of the probabilities [T, C] of at least one frame.
  __device__ LinearForwardBackward(const WarpLabeling& labeling, const double* probs,
                                   int num_classes)
      : labeling_(labeling), probs_(probs), num_classes_(num_classes) {}

  // The labeling's log-probability; NaN where the linear domain fails, and then rows may or may not
  // have been written.
  template <typename Rows>
  __device__ double run(const Rows& rows) const {
    constexpr double kFails = std::numeric_limits<double>::quiet_NaN();
    int64_t exponent;
    const double mantissa = forward(exponent);
    if (!is_normal_mass(mantissa)) return kFails;
    if (!backward(mantissa, exponent, rows)) return kFails;
    return std::log(mantissa) + static_cast<double>(exponent) * std::numbers::ln2;
  }

 private:
  // Only the exponent of the largest mass is needed, so lanes exchange half of its bits. Masses
  // below 2^-1042 give zero; the log domain handles them better than a few bits would.
  static __device__ int upper_bits(double mass) {
    return static_cast<int>(__double_as_longlong(mass) >> 32);
  }
  static __device__ int exponent_of_upper(int bits) { return (bits >> 20) - 1023; }

  // The probability over 2^exponent.
  __device__ double forward(int64_t& exponent) const {
    const int num_labels = labeling_.num_labels;
    const int cells = labeling_.scratch.cells();
    const double* frame = probs_;
    double* alpha = labeling_.scratch.alpha(0);
    const double first_label = num_labels > 0 ? frame[labeling_.labels[0]] : 0.0;
    const double first_blank = frame[labeling_.blank];
    for (int u = WarpLabeling::lane(); u < cells; u += kWarpSize) {
      alpha[u] = u == 0 ? first_label : 0.0;
      alpha[cells + u] = u == 0 ? first_blank : 0.0;
    }
    exponent = 0;
    if (WarpLabeling::lane() == 0) alpha[2 * cells] = 0.0;
    int most = upper_bits(first_label > first_blank ? first_label : first_blank);
    __syncwarp();

    for (int t = 1; t < labeling_.num_frames; ++t) {
      if (most == 0) return 0.0;
      exponent += exponent_of_upper(most);
      const double scale = power_of_two(-exponent_of_upper(most));
      frame += num_classes_;
      const double blank = frame[labeling_.blank] * scale;
      const double* before = alpha;
      alpha += labeling_.scratch.alpha_size();
      if (WarpLabeling::lane() == 0) alpha[2 * cells] = static_cast<double>(exponent);
      most = 0;
      for (int u = WarpLabeling::lane(); u < cells; u += kWarpSize) {
        const double shifted = u > 0 ? before[u - 1] : 0.0;
        const double here = before[cells + u];
        const double emission = u < num_labels ? frame[labeling_.labels[u]] : 0.0;
        const double l =
            (before[u] + here + (labeling_.skips(u) ? shifted : 0.0)) * (emission * scale);
        const double b = (here + shifted) * blank;
        alpha[u] = l;
        alpha[cells + u] = b;
        most = std::max(most, upper_bits(l > b ? l : b));
      }
      most = warp_max(most);
      __syncwarp();
    }
    return alpha[cells + num_labels] + (num_labels > 0 ? alpha[num_labels - 1] : 0.0);
  }

  // Writes the rows, and returns whether both directions agree on the probability at every frame;
  // if not, one of them lost mass. Beta's scale is subtracted from `exponent`.
  template <typename Rows>
  __device__ bool backward(double mantissa, int64_t exponent, const Rows& rows) const {
    const int num_labels = labeling_.num_labels;
    const int cells = labeling_.scratch.cells();
    const double* frame = probs_ + int64_t{labeling_.num_frames - 1} * num_classes_;
    double* alpha = labeling_.scratch.alpha(labeling_.num_frames - 1);
    double* beta = labeling_.scratch.beta(labeling_.num_frames - 1);
    for (int u = WarpLabeling::lane(); u < cells; u += kWarpSize) {
      beta[u] = u + 1 == num_labels ? 1.0 : 0.0;
      beta[cells + u] = u == num_labels ? 1.0 : 0.0;
    }
    __syncwarp();

    for (int t = labeling_.num_frames - 1;; --t) {
      double* before = labeling_.scratch.beta(t + 1);
      const double blank = frame[labeling_.blank];
      double of_labels = 0.0;
      double of_blanks = 0.0;
      int most = 0;
      for (int u = WarpLabeling::lane(); u < cells; u += kWarpSize) {
        const double beta_label = beta[u];
        const double beta_blank = beta[cells + u];
        const double joint = alpha[u] * beta_label;
        alpha[u] = joint;
        of_labels += joint;
        of_blanks += alpha[cells + u] * beta_blank;

        double own = 0.0;
        double from_blank = 0.0;
        if (u < num_labels) {
          own = beta_label * frame[labeling_.labels[u]];
          from_blank = beta[cells + u + 1] * blank;
        }
        const double skipped =
            labeling_.skips(u + 1) ? beta[u + 1] * frame[labeling_.labels[u + 1]] : 0.0;
        const double l = own + from_blank + skipped;
        const double b = own + beta_blank * blank;
        before[u] = l;
        before[cells + u] = b;
        most = std::max(most, upper_bits(l > b ? l : b));
      }
      of_blanks = warp_sum(of_blanks);
      const double total = of_blanks + warp_sum(of_labels);
      if (!(total >= kLeastTotal)) return false;
      const int64_t apart = static_cast<int64_t>(alpha[2 * cells]) - exponent;
      if (apart < -1000 || apart > 1000) return false;
      const double off = total * power_of_two(apart) / mantissa - 1.0;
      if (!(std::abs(off) <= agreement(labeling_.num_frames))) return false;
      if (!is_normal_mass(total)) return false;
      most = warp_max(most);
      rows.write(labeling_, t, of_blanks, alpha, 1.0 / total);
      if (t == 0) return true;

      if (most == 0) return false;
      // Rare: within these bounds, products of the rows' numbers stay normal.
      if (exponent_of_upper(most) < -64 || exponent_of_upper(most) > 64) {
        const double scale = power_of_two(-exponent_of_upper(most));
        for (int u = WarpLabeling::lane(); u < 2 * cells; u += kWarpSize) before[u] *= scale;
        exponent -= exponent_of_upper(most);
        __syncwarp();
      }
      beta = before;
      alpha -= labeling_.scratch.alpha_size();
      frame -= num_classes_;
    }
  }

  const WarpLabeling& labeling_;
  const double* probs_;
  int num_classes_;
};

}  // namespace egl::cuda
