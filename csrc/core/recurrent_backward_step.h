// One frame of backward through time, hidden unit by hidden unit: the loops of the CPU and the
// threads of CUDA call the same formulas, which recurrent_backward.h explains.
#pragma once

#include <cstdint>

#include "csrc/core/host_device.h"
#include "csrc/core/recurrent_cell.h"

namespace egl {

// Rows are numbered r * N + n; rows [first_row, last_row) take the step.
template <typename Scalar>
struct RecurrentStep {
  int64_t first_row;
  int64_t last_row;
  int64_t num_utterances;
  int64_t hidden_size;
  const Scalar* cotangents;      // of this frame's output: [R, N, H] with unit stride in H
  int64_t cotangent_strides[2];  // of R and N
  const Scalar* coefficients;    // [N, P, H]
  const Scalar* product;         // of first_row: hidden side of the frame before @ weight_hh, [H]
  int64_t product_stride;        // from row to row
  Scalar* direct;        // [R * N, H]: GRU: dh z, what bypasses the weights. LSTM: dc_carry.
                         // Read as left by the frame before, then replaced. RNN: unused.
  Scalar* gates;         // out: [R * N, G * H], input side
  Scalar* hidden_gates;  // out: likewise, hidden side of a GRU; other cells have no other
};

// Pointers to one row's operands; every array named here has H entries, gate blocks follow each
// other.
template <typename Scalar>
struct RecurrentStepRow {
  const Scalar* __restrict cotangent;
  const Scalar* __restrict coefficients;
  const Scalar* __restrict product;
  Scalar* __restrict direct;
  Scalar* __restrict gates;
  Scalar* __restrict hidden_gates;
};

template <typename Scalar>
EGL_HOST_DEVICE inline RecurrentStepRow<Scalar> row_of(const RecurrentStep<Scalar>& step,
                                                       const RecurrentCellShape& shape,
                                                       int64_t row) {
  const int64_t hidden = step.hidden_size;
  const int64_t r = row / step.num_utterances;
  const int64_t n = row % step.num_utterances;
  const int64_t gates = row * shape.num_gates * hidden;
  return {
      step.cotangents + r * step.cotangent_strides[0] + n * step.cotangent_strides[1],
      step.coefficients + n * shape.num_coefficients * hidden,
      step.product + (row - step.first_row) * step.product_stride,
      step.direct == nullptr ? nullptr : step.direct + row * hidden,
      step.gates + gates,
      step.hidden_gates == nullptr ? nullptr : step.hidden_gates + gates,
  };
}

// Hidden unit h of a row.
template <RecurrentCell kCell, typename Scalar>
EGL_HOST_DEVICE inline void step_unit(const RecurrentStepRow<Scalar>& row, int64_t hidden,
                                      int64_t h) {
  const Scalar* a = row.coefficients;
  if constexpr (kCell == RecurrentCell::kRnn) {
    row.gates[h] = (row.cotangent[h] + row.product[h]) * a[h];
  } else if constexpr (kCell == RecurrentCell::kGru) {
    const Scalar dh = row.cotangent[h] + row.product[h] + row.direct[h];
    const Scalar r = dh * a[h];
    const Scalar z = dh * a[h + hidden];
    row.gates[h] = r;
    row.gates[h + hidden] = z;
    row.gates[h + 2 * hidden] = dh * a[h + 2 * hidden];
    row.hidden_gates[h] = r;
    row.hidden_gates[h + hidden] = z;
    row.hidden_gates[h + 2 * hidden] = dh * a[h + 3 * hidden];
    row.direct[h] = dh * a[h + 4 * hidden];
  } else {
    const Scalar dh = row.cotangent[h] + row.product[h];
    const Scalar dc = dh * a[h] + row.direct[h];
    row.gates[h] = dc * a[h + hidden];
    row.gates[h + hidden] = dc * a[h + 2 * hidden];
    row.gates[h + 2 * hidden] = dc * a[h + 3 * hidden];
    row.gates[h + 3 * hidden] = dh * a[h + 4 * hidden];
    row.direct[h] = dc * a[h + 5 * hidden];
  }
}

}  // namespace egl
