#include "csrc/ops/cotangent_rows.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "csrc/core/cotangent_budget.h"
#include "csrc/core/log_semiring.h"

namespace egl::ops {
namespace {

// Equal eigenvalues leave their eigenvectors' rotation open, and so the probes. So the Gram
// matrix's diagonal gets a part of this size, relative to its trace, from each hypothesis's own
// numbers: far above rounding in double, far below anything that matters. Any basis is unbiased.
constexpr double kTieBreak = 1e-10;

void break_ties(double* gram, int64_t count, const HypothesisNumbers& numbers) {
  double trace = 0.0;
  for (int64_t k = 0; k < count; ++k) trace += gram[k * count + k];
  for (int64_t k = 0; k < count; ++k) {
    gram[k * count + k] += kTieBreak * trace * numbers.tie_break(k);
  }
}

// Eigenvalues, largest first, and eigenvectors [count, count] in columns.
struct Eigen {
  explicit Eigen(const Tensor& gram) : count(gram.size(0)), pair(eigen_of_semidefinite(gram)) {}

  std::span<const double> values() const {
    return {std::get<0>(pair).const_data_ptr<double>(), static_cast<size_t>(count)};
  }
  const double* vectors() const { return std::get<1>(pair).const_data_ptr<double>(); }
  double entry(int64_t k, int64_t r) const { return vectors()[k * count + r]; }

  int64_t count;
  std::tuple<Tensor, Tensor> pair;
};

// The leading eigenvectors, as rows of combinations.
RowChoice leading(const Eigen& eigen, int64_t num_directions, int64_t num_probes) {
  RowChoice choice{num_directions, num_probes, {}};
  choice.combinations.assign((num_directions + num_probes) * eigen.count, 0.0);
  for (int64_t r = 0; r < num_directions; ++r) {
    for (int64_t k = 0; k < eigen.count; ++k) {
      choice.combinations[r * eigen.count + k] = eigen.entry(k, r);
    }
  }
  return choice;
}

// A probe is a sum of the eigenvectors left, under random signs. Independent normal numbers stay
// so in any orthonormal basis: their signs along the eigenvectors are fair and independent, and
// an eigenvector of the other sign gives the same probe.
void add_probes(const Eigen& eigen, const HypothesisNumbers& numbers, RowChoice& choice) {
  std::vector<double> normals(eigen.count);
  for (int64_t p = 0; p < choice.num_probes; ++p) {
    for (int64_t k = 0; k < eigen.count; ++k) normals[k] = numbers.normal(k, p);
    double* row = choice.combinations.data() + (choice.num_directions + p) * eigen.count;
    for (int64_t r = choice.num_directions; r < eigen.count; ++r) {
      double along = 0.0;
      for (int64_t k = 0; k < eigen.count; ++k) along += eigen.entry(k, r) * normals[k];
      const double sign = along < 0.0 ? -1.0 : 1.0;
      for (int64_t k = 0; k < eigen.count; ++k) row[k] += sign * eigen.entry(k, r);
    }
  }
}

}  // namespace

std::vector<double> column_scales(const double* log_prob, const double* sq_norms, int64_t count,
                                  const CompressionOptions& options) {
  std::vector<double> scales(count);
  if (options.span > 0.0) {
    // A hypothesis that is certain has no cotangent.
    std::transform(sq_norms, sq_norms + count, scales.begin(),
                   [](double value) { return value > 0.0 ? 1.0 / std::sqrt(value) : 0.0; });
  } else {
    // In the log domain: in a long utterance every p may underflow, their ratios do not.
    const double total = log_sum_exp(log_prob, count, 1);
    std::transform(log_prob, log_prob + count, scales.begin(),
                   [total](double value) { return std::exp((value - total) / 2.0); });
  }
  return scales;
}

std::optional<RowChoice> choose_rows(const Tensor& gram, const HypothesisNumbers& numbers,
                                     const CompressionOptions& options) {
  const int64_t count = gram.size(0);
  if (options.span > 0.0) {
    const Eigen eigen(gram);
    const int64_t rank = rank_of_span(eigen.values(), eigen.vectors(), options.span);
    if (!worth_combining(rank, count)) return std::nullopt;
    return leading(eigen, rank, 0);
  }
  break_ties(gram.mutable_data_ptr<double>(), count, numbers);
  const Eigen eigen(gram);
  const CotangentBudget budget = options.tolerance > 0.0
                                     ? budget_for_tolerance(eigen.values(), options.tolerance)
                                     : budget_of_probes(eigen.values(), options.num_probes);
  if (budget.num_directions + budget.num_probes >= count) return std::nullopt;
  RowChoice choice = leading(eigen, budget.num_directions, budget.num_probes);
  add_probes(eigen, numbers, choice);
  return choice;
}

}  // namespace egl::ops
