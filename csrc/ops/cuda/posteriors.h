// Occupancy and cotangents of a batch, some utterances at a time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "csrc/cuda/ctc_posteriors.h"
#include "csrc/ops/cuda/ctc_inputs.h"
#include "csrc/ops/cuda/device.h"

namespace egl::ops::cuda {

// Tables of as many utterances at a time as fit into this; of one at least. In emulation so few
// that tests see several chunks.
#ifdef EGL_EMULATE
inline constexpr int64_t kTableBytes = int64_t{1} << 10;
#else
inline constexpr int64_t kTableBytes = int64_t{256} << 20;
#endif

// Fills `out`, which is as ctc_posteriors says, in memory from `like`'s allocator.
template <egl::cuda::PosteriorKind kKind, typename In, typename Out>
void posteriors(const DeviceScope& scope, const Tensor& like,
                const egl::cuda::EmissionBatch<In>& log_probs,
                const egl::cuda::LabelingBatch& labelings, int64_t blank,
                const egl::cuda::PosteriorOutput<Out>& out) {
  // Scratch memory of this size is a slice of 200 frames and 100 labels for each of 800 warps.
  constexpr size_t kScratchBytes = size_t{256} << 20;
  const int64_t num_utterances = log_probs.num_utterances;
  const int64_t bytes_each = log_probs.max_frames * log_probs.num_classes * int64_t{sizeof(double)};
  const int64_t most = std::clamp<int64_t>(kTableBytes / std::max<int64_t>(bytes_each, 1), 1,
                                           std::max<int64_t>(num_utterances, 1));
  const size_t bytes = egl::cuda::ctc_posteriors_workspace_bytes(
      most, log_probs.max_frames, log_probs.num_classes, labelings.num_slots, labelings.capacity,
      kScratchBytes);
  const Workspace workspace(like, bytes);
  for (int64_t first = 0; first < num_utterances; first += most) {
    const int64_t count = std::min(most, num_utterances - first);
    egl::cuda::ctc_posteriors<kKind>(
        log_probs.slice(first, count), labelings.slice(first, count), blank,
        out.slice(first, labelings.num_slots, log_probs.max_frames, log_probs.num_classes),
        workspace.data<void>(), bytes, scope.stream());
  }
}

}  // namespace egl::ops::cuda
