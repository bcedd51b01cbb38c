// The operators' CUDA halves, for tensors of one device: what csrc/ops/ops.h says of the CPU halves
// holds of them, too.
#pragma once

#include "csrc/ops/ops.h"

namespace egl::ops::cuda {

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> ctc_beam_search(const Tensor& log_probs,
                                                                   const Tensor& lengths,
                                                                   int64_t num_hypotheses,
                                                                   int64_t beam_width,
                                                                   int64_t blank);

std::tuple<Tensor, Tensor> ctc_occupancy(const Tensor& log_probs, const Tensor& lengths,
                                         const Tensor& labels, const Tensor& label_lengths,
                                         const Tensor& counts, int64_t blank);

std::tuple<Tensor, Tensor> ctc_logits_cotangents(const Tensor& logits, const Tensor& lengths,
                                                 const Tensor& labels, const Tensor& label_lengths,
                                                 const Tensor& counts, int64_t blank);

std::tuple<Tensor, Tensor, Tensor> ctc_sparse_occupancy(const Tensor& log_probs,
                                                        const Tensor& lengths, const Tensor& labels,
                                                        const Tensor& label_lengths,
                                                        const Tensor& counts, int64_t blank);

NbestCotangents ctc_nbest_cotangents(const Tensor& logits, const Tensor& lengths,
                                     int64_t num_hypotheses, int64_t beam_width, double tolerance,
                                     int64_t num_probes, double span, const Tensor& keys,
                                     const std::optional<Tensor>& frame_gram, int64_t blank);

Tensor ctc_hypothesis_normals(const Tensor& labels, const Tensor& label_lengths,
                              const Tensor& counts, const Tensor& keys, int64_t num_normals);

std::tuple<std::vector<Tensor>, std::vector<Tensor>, std::vector<Tensor>, std::vector<Tensor>>
recurrent_forward(int64_t cell, std::optional<double> relu_clip, std::vector<Tensor> projected,
                  std::vector<Tensor> weight_hh, std::vector<Tensor> bias_hh,
                  std::vector<Tensor> initial_state, std::vector<Tensor> initial_cell,
                  std::optional<Tensor> valid, std::vector<bool> reverse, bool precise);

std::tuple<Tensor, Tensor, Tensor, Tensor> recurrent_backward(
    int64_t cell, const Tensor& cotangents, const Tensor& coefficients, const Tensor& weight_hh,
    bool reverse, const std::optional<Tensor>& final_cell_cotangents);

// -> [R], of rows [A, R, B]: the sum of squares over A and B
Tensor row_sq_norms(const Tensor& rows);

}  // namespace egl::ops::cuda
