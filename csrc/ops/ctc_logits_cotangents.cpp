#include "csrc/ops/ctc_inputs.h"
#include "csrc/ops/hypothesis_posteriors.h"
#include "csrc/ops/log_softmax.h"
#include "csrc/ops/operators.h"

namespace egl::ops {

// Where the model is sure, softmax and occupancy nearly cancel: both stay in double until after the
// subtraction.
LogitsCotangents ctc_logits_cotangents(const Tensor& logits, const Tensor& lengths,
                                       const Tensor& labels, const Tensor& label_lengths,
                                       const Tensor& counts, int64_t blank) {
  const EmissionBatch batch(logits, lengths, blank, "logits");
  const LabelingBatch labelings(labels, label_lengths, counts, batch, blank);
  const auto [log_prob, cotangents] = posteriors(
      batch, labelings, blank,
      [](const auto& frames, int64_t n, double* out) { log_softmax(frames, n, out); },
      [](double prob, double occupied) { return prob - occupied; });
  return {log_prob, cotangents};
}

}  // namespace egl::ops
