// The forward scan's kernel against the core. A step has the core's formulas, and products are
// taken here in the core's order, so both agree to the bit where the baseline's instructions round
// a product and a sum one by one, as nvcc is told to: on x86-64. On aarch64 the core joins them.
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "csrc/cuda/recurrent_forward.h"
#include "csrc/test/emulated.h"

using egl::RecurrentCell;
using egl::RecurrentForm;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
#ifdef __aarch64__
constexpr bool kCoreJoins = true;
#else
constexpr bool kCoreJoins = false;
#endif

const std::vector<RecurrentForm> kForms = {{RecurrentCell::kRnn, false, kInf},
                                           {RecurrentCell::kRnn, true, kInf},
                                           {RecurrentCell::kRnn, true, 0.75},
                                           {RecurrentCell::kGru, false, kInf},
                                           {RecurrentCell::kLstm, false, kInf}};

// Some directions of a layer; every second one is reversed. `projected` is strided as [N, T, G *
// H]. Arrays are on the heap, each of its exact size, so that the address sanitizer sees the ends.
template <typename Value>
struct Layer {
  struct Direction {
    std::vector<Value> projected, weight, bias, initial_state, initial_cell;
    std::vector<Value> states, previous, coefficients, final_cell;

    bool operator==(const Direction&) const = default;
  };

  Layer(const RecurrentForm& form, int64_t D, int64_t T, int64_t N, int64_t H, bool has_bias)
      : T(T), N(N), H(H), columns(egl::shape_of(form.cell).num_gates * H), form(form) {
    std::mt19937 engine(static_cast<unsigned>(1000 * D + 100 * T + 10 * N + H));
    std::normal_distribution<double> normal;
    const auto draw = [&](int64_t size) {
      std::vector<Value> values(size);
      for (Value& value : values) value = static_cast<Value>(normal(engine));
      return values;
    };
    valid.reset(new bool[T * N]);
    for (int64_t i = 0; i < T * N; ++i) valid[i] = i % 4 != 3;
    for (int64_t d = 0; d < D; ++d) {
      Direction direction{.projected = draw(N * T * columns),
                          .weight = draw(columns * H),
                          .bias = has_bias ? draw(columns) : std::vector<Value>(),
                          .initial_state = draw(N * H),
                          .initial_cell = draw(N * H),
                          .states = std::vector<Value>(T * N * H, Value{-9}),
                          .previous = std::vector<Value>(T * N * H, Value{-9}),
                          .coefficients = {},
                          .final_cell = std::vector<Value>(N * H, Value{-9})};
      for (Value& value : direction.weight) value /= static_cast<Value>(std::sqrt(H));
      direction.coefficients.assign(T * N * egl::shape_of(form.cell).num_coefficients * H,
                                    Value{-9});
      directions.push_back(std::move(direction));
    }
  }

  egl::RecurrentScan<Value> scan(size_t d) {
    Direction& direction = directions[d];
    const bool is_lstm = form.cell == RecurrentCell::kLstm;
    return {.form = form,
            .num_frames = T,
            .num_utterances = N,
            .hidden_size = H,
            .reverse = d % 2 == 1,
            .projected = direction.projected.data(),
            .projected_strides = {columns, T * columns},
            .weight = direction.weight.data(),
            .bias = direction.bias.empty() ? nullptr : direction.bias.data(),
            .initial_state = direction.initial_state.data(),
            .initial_cell = is_lstm ? direction.initial_cell.data() : nullptr,
            .valid = T > 2 ? valid.get() : nullptr,
            .states = direction.states.data(),
            .previous = direction.previous.data(),
            .coefficients = direction.coefficients.data(),
            .final_cell = is_lstm ? direction.final_cell.data() : nullptr};
  }

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
      const Direction& own = directions[d];
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

  int64_t T, N, H, columns;
  RecurrentForm form;
  std::unique_ptr<bool[]> valid;
  std::vector<Direction> directions;
};

// Sums of `State` that start from the same numbers and round otherwise: the tolerance of
// test_recurrent_forward.cpp.
template <typename State, typename Value>
void check_near(const Layer<Value>& got, const Layer<Value>& expected) {
  const double tolerance = 4.0 * static_cast<double>(got.H + 12) *
                           std::pow(2.0, static_cast<double>(got.T)) *
                           std::numeric_limits<State>::epsilon();
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
