// Backward through time for many cotangents over one stored forward pass.
//
// Given the forward pass, the backward step of a recurrent cell is linear in the cotangent dh of
// its output, with coefficients that depend on the utterance and the frame only. The caller
// computes them once from the gate activations; all R cotangents of an utterance share them:
//
//   kRnn   P = 1: (a)                      gates = (dh a)
//   kGru   P = 5: (a_r, a_z, a_n, a_hn, z)  gates = dh * (a_r, a_z, a_n)
//                                          hidden_gates = dh * (a_r, a_z, a_hn)
//   kLstm  P = 6: (q, a_i, a_f, a_g, a_o, f) dc = dh q + dc_carry;
//                                          gates = (dc a_i, dc a_f, dc a_g, dh a_o);
//                                          dc_carry = dc f
//
// and dh_carry = hidden_gates @ weight_hh, plus dh z in a GRU. In an RNN and an LSTM the hidden
// side of the gates is the input side. In a GRU the candidate n = tanh(x_n + r * h_n) has different
// cotangents on the two sides. r and z are written twice, because each side then goes into large
// matrix products, whose operand must be contiguous.
//
// Rows are independent: each has the same bits whatever rows share the call.
#pragma once

#include <cstdint>

#include "csrc/core/isa.h"
#include "csrc/core/packed_weight.h"
#include "csrc/core/recurrent_backward_step.h"
#include "csrc/core/recurrent_cell.h"

namespace egl {

// Rows are numbered r * N + n.
template <typename Scalar>
struct RecurrentPullback {
  RecurrentCell cell;
  int64_t num_frames;      // T
  int64_t num_cotangents;  // R
  int64_t num_utterances;  // N
  int64_t hidden_size;     // H
  bool reverse;            // whether the forward pass ran from the last frame to the first

  const Scalar* cotangents;  // of the outputs: [T, R, N, H] with unit stride in H
  int64_t cotangent_strides[3];
  const Scalar* coefficients;          // [T, N, P, H]
  const PackedWeight<Scalar>* weight;  // weight_hh [G * H, H], inputs first

  Scalar* gates;         // out: [T, R, N, G * H], input side
  Scalar* hidden_gates;  // out: likewise, hidden side of a GRU; other cells have no other
  Scalar* state;         // out: [R, N, H], cotangent of the initial state
  Scalar* direct;        // [R, N, H]: LSTM: in and out, cotangent of the cell state. GRU: zero at
                         // first, then scratch. RNN: unused.
};

// Frame `frame` for all rows, whose products are taken to be in `state`.
template <typename Scalar>
RecurrentStep<Scalar> step_of(const RecurrentPullback<Scalar>& problem, int64_t frame) {
  const RecurrentCellShape shape = shape_of(problem.cell);
  const int64_t hidden = problem.hidden_size;
  const int64_t num_rows = problem.num_cotangents * problem.num_utterances;
  const int64_t gates = frame * num_rows * shape.num_gates * hidden;
  return {
      .first_row = 0,
      .last_row = num_rows,
      .num_utterances = problem.num_utterances,
      .hidden_size = hidden,
      .cotangents = problem.cotangents + frame * problem.cotangent_strides[0],
      .cotangent_strides = {problem.cotangent_strides[1], problem.cotangent_strides[2]},
      .coefficients =
          problem.coefficients + frame * problem.num_utterances * shape.num_coefficients * hidden,
      .product = problem.state,
      .product_stride = hidden,
      .direct = problem.direct,
      .gates = problem.gates + gates,
      .hidden_gates = problem.cell == RecurrentCell::kGru ? problem.hidden_gates + gates : nullptr};
}

// Packs `weight` for the above.
template <typename Scalar>
PackedWeight<Scalar> pack_for_backward(const Scalar* weight_hh, int64_t num_gates, int64_t hidden,
                                       Isa isa);

// Rows [first_row, last_row).
template <typename Scalar>
void recurrent_backward(const RecurrentPullback<Scalar>& problem, int64_t first_row,
                        int64_t last_row, Isa isa);

// The elementwise part of a step.
template <typename Scalar>
void recurrent_backward_step(RecurrentCell cell, const RecurrentStep<Scalar>& step);

}  // namespace egl
