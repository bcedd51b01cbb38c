// The two semirings that a search can use: probability mass, or its logarithm.
#pragma once

#include <cmath>
#include <concepts>

#include "csrc/core/host_device.h"
#include "csrc/core/log_semiring.h"

namespace egl {

// `plus` and `times` on doubles, with their neutral elements; and `underflow`: a value that is not
// above it may have lost digits, or be zero instead of something small.
template <typename S>
concept Semiring = requires(double a, double b) {
  { S::zero } -> std::convertible_to<double>;
  { S::one } -> std::convertible_to<double>;
  { S::underflow } -> std::convertible_to<double>;
  { S::plus(a, b) } -> std::same_as<double>;
  { S::times(a, b) } -> std::same_as<double>;
  { S::of_log(a) } -> std::same_as<double>;
  { S::to_log(a) } -> std::same_as<double>;
};

// Natural logarithms: nothing underflows, and every sum costs an exponential and a logarithm.
struct LogMass {
  static constexpr double zero = kNegInf;
  static constexpr double one = 0.0;
  static constexpr double underflow = kNegInf;
  EGL_HOST_DEVICE static double of_log(double log_mass) { return log_mass; }
  EGL_HOST_DEVICE static double to_log(double mass) { return mass; }
  EGL_HOST_DEVICE static double plus(double a, double b) { return log_add(a, b); }
  EGL_HOST_DEVICE static double times(double a, double b) { return a + b; }
};

struct LinearMass {
  static constexpr double zero = 0.0;
  static constexpr double one = 1.0;
  static constexpr double underflow = 1e-290;
  EGL_HOST_DEVICE static double of_log(double log_mass) { return std::exp(log_mass); }
  EGL_HOST_DEVICE static double to_log(double mass) { return std::log(mass); }
  EGL_HOST_DEVICE static double plus(double a, double b) { return a + b; }
  EGL_HOST_DEVICE static double times(double a, double b) { return a * b; }
};

static_assert(Semiring<LogMass> && Semiring<LinearMass>);

}  // namespace egl
