// The Python module egl_fast._C. Loading it registers the operators (csrc/ops/register.cpp); it
// itself only tells how it was built. Limited API: one build serves every Python from 3.10 on.
#include <Python.h>

#include <array>
#include <exception>
#include <span>

#include "csrc/core/isa.h"

namespace {

#ifdef EGL_DEBUG
constexpr bool kDebug = true;
#else
constexpr bool kDebug = false;
#endif

const char* compiler() {
#if defined(__clang__)
  return "clang " __VERSION__;
#elif defined(__GNUC__)
  return "gcc " __VERSION__;
#else
  return "unknown";
#endif
}

#ifdef EGL_WITH_CUDA
constexpr bool kWithCuda = true;
constexpr const char* kCudaVersion = EGL_CUDA_VERSION;
constexpr std::array kCudaArchitectures{EGL_CUDA_ARCHITECTURES};
#else
constexpr bool kWithCuda = false;
constexpr const char* kCudaVersion = nullptr;
constexpr std::array<int, 0> kCudaArchitectures{};
#endif

PyObject* text_or_none(const char* text) {
  if (text != nullptr) return PyUnicode_FromString(text);
  Py_INCREF(Py_None);
  return Py_None;
}

PyObject* list_of(std::span<const int> values) {
  PyObject* list = PyList_New(0);
  for (size_t i = 0; list != nullptr && i < values.size(); ++i) {
    PyObject* value = PyLong_FromLong(values[i]);
    if (value == nullptr || PyList_Append(list, value) != 0) Py_CLEAR(list);
    Py_XDECREF(value);
  }
  return list;
}

// Steals `value`; returns whether it could be stored.
bool set_fact(PyObject* facts, const char* name, PyObject* value) {
  if (value == nullptr) return false;
  const int status = PyDict_SetItemString(facts, name, value);
  Py_DECREF(value);
  return status == 0;
}

PyObject* build_info(PyObject*, PyObject*) {
  PyObject* facts = PyDict_New();
  if (facts == nullptr) return nullptr;
  const bool complete =
      set_fact(facts, "compiler", PyUnicode_FromString(compiler())) &&
      set_fact(facts, "cxx_standard", PyLong_FromLong(__cplusplus)) &&
      set_fact(facts, "torch_version", PyUnicode_FromString(EGL_TORCH_VERSION)) &&
      set_fact(facts, "minimum_torch_version", PyUnicode_FromString(EGL_MINIMUM_TORCH_VERSION)) &&
      set_fact(facts, "built_with_cuda", PyBool_FromLong(kWithCuda)) &&
      set_fact(facts, "cuda_version", text_or_none(kCudaVersion)) &&
      set_fact(facts, "cuda_architectures", list_of(kCudaArchitectures)) &&
      set_fact(facts, "instruction_set", PyUnicode_FromString(name_of(egl::isa_in_use()))) &&
      set_fact(facts, "debug", PyBool_FromLong(kDebug));
  if (complete) return facts;
  Py_DECREF(facts);
  return nullptr;
}

PyMethodDef methods[] = {
    {"build_info", build_info, METH_NOARGS,
     "How this extension was built: compiler, cxx_standard (__cplusplus), torch_version,\n"
     "minimum_torch_version, built_with_cuda, cuda_version (nvcc's, or None), cuda_architectures\n"
     "(such as [80, 90]; PTX of the last), instruction_set (in use), debug."},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    "_C",
    "Build facts of the native extension.",
    0,
    methods,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
};

}  // namespace

PyMODINIT_FUNC PyInit__C() {
  try {
    egl::isa_in_use();  // decided now: a wrong EGL_ISA is to fail at once
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_ImportError, error.what());
    return nullptr;
  }
  return PyModule_Create(&module_definition);
}
