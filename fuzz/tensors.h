// Tensors that borrow vectors, for the operators as torch calls them. Vectors are of the exact
// size, so the address sanitizer sees what is read beyond them.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include "csrc/ops/check.h"

namespace egl::fuzz {

using ops::ScalarType;
using ops::Tensor;

template <typename Scalar>
Tensor tensor(const std::vector<Scalar>& values, std::vector<int64_t> sizes,
              std::optional<std::vector<int64_t>> strides = std::nullopt) {
  if (!strides.has_value()) {
    strides.emplace(sizes.size(), 1);
    for (size_t dim = sizes.size(); dim-- > 1;) {
      (*strides)[dim - 1] = (*strides)[dim] * std::max<int64_t>(sizes[dim], 1);
    }
  }
  constexpr auto dtype = std::is_same_v<Scalar, float>    ? ScalarType::Float
                         : std::is_same_v<Scalar, double> ? ScalarType::Double
                                                          : ScalarType::Long;
  return torch::stable::from_blob(const_cast<Scalar*>(values.data()), {sizes.data(), sizes.size()},
                                  {strides->data(), strides->size()},
                                  torch::stable::Device(torch::headeronly::DeviceType::CPU, -1),
                                  dtype);
}

// [N, T, C], every value `step` from its neighbor, class by class, as a transposed tensor has them.
template <typename Scalar>
struct Transposed {
  Transposed(const std::vector<double>& from, int64_t num_utterances, int64_t num_frames,
             int64_t num_classes, int64_t step)
      : sizes{num_utterances, num_frames, num_classes},
        strides{step * num_frames * num_classes, step, step * num_frames},
        values(num_utterances * strides[0], std::numeric_limits<Scalar>::quiet_NaN()) {
    for (int64_t n = 0; n < num_utterances; ++n) {
      for (int64_t t = 0; t < num_frames; ++t) {
        for (int64_t c = 0; c < num_classes; ++c) {
          values[n * strides[0] + t * strides[1] + c * strides[2]] =
              static_cast<Scalar>(from[(n * num_frames + t) * num_classes + c]);
        }
      }
    }
  }

  Tensor view() const { return tensor(values, sizes, strides); }

  std::vector<int64_t> sizes;
  std::vector<int64_t> strides;
  std::vector<Scalar> values;
};

inline bool are_floats(const std::vector<double>& values) {
  return std::all_of(values.begin(), values.end(), [](double value) {
    return static_cast<double>(static_cast<float>(value)) == value;
  });
}

template <typename Call>
bool is_refused(const Call& call) {
  try {
    call();
  } catch (const std::invalid_argument&) {
    return true;
  }
  return false;
}

}  // namespace egl::fuzz
