#include "csrc/core/cotangent_rows.h"

#include <algorithm>

#include "csrc/core/cotangent_budget.h"
#include "csrc/core/log_semiring.h"
#include "csrc/core/random_normals.h"

namespace egl {
namespace {

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

// A probe is the sum of the remaining eigenvectors with random signs: those of the components of a
// vector of independent normal numbers. In any orthonormal basis, components are independent, and
// an eigenvector of the opposite sign gives the same probe.
void add_probes(const Eigen& eigen, std::span<const uint64_t> hashes, RowChoice& choice) {
  std::vector<double> normals(eigen.count);
  for (int64_t p = 0; p < choice.num_probes; ++p) {
    for (int64_t k = 0; k < eigen.count; ++k) normals[k] = normal_of(hashes[k], p);
    double* row = choice.combinations.data() + (choice.num_directions + p) * eigen.count;
    for (int64_t r = choice.num_directions; r < eigen.count; ++r) {
      double along = 0.0;
      for (int64_t k = 0; k < eigen.count; ++k) along += eigen.entry(k, r) * normals[k];
      const double sign = along < 0.0 ? -1.0 : 1.0;
      for (int64_t k = 0; k < eigen.count; ++k) row[k] += sign * eigen.entry(k, r);
    }
  }
}

int64_t rank_of_span(const Eigen& eigen, double residual) {
  int64_t rank = 0;
  for (int64_t k = 0; k < eigen.count; ++k) {
    const auto entry = [&](int64_t r) { return eigen.entry(k, r); };
    rank = std::max(rank, rank_of_column(eigen.values, eigen.count, entry, residual));
  }
  return rank;
}

}  // namespace

std::vector<double> column_scales(const double* log_prob, const double* sq_norms, int64_t count,
                                  const CompressionOptions& options) {
  std::vector<double> scales(count);
  if (options.span > 0.0) {
    std::transform(sq_norms, sq_norms + count, scales.begin(), unit_scale);
  } else {
    const double total = log_sum_exp(log_prob, count);
    std::transform(log_prob, log_prob + count, scales.begin(),
                   [total](double value) { return share_scale(value, total); });
  }
  return scales;
}

void break_ties(double* gram, std::span<const uint64_t> hashes) {
  const auto count = static_cast<int64_t>(hashes.size());
  double trace = 0.0;
  for (int64_t k = 0; k < count; ++k) trace += gram[k * count + k];
  for (int64_t k = 0; k < count; ++k) {
    gram[k * count + k] += kTieBreak * trace * tie_break_of(hashes[k]);
  }
}

std::optional<RowChoice> choose_rows(const Eigen& eigen, std::span<const uint64_t> hashes,
                                     const CompressionOptions& options) {
  if (options.span > 0.0) {
    const int64_t rank = rank_of_span(eigen, options.span);
    if (!worth_combining(rank, eigen.count)) return std::nullopt;
    return leading(eigen, rank, 0);
  }
  std::vector<double> deviation(eigen.count + 1);
  const CotangentBudget budget =
      options.tolerance > 0.0
          ? budget_for_tolerance(eigen.values, eigen.count, options.tolerance, deviation.data())
          : budget_of_probes(eigen.values, eigen.count, options.num_probes, deviation.data());
  if (budget.num_rows() >= eigen.count) return std::nullopt;
  RowChoice choice = leading(eigen, budget.num_directions, budget.num_probes);
  add_probes(eigen, hashes, choice);
  return choice;
}

}  // namespace egl
