#include "csrc/core/linear_kernel.h"

#define EGL_KERNEL baseline
#define EGL_VECTOR_BYTES 16
#include "csrc/core/linear_kernel.inc"

namespace egl {
#if defined(__x86_64__)
namespace avx2 {
extern const LinearKernel kernel;
}
namespace avx512 {
extern const LinearKernel kernel;
}
#endif

const LinearKernel& linear_kernel(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512) return avx512::kernel;
  if (isa == Isa::kAvx2) return avx2::kernel;
#endif
  static_cast<void>(isa);
  return baseline::kernel;
}

}  // namespace egl
