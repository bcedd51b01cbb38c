#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "csrc/core/cotangent_budget.h"
#include "csrc/test/test.h"

using egl::worth_combining;

namespace {

egl::CotangentBudget budget_for_tolerance(const std::vector<double>& values, double tolerance) {
  std::vector<double> deviation(values.size() + 1);
  return egl::budget_for_tolerance(values.data(), static_cast<int64_t>(values.size()), tolerance,
                                   deviation.data());
}

egl::CotangentBudget budget_of_probes(const std::vector<double>& values, int64_t num_probes) {
  std::vector<double> deviation(values.size() + 1);
  return egl::budget_of_probes(values.data(), static_cast<int64_t>(values.size()), num_probes,
                               deviation.data());
}

// `vectors` is [K, K], in columns.
int64_t rank_of_span(const std::vector<double>& values, const std::vector<double>& vectors,
                     double residual) {
  const auto count = static_cast<int64_t>(values.size());
  int64_t rank = 0;
  for (int64_t k = 0; k < count; ++k) {
    const auto entry = [&](int64_t r) { return vectors[k * count + r]; };
    rank = std::max(rank, egl::rank_of_column(values.data(), count, entry, residual));
  }
  return rank;
}

std::vector<double> halving(size_t size) {
  std::vector<double> values(size);
  for (size_t i = 0; i < size; ++i) values[i] = std::ldexp(1.0, -static_cast<int>(i));
  return values;
}

}  // namespace

EGL_TEST(a_tighter_tolerance_takes_more_passes) {
  int64_t before = 0;
  for (const double tolerance : {0.5, 0.1, 0.01, 0.001}) {
    const auto budget = budget_for_tolerance(halving(30), tolerance);
    CHECK(budget.num_probes >= 4);
    CHECK(budget.num_directions + budget.num_probes > before);
    before = budget.num_directions + budget.num_probes;
  }
}

EGL_TEST(a_flat_spectrum_leaves_all_to_probes) {
  const auto budget = budget_for_tolerance(std::vector<double>(1000, 1.0), 0.05);
  CHECK(budget.num_directions == 0);
  CHECK(budget.num_probes >= 4);
}

EGL_TEST(nothing_left_needs_no_probe) {
  const std::vector<double> values{3.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0};
  for (const auto budget : {budget_for_tolerance(values, 0.01), budget_of_probes(values, 5)}) {
    CHECK(budget.num_directions == 2);
    CHECK(budget.num_probes == 0);
  }
  const std::vector<double> zeros(4, 0.0);
  CHECK(budget_for_tolerance(zeros, 0.01).num_directions == 0);
  CHECK(budget_for_tolerance({}, 0.01).num_probes == 0);
}

EGL_TEST(a_fixed_number_is_spent_whole_with_probes_for_an_error_bar) {
  for (const int64_t probes : {2, 3, 4, 6, 10}) {
    const auto budget = budget_of_probes(halving(40), probes);
    CHECK(budget.num_directions + budget.num_probes == probes);
    CHECK(budget.num_probes >= (probes >= 4 ? 3 : 2));
  }
}

EGL_TEST(a_span_is_the_fewest_that_leave_no_column_out) {
  // Columns (1, 0), (1, 0) and (0.8, 0.6): their Gram matrix has rank 2.
  const double c = 0.8;
  const double root = std::sqrt(1.0 + 8.0 * c * c);
  const double high = (3.0 + root) / 2.0;
  const double low = (3.0 - root) / 2.0;
  // Eigenvectors (a, a, b) with a : b = c : (value - 1) / 2, and (1, -1, 0).
  const auto entries = [&](double value) {
    const double b = 2.0 * c / (value - 1.0);
    const double length = std::sqrt(2.0 + b * b);
    return std::pair{1.0 / length, b / length};
  };
  const auto [a0, b0] = entries(high);
  const auto [a1, b1] = entries(low);
  const double h = std::sqrt(0.5);
  const std::vector<double> values{high, low, 0.0};
  const std::vector<double> vectors{a0, a1, h, a0, a1, -h, b0, b1, 0.0};
  CHECK(rank_of_span(values, vectors, 1e-6) == 2);
  // Beyond the first eigenvector the third column keeps the most.
  const double most = std::sqrt(low) * std::max(std::abs(a1), std::abs(b1));
  CHECK(rank_of_span(values, vectors, 0.99 * most) == 2);
  CHECK(rank_of_span(values, vectors, 1.01 * most) == 1);
  CHECK(rank_of_span({}, {}, 1e-6) == 0);
}

EGL_TEST(combining_is_for_an_eighth_less_at_least) {
  CHECK(worth_combining(87, 100));
  CHECK(!worth_combining(88, 100));
  CHECK(!worth_combining(1, 1));
  CHECK(worth_combining(0, 1));
  CHECK(worth_combining(7, 8));
  CHECK(!worth_combining(8, 8));
}

EGL_TEST(scale_changes_nothing) {
  const std::vector<double> values = halving(30);
  for (const double scale : {0x1p-980, 0x1p-530, 0x1p-410, 0x1p-390, 0x1p60}) {
    std::vector<double> scaled = values;
    for (double& value : scaled) value *= scale;
    for (const double tolerance : {0.3, 0.01}) {
      const auto plain = budget_for_tolerance(values, tolerance);
      const auto budget = budget_for_tolerance(scaled, tolerance);
      CHECK(budget.num_directions == plain.num_directions);
      CHECK(budget.num_probes == plain.num_probes);
    }
    CHECK(budget_of_probes(scaled, 6).num_directions == budget_of_probes(values, 6).num_directions);
  }
}

EGL_TEST_MAIN()
