// The rotation that makes an off-diagonal entry of a symmetric matrix vanish.
#pragma once

#include <cmath>

#include "csrc/core/host_device.h"

namespace egl {

struct JacobiAngle {
  double cosine;
  double sine;
  double tangent;  // the diagonal's entries change by this times the off-diagonal one
};

// The smaller of the two angles (Golub and Van Loan, "Matrix Computations", section 8.5). `off` is
// not 0. If the quotient overflows, the angle is 0, which is right up to rounding.
EGL_HOST_DEVICE inline JacobiAngle jacobi_angle(double first, double off, double second) {
  const double cotangent = (second - first) / (2.0 * off);
  const double root = std::sqrt(cotangent * cotangent + 1.0);
  const double tangent = cotangent >= 0.0 ? 1.0 / (cotangent + root) : 1.0 / (cotangent - root);
  const double cosine = 1.0 / std::sqrt(tangent * tangent + 1.0);
  return {cosine, tangent * cosine, tangent};
}

}  // namespace egl
