#include <torch/csrc/stable/ops.h>

#include "csrc/core/random_normals.h"
#include "csrc/ops/ctc_inputs.h"
#include "csrc/ops/operators.h"

namespace egl::ops {

Tensor ctc_hypothesis_normals(const Tensor& labels, const Tensor& label_lengths,
                              const Tensor& counts, const Tensor& keys, int64_t num_normals) {
  const LabelingBatch labelings(labels, label_lengths, counts);
  check_keys(keys, labelings.num_utterances());
  check_num_normals(num_normals);
  const Tensor key_values = torch::stable::contiguous(keys);
  Tensor normals = torch::stable::new_zeros(
      labels, {labelings.num_utterances(), labelings.num_slots(), num_normals}, ScalarType::Double);
  for (int64_t n = 0; n < labelings.num_utterances(); ++n) {
    double* out = normals.mutable_data_ptr<double>() + n * labelings.num_slots() * num_normals;
    for (int64_t k = 0; k < labelings.count(n); ++k) {
      const uint64_t hash = labelings.hash(n, k, key_values.const_data_ptr<int64_t>()[n]);
      for (int64_t i = 0; i < num_normals; ++i) *out++ = normal_of(hash, i);
    }
  }
  return normals;
}

}  // namespace egl::ops
