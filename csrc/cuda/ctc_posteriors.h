// Exact probabilities of a batch's labelings, and occupancy or cotangents, by the operations of
// csrc/core/ctc_posteriors.cpp in their order: probabilities are equal to the bit where exp and log
// are the host's, and the rest as far as sums over states allow.
//
// Each warp works on one labeling after another, independently. A warp mostly waits for its
// previous frame, so speed comes from their number, 20 per multiprocessor.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>

#include "csrc/core/linear_domain.h"
#include "csrc/core/log_semiring.h"
#include "csrc/cuda/ctc_batch.h"
#include "csrc/cuda/ctc_forward_backward.h"
#include "csrc/cuda/launch.h"
#include "csrc/cuda/linear_forward_backward.h"
#include "csrc/cuda/platform.h"
#include "csrc/cuda/posterior_rows.h"
#include "csrc/cuda/warp_labeling.h"
#include "csrc/cuda/warps.h"

namespace egl::cuda {

// The emissions as probabilities, for all labelings of an utterance.
struct ProbabilityTables {
  static constexpr int kIncomplete = 1;  // some are not linear: see is_linear()
  static constexpr int kFaint = 2;       // some are so small that products may be lost

  double* probs;   // [N, T, C]; padding is not written
  int32_t* flags;  // [N]: kIncomplete, kFaint
};

// A warp takes frames, a lane every 32nd class. Reads the log-probabilities and writes 8 bytes for
// each: with float32, 3.6 us per million on an H100, and half of that for the exponentials.
template <typename Scalar>
__global__ void __launch_bounds__(kThreadsPerBlock)
    probability_tables_kernel(EmissionBatch<Scalar> log_probs, ProbabilityTables tables) {
  const WarpIndex self = this_warp();
  const int64_t num_classes = log_probs.num_classes;
  const int64_t num_frames = log_probs.num_utterances * log_probs.max_frames;
  for (int64_t frame = self.warp; frame < num_frames; frame += self.num_warps) {
    const int64_t n = frame / log_probs.max_frames;
    const int64_t t = frame % log_probs.max_frames;
    const Emissions<Scalar> frames = log_probs.utterance(n);
    if (t >= frames.num_frames) continue;
    int flags = 0;
    for (int64_t c = self.lane; c < num_classes; c += kWarpSize) {
      const double value = frames(t, c);
      flags |= is_linear(value) ? 0 : ProbabilityTables::kIncomplete;
      flags |= is_faint(value) ? ProbabilityTables::kFaint : 0;
      tables.probs[frame * num_classes + c] = std::exp(value);
    }
    if (flags != 0) atomicOr(&tables.flags[n], flags);
  }
}

// The most frames and labels that the scratch memory of one warp must hold.
struct LongestLabeling {
  unsigned long long num_frames;
  unsigned long long num_labels;
};

// A thread takes labelings, then a warp finds its largest. Moves 8 bytes per labeling.
static __global__ void __launch_bounds__(kThreadsPerBlock)
    longest_labeling_kernel(const int64_t* lengths, int64_t max_frames, LabelingBatch labelings,
                            LongestLabeling* longest) {
  unsigned long long num_frames = 0;
  unsigned long long num_labels = 0;
  for_each_item(labelings.num_utterances * labelings.num_slots, [&](int64_t slot) {
    const int64_t n = slot / labelings.num_slots;
    const int64_t k = slot % labelings.num_slots;
    if (k >= labelings.count(n)) return;
    const auto frames = static_cast<unsigned long long>(clamped(lengths[n], max_frames));
    const auto labels = static_cast<unsigned long long>(labelings.length(n, k));
    num_frames = num_frames < frames ? frames : num_frames;
    num_labels = num_labels < labels ? labels : num_labels;
  });
  num_frames = warp_max(num_frames);
  num_labels = warp_max(num_labels);
  if (threadIdx.x % kWarpSize != 0) return;
  atomicMax(&longest->num_frames, num_frames);
  atomicMax(&longest->num_labels, num_labels);
}

inline constexpr int kPosteriorThreads = 128;
inline constexpr int64_t kMostPosteriorWarps = 8192;

// What kernels of posteriors share.
template <typename Scalar>
struct PosteriorTask {
  LabelingBatch labelings;
  const int64_t* lengths;
  int64_t max_frames;
  int64_t num_classes;
  int64_t blank;
  ProbabilityTables tables;
  PosteriorOutput<Scalar> out;
  LongestLabeling* longest;  // what a slice of the scratch memory has to hold
  double* scratch;
  int64_t scratch_size;  // in doubles

  __device__ int64_t slot(int64_t n, int64_t k) const { return n * labelings.num_slots + k; }
  __device__ double& log_prob(int64_t n, int64_t k) const { return out.log_prob[slot(n, k)]; }
  __device__ double* probs(int64_t n) const { return tables.probs + n * max_frames * num_classes; }

  template <PosteriorKind kKind>
  __device__ PosteriorRows<kKind, Scalar> rows(int64_t n, int64_t k) const {
    return {out.rows + slot(n, k) * max_frames * num_classes, probs(n),
            static_cast<int>(num_classes)};
  }

  __device__ WarpLabeling labeling(int64_t n, int64_t k, double* memory) const {
    return {
        labelings, n, k, static_cast<int>(clamped(lengths[n], max_frames)), static_cast<int>(blank),
        memory};
  }

  // Calls body(n, k, slice) for this warp's labelings. Hypothesis by hypothesis, so that each warp
  // gets long and short utterances alike. Warps without a slice get no labelings.
  template <typename Body>
  __device__ void for_each_labeling(const Body& body) const {
    const WarpIndex self = this_warp();
    const int64_t slice =
        std::max<int64_t>(1, LabelingScratch::size(static_cast<int64_t>(longest->num_frames),
                                                   static_cast<int64_t>(longest->num_labels)));
    const int64_t num_warps = std::min(self.num_warps, scratch_size / slice);
    if (self.warp >= num_warps) return;
    const int64_t num_labelings = labelings.num_utterances * labelings.num_slots;
    for (int64_t i = self.warp; i < num_labelings; i += num_warps) {
      body(i % labelings.num_utterances, i / labelings.num_utterances, scratch + self.warp * slice);
    }
  }
};

// A warp owns a slice of the scratch memory. No shared memory. A labeling for which the linear
// domain fails gets NaN for its log-probability, and its rows are meaningless.
//   Bytes, for T frames and U labels: alpha is written and read once, and its label rows are
//   written again, 40 T U; and the rows, 4 or 8 T C. For 100 labelings with 30 classes, 200 frames
//   and 100 labels: 82 MB per utterance, or 24 us on an H100 if L2 caught nothing. Latency: a frame
//   waits some 500 cycles for the one before, in either direction, which is 0.12 ms per labeling,
//   or 4.5 us for 100 of them with 2,640 warps at once (20 per multiprocessor); 15 us if scratch
//   memory is 256 MiB, enough for 800. So bandwidth is the limit.
template <PosteriorKind kKind, typename Scalar>
__global__ void __launch_bounds__(kPosteriorThreads, 5)
    linear_posteriors_kernel(PosteriorTask<Scalar> task) {
  task.for_each_labeling([&](int64_t n, int64_t k, double* memory) {
    const auto rows = task.template rows<kKind>(n, k);
    double log_prob = kNegInf;
    int num_written = 0;
    if (k < task.labelings.count(n)) {
      const WarpLabeling labeling = task.labeling(n, k, memory);
      rows.prepare(labeling);
      if (labeling.num_frames == 0) {
        log_prob = labeling.num_labels == 0 ? 0.0 : kNegInf;
      } else if (labeling.num_labels <= labeling.num_frames) {
        const int flags = task.tables.flags[n];
        num_written = labeling.num_frames;
        log_prob =
            (flags & ProbabilityTables::kIncomplete) != 0
                ? std::numeric_limits<double>::quiet_NaN()
                : LinearForwardBackward(labeling, task.probs(n), static_cast<int>(task.num_classes))
                      .run(rows);
        if ((flags & ProbabilityTables::kFaint) != 0 && log_prob < kSafe) {
          log_prob = std::numeric_limits<double>::quiet_NaN();
        }
      }
    }
    rows.clear(num_written, task.max_frames);
    if (WarpLabeling::lane() == 0) task.log_prob(n, k) = log_prob;
  });
}

// The same for labelings whose log-probability is NaN, at ten to twenty times the cost: up to two
// logarithms and four exponentials per state. There are few, unless the model is useless.
template <PosteriorKind kKind, typename In, typename Out>
__global__ void __launch_bounds__(kPosteriorThreads, 4)
    log_posteriors_kernel(EmissionBatch<In> log_probs, PosteriorTask<Out> task) {
  task.for_each_labeling([&](int64_t n, int64_t k, double* memory) {
    if (!std::isnan(task.log_prob(n, k))) return;
    const auto rows = task.template rows<kKind>(n, k);
    const WarpLabeling labeling = task.labeling(n, k, memory);
    rows.prepare(labeling);
    const double log_prob = LogForwardBackward<In>(labeling, log_probs.utterance(n)).run(rows);
    if (log_prob == kNegInf) rows.clear(0, labeling.num_frames);
    if (WarpLabeling::lane() == 0) task.log_prob(n, k) = log_prob;
  });
}

// How ctc_posteriors divides its workspace, in units of 8 bytes.
struct PosteriorWorkspace {
  int64_t tables;      // N * T * C
  int64_t flags;       // N of 4 bytes
  int64_t slice;       // for a labeling as long as shapes allow
  int64_t num_slices;  // as many as are of use

  PosteriorWorkspace(int64_t num_utterances, int64_t max_frames, int64_t num_classes,
                     int64_t num_slots, int64_t capacity)
      : tables(num_utterances * max_frames * num_classes),
        flags((num_utterances + 1) / 2),
        slice(LabelingScratch::size(max_frames, capacity)),
        num_slices(std::min(num_utterances * num_slots, kMostPosteriorWarps)) {}

  static constexpr int64_t kHeader = sizeof(LongestLabeling) / sizeof(double);
};

// Bytes of workspace for ctc_posteriors: tables of 8 N T C, and scratch memory. More scratch is
// faster until every warp has a slice of 8 T (2 U + 3) for the longest labeling. It is
// `scratch_bytes`, but no more than that, and at least one slice for the longest labeling that the
// shapes allow.
inline size_t ctc_posteriors_workspace_bytes(int64_t num_utterances, int64_t max_frames,
                                             int64_t num_classes, int64_t num_slots,
                                             int64_t capacity, size_t scratch_bytes) {
  const PosteriorWorkspace parts(num_utterances, max_frames, num_classes, num_slots, capacity);
  const auto allowed = static_cast<int64_t>(scratch_bytes / sizeof(double));
  const int64_t scratch = std::max(parts.slice, std::min(allowed, parts.slice * parts.num_slices));
  return static_cast<size_t>(PosteriorWorkspace::kHeader + parts.tables + parts.flags + scratch) *
         sizeof(double);
}

// Writes log-probabilities and rows of all N utterances and K slots: minus infinity and zero where
// there is no labeling or an impossible one, and zero on padding frames. Labels must be classes
// other than the blank, log-probabilities at most kMostLogProb. `workspace` has
// `workspace_bytes`, of the function above, and may serve again once this is launched. Throws
// std::invalid_argument where a size is more than 2^30.
template <PosteriorKind kKind, typename In, typename Out>
void ctc_posteriors(const EmissionBatch<In>& log_probs, const LabelingBatch& labelings,
                    int64_t blank, const PosteriorOutput<Out>& out, void* workspace,
                    size_t workspace_bytes, cudaStream_t stream) {
  const PosteriorWorkspace parts(log_probs.num_utterances, log_probs.max_frames,
                                 log_probs.num_classes, labelings.num_slots, labelings.capacity);
  constexpr int64_t kMost = int64_t{1} << 30;
  if (log_probs.max_frames > kMost || log_probs.num_classes > kMost || labelings.capacity > kMost) {
    throw std::invalid_argument("more than 2^30 frames, classes or labels");
  }
  auto* const start = static_cast<double*>(workspace);
  double* const probs = start + PosteriorWorkspace::kHeader;
  double* const flags = probs + parts.tables;
  double* const scratch = flags + parts.flags;
  const PosteriorTask<Out> task{
      labelings,
      log_probs.lengths,
      log_probs.max_frames,
      log_probs.num_classes,
      blank,
      {probs, reinterpret_cast<int32_t*>(flags)},
      out,
      reinterpret_cast<LongestLabeling*>(start),
      scratch,
      static_cast<int64_t>(workspace_bytes / sizeof(double)) - (scratch - start)};

  check_cuda(cudaMemsetAsync(start, 0, sizeof(LongestLabeling), stream), "cudaMemsetAsync");
  check_cuda(cudaMemsetAsync(flags, 0, parts.flags * sizeof(double), stream), "cudaMemsetAsync");
  launch("longest_labeling", longest_labeling_kernel,
         thread_for_each(labelings.num_utterances * labelings.num_slots), stream, log_probs.lengths,
         log_probs.max_frames, labelings, task.longest);
  launch("probability_tables", probability_tables_kernel<In>,
         warp_for_each(log_probs.num_utterances * log_probs.max_frames), stream, log_probs,
         task.tables);
  constexpr int64_t kWarps = kPosteriorThreads / kWarpSize;
  const LaunchShape shape{(parts.num_slices + kWarps - 1) / kWarps, kPosteriorThreads};
  launch("linear_posteriors", linear_posteriors_kernel<kKind, Out>, shape, stream, task);
  launch("log_posteriors", log_posteriors_kernel<kKind, In, Out>, shape, stream, log_probs, task);
}

}  // namespace egl::cuda
