// Squared norms of rows against sums of squares in order, in long double.
#include <cmath>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "csrc/cuda/row_norms.h"
#include "csrc/test/emulated.h"

namespace {

// [num_runs, num_rows, run_length] of numbers, some of them large.
template <typename Scalar>
std::vector<Scalar> numbers(int64_t count) {
  std::mt19937 engine(static_cast<unsigned>(count));
  std::normal_distribution<double> normal;
  std::vector<Scalar> values(count);
  for (int64_t i = 0; i < count; ++i) {
    values[i] = static_cast<Scalar>(normal(engine) * (i % 97 == 0 ? 1e3 : 1.0));
  }
  return values;
}

template <typename Scalar>
std::vector<double> sq_norms(const egl::cuda::RunRows<Scalar>& rows) {
  std::vector<double> out(rows.num_rows, -1.0);
  std::vector<double> workspace(
      egl::cuda::row_sq_norms_workspace_bytes(rows.num_rows, rows.size()) / sizeof(double));
  egl::cuda::row_sq_norms(rows, workspace.data(), out.data(), nullptr);
  return out;
}

// Terms are not negative, so each of a sum's roundings is at most half a last bit of the sum.
template <typename Scalar>
void check_rows(const egl::cuda::RunRows<Scalar>& rows) {
  const std::vector<double> got = sq_norms(rows);
  for (int64_t r = 0; r < rows.num_rows; ++r) {
    long double expected = 0.0L;
    for (int64_t run = 0; run < rows.num_runs; ++run) {
      for (int64_t i = 0; i < rows.run_length; ++i) {
        const long double value = rows.values[r * rows.row_stride + run * rows.run_stride + i];
        expected += value * value;
      }
    }
    const double tolerance = 0.5 * static_cast<double>(rows.size() + 1) *
                             std::numeric_limits<double>::epsilon() * static_cast<double>(expected);
    CHECK(egl::test::near(got[r], static_cast<double>(expected), tolerance));
  }
}

}  // namespace

// Runs shorter than a warp, of the block's size, and longer than a slice; rows of one slice, of
// two, of more than a warp has lanes.
EGL_TEST(norms_of_any_runs) {
  struct Shape {
    int64_t num_runs, run_length;
  };
  for (const Shape shape : {Shape{1, 1},
                            {1, 300},
                            {5, 7},
                            {3, 256},
                            {900, 3},
                            {2, 5000},
                            {1, 3 * 8192},
                            {4, 8192},
                            {33 * 16, 513}}) {
    constexpr int64_t kRows = 3;
    const auto in_floats = numbers<float>(shape.num_runs * kRows * shape.run_length);
    check_rows<float>({.values = in_floats.data(),
                       .num_rows = kRows,
                       .num_runs = shape.num_runs,
                       .run_length = shape.run_length,
                       .row_stride = shape.run_length,
                       .run_stride = kRows * shape.run_length});
    check_rows<float>({.values = in_floats.data(),
                       .num_rows = kRows,
                       .num_runs = shape.num_runs,
                       .run_length = shape.run_length,
                       .row_stride = shape.num_runs * shape.run_length,
                       .run_stride = shape.run_length});
  }
  const auto in_doubles = numbers<double>(4 * 2 * 3000);
  check_rows<double>({.values = in_doubles.data(),
                      .num_rows = 2,
                      .num_runs = 4,
                      .run_length = 3000,
                      .row_stride = 3000,
                      .run_stride = 6000});
}

EGL_TEST(a_row_has_the_same_bits_alone) {
  const auto values = numbers<float>(5 * 20000);
  egl::cuda::RunRows<float> rows{values.data(), 5, 4, 5000, 20000, 5000};
  const std::vector<double> together = sq_norms(rows);
  rows.num_rows = 1;
  for (int64_t r = 0; r < 5; ++r, rows.values += 20000) CHECK(sq_norms(rows)[0] == together[r]);
}

// As where there are more slices than a grid may have blocks.
EGL_TEST(a_block_takes_several_slices) {
  constexpr int64_t kRows = 3, kSlices = 2, kSize = 9000;
  const auto values = numbers<float>(kRows * kSize);
  const egl::cuda::RunRows<float> rows{values.data(), kRows, 1, kSize, kSize, kSize};
  egl::cuda::SharedArena arena;
  egl::cuda::take_warp_sums(arena);
  std::vector<double> expected(kRows * kSlices, -1.0), got(kRows * kSlices, -2.0);
  for (auto [blocks, out] : {std::pair{kRows * kSlices, &expected}, {int64_t{4}, &got}}) {
    egl::cuda::launch("slices", egl::cuda::slice_sq_norms<float>,
                      {blocks, egl::cuda::kThreadsPerBlock, arena.bytes()}, nullptr, rows, kSlices,
                      out->data());
  }
  CHECK(got == expected);
}

EGL_TEST(nothing_has_norm_zero) {
  CHECK(sq_norms<float>({nullptr, 3, 0, 5, 0, 0}) == std::vector<double>(3, 0.0));
  CHECK(sq_norms<float>({nullptr, 3, 5, 0, 0, 0}) == std::vector<double>(3, 0.0));
  CHECK(sq_norms<float>({nullptr, 0, 5, 5, 0, 0}).empty());
}

EGL_TEST(what_is_not_finite_stays_so) {
  std::vector<double> values = {1e200, 1.0, std::nan(""), 1.0};
  const std::vector<double> got = sq_norms<double>({values.data(), 2, 1, 2, 2, 2});
  CHECK(std::isinf(got[0]) && std::isnan(got[1]));
}

EGL_EMULATED_TEST_MAIN()
