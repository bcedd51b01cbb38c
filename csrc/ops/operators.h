// Every operator, declared once: its results, its function, and a line in the list that schemas and
// registrations are made from. egl_fast/ops documents them. CUDA halves have the same functions in
// egl::ops::cuda, for tensors on one device.
//
// This uses only LibTorch's stable ABI, so that one build works with every torch from the minimum
// version (csrc/tools/nvcc.py) on.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>
#include <tuple>
#include <vector>

namespace egl::ops {

using torch::stable::Tensor;

// Labels have room for T entries, the most a labeling can have, so that result shapes depend only
// on argument shapes.
struct Hypotheses {
  Tensor labels;           // [N, K, T]
  Tensor label_lengths;    // [N, K]
  Tensor log_prob;         // [N, K]
  Tensor search_log_prob;  // [N, K]
  Tensor counts;           // [N]

  auto as_tuple() const {
    return std::tuple(labels, label_lengths, log_prob, search_log_prob, counts);
  }
};
Hypotheses ctc_beam_search(const Tensor& log_probs, const Tensor& lengths, int64_t num_hypotheses,
                           int64_t beam_width, int64_t blank);

struct Occupancy {
  Tensor log_prob;   // [N, K]
  Tensor occupancy;  // [N, K, T, C]

  auto as_tuple() const { return std::tuple(log_prob, occupancy); }
};
Occupancy ctc_occupancy(const Tensor& log_probs, const Tensor& lengths, const Tensor& labels,
                        const Tensor& label_lengths, const Tensor& counts, int64_t blank);

struct LogitsCotangents {
  Tensor log_prob;    // [N, K]
  Tensor cotangents;  // [N, K, T, C]

  auto as_tuple() const { return std::tuple(log_prob, cotangents); }
};
LogitsCotangents ctc_logits_cotangents(const Tensor& logits, const Tensor& lengths,
                                       const Tensor& labels, const Tensor& label_lengths,
                                       const Tensor& counts, int64_t blank);

// R is the largest number of rows that an utterance of the batch needs.
struct NbestCotangents {
  Hypotheses hypotheses;
  Tensor cotangents;          // [N, R, T, C]
  Tensor combinations;        // [N, R, K]
  Tensor num_directions;      // [N]
  Tensor num_probes;          // [N]
  Tensor cotangent_sq_norms;  // [N, K]
  Tensor output_sq_norms;     // [N, K]; [0, K] without frame_gram

  auto as_tuple() const {
    return std::tuple_cat(hypotheses.as_tuple(),
                          std::tuple(cotangents, combinations, num_directions, num_probes,
                                     cotangent_sq_norms, output_sq_norms));
  }
};
// A search, then the rows to pull back: all K cotangents if `tolerance`, `num_probes` and `span`
// are 0.
NbestCotangents ctc_nbest_cotangents(const Tensor& logits, const Tensor& lengths,
                                     int64_t num_hypotheses, int64_t beam_width, double tolerance,
                                     int64_t num_probes, double span, const Tensor& keys,
                                     const std::optional<Tensor>& frame_gram, int64_t blank);

// -> [N, K, num_normals]
Tensor ctc_hypothesis_normals(const Tensor& labels, const Tensor& label_lengths,
                              const Tensor& counts, const Tensor& keys, int64_t num_normals);

// A tensor for each direction.
struct RecurrentStates {
  std::vector<Tensor> states;        // [T, N, H]
  std::vector<Tensor> previous;      // [T, N, H]
  std::vector<Tensor> coefficients;  // [T, N, P, H]
  std::vector<Tensor> final_cell;    // [N, H]; without rows unless the cell is an LSTM

  auto as_tuple() const { return std::tuple(states, previous, coefficients, final_cell); }
};
// Lists have a tensor for each direction; bias_hh may be empty, and initial_cell is unless the cell
// is an LSTM.
RecurrentStates recurrent_forward(
    int64_t cell, std::optional<double> relu_clip, const std::vector<Tensor>& projected,
    const std::vector<Tensor>& weight_hh, const std::vector<Tensor>& bias_hh,
    const std::vector<Tensor>& initial_state, const std::vector<Tensor>& initial_cell,
    const std::optional<Tensor>& valid, const std::vector<bool>& reverse, bool precise);

struct RecurrentCotangents {
  Tensor gates;         // [T, R, N, G * H]
  Tensor hidden_gates;  // likewise in a GRU, else empty
  Tensor state;         // [R, N, H]
  Tensor cell;          // [R, N, H]; empty unless the cell is an LSTM

  auto as_tuple() const { return std::tuple(gates, hidden_gates, state, cell); }
};
RecurrentCotangents recurrent_backward(int64_t cell, const Tensor& cotangents,
                                       const Tensor& coefficients, const Tensor& weight_hh,
                                       bool reverse,
                                       const std::optional<Tensor>& final_cell_cotangents);

// -> [R], of rows [A, R, B]: the sum of squares over A and B.
Tensor row_sq_norms(const Tensor& rows);

// x [N, C, T], with zeros before and after, and taps [M, C, K] -> [N or M, C, J]; N or M is 1.
Tensor depthwise_correlation(const Tensor& x, const Tensor& taps, int64_t before, int64_t after,
                             int64_t stride, int64_t dilation);

// The schemas, without the name. A recurrent cell is a number (see RecurrentCell), since the stable
// ABI leaks a copy of each string argument.
// clang-format off
#define EGL_OPERATORS(OPERATOR)                                                                    \
  OPERATOR(ctc_beam_search,                                                                        \
           "(Tensor log_probs, Tensor lengths, int num_hypotheses, int beam_width, int blank) -> " \
           "(Tensor labels, Tensor label_lengths, Tensor log_prob, Tensor search_log_prob, "       \
           "Tensor counts)")                                                                       \
  OPERATOR(ctc_occupancy,                                                                          \
           "(Tensor log_probs, Tensor lengths, Tensor labels, Tensor label_lengths, "              \
           "Tensor counts, int blank) -> (Tensor log_prob, Tensor occupancy)")                     \
  OPERATOR(ctc_logits_cotangents,                                                                  \
           "(Tensor logits, Tensor lengths, Tensor labels, Tensor label_lengths, "                 \
           "Tensor counts, int blank) -> (Tensor log_prob, Tensor cotangents)")                    \
  OPERATOR(ctc_nbest_cotangents,                                                                   \
           "(Tensor logits, Tensor lengths, int num_hypotheses, int beam_width, "                  \
           "float tolerance, int num_probes, float span, Tensor keys, Tensor? frame_gram, "        \
           "int blank) -> (Tensor labels, Tensor label_lengths, Tensor log_prob, "                 \
           "Tensor search_log_prob, Tensor counts, Tensor cotangents, Tensor combinations, "       \
           "Tensor num_directions, Tensor num_probes, Tensor cotangent_sq_norms, "                 \
           "Tensor output_sq_norms)")                                                              \
  OPERATOR(ctc_hypothesis_normals,                                                                 \
           "(Tensor labels, Tensor label_lengths, Tensor counts, Tensor keys, int num_normals) "   \
           "-> Tensor")                                                                            \
  OPERATOR(recurrent_forward,                                                                      \
           "(int cell, float? relu_clip, Tensor[] projected, Tensor[] weight_hh, "                 \
           "Tensor[] bias_hh, Tensor[] initial_state, Tensor[] initial_cell, Tensor? valid, "      \
           "bool[] reverse, bool precise) -> (Tensor[] states, Tensor[] previous, "                \
           "Tensor[] coefficients, Tensor[] final_cell)")                                          \
  OPERATOR(recurrent_backward,                                                                     \
           "(int cell, Tensor cotangents, Tensor coefficients, Tensor weight_hh, bool reverse, "   \
           "Tensor? final_cell_cotangents) -> "                                                    \
           "(Tensor gates, Tensor hidden_gates, Tensor state, Tensor cell)")

// Those that are native on the CPU only: see egl_fast/compute/depthwise.py.
#define EGL_CPU_OPERATORS(OPERATOR)                                                    \
  OPERATOR(depthwise_correlation,                                                      \
           "(Tensor x, Tensor taps, int before, int after, int stride, int dilation) " \
           "-> Tensor")

// Those that are native on CUDA only: see egl_fast/ops/row_norms.py.
#define EGL_CUDA_OPERATORS(OPERATOR) \
  OPERATOR(row_sq_norms, "(Tensor rows) -> Tensor")
// clang-format on

namespace cuda {
#define EGL_DECLARE(name, schema) decltype(ops::name) name;
EGL_OPERATORS(EGL_DECLARE)
EGL_CUDA_OPERATORS(EGL_DECLARE)
#undef EGL_DECLARE
}  // namespace cuda

}  // namespace egl::ops
