#include "csrc/core/recurrent_forward.h"

#include <torch/csrc/stable/ops.h>

#include <array>
#include <limits>
#include <utility>
#include <vector>

#include "csrc/ops/check.h"
#include "csrc/ops/ops.h"

namespace egl::ops {
namespace {

// Each direction's utterances are cut into blocks of at most this size, and each block runs through
// all frames on its own thread. Packing the weight costs a block about one frame of one utterance,
// and reading it costs a frame less per utterance the more there are.
constexpr int64_t kMaxUtterancesPerBlock = 8;

struct Direction {
  Tensor projected;  // [T, N, G * H], unit stride in the last
  Tensor weight_hh;  // [G * H, H], this and what follows contiguous
  std::optional<Tensor> bias_hh;
  Tensor initial_state;
  std::optional<Tensor> initial_cell;
  bool reverse;
};

struct Results {
  std::vector<Tensor> states;
  std::vector<Tensor> previous;
  std::vector<Tensor> coefficients;
  std::vector<Tensor> final_cell;
};

template <typename State, typename Value>
void run(const std::vector<Direction>& directions, const RecurrentForm& form,
         const std::optional<Tensor>& valid, Results& results) {
  const int64_t num_utterances = directions.front().projected.size(1);
  const auto data = [](const std::optional<Tensor>& tensor) {
    return tensor.has_value() ? tensor->const_data_ptr<Value>() : nullptr;
  };
  std::vector<RecurrentScan<Value>> scans;
  for (size_t i = 0; i < directions.size(); ++i) {
    const Direction& direction = directions[i];
    scans.push_back({
        .form = form,
        .num_frames = direction.projected.size(0),
        .num_utterances = num_utterances,
        .hidden_size = direction.weight_hh.size(1),
        .reverse = direction.reverse,
        .projected = direction.projected.const_data_ptr<Value>(),
        .projected_strides = {direction.projected.stride(0), direction.projected.stride(1)},
        .weight = direction.weight_hh.const_data_ptr<Value>(),
        .bias = data(direction.bias_hh),
        .initial_state = direction.initial_state.const_data_ptr<Value>(),
        .initial_cell = data(direction.initial_cell),
        .valid = valid.has_value() ? valid->const_data_ptr<bool>() : nullptr,
        .states = results.states[i].mutable_data_ptr<Value>(),
        .previous = results.previous[i].mutable_data_ptr<Value>(),
        .coefficients = results.coefficients[i].mutable_data_ptr<Value>(),
        .final_cell = direction.initial_cell.has_value()
                          ? results.final_cell[i].mutable_data_ptr<Value>()
                          : nullptr,
    });
  }
  const int64_t num_blocks = (num_utterances + kMaxUtterancesPerBlock - 1) / kMaxUtterancesPerBlock;
  const auto num_scans = static_cast<int64_t>(scans.size());
  const Isa isa = isa_in_use();
  torch::stable::parallel_for(0, num_scans * num_blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t block = i % num_blocks;
      recurrent_forward<State>(scans[i / num_blocks], num_utterances * block / num_blocks,
                               num_utterances * (block + 1) / num_blocks, isa);
    }
  });
}

RecurrentForm check_form(int64_t cell, std::optional<double> relu_clip) {
  check(cell >= 0 && cell <= static_cast<int64_t>(RecurrentCell::kLstm),
        "cell: expected 0, 1 or 2, got ", cell);
  const auto kind = static_cast<RecurrentCell>(cell);
  if (relu_clip.has_value()) {
    check(kind == RecurrentCell::kRnn, "relu_clip: expected None unless cell is rnn, got ",
          *relu_clip);
    check(*relu_clip > 0.0, "relu_clip: expected a number above 0, got ", *relu_clip);
  }
  return {kind, relu_clip.has_value(), relu_clip.value_or(std::numeric_limits<double>::infinity())};
}

// A list with a tensor for each direction; or, where `is_wanted` is false, an empty one.
void check_count(const std::vector<Tensor>& list, const char* name, size_t count, bool is_wanted) {
  check(list.size() == (is_wanted ? count : 0), name, ": expected ", is_wanted ? count : 0,
        " tensors, got ", list.size());
}

std::vector<Direction> check_directions(RecurrentCell cell, const std::vector<Tensor>& projected,
                                        const std::vector<Tensor>& weight_hh,
                                        const std::vector<Tensor>& bias_hh,
                                        const std::vector<Tensor>& initial_state,
                                        const std::vector<Tensor>& initial_cell,
                                        const std::optional<Tensor>& valid,
                                        const std::vector<bool>& reverse) {
  check(!projected.empty(), "projected: expected a tensor for each direction, got none");
  const size_t count = projected.size();
  check_count(weight_hh, "weight_hh", count, true);
  check_count(bias_hh, "bias_hh", count, !bias_hh.empty());
  check_count(initial_state, "initial_state", count, true);
  check_count(initial_cell, "initial_cell", count, cell == RecurrentCell::kLstm);
  check(reverse.size() == count, "reverse: expected ", count, " values, got ", reverse.size());

  check_tensor(projected[0], "projected", {ScalarType::Float, ScalarType::Double},
               {{"T"}, {"N"}, {"G*H"}});
  check_tensor(initial_state[0], "initial_state", {projected[0].scalar_type()},
               {{"N", projected[0].size(1)}, {"H"}});
  const ScalarType dtype = projected[0].scalar_type();
  const Axis T{"T", projected[0].size(0)};
  const Axis N{"N", projected[0].size(1)};
  const Axis H{"H", initial_state[0].size(1)};
  const Axis gates{"G*H", shape_of(cell).num_gates * H.size};
  if (valid.has_value()) check_tensor(*valid, "valid", {ScalarType::Bool}, {T, N});

  std::vector<Direction> directions;
  for (size_t i = 0; i < count; ++i) {
    check_tensor(projected[i], "projected", {dtype}, {T, N, gates});
    check_tensor(weight_hh[i], "weight_hh", {dtype}, {gates, H});
    check_tensor(initial_state[i], "initial_state", {dtype}, {N, H});
    if (!bias_hh.empty()) check_tensor(bias_hh[i], "bias_hh", {dtype}, {gates});
    if (!initial_cell.empty()) check_tensor(initial_cell[i], "initial_cell", {dtype}, {N, H});
    const auto optional = [&](const std::vector<Tensor>& list) -> std::optional<Tensor> {
      if (list.empty()) return std::nullopt;
      return torch::stable::contiguous(list[i]);
    };
    directions.push_back(
        {projected[i].stride(2) == 1 ? projected[i] : torch::stable::contiguous(projected[i]),
         torch::stable::contiguous(weight_hh[i]), optional(bias_hh),
         torch::stable::contiguous(initial_state[i]), optional(initial_cell), reverse[i]});
  }
  return directions;
}

Results new_results(const std::vector<Direction>& directions, const RecurrentCellShape& shape) {
  Results results;
  for (const Direction& direction : directions) {
    const int64_t num_frames = direction.projected.size(0);
    const int64_t num_utterances = direction.projected.size(1);
    const int64_t hidden = direction.weight_hh.size(1);
    const std::array<int64_t, 3> states{num_frames, num_utterances, hidden};
    const std::array<int64_t, 4> coefficients{num_frames, num_utterances, shape.num_coefficients,
                                              hidden};
    const std::array<int64_t, 2> final_cell{direction.initial_cell ? num_utterances : 0, hidden};
    const auto empty = [&](const auto& sizes) {
      return torch::stable::new_empty(direction.projected, {sizes.data(), sizes.size()});
    };
    results.states.push_back(empty(states));
    results.previous.push_back(empty(states));
    results.coefficients.push_back(empty(coefficients));
    results.final_cell.push_back(empty(final_cell));
  }
  return results;
}

}  // namespace

std::tuple<std::vector<Tensor>, std::vector<Tensor>, std::vector<Tensor>, std::vector<Tensor>>
recurrent_forward(int64_t cell, std::optional<double> relu_clip, std::vector<Tensor> projected,
                  std::vector<Tensor> weight_hh, std::vector<Tensor> bias_hh,
                  std::vector<Tensor> initial_state, std::vector<Tensor> initial_cell,
                  std::optional<Tensor> valid, std::vector<bool> reverse, bool precise) {
  const RecurrentForm form = check_form(cell, relu_clip);
  const std::vector<Direction> directions = check_directions(
      form.cell, projected, weight_hh, bias_hh, initial_state, initial_cell, valid, reverse);
  if (valid.has_value()) valid = torch::stable::contiguous(*valid);
  Results results = new_results(directions, shape_of(form.cell));
  if (directions.front().initial_state.numel() > 0) {
    if (projected[0].scalar_type() == ScalarType::Double) {
      run<double, double>(directions, form, valid, results);
    } else if (precise) {
      run<double, float>(directions, form, valid, results);
    } else {
      run<float, float>(directions, form, valid, results);
    }
  }
  return {std::move(results.states), std::move(results.previous), std::move(results.coefficients),
          std::move(results.final_cell)};
}

}  // namespace egl::ops
