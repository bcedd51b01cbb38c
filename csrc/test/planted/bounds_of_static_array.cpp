// One element past an array in static shared memory.
#include "csrc/test/planted/planted.h"

__global__ void planted_kernel(int* out) {
  __shared__ int array[64];
  int* shared = array;
  shared[threadIdx.x + 1] = 1;
  __syncthreads();
  if (threadIdx.x == 0) *out = shared[1];
}

static void run() {
  int out = 0;
  egl::cuda::launch("planted", planted_kernel, {1, 64}, nullptr, &out);
}

EGL_PLANTED_MAIN(run)
