// How many combinations of an utterance's K cotangents are worth a backward pass.
#pragma once

#include <cstdint>
#include <span>

namespace egl {

// R directions, pulled back one by one, and m probes: random combinations of what is left.
struct CotangentBudget {
  int64_t num_directions;
  int64_t num_probes;
};

// Both rules look at the eigenvalues of the cotangents' Gram matrix alone, largest first. A choice
// that looked at the estimate's own spread would bias it.

// The fewest passes whose relative standard error should be within the tolerance.
CotangentBudget budget_for_tolerance(std::span<const double> eigenvalues, double tolerance);

// The best use of a fixed number of passes.
CotangentBudget budget_of_probes(std::span<const double> eigenvalues, int64_t num_probes);

// Of K columns of length 1 (or 0) with this Gram matrix: how many leading eigenvectors span every
// one of them but for a part no longer than `residual`. `eigenvectors` is [K, K], in columns. In
// double, eigenvalues are known to about 1e-14, so residuals to about 1e-7.
int64_t rank_of_span(std::span<const double> eigenvalues, const double* eigenvectors,
                     double residual);

// Whether so many rows instead of K are worth the inner products of their gradients.
bool worth_combining(int64_t num_rows, int64_t num_hypotheses);

}  // namespace egl
