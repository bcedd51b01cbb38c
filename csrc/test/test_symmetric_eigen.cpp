// Jacobi's method on matrices that other methods find hard.
#include <cmath>
#include <functional>
#include <random>
#include <vector>

#include "csrc/core/symmetric_eigen.h"
#include "csrc/test/eigen_cases.h"

using egl::EigenPairs;
using egl::symmetric_eigen;
using egl::test::Matrix;

namespace {

void check_eigen(const Matrix& matrix, int64_t count) {
  egl::test::check_eigen(matrix, count, symmetric_eigen(matrix, count));
}

// Columns made from normal numbers by `change(number, column, place)`.
Matrix gram_with(int64_t count, int64_t size,
                 const std::function<double(double, int64_t, int64_t)>& change) {
  std::mt19937 random(static_cast<unsigned>(count * 1000 + size));
  std::normal_distribution<double> normal;
  std::vector<double> columns(count * size);
  for (int64_t k = 0; k < count; ++k) {
    for (int64_t s = 0; s < size; ++s) columns[k * size + s] = change(normal(random), k, s);
  }
  return egl::test::gram_of(columns, count, size);
}

}  // namespace

EGL_TEST(sizes_from_nothing_on) {
  CHECK(symmetric_eigen({}, 0).values.empty());
  const EigenPairs one = symmetric_eigen(Matrix{-5.0}, 1);
  CHECK(one.values[0] == 5.0);
  CHECK(std::abs(one.vectors[0]) == 1.0);
  check_eigen({2.0, 1.0, 1.0, 2.0}, 2);
  check_eigen(Matrix(49, 0.0), 7);
}

EGL_TEST(columns_that_hardly_differ) {
  for (const double apart : {0.0, 1e-300, 1e-16, 1e-12, 1e-8}) {
    check_eigen(gram_with(60, 8,
                          [apart](double number, int64_t, int64_t s) {
                            return static_cast<double>(s + 1) + apart * number;
                          }),
                60);
  }
}

EGL_TEST(columns_twice_and_columns_of_zeros) {
  check_eigen(gram_with(40, 6, [](double, int64_t k, int64_t s) { return (k / 2 + s) % 6; }), 40);
  check_eigen(gram_with(40, 6, [](double x, int64_t k, int64_t) { return k % 3 == 0 ? 0.0 : x; }),
              40);
}

EGL_TEST(lengths_from_the_least_to_the_largest) {
  for (const double step : {8.0, 20.0}) {
    check_eigen(gram_with(30, 40,
                          [step](double x, int64_t k, int64_t) {
                            return x * std::exp(step * static_cast<double>(k % 30 - 15));
                          }),
                30);
  }
}

EGL_TEST(a_whole_matrix_may_be_tiny_or_huge) {
  for (const double scale : {1e-305, 1e-300, 1e-160, 1e150, 1e300}) {
    Matrix matrix = gram_with(12, 5, [](double x, int64_t, int64_t) { return x; });
    for (double& value : matrix) value *= scale;
    check_eigen(matrix, 12);
  }
}

EGL_TEST(indefinite_and_rank_one) {
  check_eigen(gram_with(25, 1, [](double x, int64_t, int64_t) { return x; }), 25);
  Matrix matrix = gram_with(25, 3, [](double x, int64_t, int64_t) { return x; });
  for (int64_t k = 0; k < 25; ++k) matrix[k * 25 + k] -= 1e-15 * static_cast<double>(k);
  check_eigen(matrix, 25);
  for (int64_t k = 0; k < 25; ++k) matrix[k * 25 + k] -= 1.0;
  check_eigen(matrix, 25);
}

EGL_TEST_MAIN()
