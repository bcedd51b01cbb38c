#include <array>
#include <span>
#include <type_traits>
#include <vector>

#include "csrc/cuda/recurrent_forward.h"
#include "csrc/ops/aten.h"
#include "csrc/ops/cuda/device.h"
#include "csrc/ops/operators.h"
#include "csrc/ops/recurrent_forward_call.h"

namespace egl::ops::cuda {
namespace {

// What goes from frame to frame, in the type State, for all directions.
template <typename State>
class Carry {
 public:
  explicit Carry(const RecurrentForwardCall& call)
      : call_(call),
        state_(stacked(call.num_utterances(), call.hidden_size())),
        cell_state_(stacked(call.is_lstm() ? call.num_utterances() : 0, call.hidden_size())),
        product_(stacked(call.num_utterances(), call.gate_columns())),
        weight_(stacked(call.gate_columns(), call.hidden_size())),
        weight_transposed_(torch::stable::transpose(weight_, 1, 2)) {
    for (int64_t d = 0; d < call.num_directions(); ++d) {
      const RecurrentForwardCall::Direction& direction = call.directions()[d];
      assign(state_, d, direction.initial_state);
      assign(weight_, d, direction.weight_hh);
      if (call.is_lstm()) assign(cell_state_, d, *direction.initial_cell);
    }
  }

  egl::cuda::RecurrentCarry<State> pointers() const {
    return {state_.mutable_data_ptr<State>(),
            call_.is_lstm() ? cell_state_.mutable_data_ptr<State>() : nullptr,
            product_.mutable_data_ptr<State>()};
  }

  void multiply() const { bmm_out(state_, weight_transposed_, product_); }

  void write_final_cell() const {
    for (int64_t d = 0; call_.is_lstm() && d < call_.num_directions(); ++d) {
      Tensor out = call_.directions()[d].final_cell;
      torch::stable::copy_(out, torch::stable::select(cell_state_, 0, d));
    }
  }

 private:
  // [D, rows, columns], uninitialised.
  Tensor stacked(int64_t rows, int64_t columns) const {
    const std::array<int64_t, 3> sizes{call_.num_directions(), rows, columns};
    constexpr auto dtype = std::is_same_v<State, double> ? ScalarType::Double : ScalarType::Float;
    return torch::stable::new_empty(call_.directions()[0].projected, {sizes.data(), sizes.size()},
                                    dtype);
  }

  static void assign(const Tensor& stack, int64_t d, const Tensor& values) {
    Tensor slot = torch::stable::select(stack, 0, d);
    torch::stable::copy_(slot, values);
  }

  const RecurrentForwardCall& call_;
  Tensor state_;
  Tensor cell_state_;
  Tensor product_;
  Tensor weight_;
  Tensor weight_transposed_;
};

template <typename State, typename Value>
void run(const RecurrentForwardCall& call, cudaStream_t stream) {
  const std::vector<RecurrentScan<Value>> scans = call.scans<Value>();
  const Carry<State> carry(call);
  egl::cuda::recurrent_forward(std::span(scans), carry.pointers(), stream,
                               [&] { carry.multiply(); });
  carry.write_final_cell();
}

}  // namespace

RecurrentStates recurrent_forward(int64_t cell, std::optional<double> relu_clip,
                                  std::vector<Tensor> projected, std::vector<Tensor> weight_hh,
                                  std::vector<Tensor> bias_hh, std::vector<Tensor> initial_state,
                                  std::vector<Tensor> initial_cell, std::optional<Tensor> valid,
                                  std::vector<bool> reverse, bool precise) {
  const RecurrentForwardCall call(cell, relu_clip, projected, weight_hh, bias_hh, initial_state,
                                  initial_cell, valid, reverse);
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
  call.visit_types(precise, [&]<typename State, typename Value>(State, Value) {
    run<State, Value>(call, scope.stream());
  });
  return call.results();
}

}  // namespace egl::ops::cuda
