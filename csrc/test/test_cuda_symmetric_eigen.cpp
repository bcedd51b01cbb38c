#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "csrc/cuda/symmetric_eigen.h"
#include "csrc/test/eigen_cases.h"
#include "csrc/test/emulated.h"

namespace {

using egl::EigenPairs;
using egl::test::check_eigen;
using egl::test::kEigenRounding;
using egl::test::Matrix;
using egl::test::near;
using egl::test::random_gram;

// Each matrix in a slot of `size`, surrounded by what must not be read or written.
std::vector<EigenPairs> eigen_of(const std::vector<Matrix>& matrices,
                                 const std::vector<int64_t>& counts, int64_t size) {
  constexpr double kUntouched = 1e300;
  const auto num_matrices = static_cast<int64_t>(matrices.size());
  std::vector<double> data(num_matrices * size * size, kUntouched);
  std::vector<double> values(num_matrices * size, kUntouched);
  std::vector<double> vectors(num_matrices * size * size, kUntouched);
  std::vector<int32_t> order(num_matrices * size, -7);
  for (int64_t n = 0; n < num_matrices; ++n) {
    for (int64_t i = 0; i < counts[n]; ++i) {
      for (int64_t j = i; j < counts[n]; ++j) {
        data[(n * size + i) * size + j] = matrices[n][i * counts[n] + j];
      }
    }
  }
  egl::cuda::symmetric_eigen({data.data(), counts.data(), num_matrices, size},
                             {values.data(), vectors.data(), order.data()}, nullptr);
  std::vector<EigenPairs> found;
  for (int64_t n = 0; n < num_matrices; ++n) {
    EigenPairs& pairs = found.emplace_back();
    pairs.vectors.resize(counts[n] * counts[n]);
    for (int64_t r = 0; r < size; ++r) {
      const double* row = vectors.data() + (n * size + r) * size;
      for (int64_t k = r < counts[n] ? counts[n] : 0; k < size; ++k) CHECK(row[k] == kUntouched);
      if (r >= counts[n]) {
        CHECK(values[n * size + r] == kUntouched);
        CHECK(order[n * size + r] == -7);
        continue;
      }
      pairs.values.push_back(values[n * size + r]);
      const double* vector = vectors.data() + (n * size + order[n * size + r]) * size;
      for (int64_t k = 0; k < counts[n]; ++k) pairs.vectors[k * counts[n] + r] = vector[k];
    }
  }
  return found;
}

EigenPairs eigen_of(const Matrix& matrix) {
  const auto count = static_cast<int64_t>(std::lround(std::sqrt(matrix.size())));
  return eigen_of({matrix}, {count}, count)[0];
}

}  // namespace

EGL_TEST(matrices_with_known_eigenvalues) {
  const EigenPairs one = eigen_of({5.0});
  CHECK(one.values[0] == 5.0);
  CHECK(std::abs(one.vectors[0]) == 1.0);

  const EigenPairs two = eigen_of({2.0, 1.0, 1.0, 2.0});
  CHECK(near(two.values[0], 3.0, 1e-15));
  CHECK(near(two.values[1], 1.0, 1e-15));
  CHECK(near(two.vectors[0] * two.vectors[2], 0.5, 1e-15));

  // Second differences: 2 - 2 cos(pi j / (n + 1)).
  for (const int64_t count : {3, 8, 15}) {
    Matrix matrix(count * count);
    for (int64_t i = 0; i < count; ++i) {
      matrix[i * count + i] = 2.0;
      if (i + 1 < count) matrix[i * count + i + 1] = matrix[(i + 1) * count + i] = -1.0;
    }
    const EigenPairs pairs = eigen_of(matrix);
    check_eigen(matrix, count, pairs);
    for (int64_t r = 0; r < count; ++r) {
      const double angle = M_PI * static_cast<double>(count - r) / static_cast<double>(count + 1);
      CHECK(near(pairs.values[r], 2.0 - 2.0 * std::cos(angle), 4.0 * kEigenRounding));
    }
  }
}

EGL_TEST(diagonal_matrices_are_sorted_and_ties_keep_their_order) {
  const EigenPairs pairs = eigen_of({1.0, 0.0, 0.0, 0.0,  //
                                     0.0, 7.0, 0.0, 0.0,  //
                                     0.0, 0.0, 1.0, 0.0,  //
                                     0.0, 0.0, 0.0, 2.0});
  CHECK((pairs.values == std::vector<double>{7.0, 2.0, 1.0, 1.0}));
  CHECK(pairs.vectors[0 * 4 + 2] == 1.0);
  CHECK(pairs.vectors[2 * 4 + 3] == 1.0);
}

EGL_TEST(zeros_are_a_matrix_too) {
  const EigenPairs pairs = eigen_of(Matrix(25, 0.0));
  for (const double value : pairs.values) CHECK(value == 0.0);
  check_eigen(Matrix(25, 0.0), 5, pairs);
}

EGL_TEST(gram_matrices_of_full_and_of_low_rank) {
  std::mt19937 random(1);
  for (const int64_t count : {2, 5, 12, 17}) {
    for (const int64_t rank : {int64_t{1}, count / 2, count + 3}) {
      for (const double fall : {1.0, 0.5}) {
        const Matrix gram = random_gram(random, count, std::max<int64_t>(rank, 1), fall);
        const EigenPairs pairs = eigen_of(gram);
        check_eigen(gram, count, pairs);
        for (int64_t r = std::max<int64_t>(rank, 1); r < count; ++r) {
          CHECK(pairs.values[r] <= kEigenRounding * pairs.values[0]);
        }
      }
    }
  }
}

EGL_TEST(scale_changes_nothing_but_the_values) {
  std::mt19937 random(2);
  const Matrix gram = random_gram(random, 12, 12, 0.7);
  const EigenPairs plain = eigen_of(gram);
  for (const double scale : {0x1p-400, 0x1p400}) {
    Matrix scaled = gram;
    for (double& entry : scaled) entry *= scale;
    const EigenPairs pairs = eigen_of(scaled);
    CHECK(pairs.vectors == plain.vectors);
    for (size_t r = 0; r < plain.values.size(); ++r) {
      CHECK(pairs.values[r] == scale * plain.values[r]);
    }
  }
}

EGL_TEST(matrices_of_a_batch_have_sizes_of_their_own) {
  std::mt19937 random(3);
  const std::vector<int64_t> counts{4, 0, 9, 1, 8};
  std::vector<Matrix> grams;
  for (const int64_t count : counts) grams.push_back(random_gram(random, count, 6, 0.8));
  const std::vector<EigenPairs> together = eigen_of(grams, counts, 9);
  for (size_t n = 0; n < grams.size(); ++n) {
    check_eigen(grams[n], counts[n], together[n]);
    CHECK(together[n].values == eigen_of({grams[n]}, {counts[n]}, 9)[0].values);
  }
}

EGL_TEST(where_the_matrix_lies_changes_nothing) {
  std::mt19937 random(4);
  const Matrix gram = random_gram(random, 16, 12, 0.6);
  const EigenPairs all_shared = eigen_of(gram);
  const egl::test::OptionsScope scope;
  for (const size_t limit : {size_t{4} << 10, size_t{2} << 10}) {
    egl::emulator::options().shared_memory_limit = limit;
    const EigenPairs pairs = eigen_of(gram);
    CHECK(pairs.values == all_shared.values);
    CHECK(pairs.vectors == all_shared.vectors);
  }
}

EGL_TEST(not_a_number_ends_and_stays_within_bounds) {
  const EigenPairs pairs = eigen_of(Matrix(49, std::nan("")));
  CHECK(pairs.values == std::vector<double>(7, 0.0));
}

EGL_TEST(the_largest_size_fits) {
  // Two million waits of a thread: in one schedule.
  if (egl::emulator::options().schedule.order != egl::emulator::Order::kForward) return;
  // Pairs of neighbors: eigenvalues d + 1 and d - 1.
  constexpr int64_t kSize = egl::cuda::kMaxMatrixSize;
  Matrix matrix(kSize * kSize);
  for (int64_t i = 0; i < kSize; ++i) matrix[i * kSize + i] = 2.0 + static_cast<double>(i / 2);
  for (const int64_t i : {int64_t{0}, kSize / 2, kSize - 2}) {
    matrix[i * kSize + i + 1] = matrix[(i + 1) * kSize + i] = 1.0;
  }
  const EigenPairs pairs = eigen_of(matrix);
  CHECK(near(pairs.values[0], 2.0 + kSize / 2, 1e-11));
  CHECK(near(pairs.values[kSize - 1], 1.0, 1e-11));
}

EGL_EMULATED_TEST_MAIN()
