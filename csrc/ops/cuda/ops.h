// The operators' CUDA halves: what csrc/ops/ops.h declares, for tensors on a GPU.
#pragma once

#include "csrc/ops/ops.h"

namespace egl::ops::cuda {

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> ctc_beam_search(const Tensor& log_probs,
                                                                   const Tensor& lengths,
                                                                   int64_t num_hypotheses,
                                                                   int64_t beam_width,
                                                                   int64_t blank);

std::tuple<std::vector<Tensor>, std::vector<Tensor>, std::vector<Tensor>, std::vector<Tensor>>
recurrent_forward(int64_t cell, std::optional<double> relu_clip, std::vector<Tensor> projected,
                  std::vector<Tensor> weight_hh, std::vector<Tensor> bias_hh,
                  std::vector<Tensor> initial_state, std::vector<Tensor> initial_cell,
                  std::optional<Tensor> valid, std::vector<bool> reverse, bool precise);

std::tuple<Tensor, Tensor, Tensor, Tensor> recurrent_backward(
    int64_t cell, const Tensor& cotangents, const Tensor& coefficients, const Tensor& weight_hh,
    bool reverse, const std::optional<Tensor>& final_cell_cotangents);

}  // namespace egl::ops::cuda
