// What the CTC operators ask of their inputs, wherever those are.
#pragma once

#include <cmath>
#include <cstdint>

#include "csrc/core/emissions.h"
#include "csrc/ops/check.h"

namespace egl::ops {

inline void check_emission_shapes(const Tensor& values, const Tensor& lengths, int64_t blank,
                                  const char* name) {
  check_tensor(values, name, {ScalarType::Float, ScalarType::Double}, {{"N"}, {"T"}, {"C"}});
  check_tensor(lengths, "lengths", {ScalarType::Long}, {{"N", values.size(0)}});
  check_blank(blank, values.size(2));
}

inline void check_labeling_shapes(const Tensor& labels, const Tensor& label_lengths,
                                  const Tensor& counts, int64_t num_utterances) {
  check_tensor(labels, "labels", {ScalarType::Long}, {{"N", num_utterances}, {"K"}, {"U"}});
  check_tensor(label_lengths, "label_lengths", {ScalarType::Long},
               {{"N", num_utterances}, {"K", labels.size(1)}});
  check_tensor(counts, "counts", {ScalarType::Long}, {{"N", num_utterances}});
}

inline void check_label(int64_t label, int64_t num_classes, int64_t blank, int64_t n, int64_t k) {
  check(label >= 0 && label < num_classes && label != blank, "labels: expected classes in [0, ",
        num_classes, ") other than blank ", blank, ", got ", label, " in utterance ", n,
        ", hypothesis ", k);
}

// Log-probabilities may be minus infinity. Nobody asks that a frame's probabilities sum to one.
inline void check_log_prob(double value, int64_t n, int64_t t, int64_t c) {
  check(value <= kMostLogProb, "log_probs: expected natural logarithms of probabilities, got ",
        value, " in utterance ", n, ", frame ", t, ", class ", c,
        "; log_softmax makes them of logits");
}

// `total`: the log-sum-exp of a frame's logits.
inline void check_logits(double total, int64_t n, int64_t t) {
  check(std::isfinite(total),
        "logits: expected neither NaN nor +inf, and one finite value a frame, got otherwise in "
        "utterance ",
        n, ", frame ", t);
}

}  // namespace egl::ops
