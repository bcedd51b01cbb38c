#include "csrc/core/isa.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace egl {

const char* name_of(Isa isa) {
  switch (isa) {
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    default:
      return "baseline";
  }
}

std::vector<Isa> available_isas() {
  std::vector<Isa> found = {Isa::kBaseline};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    found.push_back(Isa::kAvx2);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
      found.push_back(Isa::kAvx512);
    }
  }
#endif
  return found;
}

Isa isa_in_use() {
  static const Isa chosen = [] {
    const auto available = available_isas();
    const char* wanted = std::getenv("EGL_ISA");
    if (wanted == nullptr || *wanted == '\0') return available.back();
    std::string names;
    for (const Isa isa : available) {
      if (std::string(wanted) == name_of(isa)) return isa;
      names += (names.empty() ? "" : ", ") + std::string(name_of(isa));
    }
    throw std::invalid_argument("EGL_ISA=" + std::string(wanted) +
                                ": this machine and build have " + names);
  }();
  return chosen;
}

}  // namespace egl
