// The kernels that run on every machine, and the choice of the best ones.
#include "csrc/core/depthwise_kernel.h"
#include "csrc/core/linear_kernel.h"
#include "csrc/core/recurrent_kernel.h"

#define EGL_KERNEL baseline
#define EGL_VECTOR_BYTES 16
#define EGL_VECTOR_REGISTERS 16
#include "csrc/core/kernels.inc"

namespace egl {

#if defined(__x86_64__)
namespace avx2 {
extern const LinearKernel linear_kernel;
extern const RecurrentKernels recurrent_kernels;
extern const DepthwiseKernels depthwise_kernels;
}  // namespace avx2
namespace avx512 {
extern const LinearKernel linear_kernel;
extern const RecurrentKernels recurrent_kernels;
extern const DepthwiseKernels depthwise_kernels;
}  // namespace avx512
#define EGL_CHOOSE(isa, kernel) \
  ((isa) == Isa::kAvx512 ? avx512::kernel : (isa) == Isa::kAvx2 ? avx2::kernel : baseline::kernel)
#else
#define EGL_CHOOSE(isa, kernel) (static_cast<void>(isa), baseline::kernel)
#endif

const LinearKernel& linear_kernel(Isa isa) { return EGL_CHOOSE(isa, linear_kernel); }
const DepthwiseKernels& depthwise_kernels(Isa isa) { return EGL_CHOOSE(isa, depthwise_kernels); }
const RecurrentKernels& recurrent_kernels(Isa isa) { return EGL_CHOOSE(isa, recurrent_kernels); }

}  // namespace egl
