// The arguments of recurrent_backward, checked, and its results, on any device.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>

#include "csrc/core/recurrent_backward.h"
#include "csrc/ops/check.h"
#include "csrc/ops/operators.h"

namespace egl::ops {

inline RecurrentCell check_cell(int64_t cell) {
  check(cell >= 0 && cell <= static_cast<int64_t>(RecurrentCell::kLstm),
        "cell: expected 0, 1 or 2, got ", cell);
  return static_cast<RecurrentCell>(cell);
}

class RecurrentBackwardTensors {
 public:
  RecurrentBackwardTensors(int64_t cell, const Tensor& cotangents, const Tensor& coefficients,
                           const Tensor& weight_hh, bool reverse,
                           const std::optional<Tensor>& final_cell_cotangents)
      : cell_(check_cell(cell)), reverse_(reverse) {
    const RecurrentCellShape shape = shape_of(cell_);
    check_tensor(cotangents, "cotangents", {ScalarType::Float, ScalarType::Double},
                 {{"T"}, {"R"}, {"N"}, {"H"}});
    const ScalarType dtype = cotangents.scalar_type();
    const Axis R{"R", cotangents.size(1)};
    const Axis N{"N", cotangents.size(2)};
    const Axis H{"H", cotangents.size(3)};
    check_tensor(coefficients, "coefficients", {dtype},
                 {{"T", cotangents.size(0)}, N, {"P", shape.num_coefficients}, H});
    check_tensor(weight_hh, "weight_hh", {dtype}, {{"G*H", shape.num_gates * H.size}, H});
    if (final_cell_cotangents.has_value()) {
      check(is_lstm(), "final_cell_cotangents: expected None unless cell is lstm");
      check_tensor(*final_cell_cotangents, "final_cell_cotangents", {dtype}, {R, N, H});
    }
    const bool has_unit_stride = H.size <= 1 || cotangents.stride(3) == 1;
    cotangents_ = has_unit_stride ? cotangents : torch::stable::contiguous(cotangents);
    coefficients_ = torch::stable::contiguous(coefficients);
    weight_hh_ = torch::stable::contiguous(weight_hh);
    const auto new_gates = [&] {
      return torch::stable::new_empty(cotangents,
                                      {num_frames(), R.size, N.size, shape.num_gates * H.size});
    };
    gates_ = new_gates();
    hidden_gates_ = is_gru() ? new_gates() : nothing();
    state_ = torch::stable::new_zeros(cotangents, {R.size, N.size, H.size});
    direct_ = torch::stable::new_zeros(cotangents, {R.size, N.size, H.size});
    if (final_cell_cotangents.has_value()) torch::stable::copy_(direct_, *final_cell_cotangents);
  }

  RecurrentCell cell() const { return cell_; }
  int64_t num_frames() const { return cotangents_.size(0); }
  int64_t num_rows() const { return cotangents_.size(1) * cotangents_.size(2); }
  int64_t hidden_size() const { return cotangents_.size(3); }
  int64_t gate_columns() const { return weight_hh_.size(0); }
  const Tensor& weight_hh() const { return weight_hh_; }
  const Tensor& state() const { return state_; }
  // The side of the gates that is multiplied by the recurrent weight.
  const Tensor& hidden_side() const { return is_gru() ? hidden_gates_ : gates_; }

  template <typename Scalar>
  RecurrentPullback<Scalar> pullback() const {
    return {
        .cell = cell_,
        .num_frames = num_frames(),
        .num_cotangents = cotangents_.size(1),
        .num_utterances = cotangents_.size(2),
        .hidden_size = hidden_size(),
        .reverse = reverse_,
        .cotangents = cotangents_.const_data_ptr<Scalar>(),
        .cotangent_strides = {cotangents_.stride(0), cotangents_.stride(1), cotangents_.stride(2)},
        .coefficients = coefficients_.const_data_ptr<Scalar>(),
        .weight = nullptr,
        .gates = gates_.mutable_data_ptr<Scalar>(),
        .hidden_gates = is_gru() ? hidden_gates_.mutable_data_ptr<Scalar>() : nullptr,
        .state = state_.mutable_data_ptr<Scalar>(),
        .direct = direct_.mutable_data_ptr<Scalar>()};
  }

  RecurrentCotangents results() const {
    return {gates_, hidden_gates_, state_, is_lstm() ? direct_ : nothing()};
  }

 private:
  bool is_gru() const { return cell_ == RecurrentCell::kGru; }
  bool is_lstm() const { return cell_ == RecurrentCell::kLstm; }
  Tensor nothing() const { return torch::stable::new_empty(cotangents_, {0}); }

  RecurrentCell cell_;
  bool reverse_;
  Tensor cotangents_;
  Tensor coefficients_;
  Tensor weight_hh_;
  Tensor gates_;
  Tensor hidden_gates_;
  Tensor state_;
  Tensor direct_;
};

}  // namespace egl::ops
