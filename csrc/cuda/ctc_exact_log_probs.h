// The exact probabilities of what a prefix search kept, by the rules of
// csrc/core/ctc_exact_log_probs.h: equal to the bit, where exp and log1p are the host's. The core
// computes equal beginnings once; here each labeling is computed separately, which avoids a
// sequential loop over thousands of cells.
#pragma once

#include <cstddef>
#include <cstdint>

#include "csrc/core/linear_domain.h"
#include "csrc/core/semiring.h"
#include "csrc/cuda/ctc_batch.h"
#include "csrc/cuda/ctc_prefix_search.h"
#include "csrc/cuda/launch.h"
#include "csrc/cuda/shared_memory.h"
#include "csrc/cuda/warps.h"

namespace egl::cuda {

inline constexpr int kExactThreads = 128;

// normalized[n]: whether the classes of the kept labelings sum to at most 1 in every frame. A block
// owns an utterance at a time: it marks the classes, then each warp sums frames.
//   Shared memory: a bit per class, and a word. Moves 4 bytes per label, and 8 bytes for each frame
//   and class that occurs; a microsecond or two.
template <typename Scalar>
__global__ void __launch_bounds__(kExactThreads, 6)
    frames_normalized_kernel(EmissionBatch<Scalar> batch, int64_t blank, KeptPrefixes kept,
                             int32_t* normalized) {
  SharedArena arena = SharedArena::of_block();
  const int64_t num_words = (batch.num_classes + 31) / 32;
  auto* occurs = arena.take<unsigned>(num_words);
  auto* exceeds = arena.take<int>(1);
  const auto lane = static_cast<int64_t>(threadIdx.x % kWarpSize);
  const int64_t warp = threadIdx.x / kWarpSize;
  for (int64_t n = blockIdx.x; n < batch.num_utterances; n += gridDim.x) {
    for (int64_t word = threadIdx.x; word < num_words; word += blockDim.x) occurs[word] = 0;
    if (threadIdx.x == 0) *exceeds = 0;
    __syncthreads();
    if (threadIdx.x == 0) {
      atomicOr(&occurs[blank / 32], 1u << (blank % 32));
    }
    for (int64_t j = warp; j < kept.counts[n]; j += blockDim.x / kWarpSize) {
      const int32_t* labels = kept.labels + (n * kept.width + j) * batch.max_frames;
      for (int64_t u = lane; u < kept.lengths[n * kept.width + j]; u += kWarpSize) {
        atomicOr(&occurs[labels[u] / 32], 1u << (labels[u] % 32));
      }
    }
    __syncthreads();
    const Emissions<Scalar> log_probs = batch.utterance(n);
    for (int64_t t = warp; t < log_probs.num_frames; t += blockDim.x / kWarpSize) {
      double sum = 0.0;
      for (int64_t c = lane; c < batch.num_classes; c += kWarpSize) {
        if ((occurs[c / 32] >> (c % 32) & 1u) != 0) sum += exp(log_probs(t, c));
      }
      sum = warp_sum(sum);
      if (lane == 0 && !(sum <= 1.0 + 1e-5)) atomicOr(exceeds, 1);  // rounded in single precision
    }
    __syncthreads();
    if (threadIdx.x == 0) normalized[n] = *exceeds == 0 ? 1 : 0;
    __syncthreads();
  }
}

// Scratch memory of a warp in doubles: the masses of a labeling's beginnings, by what they end in.
inline int64_t exact_scratch_size(int64_t max_frames) { return 3 * (max_frames + 1); }

// One labeling, by a warp; `masses` is its scratch. In place, longest beginnings first: each reads
// the mass that the next shorter one had at the previous frame.
template <Semiring Mass, typename Scalar>
__device__ double exact_log_prob(const Emissions<Scalar>& log_probs, int64_t blank,
                                 const int32_t* labels, int num_labels, double* masses) {
  const auto lane = static_cast<int>(threadIdx.x % kWarpSize);
  const int num_cells = num_labels + 1;
  double* ends_in_blank = masses;
  double* ends_in_label = masses + num_cells;
  double* total = masses + 2 * num_cells;
  for (int u = lane; u < num_cells; u += kWarpSize) {
    ends_in_blank[u] = total[u] = u == 0 ? Mass::one : Mass::zero;
    ends_in_label[u] = Mass::zero;
  }
  __syncwarp();
  const int last_chunk = num_labels / kWarpSize * kWarpSize;
  for (int64_t t = 0; t < log_probs.num_frames; ++t) {
    const double of_blank = Mass::of_log(log_probs(t, blank));
    for (int chunk = last_chunk; chunk >= 0; chunk -= kWarpSize) {
      const int u = chunk + lane;
      double in_blank = Mass::zero;
      double in_label = Mass::zero;
      if (u < num_cells) {
        in_blank = Mass::times(total[u], of_blank);
        if (u > 0) {
          const int label = labels[u - 1];
          const bool repeats = u > 1 && labels[u - 2] == label;
          const double arriving = repeats ? ends_in_blank[u - 1] : total[u - 1];
          in_label = Mass::times(Mass::plus(ends_in_label[u], arriving),
                                 Mass::of_log(log_probs(t, label)));
        }
      }
      __syncwarp();
      if (u < num_cells) {
        ends_in_blank[u] = in_blank;
        ends_in_label[u] = in_label;
        total[u] = Mass::plus(in_blank, in_label);
      }
    }
    __syncwarp();
  }
  const double result = Mass::to_log(total[num_labels]);
  __syncwarp();  // before the next labeling overwrites it
  return result;
}

// A warp owns a labeling at a time, its lanes the labeling's beginnings, 32 at a time. In the log
// domain, only utterances that need it: those where mass that underflowed may matter, see kSafe.
//   Shared memory: none. The masses, 24 bytes per label, stay in the L1 cache. Moves the labeling,
//   and from cache 8 bytes for each frame and label. A lane does about 80 operations in double for
//   each frame and 32 labels, most of them in the exponential: for 128 labelings of 60 labels and
//   300 frames 0.4 GFLOP, 12 us of an H100's 34 TFLOP/s. A single labeling waits for memory, about
//   1 us per frame.
template <Semiring Mass, typename Scalar>
__global__ void __launch_bounds__(kExactThreads, 6)
    exact_log_probs_kernel(EmissionBatch<Scalar> batch, int64_t blank, KeptPrefixes kept,
                           const int32_t* needs_log_domain, double* scratch, double* log_prob) {
  constexpr int kWarps = kExactThreads / kWarpSize;
  const int64_t warp = blockIdx.x * int64_t{kWarps} + threadIdx.x / kWarpSize;
  const int64_t num_warps = gridDim.x * int64_t{kWarps};
  double* masses = scratch + warp * 3 * (batch.max_frames + 1);
  for (int64_t i = warp; i < batch.num_utterances * kept.width; i += num_warps) {
    const int64_t n = i / kept.width;
    if (i % kept.width >= kept.counts[n]) continue;
    if (needs_log_domain != nullptr && needs_log_domain[n] == 0) continue;
    const double found = exact_log_prob<Mass>(
        batch.utterance(n), blank, kept.labels + i * batch.max_frames, kept.lengths[i], masses);
    if (threadIdx.x % kWarpSize == 0) log_prob[i] = found;
  }
}

// A warp owns an utterance at a time. No shared memory; moves 8 bytes per labeling.
template <int kThreads>
__global__ void __launch_bounds__(kThreads)
    needs_log_domain_kernel(int64_t num_utterances, KeptPrefixes kept, const double* log_prob,
                            const int32_t* normalized, int32_t* needs) {
  constexpr int kWarps = kThreads / kWarpSize;
  for (int64_t n = blockIdx.x * int64_t{kWarps} + threadIdx.x / kWarpSize; n < num_utterances;
       n += gridDim.x * int64_t{kWarps}) {
    bool unsafe = normalized[n] == 0;
    for (int64_t j = threadIdx.x % kWarpSize; j < kept.counts[n]; j += kWarpSize) {
      unsafe |= log_prob[n * kept.width + j] < kSafe;
    }
    const bool any = __any_sync(kFullWarp, unsafe ? 1 : 0) != 0;
    if (threadIdx.x % kWarpSize == 0) needs[n] = any ? 1 : 0;
  }
}

struct ExactLogProbsWorkspace {
  int32_t* normalized;        // [N]
  int32_t* needs_log_domain;  // [N]
  double* scratch;            // exact_scratch_size() for each warp
  int64_t num_blocks;         // that there is scratch for
};

// log_prob [N, W], of those that were kept.
template <typename Scalar>
void exact_log_probs(const EmissionBatch<Scalar>& batch, int64_t blank, const KeptPrefixes& kept,
                     const ExactLogProbsWorkspace& workspace, double* log_prob,
                     cudaStream_t stream) {
  SharedArena arena;
  arena.take<unsigned>((batch.num_classes + 31) / 32);
  arena.take<int>(1);
  launch("frames_normalized", frames_normalized_kernel<Scalar>,
         {batch.num_utterances, kExactThreads, arena.bytes()}, stream, batch, blank, kept,
         workspace.normalized);
  constexpr int64_t kWarps = kExactThreads / kWarpSize;
  const int64_t wanted = (batch.num_utterances * kept.width + kWarps - 1) / kWarps;
  const LaunchShape shape{wanted < workspace.num_blocks ? wanted : workspace.num_blocks,
                          kExactThreads};
  launch("exact_log_probs", exact_log_probs_kernel<LinearMass, Scalar>, shape, stream, batch, blank,
         kept, nullptr, workspace.scratch, log_prob);
  launch("needs_log_domain", needs_log_domain_kernel<kExactThreads>,
         {(batch.num_utterances + kWarps - 1) / kWarps, kExactThreads}, stream,
         batch.num_utterances, kept, log_prob, workspace.normalized, workspace.needs_log_domain);
  launch("exact_log_probs", exact_log_probs_kernel<LogMass, Scalar>, shape, stream, batch, blank,
         kept, workspace.needs_log_domain, workspace.scratch, log_prob);
}

}  // namespace egl::cuda
