// The recurrent cells' forward steps for threads that take a hidden unit each: the core's formulas
// on single doubles.
#pragma once

#include <cstdint>

#include "csrc/cuda/platform.h"

#define EGL_FORMULA __device__ __forceinline__

namespace egl::cuda::unit {

using Vec = double;
using Bits = uint64_t;

EGL_FORMULA Bits bits_of(Vec x) { return static_cast<Bits>(__double_as_longlong(x)); }
EGL_FORMULA Vec from_bits(Bits bits) { return __longlong_as_double(static_cast<long long>(bits)); }

// In this order: formulas are made of exponentials.
#include "csrc/core/exponentials.inc"
#include "csrc/core/recurrent_cells.inc"

}  // namespace egl::cuda::unit

#undef EGL_FORMULA
