#include "csrc/ops/cuda/ctc_inputs.h"
#include "csrc/ops/cuda/device.h"
#include "csrc/ops/cuda/posteriors.h"
#include "csrc/ops/operators.h"

namespace egl::ops::cuda {

Occupancy ctc_occupancy(const Tensor& log_probs, const Tensor& lengths, const Tensor& labels,
                        const Tensor& label_lengths, const Tensor& counts, int64_t blank) {
  const EmissionBatch batch(log_probs, lengths, blank, "log_probs");
  const LabelingBatch labelings(labels, label_lengths, counts, batch);
  const DeviceScope scope(log_probs);
  check_values(scope, batch, labelings, blank);
  Tensor log_prob = torch::stable::new_empty(
      log_probs, {batch.num_utterances(), labelings.num_slots()}, ScalarType::Double);
  Tensor occupancy = torch::stable::new_empty(
      log_probs,
      {batch.num_utterances(), labelings.num_slots(), batch.max_frames(), batch.num_classes()});
  batch.visit([&]<typename Scalar>(const egl::cuda::EmissionBatch<Scalar>& view) {
    posteriors<egl::cuda::PosteriorKind::kOccupancy>(
        scope, log_probs, view, labelings.view(), blank,
        egl::cuda::PosteriorOutput<Scalar>{log_prob.mutable_data_ptr<double>(),
                                           occupancy.mutable_data_ptr<Scalar>()});
  });
  return {log_prob, occupancy};
}

}  // namespace egl::ops::cuda
