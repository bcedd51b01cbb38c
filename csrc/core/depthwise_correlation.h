// Depthwise correlations over frames, which are innermost; data is never copied to another layout.
#pragma once

#include <cstdint>

#include "csrc/core/isa.h"

namespace egl {

// y[n, c, j] = the sum over k of taps[n, c, k] * x[n, c, j stride + k dilation - before], x being
// zero outside its frames. With one row of x, or of taps, all rows of the other share it.
template <typename Scalar>
struct DepthwiseCorrelation {
  const Scalar* x;     // [num_x_rows, C, T]
  const Scalar* taps;  // [num_tap_rows, C, K]
  Scalar* y;           // out: [max of both, C, J]
  int64_t num_x_rows;
  int64_t num_tap_rows;
  int64_t num_channels;  // C
  int64_t num_frames;    // T
  int64_t num_taps;      // K, at least 1
  int64_t num_outputs;   // J, at least 1
  int64_t before;        // negative: frames to leave out
  int64_t stride;
  int64_t dilation;
};

// Channels [first, last).
template <typename Scalar>
void depthwise_correlation(const DepthwiseCorrelation<Scalar>& problem, int64_t first, int64_t last,
                           Isa isa);

}  // namespace egl
