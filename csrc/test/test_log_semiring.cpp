#include "csrc/core/log_semiring.h"
#include "csrc/test/test.h"

using egl::kNegInf;
using egl::log_add;

EGL_TEST(zero_is_neutral) {
  CHECK(log_add(kNegInf, kNegInf) == kNegInf);
  CHECK(log_add(kNegInf, -3.5) == -3.5);
  CHECK(log_add(-3.5, kNegInf) == -3.5);
  CHECK(log_add(kNegInf, kNegInf, kNegInf) == kNegInf);
  CHECK(log_add(kNegInf, -3.5, kNegInf) == -3.5);
}

EGL_TEST(sums_of_known_numbers) {
  const double tolerance = 4 * std::numeric_limits<double>::epsilon();
  CHECK(egl::test::near(log_add(std::log(0.25), std::log(0.5)), std::log(0.75), tolerance));
  CHECK(egl::test::near(log_add(std::log(0.25), std::log(0.125), std::log(0.5)), std::log(0.875),
                        tolerance));
  // Exponentials of these underflow; their ratio does not matter.
  CHECK(log_add(-2000.0, -2000.0) == -2000.0 + std::log(2.0));
  CHECK(log_add(-1e4, 0.0) == 0.0);
}

EGL_TEST(symmetric_to_the_bit_and_never_below_the_larger) {
  for (int i = 0; i < 1000; ++i) {
    const double a = -0.037 * i;
    const double b = -7.0 + 0.011 * i;
    CHECK(log_add(a, b) == log_add(b, a));
    CHECK(log_add(a, b) >= std::max(a, b));
    CHECK(log_add(a, b, -1.0) == log_add(-1.0, b, a));
    CHECK(log_add(a, b, -1.0) == log_add(b, -1.0, a));
  }
}

EGL_TEST(log_sum_exp_of_ranges) {
  const float values[] = {0.0F, 100.0F, 1.0F, 100.0F};
  CHECK(egl::log_sum_exp(values, 0) == kNegInf);
  CHECK(egl::log_sum_exp(values + 1, 2, 2) == 100.0 + std::log(2.0));
  const double nothing[] = {kNegInf, kNegInf};
  CHECK(egl::log_sum_exp(nothing, 2) == kNegInf);
}

EGL_TEST_MAIN()
