// Two ways to write down probability mass: what a search calculates with.
#pragma once

#include <cmath>

#include "csrc/core/host_device.h"
#include "csrc/core/log_semiring.h"

namespace egl {

// As natural logarithms: nothing is too small, and every sum costs an exponential and a logarithm.
struct LogMass {
  static constexpr double kNone = kNegInf;
  static constexpr double kAll = 0.0;
  static constexpr double kLeast = kNegInf;
  EGL_HOST_DEVICE static double of_log(double log_mass) { return log_mass; }
  EGL_HOST_DEVICE static double to_log(double mass) { return mass; }
  EGL_HOST_DEVICE static double plus(double a, double b) { return log_add(a, b); }
  EGL_HOST_DEVICE static double times(double a, double b) { return a + b; }
};

// As they are. What is not above kLeast may have lost digits to underflow.
struct LinearMass {
  static constexpr double kNone = 0.0;
  static constexpr double kAll = 1.0;
  static constexpr double kLeast = 1e-290;
  EGL_HOST_DEVICE static double of_log(double log_mass) { return std::exp(log_mass); }
  EGL_HOST_DEVICE static double to_log(double mass) { return std::log(mass); }
  EGL_HOST_DEVICE static double plus(double a, double b) { return a + b; }
  EGL_HOST_DEVICE static double times(double a, double b) { return a * b; }
};

}  // namespace egl
