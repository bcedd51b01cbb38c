// Runs CUDA kernels on the host, to test them where there is no GPU. Blocks run one after another,
// the threads of a block as fibers of one host thread: each runs until it waits for others, so a
// kernel's result is a function of the schedule, and any schedule is one that a GPU might take.
//
// What it finds:
//   - out-of-bounds and uninitialised reads of dynamic shared memory, and accesses beyond buffers,
//     under the address sanitizer;
//   - missing barriers, under the thread sanitizer: fibers are announced to it, and of all that
//     happens here only barriers, launches and atomics order memory. A shuffle or a vote does not,
//     as on a GPU;
//   - deadlocks, divergent barriers, wrong masks: `Error`, with who waits where.
// It is stricter than the hardware: threads that have returned may not be waited for.
//
// cuda_on_host.h gives the kernels CUDA's names for this.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <stdexcept>

namespace egl::emulator {

inline constexpr unsigned kWarpSize = 32;

struct Dim3 {
  unsigned x = 1;
  unsigned y = 1;
  unsigned z = 1;

  uint64_t size() const { return uint64_t{x} * y * z; }
};

// Who runs first, of the blocks of a launch and of the threads that can run.
enum class Order { kForward, kReversed, kShuffled };

struct Schedule {
  Order order = Order::kForward;
  uint64_t seed = 0;  // of kShuffled
};

struct Options {
  Schedule schedule;
  // Largest dynamic shared memory of a launch: 227 KiB, as on an H100, unless a test says so.
  size_t shared_memory_limit = 227 * 1024;
  // Orders the memory of one block before the next, which hides races between blocks. Kernels with
  // static shared memory need it, since all blocks find theirs at one address.
  bool ordered_blocks = false;
};

// Of the launches to come.
Options& options();

// What a launch ends with if its threads wait in vain, name a wrong mask or exceed a limit.
class Error : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Grid {
  Dim3 blocks;
  Dim3 threads;
  size_t shared_bytes = 0;
};

// Runs `body` once for each thread of the grid. Exceptions of a thread end the launch.
void run(const Grid& grid, const std::function<void()>& body);

// The rest is for threads, which are known by the fiber they run on.

unsigned char* dynamic_shared_memory();

// Kinds of meetings: threads meet if they call the same function from the same line.
enum class Meeting {
  kBlockBarrier,
  kWarpBarrier,
  kShuffle,
  kShuffleUp,
  kShuffleDown,
  kShuffleXor,
  kVote,
};

// Waits for the whole block; returns how many threads came with a predicate that holds.
unsigned meet_block(bool predicate, std::source_location where);

// Waits for the lanes of `mask`; returns those of them that came with a predicate that holds.
unsigned meet_warp(Meeting kind, unsigned mask, bool predicate, std::source_location where);

// Waits for the lanes of `mask`; returns what `source_lane` brought.
uint64_t exchange(Meeting kind, unsigned mask, uint64_t bits, unsigned source_lane,
                  std::source_location where);

unsigned lane();

}  // namespace egl::emulator
