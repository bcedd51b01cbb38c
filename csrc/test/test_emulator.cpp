#include <vector>

#include "csrc/cuda/launch.h"
#include "csrc/cuda/shared_memory.h"
#include "csrc/test/emulated.h"

namespace {

using egl::cuda::SharedArena;

__global__ void rotate(const int* in, int* out) {
  int* shared = SharedArena::of_block().take<int>(blockDim.x);
  const unsigned first = blockIdx.x * blockDim.x;
  shared[threadIdx.x] = in[first + threadIdx.x];
  __syncthreads();
  out[first + threadIdx.x] = shared[(threadIdx.x + 1) % blockDim.x];
}

}  // namespace

EGL_TEST(threads_meet_in_shared_memory) {
  std::vector<int> in(192);
  std::vector<int> out(192);
  for (int i = 0; i < 192; ++i) in[i] = i;
  SharedArena arena;
  arena.take<int>(96);
  egl::cuda::launch("rotate", rotate, {2, 96, arena.bytes()}, nullptr, in.data(), out.data());
  for (int i = 0; i < 192; ++i) CHECK(out[i] == i / 96 * 96 + (i + 1) % 96);
}

EGL_EMULATED_TEST_MAIN()
