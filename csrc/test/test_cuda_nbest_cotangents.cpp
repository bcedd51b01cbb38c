// The small kernels between the large ones of the fused operator.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "csrc/cuda/bad_utterances.h"
#include "csrc/cuda/frame_gram.h"
#include "csrc/cuda/inner_products.h"
#include "csrc/test/emulated.h"

EGL_TEST(products_of_rows_are_sums_of_products) {
  // Whole numbers, so that any order gives the same sum.
  for (const int64_t size : {0, 1, 255, 700}) {
    constexpr int64_t kRows = 3;
    std::vector<double> a(kRows * size);
    std::vector<double> b(kRows * size);
    std::vector<double> expected(kRows, 0.0);
    for (int64_t i = 0; i < kRows * size; ++i) {
      a[i] = static_cast<double>(i % 13 - 5);
      b[i] = static_cast<double>(i % 7 - 2);
      expected[i / size] += a[i] * b[i];
    }
    std::vector<double> out(kRows, 77.0);
    egl::cuda::inner_products(a.data(), b.data(), kRows, size, out.data(), nullptr);
    CHECK(out == expected);
  }
}

EGL_TEST(frames_of_padding_count_for_nothing) {
  constexpr int64_t kFrames = 5;
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<int64_t> lengths{3, 0, 5, 9};
  const auto num_utterances = static_cast<int64_t>(lengths.size());
  // Transposed, every other number, with padding that would spoil all.
  std::vector<double> gram(num_utterances * kFrames * kFrames * 2, kNan);
  const auto value = [](int64_t n, int64_t t, int64_t s) {
    return static_cast<double>(100 * n + 10 * t + s);
  };
  for (int64_t n = 0; n < num_utterances; ++n) {
    for (int64_t t = 0; t < std::min(lengths[n], kFrames); ++t) {
      for (int64_t s = 0; s < std::min(lengths[n], kFrames); ++s) {
        gram[((n * kFrames + s) * kFrames + t) * 2] = value(n, t, s);
      }
    }
  }
  std::vector<double> out(num_utterances * kFrames * kFrames, 77.0);
  egl::cuda::frame_gram_without_padding({gram.data(), 2 * kFrames * kFrames, 2, 2 * kFrames},
                                        lengths.data(), num_utterances, kFrames, out.data(),
                                        nullptr);
  for (int64_t n = 0; n < num_utterances; ++n) {
    for (int64_t t = 0; t < kFrames; ++t) {
      for (int64_t s = 0; s < kFrames; ++s) {
        const bool inside = t < lengths[n] && s < lengths[n];
        CHECK(out[(n * kFrames + t) * kFrames + s] == (inside ? value(n, t, s) : 0.0));
      }
    }
  }
}

EGL_TEST(bad_utterances_have_no_frames_and_are_marked) {
  constexpr int64_t kCount = 600;
  std::vector<int64_t> lengths;
  std::vector<int32_t> bad;
  std::vector<int64_t> counts;
  for (int64_t n = 0; n < kCount; ++n) {
    lengths.push_back(n - 5);
    bad.push_back(n < 5 || n % 7 == 0 ? 1 : 0);
    counts.push_back(3);
  }
  std::vector<int64_t> good(kCount, 77);
  egl::cuda::good_lengths(lengths.data(), bad.data(), kCount, good.data(), nullptr);
  egl::cuda::mark_bad(bad.data(), kCount, counts.data(), nullptr);
  for (int64_t n = 0; n < kCount; ++n) {
    CHECK(good[n] == (bad[n] != 0 ? 0 : lengths[n]));
    CHECK(counts[n] == (bad[n] != 0 ? -1 : 3));
  }
}

EGL_EMULATED_TEST_MAIN()
