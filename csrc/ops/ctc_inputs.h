// The CTC operators' inputs in the host's memory, as the core sees them. Values are checked.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstdint>

#include "csrc/core/emissions.h"
#include "csrc/core/random_normals.h"
#include "csrc/ops/check.h"
#include "csrc/ops/ctc_tensors.h"

namespace egl::ops {

// Lengths are in range; emissions are for the operators to check.
struct EmissionBatch : EmissionTensors {
  EmissionBatch(const Tensor& values, const Tensor& lengths, int64_t blank, const char* name)
      : EmissionTensors(values, lengths, blank, name) {
    check_range(this->lengths, "lengths", 0, max_frames());
  }

  int64_t length(int64_t n) const { return lengths.const_data_ptr<int64_t>()[n]; }

  // The frames of utterance n, without padding.
  template <typename Scalar>
  Emissions<Scalar> utterance(int64_t n) const {
    // A tensor without frames still has strides, and its pointer may be null.
    const int64_t start = length(n) == 0 ? 0 : n * values.stride(0);
    return {values.const_data_ptr<Scalar>() + start, length(n), num_classes(), values.stride(1),
            values.stride(2)};
  }
};

struct LabelingBatch : LabelingTensors {
  // Labels may be any numbers.
  LabelingBatch(const Tensor& labels, const Tensor& label_lengths, const Tensor& counts,
                int64_t num_utterances = Axis::kAnySize)
      : LabelingTensors(labels, label_lengths, counts, num_utterances) {
    check_range(this->label_lengths, "label_lengths", 0, capacity());
    check_range(this->counts, "counts", 0, num_slots());
  }

  // Labels are classes of the emissions, other than the blank.
  LabelingBatch(const Tensor& labels, const Tensor& label_lengths, const Tensor& counts,
                const EmissionBatch& emissions, int64_t blank)
      : LabelingBatch(labels, label_lengths, counts, emissions.num_utterances()) {
    for (int64_t n = 0; n < num_utterances(); ++n) {
      for (int64_t k = 0; k < count(n); ++k) {
        for (int64_t u = 0; u < length(n, k); ++u) {
          check_label(labeling(n, k)[u], emissions.num_classes(), blank, n, k);
        }
      }
    }
  }

  int64_t count(int64_t n) const { return counts.const_data_ptr<int64_t>()[n]; }
  int64_t length(int64_t n, int64_t k) const {
    return label_lengths.const_data_ptr<int64_t>()[n * num_slots() + k];
  }
  const int64_t* labeling(int64_t n, int64_t k) const {
    return labels.const_data_ptr<int64_t>() + (n * num_slots() + k) * capacity();
  }

  // The number from which hypothesis k's random numbers are made; `key` is the utterance's.
  uint64_t hash(int64_t n, int64_t k, int64_t key) const {
    return hash_labeling(static_cast<uint64_t>(key), labeling(n, k), length(n, k));
  }
};

}  // namespace egl::ops
