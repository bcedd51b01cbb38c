#include <torch/csrc/stable/ops.h>

#include <cstdint>

#include "csrc/cuda/row_norms.h"
#include "csrc/ops/cuda/device.h"
#include "csrc/ops/operators.h"

namespace egl::ops::cuda {
namespace {

// The rows, with runs along the last dimension: a view if possible, else a copy.
Tensor with_runs_last(const Tensor& rows) {
  const auto has_runs = [&](int64_t dim) { return rows.size(dim) <= 1 || rows.stride(dim) == 1; };
  if (has_runs(2)) return rows;
  if (has_runs(0)) return torch::stable::transpose(rows, 0, 2);
  return torch::stable::contiguous(rows);
}

}  // namespace

Tensor row_sq_norms(const Tensor& rows) {
  check_tensor(rows, "rows", {ScalarType::Float, ScalarType::Double}, {{"A"}, {"R"}, {"B"}});
  const DeviceScope scope(rows);
  const Tensor in_runs = with_runs_last(rows);
  Tensor out = torch::stable::new_empty(rows, {rows.size(1)}, ScalarType::Double);
  const Workspace workspace(
      rows, egl::cuda::row_sq_norms_workspace_bytes(rows.size(1), rows.size(0) * rows.size(2)));
  visit_floating(rows, [&]<typename Scalar>(Scalar) {
    egl::cuda::row_sq_norms<Scalar>({.values = in_runs.const_data_ptr<Scalar>(),
                                     .num_rows = in_runs.size(1),
                                     .num_runs = in_runs.size(0),
                                     .run_length = in_runs.size(2),
                                     .row_stride = in_runs.stride(1),
                                     .run_stride = in_runs.stride(0)},
                                    workspace.data<double>(), out.mutable_data_ptr<double>(),
                                    scope.stream());
  });
  return out;
}

}  // namespace egl::ops::cuda
