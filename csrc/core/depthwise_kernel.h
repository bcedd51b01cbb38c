// The inner loop of depthwise correlations: one channel.
#pragma once

#include <cstdint>
#include <type_traits>

#include "csrc/core/isa.h"

namespace egl {

// y[r][j] = the sum over k of taps[r][k] * line[offsets[k] + j]. Terms are added in runs that
// depend on k alone, so a row has the same bits whatever rows share the call.
template <typename Scalar>
struct ChannelCorrelation {
  const Scalar* line;      // readable, as y is writable, up to whole vectors of outputs
  const int64_t* offsets;  // [num_taps]
  int64_t num_taps;
  const Scalar* taps;  // [num_rows] rows, taps_stride apart
  int64_t taps_stride;
  Scalar* y;  // [num_rows] rows, a whole number of vectors apart
  int64_t num_rows;
  int64_t num_vectors;  // of outputs
};

template <typename Scalar>
struct DepthwiseKernel {
  int64_t vector_size;  // numbers in a vector
  void (*correlate)(const ChannelCorrelation<Scalar>& channel);
};

struct DepthwiseKernels {
  DepthwiseKernel<float> of_float;
  DepthwiseKernel<double> of_double;
};

const DepthwiseKernels& depthwise_kernels(Isa isa);

template <typename Scalar>
const DepthwiseKernel<Scalar>& depthwise_kernel(Isa isa) {
  if constexpr (std::is_same_v<Scalar, double>) {
    return depthwise_kernels(isa).of_double;
  } else {
    return depthwise_kernels(isa).of_float;
  }
}

}  // namespace egl
