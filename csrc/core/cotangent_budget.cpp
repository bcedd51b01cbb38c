#include "csrc/core/cotangent_budget.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace egl {
namespace {

// A model does not scale all directions alike, and the less energy a direction has, the more its
// scale may stand out: on recorded speech the tail deviates by up to about this many times what it
// would otherwise, but for some recordings in a hundred (docs/estimators.md).
double safety(double tolerance) { return std::pow(tolerance, -0.25); }

// Probes under a tolerance, at least: their spread is the error bar.
constexpr int64_t kMinTailProbes = 4;

// Relative deviation below which the tail is rounding.
constexpr double kNothing = 1e-8;

// For R = 0..K: the standard deviation of one probe of the tail beyond R directions, relative to
// the sum, at most, were all directions scaled alike. Of a form e^T M e in random signs it is at
// most sqrt(2) ||M||_F (Hutchinson, 1990).
std::vector<double> relative_tail_deviation(std::span<const double> eigenvalues) {
  const size_t size = eigenvalues.size();
  std::vector<double> deviation(size + 1, 0.0);
  double sum = 0.0;
  double squares = 0.0;
  for (size_t r = size; r-- > 0;) {
    sum += eigenvalues[r];
    squares += eigenvalues[r] * eigenvalues[r];
    deviation[r] = std::sqrt(2.0 * squares);
  }
  for (double& value : deviation) value /= std::max(sum, std::numeric_limits<double>::min());
  return deviation;
}

// The first R beyond which nothing is left.
int64_t rank_of(const std::vector<double>& deviation) {
  const auto first = std::find_if(deviation.begin(), deviation.end() - 1,
                                  [](double value) { return value <= kNothing; });
  return first - deviation.begin();
}

}  // namespace

CotangentBudget budget_for_tolerance(std::span<const double> eigenvalues, double tolerance) {
  const std::vector<double> deviation = relative_tail_deviation(eigenvalues);
  const int64_t rank = rank_of(deviation);
  CotangentBudget best{rank, 0};
  for (int64_t r = 0; r < rank; ++r) {
    const double needed = std::ceil(std::pow(safety(tolerance) * deviation[r] / tolerance, 2.0));
    // More than all directions is never the best; as a double it cannot overflow.
    if (needed >= static_cast<double>(rank)) continue;
    const int64_t probes = std::max(kMinTailProbes, static_cast<int64_t>(needed));
    if (r + probes < best.num_directions + best.num_probes) best = {r, probes};
  }
  return best;
}

CotangentBudget budget_of_probes(std::span<const double> eigenvalues, int64_t num_probes) {
  const std::vector<double> deviation = relative_tail_deviation(eigenvalues);
  // At least two probes, for an error bar; a third where there are enough, for a better one.
  const int64_t fewest = num_probes >= 4 ? 3 : 2;
  const int64_t most_directions =
      std::min(num_probes - fewest, static_cast<int64_t>(eigenvalues.size()));
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

int64_t rank_of_span(std::span<const double> eigenvalues, const double* eigenvectors,
                     double residual) {
  const auto count = static_cast<int64_t>(eigenvalues.size());
  std::vector<double> left(eigenvalues.size(), 0.0);  // each column's squares beyond `rank`
  for (int64_t rank = count; rank-- > 0;) {
    for (int64_t k = 0; k < count; ++k) {
      const double entry = eigenvectors[k * count + rank];
      left[k] += eigenvalues[rank] * entry * entry;
      if (left[k] > residual * residual) return rank + 1;
    }
  }
  return 0;
}

bool worth_combining(int64_t num_rows, int64_t num_hypotheses) {
  return num_rows <= num_hypotheses - (num_hypotheses + 7) / 8;
}

}  // namespace egl
