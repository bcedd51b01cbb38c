// What a kernel is compiled against: CUDA, or its emulation on the host.
#pragma once

#ifdef EGL_EMULATE
#include "csrc/emulator/cuda_on_host.h"
#else
#include <cuda_runtime.h>
#endif
