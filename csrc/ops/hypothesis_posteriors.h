// Posteriors of hypotheses, each computed by itself on one of torch's threads.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "csrc/core/ctc_posteriors.h"
#include "csrc/core/isa.h"
#include "csrc/core/log_semiring.h"
#include "csrc/ops/ctc_inputs.h"

namespace egl::ops {

// Buffers of one thread.
struct HypothesisScratch {
  PosteriorWorkspace workspace;
  std::vector<double> occupancy;  // [T, C], or [T, V] of a class subset
  std::vector<int64_t> labels;    // in positions of a class subset
};

// Calls body(n, k, scratch) for every slot, on torch's threads. Slots are dealt out hypothesis by
// hypothesis, so that each thread gets long and short utterances alike. The number of threads
// changes no result.
template <typename Body>
void for_each_hypothesis(int64_t num_utterances, int64_t num_slots, const Body& body) {
  torch::stable::parallel_for(0, num_utterances * num_slots, 1, [&](int64_t begin, int64_t end) {
    HypothesisScratch scratch;
    for (int64_t i = begin; i < end; ++i) body(i % num_utterances, i / num_utterances, scratch);
  });
}

// Log-probabilities, and rows of entry(probability, occupancy), calculated in double and rounded;
// zero in unused slots, on padding frames and for impossible labelings.
// write_log_probs(emissions, n, out): the log-probabilities [T, C] of utterance n's frames.
template <typename WriteLogProbs, typename Entry>
PosteriorTensors posteriors(const EmissionBatch& batch, const LabelingBatch& labelings,
                            int64_t blank, const WriteLogProbs& write_log_probs,
                            const Entry& entry) {
  PosteriorTensors found(batch, labelings);
  const Isa isa = isa_in_use();
  const int64_t num_slots = labelings.num_slots();
  const int64_t num_classes = batch.num_classes();
  const int64_t slot_size = batch.max_frames() * num_classes;
  double* log_prob = found.log_prob.mutable_data_ptr<double>();
  visit_floating(batch.values, [&]<typename Scalar>(Scalar) {
    std::vector<ProbabilityTable> tables;  // one for all hypotheses of an utterance
    for (int64_t n = 0; n < batch.num_utterances(); ++n) {
      std::vector<double> log_probs(static_cast<size_t>(batch.length(n) * num_classes));
      write_log_probs(batch.utterance<Scalar>(n), n, log_probs.data());
      tables.emplace_back(std::move(log_probs), batch.length(n), num_classes);
    }
    Scalar* rows = found.rows.mutable_data_ptr<Scalar>();
    for_each_hypothesis(
        batch.num_utterances(), num_slots, [&](int64_t n, int64_t k, HypothesisScratch& scratch) {
          const int64_t slot = n * num_slots + k;
          Scalar* out = rows + slot * slot_size;
          Scalar* const end = out + slot_size;
          log_prob[slot] = kNegInf;
          if (k < labelings.count(n)) {
            scratch.occupancy.resize(batch.length(n) * num_classes);
            log_prob[slot] =
                ctc_posteriors(tables[n], labelings.labeling(n, k), labelings.length(n, k), blank,
                               isa, scratch.workspace, scratch.occupancy.data());
          }
          if (log_prob[slot] > kNegInf) {
            out = std::transform(tables[n].probs(), tables[n].frame(batch.length(n)),
                                 scratch.occupancy.begin(), out, [&](double prob, double occupied) {
                                   return static_cast<Scalar>(entry(prob, occupied));
                                 });
          }
          std::fill(out, end, Scalar{0});
        });
  });
  return found;
}

}  // namespace egl::ops
