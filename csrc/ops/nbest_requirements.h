// What ctc_nbest_cotangents asks of its arguments beyond logits and lengths, wherever it runs.
#pragma once

#include <cstdint>
#include <optional>

#include "csrc/core/cotangent_rows.h"
#include "csrc/ops/beam_search_requirements.h"
#include "csrc/ops/check.h"

namespace egl::ops {

inline void check_nbest_arguments(const Tensor& logits, int64_t num_hypotheses, int64_t beam_width,
                                  const CompressionOptions& options, const Tensor& keys,
                                  const std::optional<Tensor>& frame_gram) {
  check_beam(num_hypotheses, beam_width);
  const auto& [tolerance, num_probes, span] = options;
  check(tolerance >= 0.0 && tolerance < 1.0, "tolerance: expected a share between 0 and 1, got ",
        tolerance);
  check(num_probes == 0 || num_probes >= 2, "probes: expected at least 2, got ", num_probes);
  check(span >= 0.0 && span < 1.0, "span: expected a share between 0 and 1, got ", span);
  check((tolerance > 0.0) + (num_probes > 0) + (span > 0.0) <= 1,
        "tolerance, probes and span: expected one of them, not several");
  check_tensor(keys, "keys", {ScalarType::Long}, {{"N", logits.size(0)}});
  if (frame_gram.has_value()) {
    check_tensor(*frame_gram, "frame_gram", {ScalarType::Double},
                 {{"N", logits.size(0)}, {"T", logits.size(1)}, {"T", logits.size(1)}});
  }
}

}  // namespace egl::ops
