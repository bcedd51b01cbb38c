// Batches of CTC problems in the operators' layout, for kernels. What kernels must not read is
// filled with values that would spoil every result.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "csrc/cuda/ctc_batch.h"
#include "csrc/test/random_problem.h"

namespace egl::test {

// One utterance and its labelings. All of a batch have the same classes and the same blank.
struct Utterance {
  Problem problem;
  std::vector<Labeling> labelings;
};

template <typename Scalar>
class Batch {
 public:
  // With room for `spare` frames, hypotheses and labels more than are needed. Classes lie
  // `class_stride` apart.
  explicit Batch(const std::vector<Utterance>& utterances, int64_t spare = 1,
                 int64_t class_stride = 1)
      : num_classes_(utterances.front().problem.num_classes), class_stride_(class_stride) {
    for (const Utterance& utterance : utterances) {
      max_frames_ = std::max(max_frames_, utterance.problem.num_frames);
      num_slots_ = std::max(num_slots_, static_cast<int64_t>(utterance.labelings.size()));
      for (const Labeling& labeling : utterance.labelings) {
        capacity_ = std::max(capacity_, static_cast<int64_t>(labeling.size()));
      }
    }
    max_frames_ += spare;
    num_slots_ += spare;
    capacity_ += spare;
    const auto num_utterances = static_cast<int64_t>(utterances.size());
    values.assign(num_utterances * max_frames_ * num_classes_ * class_stride_,
                  std::numeric_limits<Scalar>::quiet_NaN());
    labels.assign(num_utterances * num_slots_ * capacity_, -1);
    label_lengths.assign(num_utterances * num_slots_, 0);
    for (int64_t n = 0; n < num_utterances; ++n) {
      const Problem& problem = utterances[n].problem;
      lengths.push_back(problem.num_frames);
      for (size_t i = 0; i < problem.log_probs.size(); ++i) {
        const auto place = n * max_frames_ * num_classes_ + static_cast<int64_t>(i);
        values[place * class_stride_] = static_cast<Scalar>(problem.log_probs[i]);
      }
      counts.push_back(static_cast<int64_t>(utterances[n].labelings.size()));
      for (size_t k = 0; k < utterances[n].labelings.size(); ++k) {
        const Labeling& labeling = utterances[n].labelings[k];
        const int64_t slot = n * num_slots_ + static_cast<int64_t>(k);
        std::copy(labeling.begin(), labeling.end(), labels.begin() + slot * capacity_);
        label_lengths[slot] = static_cast<int64_t>(labeling.size());
      }
    }
  }

  int64_t num_utterances() const { return static_cast<int64_t>(lengths.size()); }
  int64_t max_frames() const { return max_frames_; }
  int64_t num_classes() const { return num_classes_; }
  int64_t num_slots() const { return num_slots_; }
  int64_t capacity() const { return capacity_; }

  Scalar& value(int64_t n, int64_t t, int64_t c) {
    return values[((n * max_frames_ + t) * num_classes_ + c) * class_stride_];
  }

  cuda::EmissionBatch<Scalar> emissions() const {
    const int64_t frame_stride = num_classes_ * class_stride_;
    return {values.data(), lengths.data(), num_utterances(),
            max_frames_,   num_classes_,   max_frames_ * frame_stride,
            frame_stride,  class_stride_};
  }

  cuda::LabelingBatch labelings() const {
    return {labels.data(),    label_lengths.data(), counts.data(),
            num_utterances(), num_slots_,           capacity_};
  }

  std::vector<Scalar> values;
  std::vector<int64_t> lengths;
  std::vector<int64_t> labels;
  std::vector<int64_t> label_lengths;
  std::vector<int64_t> counts;

 private:
  int64_t num_classes_;
  int64_t class_stride_;
  int64_t max_frames_ = 0;
  int64_t num_slots_ = 0;
  int64_t capacity_ = 0;
};

}  // namespace egl::test
