// A grid with more threads than elements, and nothing that stops the last ones.
#include <vector>

#include "csrc/test/planted/planted.h"

__global__ void planted_kernel(int* out) { out[blockIdx.x * blockDim.x + threadIdx.x] = 1; }

static void run() {
  std::vector<int> out(100);
  egl::cuda::launch("planted", planted_kernel, {2, 64}, nullptr, out.data());
}

EGL_PLANTED_MAIN(run)
