// Which combinations of an utterance's cotangents are worth a backward pass.
#pragma once

#include <cmath>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "csrc/core/host_device.h"

namespace egl {

// The caller's request: all cotangents, unless one of these is above zero.
struct CompressionOptions {
  double tolerance;
  int64_t num_probes;
  double span;

  EGL_HOST_DEVICE bool any() const { return tolerance > 0.0 || num_probes > 0 || span > 0.0; }
};

// Cotangents are scaled to be columns. For a span, to length 1; a hypothesis that is certain has no
// cotangent.
EGL_HOST_DEVICE inline double unit_scale(double sq_norm) {
  return sq_norm > 0.0 ? 1.0 / std::sqrt(sq_norm) : 0.0;
}

// Else by sqrt(p(y_k | x) / sum_j p(y_j | x)). In the log domain: in a long utterance every p may
// underflow, their ratios do not.
EGL_HOST_DEVICE inline double share_scale(double log_prob, double log_total) {
  return std::exp((log_prob - log_total) / 2.0);
}

std::vector<double> column_scales(const double* log_prob, const double* sq_norms, int64_t count,
                                  const CompressionOptions& options);

// Equal eigenvalues leave the rotation of their eigenvectors undetermined, and so the probes. To
// break such ties, each hypothesis adds its own random number to its diagonal entry of the
// Gram matrix, of this size relative to the trace: far above rounding in double, far below anything
// that matters. Any basis is unbiased. A span has no probes, and ties stay.
inline constexpr double kTieBreak = 1e-10;

// `gram` is [K, K], `hashes` has one per hypothesis (csrc/core/random_normals.h).
void break_ties(double* gram, std::span<const uint64_t> hashes);

// Of the columns' Gram matrix, ties broken: eigenvalues [K], largest first, and eigenvectors
// [K, K], in columns.
struct Eigen {
  int64_t count;
  const double* values;
  const double* vectors;

  double entry(int64_t k, int64_t r) const { return vectors[k * count + r]; }
};

// Rows as combinations of the columns: directions first, then probes.
struct RowChoice {
  int64_t num_directions;
  int64_t num_probes;
  std::vector<double> combinations;  // [num_directions + num_probes, K]
};

// Nothing if it is better to pull back the hypotheses one by one.
std::optional<RowChoice> choose_rows(const Eigen& eigen, std::span<const uint64_t> hashes,
                                     const CompressionOptions& options);

}  // namespace egl
