// The directions of a recurrent layer over all frames, side by side: csrc/core/recurrent_forward.h
// as one launch per frame between matrix products, which are the caller's.
//
// A step's formulas are the core's to the operation, nvcc's -fmad=false keeps products and sums
// apart, and CUDA rounds division in double as the host does: so a step gives the bits of the
// core's baseline. Products are cuBLAS's, whose sums have another order, and the bias is added to a
// sum rather than the sum to the bias.
//
// State is the type in which states are carried and products taken: the tensors', or double over
// float tensors ("precise"). Such products are entirely in double, with the weight converted once
// per scan. On an H100, whose tensor cores multiply doubles as fast as floats, this costs little: a
// frame of 32 utterances and two directions of a GRU of 512 units is 0.1 GFLOP, and its 12.6 MB of
// weight stay in L2. Where doubles run at 1/64 of the rate of floats, as on GeForce, L4 and L40, a
// frame's products take 0.1 ms at best.
//
// For float tensors a step moves 4 (2 G + P + 4) bytes per unit, 8 more in an LSTM, and 4 (G + 2)
// more where states are double; an exponential and its division are about 60 operations in double.
// The 32,768 units of the frame above come to 2.6 MB and 7 MFLOP, 1 us on an H100. Two launches per
// frame are the limit.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "csrc/core/recurrent_forward.h"
#include "csrc/cuda/launch.h"
#include "csrc/cuda/recurrent_cells.h"

namespace egl::cuda {

// Directions that share a launch.
inline constexpr int64_t kDirectionsPerLaunch = 2;

// Carried from frame to frame, for the D directions one after another.
template <typename State>
struct RecurrentCarry {
  State* state;       // [D, N, H]
  State* cell_state;  // [D, N, H] of an LSTM, else null
  State* product;     // [D, N, G * H], scratch
};

// One frame of some directions, the carry being that of the first.
template <typename State, typename Value>
struct RecurrentFrame {
  RecurrentScan<Value> scans[kDirectionsPerLaunch];
  int64_t frames[kDirectionsPerLaunch];
  int64_t num_directions;
  RecurrentCarry<State> carry;
};

// One hidden unit of one utterance at one frame, all pointers at the unit.
template <typename State, typename Value>
struct ForwardUnit {
  const Value* projected;
  const Value* bias;
  const State* product;
  int64_t hidden;

  // The input's share of a gate, and the state's.
  __device__ double x(int64_t gate) const { return static_cast<double>(projected[gate * hidden]); }
  __device__ double u(int64_t gate) const {
    const double sum = static_cast<double>(product[gate * hidden]);
    return bias == nullptr ? sum : sum + static_cast<double>(bias[gate * hidden]);
  }
  __device__ double total(int64_t gate) const { return x(gate) + u(gate); }
};

// A block takes utterances of either direction, its threads take hidden units: neighbors read and
// write neighbors. No shared memory. Utterances are independent.
template <RecurrentCell kCell, typename State, typename Value>
__global__ void __launch_bounds__(256)
    recurrent_forward_step(const __grid_constant__ RecurrentFrame<State, Value> frame) {
  constexpr RecurrentCellShape kShape = shape_of(kCell);
  const int64_t num_utterances = frame.scans[0].num_utterances;
  const int64_t hidden = frame.scans[0].hidden_size;
  const int64_t num_items = frame.num_directions * num_utterances;
  for (int64_t item = blockIdx.x; item < num_items; item += gridDim.x) {
    const int64_t n = item % num_utterances;
    const RecurrentScan<Value>& scan = frame.scans[item / num_utterances];
    const int64_t t = frame.frames[item / num_utterances];
    const int64_t row = t * num_utterances + n;
    const bool is_valid = scan.valid == nullptr || scan.valid[row];
    for (int64_t h = threadIdx.x; h < hidden; h += blockDim.x) {
      State& state = frame.carry.state[item * hidden + h];
      State* cell_state =
          kCell == RecurrentCell::kLstm ? frame.carry.cell_state + item * hidden + h : nullptr;
      Value* a = scan.coefficients + row * kShape.num_coefficients * hidden + h;
      scan.previous[row * hidden + h] = static_cast<Value>(state);
      const auto store = [&](int64_t p, double value) {
        a[p * hidden] = static_cast<Value>(value);
      };
      if (!is_valid) {
        state = State{0};
        if constexpr (kCell == RecurrentCell::kLstm) *cell_state = State{0};
        for (int64_t p = 0; p < kShape.num_coefficients; ++p) store(p, 0.0);
        scan.states[row * hidden + h] = Value{0};
        continue;
      }
      const ForwardUnit<State, Value> gates{
          scan.projected + t * scan.projected_strides[0] + n * scan.projected_strides[1] + h,
          scan.bias == nullptr ? nullptr : scan.bias + h,
          frame.carry.product + item * kShape.num_gates * hidden + h, hidden};
      if constexpr (kCell == RecurrentCell::kRnn) {
        const unit::RnnUnit now = scan.form.relu ? unit::relu_unit(gates.total(0), scan.form.clip)
                                                 : unit::tanh_unit(gates.total(0));
        store(0, now.a);
        state = static_cast<State>(now.state);
      } else if constexpr (kCell == RecurrentCell::kGru) {
        const unit::GruUnit now = unit::gru_unit(gates.total(0), gates.total(1), gates.x(2),
                                                 gates.u(2), static_cast<double>(state));
        store(0, now.a_r);
        store(1, now.a_z);
        store(2, now.a_n);
        store(3, now.a_hn);
        store(4, now.z);
        state = static_cast<State>(now.state);
      } else {
        const unit::LstmUnit now =
            unit::lstm_unit(gates.total(0), gates.total(1), gates.total(2), gates.total(3),
                            static_cast<double>(*cell_state));
        store(0, now.q);
        store(1, now.a_i);
        store(2, now.a_f);
        store(3, now.a_g);
        store(4, now.a_o);
        store(5, now.f);
        *cell_state = static_cast<State>(now.cell_state);
        state = static_cast<State>(now.state);
      }
      scan.states[row * hidden + h] = static_cast<Value>(state);
    }
  }
}

template <typename State, typename Value>
void launch_recurrent_forward_step(const RecurrentFrame<State, Value>& frame, cudaStream_t stream) {
  const RecurrentScan<Value>& scan = frame.scans[0];
  const LaunchShape shape{scan.hidden_size == 0 ? 0 : frame.num_directions * scan.num_utterances,
                          threads_for(scan.hidden_size, 256)};
  const auto go = [&](void (*kernel)(RecurrentFrame<State, Value>)) {
    launch("recurrent_forward_step", kernel, shape, stream, frame);
  };
  switch (scan.form.cell) {
    case RecurrentCell::kRnn:
      return go(recurrent_forward_step<RecurrentCell::kRnn, State, Value>);
    case RecurrentCell::kGru:
      return go(recurrent_forward_step<RecurrentCell::kGru, State, Value>);
    case RecurrentCell::kLstm:
      return go(recurrent_forward_step<RecurrentCell::kLstm, State, Value>);
  }
}

// All frames of D directions, which differ in their pointers and in `reverse` only; their weights
// and initial and final states are ignored. The carry starts from the initial states and ends
// with the final ones. multiply(): on the same stream, product [D, N, G * H] = state [D, N, H] @
// weight^T of each direction. Nothing here waits for the device.
template <typename State, typename Value, typename Multiply>
void recurrent_forward(std::span<const RecurrentScan<Value>> scans,
                       const RecurrentCarry<State>& carry, cudaStream_t stream,
                       const Multiply& multiply) {
  const RecurrentScan<Value>& any = scans.front();
  const int64_t states = any.num_utterances * any.hidden_size;
  const int64_t columns = shape_of(any.form.cell).num_gates;
  const auto num_directions = static_cast<int64_t>(scans.size());
  for (int64_t i = 0; i < any.num_frames; ++i) {
    multiply();
    for (int64_t first = 0; first < num_directions; first += kDirectionsPerLaunch) {
      RecurrentFrame<State, Value> frame{};
      frame.num_directions = std::min(kDirectionsPerLaunch, num_directions - first);
      for (int64_t d = 0; d < frame.num_directions; ++d) {
        frame.scans[d] = scans[first + d];
        frame.frames[d] = frame.scans[d].reverse ? any.num_frames - 1 - i : i;
      }
      frame.carry = {carry.state + first * states,
                     carry.cell_state == nullptr ? nullptr : carry.cell_state + first * states,
                     carry.product + first * columns * states};
      launch_recurrent_forward_step(frame, stream);
    }
  }
}

}  // namespace egl::cuda
