#include "csrc/core/ctc_beam_search.h"

#include <algorithm>

#include "csrc/core/log_semiring.h"
#include "csrc/ops/beam_search_requirements.h"
#include "csrc/ops/ctc_inputs.h"
#include "csrc/ops/ops.h"

namespace egl::ops {
namespace {

constexpr int64_t kPadding = -1;

struct Outputs {
  int64_t* labels;
  int64_t* label_lengths;
  double* log_prob;
  double* search_log_prob;
  int64_t* counts;
};

// Writes utterance n's slots, all of them: hypotheses first, then padding.
void store(const std::vector<Hypothesis>& hypotheses, int64_t n, int64_t num_slots,
           int64_t label_capacity, const Outputs& out) {
  const auto count = static_cast<int64_t>(hypotheses.size());
  out.counts[n] = count;
  for (int64_t k = 0; k < num_slots; ++k) {
    const int64_t slot = n * num_slots + k;
    int64_t* labels = out.labels + slot * label_capacity;
    int64_t* labels_end = labels;
    if (k < count) {
      labels_end = std::copy(hypotheses[k].labels.begin(), hypotheses[k].labels.end(), labels);
    }
    std::fill(labels_end, labels + label_capacity, kPadding);
    out.label_lengths[slot] = labels_end - labels;
    out.log_prob[slot] = k < count ? hypotheses[k].log_prob : kNegInf;
    out.search_log_prob[slot] = k < count ? hypotheses[k].search_log_prob : kNegInf;
  }
}

template <typename Scalar>
void search_batch(const EmissionBatch& batch, const BeamSearchOptions& options,
                  const Outputs& out) {
  batch.check_log_probs<Scalar>();
  torch::stable::parallel_for(0, batch.num_utterances(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      store(egl::ctc_beam_search(batch.utterance<Scalar>(n), options), n, options.num_hypotheses,
            batch.max_frames(), out);
    }
  });
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> ctc_beam_search(const Tensor& log_probs,
                                                                   const Tensor& lengths,
                                                                   int64_t num_hypotheses,
                                                                   int64_t beam_width,
                                                                   int64_t blank) {
  const EmissionBatch batch(log_probs, lengths, blank, "log_probs");
  check_beam(num_hypotheses, beam_width);

  const int64_t num_utterances = batch.num_utterances();
  const auto empty = [&](std::initializer_list<int64_t> sizes, ScalarType dtype) {
    return torch::stable::new_empty(log_probs, sizes, dtype);
  };
  Tensor labels = empty({num_utterances, num_hypotheses, batch.max_frames()}, ScalarType::Long);
  Tensor label_lengths = empty({num_utterances, num_hypotheses}, ScalarType::Long);
  Tensor log_prob = empty({num_utterances, num_hypotheses}, ScalarType::Double);
  Tensor search_log_prob = empty({num_utterances, num_hypotheses}, ScalarType::Double);
  Tensor counts = empty({num_utterances}, ScalarType::Long);

  const BeamSearchOptions options{num_hypotheses, beam_width, blank};
  const Outputs out{labels.mutable_data_ptr<int64_t>(), label_lengths.mutable_data_ptr<int64_t>(),
                    log_prob.mutable_data_ptr<double>(), search_log_prob.mutable_data_ptr<double>(),
                    counts.mutable_data_ptr<int64_t>()};
  if (batch.is_double()) {
    search_batch<double>(batch, options, out);
  } else {
    search_batch<float>(batch, options, out);
  }
  return {labels, label_lengths, log_prob, search_log_prob, counts};
}

}  // namespace egl::ops
