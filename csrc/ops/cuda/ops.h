// The operators' CUDA halves: what csrc/ops/ops.h declares, for tensors on a GPU.
#pragma once

#include <cstdint>
#include <optional>
#include <tuple>

#include "csrc/ops/ops.h"

namespace egl::ops::cuda {

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> ctc_beam_search(const Tensor& log_probs,
                                                                   const Tensor& lengths,
                                                                   int64_t num_hypotheses,
                                                                   int64_t beam_width,
                                                                   int64_t blank);

Tensor ctc_hypothesis_normals(const Tensor& labels, const Tensor& label_lengths,
                              const Tensor& counts, const Tensor& keys, int64_t num_normals);

// Never waits for the GPU, and may be captured in a CUDA graph. What the host would have to wait
// for is not as on the CPU:
//   - R is the most that any utterance could need: K, or the number of probes where that is less.
//     Rows beyond an utterance's own are zero.
//   - Nothing is refused for its values. Of an utterance with a length out of range, or with a
//   frame
//     of logits that has NaN, +inf or no finite value, counts[n] is -1 and all else as if it had no
//     frames. The other utterances are not affected.
NbestCotangents ctc_nbest_cotangents(const Tensor& logits, const Tensor& lengths,
                                     int64_t num_hypotheses, int64_t beam_width, double tolerance,
                                     int64_t num_probes, double span, const Tensor& keys,
                                     const std::optional<Tensor>& frame_gram, int64_t blank);

}  // namespace egl::ops::cuda
