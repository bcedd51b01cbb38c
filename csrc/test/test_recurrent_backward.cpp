#include <vector>

#include "csrc/core/recurrent_backward.h"
#include "csrc/test/test.h"

using egl::RecurrentCell;

namespace {

// Small whole numbers, so that all sums and products are exact; each index its own value.
std::vector<double> counting(size_t size, int first) {
  std::vector<double> values(size);
  for (size_t i = 0; i < size; ++i) values[i] = first + static_cast<int>(i);
  return values;
}

}  // namespace

// Two cotangents of three utterances with two hidden units, cotangents strided as [N, R, H]; only
// rows 1 to 4 are computed. Checks every output of every cell against its formula.
EGL_TEST(each_cell_follows_its_formula) {
  constexpr int64_t kR = 2, kN = 3, kH = 2;
  for (const auto cell : {RecurrentCell::kRnn, RecurrentCell::kGru, RecurrentCell::kLstm}) {
    const auto shape = egl::shape_of(cell);
    const auto cotangents = counting(kN * kR * kH, 1);
    const auto a = counting(kN * shape.num_coefficients * kH, 50);
    const auto product = counting(kR * kN * kH, 100);
    const auto before = counting(kR * kN * kH, 200);
    auto direct = before;
    std::vector<double> gates(kR * kN * shape.num_gates * kH, -1.0);
    std::vector<double> hidden_gates = gates;
    egl::recurrent_backward_step<double>(cell, {.first_row = 1,
                                                .last_row = 5,
                                                .num_utterances = kN,
                                                .hidden_size = kH,
                                                .cotangents = cotangents.data(),
                                                .cotangent_strides = {kH, kR * kH},
                                                .coefficients = a.data(),
                                                .product = product.data() + kH,
                                                .product_stride = kH,
                                                .direct = direct.data(),
                                                .gates = gates.data(),
                                                .hidden_gates = hidden_gates.data()});
    for (int64_t row = 0; row < kR * kN; ++row) {
      const int64_t r = row / kN, n = row % kN;
      for (int64_t h = 0; h < kH; ++h) {
        const auto coefficient = [&](int64_t p) {
          return a[(n * shape.num_coefficients + p) * kH + h];
        };
        const auto gate = [&](int64_t g) { return gates[(row * shape.num_gates + g) * kH + h]; };
        const auto hidden_gate = [&](int64_t g) {
          return hidden_gates[(row * shape.num_gates + g) * kH + h];
        };
        const int64_t i = row * kH + h;
        if (row < 1 || row >= 5) {
          CHECK(gate(0) == -1.0 && hidden_gate(0) == -1.0 && direct[i] == before[i]);
          continue;
        }
        const double dh = cotangents[(n * kR + r) * kH + h] + product[i];
        switch (cell) {
          case RecurrentCell::kRnn:
            CHECK(gate(0) == dh * coefficient(0));
            CHECK(direct[i] == before[i]);
            break;
          case RecurrentCell::kGru:
            for (int64_t g = 0; g < 3; ++g) {
              CHECK(gate(g) == (dh + before[i]) * coefficient(g));
              CHECK(hidden_gate(g) == (dh + before[i]) * coefficient(g == 2 ? 3 : g));
            }
            CHECK(direct[i] == (dh + before[i]) * coefficient(4));
            break;
          case RecurrentCell::kLstm: {
            const double dc = dh * coefficient(0) + before[i];
            for (int64_t g = 0; g < 3; ++g) CHECK(gate(g) == dc * coefficient(g + 1));
            CHECK(gate(3) == dh * coefficient(4));
            CHECK(direct[i] == dc * coefficient(5));
            break;
          }
        }
      }
    }
  }
}

// Whole numbers small enough that all sums are exact, so that the kernels must agree with plain
// loops to the bit; more hidden units than a panel has columns, and rows that fill no tile.
EGL_TEST(all_frames_are_steps_and_plain_products) {
  constexpr int64_t kT = 3, kR = 7, kN = 1, kH = 67;
  for (const auto cell : {RecurrentCell::kRnn, RecurrentCell::kGru, RecurrentCell::kLstm}) {
    const auto shape = egl::shape_of(cell);
    const int64_t columns = shape.num_gates * kH;
    const auto small = [](int64_t size, int64_t factor) {
      std::vector<double> values(size);
      for (int64_t i = 0; i < size; ++i) values[i] = static_cast<double>(i * factor % 5 - 2);
      return values;
    };
    const auto cotangents = small(kT * kR * kN * kH, 7);
    const auto coefficients = small(kT * kN * shape.num_coefficients * kH, 3);
    const auto weight = small(columns * kH, 11);
    for (const bool reverse : {false, true}) {
      std::vector<double> gates(kT * kR * kN * columns), hidden_gates(gates);
      std::vector<double> state(kR * kN * kH), direct(kR * kN * kH);
      for (int64_t step = 0; step < kT; ++step) {
        const int64_t t = reverse ? step : kT - 1 - step;
        double* input_side = gates.data() + t * kR * kN * columns;
        double* hidden_side = hidden_gates.data() + t * kR * kN * columns;
        egl::recurrent_backward_step<double>(
            cell, {.first_row = 0,
                   .last_row = kR * kN,
                   .num_utterances = kN,
                   .hidden_size = kH,
                   .cotangents = cotangents.data() + t * kR * kN * kH,
                   .cotangent_strides = {kN * kH, kH},
                   .coefficients = coefficients.data() + t * kN * shape.num_coefficients * kH,
                   .product = state.data(),
                   .product_stride = kH,
                   .direct = direct.data(),
                   .gates = input_side,
                   .hidden_gates = hidden_side});
        const double* from = cell == RecurrentCell::kGru ? hidden_side : input_side;
        for (int64_t row = 0; row < kR * kN; ++row) {
          for (int64_t h = 0; h < kH; ++h) {
            double sum = 0.0;
            for (int64_t j = 0; j < columns; ++j)
              sum += from[row * columns + j] * weight[j * kH + h];
            state[row * kH + h] = sum;
          }
        }
      }
      if (cell == RecurrentCell::kGru) {
        for (int64_t i = 0; i < kR * kN * kH; ++i) state[i] += direct[i];
      }
      for (const egl::Isa isa : egl::available_isas()) {
        const auto packed = egl::pack_for_backward(weight.data(), shape.num_gates, kH, isa);
        std::vector<double> own_gates(gates.size()), own_hidden(gates.size());
        std::vector<double> own_state(state.size()), own_direct(state.size());
        const egl::RecurrentPullback<double> problem{
            .cell = cell,
            .num_frames = kT,
            .num_cotangents = kR,
            .num_utterances = kN,
            .hidden_size = kH,
            .reverse = reverse,
            .cotangents = cotangents.data(),
            .cotangent_strides = {kR * kN * kH, kN * kH, kH},
            .coefficients = coefficients.data(),
            .weight = &packed,
            .gates = own_gates.data(),
            .hidden_gates = own_hidden.data(),
            .state = own_state.data(),
            .direct = own_direct.data()};
        egl::recurrent_backward(problem, 0, 4, isa);
        egl::recurrent_backward(problem, 4, 7, isa);
        CHECK(own_gates == gates);
        CHECK(own_state == state);
        if (cell == RecurrentCell::kGru) CHECK(own_hidden == hidden_gates);
        if (cell == RecurrentCell::kLstm) CHECK(own_direct == direct);
      }
    }
  }
}

EGL_TEST_MAIN()
