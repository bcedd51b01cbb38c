// The operators as torch finds them, and their CPU halves.
#include "csrc/ops/register.h"

STABLE_TORCH_LIBRARY(egl_fast, library) { egl::ops::define_operators(library); }

STABLE_TORCH_LIBRARY_IMPL(egl_fast, CPU, library) {
  EGL_OPERATORS(EGL_ON_CPU)
  EGL_CPU_OPERATORS(EGL_ON_CPU)
}
