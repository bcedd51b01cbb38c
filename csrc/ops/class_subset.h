// The classes that occur in an utterance's labelings. A labeling's occupancy depends only on the
// emissions of its own classes, so with thousands of classes the others need no memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "csrc/core/ctc_posteriors.h"
#include "csrc/core/emissions.h"
#include "csrc/core/isa.h"
#include "csrc/ops/ctc_inputs.h"
#include "csrc/ops/hypothesis_posteriors.h"

namespace egl::ops {

class ClassSubset {
 public:
  // Of utterance n's labelings.
  ClassSubset(const LabelingBatch& labelings, int64_t n, int64_t num_classes, int64_t blank)
      : positions_(num_classes, kAbsent), classes_{blank} {
    for (int64_t k = 0; k < labelings.count(n); ++k) {
      const int64_t* labels = labelings.labeling(n, k);
      for (int64_t u = 0; u < labelings.length(n, k); ++u) {
        if (positions_[labels[u]] != kAbsent) continue;
        positions_[labels[u]] = kPresent;
        classes_.push_back(labels[u]);
      }
    }
    std::sort(classes_.begin() + 1, classes_.end());
    for (int64_t v = 0; v < size(); ++v) positions_[classes_[v]] = v;
  }

  // V; the blank is at position 0.
  int64_t size() const { return static_cast<int64_t>(classes_.size()); }
  const std::vector<int64_t>& classes() const { return classes_; }
  bool contains(int64_t class_index) const { return positions_[class_index] != kAbsent; }

  // Writes the occupancy [T, V] of utterance n's labeling k to the scratch. `table` holds the
  // frames at these classes.
  void posteriors(const ProbabilityTable& table, const LabelingBatch& labelings, int64_t n,
                  int64_t k, Isa isa, HypothesisScratch& scratch) const {
    const int64_t num_labels = labelings.length(n, k);
    translate(labelings.labeling(n, k), num_labels, scratch.labels);
    scratch.occupancy.resize(table.num_frames() * size());
    ctc_posteriors(table, scratch.labels.data(), num_labels, 0, isa, scratch.workspace,
                   scratch.occupancy.data());
  }

  // [T, V]
  template <typename Scalar>
  std::vector<double> gather(const Emissions<Scalar>& frames) const {
    std::vector<double> values;
    values.reserve(frames.num_frames * size());
    for (int64_t t = 0; t < frames.num_frames; ++t) {
      for (const int64_t c : classes_) values.push_back(frames(t, c));
    }
    return values;
  }

 private:
  static constexpr int64_t kAbsent = -1;
  static constexpr int64_t kPresent = -2;

  // A labeling in positions instead of class indices.
  void translate(const int64_t* labels, int64_t num_labels, std::vector<int64_t>& out) const {
    out.resize(num_labels);
    std::transform(labels, labels + num_labels, out.begin(),
                   [this](int64_t label) { return positions_[label]; });
  }

  std::vector<int64_t> positions_;  // [C]
  std::vector<int64_t> classes_;
};

}  // namespace egl::ops
