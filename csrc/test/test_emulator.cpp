// The emulator, by kernels whose results are known. What a sanitizer has to notice is in planted/.
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "csrc/cuda/launch.h"
#include "csrc/cuda/shared_memory.h"
#include "csrc/test/emulated.h"

namespace {

using egl::cuda::SharedArena;
using egl::emulator::Error;
using egl::emulator::Order;
using egl::emulator::run;

constexpr unsigned kAll = egl::cuda::kFullWarp;

// What `launch` throws, as text; empty if it throws nothing.
template <typename Launch>
std::string error_of(const Launch& launch) {
  try {
    launch();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

unsigned flat_thread() {
  return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
}

unsigned flat_block() { return blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z); }

// Options as they were, whatever a test sets.
class OptionsScope {
 public:
  ~OptionsScope() { egl::emulator::options() = before_; }

 private:
  const egl::emulator::Options before_ = egl::emulator::options();
};

// The order in which the threads of a grid run that nothing holds up.
std::vector<unsigned> running_order(Order order, uint64_t seed, unsigned blocks, unsigned threads) {
  const OptionsScope scope;
  egl::emulator::options().schedule = {order, seed};
  egl::emulator::options().ordered_blocks = true;  // they share `ran` and how many did
  std::vector<unsigned> ran(size_t{blocks} * threads);
  unsigned count = 0;
  run({{blocks}, {threads}},
      [&] { ran[atomicAdd(&count, 1)] = blockIdx.x * blockDim.x + threadIdx.x; });
  return ran;
}

__global__ void rotate(const int* in, int* out) {
  int* shared = SharedArena::of_block().take<int>(blockDim.x);
  const unsigned first = blockIdx.x * blockDim.x;
  shared[threadIdx.x] = in[first + threadIdx.x];
  __syncthreads();
  out[first + threadIdx.x] = shared[(threadIdx.x + 1) % blockDim.x];
}

__global__ void reverse_in_static_memory(const int* in, int* out) {
  __shared__ int shared[64];
  const unsigned first = blockIdx.x * blockDim.x;
  shared[threadIdx.x] = in[first + threadIdx.x];
  __syncthreads();
  out[first + threadIdx.x] = shared[blockDim.x - 1 - threadIdx.x];
  __syncthreads();
}

// What each lane of one warp gets from `shuffle`, called with its lane.
template <typename T, typename Shuffle>
std::array<T, 32> of_warp(const Shuffle& shuffle) {
  std::array<T, 32> got{};
  run({{1}, {32}}, [&] { got[threadIdx.x] = shuffle(static_cast<int>(threadIdx.x)); });
  return got;
}

// The four shuffles at a width, against what the programming guide says of each lane.
template <typename T>
void check_shuffles(int width, T (*value_of)(int lane)) {
  for (const int by : {0, 1, 3, 16, 31}) {
    const auto direct =
        of_warp<T>([&](int lane) { return __shfl_sync(kAll, value_of(lane), by, width); });
    const auto up = of_warp<T>([&](int lane) {
      return __shfl_up_sync(kAll, value_of(lane), static_cast<unsigned>(by), width);
    });
    const auto down = of_warp<T>([&](int lane) {
      return __shfl_down_sync(kAll, value_of(lane), static_cast<unsigned>(by), width);
    });
    const auto crossed =
        of_warp<T>([&](int lane) { return __shfl_xor_sync(kAll, value_of(lane), by, width); });
    for (int lane = 0; lane < 32; ++lane) {
      const int first = lane / width * width;
      const int end = first + width;
      CHECK(direct[lane] == value_of(first + by % width));
      CHECK(up[lane] == value_of(lane - by >= first ? lane - by : lane));
      CHECK(down[lane] == value_of(lane + by < end ? lane + by : lane));
      CHECK(crossed[lane] == value_of((lane ^ by) < end ? lane ^ by : lane));
    }
  }
}

template <typename T>
void check_atomics() {
  constexpr unsigned kThreads = 96;
  // One of each block and thread comes first, and atomics on one address are one after another.
  T sum = 0, most = 3, least = 1000, either = 0, both = 127, last = 0, claimed = 0;
  std::vector<T> before(kThreads);
  run({{1}, {kThreads}}, [&] {
    const T i = static_cast<T>(threadIdx.x);
    before[threadIdx.x] = atomicAdd(&sum, 1);
    atomicMax(&most, i);
    atomicMin(&least, i + 5);
    atomicOr(&either, T{1} << (i % 6));
    atomicAnd(&both, static_cast<T>(127 - (i == 7 ? 8 : 0)));
    atomicExch(&last, i + 1);
    atomicCAS(&claimed, 0, i + 1);
  });
  CHECK(sum == kThreads);
  const std::set<T> distinct(before.begin(), before.end());
  CHECK(distinct.size() == kThreads && *distinct.begin() == 0 &&
        *distinct.rbegin() == kThreads - 1);
  CHECK(most == kThreads - 1);
  CHECK(least == 5);
  CHECK(either == 63);
  CHECK(both == 119);
  CHECK(last >= 1 && last <= static_cast<T>(kThreads));
  CHECK(claimed >= 1 && claimed <= static_cast<T>(kThreads));

  T value = 5;
  std::array<T, 7> returned{};
  run({{1}, {1}}, [&] {
    returned = {atomicAdd(&value, 2),   atomicMax(&value, 9), atomicMin(&value, 6),
                atomicOr(&value, 8),    atomicAnd(&value, 7), atomicExch(&value, 4),
                atomicCAS(&value, 3, 1)};
  });
  CHECK((returned == std::array<T, 7>{5, 7, 9, 6, 14, 6, 4}));
  CHECK(value == 4);
  run({{1}, {1}}, [&] { returned[0] = atomicCAS(&value, 4, 1); });
  CHECK(returned[0] == 4 && value == 1);
}

}  // namespace

EGL_TEST(threads_meet_in_shared_memory) {
  std::vector<int> in(192);
  std::vector<int> out(192);
  for (int i = 0; i < 192; ++i) in[i] = i;
  SharedArena arena;
  arena.take<int>(96);
  egl::cuda::launch("rotate", rotate, {2, 96, arena.bytes()}, nullptr, in.data(), out.data());
  for (int i = 0; i < 192; ++i) CHECK(out[i] == i / 96 * 96 + (i + 1) % 96);
}

EGL_TEST(threads_meet_in_static_shared_memory) {
  const OptionsScope scope;
  egl::emulator::options().ordered_blocks = true;
  std::vector<int> in(192);
  std::vector<int> out(192);
  for (int i = 0; i < 192; ++i) in[i] = i;
  egl::cuda::launch("reverse", reverse_in_static_memory, {3, 64}, nullptr, in.data(), out.data());
  for (int i = 0; i < 192; ++i) CHECK(out[i] == i / 64 * 64 + 63 - i % 64);
}

EGL_TEST(shared_memory_is_a_blocks_own_and_starts_as_rubbish) {
  std::vector<unsigned char> seen(5 * 16);
  SharedArena arena;
  arena.take<unsigned char>(16);
  run({{5}, {16}, arena.bytes()}, [&] {
    unsigned char* shared = SharedArena::of_block().take<unsigned char>(16);
    seen[blockIdx.x * 16 + threadIdx.x] = shared[threadIdx.x];
    shared[threadIdx.x] = 7;
  });
  for (const unsigned char byte : seen) CHECK(byte == 0xcd);
}

EGL_TEST(arrays_in_shared_memory_are_aligned_and_apart) {
  SharedArena measured;
  measured.take<char>(3);
  measured.take<double>(5);
  measured.take<int>(1);
  bool aligned = false;
  std::ptrdiff_t first_gap = 0;
  std::ptrdiff_t second_gap = 0;
  size_t bytes = 0;
  run({{1}, {1}, measured.bytes()}, [&] {
    SharedArena arena = SharedArena::of_block();
    char* a = arena.take<char>(3);
    double* b = arena.take<double>(5);
    int* c = arena.take<int>(1);
    aligned = reinterpret_cast<uintptr_t>(b) % alignof(double) == 0 &&
              reinterpret_cast<uintptr_t>(c) % alignof(int) == 0;
    first_gap = reinterpret_cast<char*>(b) - (a + 3);
    second_gap = reinterpret_cast<char*>(c) - reinterpret_cast<char*>(b + 5);
    bytes = arena.bytes();
  });
  CHECK(aligned && first_gap >= 0 && second_gap >= 0);
  CHECK(bytes == measured.bytes());
}

EGL_TEST(grids_and_blocks_have_three_dimensions) {
  constexpr egl::emulator::Dim3 kBlocks{3, 2, 2};
  constexpr egl::emulator::Dim3 kThreads{4, 3, 2};
  std::vector<int> runs(12 * 24);
  std::vector<int> in_range(12 * 24);
  run({kBlocks, kThreads}, [&] {
    const unsigned i = flat_block() * 24 + flat_thread();
    ++runs[i];
    in_range[i] = gridDim.x == 3 && gridDim.y == 2 && gridDim.z == 2 && blockDim.x == 4 &&
                  blockDim.y == 3 && blockDim.z == 2 && blockIdx.x < 3 && blockIdx.y < 2 &&
                  blockIdx.z < 2 && threadIdx.x < 4 && threadIdx.y < 3 && threadIdx.z < 2;
  });
  for (const int times : runs) CHECK(times == 1);
  for (const int holds : in_range) CHECK(holds == 1);

  // Warps are made of threads in the order of x, then y, then z.
  std::vector<unsigned> leader(64);
  run({{1}, {4, 8, 2}}, [&] {
    const unsigned i = flat_thread();
    leader[i] = __shfl_sync(kAll, i, 0);
  });
  for (unsigned i = 0; i < 64; ++i) CHECK(leader[i] == i / 32 * 32);
}

EGL_TEST(blocks_meet_as_often_as_they_like) {
  constexpr unsigned kThreads = 70;
  SharedArena arena;
  arena.take<int>(kThreads);
  std::vector<int> out(3 * kThreads);
  run({{3}, {kThreads}, arena.bytes()}, [&] {
    int* shared = SharedArena::of_block().take<int>(kThreads);
    shared[threadIdx.x] = static_cast<int>(threadIdx.x);
    for (int step = 0; step < 5; ++step) {
      __syncthreads();
      const int from_next = shared[(threadIdx.x + 1) % kThreads];
      __syncthreads();
      shared[threadIdx.x] = from_next;
    }
    out[blockIdx.x * kThreads + threadIdx.x] = shared[threadIdx.x];
  });
  for (unsigned i = 0; i < out.size(); ++i) CHECK(out[i] == static_cast<int>((i + 5) % kThreads));
}

EGL_TEST(block_barriers_count_and_vote) {
  constexpr unsigned kThreads = 45;
  for (const unsigned hold : {0U, 1U, 17U, 45U}) {
    std::vector<std::array<int, 3>> got(kThreads);
    run({{1}, {kThreads}}, [&] {
      const int predicate = threadIdx.x < hold ? 6 : 0;
      got[threadIdx.x] = {__syncthreads_count(predicate), __syncthreads_or(predicate),
                          __syncthreads_and(predicate)};
    });
    for (const auto& [count, any, all] : got) {
      CHECK(count == static_cast<int>(hold));
      CHECK((any != 0) == (hold > 0));
      CHECK((all != 0) == (hold == kThreads));
    }
  }
}

EGL_TEST(parts_of_a_warp_meet_without_the_rest) {
  SharedArena arena;
  arena.take<int>(64);
  std::vector<int> out(64);
  run({{1}, {64}, arena.bytes()}, [&] {
    int* shared = SharedArena::of_block().take<int>(64);
    const unsigned lane = threadIdx.x % 32;
    // Lanes 0 to 9, the odd ones of the others, and the even ones, which end.
    const bool low = lane < 10;
    if (!low && lane % 2 == 0) return;
    const unsigned mask = low ? 0x3ffU : 0xaaaaa800U;
    const int step = low ? 1 : 2;
    const unsigned first = threadIdx.x - lane + (low ? 0 : 11);
    for (int round = 0; round < 3; ++round) {
      shared[threadIdx.x] = static_cast<int>(lane) + round;
      __syncwarp(mask);
      const unsigned next = threadIdx.x + static_cast<unsigned>(step);
      const bool is_last = low ? lane == 9 : lane == 31;
      out[threadIdx.x] = shared[is_last ? first : next];
      __syncwarp(mask);
    }
  });
  for (int i = 0; i < 64; ++i) {
    const int lane = i % 32;
    if (lane >= 10 && lane % 2 == 0) {
      CHECK(out[i] == 0);
    } else {
      CHECK(out[i] == 2 + (lane == 9 ? 0 : lane < 9 ? lane + 1 : lane == 31 ? 11 : lane + 2));
    }
  }
}

EGL_TEST(shuffles_of_every_width_and_type) {
  for (const int width : {1, 2, 4, 8, 16, 32}) {
    check_shuffles<int>(width, [](int lane) { return 5 - lane; });
    check_shuffles<unsigned>(width,
                             [](int lane) { return 0xfffffff0U + static_cast<unsigned>(lane); });
    check_shuffles<float>(width, [](int lane) { return 0.1F * static_cast<float>(lane); });
    check_shuffles<double>(width, [](int lane) { return 0.1 * lane - 1e300; });
    check_shuffles<long long>(width, [](int lane) { return (1LL << 40) - lane; });
    check_shuffles<unsigned long long>(
        width, [](int lane) { return ~0ULL - static_cast<unsigned>(lane); });
  }
}

EGL_TEST(shuffles_carry_every_bit) {
  const auto nan = of_warp<double>([](int lane) {
    return __shfl_xor_sync(kAll, lane == 0 ? std::numeric_limits<double>::quiet_NaN() : -0.0, 1);
  });
  CHECK(std::isnan(nan[1]));
  CHECK(nan[0] == 0 && std::signbit(nan[0]));
}

EGL_TEST(parts_of_a_warp_shuffle_and_vote) {
  constexpr unsigned kMask = 0xff00U;
  std::array<int, 32> sum{};
  std::array<unsigned, 32> ballot{};
  run({{1}, {32}}, [&] {
    const unsigned lane = threadIdx.x;
    if ((kMask >> lane & 1U) == 0) return;
    int total = static_cast<int>(lane);
    for (int by = 4; by > 0; by /= 2) total += __shfl_xor_sync(kMask, total, by, 8);
    sum[lane] = total;
    ballot[lane] = __ballot_sync(kMask, lane % 3 == 0);
  });
  for (unsigned lane = 8; lane < 16; ++lane) {
    CHECK(sum[lane] == 8 + 9 + 10 + 11 + 12 + 13 + 14 + 15);
    CHECK(ballot[lane] == ((1U << 9) | (1U << 12) | (1U << 15)));
  }
}

EGL_TEST(votes) {
  for (const unsigned bits : {0U, 1U, 0x80000000U, 0xf0f0f0f0U, ~0U}) {
    std::array<unsigned, 32> ballot{};
    std::array<int, 32> any{};
    std::array<int, 32> all{};
    run({{1}, {32}}, [&] {
      const int predicate = (bits >> threadIdx.x & 1U) != 0 ? -2 : 0;
      ballot[threadIdx.x] = __ballot_sync(kAll, predicate);
      any[threadIdx.x] = __any_sync(kAll, predicate);
      all[threadIdx.x] = __all_sync(kAll, predicate);
    });
    for (unsigned lane = 0; lane < 32; ++lane) {
      CHECK(ballot[lane] == bits);
      CHECK((any[lane] != 0) == (bits != 0));
      CHECK((all[lane] != 0) == (bits == ~0U));
    }
  }
}

EGL_TEST(a_block_may_end_within_a_warp) {
  std::array<unsigned, 40> ballot{};
  run({{1}, {40}}, [&] {
    const unsigned mask = threadIdx.x < 32 ? kAll : 0xffU;
    ballot[threadIdx.x] = __ballot_sync(mask, 1);
  });
  for (unsigned i = 0; i < 40; ++i) CHECK(ballot[i] == (i < 32 ? kAll : 0xffU));
}

EGL_TEST(atomics) {
  check_atomics<int>();
  check_atomics<unsigned>();
  check_atomics<unsigned long long>();
}

EGL_TEST(bits) {
  CHECK(__popc(0) == 0 && __popc(~0U) == 32 && __popc(0x90U) == 2);
  CHECK(__ffs(0) == 0 && __ffs(1) == 1 && __ffs(12) == 3 &&
        __ffs(std::numeric_limits<int>::min()) == 32);
  CHECK(__clz(0) == 32 && __clz(1) == 31 && __clz(-1) == 0);
  CHECK(__clzll(0) == 64 && __clzll(1) == 63 && __clzll(-1) == 0);
  CHECK(__double_as_longlong(1.0) == 0x3ff0000000000000 &&
        __longlong_as_double(0x4000000000000000) == 2);
  CHECK(__float_as_int(1.0F) == 0x3f800000 && __int_as_float(0x40000000) == 2);
  const double value = 2.5;
  CHECK(__ldg(&value) == 2.5);
}

EGL_TEST(schedules_differ_in_who_runs_first) {
  const auto forward = running_order(Order::kForward, 0, 3, 40);
  const auto reversed = running_order(Order::kReversed, 0, 3, 40);
  const auto shuffled = running_order(Order::kShuffled, 1, 3, 40);
  for (unsigned i = 0; i < 120; ++i) {
    CHECK(forward[i] == i);
    CHECK(reversed[i] == 119 - i);
  }
  CHECK(shuffled != forward && shuffled != reversed);
  CHECK(shuffled == running_order(Order::kShuffled, 1, 3, 40));
  CHECK(shuffled != running_order(Order::kShuffled, 2, 3, 40));
  CHECK((std::set<unsigned>(shuffled.begin(), shuffled.end()).size() == 120));
}

EGL_TEST(schedules_hold_after_a_barrier_too) {
  for (const auto& [order, first] : {std::pair{Order::kForward, 0U}, {Order::kReversed, 63U}}) {
    const OptionsScope scope;
    egl::emulator::options().schedule = {order, 0};
    unsigned came = 0;
    std::array<unsigned, 64> place{};
    run({{1}, {64}}, [&] {
      __syncthreads();
      place[threadIdx.x] = atomicAdd(&came, 1);
    });
    CHECK(place[first] == 0);
  }
}

EGL_TEST(what_a_thread_throws_ends_the_launch) {
  for (int repeat = 0; repeat < 3; ++repeat) {
    int reached_block = 0;
    const std::string error = error_of([&] {
      run({{1}, {50}}, [&] {
        if (threadIdx.x == 20) throw std::runtime_error("of thread 20");
        __syncthreads();
        ++reached_block;
      });
    });
    CHECK(error == "of thread 20");
    CHECK(reached_block == 0);
    // Fibers that waited are gone; others can be had.
    std::array<int, 50> out{};
    run({{1}, {50}}, [&] { out[threadIdx.x] = __syncthreads_count(1); });
    for (const int count : out) CHECK(count == 50);
  }
}

EGL_TEST(what_was_written_before_an_error_can_be_read) {
  std::array<int, 50> out{};
  const std::string error = error_of([&] {
    run({{2}, {50}}, [&] {
      out[threadIdx.x] = 1;
      if (threadIdx.x == 20) throw std::runtime_error("stop");
      __syncthreads();
    });
  });
  CHECK(error == "stop");
  out.fill(2);
  run({{1}, {50}}, [&] { ++out[threadIdx.x]; });
  for (const int value : out) CHECK(value == 3);
}

EGL_TEST(a_barrier_that_some_do_not_reach_is_divergent) {
  const std::string ended = error_of([] {
    run({{2}, {64}}, [] {
      if (threadIdx.x < 60) __syncthreads();
    });
  });
  CHECK(contains(ended, "divergent barrier in block"));
  CHECK(contains(ended, "60 threads, the first is 0, are at __syncthreads at "));
  CHECK(contains(ended, "test_emulator.cpp:"));
  CHECK(contains(ended, "4 threads, the first is 60, are at the end of the kernel"));

  const std::string two_places = error_of([] {
    run({{1}, {64}}, [] {
      if (threadIdx.x % 2 == 0) {
        __syncthreads();
      } else {
        __syncthreads();
      }
    });
  });
  CHECK(contains(two_places, "divergent barrier in block 0, 0, 0: 32 threads"));
  const std::string one_line = error_of(
      [] { run({{1}, {64}}, [] { threadIdx.x < 32 ? __syncthreads() : __syncthreads(); }); });
  CHECK(contains(one_line, "divergent barrier"));
}

EGL_TEST(threads_that_wait_for_each_other_in_different_places_are_deadlocked) {
  const std::string error = error_of([] {
    run({{1}, {64}}, [] {
      if (threadIdx.x == 3) {
        __syncwarp();
      } else {
        __syncthreads();
      }
    });
  });
  CHECK(contains(error, "deadlock in block 0, 0, 0:"));
  CHECK(contains(error, "63 threads, the first is 0, are at __syncthreads at "));
  CHECK(contains(error, "1 threads, the first is 3, are at __syncwarp of mask ffffffff at "));

  const std::string left = error_of([] {
    run({{1}, {32}}, [] {
      if (threadIdx.x != 5) __shfl_sync(kAll, 1, 0);
    });
  });
  CHECK(contains(left,
                 "deadlock in block 0, 0, 0: 31 threads, the first is 0, are at __shfl_sync of"));

  const std::string masks = error_of(
      [] { run({{1}, {32}}, [] { __ballot_sync(threadIdx.x < 16 ? kAll : 0xffff0000U, 1); }); });
  CHECK(contains(masks, "deadlock"));
  CHECK(contains(masks, "a vote of mask ffffffff"));
}

EGL_TEST(wrong_masks) {
  const std::string not_in_it = error_of([] { run({{1}, {32}}, [] { __syncwarp(0x0000ffffU); }); });
  CHECK(contains(not_in_it, "wrong mask: thread "));
  CHECK(
      contains(not_in_it, " is not one of those that it waits for in __syncwarp of mask ffff at "));

  const std::string source = error_of([] {
    run({{1}, {32}}, [] {
      if (threadIdx.x < 16) __shfl_sync(0xffffU, 1, 16);
    });
  });
  CHECK(
      contains(source, " reads lane 16, which does not take part in __shfl_sync of mask ffff at "));
  const std::string down = error_of([] {
    run({{1}, {32}}, [] {
      if (threadIdx.x < 16) __shfl_down_sync(0xffffU, 1, 1);
    });
  });
  CHECK(contains(down, "thread 15 reads lane 16"));
  const std::string up = error_of([] {
    run({{1}, {32}}, [] {
      if (threadIdx.x >= 16) __shfl_up_sync(0xffff0000U, 1, 1);
    });
  });
  CHECK(contains(up, "thread 16 reads lane 15"));
  const std::string crossed = error_of([] {
    run({{1}, {32}}, [] {
      if (threadIdx.x < 16) __shfl_xor_sync(0xffffU, 1, 16);
    });
  });
  CHECK(contains(crossed, "which does not take part in __shfl_xor_sync"));

  const std::string beyond = error_of([] { run({{1}, {40}}, [] { __syncwarp(); }); });
  CHECK(contains(beyond, "wrong mask: the block ends before lane 8 of __syncwarp"));
}

EGL_TEST(a_wrong_mask_is_known_before_anyone_waits_for_ever) {
  // On a GPU this could hang, or not.
  const std::string error = error_of([] {
    run({{1}, {64}}, [] {
      if (threadIdx.x == 40) __any_sync(1U, 1);
      __syncthreads();
    });
  });
  CHECK(contains(error, "wrong mask: thread 40"));
}

EGL_TEST(launches_have_limits) {
  const auto nothing = [] {};
  CHECK(error_of([&] { run({{1}, {1025}}, nothing); }) ==
        "a block of 1025 threads; 1 to 1024 are possible");
  CHECK(error_of([&] { run({{1}, {32, 33}}, nothing); }) ==
        "a block of 1056 threads; 1 to 1024 are possible");
  CHECK(error_of([&] { run({{1}, {0}}, nothing); }) ==
        "a block of 0 threads; 1 to 1024 are possible");
  CHECK(error_of([&] { run({{0}, {1}}, nothing); }) == "a grid without blocks");
  CHECK(error_of([&] { run({{1}, {1}, 227 * 1024}, nothing); }).empty());
  CHECK(error_of([&] { run({{1}, {1}, 227 * 1024 + 1}, nothing); }) ==
        "a block of 232449 bytes of dynamic shared memory; 232448 are possible");
  CHECK(error_of([&] { run({{1}, {1024}}, nothing); }).empty());
}

EGL_TEST(launch_says_which_kernel_wants_too_much_shared_memory) {
  const OptionsScope scope;
  egl::emulator::options().shared_memory_limit = 99 * 1024;
  int* none = nullptr;
  CHECK(error_of([&] {
          egl::cuda::launch("rotate", rotate, {1, 32, 101377}, nullptr, none, none);
        }) == "rotate wants 101377 bytes of shared memory a block, and this device has 101376");
  egl::cuda::launch("rotate", rotate, {0, 32, 16}, nullptr, none, none);  // nothing to do
}

EGL_TEST(a_launch_within_a_launch_is_refused) {
  std::string inner;
  run({{1}, {1}}, [&] { inner = error_of([] { run({{1}, {1}}, [] {}); }); });
  CHECK(inner == "a launch within a launch");
  CHECK(error_of([] { run({{1}, {2}}, [] { run({{1}, {1}}, [] {}); }); }) ==
        "a launch within a launch");
}

EGL_TEST(host_threads_launch_one_after_another) {
  std::array<int, 4> sums{};
  std::vector<std::thread> hosts;
  for (int& sum : sums) {
    hosts.emplace_back([&sum] {
      for (int repeat = 0; repeat < 10; ++repeat) {
        run({{3}, {64}}, [&] {
          const int count = __syncthreads_count(1);
          if (threadIdx.x == 0) atomicAdd(&sum, count);
        });
      }
    });
  }
  for (std::thread& host : hosts) host.join();
  for (const int sum : sums) CHECK(sum == 10 * 3 * 64);
}

EGL_TEST(launches_see_what_earlier_ones_wrote) {
  std::vector<int> values(128);
  for (int repeat = 0; repeat < 4; ++repeat) {
    run({{2}, {64}}, [&] {
      // Each launch spreads blocks over other items.
      values[(blockIdx.x * 64 + threadIdx.x + static_cast<unsigned>(repeat) * 37) % 128] += 1;
    });
  }
  for (const int value : values) CHECK(value == 4);
}

EGL_TEST(deep_stacks) {
  // Locals of a thread, more than registers: 64 KiB of them.
  std::array<int, 33> out{};
  run({{1}, {33}}, [&] {
    std::array<volatile int, 16384> local;
    for (int i = 0; i < 16384; i += 64) local[i] = i + static_cast<int>(threadIdx.x);
    __syncthreads();
    int bad = 0;
    for (int i = 0; i < 16384; i += 64) bad += local[i] != i + static_cast<int>(threadIdx.x);
    out[threadIdx.x] = bad;
  });
  for (const int bad : out) CHECK(bad == 0);
}

EGL_EMULATED_TEST_MAIN()
