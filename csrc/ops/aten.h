// ATen operators that the stable ABI lacks, called through the dispatcher; and borrowed matrices.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <array>
#include <cstdint>
#include <optional>
#include <tuple>

#include "csrc/ops/check.h"

namespace egl::ops {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// A borrowed matrix.
template <typename Scalar>
Tensor matrix(const Scalar* data, int64_t rows, int64_t cols) {
  const std::array<int64_t, 2> sizes{rows, cols};
  const std::array<int64_t, 2> strides{cols, 1};
  constexpr auto dtype = sizeof(Scalar) == sizeof(float) ? ScalarType::Float : ScalarType::Double;
  return torch::stable::from_blob(
      const_cast<Scalar*>(data), {sizes.data(), sizes.size()}, {strides.data(), strides.size()},
      torch::stable::Device(torch::headeronly::DeviceType::CPU, -1), dtype);
}

// out = a @ b, by aten::mm or another operator with its signature.
inline void mm_out(const Tensor& a, const Tensor& b, const Tensor& out,
                   const char* product = "aten::mm") {
  std::array<StableIValue, 3> stack{torch::stable::detail::from(a), torch::stable::detail::from(b),
                                    torch::stable::detail::from(out)};
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher(product, "out", stack.data(), TORCH_ABI_VERSION));
  static_cast<void>(torch::stable::detail::to<Tensor>(stack[0]));  // frees the returned reference
}

// The same for stacks of matrices: [D, M, K] @ [D, K, N] = [D, M, N].
inline void bmm_out(const Tensor& a, const Tensor& b, const Tensor& out) {
  mm_out(a, b, out, "aten::bmm");
}

// A view that repeats dimensions of size 1 to these sizes.
inline Tensor expand(const Tensor& tensor, torch::headeronly::IntHeaderOnlyArrayRef sizes) {
  std::array<StableIValue, 3> stack{torch::stable::detail::from(tensor),
                                    torch::stable::detail::from(sizes),
                                    torch::stable::detail::from(false)};  // implicit
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::expand", "", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

// Left singular vectors, in columns, and singular values, largest first; nothing if the algorithm
// does not converge. Not aten::linalg_eigh, which takes a string: torch's stable ABI leaks a copy
// of every string argument.
inline std::optional<std::tuple<Tensor, Tensor>> svd(const Tensor& matrix) {
  std::array<StableIValue, 3> stack{torch::stable::detail::from(matrix),
                                    torch::stable::detail::from(true),   // some
                                    torch::stable::detail::from(true)};  // compute_uv
  if (torch_call_dispatcher("aten::svd", "", stack.data(), TORCH_ABI_VERSION) != 0) {
    return std::nullopt;
  }
  const auto vectors = torch::stable::detail::to<Tensor>(stack[0]);
  const auto values = torch::stable::detail::to<Tensor>(stack[1]);
  static_cast<void>(torch::stable::detail::to<Tensor>(stack[2]));
  return std::tuple{torch::stable::contiguous(vectors), torch::stable::contiguous(values)};
}

}  // namespace egl::ops
