#include <random>
#include <vector>

#include "csrc/core/random_normals.h"
#include "csrc/cuda/hypothesis_normals.h"
#include "csrc/test/emulated.h"

namespace {

struct Batch {
  int64_t num_utterances;
  int64_t num_slots;
  int64_t capacity;
  std::vector<int64_t> labels;
  std::vector<int64_t> label_lengths;
  std::vector<int64_t> counts;
  std::vector<int64_t> keys;

  egl::cuda::LabelingBatch view() const {
    return {labels.data(), label_lengths.data(), counts.data(), num_utterances, num_slots,
            capacity};
  }
};

Batch random_batch(int64_t num_utterances, int64_t num_slots, int64_t capacity) {
  std::mt19937_64 random(1);
  Batch batch{num_utterances, num_slots, capacity, {}, {}, {}, {}};
  const auto up_to = [&](int64_t most) {
    return std::uniform_int_distribution<int64_t>(0, most)(random);
  };
  for (int64_t n = 0; n < num_utterances; ++n) {
    batch.counts.push_back(n == 0 ? 0 : n == 1 ? num_slots : up_to(num_slots));
    batch.keys.push_back(static_cast<int64_t>(random()));
    for (int64_t k = 0; k < num_slots; ++k) {
      batch.label_lengths.push_back(k == 0 ? 0 : k == 1 ? capacity : up_to(capacity));
      for (int64_t u = 0; u < capacity; ++u) batch.labels.push_back(up_to(9));
    }
  }
  return batch;
}

constexpr uint64_t kUntouched = 77;

}  // namespace

EGL_TEST(hashes_and_numbers_are_the_cores) {
  // More of both than threads of a block, and not a multiple.
  const Batch batch = random_batch(13, 29, 6);
  constexpr int64_t kNormals = 3;
  std::vector<uint64_t> hashes(13 * 29, kUntouched);
  std::vector<double> normals(13 * 29 * kNormals, 77.0);
  egl::cuda::labeling_hashes(batch.view(), batch.keys.data(), hashes.data(), nullptr);
  egl::cuda::hypothesis_normals(batch.view(), hashes.data(), kNormals, normals.data(), nullptr);
  for (int64_t n = 0; n < 13; ++n) {
    for (int64_t k = 0; k < 29; ++k) {
      const int64_t slot = n * 29 + k;
      const bool used = k < batch.counts[n];
      const uint64_t expected = egl::hash_labeling(static_cast<uint64_t>(batch.keys[n]),
                                                   batch.labels.data() + slot * batch.capacity,
                                                   batch.label_lengths[slot]);
      CHECK(hashes[slot] == (used ? expected : kUntouched));
      for (int64_t i = 0; i < kNormals; ++i) {
        CHECK(normals[slot * kNormals + i] == (used ? egl::normal_of(expected, i) : 0.0));
      }
    }
  }
}

EGL_TEST(nothing_leads_out_of_the_tensors) {
  Batch batch = random_batch(3, 4, 5);
  batch.counts = {-1, 5, int64_t{1} << 40};
  for (int64_t slot = 0; slot < 12; ++slot) {
    batch.label_lengths[slot] = slot % 2 == 0 ? -3 : int64_t{1} << 50;
  }
  std::vector<uint64_t> hashes(12, kUntouched);
  egl::cuda::labeling_hashes(batch.view(), batch.keys.data(), hashes.data(), nullptr);
  for (int64_t k = 0; k < 4; ++k) CHECK(hashes[k] == kUntouched);
  CHECK(hashes[4] == egl::hash_labeling(static_cast<uint64_t>(batch.keys[1]), nullptr, 0));
}

EGL_TEST(no_slots_and_no_numbers_are_fine) {
  const Batch none = random_batch(2, 0, 5);
  egl::cuda::labeling_hashes(none.view(), none.keys.data(), nullptr, nullptr);
  egl::cuda::hypothesis_normals(none.view(), nullptr, 3, nullptr, nullptr);
  const Batch some = random_batch(2, 2, 5);
  std::vector<uint64_t> hashes(4);
  egl::cuda::hypothesis_normals(some.view(), hashes.data(), 0, nullptr, nullptr);
}

EGL_EMULATED_TEST_MAIN()
