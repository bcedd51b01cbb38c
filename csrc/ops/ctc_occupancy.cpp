#include <algorithm>
#include <utility>
#include <vector>

#include "csrc/core/ctc_posteriors.h"
#include "csrc/core/isa.h"
#include "csrc/core/log_semiring.h"
#include "csrc/ops/ctc_inputs.h"
#include "csrc/ops/for_each_hypothesis.h"
#include "csrc/ops/operators.h"

namespace egl::ops {
namespace {

// The utterances' frames as probabilities, for all their hypotheses.
template <typename Scalar>
std::vector<ProbabilityTable> tables_of(const EmissionBatch& batch) {
  std::vector<ProbabilityTable> tables;
  for (int64_t n = 0; n < batch.num_utterances(); ++n) {
    const auto frames = batch.utterance<Scalar>(n);
    std::vector<double> values;
    values.reserve(static_cast<size_t>(frames.num_frames * frames.num_classes));
    for (int64_t t = 0; t < frames.num_frames; ++t) {
      for (int64_t c = 0; c < frames.num_classes; ++c) values.push_back(frames(t, c));
    }
    tables.emplace_back(std::move(values), frames.num_frames, frames.num_classes);
  }
  return tables;
}

template <typename Scalar>
void occupancy_batch(const EmissionBatch& batch, const LabelingBatch& labelings, int64_t blank,
                     double* log_prob, Scalar* occupancy) {
  batch.check_log_probs<Scalar>();
  const std::vector<ProbabilityTable> tables = tables_of<Scalar>(batch);
  const Isa isa = isa_in_use();
  const int64_t num_slots = labelings.num_slots();
  const int64_t slot_size = batch.max_frames() * batch.num_classes();
  for_each_hypothesis(
      batch.num_utterances(), num_slots, [&](int64_t n, int64_t k, HypothesisScratch& scratch) {
        const int64_t slot = n * num_slots + k;
        Scalar* out = occupancy + slot * slot_size;
        Scalar* out_end = out;
        log_prob[slot] = kNegInf;
        if (k < labelings.count(n)) {
          scratch.occupancy.resize(batch.length(n) * batch.num_classes());
          log_prob[slot] =
              ctc_posteriors(tables[n], labelings.labeling(n, k), labelings.length(n, k), blank,
                             isa, scratch.workspace, scratch.occupancy.data());
          out_end = std::transform(scratch.occupancy.begin(), scratch.occupancy.end(), out,
                                   [](double value) { return static_cast<Scalar>(value); });
        }
        std::fill(out_end, out + slot_size, Scalar{0});
      });
}

}  // namespace

Occupancy ctc_occupancy(const Tensor& log_probs, const Tensor& lengths, const Tensor& labels,
                        const Tensor& label_lengths, const Tensor& counts, int64_t blank) {
  const EmissionBatch batch(log_probs, lengths, blank, "log_probs");
  const LabelingBatch labelings(labels, label_lengths, counts, batch, blank);
  const int64_t num_utterances = batch.num_utterances();
  const int64_t num_slots = labelings.num_slots();
  Tensor log_prob =
      torch::stable::new_empty(log_probs, {num_utterances, num_slots}, ScalarType::Double);
  Tensor occupancy = torch::stable::new_empty(
      log_probs, {num_utterances, num_slots, batch.max_frames(), batch.num_classes()});
  double* log_prob_data = log_prob.mutable_data_ptr<double>();
  if (batch.is_double()) {
    occupancy_batch(batch, labelings, blank, log_prob_data, occupancy.mutable_data_ptr<double>());
  } else {
    occupancy_batch(batch, labelings, blank, log_prob_data, occupancy.mutable_data_ptr<float>());
  }
  return {log_prob, occupancy};
}

}  // namespace egl::ops
