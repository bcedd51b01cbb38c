// What torch says of an error of its own.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

// Part of torch's stable C interface from 2.13 on; null beside older ones.
extern "C" __attribute__((weak)) const char* torch_exception_get_what_without_backtrace();

namespace egl::ops {

// The C interface passes on that a call of torch failed, but not why, and "API call failed at"
// tells nobody that memory ran out. An operator that is registered as this says why.
template <auto kOperator>
struct WithTorchErrors;

template <typename Result, typename... Arguments, Result (*kOperator)(Arguments...)>
struct WithTorchErrors<kOperator> {
  static Result call(Arguments... arguments) {
    try {
      return kOperator(std::forward<Arguments>(arguments)...);
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

}  // namespace egl::ops
