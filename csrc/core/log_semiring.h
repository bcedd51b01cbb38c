// The log semiring: numbers are stored as natural logarithms, so that products become sums and
// sums become log_add. Log zero is minus infinity and nothing else. Callers keep NaN and plus
// infinity out.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

#include "csrc/core/host_device.h"

namespace egl {

inline constexpr double kNegInf = -std::numeric_limits<double>::infinity();

// log(exp(a) + exp(b)). Symmetric to the bit, and never below max(a, b): the beam search's ties and
// its bound rest on these two properties.
EGL_HOST_DEVICE inline double log_add(double a, double b) {
  if (a < b) std::swap(a, b);
  if (b == kNegInf) return a;
  return a + std::log1p(std::exp(b - a));
}

// log(exp(a) + exp(b) + exp(c)), with a single logarithm.
EGL_HOST_DEVICE inline double log_add(double a, double b, double c) {
  if (a < b) std::swap(a, b);
  if (a < c) std::swap(a, c);
  if (a == kNegInf) return a;
  return a + std::log1p(std::exp(b - a) + std::exp(c - a));
}

// log of the sum of exp(values[0..count)); minus infinity for an empty range.
template <typename Scalar>
EGL_HOST_DEVICE double log_sum_exp(const Scalar* values, int64_t count, int64_t stride = 1) {
  double max_value = kNegInf;
  for (int64_t i = 0; i < count; ++i) {
    max_value = std::max(max_value, static_cast<double>(values[i * stride]));
  }
  if (max_value == kNegInf) return kNegInf;
  double sum = 0.0;
  for (int64_t i = 0; i < count; ++i) {
    sum += std::exp(static_cast<double>(values[i * stride]) - max_value);
  }
  return max_value + std::log(sum);
}

}  // namespace egl
