#include "csrc/core/recurrent_backward.h"

#include <algorithm>
#include <vector>

#include "csrc/core/recurrent_kernel.h"

namespace egl {
namespace {

template <RecurrentCell kCell, typename Scalar>
void step_rows(const RecurrentStep<Scalar>& step) {
  const int64_t hidden = step.hidden_size;
  for (int64_t i = step.first_row; i < step.last_row; ++i) {
    const RecurrentStepRow<Scalar> row = row_of(step, shape_of(kCell), i);
    // Units are independent. Compilers cannot see that, since gates lie `hidden` apart in one
    // array, and without this the loop would not be vectorized and take 3.5 times as long.
#ifdef __clang__
#pragma clang loop vectorize(assume_safety)
#else
#pragma GCC ivdep
#endif
    for (int64_t h = 0; h < hidden; ++h) step_unit<kCell>(row, hidden, h);
  }
}

}  // namespace

template <typename Scalar>
void recurrent_backward_step(RecurrentCell cell, const RecurrentStep<Scalar>& step) {
  switch (cell) {
    case RecurrentCell::kRnn:
      return step_rows<RecurrentCell::kRnn>(step);
    case RecurrentCell::kGru:
      return step_rows<RecurrentCell::kGru>(step);
    case RecurrentCell::kLstm:
      return step_rows<RecurrentCell::kLstm>(step);
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
    RecurrentStep<Scalar> rows = step_of(problem, frame);
    rows.first_row = first_row;
    rows.last_row = last_row;
    rows.product = product.data();
    rows.product_stride = columns;
    recurrent_backward_step(problem.cell, rows);
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
