// A minimal test runner: EGL_TEST registers a case, CHECK records a failure and continues, and
// run_all() returns how many cases failed.
#pragma once

#include <cmath>
#include <cstdio>
#include <vector>

namespace egl::test {

struct Case {
  const char* name;
  void (*body)();
};

inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

inline int& failures_of_case() {
  static int count = 0;
  return count;
}

struct Registration {
  Registration(const char* name, void (*body)()) { cases().push_back({name, body}); }
};

inline void check(bool condition, const char* text, const char* file, int line) {
  if (condition) return;
  // The first few are enough; a broken loop would print the same thousands of times.
  if (++failures_of_case() <= 5) std::printf("%s:%d: failed: %s\n", file, line, text);
}

inline int run_all() {
  int failed = cases().empty() ? 1 : 0;
  for (const Case& test_case : cases()) {
    failures_of_case() = 0;
    test_case.body();
    const bool passed = failures_of_case() == 0;
    std::printf("%-6s %s\n", passed ? "ok" : "FAILED", test_case.name);
    failed += passed ? 0 : 1;
  }
  return failed;
}

// Equal, or within `tolerance` of each other; infinities are only equal to themselves.
inline bool near(double a, double b, double tolerance) {
  return a == b || std::abs(a - b) <= tolerance;
}

}  // namespace egl::test

#define EGL_TEST(name)                                                      \
  static void name();                                                       \
  static const egl::test::Registration registration_of_##name(#name, name); \
  static void name()

#define CHECK(condition) egl::test::check((condition), #condition, __FILE__, __LINE__)

#define EGL_TEST_MAIN() \
  int main() { return egl::test::run_all() == 0 ? 0 : 1; }
