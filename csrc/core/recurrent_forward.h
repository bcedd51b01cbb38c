// One direction of a recurrent layer over all frames, with the coefficients for backward through
// time.
//
// For each frame in order: product = state @ weight^T + bias, then the cell's step on the projected
// input and the product. Utterances are independent: each has the same bits whatever utterances
// share the call.
#pragma once

#include <cstdint>

#include "csrc/core/isa.h"
#include "csrc/core/recurrent_kernel.h"

namespace egl {

// All arrays are contiguous but `projected`, whose last dimension is.
template <typename Value>
struct RecurrentScan {
  RecurrentForm form;
  int64_t num_frames;      // T
  int64_t num_utterances;  // N
  int64_t hidden_size;     // H
  bool reverse;            // from the last frame to the first

  const Value* projected;  // [T, N, G * H]
  int64_t projected_strides[2];
  const Value* weight;         // [G * H, H]
  const Value* bias;           // [G * H] or null
  const Value* initial_state;  // [N, H]
  const Value* initial_cell;   // [N, H] of an LSTM, else null
  const bool* valid;           // [T, N], null for all; elsewhere state and coefficients are zero

  Value* states;        // out: [T, N, H]
  Value* previous;      // out: [T, N, H], the state each frame started from
  Value* coefficients;  // out: [T, N, P, H]
  Value* final_cell;    // out: [N, H] of an LSTM, else null
};

// Utterances [first, last). State: see recurrent_kernel.h.
template <typename State, typename Value>
void recurrent_forward(const RecurrentScan<Value>& scan, int64_t first, int64_t last, Isa isa);

}  // namespace egl
