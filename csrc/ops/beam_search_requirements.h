// What the beam search asks of its options, wherever it runs.
#pragma once

#include <cstdint>

#include "csrc/ops/check.h"

namespace egl::ops {

inline void check_beam(int64_t num_hypotheses, int64_t beam_width) {
  check_count_argument(num_hypotheses, "num_hypotheses", 1);
  check(beam_width >= num_hypotheses,
        "beam_width: expected at least num_hypotheses = ", num_hypotheses, ", got ", beam_width);
}

}  // namespace egl::ops
