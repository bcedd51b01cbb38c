// What a kernel is compiled against: CUDA, or its emulation on the host.
#pragma once

#ifdef EGL_EMULATE
#include "csrc/emulator/cuda_on_host.h"
#define EGL_UNROLL
#else
#include <cuda_runtime.h>
#define EGL_UNROLL _Pragma("unroll")  // arrays that are indexed by the loop stay in registers
#endif
