// The arguments of recurrent_forward, checked, and its results, on any device.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "csrc/core/recurrent_forward.h"
#include "csrc/ops/check.h"
#include "csrc/ops/operators.h"
#include "csrc/ops/recurrent_backward_tensors.h"

namespace egl::ops {

inline RecurrentForm check_form(int64_t cell, std::optional<double> relu_clip) {
  const RecurrentCell kind = check_cell(cell);
  if (relu_clip.has_value()) {
    check(kind == RecurrentCell::kRnn, "relu_clip: expected None unless cell is rnn, got ",
          *relu_clip);
    check(*relu_clip > 0.0, "relu_clip: expected a number above 0, got ", *relu_clip);
  }
  return {kind, relu_clip.has_value(), relu_clip.value_or(std::numeric_limits<double>::infinity())};
}

class RecurrentForwardTensors {
 public:
  // One direction's arguments and results, all contiguous but `projected`, whose last dimension is.
  struct Direction {
    Tensor projected;
    Tensor weight_hh;
    std::optional<Tensor> bias_hh;
    Tensor initial_state;
    std::optional<Tensor> initial_cell;
    bool reverse;
    Tensor states;
    Tensor previous;
    Tensor coefficients;
    Tensor final_cell;
  };

  RecurrentForwardTensors(int64_t cell, std::optional<double> relu_clip,
                          const std::vector<Tensor>& projected,
                          const std::vector<Tensor>& weight_hh, const std::vector<Tensor>& bias_hh,
                          const std::vector<Tensor>& initial_state,
                          const std::vector<Tensor>& initial_cell,
                          const std::optional<Tensor>& valid, const std::vector<bool>& reverse)
      : form_(check_form(cell, relu_clip)) {
    check(!projected.empty(), "projected: expected a tensor for each direction, got none");
    const size_t count = projected.size();
    const auto check_count = [](const char* name, size_t expected, size_t got) {
      check(got == expected, name, ": expected ", expected, " tensors, got ", got);
    };
    check_count("weight_hh", count, weight_hh.size());
    check_count("bias_hh", bias_hh.empty() ? 0 : count, bias_hh.size());
    check_count("initial_state", count, initial_state.size());
    check_count("initial_cell", is_lstm() ? count : 0, initial_cell.size());
    check(reverse.size() == count, "reverse: expected ", count, " values, got ", reverse.size());

    check_tensor(projected[0], "projected", {ScalarType::Float, ScalarType::Double},
                 {{"T"}, {"N"}, {"G*H"}});
    const ScalarType dtype = projected[0].scalar_type();
    const Axis T{"T", projected[0].size(0)};
    const Axis N{"N", projected[0].size(1)};
    check_tensor(initial_state[0], "initial_state", {dtype}, {N, {"H"}});
    const Axis H{"H", initial_state[0].size(1)};
    const RecurrentCellShape shape = shape_of(form_.cell);
    const Axis gates{"G*H", shape.num_gates * H.size};
    if (valid.has_value()) {
      check_tensor(*valid, "valid", {ScalarType::Bool}, {T, N});
      valid_ = torch::stable::contiguous(*valid);
    }
    for (size_t i = 0; i < count; ++i) {
      check_tensor(projected[i], "projected", {dtype}, {T, N, gates});
      check_tensor(weight_hh[i], "weight_hh", {dtype}, {gates, H});
      check_tensor(initial_state[i], "initial_state", {dtype}, {N, H});
      if (!bias_hh.empty()) check_tensor(bias_hh[i], "bias_hh", {dtype}, {gates});
      if (!initial_cell.empty()) check_tensor(initial_cell[i], "initial_cell", {dtype}, {N, H});
    }
    for (size_t i = 0; i < count; ++i) {
      const Tensor& x = projected[i];
      const auto optional = [&](const std::vector<Tensor>& list) -> std::optional<Tensor> {
        if (list.empty()) return std::nullopt;
        return torch::stable::contiguous(list[i]);
      };
      directions_.push_back(
          {.projected = x.stride(2) == 1 ? x : torch::stable::contiguous(x),
           .weight_hh = torch::stable::contiguous(weight_hh[i]),
           .bias_hh = optional(bias_hh),
           .initial_state = torch::stable::contiguous(initial_state[i]),
           .initial_cell = optional(initial_cell),
           .reverse = reverse[i],
           .states = torch::stable::new_empty(x, {T.size, N.size, H.size}),
           .previous = torch::stable::new_empty(x, {T.size, N.size, H.size}),
           .coefficients =
               torch::stable::new_empty(x, {T.size, N.size, shape.num_coefficients, H.size}),
           .final_cell = torch::stable::new_empty(x, {is_lstm() ? N.size : 0, H.size})});
    }
  }

  const std::vector<Direction>& directions() const { return directions_; }
  int64_t num_directions() const { return static_cast<int64_t>(directions_.size()); }
  int64_t num_utterances() const { return directions_[0].projected.size(1); }
  int64_t hidden_size() const { return directions_[0].initial_state.size(1); }
  int64_t gate_columns() const { return directions_[0].weight_hh.size(0); }
  bool is_lstm() const { return form_.cell == RecurrentCell::kLstm; }

  // Calls body(State{}, Value{}) for the types of the states that are carried and of the tensors,
  // unless there is nothing to do.
  template <typename Body>
  void visit_types(bool precise, const Body& body) const {
    if (directions_[0].initial_state.numel() == 0) return;
    if (directions_[0].projected.scalar_type() == ScalarType::Double) {
      body(double{}, double{});
    } else if (precise) {
      body(double{}, float{});
    } else {
      body(float{}, float{});
    }
  }

  template <typename Value>
  std::vector<RecurrentScan<Value>> scans() const {
    const auto data = [](const std::optional<Tensor>& tensor) {
      return tensor.has_value() ? tensor->const_data_ptr<Value>() : nullptr;
    };
    std::vector<RecurrentScan<Value>> found;
    found.reserve(directions_.size());
    for (const Direction& direction : directions_) {
      found.push_back({
          .form = form_,
          .num_frames = direction.projected.size(0),
          .num_utterances = num_utterances(),
          .hidden_size = hidden_size(),
          .reverse = direction.reverse,
          .projected = direction.projected.const_data_ptr<Value>(),
          .projected_strides = {direction.projected.stride(0), direction.projected.stride(1)},
          .weight = direction.weight_hh.const_data_ptr<Value>(),
          .bias = data(direction.bias_hh),
          .initial_state = direction.initial_state.const_data_ptr<Value>(),
          .initial_cell = data(direction.initial_cell),
          .valid = valid_.has_value() ? valid_->const_data_ptr<bool>() : nullptr,
          .states = direction.states.mutable_data_ptr<Value>(),
          .previous = direction.previous.mutable_data_ptr<Value>(),
          .coefficients = direction.coefficients.mutable_data_ptr<Value>(),
          .final_cell = is_lstm() ? direction.final_cell.mutable_data_ptr<Value>() : nullptr,
      });
    }
    return found;
  }

  RecurrentStates results() const {
    RecurrentStates all;
    for (const Direction& direction : directions_) {
      all.states.push_back(direction.states);
      all.previous.push_back(direction.previous);
      all.coefficients.push_back(direction.coefficients);
      all.final_cell.push_back(direction.final_cell);
    }
    return all;
  }

 private:
  RecurrentForm form_;
  std::optional<Tensor> valid_;
  std::vector<Direction> directions_;
};

}  // namespace egl::ops
