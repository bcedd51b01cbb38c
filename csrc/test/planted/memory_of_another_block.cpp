// A block leaves the address of its shared memory to the next.
#include "csrc/test/planted/planted.h"

using egl::cuda::SharedArena;

__global__ void planted_kernel(int** left, int* out) {
  int* shared = SharedArena::of_block().take<int>(64);
  shared[threadIdx.x] = 1;
  __syncthreads();
  if (threadIdx.x != 0) return;
  if (*left != nullptr) *out = **left;
  *left = shared;
}

static void run() {
  int* left = nullptr;
  int out = 0;
  SharedArena arena;
  arena.take<int>(64);
  egl::cuda::launch("planted", planted_kernel, {2, 64, arena.bytes()}, nullptr, &left, &out);
}

EGL_PLANTED_MAIN(run)
