#include <span>
#include <type_traits>
#include <vector>

#include "csrc/cuda/recurrent_forward.h"
#include "csrc/ops/aten.h"
#include "csrc/ops/cuda/device.h"
#include "csrc/ops/operators.h"
#include "csrc/ops/recurrent_forward_tensors.h"

namespace egl::ops::cuda {
namespace {

// What all directions carry from frame to frame, in the type State.
template <typename State>
class Carry {
 public:
  explicit Carry(const RecurrentForwardTensors& tensors)
      : tensors_(tensors),
        state_(stacked(tensors.num_utterances(), tensors.hidden_size())),
        cell_state_(
            stacked(tensors.is_lstm() ? tensors.num_utterances() : 0, tensors.hidden_size())),
        product_(stacked(tensors.num_utterances(), tensors.gate_columns())),
        weight_(stacked(tensors.gate_columns(), tensors.hidden_size())),
        weight_transposed_(torch::stable::transpose(weight_, 1, 2)) {
    for (int64_t d = 0; d < tensors.num_directions(); ++d) {
      const RecurrentForwardTensors::Direction& direction = tensors.directions()[d];
      assign(state_, d, direction.initial_state);
      assign(weight_, d, direction.weight_hh);
      if (tensors.is_lstm()) assign(cell_state_, d, *direction.initial_cell);
    }
  }

  egl::cuda::RecurrentCarry<State> pointers() const {
    return {state_.mutable_data_ptr<State>(),
            tensors_.is_lstm() ? cell_state_.mutable_data_ptr<State>() : nullptr,
            product_.mutable_data_ptr<State>()};
  }

  void multiply() const { bmm_out(state_, weight_transposed_, product_); }

  void write_final_cell() const {
    for (int64_t d = 0; tensors_.is_lstm() && d < tensors_.num_directions(); ++d) {
      Tensor out = tensors_.directions()[d].final_cell;
      torch::stable::copy_(out, torch::stable::select(cell_state_, 0, d));
    }
  }

 private:
  // [D, rows, columns], uninitialized.
  Tensor stacked(int64_t rows, int64_t columns) const {
    constexpr auto dtype = std::is_same_v<State, double> ? ScalarType::Double : ScalarType::Float;
    return torch::stable::new_empty(tensors_.directions()[0].projected,
                                    {tensors_.num_directions(), rows, columns}, dtype);
  }

  static void assign(const Tensor& stack, int64_t d, const Tensor& values) {
    Tensor slot = torch::stable::select(stack, 0, d);
    torch::stable::copy_(slot, values);
  }

  const RecurrentForwardTensors& tensors_;
  Tensor state_;
  Tensor cell_state_;
  Tensor product_;
  Tensor weight_;
  Tensor weight_transposed_;
};

}  // namespace

RecurrentStates recurrent_forward(
    int64_t cell, std::optional<double> relu_clip, const std::vector<Tensor>& projected,
    const std::vector<Tensor>& weight_hh, const std::vector<Tensor>& bias_hh,
    const std::vector<Tensor>& initial_state, const std::vector<Tensor>& initial_cell,
    const std::optional<Tensor>& valid, const std::vector<bool>& reverse, bool precise) {
  const RecurrentForwardTensors tensors(cell, relu_clip, projected, weight_hh, bias_hh,
                                        initial_state, initial_cell, valid, reverse);
  const auto check_devices = [&](const std::vector<Tensor>& list, const char* name) {
    for (const Tensor& tensor : list) check_device(tensor, name, projected[0], "projected");
  };
  check_devices(projected, "projected");
  check_devices(weight_hh, "weight_hh");
  check_devices(bias_hh, "bias_hh");
  check_devices(initial_state, "initial_state");
  check_devices(initial_cell, "initial_cell");
  if (valid.has_value()) check_device(*valid, "valid", projected[0], "projected");

  const DeviceScope scope(projected[0]);
  tensors.visit_types(precise, [&]<typename State, typename Value>(State, Value) {
    const std::vector<RecurrentScan<Value>> scans = tensors.scans<Value>();
    const Carry<State> carry(tensors);
    egl::cuda::recurrent_forward(std::span(scans), carry.pointers(), scope.stream(),
                                 [&] { carry.multiply(); });
    carry.write_final_cell();
  });
  return tensors.results();
}

}  // namespace egl::ops::cuda
