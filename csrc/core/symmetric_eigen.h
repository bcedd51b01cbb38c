// Eigenvalues and eigenvectors of a symmetric matrix, where a library's solver does not converge.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace egl {

struct EigenPairs {
  std::vector<double> values;   // [K], their absolute values, largest first
  std::vector<double> vectors;  // [K, K], in columns
};

// `matrix` is [K, K], of finite numbers. Jacobi's method: slower than LAPACK's by an order of
// magnitude, but every rotation brings the matrix closer to a diagonal one, whatever its spectrum.
// Values are right to rounding of the largest, and vectors orthonormal to rounding.
EigenPairs symmetric_eigen(std::span<const double> matrix, int64_t count);

}  // namespace egl
