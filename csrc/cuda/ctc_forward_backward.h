// Forward-backward by a warp in the log domain.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "csrc/core/emissions.h"
#include "csrc/core/log_semiring.h"
#include "csrc/cuda/warp_labeling.h"
#include "csrc/cuda/warps.h"

namespace egl::cuda {

// As csrc/core/ctc_forward_backward.cpp, which numbers b[u] as 2u and l[u] as
// 2u + 1.
template <typename Scalar>
class LogForwardBackward {
 public:
  // Of at least one frame.
  __device__ LogForwardBackward(const WarpLabeling& labeling, const Emissions<Scalar>& log_probs)
      : labeling_(labeling), log_probs_(log_probs) {}

  // The labeling's log-probability. Rows are not written if it is impossible.
  template <typename Rows>
  __device__ double run(const Rows& rows) const {
    const double log_prob = forward();
    if (log_prob > kNegInf) backward(rows);
    return log_prob;
  }

 private:
  __device__ double emission(int t, int u) const { return log_probs_(t, labeling_.labels[u]); }

  __device__ double forward() const {
    const int num_labels = labeling_.num_labels;
    const int cells = labeling_.scratch.cells();
    double* alpha = labeling_.scratch.alpha(0);
    for (int u = WarpLabeling::lane(); u < cells; u += kWarpSize) {
      alpha[u] = u == 0 && num_labels > 0 ? emission(0, 0) : kNegInf;
      alpha[cells + u] = u == 0 ? log_probs_(0, labeling_.blank) : kNegInf;
    }
    __syncwarp();
    for (int t = 1; t < labeling_.num_frames; ++t) {
      const double* before = alpha;
      alpha += labeling_.scratch.alpha_size();
      for (int u = WarpLabeling::lane(); u < cells; u += kWarpSize) {
        const double shifted = u > 0 ? before[u - 1] : kNegInf;
        const double here = before[cells + u];
        alpha[cells + u] = log_add(here, shifted) + log_probs_(t, labeling_.blank);
        double mass = kNegInf;
        if (u < num_labels) {
          mass = labeling_.skips(u) ? log_add(before[u], here, shifted) : log_add(before[u], here);
          mass += emission(t, u);
        }
        alpha[u] = mass;
      }
      __syncwarp();
    }
    const double in_blank = alpha[cells + num_labels];
    return num_labels == 0 ? in_blank : log_add(in_blank, alpha[num_labels - 1]);
  }

  template <typename Rows>
  __device__ void backward(const Rows& rows) const {
    const int num_labels = labeling_.num_labels;
    const int cells = labeling_.scratch.cells();
    double* alpha = labeling_.scratch.alpha(labeling_.num_frames - 1);
    double* beta = labeling_.scratch.beta(labeling_.num_frames - 1);
    for (int u = WarpLabeling::lane(); u < cells; u += kWarpSize) {
      beta[u] = u + 1 == num_labels ? 0.0 : kNegInf;
      beta[cells + u] = u == num_labels ? 0.0 : kNegInf;
    }
    __syncwarp();
    for (int t = labeling_.num_frames - 1; t >= 0; --t) {
      double* before = labeling_.scratch.beta(t + 1);
      const double blank = log_probs_(t, labeling_.blank);
      double most = kNegInf;
      for (int u = WarpLabeling::lane(); u < cells; u += kWarpSize) {
        alpha[u] += beta[u];
        alpha[cells + u] += beta[cells + u];
        most = std::max(most, std::max(alpha[u], alpha[cells + u]));

        double l = kNegInf;
        double b = beta[cells + u] + blank;
        if (u < num_labels) {
          const double own = beta[u] + emission(t, u);
          const double step = beta[cells + u + 1] + blank;
          b = log_add(b, own);
          l = labeling_.skips(u + 1) ? log_add(own, step, beta[u + 1] + emission(t, u + 1))
                                     : log_add(own, step);
        }
        before[u] = l;
        before[cells + u] = b;
      }
      most = warp_max(most);
      double of_blanks = 0.0;
      double of_labels = 0.0;
      for (int u = WarpLabeling::lane(); u < cells; u += kWarpSize) {
        alpha[u] = std::exp(alpha[u] - most);
        of_labels += alpha[u];
        of_blanks += std::exp(alpha[cells + u] - most);
      }
      of_blanks = warp_sum(of_blanks);
      rows.write(labeling_, t, of_blanks, alpha, 1.0 / (of_blanks + warp_sum(of_labels)));
      beta = before;
      alpha -= labeling_.scratch.alpha_size();
    }
  }

  const WarpLabeling& labeling_;
  Emissions<Scalar> log_probs_;
};

}  // namespace egl::cuda
