// The inner loops of the forward-backward in the linear domain, for one labeling.
//
// With U labels there are U label states l[u] and U + 1 blank states b[u], b[u] before l[u]. All
// rows hold `width` doubles, a multiple of kLanes above U, zero from U (or U + 1) on, between
// kLanes zeros on either side. Frame t's masses are true masses over 2^exponents[t].
#pragma once

#include <cstdint>

#include "csrc/core/isa.h"
#include "csrc/core/power_of_two.h"

namespace egl {

inline constexpr int64_t kLanes = 8;

struct LinearProblem {
  int64_t num_frames;         // T, at least 1
  int64_t num_labels;         // U
  int64_t width;              // of rows
  const double* label_probs;  // rows [T]: emission of each label state
  const double* blank_probs;  // [T]
  const double* skips;        // row: 1 where an alignment may come from l[u - 1], else 0

  int64_t stride() const { return width + 2 * kLanes; }
  static int64_t width_of(int64_t num_labels) { return (num_labels / kLanes + 1) * kLanes; }
};

// A number as mantissa * 2^exponent.
struct Scaled {
  double mantissa;
  int64_t exponent;
};

struct LinearKernel {
  // Writes alpha [T] rows of both kinds and their exponents; returns the labeling's probability,
  // of mantissa 0 where all mass is lost.
  Scaled (*forward)(const LinearProblem& problem, double* labels, double* blanks,
                    int64_t* exponents);
  // Turns the rows of `labels` into alpha times beta, and writes each frame's sum of that over
  // blank states and over all states. `beta_labels` and `beta_blanks` are rows, zero. Returns the
  // largest relative difference between a frame's total and the probability.
  double (*backward)(const LinearProblem& problem, const Scaled& probability, double* labels,
                     const double* blanks, const int64_t* exponents, double* beta_labels,
                     double* beta_blanks, double* blank_sums, double* sums);
};

const LinearKernel& linear_kernel(Isa isa);

}  // namespace egl
