#include <algorithm>
#include <utility>
#include <vector>

#include "csrc/core/ctc_posteriors.h"
#include "csrc/core/isa.h"
#include "csrc/core/log_semiring.h"
#include "csrc/ops/ctc_inputs.h"
#include "csrc/ops/for_each_hypothesis.h"
#include "csrc/ops/log_softmax.h"
#include "csrc/ops/operators.h"

namespace egl::ops {
namespace {

// The log-softmax of all frames in double, and the softmax: shared by an utterance's hypotheses.
template <typename Scalar>
std::vector<ProbabilityTable> softmax_of(const EmissionBatch& logits) {
  std::vector<ProbabilityTable> tables;
  for (int64_t n = 0; n < logits.num_utterances(); ++n) {
    const auto frames = logits.utterance<Scalar>(n);
    std::vector<double> log_probs(static_cast<size_t>(frames.num_frames * frames.num_classes));
    log_softmax(frames, n, log_probs.data());
    tables.emplace_back(std::move(log_probs), frames.num_frames, frames.num_classes);
  }
  return tables;
}

// Where the model is sure, softmax and occupancy nearly cancel: both stay in double until after the
// subtraction.
template <typename Scalar>
void cotangents_batch(const EmissionBatch& logits, const LabelingBatch& labelings, int64_t blank,
                      double* log_prob, Scalar* cotangents) {
  const std::vector<ProbabilityTable> softmax = softmax_of<Scalar>(logits);
  const Isa isa = isa_in_use();
  const int64_t num_slots = labelings.num_slots();
  const int64_t slot_size = logits.max_frames() * logits.num_classes();
  for_each_hypothesis(
      logits.num_utterances(), num_slots, [&](int64_t n, int64_t k, HypothesisScratch& scratch) {
        const int64_t slot = n * num_slots + k;
        Scalar* out = cotangents + slot * slot_size;
        Scalar* out_end = out;
        log_prob[slot] = kNegInf;
        if (k < labelings.count(n)) {
          scratch.occupancy.resize(logits.length(n) * logits.num_classes());
          log_prob[slot] =
              ctc_posteriors(softmax[n], labelings.labeling(n, k), labelings.length(n, k), blank,
                             isa, scratch.workspace, scratch.occupancy.data());
          if (log_prob[slot] > kNegInf) {
            out_end = std::transform(
                scratch.occupancy.begin(), scratch.occupancy.end(), softmax[n].probs(), out,
                [](double occupied, double prob) { return static_cast<Scalar>(prob - occupied); });
          }
        }
        std::fill(out_end, out + slot_size, Scalar{0});
      });
}

}  // namespace

LogitsCotangents ctc_logits_cotangents(const Tensor& logits, const Tensor& lengths,
                                       const Tensor& labels, const Tensor& label_lengths,
                                       const Tensor& counts, int64_t blank) {
  const EmissionBatch batch(logits, lengths, blank, "logits");
  const LabelingBatch labelings(labels, label_lengths, counts, batch, blank);
  const int64_t num_utterances = batch.num_utterances();
  const int64_t num_slots = labelings.num_slots();
  Tensor log_prob =
      torch::stable::new_empty(logits, {num_utterances, num_slots}, ScalarType::Double);
  Tensor cotangents = torch::stable::new_empty(
      logits, {num_utterances, num_slots, batch.max_frames(), batch.num_classes()});
  double* log_prob_data = log_prob.mutable_data_ptr<double>();
  if (batch.is_double()) {
    cotangents_batch(batch, labelings, blank, log_prob_data, cotangents.mutable_data_ptr<double>());
  } else {
    cotangents_batch(batch, labelings, blank, log_prob_data, cotangents.mutable_data_ptr<float>());
  }
  return {log_prob, cotangents};
}

}  // namespace egl::ops
