// Eigenvalues and eigenvectors of a batch of symmetric matrices in double.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "csrc/core/jacobi_rotation.h"
#include "csrc/cuda/block_sum.h"
#include "csrc/cuda/launch.h"
#include "csrc/cuda/shared_memory.h"

namespace egl::cuda {

// Callers refuse larger matrices.
inline constexpr int64_t kMaxMatrixSize = 1024;

// Jacobi's method converges quadratically, and ten sweeps or fewer suffice. After this many it
// stops regardless.
inline constexpr int kMaxSweeps = 30;

inline constexpr int kEigenThreads = 1024;

struct SymmetricMatrices {
  double* data;           // [N, K, K]; of each, the upper triangle is read, and overwritten
  const int64_t* counts;  // [N]: matrix n is the leading counts[n] rows and columns of its K
  int64_t num_matrices;   // N
  int64_t size;           // K
};

struct EigenPairs {
  double* values;   // [N, K], by absolute value, largest first
  double* vectors;  // [N, K, K], in rows, in any order
  int32_t* order;   // [N, K]: the row of each value
};

// A pair of rows and columns, disjoint from the other pairs of its round, and the rotation that
// makes its off-diagonal entry vanish. In a matrix of odd size one row sits out each round: its
// `high` is kNobody.
struct JacobiRotation {
  static constexpr int32_t kNobody = -1;
  double cosine;
  double sine;
  int32_t low;
  int32_t high;
};

// Which of the two are in shared memory; the others are used where the caller has them.
struct EigenPlacement {
  bool matrix;
  bool vectors;
};

struct EigenShared {
  double* matrix;   // [K, K | 1]: rows of odd length, so that columns lie in different banks
  double* vectors;  // [K, K]
  double* values;   // [K]
  double* sums;     // [warps]
  JacobiRotation* rotations;  // [(K + 1) / 2]

  __host__ __device__ EigenShared(SharedArena& arena, int64_t size, const EigenPlacement& placement)
      : matrix(placement.matrix ? arena.take<double>(size * (size | 1)) : nullptr),
        vectors(placement.vectors ? arena.take<double>(size * size) : nullptr),
        values(arena.take<double>(size)),
        sums(arena.take<double>(kEigenThreads / kWarpSize)),
        rotations(arena.take<JacobiRotation>((size + 1) / 2)) {}
};

// The upper triangle of a symmetric matrix.
struct UpperTriangle {
  double* data;
  int stride;

  __device__ double& operator()(int i, int j) const {
    return i < j ? data[i * stride + j] : data[j * stride + i];
  }
};

// A round-robin tournament of an even number of players: player 0 keeps its seat and the others
// rotate, so after players - 1 rounds each has met each. The first seat faces the last, and so on,
// so that neighboring pairs are neighboring rows.
__device__ inline int player_at(int seat, int round, int players) {
  if (seat == 0) return 0;
  const int moved = seat - 1 + round;
  return 1 + (moved < players - 1 ? moved : moved - (players - 1));
}

// Sets up the pair's rotation and applies it to the pair's own three entries. False if there is
// nothing to rotate: entries no larger than `least` sum to less than rounding.
__device__ inline bool rotate_own(const UpperTriangle& matrix, double least,
                                  JacobiRotation& rotation) {
  rotation.cosine = 1.0;
  rotation.sine = 0.0;
  if (rotation.high == JacobiRotation::kNobody) return false;
  double& off = matrix(rotation.low, rotation.high);
  if (!(std::abs(off) > least)) return false;
  double& first = matrix(rotation.low, rotation.low);
  double& second = matrix(rotation.high, rotation.high);
  const JacobiAngle angle = jacobi_angle(first, off, second);
  rotation.cosine = angle.cosine;
  rotation.sine = angle.sine;
  first -= angle.tangent * off;
  second += angle.tangent * off;
  off = 0.0;
  return true;
}

__device__ inline void rotate(double& low, double& high, const JacobiRotation& rotation) {
  const double before = low;
  low = rotation.cosine * before - rotation.sine * high;
  high = rotation.sine * before + rotation.cosine * high;
}

// The four entries where two pairs meet, or two if one of them is a row that sits out.
__device__ inline void rotate_meeting(const UpperTriangle& matrix, const JacobiRotation& a,
                                      const JacobiRotation& b) {
  if (a.sine == 0.0 && b.sine == 0.0) return;
  if (a.high == JacobiRotation::kNobody) {
    rotate(matrix(a.low, b.low), matrix(a.low, b.high), b);
    return;
  }
  if (b.high == JacobiRotation::kNobody) {
    rotate(matrix(a.low, b.low), matrix(a.high, b.low), a);
    return;
  }
  double low_low = matrix(a.low, b.low);
  double low_high = matrix(a.low, b.high);
  double high_low = matrix(a.high, b.low);
  double high_high = matrix(a.high, b.high);
  rotate(low_low, low_high, b);
  rotate(high_low, high_high, b);
  rotate(low_low, high_low, a);
  rotate(low_high, high_high, a);
  matrix(a.low, b.low) = low_low;
  matrix(a.low, b.high) = low_high;
  matrix(a.high, b.low) = high_low;
  matrix(a.high, b.high) = high_high;
}

// Of all i > j below `count`, in rows of equal length: row i and what row count - 1 - i lacks.
struct Meeting {
  int i;
  int j;
};

__device__ inline Meeting meeting_of(int index, int count) {
  const int short_row = index / (count - 1);
  const int long_row = count - 1 - short_row;
  const int place = index % (count - 1);
  return place < long_row ? Meeting{long_row, place} : Meeting{short_row, place - long_row};
}

// Makes the matrix diagonal, and turns the rows of `vectors`, initially the identity, into its
// eigenvectors.
__device__ inline void diagonalize(const UpperTriangle& matrix, double* vectors, int stride,
                                   int count, double least, JacobiRotation* rotations) {
  const auto thread = static_cast<int>(threadIdx.x);
  const auto step = static_cast<int>(blockDim.x);
  const int num_pairs = (count + 1) / 2;
  const int players = 2 * num_pairs;
  for (int sweep = 0; sweep < kMaxSweeps; ++sweep) {
    bool rotated_any = false;
    for (int round = 0; round < players - 1; ++round) {
      bool rotated = false;
      for (int pair = thread; pair < num_pairs; pair += step) {
        const int a = player_at(pair, round, players);
        const int b = player_at(players - 1 - pair, round, players);
        const int high = a < b ? b : a;
        rotations[pair].low = a < b ? a : b;
        rotations[pair].high = high < count ? high : JacobiRotation::kNobody;
        rotated |= rotate_own(matrix, least, rotations[pair]);
      }
      if (__syncthreads_or(rotated ? 1 : 0) == 0) continue;
      rotated_any = true;
      for (int i = thread; i < num_pairs * (num_pairs - 1) / 2; i += step) {
        const Meeting meeting = meeting_of(i, num_pairs);
        rotate_meeting(matrix, rotations[meeting.i], rotations[meeting.j]);
      }
      for (int i = thread; i < num_pairs * count; i += step) {
        const JacobiRotation& rotation = rotations[i / count];
        if (rotation.sine == 0.0) continue;
        const int k = i % count;
        rotate(vectors[rotation.low * stride + k], vectors[rotation.high * stride + k], rotation);
      }
      __syncthreads();
    }
    if (!rotated_any) return;
  }
}

// Jacobi's method, all disjoint pairs of a round at once. A block owns a matrix at a time. A thread
// owns a pair while rotations are found, then places where two pairs meet, then entries of
// eigenvectors. Every sum has a fixed order, so results depend only on the matrix.
//   Shared memory: matrix and vectors, 16 K^2 bytes, if the device allows a block that much (162 KB
//   for K = 100); else the matrix (up to K = 168 in 227 KB); else neither. And 36 K bytes. Moves: a
//   round reads and writes half a matrix and the vectors, 24 K^2 bytes if all pairs rotate, and a
//   sweep has K rounds. Columns without energy, most of them in practice, stop rotating after a
//   sweep or two. For K = 100 in shared memory (128 bytes per clock) a round takes some 2,000
//   clocks and two barriers: 8 full sweeps take 1 ms on an H100, for 132 matrices at once. For K =
//   1,024 a round moves 25 MB through the L2 cache, 0.3 ms, so three sweeps take a second: it
//   works, but is slow.
static __global__ void __launch_bounds__(kEigenThreads)
    symmetric_eigen_kernel(SymmetricMatrices matrices, EigenPairs pairs, EigenPlacement placement) {
  SharedArena arena = SharedArena::of_block();
  const auto size = static_cast<int>(matrices.size);
  const EigenShared shared(arena, size, placement);
  const auto thread = static_cast<int>(threadIdx.x);
  const auto step = static_cast<int>(blockDim.x);
  for (int64_t n = blockIdx.x; n < matrices.num_matrices; n += gridDim.x) {
    const auto count = static_cast<int>(matrices.counts[n]);
    double* own_vectors = pairs.vectors + n * size * size;
    double* vectors = placement.vectors ? shared.vectors : own_vectors;
    UpperTriangle matrix{matrices.data + n * size * size, size};
    double squares = 0.0;  // of the whole matrix
    for (int i = thread; i < count * count; i += step) {
      const int row = i / count;
      const int column = i % count;
      vectors[row * size + column] = row == column ? 1.0 : 0.0;
      const double entry = matrix(row, column);
      squares += entry * entry;
      if (placement.matrix && row <= column) shared.matrix[row * (size | 1) + column] = entry;
    }
    if (placement.matrix) matrix = {shared.matrix, size | 1};
    const double length = std::sqrt(block_sum(squares, shared.sums));
    if (count > 0) {
      diagonalize(matrix, vectors, size, count, length * 0x1p-53 / count, shared.rotations);
    }
    for (int k = thread; k < count; k += step) {
      const double value = std::abs(matrix(k, k));
      shared.values[k] = value >= 0.0 ? value : 0.0;  // NaN cannot be ordered
    }
    __syncthreads();
    for (int k = thread; k < count; k += step) {
      const double value = shared.values[k];
      int place = 0;
      for (int other = 0; other < count; ++other) {
        const double others = shared.values[other];
        place += others > value || (others == value && other < k) ? 1 : 0;
      }
      pairs.values[n * size + place] = value;
      pairs.order[n * size + place] = k;
    }
    if (placement.vectors) {
      for (int i = thread; i < count * count; i += step) {
        const int entry = i / count * size + i % count;
        own_vectors[entry] = vectors[entry];
      }
    }
    __syncthreads();
  }
}

// As LAPACK's, to 1e-13 of the largest eigenvalue. Nothing beyond counts[n] is written.
inline void symmetric_eigen(const SymmetricMatrices& matrices, const EigenPairs& pairs,
                            cudaStream_t stream) {
  const auto bytes = [&](const EigenPlacement& placement) {
    SharedArena arena;
    const EigenShared shared(arena, matrices.size, placement);
    return arena.bytes();
  };
  EigenPlacement placement{true, true};
  const size_t limit = shared_memory_limit();
  if (bytes(placement) > limit) placement.vectors = false;
  if (bytes(placement) > limit) placement.matrix = false;
  const int64_t num_pairs = (matrices.size + 1) / 2;
  launch(
      "symmetric_eigen", symmetric_eigen_kernel,
      {matrices.num_matrices, threads_for(num_pairs * num_pairs, kEigenThreads), bytes(placement)},
      stream, matrices, pairs, placement);
}

}  // namespace egl::cuda
