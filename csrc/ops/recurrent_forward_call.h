// A call of recurrent_forward, on whatever device: its arguments, checked once, and its results.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <array>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "csrc/core/recurrent_forward.h"
#include "csrc/ops/operators.h"
#include "csrc/ops/recurrent_requirements.h"

namespace egl::ops {

class RecurrentForwardCall {
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

  RecurrentForwardCall(int64_t cell, std::optional<double> relu_clip,
                       const std::vector<Tensor>& projected, const std::vector<Tensor>& weight_hh,
                       const std::vector<Tensor>& bias_hh, const std::vector<Tensor>& initial_state,
                       const std::vector<Tensor>& initial_cell, const std::optional<Tensor>& valid,
                       const std::vector<bool>& reverse)
      : form_(check_form(cell, relu_clip)) {
    check_directions(form_.cell, projected, weight_hh, bias_hh, initial_state, initial_cell, valid,
                     reverse);
    if (valid.has_value()) valid_ = torch::stable::contiguous(*valid);
    const RecurrentCellShape shape = shape_of(form_.cell);
    for (size_t i = 0; i < projected.size(); ++i) {
      const Tensor& x = projected[i];
      const int64_t num_frames = x.size(0);
      const int64_t num_utterances = x.size(1);
      const int64_t hidden = initial_state[i].size(1);
      const auto empty = [&]<size_t kDims>(const std::array<int64_t, kDims>& sizes) {
        return torch::stable::new_empty(x, {sizes.data(), sizes.size()});
      };
      const auto optional = [&](const std::vector<Tensor>& list) -> std::optional<Tensor> {
        if (list.empty()) return std::nullopt;
        return torch::stable::contiguous(list[i]);
      };
      const std::array<int64_t, 3> of_states{num_frames, num_utterances, hidden};
      const std::array<int64_t, 4> of_coefficients{num_frames, num_utterances,
                                                   shape.num_coefficients, hidden};
      const std::array<int64_t, 2> of_cell{initial_cell.empty() ? 0 : num_utterances, hidden};
      directions_.push_back({.projected = x.stride(2) == 1 ? x : torch::stable::contiguous(x),
                             .weight_hh = torch::stable::contiguous(weight_hh[i]),
                             .bias_hh = optional(bias_hh),
                             .initial_state = torch::stable::contiguous(initial_state[i]),
                             .initial_cell = optional(initial_cell),
                             .reverse = reverse[i],
                             .states = empty(of_states),
                             .previous = empty(of_states),
                             .coefficients = empty(of_coefficients),
                             .final_cell = empty(of_cell)});
    }
  }

  const std::vector<Direction>& directions() const { return directions_; }
  int64_t num_directions() const { return static_cast<int64_t>(directions_.size()); }
  int64_t num_utterances() const { return directions_[0].projected.size(1); }
  int64_t hidden_size() const { return directions_[0].initial_state.size(1); }
  int64_t gate_columns() const { return directions_[0].weight_hh.size(0); }
  bool is_lstm() const { return form_.cell == RecurrentCell::kLstm; }

  // Calls body(State, Value), values that stand for the types of what is carried and of the
  // tensors, unless there is nothing to do.
  template <typename Body>
  void visit_types(bool precise, const Body& body) const {
    if (is_empty()) return;
    if (is_double()) {
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
  bool is_empty() const { return directions_[0].initial_state.numel() == 0; }
  bool is_double() const { return directions_[0].projected.scalar_type() == ScalarType::Double; }

  RecurrentForm form_;
  std::optional<Tensor> valid_;
  std::vector<Direction> directions_;
};

}  // namespace egl::ops
