// The Python module egl_fast._C, by pybind11: how the native code was built, and the search for
// labelings on NumPy arrays. It works without torch; the operators are a library of their own,
// egl_fast._operators (csrc/ops/register.cpp).
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <optional>
#include <vector>

#include "csrc/core/ctc_beam_search.h"
#include "csrc/core/isa.h"

namespace py = pybind11;

namespace {

#ifdef EGL_DEBUG
constexpr bool kDebug = true;
#else
constexpr bool kDebug = false;
#endif

#if defined(__clang__)
constexpr const char* kCompiler = "clang " __VERSION__;
#elif defined(__GNUC__)
constexpr const char* kCompiler = "gcc " __VERSION__;
#else
constexpr const char* kCompiler = "unknown";
#endif

#ifdef EGL_WITH_CUDA
constexpr bool kWithCuda = true;
constexpr std::optional<const char*> kCudaVersion = EGL_CUDA_VERSION;
constexpr std::array kCudaArchitectures{EGL_CUDA_ARCHITECTURES};
#else
constexpr bool kWithCuda = false;
constexpr std::optional<const char*> kCudaVersion;
constexpr std::array<int, 0> kCudaArchitectures{};
#endif

py::dict build_info() {
  using namespace py::literals;
  return py::dict("compiler"_a = kCompiler, "cxx_standard"_a = __cplusplus,
                  "torch_version"_a = EGL_TORCH_VERSION,
                  "minimum_torch_version"_a = EGL_MINIMUM_TORCH_VERSION,
                  "built_with_cuda"_a = kWithCuda, "cuda_version"_a = kCudaVersion,
                  "cuda_architectures"_a = kCudaArchitectures,
                  "instruction_set"_a = egl::name_of(egl::isa_in_use()), "debug"_a = kDebug);
}

// egl_fast/decoder.py checks the arguments.
template <typename Scalar>
std::vector<egl::Hypothesis> ctc_nbest(const py::array_t<Scalar>& log_probs, int64_t num_hypotheses,
                                       int64_t beam_width, int64_t blank) {
  constexpr auto kBytes = static_cast<py::ssize_t>(sizeof(Scalar));
  const egl::Emissions<Scalar> frames{log_probs.data(), log_probs.shape(0), log_probs.shape(1),
                                      log_probs.strides(0) / kBytes, log_probs.strides(1) / kBytes};
  const py::gil_scoped_release others_may_run;
  return egl::ctc_beam_search(frames, {num_hypotheses, beam_width, blank});
}

}  // namespace

PYBIND11_MODULE(_C, module) {
  egl::isa_in_use();  // decided now, so that a wrong EGL_ISA fails at once
  module.doc() = "How the native code was built, and the search for labelings on NumPy arrays.";
  module.def("build_info", &build_info, "See egl_fast._extension.BuildInfo.");

  py::class_<egl::Hypothesis>(module, "Hypothesis")
      .def_property_readonly(
          "labels", [](const egl::Hypothesis& own) { return py::tuple(py::cast(own.labels)); })
      .def_readonly("log_prob", &egl::Hypothesis::log_prob)
      .def_readonly("search_log_prob", &egl::Hypothesis::search_log_prob);
  const auto define_search = [&]<typename Scalar>(Scalar) {
    module.def("ctc_nbest", &ctc_nbest<Scalar>, py::arg("log_probs").noconvert(), py::kw_only(),
               py::arg("num_hypotheses"), py::arg("beam_width"), py::arg("blank"));
  };
  define_search(float{});
  define_search(double{});
}
