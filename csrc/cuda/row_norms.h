// Squared norms of rows that lie in memory as runs. In torch this takes half a dozen launches per
// parameter, too many for so few numbers.
//
// Squares are summed in double whatever the rows' type; those of floats are exact. A row is cut
// into slices of a fixed size, and both the sum of a slice and the sum of slices have a fixed
// order: a row's norm has the same bits whatever rows share the call.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "csrc/cuda/block_sum.h"
#include "csrc/cuda/launch.h"

namespace egl::cuda {

template <typename Scalar>
struct RunRows {
  const Scalar* values;
  int64_t num_rows;
  int64_t num_runs;    // of a row
  int64_t run_length;  // neighbors in memory
  int64_t row_stride;
  int64_t run_stride;

  __host__ __device__ int64_t size() const { return num_runs * run_length; }
};

inline constexpr int64_t kNormSlice = 32 * kThreadsPerBlock;

// Numbers that a thread loads before it adds them, to keep the memory busy.
inline constexpr int kAtOnce = 4;

inline int64_t num_norm_slices(int64_t row_size) {
  return std::max<int64_t>(1, (row_size + kNormSlice - 1) / kNormSlice);
}

// A block takes slices of rows; its threads take every 256th number, so that a warp reads neighbors
// within runs. Shared memory: one double per warp. Every number is read once, which is the limit:
// 64 rows of a GRU's 768 by 256 weights in float, 50 MB, take an H100 15 us.
template <typename Scalar>
__global__ void __launch_bounds__(kThreadsPerBlock)
    slice_sq_norms(RunRows<Scalar> rows, int64_t num_slices, double* out) {
  SharedArena arena = SharedArena::of_block();
  double* warp_sums = take_warp_sums(arena);
  const int64_t size = rows.size();
  // How far 256 numbers are, in runs and within one.
  const int64_t ahead = blockDim.x / rows.run_length;
  const int64_t within = blockDim.x % rows.run_length;
  for (int64_t item = blockIdx.x; item < rows.num_rows * num_slices; item += gridDim.x) {
    const Scalar* row = rows.values + item / num_slices * rows.row_stride;
    const int64_t first = item % num_slices * kNormSlice;
    const int64_t end = first + kNormSlice < size ? first + kNormSlice : size;
    int64_t run = (first + threadIdx.x) / rows.run_length;
    int64_t place = (first + threadIdx.x) % rows.run_length;
    double sum = 0.0;
    for (int64_t i = first + threadIdx.x; i < end; i += kAtOnce * blockDim.x) {
      double values[kAtOnce];
      for (int k = 0; k < kAtOnce; ++k) {
        const bool is_inside = i + k * blockDim.x < end;
        values[k] = is_inside ? static_cast<double>(row[run * rows.run_stride + place]) : 0.0;
        run += ahead;
        place += within;
        if (place >= rows.run_length) {
          place -= rows.run_length;
          ++run;
        }
      }
      for (const double value : values) sum += value * value;
    }
    sum = block_sum(sum, warp_sums);
    if (threadIdx.x == 0) out[item] = sum;
  }
}

// A warp takes rows, a lane every 32nd slice. Moves 8 bytes per slice.
static __global__ void __launch_bounds__(kThreadsPerBlock)
    add_slices(const double* slices, int64_t num_rows, int64_t num_slices, double* out) {
  const WarpIndex self = this_warp();
  for (int64_t row = self.warp; row < num_rows; row += self.num_warps) {
    double sum = 0.0;
    for (int64_t i = self.lane; i < num_slices; i += kWarpSize) sum += slices[row * num_slices + i];
    sum = warp_sum(sum);
    if (self.lane == 0) out[row] = sum;
  }
}

inline size_t row_sq_norms_workspace_bytes(int64_t num_rows, int64_t row_size) {
  const int64_t num_slices = num_norm_slices(row_size);
  return num_slices == 1 ? 0 : static_cast<size_t>(num_rows * num_slices) * sizeof(double);
}

// out [num_rows]. Nothing here waits for the device.
template <typename Scalar>
void row_sq_norms(const RunRows<Scalar>& rows, double* workspace, double* out,
                  cudaStream_t stream) {
  const int64_t num_slices = num_norm_slices(rows.size());
  double* const slices = num_slices == 1 ? out : workspace;
  SharedArena arena;
  take_warp_sums(arena);
  RunRows<Scalar> some = rows;
  some.run_length = std::max<int64_t>(1, rows.run_length);  // of no runs, or divided by it
  if (rows.run_length == 0) some.num_runs = 0;
  launch("slice_sq_norms", slice_sq_norms<Scalar>,
         {rows.num_rows * num_slices, kThreadsPerBlock, arena.bytes()}, stream, some, num_slices,
         slices);
  if (num_slices == 1) return;
  launch("add_slices", add_slices, warp_for_each(rows.num_rows), stream,
         static_cast<const double*>(workspace), rows.num_rows, num_slices, out);
}

}  // namespace egl::cuda
