#include "csrc/core/recurrent_forward.h"

#include <algorithm>
#include <type_traits>
#include <vector>

namespace egl {
namespace {

template <typename State, typename Value>
const RecurrentKernel<Value, State>& kernel_of(Isa isa) {
  const RecurrentKernels& kernels = recurrent_kernels(isa);
  if constexpr (std::is_same_v<Value, double>) {
    return kernels.of_double;
  } else if constexpr (std::is_same_v<State, double>) {
    return kernels.precise;
  } else {
    return kernels.of_float;
  }
}

// Zeros that start on a cache line's boundary: a vector across two lines takes two loads.
template <typename Value>
class AlignedZeros {
 public:
  explicit AlignedZeros(int64_t size) : lines_((size + Line::kSize - 1) / Line::kSize) {}
  Value* data() { return lines_.data()->values; }

 private:
  struct alignas(64) Line {
    static constexpr int64_t kSize = 64 / sizeof(Value);
    Value values[kSize] = {};
  };
  std::vector<Line> lines_;
};

// weight [num_gates, hidden] in panels: [num_panels][hidden][columns]. Hidden units go in groups so
// that the lines written stay in the first cache while all gates of a panel are read.
template <typename Value>
void pack(const Value* weight, int64_t num_gates, int64_t hidden, int64_t columns, Value* packed) {
  constexpr int64_t kGroup = 16;
  for (int64_t gate = 0; gate < num_gates; gate += columns, packed += hidden * columns) {
    const int64_t count = std::min(columns, num_gates - gate);
    for (int64_t group = 0; group < hidden; group += kGroup) {
      const int64_t end = std::min(group + kGroup, hidden);
      for (int64_t j = 0; j < count; ++j) {
        const Value* row = weight + (gate + j) * hidden;
        for (int64_t h = group; h < end; ++h) packed[h * columns + j] = row[h];
      }
    }
  }
}

// The states of some utterances on their way through the frames.
template <typename State, typename Value>
class Run {
 public:
  Run(const RecurrentScan<Value>& scan, int64_t first, int64_t last, Isa isa)
      : scan_(scan),
        kernel_(kernel_of<State, Value>(isa)),
        shape_(shape_of(scan.form.cell)),
        first_(first),
        last_(last),
        num_gates_(shape_.num_gates * scan.hidden_size),
        num_panels_((num_gates_ + kernel_.panel_columns - 1) / kernel_.panel_columns),
        weight_(num_panels_ * kernel_.panel_columns * scan.hidden_size),
        bias_(num_panels_ * kernel_.panel_columns),
        product_((last - first) * num_panels_ * kernel_.panel_columns),
        state_((last - first) * scan.hidden_size),
        cell_state_(scan.initial_cell == nullptr ? 0 : state_.size()) {
    const int64_t hidden = scan.hidden_size;
    pack(scan.weight, num_gates_, hidden, kernel_.panel_columns, weight_.data());
    if (scan.bias != nullptr) std::copy_n(scan.bias, num_gates_, bias_.data());
    std::copy_n(scan.initial_state + first * hidden, state_.size(), state_.begin());
    if (scan.initial_cell != nullptr) {
      std::copy_n(scan.initial_cell + first * hidden, cell_state_.size(), cell_state_.begin());
    }
  }

  void frame(int64_t t) {
    multiply(t);
    for (int64_t n = first_; n < last_; ++n) step(t, n);
  }

  void write_final_cell() const {
    if (scan_.final_cell == nullptr) return;
    round_to(cell_state_.data(), cell_state_.size(), scan_.final_cell + first_ * scan_.hidden_size);
  }

 private:
  static void round_to(const State* from, size_t count, Value* to) {
    for (size_t i = 0; i < count; ++i) to[i] = static_cast<Value>(from[i]);
  }

  bool is_valid(int64_t t, int64_t n) const {
    return scan_.valid == nullptr || scan_.valid[t * scan_.num_utterances + n];
  }
  State* state(int64_t n) { return state_.data() + (n - first_) * scan_.hidden_size; }
  State* cell_state(int64_t n) {
    return cell_state_.empty() ? nullptr : cell_state_.data() + (n - first_) * scan_.hidden_size;
  }
  State* product(int64_t n) {
    return product_.data() + (n - first_) * num_panels_ * kernel_.panel_columns;
  }

  // Of the rows that have this frame.
  void multiply(int64_t t) {
    states_.clear();
    products_.clear();
    for (int64_t n = first_; n < last_; ++n) {
      if (!is_valid(t, n)) continue;
      states_.push_back(state(n));
      products_.push_back(product(n));
    }
    kernel_.product({.weight = weight_.data(),
                     .bias = bias_.data(),
                     .num_panels = num_panels_,
                     .hidden_size = scan_.hidden_size,
                     .states = states_.data(),
                     .products = products_.data(),
                     .num_rows = static_cast<int64_t>(states_.size())});
  }

  void step(int64_t t, int64_t n) {
    const int64_t hidden = scan_.hidden_size;
    const int64_t row = t * scan_.num_utterances + n;
    const int64_t num_coefficients = shape_.num_coefficients * hidden;
    Value* coefficients = scan_.coefficients + row * num_coefficients;
    round_to(state(n), hidden, scan_.previous + row * hidden);
    if (is_valid(t, n)) {
      kernel_.step(scan_.form, hidden,
                   {.projected = scan_.projected + t * scan_.projected_strides[0] +
                                 n * scan_.projected_strides[1],
                    .product = product(n),
                    .state = state(n),
                    .cell_state = cell_state(n),
                    .coefficients = coefficients});
    } else {
      std::fill_n(state(n), hidden, State{0});
      if (!cell_state_.empty()) std::fill_n(cell_state(n), hidden, State{0});
      std::fill_n(coefficients, num_coefficients, Value{0});
    }
    round_to(state(n), hidden, scan_.states + row * hidden);
  }

  const RecurrentScan<Value>& scan_;
  const RecurrentKernel<Value, State>& kernel_;
  const RecurrentCellShape shape_;
  const int64_t first_;
  const int64_t last_;
  const int64_t num_gates_;
  const int64_t num_panels_;
  AlignedZeros<Value> weight_;
  AlignedZeros<State> bias_;
  AlignedZeros<State> product_;
  std::vector<State> state_;
  std::vector<State> cell_state_;
  std::vector<const State*> states_;
  std::vector<State*> products_;
};

}  // namespace

template <typename State, typename Value>
void recurrent_forward(const RecurrentScan<Value>& scan, int64_t first, int64_t last, Isa isa) {
  Run<State, Value> run(scan, first, last, isa);
  for (int64_t i = 0; i < scan.num_frames; ++i) {
    run.frame(scan.reverse ? scan.num_frames - 1 - i : i);
  }
  run.write_final_cell();
}

template void recurrent_forward<float>(const RecurrentScan<float>&, int64_t, int64_t, Isa);
template void recurrent_forward<double>(const RecurrentScan<float>&, int64_t, int64_t, Isa);
template void recurrent_forward<double>(const RecurrentScan<double>&, int64_t, int64_t, Isa);

}  // namespace egl
