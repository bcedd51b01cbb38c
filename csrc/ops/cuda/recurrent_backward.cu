#include <array>

#include "csrc/cuda/recurrent_backward.h"
#include "csrc/ops/aten.h"
#include "csrc/ops/cuda/device.h"
#include "csrc/ops/operators.h"
#include "csrc/ops/recurrent_backward_call.h"

namespace egl::ops::cuda {
namespace {

template <typename Scalar>
void run(const RecurrentBackwardCall& call, cudaStream_t stream) {
  const std::array<int64_t, 3> frames{call.num_frames(), call.num_rows(), call.gate_columns()};
  const std::array<int64_t, 2> rows{call.num_rows(), call.hidden_size()};
  const Tensor hidden_side =
      torch::stable::view(call.hidden_side(), {frames.data(), frames.size()});
  const Tensor state = torch::stable::view(call.state(), {rows.data(), rows.size()});
  egl::cuda::recurrent_backward(call.pullback<Scalar>(), stream, [&](int64_t frame) {
    mm_out(torch::stable::select(hidden_side, 0, frame), call.weight_hh(), state);
  });
}

}  // namespace

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
  const RecurrentBackwardCall call(cell, cotangents, coefficients, weight_hh, reverse,
                                   final_cell_cotangents);
  if (call.state().numel() > 0) {
    call.is_double() ? run<double>(call, scope.stream()) : run<float>(call, scope.stream());
  }
  return call.results();
}

}  // namespace egl::ops::cuda
