// The beam search and its outputs, for the operator of that name and for the fused one.
#pragma once

#include <cstdint>
#include <limits>

#include "csrc/cuda/ctc_beam_search.h"
#include "csrc/ops/cuda/ctc_inputs.h"
#include "csrc/ops/operators.h"

namespace egl::ops::cuda {

// Limits of the GPU, where a block's shared memory holds the beam.
inline void check_beam_fits(const EmissionBatch& batch, int64_t beam_width) {
  check(beam_width <= egl::cuda::kMaxBeamWidth, "beam_width: expected at most ",
        egl::cuda::kMaxBeamWidth, " on cuda, got ", beam_width,
        "; search wider beams (and more hypotheses) on the CPU");
  check(batch.num_classes() <= egl::cuda::kMaxClasses, batch.name,
        ": expected at most C=", egl::cuda::kMaxClasses, " on cuda, got C=", batch.num_classes());
  check(batch.max_frames() <= std::numeric_limits<int32_t>::max() / egl::cuda::kMaxBeamWidth - 1,
        batch.name, ": too many frames for a beam search on cuda: T=", batch.max_frames());
}

inline egl::cuda::RankedHypotheses view_of(const Hypotheses& found) {
  return {found.labels.size(1),
          found.labels.mutable_data_ptr<int64_t>(),
          found.label_lengths.mutable_data_ptr<int64_t>(),
          found.log_prob.mutable_data_ptr<double>(),
          found.search_log_prob.mutable_data_ptr<double>(),
          found.counts.mutable_data_ptr<int64_t>()};
}

// Values need not have been checked: where they are NaN or infinite, the result means nothing.
inline Hypotheses search(const DeviceScope& scope, const EmissionBatch& batch,
                         int64_t num_hypotheses, int64_t beam_width, int64_t blank) {
  Hypotheses found = new_hypotheses(batch.values, num_hypotheses);
  const Workspace memory(batch.values, egl::cuda::device_bytes_of<egl::cuda::BeamSearchMemory>(
                                           batch.num_utterances(), batch.max_frames(),
                                           batch.num_classes(), beam_width));
  batch.visit([&](const auto& view) {
    egl::cuda::beam_search(view, blank, beam_width, memory.data<void>(), view_of(found),
                           scope.stream());
  });
  return found;
}

}  // namespace egl::ops::cuda
