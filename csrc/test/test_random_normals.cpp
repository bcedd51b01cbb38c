#include "csrc/core/random_normals.h"
#include "csrc/test/test.h"

using egl::hash_labeling;
using egl::normal_of;

EGL_TEST(split_mix_gives_the_published_sequence) {
  // The generator's first outputs from seed 0 (test vectors of several implementations).
  CHECK(egl::split_mix(0) == 0xe220a8397b1dcdafU);
  CHECK(egl::split_mix(0x9e3779b97f4a7c15U) == 0x6e789e6aa1b965f4U);
}

EGL_TEST(labelings_differ_by_content_order_and_length) {
  const int64_t labels[] = {1, 2, 1, 0};
  CHECK(hash_labeling(0, labels, 2) != hash_labeling(0, labels + 1, 2));
  CHECK(hash_labeling(0, labels, 0) != hash_labeling(1, labels, 0));
  CHECK(hash_labeling(0, labels, 3) != hash_labeling(0, labels, 4));  // class 0 is a label too
  CHECK(hash_labeling(5, labels, 2) == hash_labeling(5, labels, 2));
}

EGL_TEST(uniform_numbers_keep_inside) {
  CHECK(egl::uniform_of(0) > 0.0);
  CHECK(egl::uniform_of(~uint64_t{0}) < 1.0);
}

EGL_TEST(normals_have_the_moments_of_a_normal) {
  constexpr int64_t kCount = 200'000;
  double sums[5] = {};
  double beside = 0.0;
  for (int64_t i = 0; i < kCount; ++i) {
    const uint64_t hash = hash_labeling(7, &i, 1);
    const double x = normal_of(hash, 0);
    beside += x * normal_of(hash, 1);
    double power = 1.0;
    for (double& sum : sums) sum += (power *= x);
  }
  // Within 5 standard deviations of what so many independent normals give.
  const double deviation = std::sqrt(static_cast<double>(kCount));
  CHECK(std::abs(sums[0]) < 5 * deviation);
  CHECK(std::abs(sums[1] - kCount) < 5 * std::sqrt(2.0) * deviation);
  CHECK(std::abs(sums[2]) < 5 * std::sqrt(15.0) * deviation);
  CHECK(std::abs(sums[3] - 3.0 * kCount) < 5 * std::sqrt(96.0) * deviation);
  CHECK(std::abs(beside) < 5 * deviation);
}

EGL_TEST_MAIN()
