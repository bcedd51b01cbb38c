#include "csrc/cuda/recurrent_backward.h"
#include "csrc/ops/aten.h"
#include "csrc/ops/cuda/device.h"
#include "csrc/ops/operators.h"
#include "csrc/ops/recurrent_backward_tensors.h"

namespace egl::ops::cuda {

RecurrentCotangents recurrent_backward(int64_t cell, const Tensor& cotangents,
                                       const Tensor& coefficients, const Tensor& weight_hh,
                                       bool reverse,
                                       const std::optional<Tensor>& final_cell_cotangents) {
  check_device(coefficients, "coefficients", cotangents, "cotangents");
  check_device(weight_hh, "weight_hh", cotangents, "cotangents");
  if (final_cell_cotangents.has_value()) {
    check_device(*final_cell_cotangents, "final_cell_cotangents", cotangents, "cotangents");
  }
  const DeviceScope scope(cotangents);
  const RecurrentBackwardTensors tensors(cell, cotangents, coefficients, weight_hh, reverse,
                                         final_cell_cotangents);
  if (tensors.state().numel() == 0) return tensors.results();
  const Tensor hidden_side = torch::stable::view(
      tensors.hidden_side(), {tensors.num_frames(), tensors.num_rows(), tensors.gate_columns()});
  const Tensor state =
      torch::stable::view(tensors.state(), {tensors.num_rows(), tensors.hidden_size()});
  visit_floating(cotangents, [&]<typename Scalar>(Scalar) {
    egl::cuda::recurrent_backward(tensors.pullback<Scalar>(), scope.stream(), [&](int64_t frame) {
      mm_out(torch::stable::select(hidden_side, 0, frame), tensors.weight_hh(), state);
    });
  });
  return tensors.results();
}

}  // namespace egl::ops::cuda
