#include "csrc/core/recurrent_backward.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <array>

#include "csrc/ops/check.h"
#include "csrc/ops/ops.h"

namespace egl::ops {
namespace {

// Rows are cut into blocks, and each block runs through all frames on its own thread: no barrier a
// frame, and a block's carry stays in its core's cache. A row's bits do not depend on its block, so
// blocks may depend on the number of threads: all threads get as many.
class Blocks {
 public:
  Blocks(int64_t num_rows, int64_t num_threads) : num_rows_(num_rows) {
    // The product takes four rows at a time, unless that leaves a thread without any.
    tile_ = std::clamp<int64_t>(num_rows / num_threads, 1, kTileRows);
    num_tiles_ = (num_rows + tile_ - 1) / tile_;
    const int64_t rounds = (num_rows + kMaxRows * num_threads - 1) / (kMaxRows * num_threads);
    count_ = std::min(rounds * num_threads, num_tiles_);
  }

  int64_t count() const { return count_; }
  // Blocks differ by one tile at most.
  int64_t first_row(int64_t block) const {
    return std::min(num_tiles_ * block / count_ * tile_, num_rows_);
  }

 private:
  static constexpr int64_t kTileRows = 4;
  // Measured at 100 rows and H = 256: blocks of 16 to 50 rows cost the same on one thread.
  static constexpr int64_t kMaxRows = 16;

  int64_t num_rows_;
  int64_t tile_;
  int64_t num_tiles_;
  int64_t count_;
};

struct Arguments {
  RecurrentCell cell;
  Tensor cotangents;
  Tensor coefficients;
  Tensor weight_hh;
  bool reverse;
};

template <typename Scalar>
void run(const Arguments& arguments, Scalar* gates, Scalar* hidden_gates, Scalar* state,
         Scalar* direct) {
  const Tensor& cotangents = arguments.cotangents;
  const int64_t hidden = cotangents.size(3);
  const Isa isa = isa_in_use();
  const PackedWeight<Scalar> weight =
      pack_for_backward(arguments.weight_hh.const_data_ptr<Scalar>(),
                        shape_of(arguments.cell).num_gates, hidden, isa);
  const RecurrentPullback<Scalar> problem{
      .cell = arguments.cell,
      .num_frames = cotangents.size(0),
      .num_cotangents = cotangents.size(1),
      .num_utterances = cotangents.size(2),
      .hidden_size = hidden,
      .reverse = arguments.reverse,
      .cotangents = cotangents.const_data_ptr<Scalar>(),
      .cotangent_strides = {cotangents.stride(0), cotangents.stride(1), cotangents.stride(2)},
      .coefficients = arguments.coefficients.const_data_ptr<Scalar>(),
      .weight = &weight,
      .gates = gates,
      .hidden_gates = hidden_gates,
      .state = state,
      .direct = direct};
  const Blocks blocks(cotangents.size(1) * cotangents.size(2), torch::stable::get_num_threads());
  torch::stable::parallel_for(0, blocks.count(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      recurrent_backward(problem, blocks.first_row(block), blocks.first_row(block + 1), isa);
    }
  });
}

Arguments check_arguments(int64_t cell, const Tensor& cotangents, const Tensor& coefficients,
                          const Tensor& weight_hh, bool reverse,
                          const std::optional<Tensor>& final_cell_cotangents) {
  check(cell >= 0 && cell <= static_cast<int64_t>(RecurrentCell::kLstm),
        "cell: expected 0, 1 or 2, got ", cell);
  const auto kind = static_cast<RecurrentCell>(cell);
  const RecurrentCellShape shape = shape_of(kind);
  check_tensor(cotangents, "cotangents", {ScalarType::Float, ScalarType::Double},
               {{"T"}, {"R"}, {"N"}, {"H"}});
  const ScalarType dtype = cotangents.scalar_type();
  const int64_t hidden = cotangents.size(3);
  check_tensor(coefficients, "coefficients", {dtype},
               {{"T", cotangents.size(0)},
                {"N", cotangents.size(2)},
                {"P", shape.num_coefficients},
                {"H", hidden}});
  check_tensor(weight_hh, "weight_hh", {dtype}, {{"G*H", shape.num_gates * hidden}, {"H", hidden}});
  if (final_cell_cotangents.has_value()) {
    check(kind == RecurrentCell::kLstm, "final_cell_cotangents: expected None unless cell is lstm");
    check_tensor(*final_cell_cotangents, "final_cell_cotangents", {dtype},
                 {{"R", cotangents.size(1)}, {"N", cotangents.size(2)}, {"H", hidden}});
  }
  return {
      kind,
      hidden <= 1 || cotangents.stride(3) == 1 ? cotangents : torch::stable::contiguous(cotangents),
      torch::stable::contiguous(coefficients), torch::stable::contiguous(weight_hh), reverse};
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor, Tensor> recurrent_backward(
    int64_t cell, const Tensor& cotangents, const Tensor& coefficients, const Tensor& weight_hh,
    bool reverse, const std::optional<Tensor>& final_cell_cotangents) {
  const Arguments arguments =
      check_arguments(cell, cotangents, coefficients, weight_hh, reverse, final_cell_cotangents);
  const int64_t num_cotangents = cotangents.size(1);
  const int64_t num_utterances = cotangents.size(2);
  const int64_t hidden = cotangents.size(3);
  const std::array<int64_t, 4> gate_sizes{cotangents.size(0), num_cotangents, num_utterances,
                                          shape_of(arguments.cell).num_gates * hidden};
  const std::array<int64_t, 3> state_sizes{num_cotangents, num_utterances, hidden};
  const bool is_gru = arguments.cell == RecurrentCell::kGru;
  const bool is_lstm = arguments.cell == RecurrentCell::kLstm;

  const auto empty = [&] { return torch::stable::new_empty(cotangents, {0}); };
  const auto new_gates = [&] {
    return torch::stable::new_empty(cotangents, {gate_sizes.data(), gate_sizes.size()});
  };
  Tensor gates = new_gates();
  Tensor hidden_gates = is_gru ? new_gates() : empty();
  Tensor state = torch::stable::new_zeros(cotangents, {state_sizes.data(), state_sizes.size()});
  Tensor direct = torch::stable::new_zeros(cotangents, {state_sizes.data(), state_sizes.size()});
  if (final_cell_cotangents.has_value()) torch::stable::copy_(direct, *final_cell_cotangents);

  const auto run_typed = [&]<typename Scalar>(Scalar*) {
    run(arguments, gates.mutable_data_ptr<Scalar>(),
        is_gru ? hidden_gates.mutable_data_ptr<Scalar>() : nullptr,
        state.mutable_data_ptr<Scalar>(), direct.mutable_data_ptr<Scalar>());
  };
  if (state.numel() > 0) {
    if (cotangents.scalar_type() == ScalarType::Double) {
      run_typed(static_cast<double*>(nullptr));
    } else {
      run_typed(static_cast<float*>(nullptr));
    }
  }
  return {gates, hidden_gates, state, is_lstm ? direct : empty()};
}

}  // namespace egl::ops
