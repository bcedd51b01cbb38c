// The parallel loop of the operators that treat each hypothesis on its own.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <cstdint>
#include <vector>

#include "csrc/core/ctc_posteriors.h"

namespace egl::ops {

// Buffers of one thread.
struct HypothesisScratch {
  PosteriorWorkspace workspace;
  std::vector<double> occupancy;  // [T, C], or [T, V] of a class subset
  std::vector<int64_t> labels;    // in positions of a class subset
};

// Calls body(n, k, scratch) for every slot, on torch's threads. Slots are dealt out hypothesis by
// hypothesis, so that each thread meets long and short utterances alike; every slot is computed on
// its own, so the number of threads cannot change a result.
template <typename Body>
void for_each_hypothesis(int64_t num_utterances, int64_t num_slots, const Body& body) {
  torch::stable::parallel_for(0, num_utterances * num_slots, 1, [&](int64_t begin, int64_t end) {
    HypothesisScratch scratch;
    for (int64_t i = begin; i < end; ++i) body(i % num_utterances, i / num_utterances, scratch);
  });
}

}  // namespace egl::ops
