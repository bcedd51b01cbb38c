// A plain read beside atomic additions.
#include <vector>

#include "csrc/test/planted/planted.h"

__global__ void planted_kernel(int* sum, int* out) {
  atomicAdd(sum, 1);
  out[threadIdx.x] = *sum;
}

static void run() {
  int sum = 0;
  std::vector<int> out(32);
  egl::cuda::launch("planted", planted_kernel, {1, 32}, nullptr, &sum, out.data());
}

EGL_PLANTED_MAIN(run)
