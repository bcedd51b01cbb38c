// Sums over the threads of a block.
#pragma once

#include "csrc/cuda/shared_memory.h"
#include "csrc/cuda/warps.h"

namespace egl::cuda {

// What block_sum() needs in a block of kThreadsPerBlock: a double a warp.
__host__ __device__ inline double* take_warp_sums(SharedArena& arena) {
  return arena.take<double>(kThreadsPerBlock / kWarpSize);
}

// Every thread gets the sum, taken in an order that depends on the number of threads alone. All
// threads of the block call.
__device__ inline double block_sum(double value, double* warp_sums) {
  value = warp_sum(value);
  if (threadIdx.x % kWarpSize == 0) warp_sums[threadIdx.x / kWarpSize] = value;
  __syncthreads();
  double total = 0.0;
  for (unsigned warp = 0; warp < blockDim.x / kWarpSize; ++warp) total += warp_sums[warp];
  __syncthreads();  // before anybody writes the next sum's
  return total;
}

}  // namespace egl::cuda
