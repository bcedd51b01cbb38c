// How many combinations of an utterance's K cotangents are worth a backward pass.
//
// Only square roots, products and quotients, so that every machine makes the same decision from the
// same eigenvalues.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "csrc/core/host_device.h"

namespace egl {

// R directions, pulled back one by one, and m probes: random combinations of what is left.
struct CotangentBudget {
  int64_t num_directions;
  int64_t num_probes;

  EGL_HOST_DEVICE int64_t num_rows() const { return num_directions + num_probes; }
};

// A tail with a smaller relative deviation than this is rounding.
inline constexpr double kNothing = 1e-8;

// deviation[R] for R = 0..count: a bound on the standard deviation of one probe of the tail beyond
// R directions, relative to the sum, if all directions were scaled alike. For a form e^T M e in
// random signs it is at most sqrt(2) ||M||_F (Hutchinson, 1990).
EGL_HOST_DEVICE inline void relative_tail_deviation(const double* eigenvalues, int64_t count,
                                                    double* deviation) {
  // Scaled by a power of two: where the model is sure, squares of eigenvalues would underflow.
  const double largest = count > 0 ? eigenvalues[0] : 0.0;
  const double scale = largest < 0x1p-400 ? 0x1p600 : 1.0;
  double sum = 0.0;
  double squares = 0.0;
  deviation[count] = 0.0;
  for (int64_t r = count; r-- > 0;) {
    const double value = eigenvalues[r] * scale;
    sum += value;
    squares += value * value;
    deviation[r] = std::sqrt(2.0 * squares);
  }
  sum = std::max(sum, std::numeric_limits<double>::min());
  for (int64_t r = 0; r < count; ++r) deviation[r] /= sum;
}

// Both rules look only at the eigenvalues of the cotangents' Gram matrix, largest first. A choice
// based on the estimate's own spread would bias it. `deviation` has room for count + 1.

// The fewest passes whose relative standard error should be within the tolerance.
EGL_HOST_DEVICE inline CotangentBudget budget_for_tolerance(const double* eigenvalues,
                                                            int64_t count, double tolerance,
                                                            double* deviation) {
  // A model does not scale all directions alike, and the less energy a direction has, the more its
  // scale may differ. On recorded speech the tail's deviation exceeds the bound by up to about this
  // factor, except for a few recordings in a hundred (docs/estimators.md).
  const double safety = 1.0 / std::sqrt(std::sqrt(tolerance));
  relative_tail_deviation(eigenvalues, count, deviation);
  constexpr int64_t kMinTailProbes = 4;  // their spread is the error bar
  // The smallest number of directions beyond which nothing is left.
  int64_t rank = 0;
  while (rank < count && !(deviation[rank] <= kNothing)) ++rank;
  CotangentBudget best{rank, 0};
  for (int64_t r = 0; r < rank; ++r) {
    const double ratio = safety * deviation[r] / tolerance;
    const double needed = std::ceil(ratio * ratio);
    // More than all directions is never the best; as a double it cannot overflow.
    if (!(needed < static_cast<double>(rank))) continue;
    const int64_t probes = std::max(kMinTailProbes, static_cast<int64_t>(needed));
    if (r + probes < best.num_rows()) best = {r, probes};
  }
  return best;
}

// The best use of a fixed number of passes.
EGL_HOST_DEVICE inline CotangentBudget budget_of_probes(const double* eigenvalues, int64_t count,
                                                        int64_t num_probes, double* deviation) {
  relative_tail_deviation(eigenvalues, count, deviation);
  // At least two probes, for an error bar; a third if there are enough passes, for a better one.
  const int64_t fewest = num_probes >= 4 ? 3 : 2;
  const int64_t most_directions = std::min(num_probes - fewest, count);
  CotangentBudget best{0, num_probes};
  double least = std::numeric_limits<double>::infinity();
  for (int64_t r = 0; r <= most_directions; ++r) {
    if (deviation[r] <= kNothing) return {r, 0};
    const double error = deviation[r] / std::sqrt(static_cast<double>(num_probes - r));
    if (error < least) {
      best = {r, num_probes - r};
      least = error;
    }
  }
  return best;
}

// How many leading eigenvectors of the columns' Gram matrix represent a column of length 1 (or 0)
// up to a remainder of length `residual`; entry(r) is its component along eigenvector r. The rank
// that spans all columns is the largest of these. In double, eigenvalues are known to about 1e-14,
// and residuals therefore to about 1e-7.
template <typename Entry>
EGL_HOST_DEVICE int64_t rank_of_column(const double* eigenvalues, int64_t count, const Entry& entry,
                                       double residual) {
  double left = 0.0;  // its square beyond `rank`
  for (int64_t rank = count; rank-- > 0;) {
    const double along = entry(rank);
    left += eigenvalues[rank] * along * along;
    if (left > residual * residual) return rank + 1;
  }
  return 0;
}

// Whether that many rows, in place of K, save more than the inner products of their gradients cost.
EGL_HOST_DEVICE inline bool worth_combining(int64_t num_rows, int64_t num_hypotheses) {
  return num_rows <= num_hypotheses - (num_hypotheses + 7) / 8;
}

}  // namespace egl
