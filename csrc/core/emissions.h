// One utterance's frames of log-probabilities, borrowed from whoever owns them.
#pragma once

#include <cstdint>

#include "csrc/core/host_device.h"

namespace egl {

// No log-probability is above 0, but for rounding: single precision takes the logarithm of a sum
// over logits of a few thousand to 1e-3. Whoever calls the core has looked; what is larger, or NaN,
// is no utterance.
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
