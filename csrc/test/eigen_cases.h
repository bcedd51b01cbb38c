// Matrices for eigensolvers, and what must hold of a decomposition; for the core and for kernels.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "csrc/core/symmetric_eigen.h"
#include "csrc/test/test.h"

namespace egl::test {

using Matrix = std::vector<double>;  // [count, count]

// Ten sweeps round an entry about twice a round, K rounds, by half an epsilon each, at random:
// sqrt(20 K) epsilons, which for K = 100 is 1e-14.
inline constexpr double kEigenRounding = 1e-13;

// A V = V diag(values) but for the signs of negative eigenvalues, V orthogonal, values in order.
inline void check_eigen(const Matrix& matrix, int64_t count, const EigenPairs& pairs) {
  const auto entry = [&](int64_t k, int64_t r) { return pairs.vectors[k * count + r]; };
  const double tolerance = kEigenRounding * static_cast<double>(count);
  double most = 0.0;
  for (const double value : matrix) most = std::max(most, std::abs(value));
  for (int64_t r = 0; r < count; ++r) {
    CHECK(pairs.values[r] >= 0.0);
    CHECK(r == 0 || pairs.values[r - 1] >= pairs.values[r]);
    double along = 0.0;  // v^T A v, relative to the largest entry, which may be tiny or huge
    std::vector<double> seen(count);
    for (int64_t i = 0; i < count && most > 0.0; ++i) {
      for (int64_t j = 0; j < count; ++j) seen[i] += matrix[i * count + j] / most * entry(j, r);
      along += seen[i] * entry(i, r);
    }
    if (most > 0.0) CHECK(near(std::abs(along), pairs.values[r] / most, tolerance));
    for (int64_t i = 0; i < count; ++i) CHECK(near(seen[i], along * entry(i, r), tolerance));
    for (int64_t other = 0; other < count; ++other) {
      double product = 0.0;
      for (int64_t k = 0; k < count; ++k) product += entry(k, r) * entry(k, other);
      CHECK(near(product, r == other ? 1.0 : 0.0, kEigenRounding));
    }
  }
}

// Of `count` columns of `size` numbers each.
inline Matrix gram_of(const std::vector<double>& columns, int64_t count, int64_t size) {
  Matrix gram(count * count);
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t j = 0; j < count; ++j) {
      for (int64_t s = 0; s < size; ++s) {
        gram[i * count + j] += columns[i * size + s] * columns[j * size + s];
      }
    }
  }
  return gram;
}

// The Gram matrix of `count` random vectors in `rank` dimensions, each dimension `fall` times as
// long as the one before.
inline Matrix random_gram(std::mt19937& random, int64_t count, int64_t rank, double fall) {
  std::normal_distribution<double> normal;
  std::vector<double> columns(count * rank);
  for (int64_t i = 0; i < count * rank; ++i) {
    columns[i] = normal(random) * std::pow(fall, static_cast<double>(i % rank));
  }
  return gram_of(columns, count, rank);
}

}  // namespace egl::test
