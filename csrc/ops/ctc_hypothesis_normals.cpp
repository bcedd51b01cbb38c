#include <torch/csrc/stable/ops.h>

#include "csrc/core/random_normals.h"
#include "csrc/ops/normals_requirements.h"
#include "csrc/ops/operators.h"

namespace egl::ops {

Tensor ctc_hypothesis_normals(const Tensor& labels, const Tensor& label_lengths,
                              const Tensor& counts, const Tensor& keys, int64_t num_normals) {
  check_normals_arguments(labels, label_lengths, counts, keys, num_normals);
  const int64_t num_utterances = labels.size(0);
  const int64_t num_slots = labels.size(1);
  const Tensor label_values = torch::stable::contiguous(labels);
  const Tensor length_values = torch::stable::contiguous(label_lengths);
  const Tensor count_values = torch::stable::contiguous(counts);
  const Tensor key_values = torch::stable::contiguous(keys);
  check_range(length_values, "label_lengths", 0, labels.size(2));
  check_range(count_values, "counts", 0, num_slots);
  Tensor normals = torch::stable::new_zeros(labels, {num_utterances, num_slots, num_normals},
                                            ScalarType::Double);
  auto* out = normals.mutable_data_ptr<double>();
  for (int64_t n = 0; n < num_utterances; ++n) {
    const auto key = static_cast<uint64_t>(key_values.const_data_ptr<int64_t>()[n]);
    for (int64_t k = 0; k < count_values.const_data_ptr<int64_t>()[n]; ++k) {
      const int64_t slot = n * num_slots + k;
      const uint64_t hash =
          hash_labeling(key, label_values.const_data_ptr<int64_t>() + slot * labels.size(2),
                        length_values.const_data_ptr<int64_t>()[slot]);
      for (int64_t i = 0; i < num_normals; ++i) out[slot * num_normals + i] = normal_of(hash, i);
    }
  }
  return normals;
}

}  // namespace egl::ops
