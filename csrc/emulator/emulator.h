// Runs CUDA kernels on the host, to test them where there is no GPU. Blocks run one after another,
// the threads of a block as fibers of one host thread: each runs until it waits for others, so a
// kernel's result is a function of the schedule, and a GPU might take any of these schedules.
//
// What it finds:
//   - out-of-bounds and uninitialized reads of dynamic shared memory, and accesses beyond buffers,
//     under the address sanitizer;
//   - missing barriers, under the thread sanitizer, which is told of the fibers: only barriers,
//     launches and atomics order memory. A shuffle or a vote does not, as on a GPU;
//   - deadlocks, divergent barriers, wrong masks: `Error`, with who waits where.
// It is stricter than the hardware: threads that have returned may not be waited for.
//
// cuda_on_host.h gives this CUDA's names.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <stdexcept>

namespace egl::emulator {

inline constexpr unsigned kWarpSize = 32;

// The order of the blocks of a launch, and of the threads that can run.
enum class Order { kForward, kReversed, kShuffled };

struct Schedule {
  Order order = Order::kForward;
  uint64_t seed = 0;  // of kShuffled
};

struct Options {
  Schedule schedule;
  // Largest dynamic shared memory of a launch in bytes: 227 KiB, as on an H100.
  size_t shared_memory_limit = 227 * 1024;
};

// For future launches.
Options& options();

// A launch whose threads wait in vain, name a wrong mask or exceed a limit.
class Error : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Grid {
  unsigned blocks;
  unsigned threads;  // in each block
  size_t shared_bytes = 0;
};

// Runs `body` once for each thread of the grid. Exceptions of a thread end the launch.
void run(const Grid& grid, const std::function<void()>& body);

// The rest is called by threads, which are known by the fiber they run on.

unsigned char* dynamic_shared_memory();

enum class Meeting { kBlockBarrier, kWarpBarrier, kShuffle, kVote };

// What a thread waits for. Threads meet if they call the same function from the same place.
struct Request {
  Meeting kind;
  const char* name;  // of CUDA's function
  std::source_location where;
  unsigned mask = 0;  // of a warp's meeting
  bool predicate = false;
  uint64_t bits = 0;         // of a shuffle: what this thread contributes
  unsigned source_lane = 0;  // of a shuffle: the lane whose contribution it gets
};

// Waits for the whole block; returns whether any thread's predicate holds.
bool meet_block(bool predicate, std::source_location where);

// Waits for the lanes of the mask; returns what the source lane contributed to a shuffle, else the
// lanes whose predicate holds.
uint64_t meet_warp(const Request& request);

unsigned lane();

}  // namespace egl::emulator
