// The same thread of every block writes to one place in global memory. Barriers order the threads
// of a block, and no block before another.
#include "csrc/test/planted/planted.h"

__global__ void planted_kernel(int* out) {
  __syncthreads();
  if (threadIdx.x == 5) *out = static_cast<int>(blockIdx.x);
  __syncthreads();
}

static void run() {
  int out = 0;
  egl::cuda::launch("planted", planted_kernel, {2, 64}, nullptr, &out);
}

EGL_PLANTED_MAIN(run)
