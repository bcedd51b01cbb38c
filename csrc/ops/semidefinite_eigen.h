// Eigenvectors of a Gram matrix.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <span>

#include "csrc/core/symmetric_eigen.h"
#include "csrc/ops/aten.h"

namespace egl::ops {

// By LAPACK, which is fast. Nothing if it fails or returns numbers that are not finite.
inline std::optional<EigenPairs> eigen_by_svd(const Tensor& gram) {
  const auto found = svd(gram);
  if (!found.has_value()) return std::nullopt;
  const auto& [vectors, values] = *found;
  const double* first_value = values.const_data_ptr<double>();
  const double* first_entry = vectors.const_data_ptr<double>();
  EigenPairs pairs{{first_value, first_value + values.numel()},
                   {first_entry, first_entry + vectors.numel()}};
  const auto finite = [](double value) { return std::isfinite(value); };
  if (!std::all_of(pairs.values.begin(), pairs.values.end(), finite) ||
      !std::all_of(pairs.vectors.begin(), pairs.vectors.end(), finite)) {
    return std::nullopt;
  }
  return pairs;
}

// `gram` is contiguous, symmetric, [K, K], and has no negative eigenvalues except by rounding, so
// its singular value decomposition will do. LAPACK's iterations may fail to converge on a matrix
// that is singular or has many equal eigenvalues. Scoring must go on, so then the core's method
// takes over.
inline EigenPairs eigen_of_semidefinite(const Tensor& gram) {
  if (auto found = eigen_by_svd(gram)) return std::move(*found);
  const auto size = static_cast<size_t>(gram.numel());
  return symmetric_eigen(std::span(gram.const_data_ptr<double>(), size), gram.size(0));
}

}  // namespace egl::ops
