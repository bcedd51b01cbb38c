// One element past an array in dynamic shared memory, where the next array would begin.
#include "csrc/test/planted/planted.h"

using egl::cuda::SharedArena;

__global__ void planted_kernel(int* out) {
  SharedArena arena = SharedArena::of_block();
  int* first = arena.take<int>(64);
  int* second = arena.take<int>(64);
  first[threadIdx.x + 1] = 1;
  second[threadIdx.x] = 2;
  __syncthreads();
  if (threadIdx.x == 0) *out = first[1] + second[1];
}

static void run() {
  int out = 0;
  SharedArena arena;
  arena.take<int>(64);
  arena.take<int>(64);
  egl::cuda::launch("planted", planted_kernel, {1, 64, arena.bytes()}, nullptr, &out);
}

EGL_PLANTED_MAIN(run)
