// The beam search and its outputs, for the operator of that name and for the fused one.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <cstdint>
#include <limits>

#include "csrc/cuda/ctc_beam_search.h"
#include "csrc/ops/beam_search_requirements.h"
#include "csrc/ops/cuda/ctc_inputs.h"

namespace egl::ops::cuda {

// What only a GPU cannot do: its beam lives in a block's shared memory.
inline void check_beam_fits(const EmissionBatch& batch, int64_t beam_width) {
  check(beam_width <= egl::cuda::kMaxBeamWidth, "beam_width: expected at most ",
        egl::cuda::kMaxBeamWidth, " on cuda, got ", beam_width,
        "; wider beams (and more hypotheses) are searched on the CPU");
  check(batch.num_classes() <= egl::cuda::kMaxClasses, batch.name,
        ": expected at most C=", egl::cuda::kMaxClasses, " on cuda, got C=", batch.num_classes());
  check(batch.max_frames() <= std::numeric_limits<int32_t>::max() / egl::cuda::kMaxBeamWidth - 1,
        batch.name, ": too many frames for a beam search on cuda: T=", batch.max_frames());
}

struct Hypotheses {
  Hypotheses(const EmissionBatch& batch, int64_t num_hypotheses)
      : num_hypotheses(num_hypotheses),
        labels(empty(batch, {batch.num_utterances(), num_hypotheses, batch.max_frames()},
                     ScalarType::Long)),
        label_lengths(empty(batch, {batch.num_utterances(), num_hypotheses}, ScalarType::Long)),
        log_prob(empty(batch, {batch.num_utterances(), num_hypotheses}, ScalarType::Double)),
        search_log_prob(empty(batch, {batch.num_utterances(), num_hypotheses}, ScalarType::Double)),
        counts(empty(batch, {batch.num_utterances()}, ScalarType::Long)) {}

  egl::cuda::RankedHypotheses view() {
    return {num_hypotheses,
            labels.mutable_data_ptr<int64_t>(),
            label_lengths.mutable_data_ptr<int64_t>(),
            log_prob.mutable_data_ptr<double>(),
            search_log_prob.mutable_data_ptr<double>(),
            counts.mutable_data_ptr<int64_t>()};
  }

  int64_t num_hypotheses;
  Tensor labels;           // [N, K, T]
  Tensor label_lengths;    // [N, K]
  Tensor log_prob;         // [N, K]
  Tensor search_log_prob;  // [N, K]
  Tensor counts;           // [N]

 private:
  static Tensor empty(const EmissionBatch& batch, std::initializer_list<int64_t> sizes,
                      ScalarType dtype) {
    return torch::stable::new_empty(batch.values, sizes, dtype);
  }
};

// Of log-probabilities whose values nobody needs to have looked at: where they are NaN or infinite
// the result means nothing.
inline Hypotheses search(const DeviceScope& scope, const EmissionBatch& batch,
                         int64_t num_hypotheses, int64_t beam_width, int64_t blank) {
  Hypotheses found(batch, num_hypotheses);
  const egl::cuda::BeamSearchWorkspace layout(batch.num_utterances(), batch.max_frames(),
                                              batch.num_classes(), beam_width);
  const Workspace memory(batch.values, layout.bytes());
  batch.visit([&](const auto& view) {
    egl::cuda::beam_search(view, blank, beam_width, layout, memory.data<void>(), found.view(),
                           scope.stream());
  });
  return found;
}

}  // namespace egl::ops::cuda
