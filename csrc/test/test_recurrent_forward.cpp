#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "csrc/core/recurrent_forward.h"
#include "csrc/test/test.h"

using egl::Isa;
using egl::RecurrentCell;
using egl::RecurrentForm;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kEps = std::numeric_limits<double>::epsilon();

// Arrays are on the heap, each of its exact size, so that the address sanitizer sees the ends.
template <typename Value>
struct Problem {
  Problem(RecurrentForm form, int64_t T, int64_t N, int64_t H, bool reverse) : form(form) {
    const auto shape = egl::shape_of(form.cell);
    std::mt19937 engine(static_cast<unsigned>(100 * T + 10 * N + H));
    std::normal_distribution<double> normal;
    const auto draw = [&](int64_t size) {
      std::vector<Value> values(size);
      for (Value& value : values) value = static_cast<Value>(normal(engine));
      return values;
    };
    projected = draw(T * N * shape.num_gates * H);
    weight = draw(shape.num_gates * H * H);
    for (Value& value : weight) value /= static_cast<Value>(std::sqrt(static_cast<double>(H)));
    bias = draw(shape.num_gates * H);
    initial_state = draw(N * H);
    initial_cell = draw(N * H);
    valid.reset(new bool[T * N]);
    for (int64_t i = 0; i < T * N; ++i) valid[i] = i % 4 != 3;
    states.assign(T * N * H, Value{-9});
    previous = states;
    coefficients.assign(T * N * shape.num_coefficients * H, Value{-9});
    final_cell.assign(N * H, Value{-9});
    const bool is_lstm = form.cell == RecurrentCell::kLstm;
    scan = {.form = form,
            .num_frames = T,
            .num_utterances = N,
            .hidden_size = H,
            .reverse = reverse,
            .projected = projected.data(),
            .projected_strides = {N * shape.num_gates * H, shape.num_gates * H},
            .weight = weight.data(),
            .bias = bias.data(),
            .initial_state = initial_state.data(),
            .initial_cell = is_lstm ? initial_cell.data() : nullptr,
            .valid = valid.get(),
            .states = states.data(),
            .previous = previous.data(),
            .coefficients = coefficients.data(),
            .final_cell = is_lstm ? final_cell.data() : nullptr};
  }

  RecurrentForm form;
  std::vector<Value> projected, weight, bias, initial_state, initial_cell;
  std::unique_ptr<bool[]> valid;
  std::vector<Value> states, previous, coefficients, final_cell;
  egl::RecurrentScan<Value> scan;
};

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

// A frame of one utterance by its formulas, in plain loops.
struct Plain {
  std::vector<double> state, cell, coefficients;
};

template <typename Value>
Plain plain_step(const Problem<Value>& problem, const Value* projected, const Plain& before) {
  const int64_t H = problem.scan.hidden_size;
  const auto shape = egl::shape_of(problem.form.cell);
  Plain after{before.state, before.cell,
              std::vector<double>(static_cast<size_t>(shape.num_coefficients * H))};
  const auto x = [&](int64_t gate, int64_t h) { return double{projected[gate * H + h]}; };
  const auto u = [&](int64_t gate, int64_t h) {
    double sum = problem.bias[gate * H + h];
    for (int64_t j = 0; j < H; ++j) {
      sum += double{problem.weight[(gate * H + h) * H + j]} * before.state[j];
    }
    return sum;
  };
  for (int64_t h = 0; h < H; ++h) {
    const auto write = [&](std::vector<double> values) {
      for (size_t p = 0; p < values.size(); ++p) after.coefficients[p * H + h] = values[p];
    };
    switch (problem.form.cell) {
      case RecurrentCell::kRnn: {
        const double total = x(0, h) + u(0, h);
        after.state[h] = problem.form.relu ? std::min(std::max(total, 0.0), problem.form.clip)
                                           : std::tanh(total);
        const double slope = 1.0 - after.state[h] * after.state[h];
        write({problem.form.relu ? (total > 0.0 && total < problem.form.clip ? 1.0 : 0.0) : slope});
        break;
      }
      case RecurrentCell::kGru: {
        const double r = sigmoid(x(0, h) + u(0, h)), z = sigmoid(x(1, h) + u(1, h));
        const double n = std::tanh(x(2, h) + r * u(2, h));
        after.state[h] = (1.0 - z) * n + z * before.state[h];
        const double to_n = (1.0 - z) * (1.0 - n * n);
        write({to_n * u(2, h) * r * (1.0 - r), (before.state[h] - n) * z * (1.0 - z), to_n,
               to_n * r, z});
        break;
      }
      case RecurrentCell::kLstm: {
        const double i = sigmoid(x(0, h) + u(0, h)), f = sigmoid(x(1, h) + u(1, h));
        const double g = std::tanh(x(2, h) + u(2, h)), o = sigmoid(x(3, h) + u(3, h));
        after.cell[h] = f * before.cell[h] + i * g;
        const double squashed = std::tanh(after.cell[h]);
        after.state[h] = o * squashed;
        write({o * (1.0 - squashed * squashed), g * i * (1.0 - i), before.cell[h] * f * (1.0 - f),
               i * (1.0 - g * g), squashed * o * (1.0 - o), f});
        break;
      }
    }
  }
  return after;
}

// Runs a problem in pieces of utterances and compares all of it with the plain loops.
template <typename State, typename Value>
void check_against_plain(const RecurrentForm& form, int64_t T, int64_t N, int64_t H, bool reverse,
                         Isa isa) {
  Problem<Value> problem(form, T, N, H, reverse);
  egl::recurrent_forward<State>(problem.scan, 0, N / 3, isa);
  egl::recurrent_forward<State>(problem.scan, N / 3, N, isa);
  const auto shape = egl::shape_of(form.cell);
  // A product rounds once a hidden unit, everything else a dozen times, of numbers up to about 4;
  // an error may grow by the norm of the weight (about 2) and of the gates' slopes, at every frame.
  const double eps = sizeof(State) == 8 ? kEps : std::numeric_limits<float>::epsilon();
  const double rounding = 0.5 * std::numeric_limits<Value>::epsilon();
  const double tolerance = 4.0 * static_cast<double>(H + 12) * std::pow(2.0, T) * eps;
  const auto close = [&](double got, double expected) {
    return egl::test::near(got, expected, tolerance + rounding * std::abs(expected));
  };
  for (int64_t n = 0; n < N; ++n) {
    Plain now;
    for (int64_t h = 0; h < H; ++h) now.state.push_back(problem.initial_state[n * H + h]);
    for (int64_t h = 0; h < H; ++h) now.cell.push_back(problem.initial_cell[n * H + h]);
    for (int64_t step = 0; step < T; ++step) {
      const int64_t row = (reverse ? T - 1 - step : step) * N + n;
      for (int64_t h = 0; h < H; ++h) CHECK(close(problem.previous[row * H + h], now.state[h]));
      now = plain_step(problem, problem.projected.data() + row * shape.num_gates * H, now);
      if (!problem.valid[row]) {
        for (auto* values : {&now.state, &now.cell, &now.coefficients}) {
          std::fill(values->begin(), values->end(), 0.0);
        }
      }
      for (int64_t h = 0; h < H; ++h) CHECK(close(problem.states[row * H + h], now.state[h]));
      const int64_t size = shape.num_coefficients * H;
      for (int64_t i = 0; i < size; ++i) {
        CHECK(close(problem.coefficients[row * size + i], now.coefficients[i]));
      }
    }
    if (form.cell != RecurrentCell::kLstm) continue;
    for (int64_t h = 0; h < H; ++h) CHECK(close(problem.final_cell[n * H + h], now.cell[h]));
  }
}

const std::vector<RecurrentForm> kForms = {{RecurrentCell::kRnn, false, kInf},
                                           {RecurrentCell::kRnn, true, kInf},
                                           {RecurrentCell::kRnn, true, 0.75},
                                           {RecurrentCell::kGru, false, kInf},
                                           {RecurrentCell::kLstm, false, kInf}};

// The largest error of `function` against `exact`, in parts of the exact value.
template <typename Exact>
double worst_error(void (*function)(const double*, int64_t, double*), const std::vector<double>& x,
                   const Exact& exact) {
  std::vector<double> got(x.size());
  function(x.data(), static_cast<int64_t>(x.size()), got.data());
  double worst = 0.0;
  for (size_t i = 0; i < x.size(); ++i) {
    const long double expected = exact(static_cast<long double>(x[i]));
    if (expected == 0.0L) {
      CHECK(got[i] == 0.0);
      continue;
    }
    worst = std::fmax(worst, static_cast<double>(std::fabs(got[i] / expected - 1.0L)));
  }
  return worst;
}

// Every magnitude, both signs; 10,007 numbers, so the last vector is not full.
std::vector<double> arguments(double largest) {
  std::vector<double> x;
  for (int i = 0; i < 5003; ++i) {
    const double magnitude = largest * std::pow(10.0, -20.0 * i / 5003.0);
    x.push_back(magnitude);
    x.push_back(-magnitude);
  }
  x.push_back(0.0);
  return x;
}

}  // namespace

// One, a few and more than a tile of utterances; hidden sizes below, at and beside the sizes of
// vectors and panels.
EGL_TEST(each_cell_follows_its_formula_on_every_instruction_set) {
  for (const Isa isa : egl::available_isas()) {
    for (const RecurrentForm& form : kForms) {
      for (const int64_t N : {1, 3, 7}) {
        for (const int64_t H : {1, 5, 16, 43}) {
          check_against_plain<double, double>(form, 4, N, H, N == 3, isa);
          check_against_plain<double, float>(form, 4, N, H, N != 3, isa);
          check_against_plain<float, float>(form, 4, N, H, N == 3, isa);
        }
      }
    }
  }
}

EGL_TEST(an_utterance_has_the_same_bits_alone) {
  for (const Isa isa : egl::available_isas()) {
    for (const RecurrentForm& form : kForms) {
      Problem<float> together(form, 5, 7, 21, false);
      Problem<float> alone(form, 5, 7, 21, false);
      egl::recurrent_forward<double>(together.scan, 0, 7, isa);
      for (int64_t n = 0; n < 7; ++n) egl::recurrent_forward<double>(alone.scan, n, n + 1, isa);
      CHECK(together.states == alone.states && together.previous == alone.previous);
      CHECK(together.coefficients == alone.coefficients);
    }
  }
}

EGL_TEST(without_frames_the_cell_state_is_the_initial_one) {
  Problem<float> problem(kForms.back(), 0, 2, 3, false);
  egl::recurrent_forward<double>(problem.scan, 0, 2, Isa::kBaseline);
  CHECK(problem.final_cell == problem.initial_cell);
}

// The exponential is off by less than 2 last bits (its polynomial's last sum, its scaling), the
// sums and the quotient round once each: no more than 4 units of 2^-52 in all.
EGL_TEST(sigmoid_and_tanh_are_right_to_the_last_bits) {
  for (const Isa isa : egl::available_isas()) {
    const auto& kernels = egl::recurrent_kernels(isa);
    CHECK(worst_error(kernels.sigmoid, arguments(708.0),
                      [](long double x) { return 1.0L / (1.0L + std::exp(-x)); }) <= 4 * kEps);
    CHECK(worst_error(kernels.tanh, arguments(100.0), [](long double x) { return std::tanh(x); }) <=
          4 * kEps);
  }
}

EGL_TEST(sigmoid_and_tanh_of_what_is_not_a_number_or_infinite) {
  const std::vector<double> x = {std::nan(""), kInf, -kInf, 1e300, -1e300};
  std::vector<double> s(x.size()), t(x.size());
  for (const Isa isa : egl::available_isas()) {
    egl::recurrent_kernels(isa).sigmoid(x.data(), 5, s.data());
    egl::recurrent_kernels(isa).tanh(x.data(), 5, t.data());
    CHECK(std::isnan(s[0]) && std::isnan(t[0]));
    CHECK(s[1] == 1.0 && s[3] == 1.0 && t[1] == 1.0 && t[3] == 1.0);
    CHECK(s[2] >= 0.0 && s[2] < 1e-300 && s[4] == s[2]);
    CHECK(t[2] == -1.0 && t[4] == -1.0);
  }
}

EGL_TEST_MAIN()
