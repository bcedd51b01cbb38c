// The CTC operators' inputs in a GPU's memory, as kernels take them.
//
// Their values may be unchecked when a kernel starts, since the host does not always wait. Lengths
// and counts that are out of range are therefore clamped, so that no kernel reads beyond a tensor.
#pragma once

#include <cstdint>

#include "csrc/core/emissions.h"
#include "csrc/core/host_device.h"
#include "csrc/cuda/platform.h"

namespace egl::cuda {

EGL_HOST_DEVICE inline int64_t clamped(int64_t value, int64_t high) {
  return value < 0 ? 0 : value > high ? high : value;
}

// Emissions [N, T, C], any strides.
template <typename Scalar>
struct EmissionBatch {
  const Scalar* data;
  const int64_t* lengths;  // [N]
  int64_t num_utterances;
  int64_t max_frames;
  int64_t num_classes;
  int64_t utterance_stride;
  int64_t frame_stride;
  int64_t class_stride;

  EGL_HOST_DEVICE int64_t length(int64_t n) const { return clamped(lengths[n], max_frames); }

  // The frames of utterance n, without padding.
  EGL_HOST_DEVICE Emissions<Scalar> utterance(int64_t n) const {
    return {data + n * utterance_stride, length(n), num_classes, frame_stride, class_stride};
  }

  // Utterances [first, first + count).
  EmissionBatch slice(int64_t first, int64_t count) const {
    EmissionBatch part = *this;
    part.data += first * utterance_stride;
    part.lengths += first;
    part.num_utterances = count;
    return part;
  }
};

// Labelings [N, K, U], contiguous.
struct LabelingBatch {
  const int64_t* labels;
  const int64_t* label_lengths;  // [N, K]
  const int64_t* counts;         // [N]
  int64_t num_utterances;
  int64_t num_slots;  // K
  int64_t capacity;   // U

  EGL_HOST_DEVICE int64_t count(int64_t n) const { return clamped(counts[n], num_slots); }
  EGL_HOST_DEVICE int64_t length(int64_t n, int64_t k) const {
    return clamped(label_lengths[n * num_slots + k], capacity);
  }
  EGL_HOST_DEVICE const int64_t* labeling(int64_t n, int64_t k) const {
    return labels + (n * num_slots + k) * capacity;
  }

  // Those of utterances [first, first + count).
  LabelingBatch slice(int64_t first, int64_t count) const {
    LabelingBatch part = *this;
    part.labels += first * num_slots * capacity;
    part.label_lengths += first * num_slots;
    part.counts += first;
    part.num_utterances = count;
    return part;
  }
};

}  // namespace egl::cuda
