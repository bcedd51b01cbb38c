#include "csrc/core/depthwise_kernel.h"
#include "csrc/core/linear_kernel.h"
#include "csrc/core/recurrent_kernel.h"

#if defined(__x86_64__)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,fma"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,fma,prefer-vector-width=512")
#endif

#define EGL_KERNEL avx512
#define EGL_VECTOR_BYTES 64
#define EGL_VECTOR_REGISTERS 32
#include "csrc/core/kernels.inc"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
