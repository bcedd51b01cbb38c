// Occupancy or cotangents of a batch, some utterances at a time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "csrc/cuda/ctc_posteriors.h"
#include "csrc/ops/cuda/ctc_inputs.h"
#include "csrc/ops/cuda/device.h"

namespace egl::ops::cuda {

// At a time, as many utterances as have tables that fit into this; at least one. In emulation it is
// small, so that tests see several chunks.
#ifdef EGL_EMULATE
inline constexpr int64_t kTableBytes = int64_t{1} << 10;
#else
inline constexpr int64_t kTableBytes = int64_t{256} << 20;
#endif

// Fills `out`, as ctc_posteriors says, for values of the type Out.
template <egl::cuda::PosteriorKind kKind, typename Out, typename In>
void posteriors(const DeviceScope& scope, const egl::cuda::EmissionBatch<In>& log_probs,
                const LabelingBatch& labeling_tensors, int64_t blank,
                const PosteriorTensors& out_tensors) {
  const egl::cuda::LabelingBatch labelings = labeling_tensors.view();
  const egl::cuda::PosteriorOutput<Out> out{out_tensors.log_prob.mutable_data_ptr<double>(),
                                            out_tensors.rows.mutable_data_ptr<Out>()};
  // Scratch memory of this size is a slice of 200 frames and 100 labels for each of 800 warps.
  constexpr size_t kScratchBytes = size_t{256} << 20;
  const int64_t num_utterances = log_probs.num_utterances;
  const int64_t bytes_each = log_probs.max_frames * log_probs.num_classes * int64_t{sizeof(double)};
  const int64_t most = std::clamp<int64_t>(kTableBytes / std::max<int64_t>(bytes_each, 1), 1,
                                           std::max<int64_t>(num_utterances, 1));
  const size_t bytes = egl::cuda::ctc_posteriors_workspace_bytes(
      most, log_probs.max_frames, log_probs.num_classes, labelings.num_slots, labelings.capacity,
      kScratchBytes);
  const Workspace workspace(out_tensors.rows, bytes);
  for (int64_t first = 0; first < num_utterances; first += most) {
    const int64_t count = std::min(most, num_utterances - first);
    egl::cuda::ctc_posteriors<kKind>(
        log_probs.slice(first, count), labelings.slice(first, count), blank,
        out.slice(first, labelings.num_slots, log_probs.max_frames, log_probs.num_classes),
        workspace.data<void>(), bytes, scope.stream());
  }
}

}  // namespace egl::ops::cuda
