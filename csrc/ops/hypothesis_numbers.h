// The random numbers of an utterance's hypotheses: functions of its key and their labels.
#pragma once

#include <cstdint>
#include <vector>

#include "csrc/core/random_normals.h"
#include "csrc/ops/ctc_inputs.h"

namespace egl::ops {

inline void check_normals_arguments(const Tensor& labels, const Tensor& label_lengths,
                                    const Tensor& counts, const Tensor& keys, int64_t num_normals) {
  check_tensor(labels, "labels", {ScalarType::Long}, {{"N"}, {"K"}, {"U"}});
  check_tensor(label_lengths, "label_lengths", {ScalarType::Long},
               {{"N", labels.size(0)}, {"K", labels.size(1)}});
  check_tensor(counts, "counts", {ScalarType::Long}, {{"N", labels.size(0)}});
  check_tensor(keys, "keys", {ScalarType::Long}, {{"N", labels.size(0)}});
  check(num_normals >= 0, "num_normals: expected at least 0, got ", num_normals);
}

// One of each hypothesis of utterance n.
inline std::vector<uint64_t> labeling_hashes(const LabelingBatch& labelings, int64_t n,
                                             uint64_t key) {
  std::vector<uint64_t> hashes;
  for (int64_t k = 0; k < labelings.count(n); ++k) {
    hashes.push_back(hash_labeling(key, labelings.labeling(n, k), labelings.length(n, k)));
  }
  return hashes;
}

}  // namespace egl::ops
