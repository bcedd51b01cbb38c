#include <algorithm>
#include <vector>

#include "csrc/core/ctc_posteriors.h"
#include "csrc/core/isa.h"
#include "csrc/core/log_semiring.h"
#include "csrc/ops/class_subset.h"
#include "csrc/ops/ctc_inputs.h"
#include "csrc/ops/for_each_hypothesis.h"
#include "csrc/ops/ops.h"

namespace egl::ops {
namespace {

// Positions of one labeling's own classes, the blank first, in ascending order.
std::vector<int64_t> own_positions(const std::vector<int64_t>& labels) {
  std::vector<int64_t> positions(labels);
  positions.push_back(0);
  std::sort(positions.begin(), positions.end());
  positions.erase(std::unique(positions.begin(), positions.end()), positions.end());
  return positions;
}

template <typename Scalar>
void sparse_occupancy_of(const EmissionBatch& batch, const LabelingBatch& labelings, int64_t n,
                         int64_t blank, double* log_prob, int64_t* classes, Scalar* occupancy) {
  const ClassSubset subset(labelings, n, batch.num_classes(), blank);
  const auto frames = batch.utterance<Scalar>(n);
  const ProbabilityTable table(subset.gather(frames), frames.num_frames, subset.size());
  const Isa isa = isa_in_use();
  const int64_t num_columns = labelings.labels.size(2) + 1;
  for_each_hypothesis(1, labelings.count(n), [&](int64_t, int64_t k, HypothesisScratch& scratch) {
    log_prob[k] = subset.posteriors(table, labelings, n, k, isa, scratch);
    const std::vector<int64_t> own = own_positions(scratch.labels);
    Scalar* out = occupancy + k * batch.max_frames() * num_columns;
    for (size_t column = 0; column < own.size(); ++column) {
      classes[k * num_columns + column] = subset.classes()[own[column]];
      for (int64_t t = 0; t < frames.num_frames; ++t) {
        out[t * num_columns + column] =
            static_cast<Scalar>(scratch.occupancy[t * subset.size() + own[column]]);
      }
    }
  });
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor> ctc_sparse_occupancy(const Tensor& log_probs,
                                                        const Tensor& lengths, const Tensor& labels,
                                                        const Tensor& label_lengths,
                                                        const Tensor& counts, int64_t blank) {
  const EmissionBatch batch(log_probs, lengths, blank, "log_probs");
  const LabelingBatch labelings(labels, label_lengths, counts, batch, blank);
  const int64_t num_utterances = batch.num_utterances();
  const int64_t num_slots = labelings.num_slots();
  const int64_t num_columns = labels.size(2) + 1;
  Tensor log_prob =
      torch::stable::new_zeros(log_probs, {num_utterances, num_slots}, ScalarType::Double);
  torch::stable::fill_(log_prob, kNegInf);
  Tensor classes = torch::stable::new_zeros(labels, {num_utterances, num_slots, num_columns});
  torch::stable::fill_(classes, -1.0);
  Tensor occupancy = torch::stable::new_zeros(
      log_probs, {num_utterances, num_slots, batch.max_frames(), num_columns});
  const auto run = [&]<typename Scalar>(Scalar* occupancy_data) {
    batch.check_log_probs<Scalar>();
    for (int64_t n = 0; n < num_utterances; ++n) {
      sparse_occupancy_of(batch, labelings, n, blank,
                          log_prob.mutable_data_ptr<double>() + n * num_slots,
                          classes.mutable_data_ptr<int64_t>() + n * num_slots * num_columns,
                          occupancy_data + n * num_slots * batch.max_frames() * num_columns);
    }
  };
  if (batch.is_double()) {
    run(occupancy.mutable_data_ptr<double>());
  } else {
    run(occupancy.mutable_data_ptr<float>());
  }
  return {log_prob, classes, occupancy};
}

}  // namespace egl::ops
