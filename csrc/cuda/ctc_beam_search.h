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
//   Shared memory: 12 bytes a kept prefix. Moves: 8 bytes for each entry of labels [K, T], which is
//   all there is to it: 0.24 MB for K = 100 and T = 300, 0.07 microseconds of 3.35 TB/s.
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

// How the search's memory is laid out; how many utterances and labelings are worked on at the same
// time follows from what may be spent on it.
class BeamSearchWorkspace {
 public:
  BeamSearchWorkspace(int64_t num_utterances, int64_t max_frames, int64_t num_classes,
                      int64_t width)
      : width_(width), capacity_(token_capacity(num_classes, width)) {
    const int64_t num_frames = num_utterances * max_frames;
    const size_t tree_bytes = search_workspace_bytes(max_frames, width);
    num_trees_ = std::clamp<int64_t>(static_cast<int64_t>(kTreeBudget / tree_bytes), 1,
                                     std::max<int64_t>(num_utterances, 1));
    const auto block_bytes =
        static_cast<size_t>(exact_scratch_size(max_frames) * (kExactThreads / kWarpSize)) *
        sizeof(double);
    num_exact_blocks_ = std::clamp<int64_t>(static_cast<int64_t>(kExactBudget / block_bytes), 1,
                                            std::max<int64_t>(num_utterances * width, 1));
    trees_ = add(tree_bytes * static_cast<size_t>(num_trees_));
    exact_scratch_ = add(block_bytes * static_cast<size_t>(num_exact_blocks_));
    least_ = add(static_cast<size_t>(num_frames) * sizeof(double));
    kept_search_ = add(static_cast<size_t>(num_utterances * width) * sizeof(double));
    kept_exact_ = add(static_cast<size_t>(num_utterances * width) * sizeof(double));
    token_counts_ = add(static_cast<size_t>(num_frames) * sizeof(int32_t));
    kept_counts_ = add(static_cast<size_t>(num_utterances) * sizeof(int32_t));
    kept_lengths_ = add(static_cast<size_t>(num_utterances * width) * sizeof(int32_t));
    kept_labels_ = add(static_cast<size_t>(num_utterances * width * max_frames) * sizeof(int32_t));
    normalized_ = add(static_cast<size_t>(num_utterances) * sizeof(int32_t));
    needs_log_domain_ = add(static_cast<size_t>(num_utterances) * sizeof(int32_t));
    token_labels_ = add(static_cast<size_t>(num_frames * capacity_) * sizeof(uint16_t));
  }

  size_t bytes() const { return bytes_; }
  int64_t num_trees() const { return num_trees_; }

  void* trees(void* memory) const { return at<unsigned char>(memory, trees_); }
  FrameTokens tokens(void* memory) const {
    return {capacity_, at<uint16_t>(memory, token_labels_), at<int32_t>(memory, token_counts_),
            at<double>(memory, least_)};
  }
  KeptPrefixes kept(void* memory) const {
    return {width_, at<int32_t>(memory, kept_counts_), at<int32_t>(memory, kept_lengths_),
            at<int32_t>(memory, kept_labels_), at<double>(memory, kept_search_)};
  }
  ExactLogProbsWorkspace exact(void* memory) const {
    return {at<int32_t>(memory, normalized_), at<int32_t>(memory, needs_log_domain_),
            at<double>(memory, exact_scratch_), num_exact_blocks_};
  }
  double* log_prob(void* memory) const { return at<double>(memory, kept_exact_); }

 private:
  static constexpr size_t kTreeBudget = size_t{2} << 30;
  static constexpr size_t kExactBudget = size_t{256} << 20;
  static constexpr size_t kAlignment = 256;

  size_t add(size_t bytes) {
    const size_t start = bytes_;
    bytes_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return start;
  }
  template <typename T>
  static T* at(void* memory, size_t offset) {
    return reinterpret_cast<T*>(static_cast<unsigned char*>(memory) + offset);
  }

  int64_t width_;
  int64_t capacity_;
  int64_t num_trees_;
  int64_t num_exact_blocks_;
  size_t bytes_ = 0;
  size_t trees_;
  size_t exact_scratch_;
  size_t least_;
  size_t kept_search_;
  size_t kept_exact_;
  size_t token_counts_;
  size_t kept_counts_;
  size_t kept_lengths_;
  size_t kept_labels_;
  size_t normalized_;
  size_t needs_log_domain_;
  size_t token_labels_;
};

// `memory` has the bytes that `workspace` asks for.
template <typename Scalar>
void beam_search(const EmissionBatch<Scalar>& batch, int64_t blank, int64_t width,
                 const BeamSearchWorkspace& workspace, void* memory, const RankedHypotheses& ranked,
                 cudaStream_t stream) {
  const FrameTokens tokens = workspace.tokens(memory);
  const KeptPrefixes kept = workspace.kept(memory);
  double* log_prob = workspace.log_prob(memory);
  select_tokens(batch, blank, tokens, stream);
  prefix_search(batch, blank, tokens, width, workspace.trees(memory), workspace.num_trees(), kept,
                stream);
  exact_log_probs(batch, blank, kept, workspace.exact(memory), log_prob, stream);
  launch("rank", rank_kernel<kRankThreads>,
         {batch.num_utterances, kRankThreads, shared_bytes_of<RankShared>(width)}, stream,
         batch.num_utterances, batch.max_frames, kept, log_prob, ranked);
}

}  // namespace egl::cuda
