// Kernels of backward through time against the core. A step has the core's formulas, and products
// are taken here in the core's order, so the two agree to the bit with the baseline's instructions,
// which on x86-64 round a product and a sum separately, as nvcc is told to.
#include "csrc/cuda/recurrent_backward.h"
#include "csrc/test/emulated.h"
#include "csrc/test/recurrent_problems.h"

using egl::RecurrentCell;
using egl::test::kCells;

namespace {

template <typename Scalar>
using Problem = egl::test::PullbackProblem<Scalar>;

template <typename Scalar>
Problem<Scalar> random_problem(RecurrentCell cell, int64_t T, int64_t R, int64_t N, int64_t H,
                               bool reverse = false) {
  return {
      cell, T, R, N, H, reverse, egl::test::NormalValues<Scalar>(1000 * T + 100 * R + 10 * N + H)};
}

template <typename Scalar>
void check_step(RecurrentCell cell, int64_t R, int64_t N, int64_t H) {
  auto got = random_problem<Scalar>(cell, 1, R, N, H);
  for (size_t i = 0; i < got.state.size(); ++i) got.state[i] = got.cotangents[i] * Scalar{0.3};
  Problem<Scalar> expected = got;
  egl::recurrent_backward_step(cell, step_of(expected.pullback(), 0));
  egl::cuda::launch_recurrent_backward_step(cell, step_of(got.pullback(), 0), nullptr);
  CHECK(got == expected);
}

template <typename Scalar>
void check_all_frames(RecurrentCell cell, int64_t T, int64_t R, int64_t N, int64_t H,
                      bool reverse) {
  auto got = random_problem<Scalar>(cell, T, R, N, H, reverse);
  Problem<Scalar> expected = got;
  const auto packed = egl::pack_for_backward(expected.weight.data(), egl::shape_of(cell).num_gates,
                                             H, egl::Isa::kBaseline);
  egl::recurrent_backward(expected.pullback(&packed), 0, R * N, egl::Isa::kBaseline);
  egl::cuda::recurrent_backward(got.pullback(), nullptr,
                                [&](int64_t frame) { got.multiply(frame); });
  CHECK(got == expected);
}

}  // namespace

// Fewer units than a warp, more than a block, neither a multiple of it; rows of one and of several
// utterances.
EGL_TEST(a_step_is_the_cores) {
  for (const RecurrentCell cell : kCells) {
    for (const int64_t H : {1, 5, 67, 300}) {
      check_step<float>(cell, 3, 2, H);
      check_step<double>(cell, 2, 3, H);
    }
    check_step<float>(cell, 1, 1, 32);
  }
}

EGL_TEST(all_frames_are_the_cores) {
  for (const RecurrentCell cell : kCells) {
    for (const bool reverse : {false, true}) {
      check_all_frames<float>(cell, 5, 5, 2, 35, reverse);
      check_all_frames<double>(cell, 4, 2, 1, 33, reverse);
      check_all_frames<double>(cell, 1, 1, 2, 3, reverse);
    }
  }
}

// As where there are more rows than a grid may have blocks.
EGL_TEST(a_block_takes_several_rows) {
  constexpr RecurrentCell kCell = RecurrentCell::kGru;
  auto got = random_problem<float>(kCell, 1, 7, 1, 40);
  Problem<float> expected = got;
  egl::recurrent_backward_step(kCell, step_of(expected.pullback(), 0));
  egl::cuda::launch("step", egl::cuda::recurrent_backward_step<kCell, float>, {3, 32}, nullptr,
                    step_of(got.pullback(), 0));
  CHECK(got == expected);
}

EGL_TEST(without_frames_or_rows_or_units_nothing_is_written) {
  for (const RecurrentCell cell : kCells) {
    auto no_frames = random_problem<float>(cell, 0, 2, 1, 3);
    Problem<float> before = no_frames;
    egl::cuda::recurrent_backward(no_frames.pullback(), nullptr, [](int64_t) { CHECK(false); });
    CHECK(no_frames == before);
    auto no_rows = random_problem<float>(cell, 2, 0, 1, 3);
    egl::cuda::recurrent_backward(no_rows.pullback(), nullptr, [](int64_t) {});
    auto no_units = random_problem<float>(cell, 2, 2, 1, 0);
    egl::cuda::recurrent_backward(no_units.pullback(), nullptr, [](int64_t) {});
  }
}

EGL_EMULATED_TEST_MAIN()
