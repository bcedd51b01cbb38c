#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "csrc/core/log_semiring.h"
#include "csrc/cuda/log_softmax.h"
#include "csrc/test/ctc_batch.h"
#include "csrc/test/emulated.h"

using egl::kNegInf;
using egl::cuda::kNothing;
using egl::cuda::Place;
using egl::test::Batch;
using egl::test::Problem;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

struct Result {
  std::vector<double> log_probs;  // [N, T, C]
  Place first_bad_frame = kNothing;
  std::vector<int32_t> bad_utterances;
};

template <typename Scalar>
Result log_softmax(const Batch<Scalar>& batch) {
  Result result;
  result.log_probs.assign(batch.num_utterances() * batch.max_frames() * batch.num_classes(), kNan);
  result.bad_utterances.assign(batch.num_utterances(), -1);
  egl::cuda::log_softmax(batch.emissions(), result.log_probs.data(), &result.first_bad_frame,
                         result.bad_utterances.data(), nullptr);
  return result;
}

Problem random_logits(std::mt19937& random, int64_t num_frames, int64_t num_classes) {
  Problem logits{num_frames, num_classes, 0, {}};
  std::normal_distribution<double> normal(0.0, 5.0);
  for (int64_t i = 0; i < num_frames * num_classes; ++i) {
    logits.log_probs.push_back(i % 7 == 3 && num_classes > 1 ? kNegInf : normal(random));
  }
  return logits;
}

template <typename Scalar>
void equals_the_core(int64_t num_classes, int64_t class_stride) {
  std::mt19937 random(3);
  Batch<Scalar> batch({{random_logits(random, 1, num_classes), {}},
                       {random_logits(random, 4, num_classes), {}},
                       {random_logits(random, 0, num_classes), {}}},
                      1, class_stride);
  const Result result = log_softmax(batch);
  CHECK(result.first_bad_frame == kNothing);
  const double* log_prob = result.log_probs.data();
  for (int64_t n = 0; n < batch.num_utterances(); ++n) {
    CHECK(result.bad_utterances[n] == 0);
    for (int64_t t = 0; t < batch.max_frames(); ++t) {
      const bool padding = t >= batch.lengths[n];
      const double total =
          padding ? 0.0 : egl::log_sum_exp(&batch.value(n, t, 0), num_classes, class_stride);
      // The order of C additions, and what is rounded of numbers up to 100.
      const double tolerance =
          (static_cast<double>(num_classes) + 100.0) * std::numeric_limits<double>::epsilon();
      for (int64_t c = 0; c < num_classes; ++c, ++log_prob) {
        const double expected = padding ? 0.0 : static_cast<double>(batch.value(n, t, c)) - total;
        CHECK(egl::test::near(*log_prob, expected, tolerance));
      }
    }
  }
}

template <typename Scalar>
void shifts_change_nothing(double shift) {
  const Problem logits{1, 3, 0, {shift, shift, kNegInf}};
  const Result result = log_softmax(Batch<Scalar>({{logits, {}}}));
  CHECK(result.bad_utterances[0] == 0);
  CHECK(result.log_probs[0] == -std::log(2.0) && result.log_probs[1] == -std::log(2.0));
  CHECK(result.log_probs[2] == kNegInf);
}

// Four frames of two classes; of the second utterance, two are padding.
Batch<double> small_batch() {
  const Problem long_one{4, 2, 0, std::vector<double>(8, 1.0)};
  const Problem short_one{2, 2, 0, std::vector<double>(4, 1.0)};
  return Batch<double>({{long_one, {}}, {short_one, {}}}, 0);
}

}  // namespace

// Fewer classes than a warp has lanes, more, and so many that a block shares a frame.
EGL_TEST(equals_the_cores_log_softmax) {
  for (const int64_t num_classes : {1, 5, 32, 77, 1024, 1025, 10000}) {
    equals_the_core<float>(num_classes, 1);
    equals_the_core<double>(num_classes, 1);
  }
  equals_the_core<float>(77, 3);
  equals_the_core<double>(1025, 2);
}

EGL_TEST(bad_frames_are_reported_and_become_uniform) {
  const Result good = log_softmax(small_batch());
  CHECK(good.first_bad_frame == kNothing);
  CHECK(good.bad_utterances == std::vector<int32_t>({0, 0}));
  const auto spoil = [](Batch<double>& batch, int64_t n, int64_t t, std::vector<double> values) {
    batch.value(n, t, 0) = values[0];
    batch.value(n, t, 1) = values[1];
  };
  for (const std::vector<double>& values : std::vector<std::vector<double>>{{kNan, 0.0},
                                                                            {0.0, kNan},
                                                                            {kInf, 0.0},
                                                                            {0.0, kInf},
                                                                            {kNegInf, kNegInf},
                                                                            {kNegInf, kNan}}) {
    Batch<double> batch = small_batch();
    spoil(batch, 1, 1, values);
    const Result late = log_softmax(batch);
    CHECK(late.first_bad_frame == 5);
    CHECK(late.bad_utterances == std::vector<int32_t>({0, 1}));
    spoil(batch, 0, 3, values);
    spoil(batch, 0, 2, values);
    const Result early = log_softmax(batch);
    CHECK(early.first_bad_frame == 2);
    CHECK(early.bad_utterances == std::vector<int32_t>({1, 1}));
    for (const size_t i : {4, 5, 6, 7, 10, 11}) CHECK(early.log_probs[i] == -std::log(2.0));
    // One impossible class is not bad.
    spoil(batch, 0, 2, {kNegInf, 3.0});
    spoil(batch, 0, 3, {3.0, kNegInf});
    const Result possible = log_softmax(batch);
    CHECK(possible.first_bad_frame == 5);
    CHECK(possible.log_probs[4] == kNegInf && possible.log_probs[5] == 0.0);
  }
}

EGL_TEST(bad_frames_need_not_be_reported) {
  Batch<double> batch = small_batch();
  batch.value(0, 0, 0) = kNan;
  std::vector<double> log_probs(16, kNan);
  egl::cuda::log_softmax(batch.emissions(), log_probs.data(), nullptr, nullptr, nullptr);
  CHECK(log_probs[0] == -std::log(2.0));
}

EGL_TEST(lengths_out_of_range_are_bad_and_read_nothing) {
  Batch<double> batch = small_batch();
  batch.lengths = {5, -1};
  const Result result = log_softmax(batch);
  CHECK(result.bad_utterances == std::vector<int32_t>({1, 1}));
  for (size_t i = 0; i < 8; ++i) CHECK(egl::test::near(result.log_probs[i], -std::log(2.0), 1e-15));
  for (size_t i = 8; i < 16; ++i) CHECK(result.log_probs[i] == 0.0);
}

EGL_TEST(logits_of_any_size) {
  for (const double shift : {0.0, 1e3, -1e8, 1e16, -1e16, 1e30}) {
    shifts_change_nothing<float>(shift);
    shifts_change_nothing<double>(shift);
  }
  for (const double shift : {1e300, -1e300, 1.7e308, -1.7e308})
    shifts_change_nothing<double>(shift);
}

EGL_EMULATED_TEST_MAIN()
