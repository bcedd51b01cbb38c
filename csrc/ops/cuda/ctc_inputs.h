// What the CTC operators share on a GPU: their inputs as kernels see them, and the checks of their
// values, for which the host waits once.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cmath>
#include <cstdint>

#include "csrc/cuda/check_ctc_inputs.h"
#include "csrc/cuda/ctc_batch.h"
#include "csrc/ops/ctc_requirements.h"
#include "csrc/ops/cuda/device.h"

namespace egl::ops::cuda {

// A batch of emissions [N, T, C] with the utterances' lengths: shapes and devices are checked,
// values are not.
struct EmissionBatch {
  EmissionBatch(const Tensor& values, const Tensor& lengths, int64_t blank, const char* name)
      : values(values), lengths(torch::stable::contiguous(lengths)), name(name) {
    check_emission_shapes(values, lengths, blank, name);
    check_device(lengths, "lengths", values, name);
  }

  int64_t num_utterances() const { return values.size(0); }
  int64_t max_frames() const { return values.size(1); }
  int64_t num_classes() const { return values.size(2); }
  bool is_double() const { return values.scalar_type() == ScalarType::Double; }

  // For kernels.
  template <typename Scalar>
  egl::cuda::EmissionBatch<Scalar> view() const {
    return {values.const_data_ptr<Scalar>(),
            lengths.const_data_ptr<int64_t>(),
            num_utterances(),
            max_frames(),
            num_classes(),
            values.stride(0),
            values.stride(1),
            values.stride(2)};
  }

  // Calls body(view) with the view of the values' own type.
  template <typename Body>
  void visit(const Body& body) const {
    if (is_double()) {
      body(view<double>());
    } else {
      body(view<float>());
    }
  }

  Tensor values;
  Tensor lengths;
  const char* name;
};

// The labelings [N, K, U] of a batch of utterances, likewise.
struct LabelingBatch {
  LabelingBatch(const Tensor& labels, const Tensor& label_lengths, const Tensor& counts,
                const EmissionBatch& emissions)
      : labels(torch::stable::contiguous(labels)),
        label_lengths(torch::stable::contiguous(label_lengths)),
        counts(torch::stable::contiguous(counts)) {
    check_labeling_shapes(labels, label_lengths, counts, emissions.num_utterances());
    check_device(labels, "labels", emissions.values, emissions.name);
    check_device(label_lengths, "label_lengths", emissions.values, emissions.name);
    check_device(counts, "counts", emissions.values, emissions.name);
  }

  int64_t num_slots() const { return labels.size(1); }
  int64_t capacity() const { return labels.size(2); }

  // For kernels.
  egl::cuda::LabelingBatch view() const {
    return {labels.const_data_ptr<int64_t>(),
            label_lengths.const_data_ptr<int64_t>(),
            counts.const_data_ptr<int64_t>(),
            labels.size(0),
            num_slots(),
            capacity()};
  }

  Tensor labels;
  Tensor label_lengths;
  Tensor counts;
};

// Refuses the first of `values` that is not in [0, high], at this place.
inline void refuse_out_of_range(egl::cuda::Place place, const int64_t* values, const char* name,
                                int64_t high, const DeviceScope& scope) {
  if (place == egl::cuda::kNothing) return;
  check_in_range(read_back(values + place, scope), name, 0, high, static_cast<int64_t>(place));
}

// Looks at values on the GPU, and refuses in the CPU operators' order and words. Kernels that
// cannot stand a bad label are launched after finish().
class ValueChecks {
 public:
  // Launches the check of the lengths. All arguments live as long as this.
  ValueChecks(const DeviceScope& scope, const EmissionBatch& emissions)
      : scope_(scope),
        emissions_(emissions),
        memory_(emissions.values, sizeof(egl::cuda::BadCtcInputs)) {
    egl::cuda::clear(found(), scope_.stream());
    egl::cuda::find_out_of_range(emissions.lengths.const_data_ptr<int64_t>(),
                                 emissions.num_utterances(), emissions.max_frames(),
                                 &found()->lengths, scope_.stream());
  }

  // Emissions that are log-probabilities.
  void launch_log_probs() {
    log_probs_ = true;
    emissions_.visit([&](const auto& view) {
      egl::cuda::find_bad_log_prob(view, &found()->emissions, scope_.stream());
    });
  }

  // Emissions that are logits: for log_softmax, which finds the bad frames.
  egl::cuda::Place* bad_logits() { return &found()->emissions; }

  void launch_labelings(const LabelingBatch& labelings, int64_t blank) {
    labelings_ = &labelings;
    blank_ = blank;
    const egl::cuda::LabelingBatch view = labelings.view();
    egl::cuda::find_out_of_range(view.label_lengths, view.num_utterances * view.num_slots,
                                 view.capacity, &found()->label_lengths, scope_.stream());
    egl::cuda::find_out_of_range(view.counts, view.num_utterances, view.num_slots, &found()->counts,
                                 scope_.stream());
    egl::cuda::find_bad_label(view, emissions_.num_classes(), blank, &found()->labels,
                              scope_.stream());
  }

  // Waits for the GPU. Throws std::invalid_argument if anything was found.
  void finish() const {
    const egl::cuda::BadCtcInputs bad = read_back(found(), scope_);
    refuse_out_of_range(bad.lengths, emissions_.lengths.const_data_ptr<int64_t>(), "lengths",
                        emissions_.max_frames(), scope_);
    if (labelings_ != nullptr) {
      const egl::cuda::LabelingBatch view = labelings_->view();
      refuse_out_of_range(bad.label_lengths, view.label_lengths, "label_lengths", view.capacity,
                          scope_);
      refuse_out_of_range(bad.counts, view.counts, "counts", view.num_slots, scope_);
      if (bad.labels != egl::cuda::kNothing) refuse_label(static_cast<int64_t>(bad.labels));
    }
    if (bad.emissions != egl::cuda::kNothing) refuse_emission(static_cast<int64_t>(bad.emissions));
  }

 private:
  egl::cuda::BadCtcInputs* found() const { return memory_.data<egl::cuda::BadCtcInputs>(); }

  void refuse_label(int64_t place) const {
    const int64_t slot = place / labelings_->capacity();
    check_label(read_back(labelings_->labels.const_data_ptr<int64_t>() + place, scope_),
                emissions_.num_classes(), blank_, slot / labelings_->num_slots(),
                slot % labelings_->num_slots());
  }

  void refuse_emission(int64_t place) const {
    if (!log_probs_) {
      check_logits(HUGE_VAL, place / emissions_.max_frames(), place % emissions_.max_frames());
    }
    emissions_.visit([&](const auto& view) {
      const int64_t frame = place / view.num_classes;
      const int64_t n = frame / view.max_frames;
      const int64_t t = frame % view.max_frames;
      const int64_t c = place % view.num_classes;
      check_log_prob(read_back(view.data + n * view.utterance_stride + t * view.frame_stride +
                                   c * view.class_stride,
                               scope_),
                     n, t, c);
    });
  }

  const DeviceScope& scope_;
  const EmissionBatch& emissions_;
  const LabelingBatch* labelings_ = nullptr;
  int64_t blank_ = 0;
  bool log_probs_ = false;
  Workspace memory_;
};

// All that is to be checked of log-probabilities with labelings.
inline void check_values(const DeviceScope& scope, const EmissionBatch& log_probs,
                         const LabelingBatch& labelings, int64_t blank) {
  ValueChecks checks(scope, log_probs);
  checks.launch_labelings(labelings, blank);
  checks.launch_log_probs();
  checks.finish();
}

}  // namespace egl::ops::cuda
