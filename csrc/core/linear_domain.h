// When probabilities may be calculated with as they are, scaled frame by frame.
#pragma once

#include <cstdint>
#include <limits>

#include "csrc/core/host_device.h"
#include "csrc/core/log_semiring.h"

namespace egl {

// Whether the probability is a number that can be calculated with: a normal one, or zero, and not
// above 1 but for rounding. Times the scale of a frame, which is up to 2^1022, more would overflow
// (nobody checks that emissions are probabilities).
EGL_HOST_DEVICE inline bool is_linear(double log_prob) {
  constexpr double kLeast = -700.0;
  constexpr double kLargest = 1.0 / 64.0;
  return (log_prob >= kLeast && log_prob <= kLargest) || log_prob == kNegInf;
}

// Whether a mass has all its digits, and a reciprocal that is finite.
EGL_HOST_DEVICE inline bool is_normal_mass(double mass) {
  return mass >= std::numeric_limits<double>::min() && mass <= std::numeric_limits<double>::max();
}

// What the forward and the backward direction may round differently, relative to the labeling's
// probability: a handful of operations a frame.
EGL_HOST_DEVICE inline double agreement(int64_t num_frames) {
  return 1e-11 + 16.0 * static_cast<double>(num_frames) * std::numeric_limits<double>::epsilon();
}

}  // namespace egl
