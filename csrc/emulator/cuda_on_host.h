// CUDA's names, for kernels that are compiled for the host: as much of the language as the kernels
// of csrc/cuda use, with the meaning that NVIDIA's programming guide gives it. Grids and blocks
// have one dimension, and shared memory is dynamic.
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>

#include "csrc/emulator/emulator.h"

#define __global__
#define __device__
#define __host__
#define __align__(bytes) alignas(bytes)
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

// Of the running thread.
struct EmulatedIndex {
  unsigned x;
};
extern EmulatedIndex threadIdx;
extern EmulatedIndex blockIdx;
extern EmulatedIndex blockDim;
extern EmulatedIndex gridDim;

inline void __syncthreads(std::source_location where = std::source_location::current()) {
  egl::emulator::meet_block(false, where);
}

inline int __syncthreads_or(int predicate,
                            std::source_location where = std::source_location::current()) {
  return egl::emulator::meet_block(predicate != 0, where) ? 1 : 0;
}

inline void __syncwarp(unsigned mask = 0xffffffffu,
                       std::source_location where = std::source_location::current()) {
  using egl::emulator::Meeting;
  egl::emulator::meet_warp({Meeting::kWarpBarrier, "__syncwarp", where, mask});
}

inline unsigned __ballot_sync(unsigned mask, int predicate,
                              std::source_location where = std::source_location::current()) {
  using egl::emulator::Meeting;
  return static_cast<unsigned>(
      egl::emulator::meet_warp({Meeting::kVote, "a vote", where, mask, predicate != 0}));
}

inline int __any_sync(unsigned mask, int predicate,
                      std::source_location where = std::source_location::current()) {
  return __ballot_sync(mask, predicate, where) != 0 ? 1 : 0;
}

namespace egl::emulator {

// What lane `from` contributes, or the caller's own value where there is no such lane.
template <typename T>
T shuffle(const char* name, unsigned mask, T value, int from, std::source_location where) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  const bool exists = from >= 0 && from < static_cast<int>(kWarpSize);
  const uint64_t bits =
      meet_warp({Meeting::kShuffle, name, where, mask, false, std::bit_cast<Bits>(value),
                 exists ? static_cast<unsigned>(from) : lane()});
  return std::bit_cast<T>(static_cast<Bits>(bits));
}

// Stores `value` where precedes(value, what is there).
template <typename T, typename Precedes>
T exchange_if(T* address, T value, const Precedes& precedes) {
  T before = __atomic_load_n(address, __ATOMIC_RELAXED);
  while (precedes(value, before) &&
         !__atomic_compare_exchange_n(address, &before, value, true, __ATOMIC_RELAXED,
                                      __ATOMIC_RELAXED)) {
  }
  return before;
}

}  // namespace egl::emulator

template <typename T>
T __shfl_sync(unsigned mask, T value, int source,
              std::source_location where = std::source_location::current()) {
  return egl::emulator::shuffle("__shfl_sync", mask, value, source & 31, where);
}

template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta,
                 std::source_location where = std::source_location::current()) {
  const int from = static_cast<int>(egl::emulator::lane()) - static_cast<int>(delta);
  return egl::emulator::shuffle("__shfl_up_sync", mask, value, from, where);
}

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask,
                  std::source_location where = std::source_location::current()) {
  const int from = static_cast<int>(egl::emulator::lane()) ^ lane_mask;
  return egl::emulator::shuffle("__shfl_xor_sync", mask, value, from, where);
}

// Atomics order nothing but themselves. Integers only: sums of floating-point numbers would depend
// on the order of the threads.
template <std::integral T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  return __atomic_fetch_add(address, value, __ATOMIC_RELAXED);
}

template <std::integral T>
T atomicOr(T* address, std::type_identity_t<T> value) {
  return __atomic_fetch_or(address, value, __ATOMIC_RELAXED);
}

template <std::integral T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  __atomic_compare_exchange_n(address, &expected, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return expected;
}

template <std::integral T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  return egl::emulator::exchange_if(address, value, std::greater<T>());
}

template <std::integral T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  return egl::emulator::exchange_if(address, value, std::less<T>());
}

inline int __ffs(int bits) {
  return bits == 0 ? 0 : std::countr_zero(static_cast<unsigned>(bits)) + 1;
}
inline long long __double_as_longlong(double value) { return std::bit_cast<long long>(value); }
inline double __longlong_as_double(long long bits) { return std::bit_cast<double>(bits); }

// The parts of the runtime that launches need: one device, whose memory is the host's. Every call
// is finished when it returns.
using cudaStream_t = struct CUstream_st*;
using cudaError_t = int;
inline constexpr cudaError_t cudaSuccess = 0;
enum cudaDeviceAttr { cudaDevAttrMaxSharedMemoryPerBlockOptin };

inline const char* cudaGetErrorString(cudaError_t) { return "no error"; }
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = static_cast<int>(egl::emulator::options().shared_memory_limit);
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* address, int byte, size_t count, cudaStream_t) {
  std::memset(address, byte, count);
  return cudaSuccess;
}
