// What the beam search asks of its options, wherever it runs.
#pragma once

#include <cstdint>
#include <limits>

#include "csrc/ops/check.h"

namespace egl::ops {

inline void check_beam(int64_t num_hypotheses, int64_t beam_width) {
  // The core counts prefixes in 32 bits, so no search finds more.
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  check(num_hypotheses >= 1 && num_hypotheses <= kMost, "num_hypotheses: expected 1 to ", kMost,
        ", got ", num_hypotheses);
  check(beam_width >= num_hypotheses,
        "beam_width: expected at least num_hypotheses = ", num_hypotheses, ", got ", beam_width);
}

}  // namespace egl::ops
