// Inner products between frames, without those of padding.
#pragma once

#include <cstdint>

#include "csrc/cuda/ctc_batch.h"
#include "csrc/cuda/launch.h"
#include "csrc/cuda/warps.h"

namespace egl::cuda {

// [N, T, T] of any strides; what it holds for padding frames may be anything.
struct FrameGram {
  const double* data;
  int64_t utterance_stride;
  int64_t row_stride;
  int64_t column_stride;
};

// A thread takes entries; neighbors write side by side. Moves 16 bytes per entry, 2.4 us for N = 2
// and T = 500 on an H100.
static __global__ void __launch_bounds__(kThreadsPerBlock)
    frame_gram_kernel(FrameGram gram, const int64_t* lengths, int64_t num_utterances,
                      int64_t max_frames, double* out) {
  for_each_item(num_utterances * max_frames * max_frames, [&](int64_t i) {
    const int64_t column = i % max_frames;
    const int64_t row = i / max_frames % max_frames;
    const int64_t n = i / max_frames / max_frames;
    const int64_t length = clamped(lengths[n], max_frames);
    out[i] = row < length && column < length
                 ? gram.data[n * gram.utterance_stride + row * gram.row_stride +
                             column * gram.column_stride]
                 : 0.0;
  });
}

// [N, T, T], contiguous, zero for padding.
inline void frame_gram_without_padding(const FrameGram& gram, const int64_t* lengths,
                                       int64_t num_utterances, int64_t max_frames, double* out,
                                       cudaStream_t stream) {
  launch("frame_gram", frame_gram_kernel, thread_for_each(num_utterances * max_frames * max_frames),
         stream, gram, lengths, num_utterances, max_frames, out);
}

}  // namespace egl::cuda
