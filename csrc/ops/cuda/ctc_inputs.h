// The CTC operators' inputs on a GPU, as kernels see them, and the checks of their values, for
// which the host waits once.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cmath>
#include <cstdint>

#include "csrc/cuda/check_ctc_inputs.h"
#include "csrc/cuda/ctc_batch.h"
#include "csrc/ops/ctc_tensors.h"
#include "csrc/ops/cuda/device.h"

namespace egl::ops::cuda {

// Shapes and devices are checked, values are not.
struct EmissionBatch : EmissionTensors {
  EmissionBatch(const Tensor& values, const Tensor& lengths, int64_t blank, const char* name)
      : EmissionTensors(values, lengths, blank, name) {
    check_device(lengths, "lengths", values, name);
  }

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
    visit_floating(values, [&]<typename Scalar>(Scalar) { body(view<Scalar>()); });
  }
};

// Likewise.
struct LabelingBatch : LabelingTensors {
  LabelingBatch(const Tensor& labels, const Tensor& label_lengths, const Tensor& counts,
                const EmissionBatch& emissions)
      : LabelingTensors(labels, label_lengths, counts, emissions.num_utterances()) {
    check_device(labels, "labels", emissions.values, emissions.name);
    check_device(label_lengths, "label_lengths", emissions.values, emissions.name);
    check_device(counts, "counts", emissions.values, emissions.name);
  }

  LabelingBatch(const Tensor& labels, const Tensor& label_lengths, const Tensor& counts)
      : LabelingTensors(labels, label_lengths, counts) {
    check_device(label_lengths, "label_lengths", labels, "labels");
    check_device(counts, "counts", labels, "labels");
  }

  // For kernels.
  egl::cuda::LabelingBatch view() const {
    return {labels.const_data_ptr<int64_t>(),
            label_lengths.const_data_ptr<int64_t>(),
            counts.const_data_ptr<int64_t>(),
            num_utterances(),
            num_slots(),
            capacity()};
  }
};

// Looks at values on the GPU, and refuses bad ones in the CPU operators' order and words. Kernels
// that cannot stand a bad label are launched after finish(). What is checked has to outlive this.
class ValueChecks {
 public:
  // `like`: a tensor on the GPU.
  ValueChecks(const DeviceScope& scope, const Tensor& like)
      : scope_(scope), memory_(like, sizeof(egl::cuda::BadCtcInputs)) {
    egl::cuda::clear(found(), scope_.stream());
  }

  ValueChecks(const DeviceScope& scope, const EmissionBatch& emissions)
      : ValueChecks(scope, emissions.values) {
    emissions_ = &emissions;
    egl::cuda::find_out_of_range(emissions.lengths.const_data_ptr<int64_t>(),
                                 emissions.num_utterances(), emissions.max_frames(),
                                 &found()->lengths, scope_.stream());
  }

  // Emissions that are log-probabilities.
  void launch_log_probs() {
    log_probs_ = true;
    emissions_->visit([&](const auto& view) {
      egl::cuda::find_bad_log_prob(view, &found()->emissions, scope_.stream());
    });
  }

  // Emissions that are logits: for log_softmax, which finds the bad frames.
  egl::cuda::Place* bad_logits() { return &found()->emissions; }

  // Numbers of labelings and of labels; the labels may be any numbers.
  void launch_counts(const LabelingBatch& labelings) {
    labelings_ = &labelings;
    const egl::cuda::LabelingBatch view = labelings.view();
    egl::cuda::find_out_of_range(view.label_lengths, view.num_utterances * view.num_slots,
                                 view.capacity, &found()->label_lengths, scope_.stream());
    egl::cuda::find_out_of_range(view.counts, view.num_utterances, view.num_slots, &found()->counts,
                                 scope_.stream());
  }

  // Also that labels are classes of the emissions, other than the blank.
  void launch_labelings(const LabelingBatch& labelings, int64_t blank) {
    launch_counts(labelings);
    blank_ = blank;
    egl::cuda::find_bad_label(labelings.view(), emissions_->num_classes(), blank, &found()->labels,
                              scope_.stream());
  }

  // Waits for the GPU, and again if there is something to refuse. Throws std::invalid_argument.
  void finish() const {
    const egl::cuda::BadCtcInputs bad = read_back(found(), scope_);
    if (emissions_ != nullptr) {
      refuse_out_of_range(bad.lengths, emissions_->lengths, "lengths", emissions_->max_frames());
    }
    if (labelings_ != nullptr) {
      refuse_out_of_range(bad.label_lengths, labelings_->label_lengths, "label_lengths",
                          labelings_->capacity());
      refuse_out_of_range(bad.counts, labelings_->counts, "counts", labelings_->num_slots());
    }
    if (bad.labels != egl::cuda::kNothing) refuse_label(static_cast<int64_t>(bad.labels));
    if (bad.emissions != egl::cuda::kNothing) refuse_emission(static_cast<int64_t>(bad.emissions));
  }

 private:
  egl::cuda::BadCtcInputs* found() const { return memory_.data<egl::cuda::BadCtcInputs>(); }

  void refuse_out_of_range(egl::cuda::Place place, const Tensor& values, const char* name,
                           int64_t high) const {
    if (place == egl::cuda::kNothing) return;
    check_in_range(read_back(values.const_data_ptr<int64_t>() + place, scope_), name, 0, high,
                   static_cast<int64_t>(place));
  }

  void refuse_label(int64_t place) const {
    const int64_t slot = place / labelings_->capacity();
    check_label(read_back(labelings_->labels.const_data_ptr<int64_t>() + place, scope_),
                emissions_->num_classes(), blank_, slot / labelings_->num_slots(),
                slot % labelings_->num_slots());
  }

  void refuse_emission(int64_t place) const {
    if (!log_probs_) {
      check_logits(HUGE_VAL, place / emissions_->max_frames(), place % emissions_->max_frames());
    }
    emissions_->visit([&](const auto& view) {
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
  const EmissionBatch* emissions_ = nullptr;
  const LabelingBatch* labelings_ = nullptr;
  int64_t blank_ = 0;
  bool log_probs_ = false;
  Workspace memory_;
};

}  // namespace egl::ops::cuda
