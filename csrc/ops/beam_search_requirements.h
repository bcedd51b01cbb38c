// What the beam search asks of its options, and room for what it finds, wherever it runs.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <cstdint>
#include <initializer_list>
#include <limits>

#include "csrc/ops/check.h"
#include "csrc/ops/operators.h"

namespace egl::ops {

inline void check_beam(int64_t num_hypotheses, int64_t beam_width) {
  // The core counts prefixes in 32 bits, so no search finds more.
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  check(num_hypotheses >= 1 && num_hypotheses <= kMost, "num_hypotheses: expected 1 to ", kMost,
        ", got ", num_hypotheses);
  check(beam_width >= num_hypotheses,
        "beam_width: expected at least num_hypotheses = ", num_hypotheses, ", got ", beam_width);
}

// Uninitialized, for emissions [N, T, C].
inline Hypotheses new_hypotheses(const Tensor& emissions, int64_t num_hypotheses) {
  const auto empty = [&](std::initializer_list<int64_t> sizes, ScalarType dtype) {
    return torch::stable::new_empty(emissions, sizes, dtype);
  };
  const int64_t num_utterances = emissions.size(0);
  return {.labels = empty({num_utterances, num_hypotheses, emissions.size(1)}, ScalarType::Long),
          .label_lengths = empty({num_utterances, num_hypotheses}, ScalarType::Long),
          .log_prob = empty({num_utterances, num_hypotheses}, ScalarType::Double),
          .search_log_prob = empty({num_utterances, num_hypotheses}, ScalarType::Double),
          .counts = empty({num_utterances}, ScalarType::Long)};
}

}  // namespace egl::ops
