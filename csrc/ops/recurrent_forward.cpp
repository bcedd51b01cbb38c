#include "csrc/core/recurrent_forward.h"

#include <torch/csrc/stable/ops.h>

#include <vector>

#include "csrc/ops/operators.h"
#include "csrc/ops/recurrent_forward_call.h"

namespace egl::ops {
namespace {

// Each direction's utterances are cut into blocks of at most this size, and each block runs through
// all frames on its own thread. Packing the weight costs a block about one frame of one utterance,
// and reading it costs a frame less per utterance the more there are.
constexpr int64_t kMaxUtterancesPerBlock = 8;

template <typename State, typename Value>
void run(const RecurrentForwardCall& call) {
  const std::vector<RecurrentScan<Value>> scans = call.scans<Value>();
  const int64_t num_utterances = call.num_utterances();
  const int64_t num_blocks = (num_utterances + kMaxUtterancesPerBlock - 1) / kMaxUtterancesPerBlock;
  const Isa isa = isa_in_use();
  const int64_t num_pieces = call.num_directions() * num_blocks;
  torch::stable::parallel_for(0, num_pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t block = i % num_blocks;
      recurrent_forward<State>(scans[i / num_blocks], num_utterances * block / num_blocks,
                               num_utterances * (block + 1) / num_blocks, isa);
    }
  });
}

}  // namespace

RecurrentStates recurrent_forward(int64_t cell, std::optional<double> relu_clip,
                                  std::vector<Tensor> projected, std::vector<Tensor> weight_hh,
                                  std::vector<Tensor> bias_hh, std::vector<Tensor> initial_state,
                                  std::vector<Tensor> initial_cell, std::optional<Tensor> valid,
                                  std::vector<bool> reverse, bool precise) {
  const RecurrentForwardCall call(cell, relu_clip, projected, weight_hh, bias_hh, initial_state,
                                  initial_cell, valid, reverse);
  call.visit_types(precise,
                   [&]<typename State, typename Value>(State, Value) { run<State, Value>(call); });
  return call.results();
}

}  // namespace egl::ops
