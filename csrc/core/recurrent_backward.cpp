#include "csrc/core/recurrent_backward.h"

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
        step.product + i * hidden,
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

template void recurrent_backward_step(RecurrentCell, const RecurrentStep<float>&);
template void recurrent_backward_step(RecurrentCell, const RecurrentStep<double>&);

}  // namespace egl
