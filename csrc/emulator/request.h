// What a thread waits for.
#pragma once

#include <cstdint>
#include <source_location>
#include <sstream>
#include <string>
#include <string_view>

#include "csrc/emulator/emulator.h"

namespace egl::emulator {

struct Request {
  Meeting kind;
  unsigned mask;  // of a warp's meeting
  std::source_location where;
  bool predicate = false;
  uint64_t bits = 0;
  unsigned source_lane = 0;
};

inline const char* name_of(Meeting kind) {
  switch (kind) {
    case Meeting::kBlockBarrier:
      return "__syncthreads";
    case Meeting::kWarpBarrier:
      return "__syncwarp";
    case Meeting::kShuffle:
      return "__shfl_sync";
    case Meeting::kShuffleUp:
      return "__shfl_up_sync";
    case Meeting::kShuffleDown:
      return "__shfl_down_sync";
    case Meeting::kShuffleXor:
      return "__shfl_xor_sync";
    case Meeting::kVote:
      return "a vote";
  }
  return "?";
}

inline std::string describe(const Request& request) {
  std::ostringstream text;
  text << name_of(request.kind);
  if (request.kind != Meeting::kBlockBarrier) text << " of mask " << std::hex << request.mask;
  text << std::dec << " at " << request.where.file_name() << ':' << request.where.line();
  return text.str();
}

inline bool same_place(const Request& a, const Request& b) {
  return a.kind == b.kind && a.mask == b.mask && a.where.line() == b.where.line() &&
         a.where.column() == b.where.column() &&
         std::string_view(a.where.file_name()) == b.where.file_name();
}

}  // namespace egl::emulator
