#include "csrc/ops/ctc_inputs.h"
#include "csrc/ops/hypothesis_posteriors.h"
#include "csrc/ops/operators.h"

namespace egl::ops {

Occupancy ctc_occupancy(const Tensor& log_probs, const Tensor& lengths, const Tensor& labels,
                        const Tensor& label_lengths, const Tensor& counts, int64_t blank) {
  const EmissionBatch batch(log_probs, lengths, blank, "log_probs");
  const LabelingBatch labelings(labels, label_lengths, counts, batch, blank);
  const auto copy = [](const auto& frames, int64_t n, double* out) {
    for (int64_t t = 0; t < frames.num_frames; ++t) {
      for (int64_t c = 0; c < frames.num_classes; ++c) {
        check_log_prob(frames(t, c), n, t, c);
        *out++ = frames(t, c);
      }
    }
  };
  const auto [log_prob, occupancy] = posteriors(
      batch, labelings, blank, copy, [](double /*prob*/, double occupied) { return occupied; });
  return {log_prob, occupancy};
}

}  // namespace egl::ops
