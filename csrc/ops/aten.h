// ATen operators by way of the dispatcher, and borrowed matrices to give them.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <array>
#include <cstdint>
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

// out = a @ b, into out's memory, by aten::mm or another operator of its signature.
inline void mm_out(const Tensor& a, const Tensor& b, const Tensor& out,
                   const char* product = "aten::mm") {
  std::array<StableIValue, 3> stack{torch::stable::detail::from(a), torch::stable::detail::from(b),
                                    torch::stable::detail::from(out)};
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher(product, "out", stack.data(), TORCH_ABI_VERSION));
  static_cast<void>(torch::stable::detail::to<Tensor>(stack[0]));  // frees the returned reference
}

// The same of each matrix of a stack: [D, M, K] and [D, K, N] to [D, M, N].
inline void bmm_out(const Tensor& a, const Tensor& b, const Tensor& out) {
  mm_out(a, b, out, "aten::bmm");
}

// A view in which dimensions of size 1 have these sizes, without memory of their own.
inline Tensor expand(const Tensor& tensor, torch::headeronly::IntHeaderOnlyArrayRef sizes) {
  std::array<StableIValue, 3> stack{torch::stable::detail::from(tensor),
                                    torch::stable::detail::from(sizes),
                                    torch::stable::detail::from(false)};  // implicit
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::expand", "", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

// Eigenvalues, largest first, and eigenvectors in columns, of a symmetric matrix without negative
// eigenvalues: its singular value decomposition. aten::linalg_eigh takes a string, and torch's
// stable ABI leaks a copy of each string argument.
inline std::tuple<Tensor, Tensor> eigen_of_semidefinite(const Tensor& gram) {
  std::array<StableIValue, 3> stack{torch::stable::detail::from(gram),
                                    torch::stable::detail::from(true),   // some
                                    torch::stable::detail::from(true)};  // compute_uv
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::svd", "", stack.data(), TORCH_ABI_VERSION));
  auto vectors = torch::stable::detail::to<Tensor>(stack[0]);
  auto values = torch::stable::detail::to<Tensor>(stack[1]);
  static_cast<void>(torch::stable::detail::to<Tensor>(stack[2]));
  return {torch::stable::contiguous(values), torch::stable::contiguous(vectors)};
}

}  // namespace egl::ops
