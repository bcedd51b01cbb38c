#include "csrc/core/depthwise_kernel.h"
#include "csrc/core/linear_kernel.h"
#include "csrc/core/recurrent_kernel.h"

#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

#define EGL_KERNEL avx2
#define EGL_VECTOR_BYTES 32
#define EGL_VECTOR_REGISTERS 16
#include "csrc/core/kernels.inc"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
