// The log-softmax in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "csrc/core/log_semiring.h"
#include "csrc/ops/ctc_inputs.h"

namespace egl::ops {

// Of utterance n's frames; writes [T, C].
template <typename Scalar>
void log_softmax(const Emissions<Scalar>& logits, int64_t n, double* out) {
  for (int64_t t = 0; t < logits.num_frames; ++t) {
    double most = kNegInf;
    for (int64_t c = 0; c < logits.num_classes; ++c) most = std::max(most, logits(t, c));
    double sum = 0.0;
    for (int64_t c = 0; c < logits.num_classes; ++c) sum += std::exp(logits(t, c) - most);
    const double log_sum = std::log(sum);
    check_logits(most + log_sum, n, t);
    // In two steps: added to a logit of 1e16, the sum's logarithm would be rounded away.
    for (int64_t c = 0; c < logits.num_classes; ++c) *out++ = (logits(t, c) - most) - log_sum;
  }
}

}  // namespace egl::ops
