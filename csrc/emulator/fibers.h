// The threads of a block as fibers of one host thread, made known to the sanitizers. For
// emulator.cpp alone, which the thread sanitizer does not instrument.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <utility>
#include <vector>

#include "csrc/emulator/emulator.h"
#include "csrc/emulator/stack_switch.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef EGL_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace egl::emulator {

// Without the sanitizers, these do nothing.

inline void happens_before(void* object) {
#ifdef EGL_TSAN
  __tsan_release(object);
#else
  static_cast<void>(object);
#endif
}

inline void happens_after(void* object) {
#ifdef EGL_TSAN
  __tsan_acquire(object);
#else
  static_cast<void>(object);
#endif
}

// Where execution can continue: a fiber, or the host thread that runs the launch.
struct Continuation {
  StackContext context;
  void* stack = nullptr;
  size_t stack_bytes = 0;
  void* tsan_fiber = nullptr;
};

inline void switch_between(Continuation& from, Continuation& to) {
#ifdef EGL_TSAN
  from.tsan_fiber = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(to.tsan_fiber, __tsan_switch_to_fiber_no_sync);
#endif
#ifdef __SANITIZE_ADDRESS__
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, to.stack, to.stack_bytes);
#endif
  switch_stack(from.context, to.context);
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

// Called first on a new fiber.
inline void arrive_on_new_stack() {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

// Addresses that stand for the memory of the threads that reached a barrier. Some threads reach the
// next barrier before others have left this one, so barriers alternate between two addresses.
struct BarrierOrder {
  char addresses[2] = {};
  unsigned turn = 0;  // of the barrier that is being reached

  void* reached() { return &addresses[turn % 2]; }
  void* left() { return &addresses[(turn + 1) % 2]; }
};

enum class State { kReady, kWaiting, kDone };

// One thread of the block that runs. Kept for later blocks and launches.
struct Fiber : Continuation {
  State state = State::kDone;
  unsigned index = 0;  // in the block
  Request request{};
  uint64_t answer = 0;
  std::exception_ptr thrown;
  BarrierOrder warp_order;

  unsigned lane() const { return index % kWarpSize; }
  unsigned warp() const { return index / kWarpSize; }
};

#ifdef __SANITIZE_ADDRESS__
inline constexpr size_t kStackBytes = size_t{512} << 10;
#else
inline constexpr size_t kStackBytes = size_t{128} << 10;
#endif

// The threads of a block. Below each stack is a page that may not be touched.
class Fibers {
 public:
  ~Fibers() { clear(); }

  Fiber& operator[](size_t i) { return *fibers_[i]; }

  // New fibers run `entry`, which never returns.
  void grow(size_t count, void (*entry)()) {
    const auto guard = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    while (fibers_.size() < count) {
      auto fiber = std::make_unique<Fiber>();
      void* mapped = mmap(nullptr, guard + kStackBytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (mapped == MAP_FAILED) throw Error("no memory for the stack of a thread");
      mprotect(mapped, guard, PROT_NONE);
      mappings_.emplace_back(mapped, guard + kStackBytes);
      fiber->stack = static_cast<char*>(mapped) + guard;
      fiber->stack_bytes = kStackBytes;
      prepare(fiber->context, fiber->stack, kStackBytes, entry);
#ifdef EGL_TSAN
      fiber->tsan_fiber = __tsan_create_fiber(0);
#endif
      fibers_.push_back(std::move(fiber));
    }
  }

  // Also ends fibers that wait forever: what they did comes before what the host does next.
  void clear() {
#ifdef EGL_TSAN
    void* const host = __tsan_get_current_fiber();
    for (auto& fiber : fibers_) {
      __tsan_switch_to_fiber(fiber->tsan_fiber, 0);
      __tsan_switch_to_fiber(host, 0);
      __tsan_destroy_fiber(fiber->tsan_fiber);
    }
#endif
    for (const auto& [address, bytes] : mappings_) {
#ifdef __SANITIZE_ADDRESS__
      __asan_unpoison_memory_region(address, bytes);
#endif
      munmap(address, bytes);
    }
    fibers_.clear();
    mappings_.clear();
  }

 private:
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<std::pair<void*, size_t>> mappings_;
};

}  // namespace egl::emulator
