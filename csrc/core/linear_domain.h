// When probabilities, scaled frame by frame, can be used instead of their logarithms.
#pragma once

#include <cstdint>
#include <limits>

#include "csrc/core/host_device.h"
#include "csrc/core/log_semiring.h"

namespace egl {

// e^-700 = 1e-304 is the least emission that is a normal number with room to spare.
inline constexpr double kLeastLinear = -700.0;

// Whether the probability is a normal number or zero, and not above 1 except by rounding.
// Multiplied by the scale of a frame, which is up to 2^1022, larger numbers would overflow
// (emissions need not be probabilities).
EGL_HOST_DEVICE inline bool is_linear(double log_prob) {
  constexpr double kLargest = 1.0 / 64.0;
  return (log_prob >= kLeastLinear && log_prob <= kLargest) || log_prob == kNegInf;
}

// Where emissions are at most 1, mass only falls from frame to frame, so what underflowed on the
// way, less than 1e-304 of all mass, is negligible beside a probability above e^-640 = 1e-278.
inline constexpr double kSafe = -640.0;

// For smaller probabilities it may matter. Agreement of the forward and the backward pass does not
// rule this out: both may lose the same alignments, one early and the other late. For that, the
// alignments must fall behind others by e^700, catch up, and fall behind again. With emissions
// above e^-100 that takes 28 contrived frames; with smaller ones it may happen by accident.
inline constexpr double kFaint = -100.0;

EGL_HOST_DEVICE inline bool is_faint(double log_prob) {
  return log_prob < kFaint && log_prob > kNegInf;
}

// The least scaled sum over a frame's states of forward times backward mass. Below it, shares of
// the sum would lose digits to underflow, and its inverse would overflow.
inline constexpr double kLeastTotal = 0x1p-960;

// Whether a mass has all its digits, and a reciprocal that is finite.
EGL_HOST_DEVICE inline bool is_normal_mass(double mass) {
  return mass >= std::numeric_limits<double>::min() && mass <= std::numeric_limits<double>::max();
}

// How much the forward and the backward direction may differ by rounding, relative to the
// labeling's probability: a handful of operations per frame.
EGL_HOST_DEVICE inline double agreement(int64_t num_frames) {
  return 1e-11 + 16.0 * static_cast<double>(num_frames) * std::numeric_limits<double>::epsilon();
}

}  // namespace egl
