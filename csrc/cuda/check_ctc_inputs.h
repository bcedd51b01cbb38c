// Finds the first of the CTC operators' inputs that they refuse. A place is a flat index, or
// kNothing where all is well. Kernels lower it by atomicMin, so the result does not depend on their
// order.
#pragma once

#include <cstdint>

#include "csrc/core/emissions.h"
#include "csrc/cuda/ctc_batch.h"
#include "csrc/cuda/launch.h"
#include "csrc/cuda/platform.h"
#include "csrc/cuda/warps.h"

namespace egl::cuda {

using Place = unsigned long long;  // what atomicMin takes
inline constexpr Place kNothing = ~Place{0};

// Where the first bad value of each kind is.
struct BadCtcInputs {
  Place lengths;        // n
  Place label_lengths;  // n * K + k
  Place counts;         // n
  Place labels;         // (n * K + k) * U + u
  Place emissions;      // (n * T + t) * C + c of log-probabilities; n * T + t of logits
};

// Call before any of the following.
inline void clear(BadCtcInputs* found, cudaStream_t stream) {
  check_cuda(cudaMemsetAsync(found, 0xff, sizeof(BadCtcInputs), stream), "cudaMemsetAsync");
}

// A thread takes values. Takes as long as an empty launch.
static __global__ void __launch_bounds__(kThreadsPerBlock)
    find_out_of_range_kernel(const int64_t* values, int64_t count, int64_t high, Place* found) {
  for_each_item(count, [&](int64_t i) {
    if (values[i] < 0 || values[i] > high) atomicMin(found, static_cast<Place>(i));
  });
}

// The first of `count` values outside [0, high].
inline void find_out_of_range(const int64_t* values, int64_t count, int64_t high, Place* found,
                              cudaStream_t stream) {
  launch("find_out_of_range", find_out_of_range_kernel, thread_for_each(count), stream, values,
         count, high, found);
}

// A warp takes labelings, a lane every 32nd label. Reads 8 bytes per label.
static __global__ void __launch_bounds__(kThreadsPerBlock)
    find_bad_label_kernel(LabelingBatch labelings, int64_t num_classes, int64_t blank,
                          Place* found) {
  const WarpIndex self = this_warp();
  const int64_t num_labelings = labelings.num_utterances * labelings.num_slots;
  for (int64_t slot = self.warp; slot < num_labelings; slot += self.num_warps) {
    const int64_t n = slot / labelings.num_slots;
    const int64_t k = slot % labelings.num_slots;
    if (k >= labelings.count(n)) continue;
    const int64_t num_labels = labelings.length(n, k);
    const int64_t* labels = labelings.labeling(n, k);
    for (int64_t u = self.lane; u < num_labels; u += kWarpSize) {
      if (labels[u] >= 0 && labels[u] < num_classes && labels[u] != blank) continue;
      atomicMin(found, static_cast<Place>(slot * labelings.capacity + u));
      break;
    }
  }
}

// The first label, padding aside, that is the blank or not a class.
inline void find_bad_label(const LabelingBatch& labelings, int64_t num_classes, int64_t blank,
                           Place* found, cudaStream_t stream) {
  launch("find_bad_label", find_bad_label_kernel,
         warp_for_each(labelings.num_utterances * labelings.num_slots), stream, labelings,
         num_classes, blank, found);
}

// A warp takes frames, a lane every 32nd class; padding is not read. Reads the batch once, at 1.2
// us per million float32 values on an H100.
template <typename Scalar>
__global__ void __launch_bounds__(kThreadsPerBlock)
    find_bad_log_prob_kernel(EmissionBatch<Scalar> log_probs, Place* found) {
  const WarpIndex self = this_warp();
  const int64_t num_frames = log_probs.num_utterances * log_probs.max_frames;
  for (int64_t frame = self.warp; frame < num_frames; frame += self.num_warps) {
    const int64_t t = frame % log_probs.max_frames;
    const Emissions<Scalar> frames = log_probs.utterance(frame / log_probs.max_frames);
    if (t >= frames.num_frames) continue;
    for (int64_t c = self.lane; c < frames.num_classes; c += kWarpSize) {
      if (frames(t, c) <= kMostLogProb) continue;
      atomicMin(found, static_cast<Place>(frame * frames.num_classes + c));
      break;
    }
  }
}

// The first that is NaN or above kMostLogProb.
template <typename Scalar>
void find_bad_log_prob(const EmissionBatch<Scalar>& log_probs, Place* found, cudaStream_t stream) {
  launch("find_bad_log_prob", find_bad_log_prob_kernel<Scalar>,
         warp_for_each(log_probs.num_utterances * log_probs.max_frames), stream, log_probs, found);
}

}  // namespace egl::cuda
