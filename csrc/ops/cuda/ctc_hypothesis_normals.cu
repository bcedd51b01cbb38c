#include <torch/csrc/stable/ops.h>

#include <cstdint>

#include "csrc/cuda/hypothesis_normals.h"
#include "csrc/ops/cuda/ctc_inputs.h"
#include "csrc/ops/cuda/device.h"
#include "csrc/ops/operators.h"

namespace egl::ops::cuda {

Tensor ctc_hypothesis_normals(const Tensor& labels, const Tensor& label_lengths,
                              const Tensor& counts, const Tensor& keys, int64_t num_normals) {
  const LabelingBatch labelings(labels, label_lengths, counts);
  check_keys(keys, labelings.num_utterances());
  check_num_normals(num_normals);
  check_device(keys, "keys", labels, "labels");
  const DeviceScope scope(labels);
  ValueChecks checks(scope, labels);
  checks.launch_counts(labelings);
  checks.finish();
  const Tensor key_values = torch::stable::contiguous(keys);
  const int64_t num_slots = labelings.num_utterances() * labelings.num_slots();
  const Workspace hashes(labels, static_cast<size_t>(num_slots) * sizeof(uint64_t));
  Tensor normals = torch::stable::new_empty(
      labels, {labelings.num_utterances(), labelings.num_slots(), num_normals}, ScalarType::Double);
  egl::cuda::labeling_hashes(labelings.view(), key_values.const_data_ptr<int64_t>(),
                             hashes.data<uint64_t>(), scope.stream());
  egl::cuda::hypothesis_normals(labelings.view(), hashes.data<uint64_t>(), num_normals,
                                normals.mutable_data_ptr<double>(), scope.stream());
  return normals;
}

}  // namespace egl::ops::cuda
