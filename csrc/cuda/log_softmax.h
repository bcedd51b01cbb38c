// The log-softmax of all frames in double.
#pragma once

#include <cmath>
#include <cstdint>

#include "csrc/core/log_semiring.h"
#include "csrc/cuda/check_ctc_inputs.h"
#include "csrc/cuda/ctc_batch.h"
#include "csrc/cuda/launch.h"
#include "csrc/cuda/platform.h"
#include "csrc/cuda/shared_memory.h"
#include "csrc/cuda/warps.h"

namespace egl::cuda {

// The threads that share a frame, a warp or a block, and their reductions.
template <bool kWholeBlock>
class FrameTeam {
 public:
  // Shared memory of a block.
  static __host__ __device__ double* layout(SharedArena& arena) {
    return kWholeBlock ? arena.take<double>(kThreadsPerBlock / kWarpSize) : nullptr;
  }

  __device__ explicit FrameTeam(double* shared) : shared_(shared) {}

  __device__ int64_t first_frame() const { return kWholeBlock ? blockIdx.x : this_warp().warp; }
  __device__ int64_t num_teams() const { return kWholeBlock ? gridDim.x : this_warp().num_warps; }
  __device__ int rank() const { return static_cast<int>(threadIdx.x) % size(); }
  __device__ int size() const { return kWholeBlock ? kThreadsPerBlock : kWarpSize; }

  // In a fixed order.
  __device__ double sum(double value) const {
    value = warp_sum(value);
    if constexpr (kWholeBlock) {
      share(value);
      value = 0.0;
      for (int i = 0; i < kThreadsPerBlock / kWarpSize; ++i) value += shared_[i];
      __syncthreads();
    }
    return value;
  }

  __device__ double max(double value) const {
    value = warp_max(value);
    if constexpr (kWholeBlock) {
      share(value);
      value = kNegInf;
      for (int i = 0; i < kThreadsPerBlock / kWarpSize; ++i) {
        value = value < shared_[i] ? shared_[i] : value;
      }
      __syncthreads();
    }
    return value;
  }

 private:
  __device__ void share(double of_warp) const {
    if (threadIdx.x % kWarpSize == 0) shared_[threadIdx.x / kWarpSize] = of_warp;
    __syncthreads();
  }

  double* shared_;
};

// A frame belongs to a warp or, with more than a thousand classes, to a block; a thread owns every
// 32nd, or 256th, class of it. Shared memory: eight doubles where a block shares a frame. Logits
// are read three times, twice from cache, and 8 bytes per class are written: with float32, 12 bytes
// per class in all, or 3.6 us per million on an H100. Exponentials take 1.5 us per million.
template <typename Scalar, bool kWholeBlock>
__global__ void __launch_bounds__(kThreadsPerBlock, 2)
    log_softmax_kernel(EmissionBatch<Scalar> logits, double* out, Place* first_bad_frame,
                       int32_t* bad_utterances) {
  SharedArena arena = SharedArena::of_block();
  const FrameTeam<kWholeBlock> team(FrameTeam<kWholeBlock>::layout(arena));
  const int64_t num_classes = logits.num_classes;
  const int64_t num_frames = logits.num_utterances * logits.max_frames;
  for (int64_t frame = team.first_frame(); frame < num_frames; frame += team.num_teams()) {
    const int64_t n = frame / logits.max_frames;
    const int64_t t = frame % logits.max_frames;
    const Emissions<Scalar> frames = logits.utterance(n);
    double* row = out + frame * num_classes;
    if (t >= frames.num_frames) {
      for (int64_t c = team.rank(); c < num_classes; c += team.size()) row[c] = 0.0;
      continue;
    }
    double largest = kNegInf;
    for (int64_t c = team.rank(); c < num_classes; c += team.size()) {
      const double value = frames(t, c);
      largest = largest < value ? value : largest;
    }
    largest = team.max(largest);
    // NaN if one is NaN, if one is infinite, and if none is finite.
    double sum = 0.0;
    for (int64_t c = team.rank(); c < num_classes; c += team.size()) {
      sum += std::exp(frames(t, c) - largest);
    }
    const double log_sum = std::log(team.sum(sum));
    const bool good = std::isfinite(largest + log_sum);
    const double uniform = -std::log(static_cast<double>(num_classes));
    for (int64_t c = team.rank(); c < num_classes; c += team.size()) {
      // In two steps: added to a logit of 1e16, the sum's logarithm would be rounded away.
      row[c] = good ? (frames(t, c) - largest) - log_sum : uniform;
    }
    if (good || team.rank() != 0) continue;
    if (first_bad_frame != nullptr) atomicMin(first_bad_frame, static_cast<Place>(frame));
    if (bad_utterances != nullptr) atomicOr(&bad_utterances[n], 1);
  }
}

// A thread takes utterances, 12 bytes each.
static __global__ void __launch_bounds__(kThreadsPerBlock)
    flag_bad_lengths_kernel(const int64_t* lengths, int64_t num_utterances, int64_t max_frames,
                            int32_t* bad_utterances) {
  for_each_item(num_utterances, [&](int64_t n) {
    bad_utterances[n] = lengths[n] < 0 || lengths[n] > max_frames ? 1 : 0;
  });
}

// Writes [N, T, C], with zeros for padding. Bad frames (with NaN, plus infinity, or no finite
// value) become uniform, so that later kernels have numbers to work on, and are reported in two
// ways, either of which may be null: the index n * T + t of the first lowers `first_bad_frame`,
// which the caller initializes; and `bad_utterances` [N] is 1 where an utterance has such a frame
// or a length out of range, else 0.
template <typename Scalar>
void log_softmax(const EmissionBatch<Scalar>& logits, double* out, Place* first_bad_frame,
                 int32_t* bad_utterances, cudaStream_t stream) {
  if (bad_utterances != nullptr) {
    launch("flag_bad_lengths", flag_bad_lengths_kernel, thread_for_each(logits.num_utterances),
           stream, logits.lengths, logits.num_utterances, logits.max_frames, bad_utterances);
  }
  const int64_t num_frames = logits.num_utterances * logits.max_frames;
  constexpr int64_t kMostClassesOfAWarp = 1024;
  if (logits.num_classes <= kMostClassesOfAWarp) {
    launch("log_softmax", log_softmax_kernel<Scalar, false>, warp_for_each(num_frames), stream,
           logits, out, first_bad_frame, bad_utterances);
  } else {
    SharedArena arena;
    FrameTeam<true>::layout(arena);
    launch("log_softmax", log_softmax_kernel<Scalar, true>,
           {num_frames, kThreadsPerBlock, arena.bytes()}, stream, logits, out, first_bad_frame,
           bad_utterances);
  }
}

}  // namespace egl::cuda
