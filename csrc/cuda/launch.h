// Launches kernels, on the GPU or in emulation.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "csrc/cuda/platform.h"

namespace egl::cuda {

inline constexpr int kWarpSize = 32;
inline constexpr unsigned kFullWarp = 0xffffffffu;

struct LaunchShape {
  int64_t blocks;  // any number: see launch()
  int threads;
  size_t shared_bytes = 0;
};

// Kernels take any number of blocks: they loop over their items in strides of the grid.
inline constexpr int64_t kMaxBlocks = int64_t{1} << 20;

inline void check_cuda(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
}

// Dynamic shared memory in bytes that a block may request on the current device.
inline size_t shared_memory_limit() {
  int device = 0;
  int bytes = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  check_cuda(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
             "cudaDeviceGetAttribute");
  return static_cast<size_t>(bytes);
}

// Does nothing if there are no blocks. Throws std::runtime_error with `name` if the device refuses.
template <typename... Params>
void launch(const char* name, void (*kernel)(Params...), const LaunchShape& shape,
            [[maybe_unused]] cudaStream_t stream, std::type_identity_t<Params>... args) {
  if (shape.blocks <= 0) return;
  const auto blocks = static_cast<unsigned>(std::min(shape.blocks, kMaxBlocks));
  constexpr size_t kWithoutAsking = size_t{48} << 10;
  if (shape.shared_bytes > kWithoutAsking) {
    const size_t limit = shared_memory_limit();
    if (shape.shared_bytes > limit) {
      throw std::runtime_error(std::string(name) + " needs " + std::to_string(shape.shared_bytes) +
                               " bytes of shared memory per block; this device has " +
                               std::to_string(limit));
    }
#ifndef EGL_EMULATE
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shape.shared_bytes)),
               name);
#endif
  }
#ifdef EGL_EMULATE
  static_cast<void>(name);
  egl::emulator::run({blocks, static_cast<unsigned>(shape.threads), shape.shared_bytes},
                     [&] { kernel(args...); });
#else
  void* arguments[] = {&args..., nullptr};  // an array cannot be empty
  check_cuda(cudaLaunchKernel(reinterpret_cast<const void*>(kernel), dim3(blocks),
                              dim3(static_cast<unsigned>(shape.threads)), arguments,
                              shape.shared_bytes, stream),
             name);
#endif
}

// Threads for `count` items per block: a whole number of warps.
inline int threads_for(int64_t count, int most) {
  const int64_t warps = (count + kWarpSize - 1) / kWarpSize;
  return static_cast<int>(
      std::clamp<int64_t>(warps * kWarpSize, kWarpSize, static_cast<int64_t>(most)));
}

}  // namespace egl::cuda
