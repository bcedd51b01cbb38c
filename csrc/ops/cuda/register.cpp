// The operators' CUDA halves. In emulation, they are operators on CPU tensors, in the namespace
// egl_fast_emulated.
#include "csrc/ops/register.h"

#ifdef EGL_EMULATE
#include "csrc/emulator/emulator.h"

STABLE_TORCH_LIBRARY(egl_fast_emulated, library) { egl::ops::define_operators(library); }

// For the tests, by ctypes: who runs first in the launches to come (see emulator::Order).
extern "C" __attribute__((visibility("default"))) void egl_emulated_schedule(int order,
                                                                             uint64_t seed) {
  egl::emulator::options().schedule = {static_cast<egl::emulator::Order>(order), seed};
}

STABLE_TORCH_LIBRARY_IMPL(egl_fast_emulated, CPU, library) {
#else
STABLE_TORCH_LIBRARY_IMPL(egl_fast, CUDA, library) {
#endif
  EGL_OPERATORS(EGL_ON_CUDA)
  EGL_CUDA_OPERATORS(EGL_ON_CUDA)
}
