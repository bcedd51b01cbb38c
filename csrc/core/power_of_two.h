// Scaling by powers of two, which is exact. Always inlined: the linear kernels are compiled for
// newer machines, too, and must not share a compiled function with other code.
#pragma once

#include <cstdint>

#include "csrc/core/host_device.h"

namespace egl {

// e with 2^e <= value < 2^(e + 1), for normal numbers above 0.
EGL_HOST_DEVICE inline __attribute__((always_inline)) int64_t exponent_of(double value) {
  int64_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return (bits >> 52) - 1023;
}

// 2^exponent, for those of normal numbers.
EGL_HOST_DEVICE inline __attribute__((always_inline)) double power_of_two(int64_t exponent) {
  const int64_t bits = (exponent + 1023) << 52;
  double value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace egl
