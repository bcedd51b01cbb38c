// Runs tests of emulated kernels in several schedules: no kernel's result may depend on the
// schedule.
#pragma once

#include <cstdio>

#include "csrc/emulator/emulator.h"
#include "csrc/test/test.h"

namespace egl::test {

// Restores the emulator's options, whatever a test sets.
class OptionsScope {
 public:
  ~OptionsScope() { emulator::options() = before_; }

 private:
  const emulator::Options before_ = emulator::options();
};

inline int run_all_in_every_schedule() {
  using emulator::Order;
  struct Named {
    const char* name;
    emulator::Schedule schedule;
  };
  constexpr Named kSchedules[] = {{"forward", {Order::kForward, 0}},
                                  {"reversed", {Order::kReversed, 0}},
                                  {"shuffled", {Order::kShuffled, 20261125}}};
  int failed = 0;
  for (const Named& named : kSchedules) {
    std::printf("%s:\n", named.name);
    emulator::options().schedule = named.schedule;
    failed += run_all();
  }
  return failed;
}

}  // namespace egl::test

#define EGL_EMULATED_TEST_MAIN() \
  int main() { return egl::test::run_all_in_every_schedule() == 0 ? 0 : 1; }
