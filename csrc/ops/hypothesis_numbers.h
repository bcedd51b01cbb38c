// The random numbers of an utterance's hypotheses: functions of its key and their labels.
#pragma once

#include <cstdint>
#include <vector>

#include "csrc/core/random_normals.h"
#include "csrc/ops/ctc_inputs.h"

namespace egl::ops {

// One of each hypothesis of utterance n.
inline std::vector<uint64_t> labeling_hashes(const LabelingBatch& labelings, int64_t n,
                                             uint64_t key) {
  std::vector<uint64_t> hashes;
  hashes.reserve(labelings.count(n));
  for (int64_t k = 0; k < labelings.count(n); ++k) {
    hashes.push_back(hash_labeling(key, labelings.labeling(n, k), labelings.length(n, k)));
  }
  return hashes;
}

}  // namespace egl::ops
