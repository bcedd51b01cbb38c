// Kernels of backward through time against the core. A step has the core's formulas, and products
// are taken here in the core's order, so both agree to the bit: by the baseline's instructions,
// which on x86-64 round a product and a sum one by one, as nvcc is told to.
#include <random>
#include <vector>

#include "csrc/cuda/recurrent_backward.h"
#include "csrc/test/emulated.h"

using egl::RecurrentCell;

namespace {

constexpr RecurrentCell kCells[] = {RecurrentCell::kRnn, RecurrentCell::kGru, RecurrentCell::kLstm};

// Cotangents are strided as [T, N, R, H]. Arrays are on the heap, each of its exact size, so that
// the address sanitizer sees the ends.
template <typename Scalar>
struct Problem {
  Problem(RecurrentCell cell, int64_t T, int64_t R, int64_t N, int64_t H, bool reverse)
      : cell(cell), T(T), R(R), N(N), H(H), reverse(reverse) {
    std::mt19937 engine(static_cast<unsigned>(1000 * T + 100 * R + 10 * N + H));
    std::normal_distribution<double> normal;
    const auto draw = [&](int64_t size) {
      std::vector<Scalar> values(size);
      for (Scalar& value : values) value = static_cast<Scalar>(normal(engine));
      return values;
    };
    const auto shape = egl::shape_of(cell);
    columns = shape.num_gates * H;
    cotangents = draw(T * R * N * H);
    coefficients = draw(T * N * shape.num_coefficients * H);
    weight = draw(columns * H);
    for (Scalar& value : weight) value /= static_cast<Scalar>(columns);
    direct = cell == RecurrentCell::kLstm ? draw(R * N * H) : std::vector<Scalar>(R * N * H);
    gates.assign(T * R * N * columns, Scalar{-9});
    if (cell == RecurrentCell::kGru) hidden_gates = gates;
    state.assign(R * N * H, Scalar{0});
  }

  egl::RecurrentPullback<Scalar> pullback(const egl::PackedWeight<Scalar>* packed = nullptr) {
    return {.cell = cell,
            .num_frames = T,
            .num_cotangents = R,
            .num_utterances = N,
            .hidden_size = H,
            .reverse = reverse,
            .cotangents = cotangents.data(),
            .cotangent_strides = {R * N * H, H, R * H},
            .coefficients = coefficients.data(),
            .weight = packed,
            .gates = gates.data(),
            .hidden_gates = cell == RecurrentCell::kGru ? hidden_gates.data() : nullptr,
            .state = state.data(),
            .direct = direct.data()};
  }

  // In the core's order: sums start at zero and go through the gates.
  void multiply(int64_t frame) {
    const auto& side = cell == RecurrentCell::kGru ? hidden_gates : gates;
    for (int64_t row = 0; row < R * N; ++row) {
      const Scalar* from = side.data() + (frame * R * N + row) * columns;
      for (int64_t h = 0; h < H; ++h) {
        Scalar sum{0};
        for (int64_t j = 0; j < columns; ++j) sum += weight[j * H + h] * from[j];
        state[row * H + h] = sum;
      }
    }
  }

  bool operator==(const Problem& other) const {
    return gates == other.gates && hidden_gates == other.hidden_gates && state == other.state &&
           direct == other.direct;
  }

  RecurrentCell cell;
  int64_t T, R, N, H;
  bool reverse;
  int64_t columns;
  std::vector<Scalar> cotangents, coefficients, weight, gates, hidden_gates, state, direct;
};

template <typename Scalar>
void check_step(RecurrentCell cell, int64_t R, int64_t N, int64_t H) {
  Problem<Scalar> got(cell, 1, R, N, H, false);
  for (size_t i = 0; i < got.state.size(); ++i) got.state[i] = got.cotangents[i] * Scalar{0.3};
  Problem<Scalar> expected = got;
  egl::recurrent_backward_step(cell, step_of(expected.pullback(), 0));
  egl::cuda::launch_recurrent_backward_step(cell, step_of(got.pullback(), 0), nullptr);
  CHECK(got == expected);
}

template <typename Scalar>
void check_all_frames(RecurrentCell cell, int64_t T, int64_t R, int64_t N, int64_t H,
                      bool reverse) {
  Problem<Scalar> got(cell, T, R, N, H, reverse);
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
  Problem<float> got(kCell, 1, 7, 1, 40, false);
  Problem<float> expected = got;
  egl::recurrent_backward_step(kCell, step_of(expected.pullback(), 0));
  egl::cuda::launch("step", egl::cuda::recurrent_backward_step<kCell, float>, {3, 32}, nullptr,
                    step_of(got.pullback(), 0));
  CHECK(got == expected);
}

EGL_TEST(without_frames_or_rows_or_units_nothing_is_written) {
  for (const RecurrentCell cell : kCells) {
    Problem<float> no_frames(cell, 0, 2, 1, 3, false);
    Problem<float> before = no_frames;
    egl::cuda::recurrent_backward(no_frames.pullback(), nullptr, [](int64_t) { CHECK(false); });
    CHECK(no_frames == before);
    Problem<float> no_rows(cell, 2, 0, 1, 3, false);
    egl::cuda::recurrent_backward(no_rows.pullback(), nullptr, [](int64_t) {});
    Problem<float> no_units(cell, 2, 2, 1, 0, false);
    egl::cuda::recurrent_backward(no_units.pullback(), nullptr, [](int64_t) {});
  }
}

EGL_EMULATED_TEST_MAIN()
