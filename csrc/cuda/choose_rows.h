// Which combinations of each utterance's cotangents are worth a backward pass: what
// csrc/core/cotangent_rows.h decides, for a batch, without the host.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "csrc/core/cotangent_budget.h"
#include "csrc/core/cotangent_rows.h"
#include "csrc/core/log_semiring.h"
#include "csrc/core/random_normals.h"
#include "csrc/cuda/device_memory.h"
#include "csrc/cuda/launch.h"
#include "csrc/cuda/shared_memory.h"
#include "csrc/cuda/symmetric_eigen.h"
#include "csrc/cuda/warps.h"

namespace egl::cuda {

// What the choice is based on.
struct CotangentGrams {
  double* gram;            // [N, K, K], of the cotangents as they are; overwritten
  const double* log_prob;  // [N, K]
  const double* sq_norms;  // [N, K]
  const uint64_t* hashes;  // [N, K], see hypothesis_normals.h
  const int64_t* counts;   // [N], in [0, K]
  int64_t num_utterances;  // N
  int64_t num_slots;       // K, up to kMaxMatrixSize
};

struct ChosenRows {
  int64_t max_rows;         // R, see max_rows_of()
  double* combinations;     // [N, R, K], of the columns; zero where there is no row or no column
  double* of_cotangents;    // [N, R, K], the same of the cotangents, scales included
  int64_t* num_directions;  // [N]
  int64_t* num_probes;      // [N]
};

// No utterance needs more rows.
inline int64_t max_rows_of(const CompressionOptions& options, int64_t num_slots) {
  const bool fixed = options.num_probes > 0 && options.num_probes < num_slots;
  return fixed ? options.num_probes : num_slots;
}

inline constexpr int kRowThreads = 256;

// The columns' scales, as in the core to the bit. A block owns an utterance at a time, its threads
// hypotheses. The sum is short enough that every thread computes all of it, in the core's order.
//   Shared memory: 8 bytes per hypothesis. Moves 16 bytes per hypothesis; K successive additions
//   take longer, 2 us for K = 100.
static __global__ void __launch_bounds__(kRowThreads)
    column_scales_kernel(CotangentGrams grams, CompressionOptions options, double* scales) {
  SharedArena arena = SharedArena::of_block();
  const int64_t num_slots = grams.num_slots;
  auto* shares = arena.take<double>(num_slots);
  for (int64_t n = blockIdx.x; n < grams.num_utterances; n += gridDim.x) {
    const int64_t count = grams.counts[n];
    const double* log_prob = grams.log_prob + n * num_slots;
    if (options.span > 0.0) {
      for (int64_t k = threadIdx.x; k < count; k += blockDim.x) {
        scales[n * num_slots + k] = unit_scale(grams.sq_norms[n * num_slots + k]);
      }
      continue;
    }
    double most = kNegInf;
    for (int64_t k = 0; k < count; ++k) most = std::max(most, log_prob[k]);
    for (int64_t k = threadIdx.x; k < count; k += blockDim.x) {
      shares[k] = std::exp(log_prob[k] - most);
    }
    __syncthreads();
    double sum = 0.0;
    for (int64_t k = 0; k < count; ++k) sum += shares[k];
    const double total = most + std::log(sum);
    for (int64_t k = threadIdx.x; k < count; k += blockDim.x) {
      scales[n * num_slots + k] = share_scale(log_prob[k], total);
    }
    __syncthreads();
  }
}

// Turns the cotangents' Gram matrix into that of the columns, upper triangle only, and breaks ties
// unless a span is wanted. A block owns a matrix at a time.
//   Shared memory: 16 bytes per hypothesis. Moves half a matrix there and back, 8 K^2 bytes: for
//   K = 100, 80 KB in the L2 cache, a microsecond or two.
static __global__ void __launch_bounds__(kRowThreads)
    scale_gram_kernel(CotangentGrams grams, bool with_ties, const double* scales) {
  SharedArena arena = SharedArena::of_block();
  const int64_t num_slots = grams.num_slots;
  auto* own_scales = arena.take<double>(num_slots);
  auto* diagonal = arena.take<double>(num_slots);
  for (int64_t n = blockIdx.x; n < grams.num_utterances; n += gridDim.x) {
    const int64_t count = grams.counts[n];
    double* gram = grams.gram + n * num_slots * num_slots;
    for (int64_t k = threadIdx.x; k < count; k += blockDim.x) {
      const double scale = scales[n * num_slots + k];
      own_scales[k] = scale;
      diagonal[k] = scale * gram[k * num_slots + k] * scale;
    }
    __syncthreads();
    double trace = 0.0;
    for (int64_t k = 0; k < count; ++k) trace += diagonal[k];
    for (int64_t i = threadIdx.x; i < count * count; i += blockDim.x) {
      const int64_t row = i / count;
      const int64_t column = i % count;
      double& entry = gram[row * num_slots + column];
      if (row < column) {
        entry = own_scales[row] * entry * own_scales[column];
      } else if (row == column) {
        entry = diagonal[row];
        if (with_ties) entry += kTieBreak * trace * tie_break_of(grams.hashes[n * num_slots + row]);
      }
    }
    __syncthreads();
  }
}

struct RowCountShared {
  double* values;     // [K]
  double* deviation;  // [K + 1]
  int32_t* order;     // [K]
  int* num_directions;
  int* num_probes;

  __host__ __device__ RowCountShared(SharedArena& arena, int64_t num_slots)
      : values(arena.take<double>(num_slots)),
        deviation(arena.take<double>(num_slots + 1)),
        order(arena.take<int32_t>(num_slots)),
        num_directions(arena.take<int>(1)),
        num_probes(arena.take<int>(1)) {}
};

// Counts the rows of both kinds by the rules of csrc/core/cotangent_budget.h, with one thread; for
// the rank of a span, each thread takes its own hypotheses. Call it between barriers.
__device__ inline void count_rows(const RowCountShared& shared, const double* vectors,
                                  int64_t stride, int64_t count,
                                  const CompressionOptions& options) {
  if (options.span > 0.0) {
    for (int64_t k = threadIdx.x; k < count; k += blockDim.x) {
      const auto entry = [&](int64_t r) { return vectors[shared.order[r] * stride + k]; };
      const int64_t rank = rank_of_column(shared.values, count, entry, options.span);
      atomicMax(shared.num_directions, static_cast<int>(rank));
    }
    return;
  }
  if (threadIdx.x != 0) return;
  const CotangentBudget budget =
      options.tolerance > 0.0
          ? budget_for_tolerance(shared.values, count, options.tolerance, shared.deviation)
          : budget_of_probes(shared.values, count, options.num_probes, shared.deviation);
  *shared.num_directions = static_cast<int>(budget.num_directions);
  *shared.num_probes = static_cast<int>(budget.num_probes);
}

// Counts rows and writes the directions. Where it is better to pull back the hypotheses one by one,
// each is a direction. A block owns an utterance at a time, its threads entries of directions.
//   Shared memory: 20 bytes per hypothesis. Moves the rows, 16 R K bytes, and for a span the
//   eigenvectors, from cache. A budget's K successive roots and quotients take longest: some 100 ns
//   each, 10 us for K = 100.
static __global__ void __launch_bounds__(kRowThreads)
    choose_directions_kernel(CotangentGrams grams, CompressionOptions options, const double* scales,
                             EigenPairs pairs, ChosenRows rows) {
  SharedArena arena = SharedArena::of_block();
  const int64_t num_slots = grams.num_slots;
  const RowCountShared shared(arena, num_slots);
  for (int64_t n = blockIdx.x; n < grams.num_utterances; n += gridDim.x) {
    const int64_t count = grams.counts[n];
    const double* vectors = pairs.vectors + n * num_slots * num_slots;
    if (threadIdx.x == 0) {
      *shared.num_directions = 0;
      *shared.num_probes = 0;
    }
    for (int64_t k = threadIdx.x; k < count; k += blockDim.x) {
      shared.values[k] = pairs.values[n * num_slots + k];
      shared.order[k] = pairs.order[n * num_slots + k];
    }
    __syncthreads();
    count_rows(shared, vectors, num_slots, count, options);
    __syncthreads();
    const int num_rows = *shared.num_directions + *shared.num_probes;
    const bool combine = options.span > 0.0 ? worth_combining(num_rows, count) : num_rows < count;
    const int64_t num_directions = combine ? *shared.num_directions : count;
    if (threadIdx.x == 0) {
      rows.num_directions[n] = num_directions;
      rows.num_probes[n] = combine ? *shared.num_probes : 0;
    }
    const int64_t first = n * rows.max_rows * num_slots;
    for (int64_t i = threadIdx.x; i < rows.max_rows * num_slots; i += blockDim.x) {
      const int64_t r = i / num_slots;
      const int64_t k = i % num_slots;
      double of_column = 0.0;
      double scale = 1.0;
      if (r < num_directions && k < count) {
        of_column = combine ? vectors[shared.order[r] * num_slots + k] : r == k ? 1.0 : 0.0;
        if (combine) scale = scales[n * num_slots + k];
      }
      rows.combinations[first + i] = of_column;
      rows.of_cotangents[first + i] = of_column * scale;
    }
    __syncthreads();
  }
}

// Writes the probes. A block owns a probe at a time, in three steps: threads draw the hypotheses'
// numbers, warps find the eigenvectors' signs, threads sum entries of the row in the core's order.
//   Shared memory: 16 bytes per hypothesis. Moves the eigenvectors beyond the directions twice,
//   from cache: for K = 100 up to 160 KB, some 3 us at 64 bytes per clock; 132 blocks or more at a
//   time.
static __global__ void __launch_bounds__(kRowThreads)
    add_probes_kernel(CotangentGrams grams, const double* scales, EigenPairs pairs,
                      ChosenRows rows) {
  SharedArena arena = SharedArena::of_block();
  const auto num_slots = static_cast<int>(grams.num_slots);
  auto* normals = arena.take<double>(num_slots);
  auto* signs = arena.take<double>(num_slots);
  const auto thread = static_cast<int>(threadIdx.x);
  const auto step = static_cast<int>(blockDim.x);
  const int lane = thread % kWarpSize;
  for (int64_t i = blockIdx.x; i < grams.num_utterances * rows.max_rows; i += gridDim.x) {
    const int64_t n = i / rows.max_rows;
    const int64_t probe = i % rows.max_rows;
    if (probe >= rows.num_probes[n]) continue;
    const auto count = static_cast<int>(grams.counts[n]);
    const auto num_directions = static_cast<int>(rows.num_directions[n]);
    const double* vectors = pairs.vectors + n * num_slots * num_slots;
    const int32_t* order = pairs.order + n * num_slots;
    for (int k = thread; k < count; k += step) {
      normals[k] = normal_of(grams.hashes[n * num_slots + k], probe);
    }
    __syncthreads();
    for (int r = num_directions + thread / kWarpSize; r < count; r += step / kWarpSize) {
      const double* vector = vectors + order[r] * num_slots;
      double along = 0.0;
      for (int k = lane; k < count; k += kWarpSize) along += vector[k] * normals[k];
      along = warp_sum(along);
      if (lane == 0) signs[r] = along < 0.0 ? -1.0 : 1.0;
    }
    __syncthreads();
    const int64_t first = (n * rows.max_rows + num_directions + probe) * num_slots;
    for (int k = thread; k < count; k += step) {
      double sum = 0.0;
      for (int r = num_directions; r < count; ++r)
        sum += signs[r] * vectors[order[r] * num_slots + k];
      rows.combinations[first + k] = sum;
      rows.of_cotangents[first + k] = sum * scales[n * num_slots + k];
    }
    __syncthreads();
  }
}

// Memory that the choice works in.
struct RowWorkspace {
  double* scales;  // [N, K]
  EigenPairs pairs;

  RowWorkspace(DeviceArena& arena, int64_t num_utterances, int64_t num_slots)
      : scales(arena.take<double>(num_utterances * num_slots)),
        pairs{arena.take<double>(num_utterances * num_slots),
              arena.take<double>(num_utterances * num_slots * num_slots),
              arena.take<int32_t>(num_utterances * num_slots)} {}
};

// Scales the columns, finds the eigenvectors of their Gram matrix, and chooses.
inline void choose_rows(const CotangentGrams& grams, const CompressionOptions& options,
                        void* workspace, const ChosenRows& rows, cudaStream_t stream) {
  const int64_t num_slots = grams.num_slots;
  DeviceArena arena(workspace);
  const RowWorkspace own(arena, grams.num_utterances, num_slots);
  const auto shape = [&](int64_t blocks, const SharedArena& arena) {
    return LaunchShape{blocks, threads_for(num_slots, kRowThreads), arena.bytes()};
  };
  SharedArena one;
  one.take<double>(num_slots);
  SharedArena two = one;
  two.take<double>(num_slots);
  SharedArena counting;
  const RowCountShared layout(counting, num_slots);
  launch("column_scales", column_scales_kernel, shape(grams.num_utterances, one), stream, grams,
         options, own.scales);
  launch("scale_gram", scale_gram_kernel, shape(grams.num_utterances, two), stream, grams,
         options.span == 0.0, own.scales);
  symmetric_eigen({grams.gram, grams.counts, grams.num_utterances, num_slots}, own.pairs, stream);
  launch("choose_directions", choose_directions_kernel, shape(grams.num_utterances, counting),
         stream, grams, options, own.scales, own.pairs, rows);
  if (options.span > 0.0) return;
  launch("add_probes", add_probes_kernel, shape(grams.num_utterances * rows.max_rows, two), stream,
         grams, own.scales, own.pairs, rows);
}

// Every hypothesis is a row. A thread owns entries of combinations. Moves 8 R K bytes per
// utterance.
static __global__ void __launch_bounds__(kRowThreads)
    all_rows_kernel(const int64_t* counts, int64_t num_utterances, int64_t num_slots,
                    ChosenRows rows) {
  const int64_t size = rows.max_rows * num_slots;
  const int64_t threads = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < num_utterances * size;
       i += threads) {
    const int64_t n = i / size;
    const int64_t k = i % num_slots;
    const int64_t r = i / num_slots % rows.max_rows;
    rows.combinations[i] = r == k && k < counts[n] ? 1.0 : 0.0;
    if (i % size != 0) continue;
    rows.num_directions[n] = counts[n];
    rows.num_probes[n] = 0;
  }
}

// The choice if no compression is wanted. Does not write rows.of_cotangents.
inline void all_rows(const int64_t* counts, int64_t num_utterances, int64_t num_slots,
                     const ChosenRows& rows, cudaStream_t stream) {
  const int64_t entries = num_utterances * rows.max_rows * num_slots;
  launch("all_rows", all_rows_kernel, {(entries + kRowThreads - 1) / kRowThreads, kRowThreads},
         stream, counts, num_utterances, num_slots, rows);
}

}  // namespace egl::cuda
