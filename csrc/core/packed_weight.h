// A recurrent weight as the kernels of recurrent_kernel.h read it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace egl {

// Zero-initialized numbers, aligned to cache lines: a vector that crosses lines takes two loads.
template <typename Value>
class AlignedZeros {
 public:
  explicit AlignedZeros(int64_t size) : lines_((size + Line::kSize - 1) / Line::kSize) {}
  Value* data() { return lines_.data()->values; }
  const Value* data() const { return lines_.data()->values; }

 private:
  struct alignas(64) Line {
    static constexpr int64_t kSize = 64 / sizeof(Value);
    Value values[kSize] = {};
  };
  std::vector<Line> lines_;
};

// In panels of `panel_columns` outputs, [num_panels][num_inputs][panel_columns], zero beyond the
// last output.
template <typename Value>
class PackedWeight {
 public:
  // weight [num_outputs, num_inputs]. Inputs are copied in groups, so that the lines written stay
  // in the L1 cache while all outputs of a panel are read.
  static PackedWeight outputs_first(const Value* weight, int64_t num_outputs, int64_t num_inputs,
                                    int64_t panel_columns) {
    constexpr int64_t kGroup = 16;
    PackedWeight packed(num_outputs, num_inputs, panel_columns);
    Value* panel = packed.values_.data();
    for (int64_t output = 0; output < num_outputs; output += panel_columns) {
      const int64_t count = std::min(panel_columns, num_outputs - output);
      for (int64_t group = 0; group < num_inputs; group += kGroup) {
        const int64_t end = std::min(group + kGroup, num_inputs);
        for (int64_t j = 0; j < count; ++j) {
          const Value* row = weight + (output + j) * num_inputs;
          for (int64_t i = group; i < end; ++i) panel[i * panel_columns + j] = row[i];
        }
      }
      panel += num_inputs * panel_columns;
    }
    return packed;
  }

  // weight [num_inputs, num_outputs].
  static PackedWeight inputs_first(const Value* weight, int64_t num_inputs, int64_t num_outputs,
                                   int64_t panel_columns) {
    PackedWeight packed(num_outputs, num_inputs, panel_columns);
    Value* out = packed.values_.data();
    for (int64_t output = 0; output < num_outputs; output += panel_columns) {
      const int64_t count = std::min(panel_columns, num_outputs - output);
      for (int64_t i = 0; i < num_inputs; ++i, out += panel_columns) {
        std::copy_n(weight + i * num_outputs + output, count, out);
      }
    }
    return packed;
  }

  const Value* data() const { return values_.data(); }
  int64_t num_inputs() const { return num_inputs_; }
  int64_t num_panels() const { return num_panels_; }
  int64_t num_columns() const { return num_panels_ * panel_columns_; }  // outputs and padding

 private:
  PackedWeight(int64_t num_outputs, int64_t num_inputs, int64_t panel_columns)
      : num_inputs_(num_inputs),
        panel_columns_(panel_columns),
        num_panels_((num_outputs + panel_columns - 1) / panel_columns),
        values_(num_panels_ * panel_columns * num_inputs) {}

  int64_t num_inputs_;
  int64_t panel_columns_;
  int64_t num_panels_;
  AlignedZeros<Value> values_;
};

}  // namespace egl
