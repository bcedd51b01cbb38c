#include "csrc/core/recurrent_backward.h"

#include <algorithm>
#include <vector>

#include "csrc/core/recurrent_kernel.h"

namespace egl {
namespace {

// Pointers to one row's operands; every array named here has H entries, gate blocks follow each
// other.
template <typename Scalar>
struct Row {
  const Scalar* __restrict cotangent;
  const Scalar* __restrict coefficients;
  const Scalar* __restrict product;
  Scalar* __restrict direct;
  Scalar* __restrict gates;
  Scalar* __restrict hidden_gates;
};

template <typename Scalar>
void rnn_row(const Row<Scalar>& row, int64_t hidden) {
  for (int64_t h = 0; h < hidden; ++h) {
    row.gates[h] = (row.cotangent[h] + row.product[h]) * row.coefficients[h];
  }
}

template <typename Scalar>
void gru_row(const Row<Scalar>& row, int64_t hidden) {
  const Scalar* a = row.coefficients;
  for (int64_t h = 0; h < hidden; ++h) {
    const Scalar dh = row.cotangent[h] + row.product[h] + row.direct[h];
    const Scalar r = dh * a[h];
    const Scalar z = dh * a[h + hidden];
    row.gates[h] = r;
    row.gates[h + hidden] = z;
    row.gates[h + 2 * hidden] = dh * a[h + 2 * hidden];
    row.hidden_gates[h] = r;
    row.hidden_gates[h + hidden] = z;
    row.hidden_gates[h + 2 * hidden] = dh * a[h + 3 * hidden];
    row.direct[h] = dh * a[h + 4 * hidden];
  }
}

template <typename Scalar>
void lstm_row(const Row<Scalar>& row, int64_t hidden) {
  const Scalar* a = row.coefficients;
  for (int64_t h = 0; h < hidden; ++h) {
    const Scalar dh = row.cotangent[h] + row.product[h];
    const Scalar dc = dh * a[h] + row.direct[h];
    row.gates[h] = dc * a[h + hidden];
    row.gates[h + hidden] = dc * a[h + 2 * hidden];
    row.gates[h + 2 * hidden] = dc * a[h + 3 * hidden];
    row.gates[h + 3 * hidden] = dh * a[h + 4 * hidden];
    row.direct[h] = dc * a[h + 5 * hidden];
  }
}

}  // namespace

template <typename Scalar>
void recurrent_backward_step(RecurrentCell cell, const RecurrentStep<Scalar>& step) {
  const RecurrentCellShape shape = shape_of(cell);
  const int64_t hidden = step.hidden_size;
  for (int64_t i = step.first_row; i < step.last_row; ++i) {
    const int64_t r = i / step.num_utterances;
    const int64_t n = i % step.num_utterances;
    const Row<Scalar> row{
        step.cotangents + r * step.cotangent_strides[0] + n * step.cotangent_strides[1],
        step.coefficients + n * shape.num_coefficients * hidden,
        step.product + (i - step.first_row) * step.product_stride,
        step.direct == nullptr ? nullptr : step.direct + i * hidden,
        step.gates + i * shape.num_gates * hidden,
        step.hidden_gates == nullptr ? nullptr : step.hidden_gates + i * shape.num_gates * hidden,
    };
    switch (cell) {
      case RecurrentCell::kRnn:
        rnn_row(row, hidden);
        break;
      case RecurrentCell::kGru:
        gru_row(row, hidden);
        break;
      case RecurrentCell::kLstm:
        lstm_row(row, hidden);
        break;
    }
  }
}

template <typename Scalar>
PackedWeight<Scalar> pack_for_backward(const Scalar* weight_hh, int64_t num_gates, int64_t hidden,
                                       Isa isa) {
  const int64_t columns = recurrent_kernel<Scalar, Scalar>(isa).panel_columns;
  return PackedWeight<Scalar>::inputs_first(weight_hh, num_gates * hidden, hidden, columns);
}

template <typename Scalar>
void recurrent_backward(const RecurrentPullback<Scalar>& problem, int64_t first_row,
                        int64_t last_row, Isa isa) {
  const RecurrentCellShape shape = shape_of(problem.cell);
  const int64_t hidden = problem.hidden_size;
  const int64_t num_rows = last_row - first_row;
  const int64_t gate_columns = shape.num_gates * hidden;
  const int64_t gate_frame = problem.num_cotangents * problem.num_utterances * gate_columns;
  const int64_t columns = problem.weight->num_columns();
  const bool is_gru = problem.cell == RecurrentCell::kGru;
  Scalar* const hidden_side = is_gru ? problem.hidden_gates : problem.gates;
  const AlignedZeros<Scalar> bias(columns);
  AlignedZeros<Scalar> product(num_rows * columns);
  std::vector<const Scalar*> inputs(num_rows);
  std::vector<Scalar*> products(num_rows);
  for (int64_t i = 0; i < num_rows; ++i) products[i] = product.data() + i * columns;

  for (int64_t step = 0; step < problem.num_frames; ++step) {
    const int64_t frame = problem.reverse ? step : problem.num_frames - 1 - step;
    recurrent_backward_step<Scalar>(
        problem.cell,
        {.first_row = first_row,
         .last_row = last_row,
         .num_utterances = problem.num_utterances,
         .hidden_size = hidden,
         .cotangents = problem.cotangents + frame * problem.cotangent_strides[0],
         .cotangent_strides = {problem.cotangent_strides[1], problem.cotangent_strides[2]},
         .coefficients = problem.coefficients +
                         frame * problem.num_utterances * shape.num_coefficients * hidden,
         .product = product.data(),
         .product_stride = columns,
         .direct = problem.direct,
         .gates = problem.gates + frame * gate_frame,
         .hidden_gates = is_gru ? problem.hidden_gates + frame * gate_frame : nullptr});
    for (int64_t i = 0; i < num_rows; ++i) {
      inputs[i] = hidden_side + frame * gate_frame + (first_row + i) * gate_columns;
    }
    recurrent_kernel<Scalar, Scalar>(isa).product({.weight = problem.weight->data(),
                                                   .bias = bias.data(),
                                                   .num_panels = problem.weight->num_panels(),
                                                   .num_inputs = problem.weight->num_inputs(),
                                                   .inputs = inputs.data(),
                                                   .products = products.data(),
                                                   .num_rows = num_rows});
  }
  for (int64_t i = 0; i < num_rows; ++i) {
    Scalar* state = problem.state + (first_row + i) * hidden;
    std::copy_n(products[i], hidden, state);
    if (!is_gru) continue;
    const Scalar* direct = problem.direct + (first_row + i) * hidden;
    for (int64_t h = 0; h < hidden; ++h) state[h] += direct[h];
  }
}

template PackedWeight<float> pack_for_backward(const float*, int64_t, int64_t, Isa);
template PackedWeight<double> pack_for_backward(const double*, int64_t, int64_t, Isa);
template void recurrent_backward(const RecurrentPullback<float>&, int64_t, int64_t, Isa);
template void recurrent_backward(const RecurrentPullback<double>&, int64_t, int64_t, Isa);
template void recurrent_backward_step(RecurrentCell, const RecurrentStep<float>&);
template void recurrent_backward_step(RecurrentCell, const RecurrentStep<double>&);

}  // namespace egl
