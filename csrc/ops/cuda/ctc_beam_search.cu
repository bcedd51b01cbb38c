#include "csrc/ops/cuda/beam_search.h"
#include "csrc/ops/cuda/ops.h"

namespace egl::ops::cuda {

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> ctc_beam_search(const Tensor& log_probs,
                                                                   const Tensor& lengths,
                                                                   int64_t num_hypotheses,
                                                                   int64_t beam_width,
                                                                   int64_t blank) {
  const EmissionBatch batch(log_probs, lengths, blank, "log_probs");
  check_beam(num_hypotheses, beam_width);
  check_beam_fits(batch, beam_width);
  const DeviceScope scope(log_probs);
  ValueChecks checks(scope, batch);
  checks.launch_log_probs();
  checks.finish();
  Hypotheses found = search(scope, batch, num_hypotheses, beam_width, blank);
  return {found.labels, found.label_lengths, found.log_prob, found.search_log_prob, found.counts};
}

}  // namespace egl::ops::cuda
