#include "csrc/core/recurrent_forward.h"

#include <algorithm>
#include <vector>

#include "csrc/core/packed_weight.h"

namespace egl {
namespace {

// One pass of some utterances through all frames.
template <typename State, typename Value>
class Run {
 public:
  Run(const RecurrentScan<Value>& scan, int64_t first, int64_t last, Isa isa)
      : scan_(scan),
        kernel_(recurrent_kernel<State, Value>(isa)),
        shape_(shape_of(scan.form.cell)),
        first_(first),
        last_(last),
        weight_(PackedWeight<Value>::outputs_first(scan.weight, shape_.num_gates * scan.hidden_size,
                                                   scan.hidden_size, kernel_.panel_columns)),
        bias_(weight_.num_columns()),
        product_((last - first) * weight_.num_columns()),
        state_((last - first) * scan.hidden_size),
        cell_state_(scan.initial_cell == nullptr ? 0 : state_.size()) {
    const int64_t hidden = scan.hidden_size;
    if (scan.bias != nullptr) std::copy_n(scan.bias, shape_.num_gates * hidden, bias_.data());
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
  State* product(int64_t n) { return product_.data() + (n - first_) * weight_.num_columns(); }

  // The products of the utterances that have this frame.
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
                     .num_panels = weight_.num_panels(),
                     .num_inputs = weight_.num_inputs(),
                     .inputs = states_.data(),
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
  PackedWeight<Value> weight_;
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
