// The emulator: memory, grids, barriers, shuffles, votes and atomics, by kernels whose results are
// known. planted/ has what a sanitizer must report.
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <set>
#include <vector>

#include "csrc/cuda/launch.h"
#include "csrc/cuda/shared_memory.h"
#include "csrc/test/emulated.h"

namespace {

using egl::cuda::SharedArena;
using egl::emulator::run;

using egl::cuda::kFullWarp;

__global__ void rotate(const int* in, int* out) {
  int* shared = SharedArena::of_block().take<int>(blockDim.x);
  const unsigned first = blockIdx.x * blockDim.x;
  shared[threadIdx.x] = in[first + threadIdx.x];
  __syncthreads();
  out[first + threadIdx.x] = shared[(threadIdx.x + 1) % blockDim.x];
}

template <typename T>
void check_atomics() {
  constexpr unsigned kThreads = 96;
  // Atomics on one address happen one after another.
  T sum = 0, most = 3, least = 1000, either = 0, claimed = 0;
  std::vector<T> before(kThreads);
  run({1, kThreads}, [&] {
    const T i = static_cast<T>(threadIdx.x);
    before[threadIdx.x] = atomicAdd(&sum, 1);
    atomicMax(&most, i);
    atomicMin(&least, i + 5);
    atomicOr(&either, T{1} << (i % 6));
    atomicCAS(&claimed, 0, i + 1);
  });
  CHECK(sum == kThreads);
  const std::set<T> distinct(before.begin(), before.end());
  CHECK(distinct.size() == kThreads && *distinct.begin() == 0 &&
        *distinct.rbegin() == kThreads - 1);
  CHECK(most == kThreads - 1 && least == 5 && either == 63);
  CHECK(claimed >= 1 && claimed <= static_cast<T>(kThreads));

  T value = 5;
  std::array<T, 6> returned{};
  run({1, 1}, [&] {
    returned = {atomicAdd(&value, 2), atomicMax(&value, 9),    atomicMin(&value, 6),
                atomicOr(&value, 8),  atomicCAS(&value, 3, 1), atomicCAS(&value, 14, 4)};
  });
  CHECK((returned == std::array<T, 6>{5, 7, 9, 6, 14, 14}));
  CHECK(value == 4);
}

// What each lane of one warp gets from `shuffle`, called with its lane.
template <typename T, typename Shuffle>
std::array<T, 32> of_warp(const Shuffle& shuffle) {
  std::array<T, 32> got{};
  run({1, 32}, [&] { got[threadIdx.x] = shuffle(static_cast<int>(threadIdx.x)); });
  return got;
}

// The shuffles, as the programming guide defines them for each lane.
template <typename T>
void check_shuffles(T (*value_of)(int lane)) {
  for (const int by : {0, 1, 3, 16, 31}) {
    const auto direct =
        of_warp<T>([&](int lane) { return __shfl_sync(kFullWarp, value_of(lane), by); });
    const auto up = of_warp<T>([&](int lane) {
      return __shfl_up_sync(kFullWarp, value_of(lane), static_cast<unsigned>(by));
    });
    const auto crossed =
        of_warp<T>([&](int lane) { return __shfl_xor_sync(kFullWarp, value_of(lane), by); });
    for (int lane = 0; lane < 32; ++lane) {
      CHECK(direct[lane] == value_of(by));
      CHECK(up[lane] == value_of(lane >= by ? lane - by : lane));
      CHECK(crossed[lane] == value_of(lane ^ by));
    }
  }
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

EGL_TEST(shared_memory_is_a_blocks_own_and_starts_as_garbage) {
  std::vector<unsigned char> seen(5 * 16);
  SharedArena arena;
  arena.take<unsigned char>(16);
  run({5, 16, arena.bytes()}, [&] {
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
  run({1, 1, measured.bytes()}, [&] {
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

EGL_TEST(every_thread_of_every_block_runs_once) {
  std::vector<int> runs(12 * 24);
  run({12, 24}, [&] {
    if (gridDim.x == 12 && blockDim.x == 24) ++runs[blockIdx.x * 24 + threadIdx.x];
  });
  for (const int times : runs) CHECK(times == 1);
}

EGL_TEST(blocks_meet_as_often_as_they_like) {
  constexpr unsigned kThreads = 70;
  SharedArena arena;
  arena.take<int>(kThreads);
  std::vector<int> out(3 * kThreads);
  run({3, kThreads, arena.bytes()}, [&] {
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

EGL_TEST(block_barriers_vote) {
  constexpr unsigned kThreads = 45;
  for (const unsigned hold : {0U, 1U, 17U, 45U}) {
    std::vector<int> any(kThreads);
    run({1, kThreads}, [&] { any[threadIdx.x] = __syncthreads_or(threadIdx.x < hold ? 6 : 0); });
    for (const int answer : any) CHECK((answer != 0) == (hold > 0));
  }
}

EGL_TEST(atomics) {
  check_atomics<int>();
  check_atomics<unsigned>();
  check_atomics<unsigned long long>();
}

EGL_TEST(bits) {
  CHECK(__ffs(0) == 0 && __ffs(1) == 1 && __ffs(12) == 3 &&
        __ffs(std::numeric_limits<int>::min()) == 32);
  CHECK(__double_as_longlong(1.0) == 0x3ff0000000000000 &&
        __longlong_as_double(0x4000000000000000) == 2);
}

EGL_TEST(parts_of_a_warp_meet_without_the_rest) {
  SharedArena arena;
  arena.take<int>(64);
  std::vector<int> out(64);
  run({1, 64, arena.bytes()}, [&] {
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

EGL_TEST(shuffles_of_every_type) {
  check_shuffles<int>([](int lane) { return 5 - lane; });
  check_shuffles<unsigned>([](int lane) { return 0xfffffff0U + static_cast<unsigned>(lane); });
  check_shuffles<float>([](int lane) { return 0.1F * static_cast<float>(lane); });
  check_shuffles<double>([](int lane) { return 0.1 * lane - 1e300; });
  check_shuffles<long long>([](int lane) { return (1LL << 40) - lane; });
  check_shuffles<unsigned long long>([](int lane) { return ~0ULL - static_cast<unsigned>(lane); });
}

EGL_TEST(shuffles_carry_every_bit) {
  const auto nan = of_warp<double>([](int lane) {
    return __shfl_xor_sync(kFullWarp, lane == 0 ? std::numeric_limits<double>::quiet_NaN() : -0.0,
                           1);
  });
  CHECK(std::isnan(nan[1]));
  CHECK(nan[0] == 0 && std::signbit(nan[0]));
}

EGL_TEST(parts_of_a_warp_shuffle_and_vote) {
  constexpr unsigned kMask = 0xff00U;
  std::array<int, 32> sum{};
  std::array<unsigned, 32> ballot{};
  run({1, 32}, [&] {
    const unsigned lane = threadIdx.x;
    if ((kMask >> lane & 1U) == 0) return;
    int total = static_cast<int>(lane);
    for (int by = 4; by > 0; by /= 2) total += __shfl_xor_sync(kMask, total, by);
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
    run({1, 32}, [&] {
      const int predicate = (bits >> threadIdx.x & 1U) != 0 ? -2 : 0;
      ballot[threadIdx.x] = __ballot_sync(kFullWarp, predicate);
      any[threadIdx.x] = __any_sync(kFullWarp, predicate);
    });
    for (unsigned lane = 0; lane < 32; ++lane) {
      CHECK(ballot[lane] == bits);
      CHECK((any[lane] != 0) == (bits != 0));
    }
  }
}

EGL_TEST(a_block_may_end_within_a_warp) {
  std::array<unsigned, 40> ballot{};
  run({1, 40}, [&] {
    const unsigned mask = threadIdx.x < 32 ? kFullWarp : 0xffU;
    ballot[threadIdx.x] = __ballot_sync(mask, 1);
  });
  for (unsigned i = 0; i < 40; ++i) CHECK(ballot[i] == (i < 32 ? kFullWarp : 0xffU));
}

EGL_TEST(deep_stacks) {
  // Locals of a thread, more than registers: 64 KiB of them.
  std::array<int, 33> out{};
  run({1, 33}, [&] {
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
