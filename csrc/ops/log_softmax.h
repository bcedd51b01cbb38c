// The log-softmax of all frames in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "csrc/core/log_semiring.h"
#include "csrc/ops/ctc_inputs.h"

namespace egl::ops {

template <typename Scalar>
void log_softmax_of(const EmissionBatch& logits, double* out) {
  for (int64_t n = 0; n < logits.num_utterances(); ++n) {
    const auto frames = logits.utterance<Scalar>(n);
    double* row = out + n * logits.max_frames() * frames.num_classes;
    for (int64_t t = 0; t < frames.num_frames; ++t) {
      double most = kNegInf;
      for (int64_t c = 0; c < frames.num_classes; ++c) most = std::max(most, frames(t, c));
      double sum = 0.0;
      for (int64_t c = 0; c < frames.num_classes; ++c) sum += std::exp(frames(t, c) - most);
      const double log_sum = std::log(sum);
      check_logits(most + log_sum, n, t);
      // In two steps: beside a logit of 1e16 the sum's logarithm would be rounded away.
      for (int64_t c = 0; c < frames.num_classes; ++c) {
        *row++ = (frames(t, c) - most) - log_sum;
      }
    }
  }
}

// Writes [N, T, C]; what padding frames hold stays as it is.
inline void log_softmax(const EmissionBatch& logits, double* out) {
  if (logits.is_double()) {
    log_softmax_of<double>(logits, out);
  } else {
    log_softmax_of<float>(logits, out);
  }
}

}  // namespace egl::ops
