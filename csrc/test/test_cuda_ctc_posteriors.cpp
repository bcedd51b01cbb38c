// Occupancy and cotangents from emulated kernels, against the core.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "csrc/core/ctc_posteriors.h"
#include "csrc/cuda/ctc_posteriors.h"
#include "csrc/test/ctc_batch.h"
#include "csrc/test/emulated.h"
#include "csrc/test/extreme_problem.h"
#include "csrc/test/posterior_cases.h"

using egl::kNegInf;
using egl::cuda::PosteriorKind;
using egl::test::Batch;
using egl::test::Labeling;
using egl::test::Posteriors;
using egl::test::Problem;
using egl::test::Utterance;

namespace {

// A barrier takes five times as long under the thread sanitizer.
#ifdef __SANITIZE_THREAD__
constexpr int64_t kExtremeProblems = 8;
#else
constexpr int64_t kExtremeProblems = 60;
#endif

constexpr size_t kPlenty = size_t{1} << 30;
constexpr double kEpsilon = std::numeric_limits<double>::epsilon();

template <typename Out>
struct Result {
  std::vector<double> log_prob;  // [N, K]
  std::vector<Out> rows;         // [N, K, T, C]
};

template <typename Out>
bool operator==(const Result<Out>& a, const Result<Out>& b) {
  return a.log_prob == b.log_prob && a.rows == b.rows;
}

// Memory is filled with values that would be noticed in results.
template <PosteriorKind kKind, typename Out, typename In>
Result<Out> run(const Batch<In>& batch, int64_t blank, size_t scratch_bytes = kPlenty) {
  const int64_t num_slots = batch.num_utterances() * batch.num_slots();
  Result<Out> result{
      std::vector<double>(num_slots, 77.0),
      std::vector<Out>(num_slots * batch.max_frames() * batch.num_classes(), Out{77})};
  const size_t bytes = egl::cuda::ctc_posteriors_workspace_bytes(
      batch.num_utterances(), batch.max_frames(), batch.num_classes(), batch.num_slots(),
      batch.capacity(), scratch_bytes);
  std::vector<double> workspace(bytes / sizeof(double));
  CHECK(workspace.size() * sizeof(double) == bytes);
  std::memset(workspace.data(), 0xff, bytes);
  egl::cuda::ctc_posteriors<kKind>(
      batch.emissions(), batch.labelings(), blank,
      egl::cuda::PosteriorOutput<Out>{result.log_prob.data(), result.rows.data()}, workspace.data(),
      bytes, nullptr);
  return result;
}

// The core's, from the very numbers that are in the batch.
template <typename In>
Posteriors of_core(Batch<In>& batch, int64_t n, int64_t k, int64_t blank) {
  const auto emissions = batch.emissions().utterance(n);
  std::vector<double> log_probs;
  for (int64_t t = 0; t < emissions.num_frames; ++t) {
    for (int64_t c = 0; c < emissions.num_classes; ++c) log_probs.push_back(emissions(t, c));
  }
  Posteriors result{0.0, std::vector<double>(log_probs.size())};
  const egl::ProbabilityTable table(std::move(log_probs), emissions.num_frames,
                                    emissions.num_classes);
  egl::PosteriorWorkspace workspace;
  const auto labelings = batch.labelings();
  result.log_prob =
      egl::ctc_posteriors(table, labelings.labeling(n, k), labelings.length(n, k), blank,
                          egl::Isa::kBaseline, workspace, result.occupancy.data());
  return result;
}

// Log-probabilities are equal to the bit. A share of a frame's mass is divided by sums over up to
// 2U + 1 states in another order, each of which rounds so many times at most; then it is rounded
// for the output.
template <PosteriorKind kKind, typename Out, typename In>
void check_against_the_core(Batch<In>& batch, int64_t blank) {
  const Result<Out> result = run<kKind, Out>(batch, blank);
  const int64_t num_classes = batch.num_classes();
  const auto labelings = batch.labelings();
  for (int64_t n = 0; n < batch.num_utterances(); ++n) {
    for (int64_t k = 0; k < batch.num_slots(); ++k) {
      const int64_t slot = n * batch.num_slots() + k;
      Posteriors expected{kNegInf, {}};
      if (k < labelings.count(n)) expected = of_core(batch, n, k, blank);
      CHECK(result.log_prob[slot] == expected.log_prob);
      const double tolerance =
          2.0 * (2.0 * static_cast<double>(labelings.length(n, k)) + 4.0) * kEpsilon +
          std::numeric_limits<Out>::epsilon();
      for (int64_t t = 0; t < batch.max_frames(); ++t) {
        const Out* row = &result.rows[(slot * batch.max_frames() + t) * num_classes];
        for (int64_t c = 0; c < num_classes; ++c) {
          double entry = 0.0;
          if (expected.log_prob > kNegInf && t < batch.lengths[n]) {
            entry = expected.occupancy[t * num_classes + c];
            if (kKind == PosteriorKind::kCotangents) {
              entry = std::exp(static_cast<double>(batch.value(n, t, c))) - entry;
            }
          }
          // Exact zeros are zeros, as on padding.
          CHECK(entry == 0.0 ? row[c] == 0 : egl::test::near(row[c], entry, tolerance));
        }
      }
    }
  }
}

// What operators are made of.
template <typename In>
void check_all_kinds(const std::vector<Utterance>& utterances, int64_t blank,
                     int64_t class_stride = 1) {
  Batch<In> batch(utterances, 1, class_stride);
  check_against_the_core<PosteriorKind::kOccupancy, In>(batch, blank);
  check_against_the_core<PosteriorKind::kCotangents, float>(batch, blank);
  check_against_the_core<PosteriorKind::kCotangents, double>(batch, blank);
}

// As long as they may be and longer, with and without repeats, and the empty one.
std::vector<Labeling> labelings_of(std::mt19937& random, const Problem& problem) {
  std::vector<Labeling> labelings{{}};
  for (int64_t num_labels = 1; num_labels <= problem.num_frames + 1; ++num_labels) {
    if (problem.num_classes == 1) break;
    Labeling labels = egl::test::random_labeling(random, num_labels, problem.num_classes);  // not 0
    for (int64_t& label : labels) label = label == problem.blank ? 0 : label;
    labelings.push_back(labels);
  }
  return labelings;
}

// A ragged batch of small problems, each with labelings of all lengths.
std::vector<Utterance> ragged_batch(int64_t num_classes, int64_t blank) {
  std::mt19937 random(17);
  std::vector<Utterance> utterances;
  for (const int64_t num_frames : {3, 1, 0, 5, 2}) {
    Problem problem = egl::test::random_problem(random, num_frames, num_classes, 4);
    problem.blank = blank;
    utterances.push_back({problem, labelings_of(random, problem)});
  }
  return utterances;
}

}  // namespace

EGL_TEST(ragged_batches_with_any_blank) {
  check_all_kinds<double>(ragged_batch(1, 0), 0);
  check_all_kinds<double>(ragged_batch(2, 1), 1, 2);
  check_all_kinds<float>(ragged_batch(5, 3), 3);
  for (const int64_t blank : {0, 4}) {
    Batch<double> batch(ragged_batch(5, blank));
    check_against_the_core<PosteriorKind::kOccupancy, double>(batch, blank);
  }
}

// On either side of what a warp's lanes take at a time, labels that repeat, emissions from flat to
// almost certain.
EGL_TEST(labelings_wider_than_a_warp) {
  std::mt19937 random(11);
  for (const double sure : {0.1, 20.0}) {
    Utterance utterance{egl::test::long_problem(random, 70, 6, sure), {}};
    for (const int64_t num_labels : {0, 31, 32, 65}) {
      utterance.labelings.push_back(egl::test::random_labeling(random, num_labels, 6));
    }
    Batch<double> batch({utterance});
    check_against_the_core<PosteriorKind::kOccupancy, double>(batch, 0);
  }
}

EGL_TEST(ten_thousand_classes) {
  std::mt19937 random(23);
  const Problem problem = egl::test::long_problem(random, 3, 10000, 3.0);
  Labeling all = egl::test::random_labeling(random, 3, 10000);
  check_all_kinds<float>({{problem, {{}, {9999}, {9999, 1, 9999}, all}}}, 0);
}

EGL_TEST(a_thousand_and_24_labelings) {
  std::mt19937 random(29);
  Utterance utterance{egl::test::long_problem(random, 1, 40, 1.0), {}};
  for (int64_t k = 0; k < 1024; ++k) {
    utterance.labelings.push_back(egl::test::random_labeling(random, k % 2, 40));
  }
  Batch<float> batch({utterance}, 0);
  check_against_the_core<PosteriorKind::kOccupancy, float>(batch, 0);
}

// All of it in the log domain, which does the same operations.
EGL_TEST(emissions_that_underflow) {
  Problem problem = egl::test::underflowing_problem();
  check_all_kinds<double>({{problem, {{1, 2}, {2, 1}, {1}, {2, 2}, {}}}}, 0);
  // The other utterances of the batch stay where they are.
  std::mt19937 random(31);
  check_all_kinds<double>({{egl::test::long_problem(random, 4, 3, 1.0), {{2}, {1, 2}}},
                           {problem, {{1, 2}}},
                           {egl::test::long_problem(random, 3, 3, 1.0), {{1}, {}}}},
                          0);
}

// Longer than a warp is wide, with labels that repeat.
EGL_TEST(the_log_domain_in_a_wide_labeling) {
  std::mt19937 random(37);
  Problem problem = egl::test::long_problem(random, 50, 4, 1.0);
  problem.log_probs[4 * 40] = -1000.0;
  check_all_kinds<double>({{problem, {egl::test::random_labeling(random, 40, 4), {1, 1}}}}, 0);
}

// EGL_FUZZ=5000 tries as many problems.
EGL_TEST(extreme_problems) {
  std::mt19937 random(20261126);
  const int64_t count = egl::test::num_fuzzed(kExtremeProblems);
  for (int64_t i = 0; i < count; ++i) {
    Utterance utterance{egl::test::extreme_problem(random, 4, 4), {}};
    for (const auto& [labels, answer] : egl::test::enumerate_answers(utterance.problem)) {
      if (random() % 2 == 0) utterance.labelings.push_back(labels);
    }
    Batch<double> batch({utterance});
    check_against_the_core<PosteriorKind::kOccupancy, double>(batch, utterance.problem.blank);
  }
}

// Problems of which the linear domain loses something: see posterior_cases.h.
EGL_TEST(what_the_linear_domain_loses) {
  using namespace egl::test;
  const Utterance cases[] = {
      {problem_that_loses_mass(), {{1, 2, 3}, {3}, {1, 1, 3}}},
      {problem_that_both_directions_lose(), {{1, 2, 3}}},
      {problem_of_a_tiny_total(), {{1, 2}}},
      {problem_on_which_directions_disagree(), {{1, 2}, {2}}},
      {problem_with_a_denormal_sum(), {{1}, {}}},
      {problem_beyond_probabilities(), {{1, 2, 1}, {2}}},
      {astronomically_improbable_problem(40), {{}, {1}, {2}, {1, 2}}},
      {improbable_problem(300), {{1}}},
  };
  for (const Utterance& utterance : cases) {
    Batch<double> batch({utterance});
    check_against_the_core<PosteriorKind::kOccupancy, double>(batch, 0);
    check_against_the_core<PosteriorKind::kCotangents, double>(batch, 0);
  }
}

// A single warp that reuses one slice gives the same results as many warps. A labeling that is much
// too long takes no more room than others.
EGL_TEST(results_do_not_depend_on_scratch_memory) {
  std::mt19937 random(41);
  std::vector<Utterance> utterances = ragged_batch(5, 3);
  utterances[3].problem.log_probs[7] = -1000.0;  // some in the log domain
  utterances[1].labelings.push_back(Labeling(40, 1));
  const Batch<double> batch(utterances);
  const auto expected = run<PosteriorKind::kOccupancy, double>(batch, 3);
  for (const size_t bytes : {0, 2000, 5000}) {
    CHECK((run<PosteriorKind::kOccupancy, double>(batch, 3, bytes)) == expected);
  }
}

// Negative counts are what the fused operator gives utterances that it refuses.
EGL_TEST(utterances_without_labelings) {
  Batch<double> batch(ragged_batch(5, 3));
  batch.counts = {3, -1, 0, 2, 100};
  batch.label_lengths[4 * batch.num_slots() + batch.num_slots() - 1] = 0;
  check_against_the_core<PosteriorKind::kOccupancy, double>(batch, 3);
  batch.counts.assign(5, -1);
  check_against_the_core<PosteriorKind::kCotangents, double>(batch, 3);
}

EGL_TEST(a_range_of_utterances) {
  const Batch<double> batch(ragged_batch(5, 3));
  const auto all = run<PosteriorKind::kCotangents, double>(batch, 3);
  const int64_t first = 3;
  const int64_t count = 2;
  const int64_t num_slots = batch.num_slots();
  const int64_t rows = num_slots * batch.max_frames() * batch.num_classes();
  std::vector<double> log_prob(count * num_slots, 77.0);
  std::vector<double> cotangents(count * rows, 77.0);
  const size_t bytes = egl::cuda::ctc_posteriors_workspace_bytes(
      count, batch.max_frames(), batch.num_classes(), num_slots, batch.capacity(), kPlenty);
  std::vector<double> workspace(bytes / sizeof(double));
  egl::cuda::ctc_posteriors<PosteriorKind::kCotangents>(
      batch.emissions().slice(first, count), batch.labelings().slice(first, count), 3,
      egl::cuda::PosteriorOutput<double>{log_prob.data(), cotangents.data()}, workspace.data(),
      bytes, nullptr);
  CHECK(std::equal(log_prob.begin(), log_prob.end(), all.log_prob.begin() + first * num_slots));
  CHECK(std::equal(cotangents.begin(), cotangents.end(), all.rows.begin() + first * rows));
}

EGL_TEST(nothing_to_do) {
  const Problem problem{2, 3, 0, std::vector<double>(6, -1.0)};
  Batch<double> no_slots({{problem, {}}}, 0);
  CHECK((run<PosteriorKind::kOccupancy, double>(no_slots, 0).log_prob.empty()));
  Batch<double> no_frames({{Problem{0, 3, 0, {}}, {{}, {1}}}}, 0);
  const auto result = run<PosteriorKind::kOccupancy, double>(no_frames, 0);
  CHECK(result.log_prob == std::vector<double>({0.0, kNegInf}));
}

EGL_EMULATED_TEST_MAIN()
