// The operators' CUDA halves, for tensors of one device: what csrc/ops/ops.h says of the CPU halves
// holds of them, and their types are these.
#pragma once

#include "csrc/ops/ops.h"

namespace egl::ops::cuda {

decltype(ops::ctc_beam_search) ctc_beam_search;
decltype(ops::ctc_occupancy) ctc_occupancy;
decltype(ops::ctc_logits_cotangents) ctc_logits_cotangents;
decltype(ops::ctc_nbest_cotangents) ctc_nbest_cotangents;
decltype(ops::ctc_hypothesis_normals) ctc_hypothesis_normals;
decltype(ops::recurrent_forward) recurrent_forward;
decltype(ops::recurrent_backward) recurrent_backward;

// -> [R], of rows [A, R, B]: the sum of squares over A and B
Tensor row_sq_norms(const Tensor& rows);

}  // namespace egl::ops::cuda
