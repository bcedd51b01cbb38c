#include "csrc/ops/cuda/beam_search.h"
#include "csrc/ops/operators.h"

namespace egl::ops::cuda {

Hypotheses ctc_beam_search(const Tensor& log_probs, const Tensor& lengths, int64_t num_hypotheses,
                           int64_t beam_width, int64_t blank) {
  const EmissionBatch batch(log_probs, lengths, blank, "log_probs");
  check_beam(num_hypotheses, beam_width);
  check_beam_fits(batch, beam_width);
  const DeviceScope scope(log_probs);
  ValueChecks checks(scope, batch);
  checks.launch_log_probs();
  checks.finish();
  return search(scope, batch, num_hypotheses, beam_width, blank);
}

}  // namespace egl::ops::cuda
