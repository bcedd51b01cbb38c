// A program with one bug, for a sanitizer to find: CMakeLists.txt says which report it must make,
// and runs the program in every schedule, since a bug may be found in none by luck.
#pragma once

#include <cstdio>
#include <string_view>

#include "csrc/cuda/launch.h"
#include "csrc/cuda/shared_memory.h"

// Runs `body` in the schedule that the command line names.
#define EGL_PLANTED_MAIN(body)                           \
  int main(int, char** arguments) {                      \
    using egl::emulator::Order;                          \
    const std::string_view name = arguments[1];          \
    auto& schedule = egl::emulator::options().schedule;  \
    schedule = {name == "forward"    ? Order::kForward   \
                : name == "reversed" ? Order::kReversed  \
                                     : Order::kShuffled, \
                1};                                      \
    body();                                              \
    std::puts("no report");                              \
  }
