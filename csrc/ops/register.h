// Registers the operators with torch.
#pragma once

#include <torch/csrc/stable/library.h>

#include <stdexcept>
#include <string>
#include <utility>

#include "csrc/ops/operators.h"

// Part of torch's stable C interface from 2.13 on; null with older versions.
extern "C" __attribute__((weak)) const char* torch_exception_get_what_without_backtrace();

namespace egl::ops {

// An operator as torch calls it, with a tuple of results. For errors in torch itself, the C
// interface only says that a call failed ("API call failed at"); this gives the reason, such as
// memory that ran out.
template <auto kOperator>
struct TorchOperator;

template <typename Result, typename... Arguments, Result (*kOperator)(Arguments...)>
struct TorchOperator<kOperator> {
  static auto call(Arguments... arguments) {
    try {
      if constexpr (requires(Result result) { result.as_tuple(); }) {
        return kOperator(std::forward<Arguments>(arguments)...).as_tuple();
      } else {
        return kOperator(std::forward<Arguments>(arguments)...);
      }
    } catch (const std::runtime_error& error) {
      const std::string message = error.what();
      if (message.find(" API call failed at ") == std::string::npos ||
          torch_exception_get_what_without_backtrace == nullptr) {
        throw;
      }
      throw std::runtime_error(torch_exception_get_what_without_backtrace());
    }
  }
};

inline void define_operators(torch::stable::detail::StableLibrary& library) {
#define EGL_DEFINE(name, schema) library.def(#name schema);
  EGL_OPERATORS(EGL_DEFINE)
  EGL_CPU_OPERATORS(EGL_DEFINE)
  EGL_CUDA_OPERATORS(EGL_DEFINE)
#undef EGL_DEFINE
}

}  // namespace egl::ops

// For the lists above.
#define EGL_IMPLEMENT(half, name) \
  library.impl(#name, TORCH_BOX(&egl::ops::TorchOperator<&half::name>::call));
#define EGL_ON_CPU(name, schema) EGL_IMPLEMENT(egl::ops, name)
#define EGL_ON_CUDA(name, schema) EGL_IMPLEMENT(egl::ops::cuda, name)
