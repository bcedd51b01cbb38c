// CUDA's names, for kernels that are compiled for the host: as much of the language as the kernels
// of csrc/cuda speak, each with the meaning that NVIDIA's programming guide gives it.
#pragma once

#include <bit>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <type_traits>

#include "csrc/emulator/emulator.h"

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __align__(bytes) alignas(bytes)
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
// All blocks find static shared memory at one address: see Options::ordered_blocks.
#define __shared__ static

using dim3 = egl::emulator::Dim3;

// Of the running thread.
extern dim3 threadIdx;
extern dim3 blockIdx;
extern dim3 blockDim;
extern dim3 gridDim;
inline constexpr int warpSize = static_cast<int>(egl::emulator::kWarpSize);

inline void __syncthreads(std::source_location where = std::source_location::current()) {
  egl::emulator::meet_block(false, where);
}

inline int __syncthreads_count(int predicate,
                               std::source_location where = std::source_location::current()) {
  return static_cast<int>(egl::emulator::meet_block(predicate != 0, where));
}

inline int __syncthreads_or(int predicate,
                            std::source_location where = std::source_location::current()) {
  return egl::emulator::meet_block(predicate != 0, where) > 0 ? 1 : 0;
}

inline int __syncthreads_and(int predicate,
                             std::source_location where = std::source_location::current()) {
  return egl::emulator::meet_block(predicate == 0, where) == 0 ? 1 : 0;
}

inline void __syncwarp(unsigned mask = 0xffffffffu,
                       std::source_location where = std::source_location::current()) {
  egl::emulator::meet_warp(egl::emulator::Meeting::kWarpBarrier, mask, false, where);
}

inline unsigned __ballot_sync(unsigned mask, int predicate,
                              std::source_location where = std::source_location::current()) {
  return egl::emulator::meet_warp(egl::emulator::Meeting::kVote, mask, predicate != 0, where);
}

inline int __any_sync(unsigned mask, int predicate,
                      std::source_location where = std::source_location::current()) {
  return __ballot_sync(mask, predicate, where) != 0 ? 1 : 0;
}

inline int __all_sync(unsigned mask, int predicate,
                      std::source_location where = std::source_location::current()) {
  return __ballot_sync(mask, predicate, where) == mask ? 1 : 0;
}

namespace egl::emulator {

// What lane `from` of the caller's segment of `width` lanes brings; the caller's own value where
// that is outside.
template <typename T>
T shuffle(Meeting kind, unsigned mask, T value, int from, int width, std::source_location where) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  const int own = static_cast<int>(lane());
  const int first = own & ~(width - 1);
  // A lane below the segment, which crossing may reach, is read, too.
  const bool inside = from < first + width && (from >= first || kind == Meeting::kShuffleXor);
  const uint64_t bits = exchange(kind, mask, std::bit_cast<Bits>(value),
                                 static_cast<unsigned>(inside ? from : own), where);
  return std::bit_cast<T>(static_cast<Bits>(bits));
}

}  // namespace egl::emulator

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize,
              std::source_location where = std::source_location::current()) {
  const int first = static_cast<int>(egl::emulator::lane()) & ~(width - 1);
  return egl::emulator::shuffle(egl::emulator::Meeting::kShuffle, mask, value,
                                first + (source & (width - 1)), width, where);
}

template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                 std::source_location where = std::source_location::current()) {
  const int from = static_cast<int>(egl::emulator::lane()) - static_cast<int>(delta);
  return egl::emulator::shuffle(egl::emulator::Meeting::kShuffleUp, mask, value, from, width,
                                where);
}

template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                   std::source_location where = std::source_location::current()) {
  const int from = static_cast<int>(egl::emulator::lane()) + static_cast<int>(delta);
  return egl::emulator::shuffle(egl::emulator::Meeting::kShuffleDown, mask, value, from, width,
                                where);
}

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = warpSize,
                  std::source_location where = std::source_location::current()) {
  const int from = static_cast<int>(egl::emulator::lane()) ^ lane_mask;
  return egl::emulator::shuffle(egl::emulator::Meeting::kShuffleXor, mask, value, from, width,
                                where);
}

// Atomics order nothing but themselves. On integers only: sums of floating-point numbers would
// depend on who comes first.
template <typename T>
  requires std::is_integral_v<T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  return __atomic_fetch_add(address, value, __ATOMIC_RELAXED);
}

template <typename T>
  requires std::is_integral_v<T>
T atomicOr(T* address, std::type_identity_t<T> value) {
  return __atomic_fetch_or(address, value, __ATOMIC_RELAXED);
}

template <typename T>
  requires std::is_integral_v<T>
T atomicAnd(T* address, std::type_identity_t<T> value) {
  return __atomic_fetch_and(address, value, __ATOMIC_RELAXED);
}

template <typename T>
  requires std::is_integral_v<T>
T atomicExch(T* address, std::type_identity_t<T> value) {
  return __atomic_exchange_n(address, value, __ATOMIC_RELAXED);
}

template <typename T>
  requires std::is_integral_v<T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  __atomic_compare_exchange_n(address, &expected, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return expected;
}

namespace egl::emulator {

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
  requires std::is_integral_v<T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  return egl::emulator::exchange_if(address, value, std::greater<T>());
}

template <typename T>
  requires std::is_integral_v<T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  return egl::emulator::exchange_if(address, value, std::less<T>());
}

template <typename T>
T __ldg(const T* address) {
  return *address;
}

inline int __popc(unsigned bits) { return std::popcount(bits); }
inline int __ffs(int bits) {
  return bits == 0 ? 0 : std::countr_zero(static_cast<unsigned>(bits)) + 1;
}
inline int __clz(int bits) { return std::countl_zero(static_cast<unsigned>(bits)); }
inline int __clzll(long long bits) {
  return std::countl_zero(static_cast<unsigned long long>(bits));
}
inline long long __double_as_longlong(double value) { return std::bit_cast<long long>(value); }
inline double __longlong_as_double(long long bits) { return std::bit_cast<double>(bits); }
inline int __float_as_int(float value) { return std::bit_cast<int>(value); }
inline float __int_as_float(int bits) { return std::bit_cast<float>(bits); }

// The runtime, as far as launches need it: there is one device, one memory, and everything is done
// at once.
using cudaStream_t = struct CUstream_st*;
using cudaError_t = int;
inline constexpr cudaError_t cudaSuccess = 0;
inline constexpr cudaError_t cudaErrorInvalidValue = 1;
enum cudaDeviceAttr { cudaDevAttrMaxSharedMemoryPerBlockOptin };

inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : "invalid argument";
}
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  if (attribute != cudaDevAttrMaxSharedMemoryPerBlockOptin) return cudaErrorInvalidValue;
  *value = static_cast<int>(egl::emulator::options().shared_memory_limit);
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* address, int byte, size_t count, cudaStream_t) {
  std::memset(address, byte, count);
  return cudaSuccess;
}
