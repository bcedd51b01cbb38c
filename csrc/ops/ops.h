// The operators' CPU kernels; register.cpp gives their schemas, egl_fast/ops their documentation.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>
#include <tuple>
#include <vector>

namespace egl::ops {

using torch::stable::Tensor;

// -> labels [N, K, T], label_lengths [N, K], log_prob [N, K], search_log_prob [N, K], counts [N].
// Labels have room for T entries, the most a labeling can have, so that shapes depend on shapes
// only.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> ctc_beam_search(const Tensor& log_probs,
                                                                   const Tensor& lengths,
                                                                   int64_t num_hypotheses,
                                                                   int64_t beam_width,
                                                                   int64_t blank);

// -> log_prob [N, K], occupancy [N, K, T, C]
std::tuple<Tensor, Tensor> ctc_occupancy(const Tensor& log_probs, const Tensor& lengths,
                                         const Tensor& labels, const Tensor& label_lengths,
                                         const Tensor& counts, int64_t blank);

// -> log_prob [N, K], cotangents [N, K, T, C]
std::tuple<Tensor, Tensor> ctc_logits_cotangents(const Tensor& logits, const Tensor& lengths,
                                                 const Tensor& labels, const Tensor& label_lengths,
                                                 const Tensor& counts, int64_t blank);

// Search, then what is to be pulled back. `tolerance`, `num_probes` and `span` at 0: all K
// cotangents. R is the most that an utterance of the batch needs.
using NbestCotangents = std::tuple<Tensor,   // labels [N, K, T], as ctc_beam_search
                                   Tensor,   // label_lengths [N, K]
                                   Tensor,   // log_prob [N, K]
                                   Tensor,   // search_log_prob [N, K]
                                   Tensor,   // counts [N]
                                   Tensor,   // cotangents [N, R, T, C]
                                   Tensor,   // combinations [N, R, K]
                                   Tensor,   // num_directions [N]
                                   Tensor,   // num_probes [N]
                                   Tensor,   // cotangent_sq_norms [N, K]
                                   Tensor>;  // output_sq_norms [N, K]; [0, K] without frame_gram
NbestCotangents ctc_nbest_cotangents(const Tensor& logits, const Tensor& lengths,
                                     int64_t num_hypotheses, int64_t beam_width, double tolerance,
                                     int64_t num_probes, double span, const Tensor& keys,
                                     const std::optional<Tensor>& frame_gram, int64_t blank);

// -> normals [N, K, num_normals]
Tensor ctc_hypothesis_normals(const Tensor& labels, const Tensor& label_lengths,
                              const Tensor& counts, const Tensor& keys, int64_t num_normals);

// For each direction -> states [T, N, H], previous [T, N, H], coefficients [T, N, P, H],
// final_cell [N, H] (without rows unless the cell is an LSTM). Lists have a tensor for each
// direction; bias_hh may be empty, and initial_cell is unless the cell is an LSTM.
std::tuple<std::vector<Tensor>, std::vector<Tensor>, std::vector<Tensor>, std::vector<Tensor>>
recurrent_forward(int64_t cell, std::optional<double> relu_clip, std::vector<Tensor> projected,
                  std::vector<Tensor> weight_hh, std::vector<Tensor> bias_hh,
                  std::vector<Tensor> initial_state, std::vector<Tensor> initial_cell,
                  std::optional<Tensor> valid, std::vector<bool> reverse, bool precise);

// -> gates [T, R, N, G * H], hidden_gates (likewise in a GRU, else empty), state [R, N, H],
// cell [R, N, H] (empty unless the cell is an LSTM)
std::tuple<Tensor, Tensor, Tensor, Tensor> recurrent_backward(
    int64_t cell, const Tensor& cotangents, const Tensor& coefficients, const Tensor& weight_hh,
    bool reverse, const std::optional<Tensor>& final_cell_cotangents);

}  // namespace egl::ops
