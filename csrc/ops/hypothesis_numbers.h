// The random numbers of an utterance's hypotheses: functions of its key and their labels.
#pragma once

#include <cstdint>
#include <vector>

#include "csrc/core/random_normals.h"
#include "csrc/ops/ctc_inputs.h"

namespace egl::ops {

class HypothesisNumbers {
 public:
  HypothesisNumbers(const LabelingBatch& labelings, int64_t n, uint64_t key) {
    for (int64_t k = 0; k < labelings.count(n); ++k) {
      hashes_.push_back(hash_labeling(key, labelings.labeling(n, k), labelings.length(n, k)));
    }
  }

  double normal(int64_t k, int64_t probe) const { return normal_of(hashes_[k], probe); }
  double tie_break(int64_t k) const { return uniform_of(split_mix(~hashes_[k])); }

 private:
  std::vector<uint64_t> hashes_;
};

}  // namespace egl::ops
