// The launch measured another layout than the kernel takes.
#include "csrc/test/planted/planted.h"

using egl::cuda::SharedArena;

__global__ void planted_kernel(int* out) {
  double* shared = SharedArena::of_block().take<double>(64);
  shared[threadIdx.x] = 1;
  __syncthreads();
  if (threadIdx.x == 0) *out = static_cast<int>(shared[0]);
}

static void run() {
  int out = 0;
  SharedArena arena;
  arena.take<float>(64);
  egl::cuda::launch("planted", planted_kernel, {1, 64, arena.bytes()}, nullptr, &out);
}

EGL_PLANTED_MAIN(run)
