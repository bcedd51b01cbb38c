// The output for a labeling's posteriors: occupancy or cotangents.
#pragma once

#include <cstdint>

#include "csrc/cuda/launch.h"
#include "csrc/cuda/platform.h"
#include "csrc/cuda/warp_labeling.h"

namespace egl::cuda {

// Which posteriors of a labeling are written, one row of all classes per frame.
enum class PosteriorKind {
  kOccupancy,
  kCotangents,  // softmax - occupancy
};

template <typename Scalar>
struct PosteriorOutput {
  double* log_prob;  // [N, K]
  Scalar* rows;      // [N, K, T, C]

  // What is written of the utterances from `first` on.
  PosteriorOutput slice(int64_t first, int64_t num_slots, int64_t max_frames,
                        int64_t num_classes) const {
    const int64_t slots = first * num_slots;
    return {log_prob + slots, rows + slots * max_frames * num_classes};
  }
};

// The output rows of one labeling.
template <PosteriorKind kKind, typename Scalar>
class PosteriorRows {
 public:
  // `rows` and `probs`: [T, C].
  __device__ PosteriorRows(Scalar* rows, const double* probs, int num_classes)
      : rows_(rows), probs_(probs), num_classes_(num_classes) {}

  // Zero for frames [first, last).
  __device__ void clear(int64_t first, int64_t last) const {
    const int64_t end = last * num_classes_;
    for (int64_t i = first * num_classes_ + WarpLabeling::lane(); i < end; i += kWarpSize) {
      rows_[i] = Scalar{0};
    }
  }

  // Call before the first write: finds the positions of each class. Sums over them follow next(),
  // so they need no atomics and add in ascending order.
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
  }

  // Writes frame t's row from the sum over its blank states and the masses of its label states,
  // times `scale`. This synchronizes the warp, so each lane sees what all wrote before.
  __device__ void write(const WarpLabeling& labeling, int64_t t, double of_blanks,
                        const double* of_labels, double scale) const {
    const int32_t* next = labeling.scratch.next();
    const int32_t* columns = labeling.scratch.columns();
    Scalar* row = rows_ + t * num_classes_;
    for (int column = WarpLabeling::lane(); column < num_classes_; column += kWarpSize) {
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
      row[labeling.blank] = entry(t, labeling.blank, of_blanks * scale);
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
  const double* probs_;
  int num_classes_;
};

}  // namespace egl::cuda
