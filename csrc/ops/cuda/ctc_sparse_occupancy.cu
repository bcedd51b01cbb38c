#include "csrc/ops/cuda/ctc_inputs.h"
#include "csrc/ops/cuda/device.h"
#include "csrc/ops/cuda/ops.h"
#include "csrc/ops/cuda/posteriors.h"

namespace egl::ops::cuda {

std::tuple<Tensor, Tensor, Tensor> ctc_sparse_occupancy(const Tensor& log_probs,
                                                        const Tensor& lengths, const Tensor& labels,
                                                        const Tensor& label_lengths,
                                                        const Tensor& counts, int64_t blank) {
  const EmissionBatch batch(log_probs, lengths, blank, "log_probs");
  const LabelingBatch labelings(labels, label_lengths, counts, batch);
  const DeviceScope scope(log_probs);
  check_values(scope, batch, labelings, blank);
  const int64_t num_utterances = batch.num_utterances();
  const int64_t num_slots = labelings.num_slots();
  const int64_t num_columns = labelings.capacity() + 1;
  Tensor log_prob =
      torch::stable::new_empty(log_probs, {num_utterances, num_slots}, ScalarType::Double);
  Tensor classes = torch::stable::new_empty(labels, {num_utterances, num_slots, num_columns});
  Tensor occupancy = torch::stable::new_empty(
      log_probs, {num_utterances, num_slots, batch.max_frames(), num_columns});
  batch.visit([&]<typename Scalar>(const egl::cuda::EmissionBatch<Scalar>& view) {
    posteriors<egl::cuda::PosteriorKind::kSparseOccupancy>(
        scope, log_probs, view, labelings.view(), blank,
        egl::cuda::PosteriorOutput<Scalar>{log_prob.mutable_data_ptr<double>(),
                                           occupancy.mutable_data_ptr<Scalar>(),
                                           classes.mutable_data_ptr<int64_t>()});
  });
  return {log_prob, classes, occupancy};
}

}  // namespace egl::ops::cuda
