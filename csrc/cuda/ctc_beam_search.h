// The most probable labelings of a batch: token selection, prefix search, exact probabilities and
// ranking, one launch after another, without the host. Results as those of csrc/core.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "csrc/core/log_semiring.h"
#include "csrc/cuda/block_select.h"
#include "csrc/cuda/ctc_batch.h"
#include "csrc/cuda/ctc_exact_log_probs.h"
#include "csrc/cuda/ctc_prefix_search.h"
#include "csrc/cuda/ctc_token_selection.h"
#include "csrc/cuda/device_memory.h"
#include "csrc/cuda/shared_memory.h"

namespace egl::cuda {

// Hypotheses first, then padding: labels -1, length 0, log-probabilities minus infinity.
struct RankedHypotheses {
  int64_t num_hypotheses;   // K
  int64_t* labels;          // [N, K, T]
  int64_t* label_lengths;   // [N, K]
  double* log_prob;         // [N, K]
  double* search_log_prob;  // [N, K]
  int64_t* counts;          // [N]
};

inline constexpr int kRankThreads = 256;

struct RankShared {
  double* log_prob;  // [width]
  int* order;        // [width]

  __host__ __device__ RankShared(SharedArena& arena, int64_t width)
      : log_prob(arena.take<double>(width)), order(arena.take<int>(width)) {}
};

// Lexicographic by class index, a labeling before its own extensions.
__device__ inline bool labeling_precedes(const int32_t* a, int length_a, const int32_t* b,
                                         int length_b) {
  const int common = length_a < length_b ? length_a : length_b;
  for (int u = 0; u < common; ++u) {
    if (a[u] != b[u]) return a[u] < b[u];
  }
  return length_a < length_b;
}

// A block owns an utterance at a time: sorts what was kept by exact probability, ties by labeling
// order, and writes the first K and the padding after them.
//   Shared memory: 12 bytes per kept prefix. Moves: 8 bytes for each entry of labels [K, T], and
//   little else: 0.24 MB for K = 100 and T = 300, 0.07 microseconds at 3.35 TB/s.
template <int kThreads>
__global__ void __launch_bounds__(kThreads, 4)
    rank_kernel(int64_t num_utterances, int64_t max_frames, KeptPrefixes kept,
                const double* log_prob, RankedHypotheses ranked) {
  SharedArena arena = SharedArena::of_block();
  const RankShared shared(arena, kept.width);
  const int64_t num_hypotheses = ranked.num_hypotheses;
  for (int64_t n = blockIdx.x; n < num_utterances; n += gridDim.x) {
    const int64_t first = n * kept.width;
    const int num_kept = kept.counts[n];
    for (auto i = static_cast<int>(threadIdx.x); i < num_kept; i += static_cast<int>(blockDim.x)) {
      shared.log_prob[i] = log_prob[first + i];
      shared.order[i] = i;
    }
    __syncthreads();
    sort_block(
        num_kept,
        [&](int i, int j) {
          if (shared.log_prob[i] != shared.log_prob[j]) {
            return shared.log_prob[i] > shared.log_prob[j];
          }
          const int64_t a = first + shared.order[i];
          const int64_t b = first + shared.order[j];
          return labeling_precedes(kept.labels + a * max_frames, kept.lengths[a],
                                   kept.labels + b * max_frames, kept.lengths[b]);
        },
        [&](int i, int j) {
          std::swap(shared.log_prob[i], shared.log_prob[j]);
          std::swap(shared.order[i], shared.order[j]);
        });
    const int64_t count = num_kept < num_hypotheses ? num_kept : num_hypotheses;
    for (int64_t k = threadIdx.x; k < num_hypotheses; k += blockDim.x) {
      const int64_t slot = n * num_hypotheses + k;
      const int64_t from = first + (k < count ? shared.order[k] : 0);
      ranked.label_lengths[slot] = k < count ? kept.lengths[from] : 0;
      ranked.log_prob[slot] = k < count ? shared.log_prob[k] : kNegInf;
      ranked.search_log_prob[slot] = k < count ? kept.search_log_prob[from] : kNegInf;
    }
    for (int64_t i = threadIdx.x; i < num_hypotheses * max_frames; i += blockDim.x) {
      const int64_t k = i / max_frames;
      const int64_t u = i % max_frames;
      const int64_t from = first + (k < count ? shared.order[k] : 0);
      const bool is_label = k < count && u < kept.lengths[from];
      ranked.labels[n * num_hypotheses * max_frames + i] =
          is_label ? kept.labels[from * max_frames + u] : -1;
    }
    if (threadIdx.x == 0) ranked.counts[n] = count;
    __syncthreads();
  }
}

// The search's scratch memory, whose size decides how many utterances and labelings are processed
// at the same time.
struct BeamSearchMemory {
  FrameTokens tokens;
  KeptPrefixes kept;
  ExactLogProbsWorkspace exact;
  double* log_prob;  // [N, width]
  int64_t num_trees;
  unsigned char* trees;

  BeamSearchMemory(DeviceArena& arena, int64_t num_utterances, int64_t max_frames,
                   int64_t num_classes, int64_t width) {
    constexpr size_t kTreeBudget = size_t{2} << 30;
    constexpr size_t kExactBudget = size_t{256} << 20;
    const auto as_many = [](size_t budget, size_t bytes_each, int64_t most) {
      return std::clamp<int64_t>(static_cast<int64_t>(budget / bytes_each), 1,
                                 std::max<int64_t>(most, 1));
    };
    const int64_t num_frames = num_utterances * max_frames;
    const int64_t num_kept = num_utterances * width;
    const size_t tree_bytes = search_workspace_bytes(max_frames, width);
    num_trees = as_many(kTreeBudget, tree_bytes, num_utterances);
    const int64_t block_size = exact_scratch_size(max_frames) * (kExactThreads / kWarpSize);
    const int64_t num_blocks = as_many(
        kExactBudget, static_cast<size_t>(block_size) * sizeof(double), num_utterances * width);
    const int64_t capacity = token_capacity(num_classes, width);
    trees = arena.take<unsigned char>(static_cast<int64_t>(tree_bytes) * num_trees);
    tokens = {capacity, arena.take<uint16_t>(num_frames * capacity),
              arena.take<int32_t>(num_frames), arena.take<double>(num_frames)};
    kept = {width, arena.take<int32_t>(num_utterances), arena.take<int32_t>(num_kept),
            arena.take<int32_t>(num_kept * max_frames), arena.take<double>(num_kept)};
    exact = {arena.take<int32_t>(num_utterances), arena.take<int32_t>(num_utterances),
             arena.take<double>(block_size * num_blocks), num_blocks};
    log_prob = arena.take<double>(num_kept);
  }
};

// `memory` has device_bytes_of<BeamSearchMemory>(N, T, C, width).
template <typename Scalar>
void beam_search(const EmissionBatch<Scalar>& batch, int64_t blank, int64_t width, void* memory,
                 const RankedHypotheses& ranked, cudaStream_t stream) {
  DeviceArena arena(memory);
  const BeamSearchMemory own(arena, batch.num_utterances, batch.max_frames, batch.num_classes,
                             width);
  select_tokens(batch, blank, own.tokens, stream);
  prefix_search(batch, blank, own.tokens, width, own.trees, own.num_trees, own.kept, stream);
  exact_log_probs(batch, blank, own.kept, own.exact, own.log_prob, stream);
  launch("rank", rank_kernel<kRankThreads>,
         {batch.num_utterances, kRankThreads, shared_bytes_of<RankShared>(width)}, stream,
         batch.num_utterances, batch.max_frames, own.kept, own.log_prob, ranked);
}

}  // namespace egl::cuda
