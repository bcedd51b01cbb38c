// Internal invariants, checked only where EGL_DEBUG is defined. A failure is a bug in this code,
// not in the caller's, so it ends the process, and a debugger or sanitizer shows where.
#pragma once

#ifdef EGL_DEBUG
#include <cstdio>
#include <cstdlib>
#define EGL_DEBUG_CHECK(condition)                                                           \
  do {                                                                                       \
    if (!(condition)) {                                                                      \
      std::fprintf(stderr, "%s:%d: invariant broken: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                          \
    }                                                                                        \
  } while (false)
#else
#define EGL_DEBUG_CHECK(condition) static_cast<void>(0)
#endif
