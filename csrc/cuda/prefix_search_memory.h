// The memory of a prefix search: shared memory of a block, scratch memory elsewhere, and results.
#pragma once

#include <cstddef>
#include <cstdint>

#include "csrc/cuda/block_select.h"
#include "csrc/cuda/launch.h"
#include "csrc/cuda/platform.h"
#include "csrc/cuda/prefix_tree.h"
#include "csrc/cuda/shared_memory.h"

namespace egl::cuda {

inline constexpr int64_t kMaxBeamWidth = 1024;
inline constexpr int kMaxSearchThreads = 512;
inline constexpr int kSlotsPerThread = static_cast<int>(kMaxBeamWidth) / kMaxSearchThreads;

// The search's results for each utterance.
struct KeptPrefixes {
  int64_t width;            // W
  int32_t* counts;          // [N]
  int32_t* lengths;         // [N, W]
  int32_t* labels;          // [N, W, T]
  double* search_log_prob;  // [N, W]
};

struct PrefixSearchShared {
  SelectScratch* scratch;
  // The beam, sorted: most probable first, ties by labeling order.
  double* ends_in_blank;
  double* ends_in_label;
  // The same prefixes one frame later.
  double* stays_in_blank;
  double* stays_in_label;
  double* token_masses;  // [capacity], scaled
  double* totals;        // [width + threads], of the next beam's candidates
  uint32_t* candidates;  // likewise
  uint32_t* extensions;  // [2^k >= 2 * width]: a set of those that are in the beam
  int* nodes;
  int* parents;
  int* labels;
  int* row_starts;         // [width + 1]
  uint16_t* token_labels;  // [capacity]
  int* count;
  int num_extensions;

  __host__ __device__ PrefixSearchShared(SharedArena& arena, int64_t width, int64_t capacity,
                                         int threads)
      : num_extensions(2) {
    while (num_extensions < 2 * width) num_extensions *= 2;
    scratch = arena.take<SelectScratch>(1);
    ends_in_blank = arena.take<double>(width);
    ends_in_label = arena.take<double>(width);
    stays_in_blank = arena.take<double>(width);
    stays_in_label = arena.take<double>(width);
    token_masses = arena.take<double>(capacity);
    totals = arena.take<double>(width + threads);
    candidates = arena.take<uint32_t>(width + threads);
    extensions = arena.take<uint32_t>(num_extensions);
    nodes = arena.take<int>(width);
    parents = arena.take<int>(width);
    labels = arena.take<int>(width);
    row_starts = arena.take<int>(width + 1);
    token_labels = arena.take<uint16_t>(capacity);
    count = arena.take<int>(1);
  }
};

inline int search_threads(int64_t width) { return threads_for(width, kMaxSearchThreads); }

inline size_t search_shared_bytes(int64_t width, int64_t token_capacity) {
  return shared_bytes_of<PrefixSearchShared>(width, token_capacity, search_threads(width));
}

// Of each utterance that is searched at the same time.
inline size_t search_workspace_bytes(int64_t max_frames, int64_t width) {
  return (DevicePrefixTree::bytes(max_frames, width) + 255) / 256 * 256;
}

}  // namespace egl::cuda
