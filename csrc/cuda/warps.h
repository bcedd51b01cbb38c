// How kernels divide items among threads, and among warps that work by themselves.
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

// Calls body(i) for this thread's share of `count` items.
template <typename Body>
__device__ __forceinline__ void for_each_item(int64_t count, const Body& body) {
  const int64_t threads = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += threads) body(i);
}

// The same to the bit in every lane, and from run to run. All lanes must call.
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

// A warp, or a thread, for each of `count` items. Kernels loop in strides of the grid where a grid
// cannot have that many.
inline LaunchShape warp_for_each(int64_t count) {
  constexpr int kWarps = kThreadsPerBlock / kWarpSize;
  return {(count + kWarps - 1) / kWarps, kThreadsPerBlock};
}

inline LaunchShape thread_for_each(int64_t count) {
  return {(count + kThreadsPerBlock - 1) / kThreadsPerBlock, kThreadsPerBlock};
}

}  // namespace egl::cuda
