// Search, exact probabilities and occupancy where log-probabilities are extreme, against
// enumeration. EGL_FUZZ=300000 tries as many problems.
#include <cstdio>
#include <optional>

#include "csrc/core/ctc_beam_search.h"
#include "csrc/core/ctc_posteriors.h"
#include "csrc/core/semiring.h"
#include "csrc/test/extreme_problem.h"
#include "csrc/test/posterior_cases.h"
#include "csrc/test/test.h"

using egl::kNegInf;
using egl::test::Answer;
using egl::test::Labeling;
using egl::test::near;
using egl::test::Problem;

namespace {

constexpr int64_t kUnlimited = int64_t{1} << 40;

using Answers = std::map<Labeling, Answer>;

void describe(const Problem& problem) {
  static int described = 0;
  if (++described > 20) return;
  std::printf("  blank %d:", static_cast<int>(problem.blank));
  for (int64_t t = 0; t < problem.num_frames; ++t) {
    for (int64_t c = 0; c < problem.num_classes; ++c) {
      std::printf("%s%.17g", c == 0 ? " [" : ", ", problem.log_probs[t * problem.num_classes + c]);
    }
    std::printf("]");
  }
  std::printf("\n");
}

bool finds_all(const Problem& problem, const Answers& answers, int64_t width) {
  const auto found = egl::ctc_beam_search(problem.emissions(), {width, width, problem.blank});
  const double tolerance = egl::test::extreme_rounding(problem);
  bool right = found.size() == answers.size();
  double before = std::numeric_limits<double>::infinity();
  for (const auto& hypothesis : found) {
    const auto answer = answers.find(hypothesis.labels);
    right &= answer != answers.end() && hypothesis.log_prob <= before;
    if (answer == answers.end()) continue;
    const auto expected = static_cast<double>(answer->second.log_prob);
    right &= near(hypothesis.log_prob, expected, tolerance);
    right &= near(hypothesis.search_log_prob, expected, tolerance);
    before = hypothesis.log_prob;
  }
  return right;
}

// A beam that is too narrow for all labelings keeps as many as a search by logarithms does.
bool fills_a_narrow_beam(const Problem& problem, const Answers& answers, int64_t width) {
  const egl::BeamSearchOptions options{width, width, problem.blank};
  const auto found = egl::ctc_beam_search(problem.emissions(), options);
  egl::PrefixTree tree;
  const auto kept = egl::ctc_prefix_search_in<egl::LogMass>(problem.emissions(), options, tree);
  const double tolerance = egl::test::extreme_rounding(problem);
  bool right = found.size() == kept->size();
  for (const auto& hypothesis : found) {
    const auto answer = answers.find(hypothesis.labels);
    right &= answer != answers.end();
    if (answer == answers.end()) continue;
    const auto expected = static_cast<double>(answer->second.log_prob);
    right &= near(hypothesis.log_prob, expected, tolerance);
    right &= hypothesis.search_log_prob <= expected + tolerance;
  }
  return right;
}

// With these instructions, or in the log domain.
bool occupies(const Problem& problem, const Answers& answers, std::optional<egl::Isa> isa) {
  const egl::ProbabilityTable table = egl::test::table_of(problem);
  const double tolerance = 2 * egl::test::extreme_rounding(problem);
  egl::PosteriorWorkspace workspace;
  std::vector<double> occupancy(problem.log_probs.size());
  bool right = true;
  for (const auto& [labels, answer] : answers) {
    const auto num_labels = static_cast<int64_t>(labels.size());
    const double log_prob =
        isa.has_value()
            ? egl::ctc_posteriors(table, labels.data(), num_labels, problem.blank, *isa, workspace,
                                  occupancy.data())
            : egl::ctc_forward_backward(problem.emissions(), labels.data(), num_labels,
                                        problem.blank, workspace.log_domain, occupancy.data());
    right &= near(log_prob, static_cast<double>(answer.log_prob), tolerance);
    for (size_t i = 0; i < occupancy.size(); ++i) {
      const long double expected = std::exp(answer.log_occupancy[i] - answer.log_prob);
      right &= near(occupancy[i], static_cast<double>(expected), tolerance);
    }
  }
  return right;
}

void check_occupancy(const Problem& problem, const Answers& answers) {
  bool right = occupies(problem, answers, std::nullopt);
  if (!right) std::printf("  failed: the log domain\n");
  for (const egl::Isa isa : egl::available_isas()) {
    if (occupies(problem, answers, isa)) continue;
    std::printf("  failed: %s\n", egl::name_of(isa));
    right = false;
  }
  CHECK(right);
  if (!right) describe(problem);
}

void check(const Problem& problem, std::mt19937& random) {
  const Answers answers = egl::test::enumerate_answers(problem);
  bool right = true;
  const auto expect = [&](bool holds, const char* what) {
    if (!holds) std::printf("  failed: %s\n", what);
    right &= holds;
  };
  expect(finds_all(problem, answers, kUnlimited), "finds all");
  expect(finds_all(problem, answers, egl::test::widest_beam(problem)), "finds all, just so wide");
  expect(fills_a_narrow_beam(problem, answers, 1 + static_cast<int64_t>(random() % 8)),
         "fills a narrow beam");
  CHECK(right);
  if (!right) describe(problem);
  check_occupancy(problem, answers);
}

}  // namespace

// A repeat needs a blank before it, whose mass is e^-900 of the prefix's by then.
EGL_TEST(one_of_a_prefixs_two_masses_underflows) {
  std::mt19937 random(1);
  const Problem problem{5, 2, 1, {-300, 0, -300, 0, -300, 0, 0, -300, 0, -300}};
  CHECK(egl::ctc_beam_search(problem.emissions(), {8, 8, 1}).size() == 4);
  check(problem, random);
}

// An emission underflows before it is scaled by the little that is left.
EGL_TEST(an_emission_underflows_beside_a_faint_beam) {
  const Problem problem{2, 1, 0, {-660, -1102}};
  const auto found = egl::ctc_beam_search(problem.emissions(), {4, 4, 0});
  CHECK(found.size() == 1 && found[0].log_prob == -1762.0 && found[0].search_log_prob == -1762.0);
}

// See posterior_cases.h. Not all of these are probabilities, so there is no search.
EGL_TEST(what_the_linear_domain_loses) {
  using namespace egl::test;
  for (const Problem& problem :
       {underflowing_problem(), problem_on_which_directions_disagree(),
        problem_with_a_denormal_sum(), problem_beyond_probabilities(), problem_of_a_tiny_total()}) {
    check_occupancy(problem, enumerate_answers(problem));
  }
}

EGL_TEST(random_problems) {
  std::mt19937 random(20261126);
  const int64_t count = egl::test::num_fuzzed(600);
  for (int64_t i = 0; i < count; ++i) check(egl::test::extreme_problem(random, 6, 5), random);
}

EGL_TEST_MAIN()
