// Compiled without the thread sanitizer, which would take the scheduler's own memory for the
// kernel's. EGL_TSAN says whether the kernels are compiled with it.
#include "csrc/emulator/emulator.h"

#include <pthread.h>

#include <algorithm>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "csrc/emulator/cuda_on_host.h"
#include "csrc/emulator/fibers.h"

EmulatedIndex threadIdx;
EmulatedIndex blockIdx;
EmulatedIndex blockDim;
EmulatedIndex gridDim;

namespace egl::emulator {
namespace {

class Launch;

Fiber* running = nullptr;
Launch* current = nullptr;

void fiber_main();

// To the thread sanitizer, a fiber is a thread, ordered after everything before the barriers it
// passed. If a block ran on the previous block's fibers, races between the two would go unseen. So
// blocks alternate between two sets: each is ordered after the block two before it, and after no
// other. New fibers for every block would cost half a millisecond each.
#ifdef EGL_TSAN
constexpr size_t kTurns = 2;
#else
constexpr size_t kTurns = 1;
#endif
Fibers fibers_of_turn[kTurns];

std::string describe(const Request& request) {
  std::ostringstream text;
  text << request.name;
  if (request.kind != Meeting::kBlockBarrier) text << " of mask " << std::hex << request.mask;
  text << std::dec << " at " << request.where.file_name() << ':' << request.where.line();
  return text.str();
}

bool same_place(const Request& a, const Request& b) {
  return std::string_view(a.name) == b.name && a.mask == b.mask &&
         a.where.line() == b.where.line() && a.where.column() == b.where.column() &&
         std::string_view(a.where.file_name()) == b.where.file_name();
}

// One launch of a grid.
class Launch {
 public:
  Launch(const Grid& grid, const std::function<void()>& body)
      : grid_(grid), body_(body), random_(options().schedule.seed) {
    if (grid.blocks == 0) throw Error("a grid without blocks");
    if (grid.threads == 0 || grid.threads > 1024) {
      throw Error("a block of " + std::to_string(grid.threads) +
                  " threads; 1 to 1024 are possible");
    }
    if (grid.shared_bytes > options().shared_memory_limit) {
      throw Error("a block of " + std::to_string(grid.shared_bytes) +
                  " bytes of dynamic shared memory; " +
                  std::to_string(options().shared_memory_limit) + " are possible");
    }
  }
  // Fibers and the thread sanitizer know it by its address.
  Launch(const Launch&) = delete;
  Launch& operator=(const Launch&) = delete;

  void run() {
    find_host_stack();
    gridDim = {grid_.blocks};
    blockDim = {grid_.threads};
    std::vector<unsigned> blocks(grid_.blocks);
    std::iota(blocks.begin(), blocks.end(), 0U);
    arrange(blocks);
    for (const unsigned block : blocks) {
      blockIdx = {block};
      run_block();
      ++num_run_;
    }
    for (char& end_order : end_order_) happens_after(&end_order);
  }

  // On the fiber's stack.
  void run_thread(Fiber& fiber) {
    happens_after(&start_order_);
    happens_after(end_order(kTurns));
    try {
      body_();
    } catch (...) {
      fiber.thrown = std::current_exception();
    }
    happens_before(end_order(0));
    fiber.state = State::kDone;
    switch_between(fiber, host_);
  }

  uint64_t wait(Fiber& fiber, const Request& request) {
    if (request.kind != Meeting::kBlockBarrier) check_mask(fiber, request);
    fiber.request = request;
    fiber.state = State::kWaiting;
    const bool is_block_barrier = request.kind == Meeting::kBlockBarrier;
    const bool is_warp_barrier = request.kind == Meeting::kWarpBarrier;
    if (is_block_barrier) happens_before(block_order_[turn()].reached());
    if (is_warp_barrier) happens_before(fiber.warp_order.reached());
    switch_between(fiber, host_);
    if (is_block_barrier) happens_after(block_order_[turn()].left());
    if (is_warp_barrier) {
      for_each_lane(fiber, request.mask,
                    [](Fiber& other) { happens_after(other.warp_order.left()); });
    }
    return fiber.answer;
  }

  unsigned char* shared() { return shared_[turn()].get(); }

 private:
  // The one that fibers switch back to.
  void find_host_stack() {
#ifdef __SANITIZE_ADDRESS__
    pthread_attr_t attributes;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, &host_.stack, &host_.stack_bytes);
    pthread_attr_destroy(&attributes);
#endif
  }

  template <typename Item>
  void arrange(std::vector<Item>& items) {
    switch (options().schedule.order) {
      case Order::kForward:
        return;
      case Order::kReversed:
        std::reverse(items.begin(), items.end());
        return;
      case Order::kShuffled:
        std::shuffle(items.begin(), items.end(), random_);
        return;
    }
  }

  template <typename Visit>
  void for_each_lane(const Fiber& of, unsigned mask, const Visit& visit) {
    const unsigned first = of.warp() * kWarpSize;
    for (unsigned lane = 0; lane < kWarpSize; ++lane) {
      if ((mask >> lane & 1U) != 0) visit(thread(first + lane));
    }
  }

  void check_mask(const Fiber& fiber, const Request& request) const {
    if ((request.mask >> fiber.lane() & 1U) == 0) {
      throw Error("wrong mask: thread " + std::to_string(fiber.index) +
                  " is not one of those that it waits for in " + describe(request));
    }
    for (unsigned lane = 0; lane < kWarpSize; ++lane) {
      if ((request.mask >> lane & 1U) != 0 && fiber.warp() * kWarpSize + lane >= grid_.threads) {
        throw Error("wrong mask: the block ends before lane " + std::to_string(lane) + " of " +
                    describe(request));
      }
    }
    if (request.kind == Meeting::kShuffle && (request.mask >> request.source_lane & 1U) == 0) {
      throw Error("wrong mask: thread " + std::to_string(fiber.index) + " reads lane " +
                  std::to_string(request.source_lane) + ", which does not take part in " +
                  describe(request));
    }
  }

  void run_block() {
    fibers_of_turn[turn()].grow(grid_.threads, fiber_main);
    allocate_shared();
    happens_before(&start_order_);
    std::vector<Fiber*> ready;
    for (unsigned i = 0; i < grid_.threads; ++i) {
      Fiber& fiber = thread(i);
      fiber.index = i;
      fiber.state = State::kReady;
      fiber.thrown = nullptr;
      ready.push_back(&fiber);
    }
    while (!ready.empty()) {
      arrange(ready);
      for (Fiber* fiber : ready) resume(*fiber);
      ready = those_that_met();
    }
  }

  // New for each block, so that blocks share no memory, and it is never zero by chance. To the
  // thread sanitizer, freeing is a write, so there memory lasts as long as the launch. So is
  // memset, which the compiler would turn the loop into if bytes were not volatile.
  void allocate_shared() {
    auto& shared = shared_[turn()];
#ifdef EGL_TSAN
    const bool wanted = shared == nullptr;
#else
    constexpr bool wanted = true;
#endif
    if (wanted) shared = std::make_unique_for_overwrite<unsigned char[]>(grid_.shared_bytes);
    volatile unsigned char* const bytes = shared.get();
    for (size_t i = 0; i < grid_.shared_bytes; ++i) bytes[i] = 0xcd;
  }

  void resume(Fiber& fiber) {
    running = &fiber;
    threadIdx = {fiber.index};
    switch_between(host_, fiber);
    running = nullptr;
    if (fiber.thrown != nullptr) std::rethrow_exception(fiber.thrown);
  }

  // Called when no thread can run: those whose meeting is complete may go on.
  std::vector<Fiber*> those_that_met() {
    std::vector<Fiber*> met;
    size_t waiting = 0;
    bool any = false;  // of the predicates
    for (size_t i = 0; i < grid_.threads; ++i) {
      waiting += thread(i).state == State::kWaiting;
      any |= thread(i).request.predicate;
    }
    if (waiting == 0) return met;
    if (all_at_block_barrier()) {
      for (size_t i = 0; i < grid_.threads; ++i) release(thread(i), any ? 1 : 0, met);
      ++block_order_[turn()].turn;
      return met;
    }
    for (size_t i = 0; i < grid_.threads; ++i) {
      if (thread(i).state == State::kWaiting) meet_lanes(thread(i), met);
    }
    if (met.empty()) throw Error(why_nobody_goes_on());
    return met;
  }

  bool all_at_block_barrier() {
    for (size_t i = 0; i < grid_.threads; ++i) {
      if (thread(i).state != State::kWaiting || thread(i).request.kind != Meeting::kBlockBarrier ||
          !same_place(thread(i).request, thread(0).request)) {
        return false;
      }
    }
    return true;
  }

  void meet_lanes(Fiber& fiber, std::vector<Fiber*>& met) {
    const Request request = fiber.request;
    if (request.kind == Meeting::kBlockBarrier) return;
    bool complete = true;
    uint64_t votes = 0;
    for_each_lane(fiber, request.mask, [&](const Fiber& other) {
      complete &= other.state == State::kWaiting && same_place(other.request, request);
      votes |= uint64_t{other.request.predicate} << other.lane();
    });
    if (!complete) return;
    for_each_lane(fiber, request.mask, [&](Fiber& other) {
      const size_t source = other.warp() * kWarpSize + other.request.source_lane;
      const bool is_shuffle = request.kind == Meeting::kShuffle;
      release(other, is_shuffle ? thread(source).request.bits : votes, met);
      if (request.kind == Meeting::kWarpBarrier) ++other.warp_order.turn;
    });
  }

  static void release(Fiber& fiber, uint64_t answer, std::vector<Fiber*>& met) {
    fiber.answer = answer;
    fiber.state = State::kReady;
    met.push_back(&fiber);
  }

  std::string why_nobody_goes_on() {
    std::map<std::string, std::pair<size_t, unsigned>> places;  // how many, and the first
    bool barriers_only = true;
    for (unsigned i = 0; i < grid_.threads; ++i) {
      const bool done = thread(i).state == State::kDone;
      barriers_only &= done || thread(i).request.kind == Meeting::kBlockBarrier;
      auto& place = places[done ? "the end of the kernel" : describe(thread(i).request)];
      if (place.first++ == 0) place.second = i;
    }
    std::ostringstream text;
    text << (barriers_only ? "divergent barrier" : "deadlock") << " in block " << blockIdx.x << ':';
    const char* separator = " ";
    for (const auto& [name, place] : places) {
      text << separator << place.first << " threads, the first is " << place.second << ", are at "
           << name;
      separator = "; ";
    }
    return text.str();
  }

  size_t turn() const { return num_run_ % kTurns; }

  // Stands for the ends of the threads of the block that ran `before` blocks ago. Threads of the
  // same block are not ordered, though some start after others have ended.
  void* end_order(size_t before) {
    constexpr size_t kCount = 2 * kTurns;
    return &end_order_[(num_run_ + kCount - before) % kCount];
  }

  Fiber& thread(size_t i) const { return fibers_of_turn[turn()][i]; }

  const Grid grid_;
  const std::function<void()>& body_;
  std::mt19937_64 random_;
  Continuation host_;
  size_t num_run_ = 0;  // blocks that are done
  std::unique_ptr<unsigned char[]> shared_[kTurns];
  // Addresses for the thread sanitizer.
  char start_order_ = 0;
  char end_order_[2 * kTurns] = {};
  BarrierOrder block_order_[kTurns];
};

void fiber_main() {
  arrive_on_new_stack();
  while (true) current->run_thread(*running);
}

}  // namespace

Options& options() {
  static Options all;
  return all;
}

void run(const Grid& grid, const std::function<void()>& body) {
  static std::mutex one_at_a_time;  // among host threads
  static thread_local bool launching = false;
  if (launching) throw Error("a launch within a launch");
  const std::lock_guard lock(one_at_a_time);
  Launch launch(grid, body);
  launching = true;
  current = &launch;
  std::exception_ptr thrown;
  try {
    launch.run();
  } catch (...) {
    thrown = std::current_exception();
    for (Fibers& fibers : fibers_of_turn) fibers.clear();  // some wait forever
  }
  running = nullptr;
  current = nullptr;
  launching = false;
  if (thrown != nullptr) std::rethrow_exception(thrown);
}

unsigned char* dynamic_shared_memory() { return current->shared(); }

unsigned lane() { return running->lane(); }

bool meet_block(bool predicate, std::source_location where) {
  return current->wait(*running, {Meeting::kBlockBarrier, "__syncthreads", where, 0, predicate}) !=
         0;
}

uint64_t meet_warp(const Request& request) { return current->wait(*running, request); }

}  // namespace egl::emulator
