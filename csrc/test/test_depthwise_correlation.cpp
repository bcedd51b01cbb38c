#include <algorithm>
#include <vector>

#include "csrc/core/depthwise_correlation.h"
#include "csrc/test/test.h"

namespace {

struct Sizes {
  int64_t x_rows, tap_rows, frames, taps, before, after, stride, dilation;
};

// Small whole numbers, so that all sums and products are exact.
template <typename Scalar>
std::vector<Scalar> pattern(int64_t size, int64_t period) {
  std::vector<Scalar> values(size);
  for (int64_t i = 0; i < size; ++i) values[i] = static_cast<Scalar>(i * 7 % period - period / 2);
  return values;
}

template <typename Scalar>
void check_against_formula(const Sizes& sizes, egl::Isa isa) {
  constexpr int64_t kChannels = 3;
  const int64_t outputs =
      1 + (sizes.frames + sizes.before + sizes.after - sizes.dilation * (sizes.taps - 1) - 1) /
              sizes.stride;
  const int64_t rows = std::max(sizes.x_rows, sizes.tap_rows);
  const auto x = pattern<Scalar>(sizes.x_rows * kChannels * sizes.frames, 11);
  const auto taps = pattern<Scalar>(sizes.tap_rows * kChannels * sizes.taps, 13);
  std::vector<Scalar> y(rows * kChannels * outputs, Scalar{-1000});
  const egl::DepthwiseCorrelation<Scalar> problem = {.x = x.data(),
                                                     .taps = taps.data(),
                                                     .y = y.data(),
                                                     .num_x_rows = sizes.x_rows,
                                                     .num_tap_rows = sizes.tap_rows,
                                                     .num_channels = kChannels,
                                                     .num_frames = sizes.frames,
                                                     .num_taps = sizes.taps,
                                                     .num_outputs = outputs,
                                                     .before = sizes.before,
                                                     .stride = sizes.stride,
                                                     .dilation = sizes.dilation};
  egl::depthwise_correlation(problem, 1, kChannels, isa);  // all channels but the first
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t n = sizes.x_rows == 1 ? 0 : r, m = sizes.tap_rows == 1 ? 0 : r;
    for (int64_t c = 0; c < kChannels; ++c) {
      for (int64_t j = 0; j < outputs; ++j) {
        Scalar sum = 0;
        for (int64_t k = 0; k < sizes.taps; ++k) {
          const int64_t frame = j * sizes.stride + k * sizes.dilation - sizes.before;
          if (frame < 0 || frame >= sizes.frames) continue;
          sum += x[(n * kChannels + c) * sizes.frames + frame] *
                 taps[(m * kChannels + c) * sizes.taps + k];
        }
        CHECK(y[(r * kChannels + c) * outputs + j] == (c == 0 ? Scalar{-1000} : sum));
      }
    }
  }
}

}  // namespace

EGL_TEST(every_instruction_set_follows_the_formula) {
  const Sizes all[] = {
      {1, 1, 1, 1, 0, 0, 1, 1},       {3, 1, 40, 5, 2, 2, 1, 1},      {1, 5, 90, 40, 0, 0, 1, 1},
      {2, 1, 230, 7, 3, 3, 1, 2},     {1, 9, 301, 30, 4, -3, 2, 3},   {2, 1, 50, 4, -5, 1, 3, 2},
      {1, 4, 300, 20, 0, -100, 1, 1}, {1, 1, 5, 31, 15, 15, 1, 1},    {1, 2, 7, 2, 20, 20, 5, 9},
      {1, 1, 3, 1, -2, 0, 1, 1},      {2, 1, 4, 3, -10, 16, 4, 1},    {2, 1, 0, 3, 2, 3, 1, 1},
      {1, 2, 0, 2, 9, 9, 3, 2},       {1, 5, 1100, 1030, 0, 0, 1, 1},
  };
  for (const egl::Isa isa : egl::available_isas()) {
    for (const Sizes& sizes : all) {
      check_against_formula<float>(sizes, isa);
      check_against_formula<double>(sizes, isa);
    }
  }
}

EGL_TEST_MAIN()
