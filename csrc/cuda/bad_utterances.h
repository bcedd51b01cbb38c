// Bad utterances in operators that do not wait for the GPU and so cannot refuse them: they are
// treated as if they had no frames, and marked at the end.
#pragma once

#include <cstdint>

#include "csrc/cuda/launch.h"
#include "csrc/cuda/warps.h"

namespace egl::cuda {

// Takes the place of a bad utterance's number of hypotheses.
inline constexpr int64_t kBadUtterance = -1;

// A thread takes utterances, 20 bytes each.
static __global__ void __launch_bounds__(kThreadsPerBlock)
    good_lengths_kernel(const int64_t* lengths, const int32_t* bad, int64_t num_utterances,
                        int64_t* out) {
  for_each_item(num_utterances, [&](int64_t n) { out[n] = bad[n] != 0 ? 0 : lengths[n]; });
}

// `bad` as log_softmax leaves it.
inline void good_lengths(const int64_t* lengths, const int32_t* bad, int64_t num_utterances,
                         int64_t* out, cudaStream_t stream) {
  launch("good_lengths", good_lengths_kernel, thread_for_each(num_utterances), stream, lengths, bad,
         num_utterances, out);
}

// A thread takes utterances, 12 bytes each.
static __global__ void __launch_bounds__(kThreadsPerBlock)
    mark_bad_kernel(const int32_t* bad, int64_t num_utterances, int64_t* counts) {
  for_each_item(num_utterances, [&](int64_t n) {
    if (bad[n] != 0) counts[n] = kBadUtterance;
  });
}

inline void mark_bad(const int32_t* bad, int64_t num_utterances, int64_t* counts,
                     cudaStream_t stream) {
  launch("mark_bad", mark_bad_kernel, thread_for_each(num_utterances), stream, bad, num_utterances,
         counts);
}

}  // namespace egl::cuda
