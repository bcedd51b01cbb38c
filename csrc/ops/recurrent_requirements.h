// What the recurrent operators ask of their arguments, wherever those are.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "csrc/core/recurrent_kernel.h"
#include "csrc/ops/check.h"

namespace egl::ops {

inline RecurrentCell check_cell(int64_t cell) {
  check(cell >= 0 && cell <= static_cast<int64_t>(RecurrentCell::kLstm),
        "cell: expected 0, 1 or 2, got ", cell);
  return static_cast<RecurrentCell>(cell);
}

inline RecurrentForm check_form(int64_t cell, std::optional<double> relu_clip) {
  const RecurrentCell kind = check_cell(cell);
  if (relu_clip.has_value()) {
    check(kind == RecurrentCell::kRnn, "relu_clip: expected None unless cell is rnn, got ",
          *relu_clip);
    check(*relu_clip > 0.0, "relu_clip: expected a number above 0, got ", *relu_clip);
  }
  return {kind, relu_clip.has_value(), relu_clip.value_or(std::numeric_limits<double>::infinity())};
}

// A list with a tensor for each direction; or, where `is_wanted` is false, an empty one.
inline void check_count(const std::vector<Tensor>& list, const char* name, size_t count,
                        bool is_wanted) {
  check(list.size() == (is_wanted ? count : 0), name, ": expected ", is_wanted ? count : 0,
        " tensors, got ", list.size());
}

inline void check_directions(RecurrentCell cell, const std::vector<Tensor>& projected,
                             const std::vector<Tensor>& weight_hh,
                             const std::vector<Tensor>& bias_hh,
                             const std::vector<Tensor>& initial_state,
                             const std::vector<Tensor>& initial_cell,
                             const std::optional<Tensor>& valid, const std::vector<bool>& reverse) {
  check(!projected.empty(), "projected: expected a tensor for each direction, got none");
  const size_t count = projected.size();
  check_count(weight_hh, "weight_hh", count, true);
  check_count(bias_hh, "bias_hh", count, !bias_hh.empty());
  check_count(initial_state, "initial_state", count, true);
  check_count(initial_cell, "initial_cell", count, cell == RecurrentCell::kLstm);
  check(reverse.size() == count, "reverse: expected ", count, " values, got ", reverse.size());

  check_tensor(projected[0], "projected", {ScalarType::Float, ScalarType::Double},
               {{"T"}, {"N"}, {"G*H"}});
  check_tensor(initial_state[0], "initial_state", {projected[0].scalar_type()},
               {{"N", projected[0].size(1)}, {"H"}});
  const ScalarType dtype = projected[0].scalar_type();
  const Axis T{"T", projected[0].size(0)};
  const Axis N{"N", projected[0].size(1)};
  const Axis H{"H", initial_state[0].size(1)};
  const Axis gates{"G*H", shape_of(cell).num_gates * H.size};
  if (valid.has_value()) check_tensor(*valid, "valid", {ScalarType::Bool}, {T, N});
  for (size_t i = 0; i < count; ++i) {
    check_tensor(projected[i], "projected", {dtype}, {T, N, gates});
    check_tensor(weight_hh[i], "weight_hh", {dtype}, {gates, H});
    check_tensor(initial_state[i], "initial_state", {dtype}, {N, H});
    if (!bias_hh.empty()) check_tensor(bias_hh[i], "bias_hh", {dtype}, {gates});
    if (!initial_cell.empty()) check_tensor(initial_cell[i], "initial_cell", {dtype}, {N, H});
  }
}

inline RecurrentCell check_recurrent_backward(int64_t cell, const Tensor& cotangents,
                                              const Tensor& coefficients, const Tensor& weight_hh,
                                              const std::optional<Tensor>& final_cell_cotangents) {
  const RecurrentCell kind = check_cell(cell);
  const RecurrentCellShape shape = shape_of(kind);
  check_tensor(cotangents, "cotangents", {ScalarType::Float, ScalarType::Double},
               {{"T"}, {"R"}, {"N"}, {"H"}});
  const ScalarType dtype = cotangents.scalar_type();
  const int64_t hidden = cotangents.size(3);
  check_tensor(coefficients, "coefficients", {dtype},
               {{"T", cotangents.size(0)},
                {"N", cotangents.size(2)},
                {"P", shape.num_coefficients},
                {"H", hidden}});
  check_tensor(weight_hh, "weight_hh", {dtype}, {{"G*H", shape.num_gates * hidden}, {"H", hidden}});
  if (final_cell_cotangents.has_value()) {
    check(kind == RecurrentCell::kLstm, "final_cell_cotangents: expected None unless cell is lstm");
    check_tensor(*final_cell_cotangents, "final_cell_cotangents", {dtype},
                 {{"R", cotangents.size(1)}, {"N", cotangents.size(2)}, {"H", hidden}});
  }
  return kind;
}

}  // namespace egl::ops
