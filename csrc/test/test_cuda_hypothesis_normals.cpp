#include <random>
#include <vector>

#include "csrc/core/random_normals.h"
#include "csrc/cuda/hypothesis_normals.h"
#include "csrc/test/ctc_batch.h"
#include "csrc/test/emulated.h"
#include "csrc/test/posterior_cases.h"

namespace {

using egl::test::Batch;

// Labelings of up to five labels, with room for one more label and one more labeling. The first
// utterance has no labelings, the second `most_labelings`.
Batch<double> random_batch(int64_t num_utterances, int64_t most_labelings) {
  std::mt19937 random(1);
  std::vector<egl::test::Utterance> utterances;
  for (int64_t n = 0; n < num_utterances; ++n) {
    const int64_t count = n == 0 ? 0 : n == 1 ? most_labelings : random() % (most_labelings + 1);
    egl::test::Utterance& utterance = utterances.emplace_back(egl::test::Problem{0, 10, 0, {}});
    for (int64_t k = 0; k < count; ++k) {
      utterance.labelings.push_back(egl::test::random_labeling(random, random() % 6, 10));
    }
  }
  return Batch<double>(utterances);
}

std::vector<int64_t> random_keys(int64_t count) {
  std::mt19937_64 random(2);
  std::vector<int64_t> keys;
  for (int64_t n = 0; n < count; ++n) keys.push_back(static_cast<int64_t>(random()));
  return keys;
}

constexpr uint64_t kUntouched = 77;

}  // namespace

EGL_TEST(hashes_and_numbers_are_the_cores) {
  // More slots, and more numbers, than a block has threads; neither a multiple.
  const Batch<double> batch = random_batch(13, 28);
  const std::vector<int64_t> keys = random_keys(13);
  const egl::cuda::LabelingBatch view = batch.labelings();
  constexpr int64_t kNormals = 3;
  std::vector<uint64_t> hashes(13 * 29, kUntouched);
  std::vector<double> normals(13 * 29 * kNormals, 77.0);
  egl::cuda::labeling_hashes(view, keys.data(), hashes.data(), nullptr);
  egl::cuda::hypothesis_normals(view, hashes.data(), kNormals, normals.data(), nullptr);
  for (int64_t n = 0; n < 13; ++n) {
    for (int64_t k = 0; k < 29; ++k) {
      const int64_t slot = n * 29 + k;
      const bool used = k < batch.counts[n];
      const uint64_t expected = egl::hash_labeling(static_cast<uint64_t>(keys[n]),
                                                   view.labeling(n, k), view.length(n, k));
      CHECK(hashes[slot] == (used ? expected : kUntouched));
      for (int64_t i = 0; i < kNormals; ++i) {
        CHECK(normals[slot * kNormals + i] == (used ? egl::normal_of(expected, i) : 0.0));
      }
    }
  }
}

EGL_TEST(nothing_outside_the_tensors_is_read) {
  Batch<double> batch = random_batch(3, 3);
  const std::vector<int64_t> keys = random_keys(3);
  batch.counts = {-1, 5, int64_t{1} << 40};
  for (int64_t slot = 0; slot < 12; ++slot) {
    batch.label_lengths[slot] = slot % 2 == 0 ? -3 : int64_t{1} << 50;
  }
  std::vector<uint64_t> hashes(12, kUntouched);
  egl::cuda::labeling_hashes(batch.labelings(), keys.data(), hashes.data(), nullptr);
  for (int64_t k = 0; k < 4; ++k) CHECK(hashes[k] == kUntouched);
  CHECK(hashes[4] == egl::hash_labeling(static_cast<uint64_t>(keys[1]), nullptr, 0));
}

EGL_TEST(no_slots_and_no_numbers_are_fine) {
  const Batch<double> none({{{0, 10, 0, {}}, {}}, {{0, 10, 0, {}}, {}}}, 0);
  egl::cuda::labeling_hashes(none.labelings(), random_keys(2).data(), nullptr, nullptr);
  egl::cuda::hypothesis_normals(none.labelings(), nullptr, 3, nullptr, nullptr);
  const Batch<double> some = random_batch(2, 1);
  std::vector<uint64_t> hashes(4);
  egl::cuda::hypothesis_normals(some.labelings(), hashes.data(), 0, nullptr, nullptr);
}

EGL_EMULATED_TEST_MAIN()
