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
  ValueChecks checks(scope, batch);
  checks.launch_labelings(labelings, blank);
  checks.launch_log_probs();
  checks.finish();
  const PosteriorTensors found(batch, labelings);
  batch.visit([&]<typename Scalar>(const egl::cuda::EmissionBatch<Scalar>& view) {
    posteriors<egl::cuda::PosteriorKind::kOccupancy, Scalar>(scope, view, labelings, blank, found);
  });
  return {found.log_prob, found.rows};
}

}  // namespace egl::ops::cuda
