// The recurrent cells, and how many gates and coefficients a step of each has.
#pragma once

#include <cstdint>

#include "csrc/core/host_device.h"

namespace egl {

enum class RecurrentCell : int64_t { kRnn = 0, kGru = 1, kLstm = 2 };

struct RecurrentCellShape {
  int64_t num_coefficients;  // P: what backward through time needs of a step
  int64_t num_gates;         // G: blocks of H columns on either side
};

EGL_HOST_DEVICE constexpr RecurrentCellShape shape_of(RecurrentCell cell) {
  switch (cell) {
    case RecurrentCell::kRnn:
      return {1, 1};
    case RecurrentCell::kGru:
      return {5, 3};
    default:
      return {6, 4};
  }
}

}  // namespace egl
