// A block of a GPU's memory, handed out array by array. A layout is a type that is constructed from
// an arena: without memory to learn how many bytes it takes, then with that many.
#pragma once

#include <cstddef>
#include <cstdint>

namespace egl::cuda {

class DeviceArena {
 public:
  explicit DeviceArena(void* memory = nullptr) : base_(static_cast<unsigned char*>(memory)) {}

  // `count` uninitialized elements.
  template <typename T>
  T* take(int64_t count) {
    constexpr size_t kAlignment = 256;
    unsigned char* start = base_ == nullptr ? nullptr : base_ + bytes_;
    const size_t size = static_cast<size_t>(count) * sizeof(T);
    bytes_ += (size + kAlignment - 1) / kAlignment * kAlignment;
    return reinterpret_cast<T*>(start);
  }

  size_t bytes() const { return bytes_; }

 private:
  unsigned char* base_;
  size_t bytes_ = 0;
};

template <typename Layout, typename... Arguments>
size_t device_bytes_of(const Arguments&... arguments) {
  DeviceArena arena;
  [[maybe_unused]] const Layout layout(arena, arguments...);
  return arena.bytes();
}

}  // namespace egl::cuda
