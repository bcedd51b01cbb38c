// Exact probabilities of a batch's labelings, and occupancy or cotangents, by the operations of
// csrc/core/ctc_posteriors.cpp in their order: probabilities are equal to the bit where exp and log
// are the host's, and the rest as far as sums over states allow.
//
// A warp takes one labeling after another, and needs no other warp. What makes it fast is how many
// there are, 20 on a multiprocessor: each waits most of the time for the frame before.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numbers>
#include <stdexcept>

#include "csrc/core/linear_domain.h"
#include "csrc/core/log_semiring.h"
#include "csrc/core/power_of_two.h"
#include "csrc/cuda/ctc_batch.h"
#include "csrc/cuda/launch.h"
#include "csrc/cuda/platform.h"
#include "csrc/cuda/warps.h"

namespace egl::cuda {

// What is written of a labeling, a row for each frame.
enum class PosteriorKind {
  kOccupancy,        // of all classes
  kSparseOccupancy,  // of the labeling's own classes, the blank first, in ascending order
  kCotangents,       // softmax - occupancy, of all classes
};

template <typename Scalar>
struct PosteriorOutput {
  double* log_prob;  // [N, K]
  // [N, K, T, R]: R is C, or U + 1 of a sparse occupancy.
  Scalar* rows;
  int64_t* classes = nullptr;  // [N, K, R] of a sparse occupancy: the columns' classes, then -1

  // What is written of the utterances from `first` on.
  PosteriorOutput slice(int64_t first, int64_t num_slots, int64_t max_frames,
                        int64_t row_size) const {
    const int64_t slots = first * num_slots;
    return {log_prob + slots, rows + slots * max_frames * row_size,
            classes == nullptr ? nullptr : classes + slots * row_size};
  }
};

template <PosteriorKind kKind>
int64_t posterior_row_size(int64_t num_classes, int64_t capacity) {
  return kKind == PosteriorKind::kSparseOccupancy ? capacity + 1 : num_classes;
}

// The emissions as probabilities, for all labelings of an utterance.
struct ProbabilityTables {
  double* probs;        // [N, T, C]; padding is not written
  int32_t* incomplete;  // [N]: whether some are numbers that cannot be calculated with
};

// A warp a frame, a lane every 32nd class. Bytes: a read of the log-probabilities and 8 written for
// each: with float32, 3.6 us a million on an H100, and half of that for the exponentials.
template <typename Scalar>
__global__ void __launch_bounds__(kThreadsPerBlock)
    probability_tables_kernel(EmissionBatch<Scalar> log_probs, ProbabilityTables tables) {
  const WarpIndex self = this_warp();
  const int64_t num_classes = log_probs.num_classes;
  const int64_t num_frames = log_probs.num_utterances * log_probs.max_frames;
  for (int64_t frame = self.warp; frame < num_frames; frame += self.num_warps) {
    const int64_t n = frame / log_probs.max_frames;
    const int64_t t = frame % log_probs.max_frames;
    const Emissions<Scalar> frames = log_probs.utterance(n);
    if (t >= frames.num_frames) continue;
    bool complete = true;
    for (int64_t c = self.lane; c < num_classes; c += kWarpSize) {
      const double value = frames(t, c);
      complete &= is_linear(value);
      tables.probs[frame * num_classes + c] = std::exp(value);
    }
    if (!complete) atomicOr(&tables.incomplete[n], 1);
  }
}

// The most frames and the most labels that the scratch memory of one warp has to hold.
struct LongestLabeling {
  unsigned long long num_frames;
  unsigned long long num_labels;
};

// A thread a labeling, then a warp its largest. Bytes: 8 a labeling.
static __global__ void __launch_bounds__(kThreadsPerBlock)
    longest_labeling_kernel(const int64_t* lengths, int64_t max_frames, LabelingBatch labelings,
                            LongestLabeling* longest) {
  const int64_t threads = int64_t{gridDim.x} * blockDim.x;
  const int64_t num_labelings = labelings.num_utterances * labelings.num_slots;
  unsigned long long num_frames = 0;
  unsigned long long num_labels = 0;
  for (int64_t slot = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; slot < num_labelings;
       slot += threads) {
    const int64_t n = slot / labelings.num_slots;
    const int64_t k = slot % labelings.num_slots;
    if (k >= labelings.count(n)) continue;
    const auto frames = static_cast<unsigned long long>(clamped(lengths[n], max_frames));
    const auto labels = static_cast<unsigned long long>(labelings.length(n, k));
    num_frames = num_frames < frames ? frames : num_frames;
    num_labels = num_labels < labels ? labels : num_labels;
  }
  num_frames = warp_max(num_frames);
  num_labels = warp_max(num_labels);
  if (threadIdx.x % kWarpSize != 0) return;
  atomicMax(&longest->num_frames, num_frames);
  atomicMax(&longest->num_labels, num_labels);
}

// The memory in which a warp works on one labeling at a time. There are U label states l[u] and
// U + 1 blank states b[u], b[u] before l[u]; rows have room for U + 1 of either, and l[U] stays
// empty. Labelings with more labels than frames are impossible, and get no rows.
class LabelingScratch {
 public:
  // In doubles.
  static EGL_HOST_DEVICE int64_t size(int64_t num_frames, int64_t num_labels) {
    const int64_t cells = std::min(num_frames, num_labels) + 1;
    return num_labels + 4 * cells + num_frames * (2 * cells + 1);
  }

  __device__ LabelingScratch(double* memory, int num_labels)
      : memory_(memory), num_labels_(num_labels) {}

  // [U]: where a label occurs next, U if it does not.
  __device__ int32_t* next() const { return reinterpret_cast<int32_t*>(memory_); }
  // [U]: the output column of the label's class where that occurs first; else kNone.
  __device__ int32_t* columns() const { return next() + num_labels_; }
  // [2, U + 1]: beta of label states, then of blank states; of this frame, or of the next.
  __device__ double* beta(int64_t frame) const {
    return memory_ + num_labels_ + (frame % 2 == 0 ? 0 : 2 * cells());
  }
  // [2, U + 1], likewise alpha, then the frame's exponent: true masses over two to its power.
  __device__ double* alpha(int64_t frame) const {
    return memory_ + num_labels_ + 4 * cells() + frame * alpha_size();
  }

  __device__ int cells() const { return num_labels_ + 1; }
  __device__ int alpha_size() const { return 2 * cells() + 1; }

 private:
  double* memory_;
  int num_labels_;
};

inline constexpr int32_t kNone = -1;

// One labeling of one utterance, to be done by one warp: a lane owns every 32nd label state and the
// blank state before it, at all frames. Lanes read what others wrote at the frame before, so they
// meet once a frame.
struct WarpLabeling {
  __device__ WarpLabeling(const LabelingBatch& labelings, int64_t n, int64_t k, int num_frames,
                          int blank, double* memory)
      : labels(labelings.labeling(n, k)),
        num_labels(static_cast<int>(labelings.length(n, k))),
        num_frames(num_frames),
        blank(blank),
        scratch(memory, num_labels) {}

  static __device__ int lane() { return static_cast<int>(threadIdx.x % kWarpSize); }

  // Whether an alignment may come to l[u] from l[u - 1]: between different labels.
  __device__ bool skips(int u) const {
    return u >= 1 && u < num_labels && labels[u] != labels[u - 1];
  }

  const int64_t* labels;
  int num_labels;
  int num_frames;
  int blank;
  LabelingScratch scratch;
};

// The output rows of one labeling.
template <PosteriorKind kKind, typename Scalar>
class PosteriorRows {
 public:
  // `classes` [R], of a sparse occupancy; `probs` [T, C].
  __device__ PosteriorRows(Scalar* rows, int64_t* classes, int row_size, const double* probs,
                           int num_classes)
      : rows_(rows),
        classes_(classes),
        row_size_(row_size),
        probs_(probs),
        num_classes_(num_classes) {}

  // Zero for frames [first, last).
  __device__ void clear(int64_t first, int64_t last) const {
    const int64_t end = last * row_size_;
    for (int64_t i = first * row_size_ + WarpLabeling::lane(); i < end; i += kWarpSize) {
      rows_[i] = Scalar{0};
    }
  }

  __device__ void name_no_classes() const {
    if constexpr (kKind == PosteriorKind::kSparseOccupancy) {
      for (int column = WarpLabeling::lane(); column < row_size_; column += kWarpSize) {
        classes_[column] = kNone;
      }
    }
  }

  // Finds, before the first write, which class goes where. Sums over a class's positions walk along
  // next(), so that they need no atomics and add in ascending order.
  __device__ void prepare(const WarpLabeling& labeling) const {
    const int64_t* labels = labeling.labels;
    const int num_labels = labeling.num_labels;
    int32_t* next = labeling.scratch.next();
    int32_t* columns = labeling.scratch.columns();
    __syncwarp();  // the memory may have been another labeling's
    for (int u = WarpLabeling::lane(); u < num_labels; u += kWarpSize) {
      int later = u + 1;
      while (later < num_labels && labels[later] != labels[u]) ++later;
      next[u] = later;
      columns[u] = static_cast<int32_t>(labels[u]);
    }
    __syncwarp();
    for (int u = WarpLabeling::lane(); u < num_labels; u += kWarpSize) {
      if (next[u] < num_labels) columns[next[u]] = kNone;
    }
    __syncwarp();
    if constexpr (kKind == PosteriorKind::kSparseOccupancy) {
      name_no_classes();
      __syncwarp();
      if (WarpLabeling::lane() == 0) classes_[0] = labeling.blank;
      for (int u = WarpLabeling::lane(); u < num_labels; u += kWarpSize) {
        if (columns[u] == kNone) continue;
        int rank = 1;  // after the blank
        for (int other = 0; other < num_labels; ++other) {
          const bool last_of_class = next[other] >= num_labels;
          rank += last_of_class && labels[other] < labels[u] ? 1 : 0;
        }
        columns[u] = rank;
        classes_[rank] = labels[u];
      }
    }
  }

  // Writes frame t's row from its sum over blank states and the label states' own masses, all to be
  // multiplied by `scale`. On the way the lanes meet, so that each sees what all wrote before.
  __device__ void write(const WarpLabeling& labeling, int64_t t, double of_blanks,
                        const double* of_labels, double scale) const {
    const int32_t* next = labeling.scratch.next();
    const int32_t* columns = labeling.scratch.columns();
    Scalar* row = rows_ + t * row_size_;
    for (int column = WarpLabeling::lane(); column < row_size_; column += kWarpSize) {
      row[column] = entry(t, column, 0.0);
    }
    __syncwarp();
    for (int u = WarpLabeling::lane(); u < labeling.num_labels; u += kWarpSize) {
      if (columns[u] == kNone) continue;
      double occupied = 0.0;
      for (int v = u; v < labeling.num_labels; v = next[v]) occupied += of_labels[v] * scale;
      row[columns[u]] = entry(t, static_cast<int>(labeling.labels[u]), occupied);
    }
    if (WarpLabeling::lane() == 0) {
      row[kKind == PosteriorKind::kSparseOccupancy ? 0 : labeling.blank] =
          entry(t, labeling.blank, of_blanks * scale);
    }
  }

 private:
  // Where the model is sure, softmax and occupancy nearly cancel: both are in double.
  __device__ Scalar entry(int64_t t, int cls, double occupied) const {
    if constexpr (kKind == PosteriorKind::kCotangents) {
      return static_cast<Scalar>(probs_[t * num_classes_ + cls] - occupied);
    } else {
      return static_cast<Scalar>(occupied);
    }
  }

  Scalar* rows_;
  int64_t* classes_;
  int row_size_;
  const double* probs_;
  int num_classes_;
};

// In the linear domain.
class LinearForwardBackward {
 public:
  // Of the probabilities [T, C] of at least one frame.
  __device__ LinearForwardBackward(const WarpLabeling& labeling, const double* probs,
                                   int num_classes)
      : labeling_(labeling), probs_(probs), num_classes_(num_classes) {}

  // The labeling's log-probability; NaN where the linear domain does not do, and then rows may have
  // been written or not.
  template <typename Rows>
  __device__ double run(const Rows& rows) const {
    constexpr double kFails = std::numeric_limits<double>::quiet_NaN();
    int64_t exponent;
    const double mantissa = forward(exponent);
    if (!(mantissa >= std::numeric_limits<double>::min())) return kFails;
    if (!backward(mantissa, exponent, rows)) return kFails;
    return std::log(mantissa) + static_cast<double>(exponent) * std::numbers::ln2;
  }

 private:
  // Of the largest mass only the exponent is asked, so that lanes have half to exchange. Zero, too,
  // for what is below 2^-1042, which the log domain does better than a few bits.
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

  // Writes the rows, and returns whether both directions agree on the probability at every frame:
  // else mass was lost on either side. Of `exponent` goes what beta is scaled by.
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
      const int64_t apart = static_cast<int64_t>(alpha[2 * cells]) - exponent;
      if (apart < -1000 || apart > 1000) return false;
      const double off = total * power_of_two(apart) / mantissa - 1.0;
      if (!(std::abs(off) <= agreement(labeling_.num_frames))) return false;
      most = warp_max(most);
      rows.write(labeling_, t, of_blanks, alpha, 1.0 / total);
      if (t == 0) return true;

      if (most == 0) return false;
      // Rarely: products of the rows' numbers stay normal as long as they are within these bounds.
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

// In the log domain, as csrc/core/ctc_forward_backward.cpp, which numbers b[u] as 2u and l[u] as
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
    if (log_prob > kNegInf) backward(log_prob, rows);
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
  __device__ void backward(double log_prob, const Rows& rows) const {
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
      double of_blanks = 0.0;
      for (int u = WarpLabeling::lane(); u < cells; u += kWarpSize) {
        alpha[u] = std::exp(alpha[u] + beta[u] - log_prob);
        of_blanks += std::exp(alpha[cells + u] + beta[cells + u] - log_prob);

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
      of_blanks = warp_sum(of_blanks);
      rows.write(labeling_, t, of_blanks, alpha, 1.0);
      beta = before;
      alpha -= labeling_.scratch.alpha_size();
    }
  }

  const WarpLabeling& labeling_;
  Emissions<Scalar> log_probs_;
};

inline constexpr int kPosteriorThreads = 128;
inline constexpr int64_t kMostPosteriorWarps = 8192;

// What kernels of posteriors share.
template <typename Scalar>
struct PosteriorTask {
  LabelingBatch labelings;
  const int64_t* lengths;
  int64_t max_frames;
  int64_t num_classes;
  int64_t blank;
  ProbabilityTables tables;
  PosteriorOutput<Scalar> out;
  int64_t row_size;          // R
  LongestLabeling* longest;  // what a slice of the scratch memory has to hold
  double* scratch;
  int64_t scratch_size;  // in doubles

  __device__ int64_t slot(int64_t n, int64_t k) const { return n * labelings.num_slots + k; }
  __device__ double& log_prob(int64_t n, int64_t k) const { return out.log_prob[slot(n, k)]; }
  __device__ double* probs(int64_t n) const { return tables.probs + n * max_frames * num_classes; }

  template <PosteriorKind kKind>
  __device__ PosteriorRows<kKind, Scalar> rows(int64_t n, int64_t k) const {
    int64_t* classes = nullptr;
    if constexpr (kKind == PosteriorKind::kSparseOccupancy) {
      classes = out.classes + slot(n, k) * row_size;
    }
    return {out.rows + slot(n, k) * max_frames * row_size, classes, static_cast<int>(row_size),
            probs(n), static_cast<int>(num_classes)};
  }

  __device__ WarpLabeling labeling(int64_t n, int64_t k, double* memory) const {
    return {
        labelings, n, k, static_cast<int>(clamped(lengths[n], max_frames)), static_cast<int>(blank),
        memory};
  }

  // Calls body(n, k, slice) for this warp's labelings. Hypothesis by hypothesis, so that each warp
  // meets long and short utterances alike. Warps for which there is no slice have no labelings.
  template <typename Body>
  __device__ void for_each_labeling(const Body& body) const {
    const WarpIndex self = this_warp();
    const int64_t slice =
        std::max<int64_t>(1, LabelingScratch::size(static_cast<int64_t>(longest->num_frames),
                                                   static_cast<int64_t>(longest->num_labels)));
    const int64_t num_warps = std::min(self.num_warps, scratch_size / slice);
    if (self.warp >= num_warps) return;
    const int64_t num_labelings = labelings.num_utterances * labelings.num_slots;
    for (int64_t i = self.warp; i < num_labelings; i += num_warps) {
      body(i % labelings.num_utterances, i / labelings.num_utterances, scratch + self.warp * slice);
    }
  }
};
// A warp owns a slice of the scratch memory. No shared memory. A labeling for which the linear
// domain does not do gets NaN for its log-probability, and what is in its rows does not count.
//   Bytes, for T frames and U labels: alpha is written and read once, and its label rows are
//   written
// again, 40 T U; and the rows, 4 or 8 T C. With 100 labelings of 30 classes, 200 frames and 100
// labels: 82 MB an utterance, or 24 us on an H100, if L2 caught nothing. Latency: a frame waits for
// the one before, by some 500 cycles in either direction, which is 0.12 ms a labeling, or 4.5 us
// for 100 of them while the 2,640 warps of 20 a multiprocessor wait at once; 15 us if scratch
// memory is 256 MiB, enough for 800. So bandwidth is the limit.
template <PosteriorKind kKind, typename Scalar>
__global__ void __launch_bounds__(kPosteriorThreads, 5)
    linear_posteriors_kernel(PosteriorTask<Scalar> task) {
  task.for_each_labeling([&](int64_t n, int64_t k, double* memory) {
    const auto rows = task.template rows<kKind>(n, k);
    double log_prob = kNegInf;
    int num_written = 0;
    if (k < task.labelings.count(n)) {
      const WarpLabeling labeling = task.labeling(n, k, memory);
      rows.prepare(labeling);
      if (labeling.num_frames == 0) {
        log_prob = labeling.num_labels == 0 ? 0.0 : kNegInf;
      } else if (labeling.num_labels <= labeling.num_frames) {
        num_written = labeling.num_frames;
        log_prob =
            task.tables.incomplete[n] != 0
                ? std::numeric_limits<double>::quiet_NaN()
                : LinearForwardBackward(labeling, task.probs(n), static_cast<int>(task.num_classes))
                      .run(rows);
      }
    } else {
      rows.name_no_classes();
    }
    rows.clear(num_written, task.max_frames);
    if (WarpLabeling::lane() == 0) task.log_prob(n, k) = log_prob;
  });
}

// The same for labelings whose log-probability is NaN, at ten or twenty times the price: up to two
// logarithms and four exponentials a state. There are few, or the model says nothing.
template <PosteriorKind kKind, typename In, typename Out>
__global__ void __launch_bounds__(kPosteriorThreads, 4)
    log_posteriors_kernel(EmissionBatch<In> log_probs, PosteriorTask<Out> task) {
  task.for_each_labeling([&](int64_t n, int64_t k, double* memory) {
    if (!std::isnan(task.log_prob(n, k))) return;
    const auto rows = task.template rows<kKind>(n, k);
    const WarpLabeling labeling = task.labeling(n, k, memory);
    rows.prepare(labeling);
    const double log_prob = LogForwardBackward<In>(labeling, log_probs.utterance(n)).run(rows);
    if (log_prob == kNegInf) rows.clear(0, labeling.num_frames);
    if (WarpLabeling::lane() == 0) task.log_prob(n, k) = log_prob;
  });
}

// How ctc_posteriors divides its workspace, in units of 8 bytes.
struct PosteriorWorkspace {
  int64_t tables;      // N * T * C
  int64_t flags;       // N of 4 bytes
  int64_t slice;       // for a labeling as long as shapes allow
  int64_t num_slices;  // as many as are of use

  PosteriorWorkspace(int64_t num_utterances, int64_t max_frames, int64_t num_classes,
                     int64_t num_slots, int64_t capacity)
      : tables(num_utterances * max_frames * num_classes),
        flags((num_utterances + 1) / 2),
        slice(LabelingScratch::size(max_frames, capacity)),
        num_slices(std::min(num_utterances * num_slots, kMostPosteriorWarps)) {}

  static constexpr int64_t kHeader = sizeof(LongestLabeling) / sizeof(double);
};

// Bytes of workspace for ctc_posteriors. Beside tables of 8 N T C it is scratch memory, of which
// more is faster until every warp has a slice, 8 T (2 U + 3) for the longest of the labelings that
// come: `scratch_bytes`, or what is of use, if that is less; and never less than one slice for the
// longest that shapes allow.
inline size_t ctc_posteriors_workspace_bytes(int64_t num_utterances, int64_t max_frames,
                                             int64_t num_classes, int64_t num_slots,
                                             int64_t capacity, size_t scratch_bytes) {
  const PosteriorWorkspace parts(num_utterances, max_frames, num_classes, num_slots, capacity);
  const auto allowed = static_cast<int64_t>(scratch_bytes / sizeof(double));
  const int64_t scratch = std::max(parts.slice, std::min(allowed, parts.slice * parts.num_slices));
  return static_cast<size_t>(PosteriorWorkspace::kHeader + parts.tables + parts.flags + scratch) *
         sizeof(double);
}

// Writes log-probabilities and rows of all N utterances and K slots: minus infinity and zero where
// there is no labeling or an impossible one, and zero on padding frames. Labels have to be classes
// other than the blank, log-probabilities neither NaN nor plus infinity. `workspace` has
// `workspace_bytes`, of the function above, and may serve again once this is launched. Throws
// std::invalid_argument where a size is more than 2^30.
template <PosteriorKind kKind, typename In, typename Out>
void ctc_posteriors(const EmissionBatch<In>& log_probs, const LabelingBatch& labelings,
                    int64_t blank, const PosteriorOutput<Out>& out, void* workspace,
                    size_t workspace_bytes, cudaStream_t stream) {
  const PosteriorWorkspace parts(log_probs.num_utterances, log_probs.max_frames,
                                 log_probs.num_classes, labelings.num_slots, labelings.capacity);
  constexpr int64_t kMost = int64_t{1} << 30;
  if (log_probs.max_frames > kMost || log_probs.num_classes > kMost || labelings.capacity > kMost) {
    throw std::invalid_argument("more than 2^30 frames, classes or labels");
  }
  auto* const start = static_cast<double*>(workspace);
  double* const probs = start + PosteriorWorkspace::kHeader;
  double* const flags = probs + parts.tables;
  double* const scratch = flags + parts.flags;
  const PosteriorTask<Out> task{
      labelings,
      log_probs.lengths,
      log_probs.max_frames,
      log_probs.num_classes,
      blank,
      {probs, reinterpret_cast<int32_t*>(flags)},
      out,
      posterior_row_size<kKind>(log_probs.num_classes, labelings.capacity),
      reinterpret_cast<LongestLabeling*>(start),
      scratch,
      static_cast<int64_t>(workspace_bytes / sizeof(double)) - (scratch - start)};

  check_cuda(cudaMemsetAsync(start, 0, sizeof(LongestLabeling), stream), "cudaMemsetAsync");
  check_cuda(cudaMemsetAsync(flags, 0, parts.flags * sizeof(double), stream), "cudaMemsetAsync");
  launch("longest_labeling", longest_labeling_kernel,
         thread_for_each(labelings.num_utterances * labelings.num_slots), stream, log_probs.lengths,
         log_probs.max_frames, labelings, task.longest);
  launch("probability_tables", probability_tables_kernel<In>,
         warp_for_each(log_probs.num_utterances * log_probs.max_frames), stream, log_probs,
         task.tables);
  constexpr int64_t kWarps = kPosteriorThreads / kWarpSize;
  const LaunchShape shape{(parts.num_slices + kWarps - 1) / kWarps, kPosteriorThreads};
  launch("linear_posteriors", linear_posteriors_kernel<kKind, Out>, shape, stream, task);
  launch("log_posteriors", log_posteriors_kernel<kKind, In, Out>, shape, stream, log_probs, task);
}

}  // namespace egl::cuda
