// The random numbers of a batch's labelings (csrc/core/random_normals.h).
#pragma once

#include <cstdint>

#include "csrc/core/random_normals.h"
#include "csrc/cuda/launch.h"

namespace egl::cuda {

// The labelings [N, K, U] of a batch of utterances, contiguous. Of counts and lengths that could
// not be checked, none leads out of the tensors.
struct Labelings {
  const int64_t* labels;
  const int64_t* label_lengths;  // [N, K]
  const int64_t* counts;         // [N]
  int64_t num_utterances;        // N
  int64_t num_slots;             // K
  int64_t capacity;              // U

  __device__ int64_t count(int64_t n) const { return clamped(counts[n], num_slots); }
  __device__ int64_t length(int64_t slot) const { return clamped(label_lengths[slot], capacity); }
  __device__ const int64_t* labeling(int64_t slot) const { return labels + slot * capacity; }

 private:
  static __device__ int64_t clamped(int64_t value, int64_t most) {
    return value < 0 ? 0 : value > most ? most : value;
  }
};

inline constexpr int kNormalsThreads = 256;

// A thread owns a slot at a time and reads its labels one after another, as the hash wants them. No
// shared memory.
//   Moves: 8 bytes a label. With N = 64, K = 100 and 50 labels, 2.6 MB, in part sectors of 32 bytes
//   that one thread comes back for: under 1 us at 3.35 TB/s, and a chain of 50 hashes, some 2 us.
static __global__ void __launch_bounds__(kNormalsThreads)
    labeling_hashes_kernel(Labelings labelings, const int64_t* keys, uint64_t* hashes) {
  const int64_t num_slots = labelings.num_slots;
  for (int64_t slot = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
       slot < labelings.num_utterances * num_slots;
       slot += static_cast<int64_t>(gridDim.x) * blockDim.x) {
    const int64_t n = slot / num_slots;
    if (slot % num_slots >= labelings.count(n)) continue;
    hashes[slot] = hash_labeling(static_cast<uint64_t>(keys[n]), labelings.labeling(slot),
                                 labelings.length(slot));
  }
}

// hashes [N, K]; those of unused slots are left alone.
inline void labeling_hashes(const Labelings& labelings, const int64_t* keys, uint64_t* hashes,
                            cudaStream_t stream) {
  const int64_t num_slots = labelings.num_utterances * labelings.num_slots;
  launch("labeling_hashes", labeling_hashes_kernel,
         {(num_slots + kNormalsThreads - 1) / kNormalsThreads, kNormalsThreads}, stream, labelings,
         keys, hashes);
}

// A thread owns a number at a time; neighbours write side by side. No shared memory.
//   Moves: 8 bytes a number, and a hash that is in cache. A logarithm, a root and a cosine each,
//   some 200 double operations: bound by these, 6 ns a thousand at 34 TFLOP/s.
static __global__ void __launch_bounds__(kNormalsThreads)
    hypothesis_normals_kernel(Labelings labelings, const uint64_t* hashes, int64_t num_normals,
                              double* normals) {
  const int64_t num_slots = labelings.num_slots;
  const int64_t count = labelings.num_utterances * num_slots * num_normals;
  for (int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x; i < count;
       i += static_cast<int64_t>(gridDim.x) * blockDim.x) {
    const int64_t slot = i / num_normals;
    const bool used = slot % num_slots < labelings.count(slot / num_slots);
    normals[i] = used ? normal_of(hashes[slot], i % num_normals) : 0.0;
  }
}

// normals [N, K, num_normals]; zero for unused slots. `hashes` as labeling_hashes wrote them.
inline void hypothesis_normals(const Labelings& labelings, const uint64_t* hashes,
                               int64_t num_normals, double* normals, cudaStream_t stream) {
  const int64_t count = labelings.num_utterances * labelings.num_slots * num_normals;
  launch("hypothesis_normals", hypothesis_normals_kernel,
         {(count + kNormalsThreads - 1) / kNormalsThreads, kNormalsThreads}, stream, labelings,
         hashes, num_normals, normals);
}

}  // namespace egl::cuda
