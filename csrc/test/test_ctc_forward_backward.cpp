// The forward-backward in the log domain, and its fast twin with every instruction set that this
// machine has: the same tests for all of them.
#include <cmath>
#include <memory>
#include <optional>

#include "csrc/core/ctc_forward_backward.h"
#include "csrc/core/ctc_posteriors.h"
#include "csrc/test/posterior_cases.h"
#include "csrc/test/random_problem.h"
#include "csrc/test/test.h"

using egl::kNegInf;
using egl::test::Labeling;
using egl::test::near;
using egl::test::Posteriors;
using egl::test::Problem;

namespace {

// What runs: the log domain, or the linear domain with these instructions.
std::optional<egl::Isa> running;

// Reused on purpose: nothing may leak between calls.
egl::PosteriorWorkspace workspace;

Posteriors forward_backward(const Problem& problem, const Labeling& labels) {
  Posteriors result{0.0, std::vector<double>(problem.log_probs.size(), -1.0)};
  const auto num_labels = static_cast<int64_t>(labels.size());
  if (running.has_value()) {
    const egl::ProbabilityTable table = egl::test::table_of(problem);
    result.log_prob = egl::ctc_posteriors(table, labels.data(), num_labels, problem.blank, *running,
                                          workspace, result.occupancy.data());
  } else {
    result.log_prob =
        egl::ctc_forward_backward(problem.emissions(), labels.data(), num_labels, problem.blank,
                                  workspace.log_domain, result.occupancy.data());
  }
  return result;
}

// Whether the last labeling was done in the linear domain alone; to be asked after forget().
bool stayed_linear() { return workspace.log_domain.alpha.empty(); }
void forget() { workspace.log_domain.alpha.clear(); }

Posteriors in_log_domain(const Problem& problem, const Labeling& labels) {
  const auto before = running;
  running.reset();
  const Posteriors result = forward_backward(problem, labels);
  running = before;
  return result;
}

}  // namespace

EGL_TEST(equals_enumeration) {
  std::mt19937 random(5);
  for (int i = 0; i < 300; ++i) {
    const auto num_frames = std::uniform_int_distribution<int64_t>(1, 5)(random);
    const auto num_classes = std::uniform_int_distribution<int64_t>(1, 4)(random);
    const Problem problem = egl::test::random_problem(random, num_frames, num_classes, 4);
    std::map<Labeling, std::vector<double>> mass;  // labeling -> [T, C], mass through each class
    egl::test::for_each_alignment(
        problem, [&](const auto& alignment, const Labeling& labeling, double value) {
          auto& table = mass[labeling];
          table.resize(problem.log_probs.size());
          for (size_t t = 0; t < alignment.size(); ++t) {
            table[t * problem.num_classes + alignment[t]] += value;
          }
        });
    for (const auto& [labeling, table] : mass) {
      const auto result = forward_backward(problem, labeling);
      double total = 0.0;
      for (int64_t c = 0; c < num_classes; ++c) total += table[c];
      // Twice: an occupancy divides the mass through a class by the total.
      const double tolerance = 2 * egl::test::rounding(problem);
      CHECK(near(result.log_prob, total > 0 ? std::log(total) : kNegInf, tolerance));
      for (size_t j = 0; j < table.size(); ++j) {
        CHECK(near(result.occupancy[j], total > 0 ? table[j] / total : 0.0, tolerance));
      }
    }
  }
}

EGL_TEST(too_many_labels_are_impossible) {
  const Problem problem{3, 2, 0, std::vector<double>(6, std::log(0.5))};
  const auto possible = forward_backward(problem, {1, 1});  // needs 2 labels + 1 repeat
  CHECK(near(possible.log_prob, std::log(0.125), egl::test::rounding(problem)));
  const auto impossible = forward_backward(problem, {1, 1, 1});
  CHECK(impossible.log_prob == kNegInf);
  for (const double value : impossible.occupancy) CHECK(value == 0.0);
}

// As many frames as labels leave one alignment.
EGL_TEST(one_alignment) {
  const Problem problem{3, 4, 0, {-9, -1, -2, -3, -9, -4, -5, -6, -9, -7, -8, -0.5}};
  const auto result = forward_backward(problem, {2, 1, 3});
  CHECK(near(result.log_prob, -2 - 4 - 0.5, egl::test::rounding(problem)));
  for (int64_t t = 0; t < 3; ++t) {
    const int64_t aligned[] = {2, 1, 3};
    for (int64_t c = 0; c < 4; ++c) {
      CHECK(near(result.occupancy[t * 4 + c], c == aligned[t] ? 1.0 : 0.0,
                 2 * egl::test::rounding(problem)));
    }
  }
}

EGL_TEST(no_frames) {
  const Problem problem{0, 3, 0, {}};
  CHECK(forward_backward(problem, {}).log_prob == 0.0);
  CHECK(forward_backward(problem, {1}).log_prob == kNegInf);
}

// Probabilities whose product is far below the smallest double.
EGL_TEST(long_and_improbable) {
  const int64_t num_frames = 3000;
  const Problem problem = egl::test::improbable_problem(num_frames);
  const auto result = forward_backward(problem, {1});
  // The label may fill any run of frames.
  const double alignments = 0.5 * num_frames * (num_frames + 1);
  const double expected = -5.0 * num_frames + std::log(alignments);
  // As rounding(), for numbers up to 5 per frame.
  const double tolerance =
      8.0 * num_frames * 5.0 * num_frames * std::numeric_limits<double>::epsilon();
  CHECK(near(result.log_prob, expected, tolerance));
  for (int64_t t = 0; t < num_frames; ++t) {
    const double blank = result.occupancy[2 * t];
    const double label = result.occupancy[2 * t + 1];
    CHECK(near(label, (t + 1.0) * static_cast<double>(num_frames - t) / alignments, 2 * tolerance));
    CHECK(near(blank + label, 1.0, 4 * tolerance));
  }
}

// Widths on either side of a vector's, labels that repeat, emissions from flat to almost certain.
EGL_TEST(equals_the_log_domain) {
  std::mt19937 random(11);
  for (const double sure : {0.1, 2.0, 20.0}) {
    for (const int64_t num_labels : {0, 1, 2, 7, 8, 9, 15, 16, 17, 60}) {
      const Problem problem = egl::test::long_problem(random, 150, 6, sure);
      const Labeling labels = egl::test::random_labeling(random, num_labels, 6);
      const Posteriors expected = in_log_domain(problem, labels);
      forget();
      CHECK(egl::test::agrees(forward_backward(problem, labels), expected, 150));
      if (running.has_value() && expected.log_prob > -600) CHECK(stayed_linear());
    }
  }
}

// Probabilities too small for a double are not treated as zero.
EGL_TEST(emissions_that_underflow) {
  Problem problem = egl::test::underflowing_problem();
  CHECK(!egl::test::table_of(problem).complete());
  for (double& value : problem.log_probs) value = value < -1.0 ? kNegInf : value;
  CHECK(egl::test::table_of(problem).complete());
  CHECK(forward_backward(problem, {1, 2}).log_prob == kNegInf);
}

EGL_TEST(mass_that_is_lost_on_the_way) {
  const Problem problem = egl::test::problem_that_loses_mass();
  const Posteriors result = forward_backward(problem, {1, 2, 3});
  CHECK(near(result.log_prob, -760.0 + std::log(45.0), 1e-9));  // two frames out of ten
  CHECK(egl::test::agrees(result, in_log_domain(problem, {1, 2, 3}), problem.num_frames));
}

EGL_TEST(mass_that_both_directions_lose) {
  const Problem problem = egl::test::problem_that_both_directions_lose();
  const Posteriors result = forward_backward(problem, {1, 2, 3});
  CHECK(near(result.log_prob, -2800.0 + std::log(3.0), 1e-9));  // two frames out of three
  CHECK(near(result.occupancy[4 * 12 + 1], 1.0, 1e-9));
  CHECK(egl::test::agrees(result, in_log_domain(problem, {1, 2, 3}), problem.num_frames));
}

// A table owns all that it points to: the address sanitizer would notice a copy that does not.
EGL_TEST(tables_can_be_copied_and_moved) {
  const Problem problem = egl::test::underflowing_problem();
  auto first = std::make_unique<egl::ProbabilityTable>(egl::test::table_of(problem));
  const egl::ProbabilityTable copy = *first;
  first.reset();
  const egl::ProbabilityTable moved = egl::test::table_of(problem);
  for (const egl::ProbabilityTable& table : {copy, moved}) {
    for (int64_t c = 0; c < 3; ++c) {
      CHECK(table.log_probs()(1, c) == problem.log_probs[3 + c]);
      CHECK(table.frame(1)[c] == std::exp(problem.log_probs[3 + c]));
    }
  }
}

EGL_TEST(logarithms_too_large_to_be_added_up) {
  for (const int64_t num_frames : {2, 3, 9, 60}) {
    const Problem problem = egl::test::astronomically_improbable_problem(num_frames);
    for (const Labeling& labels : {Labeling{}, Labeling{1}, Labeling{2}, Labeling{1, 2}}) {
      CHECK(egl::test::is_distribution_at_each_frame(forward_backward(problem, labels), 3));
    }
  }
}

int main() {
  int failed = egl::test::run_all();
  for (const egl::Isa isa : egl::available_isas()) {
    std::printf("in the linear domain, %s:\n", egl::name_of(isa));
    running = isa;
    failed += egl::test::run_all();
  }
  return failed == 0 ? 0 : 1;
}
