// The operators' CUDA kernels: of each the same arguments, checks and results as in csrc/ops/ops.h.
#pragma once

#include <cstdint>

#include "csrc/ops/ops.h"

namespace egl::ops::cuda {

Tensor ctc_hypothesis_normals(const Tensor& labels, const Tensor& label_lengths,
                              const Tensor& counts, const Tensor& keys, int64_t num_normals);

// Never waits for the GPU, so that what the host would have to wait for is another than on the CPU:
//   - R is the most that any utterance could need: K, or the number of probes where that is less.
//     Rows beyond an utterance's own are zero.
//   - Of an utterance with a bad length or bad logits, counts[n] is -1 and the rest as if it had no
//     frames. Other utterances are not affected.
// May be captured in a CUDA graph.
NbestCotangents ctc_nbest_cotangents(const Tensor& logits, const Tensor& lengths,
                                     int64_t num_hypotheses, int64_t beam_width, double tolerance,
                                     int64_t num_probes, double span, const Tensor& keys,
                                     const std::optional<Tensor>& frame_gram, int64_t blank);

}  // namespace egl::ops::cuda
