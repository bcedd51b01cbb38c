#include <torch/csrc/stable/ops.h>

#include <cstdint>

#include "csrc/cuda/check_ctc_inputs.h"
#include "csrc/cuda/ctc_batch.h"
#include "csrc/cuda/hypothesis_normals.h"
#include "csrc/ops/cuda/ctc_inputs.h"
#include "csrc/ops/cuda/device.h"
#include "csrc/ops/normals_requirements.h"
#include "csrc/ops/operators.h"

namespace egl::ops::cuda {
namespace {

// Waits for the GPU once, and again if there is something to refuse.
void check_values(const egl::cuda::LabelingBatch& labelings, const Workspace& memory,
                  const DeviceScope& scope) {
  auto* found = memory.data<egl::cuda::BadCtcInputs>();
  egl::cuda::clear(found, scope.stream());
  egl::cuda::find_out_of_range(labelings.label_lengths,
                               labelings.num_utterances * labelings.num_slots, labelings.capacity,
                               &found->label_lengths, scope.stream());
  egl::cuda::find_out_of_range(labelings.counts, labelings.num_utterances, labelings.num_slots,
                               &found->counts, scope.stream());
  const egl::cuda::BadCtcInputs bad = read_back(found, scope);
  refuse_out_of_range(bad.label_lengths, labelings.label_lengths, "label_lengths",
                      labelings.capacity, scope);
  refuse_out_of_range(bad.counts, labelings.counts, "counts", labelings.num_slots, scope);
}

}  // namespace

Tensor ctc_hypothesis_normals(const Tensor& labels, const Tensor& label_lengths,
                              const Tensor& counts, const Tensor& keys, int64_t num_normals) {
  check_normals_arguments(labels, label_lengths, counts, keys, num_normals);
  check_device(label_lengths, "label_lengths", labels, "labels");
  check_device(counts, "counts", labels, "labels");
  check_device(keys, "keys", labels, "labels");
  const DeviceScope scope(labels);
  const Tensor label_values = torch::stable::contiguous(labels);
  const Tensor length_values = torch::stable::contiguous(label_lengths);
  const Tensor count_values = torch::stable::contiguous(counts);
  const Tensor key_values = torch::stable::contiguous(keys);
  const egl::cuda::LabelingBatch labelings{label_values.const_data_ptr<int64_t>(),
                                           length_values.const_data_ptr<int64_t>(),
                                           count_values.const_data_ptr<int64_t>(),
                                           labels.size(0),
                                           labels.size(1),
                                           labels.size(2)};
  check_values(labelings, Workspace(labels, sizeof(egl::cuda::BadCtcInputs)), scope);
  const int64_t num_slots = labelings.num_utterances * labelings.num_slots;
  const Workspace hashes(labels, static_cast<size_t>(num_slots) * sizeof(uint64_t));
  Tensor normals = torch::stable::new_empty(
      labels, {labelings.num_utterances, labelings.num_slots, num_normals}, ScalarType::Double);
  egl::cuda::labeling_hashes(labelings, key_values.const_data_ptr<int64_t>(),
                             hashes.data<uint64_t>(), scope.stream());
  egl::cuda::hypothesis_normals(labelings, hashes.data<uint64_t>(), num_normals,
                                normals.mutable_data_ptr<double>(), scope.stream());
  return normals;
}

}  // namespace egl::ops::cuda
