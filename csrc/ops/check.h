// Argument checks of the operators. Each message names the argument, what was expected, and what it
// got: `labels: expected int64 [N=2, K=4, U], got float32 [4, 7]`. They are thrown as
// std::invalid_argument, which Python sees as ValueError.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <initializer_list>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

// The headers of torch 2.10 to 2.12 have only the form that loses the message.
#ifndef STABLE_TORCH_ERROR_CODE_CHECK
#define STABLE_TORCH_ERROR_CODE_CHECK TORCH_ERROR_CODE_CHECK
#endif

namespace egl::ops {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <typename... Parts>
void check(bool condition, const Parts&... parts) {
  if (condition) return;
  std::ostringstream message;
  (message << ... << parts);
  throw std::invalid_argument(message.str());
}

// As torch's Python API names it.
inline std::string dtype_name(ScalarType dtype) {
  constexpr std::pair<ScalarType, const char*> kNames[] = {
      {ScalarType::Float, "float32"},
      {ScalarType::Double, "float64"},
      {ScalarType::Bool, "bool"},
      {ScalarType::Half, "float16"},
      {ScalarType::BFloat16, "bfloat16"},
      {ScalarType::ComplexFloat, "complex64"},
      {ScalarType::ComplexDouble, "complex128"},
      {ScalarType::Byte, "uint8"},
      {ScalarType::Char, "int8"},
      {ScalarType::Short, "int16"},
      {ScalarType::Int, "int32"},
      {ScalarType::Long, "int64"}};
  for (const auto& [named, name] : kNames) {
    if (named == dtype) return name;
  }
  return torch::headeronly::toString(dtype);
}

// Calls body(double{}) or body(float{}), whichever is the tensor's type.
template <typename Body>
void visit_floating(const Tensor& tensor, const Body& body) {
  if (tensor.scalar_type() == ScalarType::Double) {
    body(double{});
  } else {
    body(float{});
  }
}

// One axis of an expected shape: its letter, and its size if that is fixed.
struct Axis {
  static constexpr int64_t kAnySize = -1;
  const char* name;
  int64_t size = kAnySize;
};

inline bool matches(const Tensor& tensor, std::initializer_list<ScalarType> dtypes,
                    std::initializer_list<Axis> shape) {
  bool dtype_matches = false;
  for (const ScalarType dtype : dtypes) dtype_matches |= tensor.scalar_type() == dtype;
  if (!dtype_matches || tensor.dim() != static_cast<int64_t>(shape.size())) return false;
  int64_t dim = 0;
  for (const Axis& axis : shape) {
    if (axis.size != Axis::kAnySize && tensor.size(dim) != axis.size) return false;
    ++dim;
  }
  return true;
}

inline void check_tensor(const Tensor& tensor, const char* name,
                         std::initializer_list<ScalarType> dtypes,
                         std::initializer_list<Axis> shape) {
  if (matches(tensor, dtypes, shape)) return;
  std::ostringstream message;
  message << name << ": expected ";
  const char* separator = "";
  for (const ScalarType dtype : dtypes) {
    message << separator << dtype_name(dtype);
    separator = " or ";
  }
  separator = " [";
  for (const Axis& axis : shape) {
    message << separator << axis.name;
    if (axis.size != Axis::kAnySize) message << '=' << axis.size;
    separator = ", ";
  }
  message << "], got " << dtype_name(tensor.scalar_type()) << " [";
  for (int64_t dim = 0; dim < tensor.dim(); ++dim) {
    message << (dim == 0 ? "" : ", ") << tensor.size(dim);
  }
  message << ']';
  throw std::invalid_argument(message.str());
}

inline void check_in_range(int64_t value, const char* name, int64_t low, int64_t high,
                           int64_t position) {
  check(value >= low && value <= high, name, ": expected values in [", low, ", ", high, "], got ",
        value, " at position ", position);
}

// `tensor`'s values, int64 and contiguous, all in [low, high].
inline void check_range(const Tensor& tensor, const char* name, int64_t low, int64_t high) {
  const int64_t* values = tensor.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < tensor.numel(); ++i) check_in_range(values[i], name, low, high, i);
}

}  // namespace egl::ops
