// The tokens of each frame that a prefix search may need, most probable first.
#pragma once

#include <cstdint>
#include <utility>

#include "csrc/core/log_semiring.h"
#include "csrc/cuda/block_select.h"
#include "csrc/cuda/ctc_batch.h"
#include "csrc/cuda/shared_memory.h"

namespace egl::cuda {

// Tokens are stored as 16 bits.
inline constexpr int64_t kMaxClasses = 10'000;

struct FrameTokens {
  int64_t capacity;  // tokens per frame, see token_capacity()
  uint16_t* labels;  // [N, T, capacity]
  int32_t* counts;   // [N, T]
  double* least;     // [N, T]: smallest log-probability of the frame that is finite, or +inf
};

// No row of the search needs more than the first `width` + 1 tokens of a frame (see the staircase
// in csrc/core/ctc_prefix_search.cpp). Tokens as probable as the last of them change nothing: in
// each row, `width` of the first width + 1 extensions are at least as probable and come earlier in
// labeling order. (Multiplication by the prefix's mass may round different probabilities to equal
// ones. Only then may a different labeling be kept than in the core.)
inline int64_t token_capacity(int64_t num_classes, int64_t beam_width) {
  return num_classes - 1 < beam_width + 1 ? num_classes - 1 : beam_width + 1;
}

struct TokenSelectionShared {
  SelectScratch* scratch;
  double* values;  // [capacity]
  int* labels;     // [capacity]
  int* count;
  unsigned long long* least;

  __host__ __device__ TokenSelectionShared(SharedArena& arena, int64_t capacity)
      : scratch(arena.take<SelectScratch>(1)),
        values(arena.take<double>(capacity)),
        labels(arena.take<int>(capacity)),
        count(arena.take<int>(1)),
        least(arena.take<unsigned long long>(1)) {}
};

// A block owns a frame at a time. Its threads stride over the classes: once to count them, then, if
// there are more than `capacity`, up to eight times for a radix selection (three or four, on
// speech) and once to gather; then they sort what was gathered.
//   Shared memory: 12 bytes per token of the capacity, and 1 KiB. Moves the frame's C values from
//   memory, again from cache for each further pass, and writes 2 bytes per token. Barriers
//   dominate: some 20 for 32 tokens, about 1 us per frame and block, of which an H100 holds about
//   2,000.
template <typename Scalar>
__global__ void __launch_bounds__(256, 4)
    select_tokens_kernel(EmissionBatch<Scalar> batch, int64_t blank, FrameTokens tokens) {
  SharedArena arena = SharedArena::of_block();
  const TokenSelectionShared shared(arena, tokens.capacity);
  const auto thread = static_cast<int64_t>(threadIdx.x);
  const auto step = static_cast<int64_t>(blockDim.x);
  const auto capacity = static_cast<int>(tokens.capacity);

  for (int64_t frame = blockIdx.x; frame < batch.num_utterances * batch.max_frames;
       frame += gridDim.x) {
    const int64_t n = frame / batch.max_frames;
    const int64_t t = frame % batch.max_frames;
    const Emissions<Scalar> log_probs = batch.utterance(n);
    if (t >= log_probs.num_frames) continue;

    if (threadIdx.x == 0) {
      *shared.count = 0;
      *shared.least = ~0ull;
    }
    __syncthreads();
    int own = 0;
    unsigned long long least = ~0ull;
    for (int64_t c = thread; c < batch.num_classes; c += step) {
      const double value = log_probs(t, c);
      if (!(value > kNegInf)) continue;
      const unsigned long long key = ordered_key(value);
      least = key < least ? key : least;
      own += c != blank ? 1 : 0;
    }
    atomicAdd(shared.count, own);
    atomicMin(shared.least, least);
    __syncthreads();
    const int possible = *shared.count;
    if (threadIdx.x == 0) {
      // The key back into its number.
      const unsigned long long key = *shared.least;
      const bool negative = key >> 63 == 0;
      const auto bits = static_cast<long long>(negative ? ~key : key & ~(1ull << 63));
      tokens.least[frame] = key == ~0ull ? -kNegInf : __longlong_as_double(bits);
    }
    __syncthreads();

    const auto for_each = [&](const auto& visit) {
      for (int64_t c = thread; c < batch.num_classes; c += step) {
        const double value = log_probs(t, c);
        if (c != blank && value > kNegInf) visit(value, static_cast<int>(c));
      }
    };
    SelectedKeys selected{0, 0};
    uint64_t least_of_ties = 0;  // of ties with the last, those with the smallest labels are taken
    if (possible > capacity) {
      selected = select_largest(
          [&](const auto& visit) {
            for_each([&](double value, int) { visit(ordered_key(value)); });
          },
          capacity, *shared.scratch);
      if (selected.surplus > 0) {
        int above = 0;
        for_each([&](double value, int) { above += ordered_key(value) > selected.floor ? 1 : 0; });
        if (threadIdx.x == 0) *shared.count = 0;
        __syncthreads();
        atomicAdd(shared.count, above);
        __syncthreads();
        const int wanted = capacity - *shared.count;
        least_of_ties = select_largest(
                            [&](const auto& visit) {
                              for_each([&](double value, int label) {
                                if (ordered_key(value) == selected.floor) visit(~uint64_t(label));
                              });
                            },
                            wanted, *shared.scratch)
                            .floor;
      }
    }
    __syncthreads();
    if (threadIdx.x == 0) *shared.count = 0;
    __syncthreads();
    for_each([&](double value, int label) {
      const uint64_t key = ordered_key(value);
      if (key < selected.floor) return;
      if (selected.surplus > 0 && key == selected.floor && ~uint64_t(label) < least_of_ties) return;
      const int place = atomicAdd(shared.count, 1);
      shared.values[place] = value;
      shared.labels[place] = label;
    });
    __syncthreads();
    const int count = *shared.count;
    sort_block(
        count,
        [&](int i, int j) {
          return shared.values[i] != shared.values[j] ? shared.values[i] > shared.values[j]
                                                      : shared.labels[i] < shared.labels[j];
        },
        [&](int i, int j) {
          std::swap(shared.values[i], shared.values[j]);
          std::swap(shared.labels[i], shared.labels[j]);
        });
    for (auto i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x)) {
      tokens.labels[frame * tokens.capacity + i] = static_cast<uint16_t>(shared.labels[i]);
    }
    if (threadIdx.x == 0) tokens.counts[frame] = count;
    __syncthreads();
  }
}

template <typename Scalar>
void select_tokens(const EmissionBatch<Scalar>& batch, int64_t blank, const FrameTokens& tokens,
                   cudaStream_t stream) {
  const LaunchShape shape{batch.num_utterances * batch.max_frames,
                          threads_for(batch.num_classes, 256),
                          shared_bytes_of<TokenSelectionShared>(tokens.capacity)};
  launch("select_tokens", select_tokens_kernel<Scalar>, shape, stream, batch, blank, tokens);
}

}  // namespace egl::cuda
