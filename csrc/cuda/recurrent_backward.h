// Backward through time for many cotangents: csrc/core/recurrent_backward.h as one launch per frame
// between matrix products, which are the caller's.
//
// A step's formulas are the core's, so its results are the core's to the bit wherever its products
// are. Products are cuBLAS's: their sums have another order, which may depend on how many rows
// share the call, so that rows agree across batches to rounding only.
//
// A float unit moves 12 bytes in an RNN, 40 in a GRU, 32 in an LSTM; its product takes 2 G H
// operations. With 2,048 rows of a GRU of 512 units that is 42 MB and 3.2 GFLOP per frame: at best
// 13 and 48 us on an H100 (3.35 TB/s, 67 TFLOP/s). With 50 rows either takes about 1 us, and two
// launches per frame are the limit.
#pragma once

#include <cstdint>

#include "csrc/core/recurrent_backward.h"
#include "csrc/cuda/launch.h"
#include "csrc/cuda/warps.h"

namespace egl::cuda {

inline constexpr int kRecurrentThreads = 256;

// A block takes rows, its threads take hidden units: neighbors read and write neighbors. No shared
// memory. Bandwidth is the limit; the R cotangents of an utterance share coefficients in L2.
template <RecurrentCell kCell, typename Scalar>
__global__ void __launch_bounds__(kRecurrentThreads)
    recurrent_backward_step(RecurrentStep<Scalar> step) {
  for (int64_t i = step.first_row + blockIdx.x; i < step.last_row; i += gridDim.x) {
    const RecurrentStepRow<Scalar> row = row_of(step, shape_of(kCell), i);
    for (int64_t h = threadIdx.x; h < step.hidden_size; h += blockDim.x) {
      step_unit<kCell>(row, step.hidden_size, h);
    }
  }
}

// state += direct, what bypasses the weights of a GRU's first frame. A thread takes units, 12 bytes
// of float each; once per scan.
template <typename Scalar>
__global__ void __launch_bounds__(kRecurrentThreads)
    add_direct(const Scalar* direct, int64_t count, Scalar* state) {
  for_each_item(count, [&](int64_t i) { state[i] += direct[i]; });
}

template <typename Scalar>
void launch_recurrent_backward_step(RecurrentCell cell, const RecurrentStep<Scalar>& step,
                                    cudaStream_t stream) {
  const LaunchShape shape{step.hidden_size == 0 ? 0 : step.last_row - step.first_row,
                          threads_for(step.hidden_size, kRecurrentThreads)};
  const auto go = [&](void (*kernel)(RecurrentStep<Scalar>)) {
    launch("recurrent_backward_step", kernel, shape, stream, step);
  };
  switch (cell) {
    case RecurrentCell::kRnn:
      return go(recurrent_backward_step<RecurrentCell::kRnn, Scalar>);
    case RecurrentCell::kGru:
      return go(recurrent_backward_step<RecurrentCell::kGru, Scalar>);
    case RecurrentCell::kLstm:
      return go(recurrent_backward_step<RecurrentCell::kLstm, Scalar>);
  }
}

// All frames of all rows. `problem.weight` is ignored; `problem.state` is zero at first and
// holds the products under way. multiply(frame): on the same stream, state [R * N, H] = the frame's
// hidden side of the gates [R * N, G * H] @ weight_hh, where the hidden side is `hidden_gates` of a
// GRU, else `gates`. Nothing here waits for the device.
template <typename Scalar, typename Multiply>
void recurrent_backward(const RecurrentPullback<Scalar>& problem, cudaStream_t stream,
                        const Multiply& multiply) {
  for (int64_t i = 0; i < problem.num_frames; ++i) {
    const int64_t frame = problem.reverse ? i : problem.num_frames - 1 - i;
    launch_recurrent_backward_step(problem.cell, step_of(problem, frame), stream);
    multiply(frame);
  }
  if (problem.cell != RecurrentCell::kGru) return;
  const int64_t count = problem.num_cotangents * problem.num_utterances * problem.hidden_size;
  launch("add_direct", add_direct<Scalar>,
         {(count + kRecurrentThreads - 1) / kRecurrentThreads, kRecurrentThreads}, stream,
         static_cast<const Scalar*>(problem.direct), count, problem.state);
}

}  // namespace egl::cuda
