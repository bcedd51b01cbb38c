// What ctc_hypothesis_normals asks of its arguments, but for their values, wherever it runs.
#pragma once

#include <cstdint>

#include "csrc/ops/check.h"
#include "csrc/ops/ctc_requirements.h"

namespace egl::ops {

inline void check_normals_arguments(const Tensor& labels, const Tensor& label_lengths,
                                    const Tensor& counts, const Tensor& keys, int64_t num_normals) {
  check_tensor(labels, "labels", {ScalarType::Long}, {{"N"}, {"K"}, {"U"}});
  check_labeling_shapes(labels, label_lengths, counts, labels.size(0));
  check_tensor(keys, "keys", {ScalarType::Long}, {{"N", labels.size(0)}});
  check_count_argument(num_normals, "num_normals", 0);
}

}  // namespace egl::ops
