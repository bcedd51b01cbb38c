// The forward scan's kernel against the core. A step has the core's formulas, and products are
// taken here in the core's order, so both agree to the bit where the baseline's instructions round
// a product and a sum separately, as nvcc is told to: on x86-64. On aarch64 the core fuses them.
#include <cmath>
#include <limits>
#include <vector>

#include "csrc/cuda/recurrent_forward.h"
#include "csrc/test/emulated.h"
#include "csrc/test/recurrent_problems.h"

using egl::RecurrentCell;
using egl::RecurrentForm;
using egl::test::kForms;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
#ifdef __aarch64__
constexpr bool kCoreJoins = true;
#else
constexpr bool kCoreJoins = false;
#endif

template <typename Value>
struct Layer : egl::test::RecurrentLayer<Value> {
  using Base = egl::test::RecurrentLayer<Value>;
  using Base::Base, Base::columns, Base::directions, Base::form, Base::H, Base::N, Base::scan;

  template <typename State>
  void run_on_core() {
    for (size_t d = 0; d < directions.size(); ++d) {
      egl::recurrent_forward<State>(scan(d), 0, N, egl::Isa::kBaseline);
    }
  }

  template <typename State>
  void run_in_emulation() {
    const auto D = static_cast<int64_t>(directions.size());
    std::vector<State> state, cell_state, product(D * N * columns);
    std::vector<egl::RecurrentScan<Value>> scans;
    for (int64_t d = 0; d < D; ++d) {
      scans.push_back(scan(d));
      const auto& own = directions[d];
      state.insert(state.end(), own.initial_state.begin(), own.initial_state.end());
      cell_state.insert(cell_state.end(), own.initial_cell.begin(), own.initial_cell.end());
    }
    const bool is_lstm = form.cell == RecurrentCell::kLstm;
    egl::cuda::recurrent_forward<State, Value>(
        scans, {state.data(), is_lstm ? cell_state.data() : nullptr, product.data()}, nullptr,
        [&] { multiply(state, product); });
    for (int64_t d = 0; is_lstm && d < D; ++d) {
      for (int64_t i = 0; i < N * H; ++i) {
        directions[d].final_cell[i] = static_cast<Value>(cell_state[d * N * H + i]);
      }
    }
  }

  // In the core's order: sums start at zero and go through the units.
  template <typename State>
  void multiply(const std::vector<State>& state, std::vector<State>& product) const {
    for (int64_t item = 0; item < static_cast<int64_t>(directions.size()) * N; ++item) {
      const Value* weight = directions[item / N].weight.data();
      for (int64_t o = 0; o < columns; ++o) {
        State sum{0};
        for (int64_t j = 0; j < H; ++j) {
          sum += static_cast<State>(weight[o * H + j]) * state[item * H + j];
        }
        product[item * columns + o] = sum;
      }
    }
  }
};

// Sums of `State` that start from the same numbers and round differently.
template <typename State, typename Value>
void check_near(const Layer<Value>& got, const Layer<Value>& expected) {
  const double tolerance = egl::test::recurrent_tolerance<State>(got.H, got.T);
  const double rounding = 0.5 * std::numeric_limits<Value>::epsilon();
  const auto check = [&](const std::vector<Value>& a, const std::vector<Value>& b) {
    CHECK(a.size() == b.size());
    for (size_t i = 0; i < a.size(); ++i) {
      CHECK(egl::test::near(a[i], b[i], tolerance + rounding * std::abs(b[i])));
    }
  };
  for (size_t d = 0; d < got.directions.size(); ++d) {
    check(got.directions[d].states, expected.directions[d].states);
    check(got.directions[d].previous, expected.directions[d].previous);
    check(got.directions[d].coefficients, expected.directions[d].coefficients);
    check(got.directions[d].final_cell, expected.directions[d].final_cell);
  }
}

template <typename State, typename Value>
void check_same(const Layer<Value>& got, const Layer<Value>& expected) {
  if (kCoreJoins) {
    check_near<State>(got, expected);
  } else {
    CHECK(got.directions == expected.directions);
  }
}

template <typename State, typename Value>
void check_same_scan(const RecurrentForm& form, int64_t D, int64_t T, int64_t N, int64_t H) {
  Layer<Value> expected(form, D, T, N, H, false);
  Layer<Value> got(form, D, T, N, H, false);
  expected.template run_on_core<State>();
  got.template run_in_emulation<State>();
  check_same<State>(got, expected);
}

}  // namespace

// One direction, two, and more than share a launch; fewer units than a warp, more than a block.
EGL_TEST(scans_are_the_cores) {
  for (const RecurrentForm& form : kForms) {
    check_same_scan<float, float>(form, 1, 4, 3, 35);
    check_same_scan<double, float>(form, 2, 4, 3, 35);
    check_same_scan<double, double>(form, 3, 4, 2, 5);
    check_same_scan<double, float>(form, 2, 1, 1, 1);
    check_same_scan<double, float>(form, 1, 2, 1, 260);
  }
}

// The core adds products to the bias, the kernel the bias to their sum.
EGL_TEST(a_bias_is_added) {
  for (const RecurrentForm& form : kForms) {
    Layer<double> expected(form, 2, 3, 2, 20, true);
    Layer<double> got(form, 2, 3, 2, 20, true);
    expected.run_on_core<double>();
    got.run_in_emulation<double>();
    check_near<double>(got, expected);
  }
}

// As where there are more utterances than a grid may have blocks.
EGL_TEST(a_block_takes_several_utterances) {
  const RecurrentForm form = kForms.back();
  Layer<float> expected(form, 2, 1, 3, 40, false);
  Layer<float> got(form, 2, 1, 3, 40, false);
  expected.run_on_core<float>();
  std::vector<float> state, cell_state, product(2 * 3 * got.columns);
  for (auto& direction : got.directions) {
    state.insert(state.end(), direction.initial_state.begin(), direction.initial_state.end());
    cell_state.insert(cell_state.end(), direction.initial_cell.begin(),
                      direction.initial_cell.end());
    direction.final_cell = expected.directions[&direction - got.directions.data()].final_cell;
  }
  got.multiply(state, product);
  const egl::cuda::RecurrentFrame<float, float> frame{
      {got.scan(0), got.scan(1)}, {0, 0}, 2, {state.data(), cell_state.data(), product.data()}};
  egl::cuda::launch("step", egl::cuda::recurrent_forward_step<RecurrentCell::kLstm, float, float>,
                    {4, 32}, nullptr, frame);
  check_same<float>(got, expected);
}

EGL_TEST(without_frames_utterances_or_units_nothing_happens) {
  for (const RecurrentForm& form : kForms) {
    check_same_scan<double, float>(form, 2, 0, 2, 3);
    Layer<float>(form, 2, 2, 0, 3, false).run_in_emulation<double>();
    Layer<float>(form, 2, 2, 2, 0, false).run_in_emulation<double>();
  }
}

// What a thread makes of numbers that no gate should have.
EGL_TEST(what_is_not_a_number_stays_so) {
  namespace unit = egl::cuda::unit;
  CHECK(std::isnan(unit::sigmoid(std::nan(""))) && std::isnan(unit::tanh(std::nan(""))));
  CHECK(unit::sigmoid(kInf) == 1.0 && unit::tanh(kInf) == 1.0 && unit::tanh(-1e300) == -1.0);
  CHECK(unit::sigmoid(-kInf) >= 0.0 && unit::sigmoid(-kInf) < 1e-300);
}

EGL_EMULATED_TEST_MAIN()
