#include "csrc/core/ctc_forward_backward.h"
#include "csrc/test/random_problem.h"
#include "csrc/test/test.h"

using egl::kNegInf;
using egl::test::Labeling;
using egl::test::near;
using egl::test::Problem;

namespace {

struct Result {
  double log_prob;
  std::vector<double> occupancy;
};

Result forward_backward(const Problem& problem, const Labeling& labels) {
  static egl::ForwardBackwardWorkspace
      workspace;  // reused on purpose: nothing may leak between calls
  Result result{0.0, std::vector<double>(problem.log_probs.size(), -1.0)};
  result.log_prob = egl::ctc_forward_backward(problem.emissions(), labels.data(),
                                              static_cast<int64_t>(labels.size()), problem.blank,
                                              workspace, result.occupancy.data());
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
  CHECK(result.log_prob == -2 - 4 - 0.5);
  for (int64_t t = 0; t < 3; ++t) {
    const int64_t aligned[] = {2, 1, 3};
    for (int64_t c = 0; c < 4; ++c) {
      CHECK(result.occupancy[t * 4 + c] == (c == aligned[t] ? 1.0 : 0.0));
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
  Problem problem{num_frames, 2, 0, {}};
  for (int64_t i = 0; i < num_frames * 2; ++i) problem.log_probs.push_back(-5.0);
  const auto result = forward_backward(problem, {1});
  // The label may fill any run of frames.
  const double alignments = 0.5 * num_frames * (num_frames + 1);
  const double expected = -5.0 * num_frames + std::log(alignments);
  // As rounding(), for numbers up to 5 a frame.
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

EGL_TEST_MAIN()
