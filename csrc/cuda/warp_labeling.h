// A labeling that a warp works on: label and blank states, and the memory for both directions.
#pragma once

#include <algorithm>
#include <cstdint>

#include "csrc/core/host_device.h"
#include "csrc/cuda/ctc_batch.h"
#include "csrc/cuda/launch.h"
#include "csrc/cuda/platform.h"

namespace egl::cuda {

// The memory in which a warp works on one labeling. There are U label states l[u] and U + 1 blank
// states b[u], b[u] before l[u]; rows have room for U + 1 of either, and l[U] stays empty.
// Labelings with more labels than frames are impossible and take none.
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
  // [U]: the label where its class occurs first; else kNone.
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

// One labeling of one utterance, for one warp: a lane owns every 32nd label state and the blank
// state before it, at all frames. Lanes read what others wrote at the previous frame, so they
// synchronize once per frame.
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

}  // namespace egl::cuda
