// The inner loops of recurrent layers, forward and backward: the recurrent product of a frame, and
// the cell's forward step.
//
// Value is the tensors' type, State the type in which states are carried and products summed: the
// same, or double for float tensors. Gates, nonlinearities and coefficients are always calculated
// in double, and rounded when they are written.
//
// The weight is packed (packed_weight.h) so that each output's sum is one element of a vector:
// terms are added in the order of the inputs, and other rows in the call do not change a bit.
#pragma once

#include <cstdint>
#include <type_traits>

#include "csrc/core/isa.h"
#include "csrc/core/recurrent_cell.h"

namespace egl {

struct RecurrentForm {
  RecurrentCell cell;
  bool relu;    // an RNN's activation: min(max(x, 0), clip) rather than tanh
  double clip;  // infinite for none
};

// product[i][o] = bias[o] + the sum over j of weight[o][j] * input[i][j], for each row i.
template <typename Value, typename State>
struct RecurrentProduct {
  const Value* weight;  // packed
  const State* bias;    // [num_panels * panel_columns]
  int64_t num_panels;
  int64_t num_inputs;
  const State* const* inputs;  // [num_rows] rows [num_inputs]
  State* const* products;      // [num_rows] rows [num_panels * panel_columns]
  int64_t num_rows;
};

// One utterance at one frame.
template <typename Value, typename State>
struct RecurrentRow {
  const Value* projected;  // [G * H]
  const State* product;    // [G * H]
  State* state;            // [H]: in the state before, out the new one
  State* cell_state;       // likewise, of an LSTM
  Value* coefficients;     // out: [P, H], see recurrent_backward.h
};

template <typename Value, typename State>
struct RecurrentKernel {
  int64_t panel_columns;
  void (*product)(const RecurrentProduct<Value, State>& product);
  void (*step)(const RecurrentForm& form, int64_t hidden_size,
               const RecurrentRow<Value, State>& row);
};

struct RecurrentKernels {
  RecurrentKernel<float, float> of_float;
  RecurrentKernel<float, double> precise;
  RecurrentKernel<double, double> of_double;
  // The functions in the step, on `count` numbers; for tests.
  void (*sigmoid)(const double* x, int64_t count, double* out);
  void (*tanh)(const double* x, int64_t count, double* out);
};

const RecurrentKernels& recurrent_kernels(Isa isa);

template <typename State, typename Value>
const RecurrentKernel<Value, State>& recurrent_kernel(Isa isa) {
  const RecurrentKernels& kernels = recurrent_kernels(isa);
  if constexpr (std::is_same_v<Value, double>) {
    return kernels.of_double;
  } else if constexpr (std::is_same_v<State, double>) {
    return kernels.precise;
  } else {
    return kernels.of_float;
  }
}

}  // namespace egl
