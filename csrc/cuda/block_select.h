// Selection and sorting by a whole block.
#pragma once

#include <cstdint>

#include "csrc/cuda/launch.h"

namespace egl::cuda {

// Maps doubles, which are not NaN, to unsigned numbers in the same order. Both zeros map to the
// same.
__device__ inline uint64_t ordered_key(double value) {
  const auto bits = static_cast<uint64_t>(__double_as_longlong(value + 0.0));
  constexpr uint64_t kSign = uint64_t{1} << 63;
  return (bits & kSign) != 0 ? ~bits : bits | kSign;
}

struct SelectScratch {
  static constexpr int kBins = 256;
  int bins[kBins];
  int digit;
  int above;  // in bins above the digit's
  int equal;  // in the digit's bin
};

// Exactly `rank` + `surplus` keys are at least `floor`. Unless surplus is 0, floor is the key of
// this rank itself, and surplus + 1 or more keys are equal to it.
struct SelectedKeys {
  uint64_t floor;
  int surplus;
};

// By the first warp: the bin that holds the key of this rank, counted from the largest.
__device__ inline void find_bin(int rank, SelectScratch& scratch) {
  constexpr int kBinsOfLane = SelectScratch::kBins / kWarpSize;
  const auto lane = static_cast<int>(threadIdx.x);
  const int top = SelectScratch::kBins - 1 - lane * kBinsOfLane;
  int own = 0;
  for (int i = 0; i < kBinsOfLane; ++i) own += scratch.bins[top - i];
  int through = own;  // keys in the bins of this lane and of all above
  for (int delta = 1; delta < kWarpSize; delta *= 2) {
    const int other = __shfl_up_sync(kFullWarp, through, static_cast<unsigned>(delta));
    if (lane >= delta) through += other;
  }
  const unsigned reached = __ballot_sync(kFullWarp, through >= rank);
  if (lane != __ffs(static_cast<int>(reached)) - 1) return;
  int above = through - own;
  int bin = top;
  while (above + scratch.bins[bin] < rank) above += scratch.bins[bin--];
  scratch.digit = bin;
  scratch.above = above;
  scratch.equal = scratch.bins[bin];
}

// Radix selection, from the highest byte down, as far as needed. for_each_key(visit) calls `visit`
// with each key of this thread, the same ones each time. The block has at least `rank` keys, and
// rank is at least 1.
template <typename ForEachKey>
__device__ __forceinline__ SelectedKeys select_largest(const ForEachKey& for_each_key, int rank,
                                                       SelectScratch& scratch) {
  uint64_t prefix = 0;
  uint64_t decided = 0;  // bits of the prefix that are
  int remaining = rank;
  for (int shift = 56; shift >= 0; shift -= 8) {
    for (auto bin = static_cast<int>(threadIdx.x); bin < SelectScratch::kBins;
         bin += static_cast<int>(blockDim.x)) {
      scratch.bins[bin] = 0;
    }
    __syncthreads();
    for_each_key([&](uint64_t key) {
      if ((key & decided) == prefix) atomicAdd(&scratch.bins[key >> shift & 0xff], 1);
    });
    __syncthreads();
    if (threadIdx.x < kWarpSize) find_bin(remaining, scratch);
    __syncthreads();
    prefix |= static_cast<uint64_t>(scratch.digit) << shift;
    decided |= uint64_t{0xff} << shift;
    remaining -= scratch.above;
    if (scratch.equal == remaining) return {prefix, 0};
  }
  return {prefix, scratch.equal - remaining};
}

// Bitonic sort of items [0, count) with swap(i, j) and precedes(i, j), a strict order. Call it
// after a barrier; it ends with one. Since every comparison puts the smaller item first, items
// beyond the last would never move, and so need not exist.
template <typename Precedes, typename Swap>
__device__ __forceinline__ void sort_block(int count, const Precedes& precedes, const Swap& swap) {
  int padded = 1;
  while (padded < count) padded *= 2;
  const auto compare = [&](int low, int high) {
    if (high < count && precedes(high, low)) swap(low, high);
  };
  const auto first_pair = static_cast<int>(threadIdx.x);
  const auto step = static_cast<int>(blockDim.x);
  for (int size = 2; size <= padded; size *= 2) {
    const int half = size / 2;
    for (int pair = first_pair; pair < padded / 2; pair += step) {
      const int start = pair / half * size;
      const int offset = pair % half;
      compare(start + offset, start + size - 1 - offset);
    }
    __syncthreads();
    for (int stride = half / 2; stride > 0; stride /= 2) {
      for (int pair = first_pair; pair < padded / 2; pair += step) {
        const int low = pair / stride * 2 * stride + pair % stride;
        compare(low, low + stride);
      }
      __syncthreads();
    }
  }
}

}  // namespace egl::cuda
