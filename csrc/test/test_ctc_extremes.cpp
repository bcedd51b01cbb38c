// Search, exact probabilities and occupancy where log-probabilities are extreme, against
// enumeration. EGL_FUZZ=300000 tries as many problems.
#include <cstdio>
#include <optional>

#include "csrc/test/against_enumeration.h"
#include "csrc/test/extreme_problem.h"
#include "csrc/test/posterior_cases.h"
#include "csrc/test/test.h"

using egl::kNegInf;
using egl::test::Answers;
using egl::test::fills_a_narrow_beam;
using egl::test::finds_all;
using egl::test::occupies;
using egl::test::Problem;

namespace {

constexpr int64_t kUnlimited = int64_t{1} << 40;

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
