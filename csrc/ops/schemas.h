// Every operator's schema, in LibTorch's stable ABI: one build serves every torch from the version
// named in setup.py on.
#pragma once

#include <torch/csrc/stable/library.h>

namespace egl::ops {

inline void define_operators(torch::stable::detail::StableLibrary& library) {
  library.def(
      "ctc_beam_search(Tensor log_probs, Tensor lengths, int num_hypotheses, int beam_width, "
      "int blank) -> (Tensor labels, Tensor label_lengths, Tensor log_prob, "
      "Tensor search_log_prob, Tensor counts)");
  library.def(
      "ctc_occupancy(Tensor log_probs, Tensor lengths, Tensor labels, Tensor label_lengths, "
      "Tensor counts, int blank) -> (Tensor log_prob, Tensor occupancy)");
  library.def(
      "ctc_logits_cotangents(Tensor logits, Tensor lengths, Tensor labels, Tensor label_lengths, "
      "Tensor counts, int blank) -> (Tensor log_prob, Tensor cotangents)");
  library.def(
      "ctc_nbest_cotangents(Tensor logits, Tensor lengths, int num_hypotheses, int beam_width, "
      "float tolerance, int num_probes, float span, Tensor keys, Tensor? frame_gram, int blank) -> "
      "(Tensor labels, Tensor label_lengths, Tensor log_prob, Tensor search_log_prob, "
      "Tensor counts, Tensor cotangents, Tensor combinations, Tensor num_directions, "
      "Tensor num_probes, Tensor cotangent_sq_norms, Tensor output_sq_norms)");
  library.def(
      "ctc_hypothesis_normals(Tensor labels, Tensor label_lengths, Tensor counts, Tensor keys, "
      "int num_normals) -> Tensor");
  // The cell is a number (see RecurrentCell): torch's stable ABI leaks a copy of each string
  // argument.
  library.def(
      "recurrent_forward(int cell, float? relu_clip, Tensor[] projected, Tensor[] weight_hh, "
      "Tensor[] bias_hh, Tensor[] initial_state, Tensor[] initial_cell, Tensor? valid, "
      "bool[] reverse, bool precise) -> (Tensor[] states, Tensor[] previous, "
      "Tensor[] coefficients, Tensor[] final_cell)");
  library.def(
      "recurrent_backward(int cell, Tensor cotangents, Tensor coefficients, Tensor weight_hh, "
      "bool reverse, Tensor? final_cell_cotangents) -> (Tensor gates, Tensor hidden_gates, "
      "Tensor state, Tensor cell)");
  // Native on CUDA only, see egl_fast/ops/row_norms.py.
  library.def("row_sq_norms(Tensor rows) -> Tensor");
}

}  // namespace egl::ops
