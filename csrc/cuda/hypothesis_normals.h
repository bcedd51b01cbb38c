// The random numbers of a batch's labelings (csrc/core/random_normals.h).
#pragma once

#include <cstdint>

#include "csrc/core/random_normals.h"
#include "csrc/cuda/ctc_batch.h"
#include "csrc/cuda/launch.h"
#include "csrc/cuda/warps.h"

namespace egl::cuda {

// A thread owns a slot at a time and hashes its labels in order. No shared memory. Moves 8 bytes
// per label: for N = 64, K = 100 and 50 labels, 2.6 MB, under 1 us on an H100; a chain of 50 hashes
// takes some 2 us.
static __global__ void __launch_bounds__(kThreadsPerBlock)
    labeling_hashes_kernel(LabelingBatch labelings, const int64_t* keys, uint64_t* hashes) {
  const int64_t num_slots = labelings.num_slots;
  for_each_item(labelings.num_utterances * num_slots, [&](int64_t slot) {
    const int64_t n = slot / num_slots;
    const int64_t k = slot % num_slots;
    if (k >= labelings.count(n)) return;
    hashes[slot] = hash_labeling(static_cast<uint64_t>(keys[n]), labelings.labeling(n, k),
                                 labelings.length(n, k));
  });
}

// hashes [N, K]; those of unused slots are not written.
inline void labeling_hashes(const LabelingBatch& labelings, const int64_t* keys, uint64_t* hashes,
                            cudaStream_t stream) {
  const int64_t num_slots = labelings.num_utterances * labelings.num_slots;
  launch("labeling_hashes", labeling_hashes_kernel, thread_for_each(num_slots), stream, labelings,
         keys, hashes);
}

// A thread owns a number at a time; neighbors write side by side. No shared memory. Writes 8 bytes
// per number. A logarithm, a root and a cosine each, some 200 operations in double, are the limit:
// 6 ns per thousand at 34 TFLOP/s.
static __global__ void __launch_bounds__(kThreadsPerBlock)
    hypothesis_normals_kernel(LabelingBatch labelings, const uint64_t* hashes, int64_t num_normals,
                              double* normals) {
  const int64_t num_slots = labelings.num_slots;
  for_each_item(labelings.num_utterances * num_slots * num_normals, [&](int64_t i) {
    const int64_t slot = i / num_normals;
    const bool used = slot % num_slots < labelings.count(slot / num_slots);
    normals[i] = used ? normal_of(hashes[slot], i % num_normals) : 0.0;
  });
}

// normals [N, K, num_normals]; zero for unused slots. `hashes` as labeling_hashes wrote them.
inline void hypothesis_normals(const LabelingBatch& labelings, const uint64_t* hashes,
                               int64_t num_normals, double* normals, cudaStream_t stream) {
  const int64_t count = labelings.num_utterances * labelings.num_slots * num_normals;
  launch("hypothesis_normals", hypothesis_normals_kernel, thread_for_each(count), stream, labelings,
         hashes, num_normals, normals);
}

}  // namespace egl::cuda
