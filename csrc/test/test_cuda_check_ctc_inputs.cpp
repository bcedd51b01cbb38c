// Bad inputs of every kind are found at their first place, and good ones pass.
#include <cmath>
#include <limits>

#include "csrc/cuda/check_ctc_inputs.h"
#include "csrc/test/ctc_batch.h"
#include "csrc/test/emulated.h"

using egl::cuda::BadCtcInputs;
using egl::cuda::kNothing;
using egl::test::Batch;
using egl::test::Labeling;
using egl::test::Problem;
using egl::test::Utterance;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

// 300 classes: more than a warp has lanes.
template <typename Scalar>
Batch<Scalar> good_batch() {
  const Problem long_one{5, 300, 7, std::vector<double>(5 * 300, -1.0)};
  const Problem short_one{2, 300, 7, std::vector<double>(2 * 300, -kInf)};
  return Batch<Scalar>({{long_one, {Labeling(40, 3), {}, {0, 299}}}, {short_one, {{1}}}}, 2, 3);
}

template <typename Scalar>
BadCtcInputs look_at(const Batch<Scalar>& batch) {
  BadCtcInputs found;
  egl::cuda::clear(&found, nullptr);
  const int64_t num_utterances = batch.num_utterances();
  egl::cuda::find_out_of_range(batch.lengths.data(), num_utterances, batch.max_frames(),
                               &found.lengths, nullptr);
  egl::cuda::find_out_of_range(batch.counts.data(), num_utterances, batch.num_slots(),
                               &found.counts, nullptr);
  egl::cuda::find_out_of_range(batch.label_lengths.data(), num_utterances * batch.num_slots(),
                               batch.capacity(), &found.label_lengths, nullptr);
  egl::cuda::find_bad_label(batch.labelings(), batch.num_classes(), 7, &found.labels, nullptr);
  egl::cuda::find_bad_log_prob(batch.emissions(), &found.emissions, nullptr);
  return found;
}

template <typename Scalar>
void check_emissions() {
  Batch<Scalar> batch = good_batch<Scalar>();
  CHECK(look_at(batch).emissions == kNothing);
  // Each value is put in front of what was found before, unless it is only rounding.
  struct Bad {
    int64_t n, t, c;
    double value;
    bool found = true;
  };
  auto expected = kNothing;
  for (const Bad& bad : {Bad{1, 1, 299, std::nan("")},
                         {0, 4, 290, egl::kMostLogProb / 2, false},
                         {0, 4, 285, egl::kMostLogProb * 2},
                         {0, 4, 280, kInf},
                         {0, 4, 33, kInf}}) {
    batch.value(bad.n, bad.t, bad.c) = static_cast<Scalar>(bad.value);
    if (bad.found) {
      expected = static_cast<egl::cuda::Place>((bad.n * batch.max_frames() + bad.t) * 300 + bad.c);
    }
    CHECK(look_at(batch).emissions == expected);
  }
}

}  // namespace

EGL_TEST(first_bad_emission) {
  check_emissions<float>();
  check_emissions<double>();
}

EGL_TEST(first_number_out_of_range) {
  Batch<float> batch = good_batch<float>();
  const BadCtcInputs none = look_at(batch);
  CHECK(none.lengths == kNothing && none.counts == kNothing && none.label_lengths == kNothing);
  batch.lengths[1] = batch.max_frames() + 1;
  batch.counts[0] = -1;
  batch.counts[1] = batch.num_slots() + 1;
  batch.label_lengths[2] = -1;
  batch.label_lengths[8] = batch.capacity() + 1;
  const BadCtcInputs bad = look_at(batch);
  CHECK(bad.lengths == 1 && bad.counts == 0 && bad.label_lengths == 2);
  batch.lengths[1] = batch.max_frames();
  batch.counts = {0, batch.num_slots()};
  batch.label_lengths[2] = 0;
  batch.label_lengths[8] = batch.capacity();
  const BadCtcInputs largest = look_at(batch);
  CHECK(largest.lengths == kNothing && largest.counts == kNothing);
  CHECK(largest.label_lengths == kNothing);
}

EGL_TEST(first_bad_label) {
  for (const int64_t bad : {-1, 7, 300}) {
    Batch<float> batch = good_batch<float>();
    CHECK(look_at(batch).labels == kNothing);
    const auto place = [&](int64_t n, int64_t k, int64_t u) {
      return (n * batch.num_slots() + k) * batch.capacity() + u;
    };
    for (const int64_t first : {place(1, 0, 0), place(0, 0, 39), place(0, 0, 2)}) {
      batch.labels[first] = bad;
      CHECK(look_at(batch).labels == static_cast<egl::cuda::Place>(first));
    }
    batch.counts = {0, 0};
    CHECK(look_at(batch).labels == kNothing);
  }
}

// Numbers that are out of range are found, and lead to no read outside the tensors.
EGL_TEST(nothing_is_read_beyond_the_tensors) {
  Batch<float> batch = good_batch<float>();
  batch.lengths = {-5, 1000};
  batch.counts = {1000, -1};
  batch.label_lengths.assign(batch.label_lengths.size(), 1000);
  const BadCtcInputs bad = look_at(batch);
  CHECK(bad.lengths == 0 && bad.counts == 0 && bad.label_lengths == 0);
}

EGL_EMULATED_TEST_MAIN()
