// A warp takes a shuffle for a barrier: lanes have met, but a shuffle orders no memory.
#include <vector>

#include "csrc/test/planted/planted.h"

using egl::cuda::kFullWarp;
using egl::cuda::SharedArena;

__global__ void planted_kernel(int* out) {
  int* shared = SharedArena::of_block().take<int>(32);
  shared[threadIdx.x] = static_cast<int>(threadIdx.x);
  const int from = __shfl_xor_sync(kFullWarp, static_cast<int>(threadIdx.x), 1);
  out[threadIdx.x] = shared[from];
}

static void run() {
  std::vector<int> out(32);
  SharedArena arena;
  arena.take<int>(32);
  egl::cuda::launch("planted", planted_kernel, {1, 32, arena.bytes()}, nullptr, out.data());
}

EGL_PLANTED_MAIN(run)
