// What the recurrent operators ask of their arguments, wherever those are.
#pragma once

#include <cstdint>
#include <optional>

#include "csrc/core/recurrent_cell.h"
#include "csrc/ops/check.h"

namespace egl::ops {

inline RecurrentCell check_cell(int64_t cell) {
  check(cell >= 0 && cell <= static_cast<int64_t>(RecurrentCell::kLstm),
        "cell: expected 0, 1 or 2, got ", cell);
  return static_cast<RecurrentCell>(cell);
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
