// Prefix searches of a batch, one block per utterance.
#pragma once

#include <cstdint>
#include <type_traits>

#include "csrc/core/semiring.h"
#include "csrc/cuda/block_prefix_search.h"
#include "csrc/cuda/ctc_batch.h"
#include "csrc/cuda/ctc_token_selection.h"
#include "csrc/cuda/launch.h"
#include "csrc/cuda/platform.h"
#include "csrc/cuda/prefix_search_memory.h"
#include "csrc/cuda/prefix_tree.h"
#include "csrc/cuda/shared_memory.h"

namespace egl::cuda {

// A block owns an utterance at a time, its threads the slots of the beam and equal parts of the
// candidates. In the log domain, only utterances for which the linear domain failed: kept.counts is
// -1.
//   Shared memory: 60 bytes per slot, 12 per thread, 10 per token, and 1 KiB: 11 KB for a beam of
//   128 and C = 29; 94 KB for 1,024 and C = 10,000, which must be requested and which an sm_75
//   lacks. Moves per frame 2 bytes per token, 8 * (C + beam) bytes of log-probabilities, and some
//   40 bytes for each prefix that enters the beam, all in the L2 cache. Latency dominates: a frame
//   has about 80 barriers and as many dependent steps in shared memory, an estimated 5 to 10 us, so
//   a block takes about 10 ms for 30 s of speech (1,500 frames of 20 ms). An H100 holds 528 blocks
//   of 128 threads at 128 registers, more than a batch has utterances.
template <Semiring Mass, typename Scalar>
__global__ void __launch_bounds__(kMaxSearchThreads, 1)
    prefix_search_kernel(EmissionBatch<Scalar> batch, int64_t blank, FrameTokens tokens,
                         int64_t width, unsigned char* trees, int64_t tree_bytes,
                         KeptPrefixes kept) {
  SharedArena arena = SharedArena::of_block();
  const PrefixSearchShared shared(arena, width, tokens.capacity, static_cast<int>(blockDim.x));
  for (int64_t n = blockIdx.x; n < batch.num_utterances; n += gridDim.x) {
    if (std::is_same_v<Mass, LogMass> && kept.counts[n] >= 0) continue;
    const Emissions<Scalar> log_probs = batch.utterance(n);
    DevicePrefixTree tree(trees + blockIdx.x * tree_bytes, log_probs.num_frames, width);
    BlockPrefixSearch<Mass> search(shared, tree, static_cast<int>(width), static_cast<int>(blank));
    if (search.run(log_probs, tokens, n * batch.max_frames)) {
      search.write(n, batch.max_frames, kept);
    } else if (threadIdx.x == 0) {
      kept.counts[n] = -1;
    }
    __syncthreads();
  }
}

// `trees` has room for `num_trees` utterances at a time.
template <typename Scalar>
void prefix_search(const EmissionBatch<Scalar>& batch, int64_t blank, const FrameTokens& tokens,
                   int64_t width, unsigned char* trees, int64_t num_trees, const KeptPrefixes& kept,
                   cudaStream_t stream) {
  const int64_t blocks = batch.num_utterances < num_trees ? batch.num_utterances : num_trees;
  const LaunchShape shape{blocks, search_threads(width),
                          search_shared_bytes(width, tokens.capacity)};
  const auto run = [&](auto kernel) {
    launch("prefix_search", kernel, shape, stream, batch, blank, tokens, width, trees,
           static_cast<int64_t>(search_workspace_bytes(batch.max_frames, width)), kept);
  };
  run(prefix_search_kernel<LinearMass, Scalar>);
  run(prefix_search_kernel<LogMass, Scalar>);
}

}  // namespace egl::cuda
