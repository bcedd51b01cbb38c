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

}  // namespace egl
