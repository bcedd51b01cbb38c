#include "csrc/core/recurrent_forward.h"

#include <torch/csrc/stable/ops.h>

#include <vector>

#include "csrc/ops/operators.h"
#include "csrc/ops/recurrent_forward_tensors.h"

namespace egl::ops {
namespace {

// Each direction's utterances are cut into blocks of at most this size, and each block goes through
// all frames on one thread. Packing the weight costs a block about as much as one frame of one
// utterance; the larger the block, the less each utterance pays for reading the weight.
constexpr int64_t kMaxUtterancesPerBlock = 8;

template <typename State, typename Value>
void run(const RecurrentForwardTensors& tensors) {
  const std::vector<RecurrentScan<Value>> scans = tensors.scans<Value>();
  const int64_t num_utterances = tensors.num_utterances();
  const int64_t num_blocks = (num_utterances + kMaxUtterancesPerBlock - 1) / kMaxUtterancesPerBlock;
  const Isa isa = isa_in_use();
  const int64_t num_pieces = tensors.num_directions() * num_blocks;
  torch::stable::parallel_for(0, num_pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t block = i % num_blocks;
      recurrent_forward<State>(scans[i / num_blocks], num_utterances * block / num_blocks,
                               num_utterances * (block + 1) / num_blocks, isa);
    }
  });
}

}  // namespace

RecurrentStates recurrent_forward(
    int64_t cell, std::optional<double> relu_clip, const std::vector<Tensor>& projected,
    const std::vector<Tensor>& weight_hh, const std::vector<Tensor>& bias_hh,
    const std::vector<Tensor>& initial_state, const std::vector<Tensor>& initial_cell,
    const std::optional<Tensor>& valid, const std::vector<bool>& reverse, bool precise) {
  const RecurrentForwardTensors tensors(cell, relu_clip, projected, weight_hh, bias_hh,
                                        initial_state, initial_cell, valid, reverse);
  tensors.visit_types(
      precise, [&]<typename State, typename Value>(State, Value) { run<State, Value>(tensors); });
  return tensors.results();
}

}  // namespace egl::ops
