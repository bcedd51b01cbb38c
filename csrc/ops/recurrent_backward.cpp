#include "csrc/core/recurrent_backward.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <array>

#include "csrc/ops/aten.h"
#include "csrc/ops/check.h"
#include "csrc/ops/ops.h"

namespace egl::ops {
namespace {

// Rows are cut into blocks of at most this size, and each block runs through all frames on its own
// thread: no barrier a frame, and a block's carry stays in its core's cache. The size is fixed
// rather than derived from the number of threads so that results do not depend on that number, and
// small so that the few rows of an estimate are work for two threads.
// Measured at 100 rows and H = 256: blocks of 16 to 50 rows cost the same on one thread, and with
// two threads on a busy machine the frame loop outside, threads inside the product, took 13 times
// as long.
constexpr int64_t kMaxRowsPerBlock = 16;

struct Blocks {
  explicit Blocks(int64_t num_rows)
      : num_rows(num_rows), count((num_rows + kMaxRowsPerBlock - 1) / kMaxRowsPerBlock) {}

  // Blocks differ by one row at most; a block past the last is empty.
  int64_t first_row(int64_t block) const { return num_rows * std::min(block, count) / count; }

  int64_t num_rows;
  int64_t count;
};

struct Arguments {
  RecurrentCell cell;
  Tensor cotangents;
  Tensor coefficients;
  Tensor weight_hh;
  bool reverse;
};

// What the frame before hands over, [R * N, H]; `product` ends up as the state's cotangent and, in
// an LSTM, `direct` as the cell's.
template <typename Scalar>
struct Carry {
  Scalar* product;
  Scalar* direct;
};

// The gates' cotangents, [T, R * N, G * H] on either side; the same memory but in a GRU.
template <typename Scalar>
struct Sides {
  Scalar* input;
  Scalar* hidden;
};

template <typename Scalar>
void run_block(const Arguments& arguments, int64_t first_row, int64_t last_row,
               const Sides<Scalar>& sides, const Carry<Scalar>& carry) {
  const RecurrentCellShape shape = shape_of(arguments.cell);
  const Tensor& cotangents = arguments.cotangents;
  const int64_t num_frames = cotangents.size(0);
  const int64_t num_utterances = cotangents.size(2);
  const int64_t hidden = cotangents.size(3);
  const int64_t gate_cols = shape.num_gates * hidden;
  const int64_t gate_frame = cotangents.size(1) * num_utterances * gate_cols;
  const int64_t coefficient_frame = num_utterances * shape.num_coefficients * hidden;

  const Tensor weight = matrix(arguments.weight_hh.const_data_ptr<Scalar>(), gate_cols, hidden);
  const Tensor product = matrix(carry.product + first_row * hidden, last_row - first_row, hidden);
  for (int64_t step = 0; step < num_frames; ++step) {
    const int64_t frame = arguments.reverse ? step : num_frames - 1 - step;
    Scalar* hidden_gates = sides.hidden + frame * gate_frame;
    recurrent_backward_step<Scalar>(
        arguments.cell,
        {.first_row = first_row,
         .last_row = last_row,
         .num_utterances = num_utterances,
         .hidden_size = hidden,
         .cotangents = cotangents.const_data_ptr<Scalar>() + frame * cotangents.stride(0),
         .cotangent_strides = {cotangents.stride(1), cotangents.stride(2)},
         .coefficients =
             arguments.coefficients.const_data_ptr<Scalar>() + frame * coefficient_frame,
         .product = carry.product,
         .direct = carry.direct,
         .gates = sides.input + frame * gate_frame,
         .hidden_gates = hidden_gates});
    mm_out(matrix(hidden_gates + first_row * gate_cols, last_row - first_row, gate_cols), weight,
           product);
  }
}

template <typename Scalar>
void run(const Arguments& arguments, const Sides<Scalar>& sides, Tensor& state, Scalar* direct) {
  const Carry<Scalar> carry{state.mutable_data_ptr<Scalar>(), direct};
  const int64_t hidden = state.size(2);
  const Blocks blocks(state.size(0) * state.size(1));
  // A range of one would run outside a parallel region, where the product starts threads of its own
  // at every frame and may round differently; so there is always a second block, if an empty one.
  const int64_t range = std::max<int64_t>(blocks.count, 2);
  torch::stable::parallel_for(0, range, 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t first_row = blocks.first_row(block);
      const int64_t last_row = blocks.first_row(block + 1);
      if (first_row < last_row) run_block(arguments, first_row, last_row, sides, carry);
    }
  });
  if (arguments.cell == RecurrentCell::kGru) {
    for (int64_t i = 0; i < blocks.num_rows * hidden; ++i) carry.product[i] += direct[i];
  }
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
    auto* input = gates.mutable_data_ptr<Scalar>();
    const Sides<Scalar> sides{input, is_gru ? hidden_gates.mutable_data_ptr<Scalar>() : input};
    run(arguments, sides, state, direct.mutable_data_ptr<Scalar>());
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
