// The halves of a warp meet each by itself, and read from each other.
#include <vector>

#include "csrc/test/planted/planted.h"

using egl::cuda::SharedArena;

__global__ void planted_kernel(int* out) {
  int* shared = SharedArena::of_block().take<int>(32);
  shared[threadIdx.x] = static_cast<int>(threadIdx.x);
  __syncwarp(threadIdx.x < 16 ? 0x0000ffffU : 0xffff0000U);
  out[threadIdx.x] = shared[threadIdx.x ^ 16];
}

static void run() {
  std::vector<int> out(32);
  SharedArena arena;
  arena.take<int>(32);
  egl::cuda::launch("planted", planted_kernel, {1, 32, arena.bytes()}, nullptr, out.data());
}

EGL_PLANTED_MAIN(run)
