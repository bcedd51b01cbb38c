// One utterance's log-probabilities [T, C], borrowed.
#pragma once

#include <cstdint>

#include "csrc/core/host_device.h"

namespace egl {

// No log-probability is above 0, except by rounding: in single precision, the log-softmax of logits
// of a few thousand is off by up to 1e-3. Callers of the core refuse larger values and NaN.
inline constexpr double kMostLogProb = 1e-3;

template <typename Scalar>
struct Emissions {
  const Scalar* data;
  int64_t num_frames;    // T, without padding
  int64_t num_classes;   // C, with blank
  int64_t frame_stride;  // elements from one frame to the next
  int64_t class_stride;  // elements from one class to the next

  EGL_HOST_DEVICE double operator()(int64_t frame, int64_t cls) const {
    return static_cast<double>(data[frame * frame_stride + cls * class_stride]);
  }
};

}  // namespace egl
