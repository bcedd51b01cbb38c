// Which products of two sorted lists can be among the largest, divided among a block's threads.
#pragma once

#include "csrc/cuda/platform.h"
#include "csrc/cuda/warps.h"

namespace egl::cuda {

// With slots and tokens both sorted by mass, row `slot` needs its first W / (slot + 1) + 1 tokens:
// csrc/core/ctc_prefix_search.cpp says why. Every thread owns an equal part of all rows.
class Staircase {
 public:
  // `row_starts`: shared memory for one more than the most rows.
  __device__ Staircase(int* row_starts, int width) : row_starts_(row_starts), width_(width) {}

  // Tokens of row `slot`.
  __device__ __forceinline__ int row_length(int slot) const {
    const int steps = width_ / (slot + 1) + 1;
    return steps < num_tokens_ ? steps : num_tokens_;
  }

  // Divides it into parts; by all threads. In most frames they stay the same.
  __device__ __forceinline__ void lay_out(int num_rows, int num_tokens) {
    if (num_rows == num_rows_ && num_tokens == num_tokens_) return;
    num_rows_ = num_rows;
    num_tokens_ = num_tokens;
    const int thread = static_cast<int>(threadIdx.x);
    // Running sums by the first warp, 32 rows at a time.
    if (threadIdx.x < kWarpSize) {
      int before = 0;
      for (int first = 0; first < num_rows; first += kWarpSize) {
        const int row = first + thread;
        int through = row < num_rows ? row_length(row) : 0;
        for (int delta = 1; delta < kWarpSize; delta *= 2) {
          const int other = __shfl_up_sync(kFullWarp, through, static_cast<unsigned>(delta));
          if (thread >= delta) through += other;
        }
        if (row < num_rows) row_starts_[row + 1] = before + through;
        before += __shfl_sync(kFullWarp, through, kWarpSize - 1);
      }
      if (threadIdx.x == 0) row_starts_[0] = 0;
    }
    __syncthreads();
    const int size = row_starts_[num_rows];
    const int threads = static_cast<int>(blockDim.x);
    const int part = (size + threads - 1) / threads;
    const int first = thread * part;
    part_size_ = first >= size ? 0 : size - first < part ? size - first : part;
    // The last row that starts at or before the part.
    int low = 0;
    int high = num_rows - 1;
    while (low < high) {
      const int middle = (low + high + 1) / 2;
      if (row_starts_[middle] <= first) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    part_slot_ = low;
    part_rank_ = first - row_starts_[low];
  }

  // Calls visit(slot, rank of the token) for this thread's part.
  template <typename Visit>
  __device__ __forceinline__ void for_each(const Visit& visit) const {
    int slot = part_slot_;
    int rank = part_rank_;
    for (int i = 0; i < part_size_; ++i) {
      while (rank >= row_length(slot)) {
        ++slot;
        rank = 0;
      }
      visit(slot, rank);
      ++rank;
    }
  }

 private:
  int* row_starts_;
  int width_;
  int num_rows_ = -1;
  int num_tokens_ = -1;
  int part_slot_ = 0;  // where this thread's part begins
  int part_rank_ = 0;
  int part_size_ = 0;
};

}  // namespace egl::cuda
