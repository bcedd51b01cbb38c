// Kernels with one bug each, for a sanitizer to find. CMakeLists.txt says which report each must
// get, and runs them in every schedule, so that no bug is found by luck:
//   planted race_behind_shuffle reversed
#include <cstdio>
#include <string_view>
#include <vector>

#include "csrc/cuda/launch.h"
#include "csrc/cuda/shared_memory.h"

namespace {

using egl::cuda::kFullWarp;
using egl::cuda::SharedArena;
using egl::emulator::Order;

// One element past an array in dynamic shared memory, where the next array would begin.
__global__ void bounds_of_dynamic_array(int* out) {
  SharedArena arena = SharedArena::of_block();
  int* first = arena.take<int>(64);
  int* second = arena.take<int>(64);
  first[threadIdx.x + 1] = 1;
  second[threadIdx.x] = 2;
  __syncthreads();
  if (threadIdx.x == 0) *out = first[1] + second[1];
}

// A grid with more threads than elements, and nothing that stops the last ones.
__global__ void bounds_of_global_array(int* out) { out[blockIdx.x * blockDim.x + threadIdx.x] = 1; }

// The launch measured another layout than the kernel takes.
__global__ void too_little_shared_memory(int* out) {
  double* shared = SharedArena::of_block().take<double>(64);
  shared[threadIdx.x] = 1;
  __syncthreads();
  if (threadIdx.x == 0) *out = static_cast<int>(shared[0]);
}

// A block leaves the address of its shared memory to the next.
__global__ void memory_of_another_block(int** left, int* out) {
  int* shared = SharedArena::of_block().take<int>(64);
  shared[threadIdx.x] = 1;
  __syncthreads();
  if (threadIdx.x != 0) return;
  if (*left != nullptr) *out = **left;
  *left = shared;
}

// The halves of a warp meet separately, and read from each other.
__global__ void race_behind_part_of_warp(int* out) {
  int* shared = SharedArena::of_block().take<int>(64);
  shared[threadIdx.x] = static_cast<int>(threadIdx.x);
  __syncwarp(threadIdx.x % 32 < 16 ? 0x0000ffffU : 0xffff0000U);
  out[threadIdx.x] = shared[threadIdx.x ^ 16];
}

// A shuffle in place of a barrier: lanes have met, but a shuffle orders no memory.
__global__ void race_behind_shuffle(int* out) {
  int* shared = SharedArena::of_block().take<int>(64);
  shared[threadIdx.x] = static_cast<int>(threadIdx.x);
  const auto from = __shfl_xor_sync(kFullWarp, threadIdx.x, 1);
  out[threadIdx.x] = shared[from];
}

// Every block's thread 5 writes to one place in global memory. Barriers order the threads of a
// block, and no block before another.
__global__ void race_between_blocks(int* out) {
  __syncthreads();
  if (threadIdx.x == 5) *out = static_cast<int>(blockIdx.x);
  __syncthreads();
}

// A plain read beside atomic additions.
__global__ void race_with_atomic(int* out) {
  atomicAdd(&out[0], 1);
  out[threadIdx.x + 1] = out[0];
}

// Threads read what others of their block wrote to shared memory, without a barrier.
__global__ void race_without_block_barrier(int* out) {
  int* shared = SharedArena::of_block().take<int>(64);
  shared[threadIdx.x] = static_cast<int>(threadIdx.x);
  out[threadIdx.x] = shared[(threadIdx.x + 40) % blockDim.x];
}

// There is a barrier between a write and its readers, but none before the next write.
__global__ void race_without_second_barrier(int* out) {
  int* shared = SharedArena::of_block().take<int>(64);
  int value = static_cast<int>(threadIdx.x);
  for (int step = 0; step < 3; ++step) {
    shared[threadIdx.x] = value;
    __syncthreads();
    value = shared[(threadIdx.x + 1) % blockDim.x];
  }
  out[threadIdx.x] = value;
}

struct Planted {
  std::string_view name;
  void (*kernel)(int*);
  int blocks = 1;
};

constexpr Planted kPlanted[] = {
    {"bounds_of_dynamic_array", bounds_of_dynamic_array},
    {"bounds_of_global_array", bounds_of_global_array, 2},
    {"race_behind_part_of_warp", race_behind_part_of_warp},
    {"race_behind_shuffle", race_behind_shuffle},
    {"race_between_blocks", race_between_blocks, 2},
    {"race_with_atomic", race_with_atomic},
    {"race_without_block_barrier", race_without_block_barrier},
    {"race_without_second_barrier", race_without_second_barrier},
};

// `count` arrays of 64 integers.
size_t shared_bytes(int count) {
  SharedArena arena;
  for (int i = 0; i < count; ++i) arena.take<int>(64);
  return arena.bytes();
}

}  // namespace

int main(int, char** arguments) {
  const std::string_view name = arguments[1];
  const std::string_view order = arguments[2];
  egl::emulator::options().schedule = {order == "forward"    ? Order::kForward
                                       : order == "reversed" ? Order::kReversed
                                                             : Order::kShuffled,
                                       1};
  std::vector<int> out(65);
  int* left = nullptr;
  for (const Planted& planted : kPlanted) {
    if (planted.name != name) continue;
    egl::cuda::launch("planted", planted.kernel, {planted.blocks, 64, shared_bytes(2)}, nullptr,
                      out.data());
  }
  if (name == "too_little_shared_memory") {
    egl::cuda::launch("planted", too_little_shared_memory, {1, 64, shared_bytes(1)}, nullptr,
                      out.data());
  }
  if (name == "memory_of_another_block") {
    egl::cuda::launch("planted", memory_of_another_block, {2, 64, shared_bytes(1)}, nullptr, &left,
                      out.data());
  }
  std::puts("no report");
}
