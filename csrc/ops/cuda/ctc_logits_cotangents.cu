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
  const int64_t num_utterances = batch.num_utterances();
  const int64_t num_slots = labelings.num_slots();
  const Tensor log_probs = torch::stable::new_empty(
      logits, {num_utterances, batch.max_frames(), batch.num_classes()}, ScalarType::Double);
  batch.visit([&](const auto& view) {
    egl::cuda::log_softmax(view, log_probs.mutable_data_ptr<double>(), checks.bad_logits(), nullptr,
                           scope.stream());
  });
  checks.finish();
  const EmissionBatch softmax(log_probs, batch.lengths, blank, "log_probs");
  Tensor log_prob =
      torch::stable::new_empty(logits, {num_utterances, num_slots}, ScalarType::Double);
  Tensor cotangents = torch::stable::new_empty(
      logits, {num_utterances, num_slots, batch.max_frames(), batch.num_classes()});
  batch.visit([&]<typename Scalar>(const egl::cuda::EmissionBatch<Scalar>&) {
    posteriors<egl::cuda::PosteriorKind::kCotangents>(
        scope, logits, softmax.view<double>(), labelings.view(), blank,
        egl::cuda::PosteriorOutput<Scalar>{log_prob.mutable_data_ptr<double>(),
                                           cotangents.mutable_data_ptr<Scalar>()});
  });
  return {log_prob, cotangents};
}

}  // namespace egl::ops::cuda
