// The log-softmax of all frames in double.
#pragma once

#include <cstdint>

#include "csrc/core/log_semiring.h"
#include "csrc/ops/ctc_inputs.h"

namespace egl::ops {

// Of utterance n's frames; writes [T, C].
template <typename Scalar>
void log_softmax(const Emissions<Scalar>& logits, int64_t n, double* out) {
  for (int64_t t = 0; t < logits.num_frames; ++t) {
    const double total =
        log_sum_exp(&logits.data[t * logits.frame_stride], logits.num_classes, logits.class_stride);
    check_logits(total, n, t);
    for (int64_t c = 0; c < logits.num_classes; ++c) *out++ = logits(t, c) - total;
  }
}

// Of all utterances; writes [N, T, C], but for padding frames, which stay as they are.
template <typename Scalar>
void log_softmax(const EmissionBatch& logits, double* out) {
  const int64_t size = logits.max_frames() * logits.num_classes();
  for (int64_t n = 0; n < logits.num_utterances(); ++n) {
    log_softmax(logits.utterance<Scalar>(n), n, out + n * size);
  }
}

}  // namespace egl::ops
