// The barrier between a write and its readers is there; the one before the next write is not.
#include <vector>

#include "csrc/test/planted/planted.h"

using egl::cuda::SharedArena;

__global__ void planted_kernel(int* out) {
  int* shared = SharedArena::of_block().take<int>(blockDim.x);
  int value = static_cast<int>(threadIdx.x);
  for (int step = 0; step < 3; ++step) {
    shared[threadIdx.x] = value;
    __syncthreads();
    value = shared[(threadIdx.x + 1) % blockDim.x];
  }
  out[threadIdx.x] = value;
}

static void run() {
  std::vector<int> out(64);
  SharedArena arena;
  arena.take<int>(64);
  egl::cuda::launch("planted", planted_kernel, {1, 64, arena.bytes()}, nullptr, out.data());
}

EGL_PLANTED_MAIN(run)
