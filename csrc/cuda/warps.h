// Warps that work alone: which one this is, and how many there are.
#pragma once

#include <cstdint>

#include "csrc/cuda/launch.h"

namespace egl::cuda {

inline constexpr int kThreadsPerBlock = 256;

struct WarpIndex {
  int lane;
  int64_t warp;       // of the grid
  int64_t num_warps;  // of the grid
};

__device__ inline WarpIndex this_warp() {
  const int64_t warps_per_block = blockDim.x / kWarpSize;
  return {static_cast<int>(threadIdx.x % kWarpSize),
          blockIdx.x * warps_per_block + threadIdx.x / kWarpSize, gridDim.x * warps_per_block};
}

// The same to the bit in every lane, and from run to run. All lanes call.
__device__ inline double warp_sum(double value) {
  for (int delta = kWarpSize / 2; delta > 0; delta /= 2) {
    value += __shfl_xor_sync(kFullWarp, value, delta);
  }
  return value;
}

template <typename T>
__device__ T warp_max(T value) {
  for (int delta = kWarpSize / 2; delta > 0; delta /= 2) {
    const T other = __shfl_xor_sync(kFullWarp, value, delta);
    value = value < other ? other : value;
  }
  return value;
}

// A warp, or a thread, for each of `count` items; kernels go on in strides of the grid where that
// is too many.
inline LaunchShape warp_for_each(int64_t count) {
  constexpr int kWarps = kThreadsPerBlock / kWarpSize;
  return {(count + kWarps - 1) / kWarps, kThreadsPerBlock};
}

inline LaunchShape thread_for_each(int64_t count) {
  return {(count + kThreadsPerBlock - 1) / kThreadsPerBlock, kThreadsPerBlock};
}

}  // namespace egl::cuda
