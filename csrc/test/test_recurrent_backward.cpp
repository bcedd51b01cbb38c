#include <vector>

#include "csrc/core/recurrent_backward.h"
#include "csrc/test/recurrent_problems.h"
#include "csrc/test/test.h"

using egl::RecurrentCell;

namespace {

// Small whole numbers, so that all sums and products are exact; each index has its own value.
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
  for (const auto cell : egl::test::kCells) {
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
  for (const auto cell : egl::test::kCells) {
    for (const bool reverse : {false, true}) {
      const auto draw = [factor = 3](int64_t size) mutable {
        factor += 4;
        std::vector<double> values(size);
        for (int64_t i = 0; i < size; ++i) values[i] = static_cast<double>(i * factor % 5 - 2);
        return values;
      };
      const egl::test::PullbackProblem<double> problem(cell, kT, kR, kN, kH, reverse, draw);
      auto expected = problem;
      for (int64_t step = 0; step < kT; ++step) {
        const int64_t t = reverse ? step : kT - 1 - step;
        egl::recurrent_backward_step(cell, step_of(expected.pullback(), t));
        expected.multiply(t);
      }
      if (cell == RecurrentCell::kGru) {
        for (int64_t i = 0; i < kR * kN * kH; ++i) expected.state[i] += expected.direct[i];
      }
      for (const egl::Isa isa : egl::available_isas()) {
        auto got = problem;
        const auto packed =
            egl::pack_for_backward(got.weight.data(), egl::shape_of(cell).num_gates, kH, isa);
        egl::recurrent_backward(got.pullback(&packed), 0, 4, isa);
        egl::recurrent_backward(got.pullback(&packed), 4, 7, isa);
        CHECK(got == expected);
      }
    }
  }
}

EGL_TEST_MAIN()
