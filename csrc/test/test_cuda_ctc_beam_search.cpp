// The emulated search against the core's: the same labelings in the same order, with the same
// log-probabilities to the bit.
#include <algorithm>

#include "csrc/core/ctc_beam_search.h"
#include "csrc/cuda/ctc_beam_search.h"
#include "csrc/test/ctc_batch.h"
#include "csrc/test/emulated.h"
#include "csrc/test/extreme_problem.h"

using egl::kNegInf;
using egl::test::Batch;
using egl::test::Problem;

namespace {

// A barrier takes five times as long under the thread sanitizer.
#ifdef __SANITIZE_THREAD__
constexpr int kRandomBatches = 8;
#else
constexpr int kRandomBatches = 60;
#endif

struct Found {
  std::vector<int64_t> labels;
  std::vector<int64_t> lengths;
  std::vector<double> log_prob;
  std::vector<double> search_log_prob;
  std::vector<int64_t> counts;
};

template <typename Scalar>
Found emulated(const Batch<Scalar>& batch, int64_t blank, int64_t num_hypotheses, int64_t width) {
  const int64_t slots = batch.num_utterances() * num_hypotheses;
  Found found{std::vector<int64_t>(slots * batch.max_frames(), -2), std::vector<int64_t>(slots, -2),
              std::vector<double>(slots, 1.0), std::vector<double>(slots, 1.0),
              std::vector<int64_t>(batch.num_utterances(), -2)};
  const size_t bytes = egl::cuda::device_bytes_of<egl::cuda::BeamSearchMemory>(
      batch.num_utterances(), batch.max_frames(), batch.num_classes(), width);
  std::vector<uint64_t> memory(bytes / 8 + 1, 0xcdcdcdcdcdcdcdcd);
  egl::cuda::beam_search(batch.emissions(), blank, width, memory.data(),
                         {num_hypotheses, found.labels.data(), found.lengths.data(),
                          found.log_prob.data(), found.search_log_prob.data(), found.counts.data()},
                         nullptr);
  return found;
}

template <typename Scalar>
Batch<Scalar> batch_of(const std::vector<Problem>& problems, int64_t class_stride) {
  std::vector<egl::test::Utterance> utterances;
  for (const Problem& problem : problems) utterances.push_back({problem, {}});
  return Batch<Scalar>(utterances, 1, class_stride);
}

template <typename Scalar>
void check_batch(const std::vector<Problem>& problems, int64_t num_hypotheses, int64_t width,
                 int64_t class_stride = 1) {
  const Batch<Scalar> batch = batch_of<Scalar>(problems, class_stride);
  const int64_t blank = problems[0].blank;
  const Found found = emulated(batch, blank, num_hypotheses, width);
  for (int64_t n = 0; n < batch.num_utterances(); ++n) {
    const auto expected =
        egl::ctc_beam_search(batch.emissions().utterance(n), {num_hypotheses, width, blank});
    CHECK(found.counts[n] == static_cast<int64_t>(expected.size()));
    if (found.counts[n] != static_cast<int64_t>(expected.size())) continue;
    for (int64_t k = 0; k < num_hypotheses; ++k) {
      const int64_t slot = n * num_hypotheses + k;
      const int64_t* labels = found.labels.data() + slot * batch.max_frames();
      egl::test::Labeling got(labels, labels + found.lengths[slot]);
      const bool there = k < found.counts[n];
      CHECK(got == (there ? expected[k].labels : egl::test::Labeling()));
      CHECK(found.log_prob[slot] == (there ? expected[k].log_prob : kNegInf));
      CHECK(found.search_log_prob[slot] == (there ? expected[k].search_log_prob : kNegInf));
      CHECK(std::all_of(labels + found.lengths[slot], labels + batch.max_frames(),
                        [](int64_t label) { return label == -1; }));
    }
  }
}

std::vector<Problem> random_batch(std::mt19937& random, int64_t num_utterances, int64_t max_frames,
                                  int64_t num_classes, int num_levels) {
  std::vector<Problem> problems;
  for (int64_t n = 0; n < num_utterances; ++n) {
    const auto num_frames = std::uniform_int_distribution<int64_t>(0, max_frames)(random);
    problems.push_back(egl::test::random_problem(random, num_frames, num_classes, num_levels));
    problems.back().blank = problems[0].blank;
  }
  return problems;
}

// As a model's output: frames that sum to one, most of it on one class.
Problem peaked_problem(std::mt19937& random, int64_t num_frames, int64_t num_classes,
                       int64_t blank) {
  Problem problem{num_frames, num_classes, blank, {}};
  std::normal_distribution<double> normal;
  for (int64_t t = 0; t < num_frames; ++t) {
    std::vector<double> logits;
    for (int64_t c = 0; c < num_classes; ++c) logits.push_back(3.0 * normal(random));
    logits[blank] += 4.0;
    const double total = egl::log_sum_exp(logits.data(), num_classes);
    for (const double value : logits) problem.log_probs.push_back(value - total);
  }
  return problem;
}

}  // namespace

EGL_TEST(random_batches) {
  std::mt19937 random(20261125);
  for (int i = 0; i < kRandomBatches; ++i) {
    const auto num_classes = std::uniform_int_distribution<int64_t>(1, 9)(random);
    const auto width = std::uniform_int_distribution<int64_t>(1, 24)(random);
    const int num_levels = i % 2 == 0 ? 2 : 1000;
    check_batch<double>(random_batch(random, 3, 10, num_classes, num_levels), (width + 1) / 2,
                        width, 1 + i % 2);
  }
}

// EGL_FUZZ=5000 tries as many problems.
EGL_TEST(extreme_problems) {
  std::mt19937 random(20261126);
  const int64_t count = egl::test::num_fuzzed(kRandomBatches / 4);
  for (int64_t i = 0; i < count; ++i) {
    const Problem problem = egl::test::extreme_problem(random, 5, 4);
    const int64_t width = i % 2 == 0 ? 400 : 1 + static_cast<int64_t>(random() % 8);
    check_batch<double>({problem}, width, width);
  }
}

// One of a prefix's two masses underflows; an emission does beside the little that is left.
EGL_TEST(what_underflows_is_found_by_logarithms) {
  check_batch<double>({{5, 2, 1, {-300, 0, -300, 0, -300, 0, 0, -300, 0, -300}}}, 8, 8);
  check_batch<double>({{2, 1, 0, {-660, -1102}}}, 4, 4);
}

EGL_TEST(uniform_frames_are_all_ties) {
  for (const int64_t width : {1, 2, 5, 17, 39}) {
    check_batch<double>({{7, 4, width % 4, std::vector<double>(28, -std::log(4.0))}}, width, width);
  }
}

EGL_TEST(tokens_are_selected_with_their_ties) {
  std::mt19937 random(23);
  for (int i = 0; i < 16; ++i) {
    const auto width = std::uniform_int_distribution<int64_t>(1, 6)(random);
    check_batch<float>(random_batch(random, 2, 4, 40, i % 2 == 0 ? 3 : 1000), width, width);
  }
}

// Found among 40,000 random problems: the only one where a tie outside the staircase comes first in
// labeling order.
EGL_TEST(a_tie_outside_the_staircase) {
  std::mt19937 random(320);
  check_batch<double>(random_batch(random, 1, 5, 6, 1), 7, 7);
}

EGL_TEST(no_frames_and_impossible_frames) {
  check_batch<double>({{0, 3, 1, {}}}, 4, 4);
  check_batch<double>({{2, 2, 0, {-0.1, -2.0, kNegInf, kNegInf}}, {1, 2, 0, {-0.1, -2.0}}}, 4, 4);
  check_batch<double>({{1, 3, 1, {-1.0, -2.0, -0.5}}}, 1, 1);
}

// The linear domain fails, and the block starts over in the log domain.
EGL_TEST(improbable_prefixes_are_not_lost) {
  Problem problem{12, 3, 0, {}};
  for (int t = 0; t < 12; ++t) {
    problem.log_probs.insert(problem.log_probs.end(), {-1e-3, -90., -95.});
  }
  check_batch<double>({problem}, 60, 60);
  check_batch<double>({{1, 2, 0, {-800, -1e-3}}}, 10, 10);
  // All that is lost is a prefix that stays.
  check_batch<double>({{2, 3, 0, {-1e-3, -380, kNegInf, -380, kNegInf, -1e-3}}}, 10, 10);
  check_batch<double>({{2, 3, 0, {-1500, -0.5, -1000, -0.5, -1500, -2000}}}, 10, 10);
}

EGL_TEST(long_and_unsure_is_ranked_in_the_log_domain) {
  Problem problem{100, 3, 0, {}};
  std::mt19937 random(29);
  for (int i = 0; i < 300; ++i) problem.log_probs.push_back(-8.0 - 1e-3 * (random() % 100));
  check_batch<double>({problem}, 3, 4);
}

EGL_TEST(blank_in_the_middle_of_many_classes) {
  std::mt19937 random(31);
  check_batch<float>({peaked_problem(random, 6, 10'000, 5'000)}, 8, 8);
}

EGL_TEST(as_wide_as_it_gets) {
  std::mt19937 random(37);
  check_batch<float>({peaked_problem(random, 3, 29, 0)}, 1024, 1024);
}

EGL_TEST(as_speech) {
  std::mt19937 random(41);
  check_batch<float>({peaked_problem(random, 30, 29, 0), peaked_problem(random, 11, 29, 0)}, 20,
                     32);
}

EGL_TEST(a_device_with_less_shared_memory_refuses_by_name) {
  const egl::test::OptionsScope scope;
  egl::emulator::options().shared_memory_limit = size_t{64} << 10;
  std::string said;
  try {
    std::mt19937 random(43);
    emulated(batch_of<double>({peaked_problem(random, 2, 3, 0)}, 1), 0, 1024, 1024);
  } catch (const std::runtime_error& error) {
    said = error.what();
  }
  CHECK(said.find("prefix_search needs") == 0);
}

EGL_EMULATED_TEST_MAIN()
