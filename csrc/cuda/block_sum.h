// Sums over the threads of a block.
#pragma once

#include "csrc/cuda/shared_memory.h"
#include "csrc/cuda/warps.h"

namespace egl::cuda {

// What block_sum() needs in a block of kThreadsPerBlock: one double per warp.
__host__ __device__ inline double* take_warp_sums(SharedArena& arena) {
  return arena.take<double>(kThreadsPerBlock / kWarpSize);
}

// Every thread gets the sum, in an order that depends only on the number of threads. All threads of
// the block must call.
__device__ inline double block_sum(double value, double* warp_sums) {
  value = warp_sum(value);
  if (threadIdx.x % kWarpSize == 0) warp_sums[threadIdx.x / kWarpSize] = value;
  __syncthreads();
  double total = 0.0;
  for (unsigned warp = 0; warp < blockDim.x / kWarpSize; ++warp) total += warp_sums[warp];
  __syncthreads();  // before the next sum overwrites them
  return total;
}

}  // namespace egl::cuda
