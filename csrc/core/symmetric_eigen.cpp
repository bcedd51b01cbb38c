#include "csrc/core/symmetric_eigen.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "csrc/core/debug_check.h"
#include "csrc/core/jacobi_rotation.h"

namespace egl {
namespace {

// Convergence is quadratic, and ten sweeps or fewer suffice. After this many it stops regardless.
constexpr int kMaxSweeps = 30;

void rotate(double& low, double& high, const JacobiAngle& angle) {
  const double before = low;
  low = angle.cosine * before - angle.sine * high;
  high = angle.sine * before + angle.cosine * high;
}

// Makes entry (low, high) vanish. Eigenvectors are in rows of `vectors`, side by side in memory.
void rotate_pair(std::vector<double>& matrix, std::vector<double>& vectors, int64_t count,
                 int64_t low, int64_t high) {
  double* row_low = &matrix[low * count];
  double* row_high = &matrix[high * count];
  const double off = row_low[high];
  const JacobiAngle angle = jacobi_angle(row_low[low], off, row_high[high]);
  const double first = row_low[low] - angle.tangent * off;
  const double second = row_high[high] + angle.tangent * off;
  for (int64_t k = 0; k < count; ++k) {
    rotate(row_low[k], row_high[k], angle);
    rotate(vectors[low * count + k], vectors[high * count + k], angle);
  }
  row_low[low] = first;
  row_high[high] = second;
  row_low[high] = row_high[low] = 0.0;
  for (int64_t k = 0; k < count; ++k) {
    matrix[k * count + low] = row_low[k];
    matrix[k * count + high] = row_high[k];
  }
}

}  // namespace

EigenPairs symmetric_eigen(std::span<const double> matrix, int64_t count) {
  double most = 0.0;
  for (const double entry : matrix) {
    EGL_DEBUG_CHECK(std::isfinite(entry));
    most = std::max(most, std::abs(entry));
  }
  // Scaled by a power of two, so that squares neither overflow nor underflow.
  const int exponent = most > 0.0 ? std::ilogb(most) : 0;
  std::vector<double> rest(matrix.size());
  std::transform(matrix.begin(), matrix.end(), rest.begin(),
                 [exponent](double entry) { return std::scalbn(entry, -exponent); });
  std::vector<double> rows(matrix.size(), 0.0);
  for (int64_t k = 0; k < count; ++k) rows[k * count + k] = 1.0;

  // Entries no larger than this sum to less than rounding.
  const double length = std::sqrt(std::inner_product(rest.begin(), rest.end(), rest.begin(), 0.0));
  const double least = length * 0x1p-53 / static_cast<double>(std::max<int64_t>(count, 1));
  bool rotated = true;
  for (int sweep = 0; rotated && sweep < kMaxSweeps; ++sweep) {
    rotated = false;
    for (int64_t low = 0; low < count; ++low) {
      for (int64_t high = low + 1; high < count; ++high) {
        if (!(std::abs(rest[low * count + high]) > least)) continue;
        rotate_pair(rest, rows, count, low, high);
        rotated = true;
      }
    }
  }

  std::vector<int64_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  const auto value = [&](int64_t k) { return std::abs(rest[k * count + k]); };
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return value(a) > value(b); });
  EigenPairs found{std::vector<double>(count), std::vector<double>(matrix.size())};
  for (int64_t r = 0; r < count; ++r) {
    found.values[r] = std::scalbn(value(order[r]), exponent);
    for (int64_t k = 0; k < count; ++k) {
      found.vectors[k * count + r] = rows[order[r] * count + k];
    }
  }
  return found;
}

}  // namespace egl
