// What is written of a labeling's posteriors: occupancy, dense or sparse, or cotangents.
#pragma once

#include <cstdint>

#include "csrc/cuda/launch.h"
#include "csrc/cuda/platform.h"
#include "csrc/cuda/warp_labeling.h"

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

}  // namespace egl::cuda
