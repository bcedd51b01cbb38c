// A batch of emissions [N, T, C] as kernels see it.
#pragma once

#include <cstdint>

#include "csrc/core/emissions.h"
#include "csrc/cuda/platform.h"

namespace egl::cuda {

template <typename Scalar>
struct EmissionBatch {
  const Scalar* data;
  int64_t strides[3];      // of N, T and C, in elements
  const int64_t* lengths;  // [N]
  int64_t num_utterances;  // N
  int64_t max_frames;      // T
  int64_t num_classes;     // C
  int64_t blank;

  // Frames of utterance n. Where lengths could not be checked, none leads out of the tensor.
  __device__ int64_t num_frames(int64_t n) const {
    const int64_t length = lengths[n];
    return length < 0 ? 0 : length > max_frames ? max_frames : length;
  }

  __device__ Emissions<Scalar> utterance(int64_t n) const {
    return {data + n * strides[0], num_frames(n), num_classes, strides[1], strides[2]};
  }
};

}  // namespace egl::cuda
