#include "csrc/core/recurrent_kernel.h"

#define EGL_KERNEL baseline
#define EGL_VECTOR_BYTES 16
#define EGL_VECTOR_REGISTERS 16
#include "csrc/core/recurrent_kernel.inc"

namespace egl {
#if defined(__x86_64__)
namespace avx2 {
extern const RecurrentKernels recurrent_kernels;
}
namespace avx512 {
extern const RecurrentKernels recurrent_kernels;
}
#endif

const RecurrentKernels& recurrent_kernels(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512) return avx512::recurrent_kernels;
  if (isa == Isa::kAvx2) return avx2::recurrent_kernels;
#endif
  static_cast<void>(isa);
  return baseline::recurrent_kernels;
}

}  // namespace egl
