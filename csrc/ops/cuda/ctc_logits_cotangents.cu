#include "csrc/cuda/log_softmax.h"
#include "csrc/ops/cuda/ctc_inputs.h"
#include "csrc/ops/cuda/device.h"
#include "csrc/ops/cuda/posteriors.h"
#include "csrc/ops/operators.h"

namespace egl::ops::cuda {

LogitsCotangents ctc_logits_cotangents(const Tensor& logits, const Tensor& lengths,
                                       const Tensor& labels, const Tensor& label_lengths,
                                       const Tensor& counts, int64_t blank) {
  const EmissionBatch batch(logits, lengths, blank, "logits");
  const LabelingBatch labelings(labels, label_lengths, counts, batch);
  const DeviceScope scope(logits);
  ValueChecks checks(scope, batch);
  checks.launch_labelings(labelings, blank);
  const Tensor log_probs = torch::stable::new_empty(
      logits, {batch.num_utterances(), batch.max_frames(), batch.num_classes()},
      ScalarType::Double);
  batch.visit([&](const auto& view) {
    egl::cuda::log_softmax(view, log_probs.mutable_data_ptr<double>(), checks.bad_logits(), nullptr,
                           scope.stream());
  });
  checks.finish();
  const EmissionBatch softmax(log_probs, batch.lengths, blank, "log_probs");
  const PosteriorTensors found(batch, labelings);
  visit_floating(logits, [&]<typename Scalar>(Scalar) {
    posteriors<egl::cuda::PosteriorKind::kCotangents, Scalar>(scope, softmax.view<double>(),
                                                              labelings, blank, found);
  });
  return {found.log_prob, found.rows};
}

}  // namespace egl::ops::cuda
