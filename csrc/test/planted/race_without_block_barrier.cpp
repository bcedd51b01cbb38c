// Threads read what others of their block wrote to shared memory, with no barrier between.
#include <vector>

#include "csrc/test/planted/planted.h"

using egl::cuda::SharedArena;

__global__ void planted_kernel(int* out) {
  int* shared = SharedArena::of_block().take<int>(blockDim.x);
  shared[threadIdx.x] = static_cast<int>(threadIdx.x);
  out[threadIdx.x] = shared[(threadIdx.x + 40) % blockDim.x];
}

static void run() {
  std::vector<int> out(64);
  SharedArena arena;
  arena.take<int>(64);
  egl::cuda::launch("planted", planted_kernel, {1, 64, arena.bytes()}, nullptr, out.data());
}

EGL_PLANTED_MAIN(run)
