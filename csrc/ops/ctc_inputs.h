// What the CTC operators share: their inputs as the core sees them, checked once.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>

#include "csrc/core/emissions.h"
#include "csrc/ops/check.h"
#include "csrc/ops/ctc_requirements.h"

namespace egl::ops {

// A batch of emissions [N, T, C] with the utterances' lengths.
struct EmissionBatch {
  EmissionBatch(const Tensor& values, const Tensor& lengths, int64_t blank, const char* name)
      : values(values), lengths(torch::stable::contiguous(lengths)) {
    check_emission_shapes(values, lengths, blank, name);
    check_range(this->lengths, "lengths", 0, values.size(1));
  }

  int64_t num_utterances() const { return values.size(0); }
  int64_t max_frames() const { return values.size(1); }
  int64_t num_classes() const { return values.size(2); }
  bool is_double() const { return values.scalar_type() == ScalarType::Double; }
  int64_t length(int64_t n) const { return lengths.const_data_ptr<int64_t>()[n]; }

  // The frames of utterance n, without padding.
  template <typename Scalar>
  Emissions<Scalar> utterance(int64_t n) const {
    return {values.const_data_ptr<Scalar>() + n * values.stride(0), length(n), num_classes(),
            values.stride(1), values.stride(2)};
  }

  // Padding is not read.
  template <typename Scalar>
  void check_log_probs() const {
    for (int64_t n = 0; n < num_utterances(); ++n) {
      const auto frames = utterance<Scalar>(n);
      for (int64_t t = 0; t < frames.num_frames; ++t) {
        for (int64_t c = 0; c < frames.num_classes; ++c) check_log_prob(frames(t, c), n, t, c);
      }
    }
  }

  Tensor values;
  Tensor lengths;
};

// The labelings [N, K, U] of a batch of utterances.
struct LabelingBatch {
  LabelingBatch(const Tensor& labels, const Tensor& label_lengths, const Tensor& counts,
                const EmissionBatch& emissions, int64_t blank)
      : labels(torch::stable::contiguous(labels)),
        label_lengths(torch::stable::contiguous(label_lengths)),
        counts(torch::stable::contiguous(counts)) {
    const int64_t num_utterances = emissions.num_utterances();
    check_labeling_shapes(labels, label_lengths, counts, num_utterances);
    check_range(this->label_lengths, "label_lengths", 0, labels.size(2));
    check_range(this->counts, "counts", 0, labels.size(1));
    for (int64_t n = 0; n < num_utterances; ++n) {
      for (int64_t k = 0; k < count(n); ++k) {
        for (int64_t u = 0; u < length(n, k); ++u) {
          check_label(labeling(n, k)[u], emissions.num_classes(), blank, n, k);
        }
      }
    }
  }

  int64_t num_slots() const { return labels.size(1); }
  int64_t count(int64_t n) const { return counts.const_data_ptr<int64_t>()[n]; }
  int64_t length(int64_t n, int64_t k) const {
    return label_lengths.const_data_ptr<int64_t>()[n * num_slots() + k];
  }
  const int64_t* labeling(int64_t n, int64_t k) const {
    return labels.const_data_ptr<int64_t>() + (n * num_slots() + k) * labels.size(2);
  }

  Tensor labels;
  Tensor label_lengths;
  Tensor counts;
};

}  // namespace egl::ops
