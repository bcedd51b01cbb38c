// Random recurrent layers, forward and backward, that the core and the kernels are tested on.
// Arrays are on the heap, each of its exact size, so that the address sanitizer sees the ends.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "csrc/core/recurrent_backward.h"
#include "csrc/core/recurrent_forward.h"

namespace egl::test {

inline constexpr RecurrentCell kCells[] = {RecurrentCell::kRnn, RecurrentCell::kGru,
                                           RecurrentCell::kLstm};

inline const std::vector<RecurrentForm> kForms = {
    {RecurrentCell::kRnn, false, std::numeric_limits<double>::infinity()},
    {RecurrentCell::kRnn, true, std::numeric_limits<double>::infinity()},
    {RecurrentCell::kRnn, true, 0.75},
    {RecurrentCell::kGru, false, std::numeric_limits<double>::infinity()},
    {RecurrentCell::kLstm, false, std::numeric_limits<double>::infinity()}};

template <typename Value>
class NormalValues {
 public:
  explicit NormalValues(int64_t seed) : engine_(static_cast<unsigned>(seed)) {}

  std::vector<Value> operator()(int64_t size) {
    std::vector<Value> values(size);
    for (Value& value : values) value = static_cast<Value>(normal_(engine_));
    return values;
  }

 private:
  std::mt19937 engine_;
  std::normal_distribution<double> normal_;
};

// D directions of a layer; every second one is reversed. `projected` is strided as [N, T, G * H].
// Every fourth frame of an utterance is padding where there are more than two frames.
template <typename Value>
struct RecurrentLayer {
  struct Direction {
    std::vector<Value> projected, weight, bias, initial_state, initial_cell;
    std::vector<Value> states, previous, coefficients, final_cell;

    bool operator==(const Direction&) const = default;
  };

  RecurrentLayer(const RecurrentForm& form, int64_t D, int64_t T, int64_t N, int64_t H,
                 bool has_bias)
      : T(T), N(N), H(H), columns(shape_of(form.cell).num_gates * H), form(form) {
    NormalValues<Value> draw(1000 * D + 100 * T + 10 * N + H);
    valid.reset(new bool[T * N]);
    for (int64_t i = 0; i < T * N; ++i) valid[i] = i % 4 != 3;
    const int64_t num_coefficients = shape_of(form.cell).num_coefficients;
    for (int64_t d = 0; d < D; ++d) {
      Direction direction{
          .projected = draw(N * T * columns),
          .weight = draw(columns * H),
          .bias = has_bias ? draw(columns) : std::vector<Value>(),
          .initial_state = draw(N * H),
          .initial_cell = draw(N * H),
          .states = std::vector<Value>(T * N * H, Value{-9}),
          .previous = std::vector<Value>(T * N * H, Value{-9}),
          .coefficients = std::vector<Value>(T * N * num_coefficients * H, Value{-9}),
          .final_cell = std::vector<Value>(N * H, Value{-9})};
      for (Value& value : direction.weight) value /= static_cast<Value>(std::sqrt(H));
      directions.push_back(std::move(direction));
    }
  }

  RecurrentScan<Value> scan(size_t d) {
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

  int64_t T, N, H, columns;
  RecurrentForm form;
  std::unique_ptr<bool[]> valid;
  std::vector<Direction> directions;
};

// What sums of `State` over H units and T frames may differ by. A product rounds once for each
// hidden unit, everything else a dozen times, of numbers up to about 4; an error may grow by the
// norm of the weight (about 2) and of the gates' slopes, at every frame.
template <typename State>
double recurrent_tolerance(int64_t H, int64_t T) {
  return 4.0 * static_cast<double>(H + 12) * std::pow(2.0, static_cast<double>(T)) *
         std::numeric_limits<State>::epsilon();
}

// Backward through time, with cotangents strided as [T, N, R, H]. `draw(size)` gives the numbers.
template <typename Scalar>
struct PullbackProblem {
  template <typename Draw>
  PullbackProblem(RecurrentCell cell, int64_t T, int64_t R, int64_t N, int64_t H, bool reverse,
                  Draw draw)
      : cell(cell), T(T), R(R), N(N), H(H), reverse(reverse) {
    const auto shape = shape_of(cell);
    columns = shape.num_gates * H;
    cotangents = draw(T * R * N * H);
    coefficients = draw(T * N * shape.num_coefficients * H);
    weight = draw(columns * H);
    direct = cell == RecurrentCell::kLstm ? draw(R * N * H) : std::vector<Scalar>(R * N * H);
    gates.assign(T * R * N * columns, Scalar{-9});
    if (cell == RecurrentCell::kGru) hidden_gates = gates;
    state.assign(R * N * H, Scalar{0});
  }

  RecurrentPullback<Scalar> pullback(const PackedWeight<Scalar>* packed = nullptr) {
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

  // A frame's product in plain loops, in the core's order: sums start at zero and go through the
  // gates.
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

  bool operator==(const PullbackProblem& other) const {
    return gates == other.gates && hidden_gates == other.hidden_gates && state == other.state &&
           direct == other.direct;
  }

  RecurrentCell cell;
  int64_t T, R, N, H;
  bool reverse;
  int64_t columns;
  std::vector<Scalar> cotangents, coefficients, weight, gates, hidden_gates, state, direct;
};

}  // namespace egl::test
