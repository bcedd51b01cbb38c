// Marks functions that CUDA kernels share with the CPU core.
#pragma once

#ifdef __CUDACC__
#define EGL_HOST_DEVICE __host__ __device__
#else
#define EGL_HOST_DEVICE
#endif
