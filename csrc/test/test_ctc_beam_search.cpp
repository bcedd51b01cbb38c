#include <algorithm>

#include "csrc/core/ctc_beam_search.h"
#include "csrc/core/semiring.h"
#include "csrc/test/plain_search.h"
#include "csrc/test/random_problem.h"
#include "csrc/test/test.h"

using egl::BeamSearchOptions;
using egl::kNegInf;
using egl::PrefixTree;
using egl::test::fast_search;
using egl::test::Labeling;
using egl::test::plain_search;
using egl::test::Problem;
using egl::test::Ranked;

namespace {

constexpr int64_t kUnlimited = int64_t{1} << 40;

// The same labelings in the same order, ties included. Their masses: to the bit in the log domain;
// in the linear domain that is said of the masses, and their logarithm is rounded after scaling.
void check_searches(const Problem& problem, int64_t width) {
  CHECK(fast_search<egl::LogMass>(problem, width) == plain_search<egl::LogMass>(problem, width));
  const Ranked fast = fast_search<egl::LinearMass>(problem, width);
  const Ranked plain = plain_search<egl::LinearMass>(problem, width);
  CHECK(fast.size() == plain.size());
  for (size_t i = 0; i < std::min(fast.size(), plain.size()); ++i) {
    CHECK(fast[i].first == plain[i].first);
    CHECK(egl::test::near(fast[i].second, plain[i].second, egl::test::rounding(problem)));
  }
}

}  // namespace

EGL_TEST(equals_the_plain_search_to_the_bit) {
  std::mt19937 random(20260101);
  for (int i = 0; i < 4000; ++i) {
    const auto num_frames = std::uniform_int_distribution<int64_t>(0, 12)(random);
    const auto num_classes = std::uniform_int_distribution<int64_t>(1, 9)(random);
    const auto width = std::uniform_int_distribution<int64_t>(1, 24)(random);
    // Few levels make ties, many make generic numbers.
    const int num_levels = i % 2 == 0 ? 2 : 1000;
    const Problem problem = egl::test::random_problem(random, num_frames, num_classes, num_levels);
    check_searches(problem, width);
  }
}

// All classes equally likely: every comparison is a tie.
EGL_TEST(equals_the_plain_search_on_uniform_frames) {
  for (int64_t width = 1; width < 40; ++width) {
    const Problem problem{7, 4, width % 4, std::vector<double>(28, -std::log(4.0))};
    check_searches(problem, width);
    // Many more ties than places.
    const Problem flat{4, 30, width % 30, std::vector<double>(120, -std::log(30.0))};
    check_searches(flat, width);
  }
}

EGL_TEST(unlimited_width_equals_enumeration) {
  std::mt19937 random(7);
  for (int i = 0; i < 300; ++i) {
    const auto num_frames = std::uniform_int_distribution<int64_t>(0, 5)(random);
    const auto num_classes = std::uniform_int_distribution<int64_t>(1, 4)(random);
    const Problem problem = egl::test::random_problem(random, num_frames, num_classes, 4);
    const auto expected = egl::test::enumerate_labelings(problem);
    const auto found =
        egl::ctc_beam_search(problem.emissions(), {kUnlimited, kUnlimited, problem.blank});
    CHECK(found.size() == expected.size());
    double before = std::numeric_limits<double>::infinity();
    for (const auto& hypothesis : found) {
      const auto entry = expected.find(hypothesis.labels);
      CHECK(entry != expected.end());
      if (entry == expected.end()) continue;
      const double tolerance = egl::test::rounding(problem);
      CHECK(egl::test::near(hypothesis.log_prob, std::log(entry->second), tolerance));
      CHECK(egl::test::near(hypothesis.search_log_prob, hypothesis.log_prob, tolerance));
      CHECK(hypothesis.log_prob <= before);
      before = hypothesis.log_prob;
    }
  }
}

EGL_TEST(search_is_a_lower_bound_and_ranking_is_exact) {
  std::mt19937 random(11);
  for (int i = 0; i < 200; ++i) {
    const Problem problem = egl::test::random_problem(random, 6, 4, 1000);
    const auto expected = egl::test::enumerate_labelings(problem);
    const auto found = egl::ctc_beam_search(problem.emissions(), {3, 5, problem.blank});
    CHECK(found.size() <= 3);
    for (const auto& hypothesis : found) {
      const double tolerance = egl::test::rounding(problem);
      CHECK(egl::test::near(hypothesis.log_prob, std::log(expected.at(hypothesis.labels)),
                            tolerance));
      CHECK(hypothesis.search_log_prob <= hypothesis.log_prob + tolerance);
    }
    CHECK(std::is_sorted(found.begin(), found.end(),
                         [](const auto& a, const auto& b) { return a.log_prob > b.log_prob; }));
  }
}

EGL_TEST(no_frames_means_the_empty_labeling) {
  const Problem problem{0, 3, 1, {}};
  const auto found = egl::ctc_beam_search(problem.emissions(), {4, 4, 1});
  CHECK(found.size() == 1 && found[0].labels.empty() && found[0].log_prob == 0.0);
}

EGL_TEST(an_impossible_frame_leaves_nothing) {
  const Problem problem{2, 2, 0, {-0.1, -2.0, kNegInf, kNegInf}};
  CHECK(egl::ctc_beam_search(problem.emissions(), {4, 4, 0}).empty());
}

// More classes than the widest row has steps, many of them tied with the last that it needs.
EGL_TEST(tokens_are_selected_with_their_ties) {
  std::mt19937 random(23);
  for (int i = 0; i < 300; ++i) {
    const auto width = std::uniform_int_distribution<int64_t>(1, 6)(random);
    const int num_levels = i % 2 == 0 ? 3 : 1000;
    check_searches(egl::test::random_problem(random, 4, 40, num_levels), width);
  }
}

// Probabilities too small for a double are found in the log domain.
EGL_TEST(improbable_prefixes_are_not_lost) {
  Problem problem{12, 3, 0, {}};
  for (int t = 0; t < 12; ++t)
    problem.log_probs.insert(problem.log_probs.end(), {-1e-3, -90., -95.});
  PrefixTree tree;
  const BeamSearchOptions all{kUnlimited, kUnlimited, 0};
  CHECK(!egl::ctc_prefix_search_in<egl::LinearMass>(problem.emissions(), all, tree).has_value());
  problem.num_frames = 6;  // e^-570 is the least: no need
  problem.log_probs.resize(18);
  PrefixTree other;
  CHECK(egl::ctc_prefix_search_in<egl::LinearMass>(problem.emissions(), all, other).has_value());

  // All that is lost is a prefix that stays, and its mass as a double is zero.
  const Problem lost_stay{2, 3, 0, {-1e-3, -380, kNegInf, -380, kNegInf, -1e-3}};
  const auto all_of_it = egl::ctc_beam_search(lost_stay.emissions(), {10, 10, 0});
  CHECK(all_of_it.size() == 4 && egl::test::near(all_of_it[3].log_prob, -760.0, 1e-9));

  const Problem unlikely_blank{1, 2, 0, {-800, -1e-3}};
  CHECK(egl::ctc_beam_search(unlikely_blank.emissions(), {10, 10, 0}).size() == 2);
  const Problem extreme{2, 3, 0, {-1500, -0.5, -1000, -0.5, -1500, -2000}};
  const auto found = egl::ctc_beam_search(extreme.emissions(), {10, 10, 0});
  CHECK(found.size() == 5);  // at most two labels, and no repeats: these need a third frame
  for (const auto& hypothesis : found) {
    CHECK(egl::test::near(hypothesis.log_prob, hypothesis.search_log_prob, 1e-9));
  }
}

// Long and unsure: the exact probabilities are too small for a double.
EGL_TEST(long_utterances_are_ranked_in_the_log_domain) {
  Problem problem{900, 3, 0, {}};
  std::mt19937 random(29);
  for (int i = 0; i < 2700; ++i) problem.log_probs.push_back(-2.1 - 1e-3 * (random() % 100));
  const auto found = egl::ctc_beam_search(problem.emissions(), {5, 20, 0});
  CHECK(found.size() == 5 && found[0].log_prob < -720.0);
  for (const auto& hypothesis : found) CHECK(hypothesis.search_log_prob <= hypothesis.log_prob);
}

// Callers refuse these; the search only has to end.
EGL_TEST(any_numbers_end_the_search) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  std::mt19937 random(31);
  const double values[] = {kInf, kNan, 800.0, 1e300, 0.0, -1.0, -800.0, kNegInf};
  for (int i = 0; i < 300; ++i) {
    Problem problem{5, 6, 0, {}};
    for (int j = 0; j < 30; ++j) problem.log_probs.push_back(values[random() % std::size(values)]);
    egl::ctc_beam_search(problem.emissions(), {3, 4, 0});
    egl::ctc_beam_search(problem.emissions(), {kUnlimited, kUnlimited, 0});
  }
  const Problem overflow{2, 2, 0, {0, 0, 0, 800}};
  egl::ctc_beam_search(overflow.emissions(), {4, 4, 0});
}

// No width is too large: memory is taken only for what is found.
EGL_TEST(the_widest_beam) {
  std::mt19937 random(37);
  constexpr int64_t kWidest = std::numeric_limits<int64_t>::max();
  const Problem problem = egl::test::random_problem(random, 4, 4, 1000);
  CHECK(egl::ctc_beam_search(problem.emissions(), {kWidest, kWidest, problem.blank}).size() ==
        egl::ctc_beam_search(problem.emissions(), {1000, 1000, problem.blank}).size());
}

EGL_TEST(strides_are_followed) {
  std::mt19937 random(3);
  const Problem problem = egl::test::random_problem(random, 5, 4, 1000);
  std::vector<float> transposed(20);
  std::vector<float> rounded(20);
  for (size_t t = 0; t < 5; ++t) {
    for (size_t c = 0; c < 4; ++c) {
      rounded[t * 4 + c] = static_cast<float>(problem.log_probs[t * 4 + c]);
      transposed[c * 5 + t] = rounded[t * 4 + c];
    }
  }
  const BeamSearchOptions options{5, 10, problem.blank};
  const auto by_row =
      egl::ctc_beam_search(egl::Emissions<float>{rounded.data(), 5, 4, 4, 1}, options);
  const auto by_column =
      egl::ctc_beam_search(egl::Emissions<float>{transposed.data(), 5, 4, 1, 5}, options);
  CHECK(by_row.size() == by_column.size() && !by_row.empty());
  for (size_t i = 0; i < by_row.size(); ++i) {
    CHECK(by_row[i].labels == by_column[i].labels && by_row[i].log_prob == by_column[i].log_prob);
  }
}

EGL_TEST_MAIN()
