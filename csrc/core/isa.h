// Which instructions the hot kernels may use. Their one source is compiled for each set, and the
// best that the machine has is chosen at run time.
#pragma once

#include <vector>

namespace egl {

enum class Isa {
  kBaseline,  // what the compiler assumes of every machine: SSE2 on x86-64, NEON on aarch64
  kAvx2,      // with FMA
  kAvx512,    // F, DQ, BW, VL
};

const char* name_of(Isa isa);

// Those that this build has and this machine can run, the best last.
std::vector<Isa> available_isas();

// The one in use: the best available, or what the environment variable EGL_ISA names (baseline,
// avx2, avx512) as of the first call. Throws std::invalid_argument if it names none that is
// available.
Isa isa_in_use();

}  // namespace egl
