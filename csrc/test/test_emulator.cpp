// The emulator: memory, grids, barriers of blocks and atomics, by kernels whose results are known.
// What a sanitizer has to notice is in planted/.
#include <array>
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

constexpr unsigned kAll = egl::cuda::kFullWarp;

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
