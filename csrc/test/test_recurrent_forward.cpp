#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "csrc/core/recurrent_forward.h"
#include "csrc/test/recurrent_problems.h"
#include "csrc/test/test.h"

using egl::Isa;
using egl::RecurrentCell;
using egl::RecurrentForm;
using egl::test::kForms;
using egl::test::RecurrentLayer;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kEps = std::numeric_limits<double>::epsilon();

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

// A frame of one utterance by its formulas, in plain loops.
struct Plain {
  std::vector<double> state, cell, coefficients;
};

template <typename Value>
Plain plain_step(const RecurrentLayer<Value>& layer, size_t d, const Value* projected,
                 const Plain& before) {
  const auto& direction = layer.directions[d];
  const RecurrentForm& form = layer.form;
  const int64_t H = layer.H;
  Plain after{before.state, before.cell,
              std::vector<double>(egl::shape_of(form.cell).num_coefficients * H)};
  const auto x = [&](int64_t gate, int64_t h) { return double{projected[gate * H + h]}; };
  const auto u = [&](int64_t gate, int64_t h) {
    double sum = direction.bias[gate * H + h];
    for (int64_t j = 0; j < H; ++j) {
      sum += double{direction.weight[(gate * H + h) * H + j]} * before.state[j];
    }
    return sum;
  };
  for (int64_t h = 0; h < H; ++h) {
    const auto write = [&](std::vector<double> values) {
      for (size_t p = 0; p < values.size(); ++p) after.coefficients[p * H + h] = values[p];
    };
    switch (form.cell) {
      case RecurrentCell::kRnn: {
        const double total = x(0, h) + u(0, h);
        after.state[h] = form.relu ? std::min(std::max(total, 0.0), form.clip) : std::tanh(total);
        const double slope = 1.0 - after.state[h] * after.state[h];
        write({form.relu ? (total > 0.0 && total < form.clip ? 1.0 : 0.0) : slope});
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

// Runs a direction in pieces of utterances and compares all of it with the plain loops.
template <typename State, typename Value>
void check_against_plain(const RecurrentForm& form, int64_t T, int64_t N, int64_t H, bool reverse,
                         Isa isa) {
  RecurrentLayer<Value> layer(form, 2, T, N, H, true);
  const size_t d = reverse ? 1 : 0;
  const auto scan = layer.scan(d);
  const auto& direction = layer.directions[d];
  egl::recurrent_forward<State>(scan, 0, N / 3, isa);
  egl::recurrent_forward<State>(scan, N / 3, N, isa);
  const double tolerance = egl::test::recurrent_tolerance<State>(H, T);
  const double rounding = 0.5 * std::numeric_limits<Value>::epsilon();
  const auto check = [&](const Value* got, const std::vector<double>& expected) {
    for (size_t i = 0; i < expected.size(); ++i) {
      CHECK(egl::test::near(got[i], expected[i], tolerance + rounding * std::abs(expected[i])));
    }
  };
  const auto row_of = [&](const std::vector<Value>& values, int64_t n) {
    return std::vector<double>(values.begin() + n * H, values.begin() + (n + 1) * H);
  };
  for (int64_t n = 0; n < N; ++n) {
    Plain now{row_of(direction.initial_state, n), row_of(direction.initial_cell, n), {}};
    for (int64_t step = 0; step < T; ++step) {
      const int64_t t = reverse ? T - 1 - step : step;
      const int64_t row = t * N + n;
      check(&direction.previous[row * H], now.state);
      now = plain_step(layer, d, scan.projected + (n * T + t) * layer.columns, now);
      if (!layer.valid[row]) {
        for (auto* values : {&now.state, &now.cell, &now.coefficients}) {
          std::fill(values->begin(), values->end(), 0.0);
        }
      }
      check(&direction.states[row * H], now.state);
      check(&direction.coefficients[row * now.coefficients.size()], now.coefficients);
    }
    if (form.cell == RecurrentCell::kLstm) check(&direction.final_cell[n * H], now.cell);
  }
}

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
      RecurrentLayer<float> together(form, 1, 5, 7, 21, true);
      RecurrentLayer<float> alone(form, 1, 5, 7, 21, true);
      egl::recurrent_forward<double>(together.scan(0), 0, 7, isa);
      for (int64_t n = 0; n < 7; ++n) egl::recurrent_forward<double>(alone.scan(0), n, n + 1, isa);
      CHECK(together.directions == alone.directions);
    }
  }
}

EGL_TEST(without_frames_the_cell_state_is_the_initial_one) {
  RecurrentLayer<float> layer(kForms.back(), 1, 0, 2, 3, true);
  egl::recurrent_forward<double>(layer.scan(0), 0, 2, Isa::kBaseline);
  CHECK(layer.directions[0].final_cell == layer.directions[0].initial_cell);
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
