// The instruction sets that the hot kernels are compiled for. The best that the machine has is
// chosen at run time.
#pragma once

#include <vector>

namespace egl {

enum class Isa {
  kBaseline,  // what the compiler assumes of every machine: SSE2 on x86-64, NEON on aarch64
  kAvx2,      // with FMA
  kAvx512,    // F, DQ, BW, VL
};

const char* name_of(Isa isa);

// Those that this build has and this machine can run; the best comes last.
std::vector<Isa> available_isas();

// The one in use: the best available, or the one that the environment variable EGL_ISA (baseline,
// avx2, avx512) names at the first call. Throws std::invalid_argument if that is not available.
Isa isa_in_use();

}  // namespace egl
