// A call of recurrent_backward, on whatever device: its arguments, checked once, and its results.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <array>
#include <optional>

#include "csrc/core/recurrent_backward.h"
#include "csrc/ops/operators.h"
#include "csrc/ops/recurrent_requirements.h"

namespace egl::ops {

class RecurrentBackwardCall {
 public:
  RecurrentBackwardCall(int64_t cell, const Tensor& cotangents, const Tensor& coefficients,
                        const Tensor& weight_hh, bool reverse,
                        const std::optional<Tensor>& final_cell_cotangents)
      : cell_(check_recurrent_backward(cell, cotangents, coefficients, weight_hh,
                                       final_cell_cotangents)),
        reverse_(reverse),
        cotangents_(cotangents.size(3) <= 1 || cotangents.stride(3) == 1
                        ? cotangents
                        : torch::stable::contiguous(cotangents)),
        coefficients_(torch::stable::contiguous(coefficients)),
        weight_hh_(torch::stable::contiguous(weight_hh)),
        gates_(new_gates()),
        hidden_gates_(cell_ == RecurrentCell::kGru ? new_gates() : nothing()),
        state_(new_states()),
        direct_(new_states()) {
    if (final_cell_cotangents.has_value()) torch::stable::copy_(direct_, *final_cell_cotangents);
  }

  RecurrentCell cell() const { return cell_; }
  int64_t num_frames() const { return cotangents_.size(0); }
  int64_t num_rows() const { return cotangents_.size(1) * cotangents_.size(2); }
  int64_t hidden_size() const { return cotangents_.size(3); }
  int64_t gate_columns() const { return weight_hh_.size(0); }
  bool is_double() const { return cotangents_.scalar_type() == ScalarType::Double; }
  const Tensor& weight_hh() const { return weight_hh_; }
  const Tensor& state() const { return state_; }
  // Of the gates' two sides, what the recurrent weight is multiplied with.
  const Tensor& hidden_side() const {
    return cell_ == RecurrentCell::kGru ? hidden_gates_ : gates_;
  }

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
        .hidden_gates =
            cell_ == RecurrentCell::kGru ? hidden_gates_.mutable_data_ptr<Scalar>() : nullptr,
        .state = state_.mutable_data_ptr<Scalar>(),
        .direct = direct_.mutable_data_ptr<Scalar>()};
  }

  RecurrentCotangents results() const {
    return {gates_, hidden_gates_, state_, cell_ == RecurrentCell::kLstm ? direct_ : nothing()};
  }

 private:
  Tensor nothing() const { return torch::stable::new_empty(cotangents_, {0}); }
  Tensor new_gates() const {
    const std::array<int64_t, 4> sizes{num_frames(), cotangents_.size(1), cotangents_.size(2),
                                       gate_columns()};
    return torch::stable::new_empty(cotangents_, {sizes.data(), sizes.size()});
  }
  Tensor new_states() const {
    const std::array<int64_t, 3> sizes{cotangents_.size(1), cotangents_.size(2), hidden_size()};
    return torch::stable::new_zeros(cotangents_, {sizes.data(), sizes.size()});
  }

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
