// Dynamic shared memory, handed out array by array. A kernel and its launch lay it out with the
// same function; the launch uses an arena without memory, to learn how much to request.
#pragma once

#include <cstddef>
#include <cstdint>

#include "csrc/cuda/platform.h"

#if defined(EGL_EMULATE) && defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace egl::cuda {

class SharedArena {
 public:
  // For measuring.
  __host__ __device__ SharedArena() : base_(nullptr) {}

  // The block's dynamic shared memory.
  __device__ static SharedArena of_block() {
#ifdef EGL_EMULATE
    return SharedArena(egl::emulator::dynamic_shared_memory());
#else
    extern __shared__ __align__(16) unsigned char shared_memory_of_block[];
    return SharedArena(shared_memory_of_block);
#endif
  }

  // `count` uninitialized elements, the same for every thread.
  template <typename T>
  __host__ __device__ T* take(int64_t count) {
    bytes_ = (bytes_ + alignof(T) - 1) / alignof(T) * alignof(T);
    unsigned char* start = base_ == nullptr ? nullptr : base_ + bytes_;
    bytes_ += static_cast<size_t>(count) * sizeof(T);
    fence();
    return reinterpret_cast<T*>(start);
  }

  // A multiple of 16: nvcc may read the last double of a loop together with the next, which is
  // never used, but compute-sanitizer would report a read beyond the block's memory.
  __host__ __device__ size_t bytes() const { return (bytes_ + 15) / 16 * 16; }

 private:
  __host__ __device__ explicit SharedArena(unsigned char* base) : base_(base) {}

  // Under the address sanitizer: bytes between arrays that must not be touched.
  __host__ __device__ void fence() {
#if defined(EGL_EMULATE) && defined(__SANITIZE_ADDRESS__)
    constexpr size_t kFence = 32;
    bytes_ = (bytes_ + 7) / 8 * 8;
    if (base_ != nullptr) __asan_poison_memory_region(base_ + bytes_, kFence);
    bytes_ += kFence;
#endif
  }

  unsigned char* base_;
  size_t bytes_ = 0;
};

// What a layout takes, a type that is constructed from an arena and `arguments`.
template <typename Layout, typename... Arguments>
size_t shared_bytes_of(const Arguments&... arguments) {
  SharedArena arena;
  [[maybe_unused]] const Layout layout(arena, arguments...);
  return arena.bytes();
}

}  // namespace egl::cuda
