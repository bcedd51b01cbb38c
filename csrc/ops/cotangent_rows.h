// Which combinations of an utterance's cotangents are worth a backward pass.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "csrc/ops/aten.h"
#include "csrc/ops/hypothesis_numbers.h"

namespace egl::ops {

// What the caller asked for: all cotangents unless one of these is above zero.
struct CompressionOptions {
  double tolerance;
  int64_t num_probes;
  double span;

  bool any() const { return tolerance > 0.0 || num_probes > 0 || span > 0.0; }
};

// Rows as combinations of the columns scale_k delta_k: directions first, then probes.
struct RowChoice {
  int64_t num_directions;
  int64_t num_probes;
  std::vector<double> combinations;  // [num_directions + num_probes, count]
};

// What cotangents are multiplied with to be columns: 1 / ||delta_k|| for a span, else
// sqrt(p(y_k | x) / sum_j p(y_j | x)).
std::vector<double> column_scales(const double* log_prob, const double* sq_norms, int64_t count,
                                  const CompressionOptions& options);

// From the columns' Gram matrix [count, count], which is written to; none if the hypotheses had
// better be pulled back one by one.
std::optional<RowChoice> choose_rows(const Tensor& gram, const HypothesisNumbers& numbers,
                                     const CompressionOptions& options);

}  // namespace egl::ops
