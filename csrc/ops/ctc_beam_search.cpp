#include "csrc/core/ctc_beam_search.h"

#include <algorithm>

#include "csrc/core/log_semiring.h"
#include "csrc/ops/ctc_inputs.h"
#include "csrc/ops/operators.h"

namespace egl::ops {
namespace {

constexpr int64_t kPadding = -1;

// Writes all of utterance n's slots: hypotheses first, then padding.
void store(const std::vector<Hypothesis>& hypotheses, int64_t n, const Hypotheses& out) {
  const int64_t num_slots = out.labels.size(1);
  const int64_t label_capacity = out.labels.size(2);
  const auto count = static_cast<int64_t>(hypotheses.size());
  int64_t* labels = out.labels.mutable_data_ptr<int64_t>() + n * num_slots * label_capacity;
  int64_t* label_lengths = out.label_lengths.mutable_data_ptr<int64_t>() + n * num_slots;
  double* log_prob = out.log_prob.mutable_data_ptr<double>() + n * num_slots;
  double* search_log_prob = out.search_log_prob.mutable_data_ptr<double>() + n * num_slots;
  out.counts.mutable_data_ptr<int64_t>()[n] = count;
  for (int64_t k = 0; k < num_slots; ++k, labels += label_capacity) {
    int64_t* labels_end = labels;
    if (k < count) {
      labels_end = std::copy(hypotheses[k].labels.begin(), hypotheses[k].labels.end(), labels);
    }
    std::fill(labels_end, labels + label_capacity, kPadding);
    label_lengths[k] = labels_end - labels;
    log_prob[k] = k < count ? hypotheses[k].log_prob : kNegInf;
    search_log_prob[k] = k < count ? hypotheses[k].search_log_prob : kNegInf;
  }
}

}  // namespace

Hypotheses ctc_beam_search(const Tensor& log_probs, const Tensor& lengths, int64_t num_hypotheses,
                           int64_t beam_width, int64_t blank) {
  const EmissionBatch batch(log_probs, lengths, blank, "log_probs");
  check_beam(num_hypotheses, beam_width);
  Hypotheses found = new_hypotheses(log_probs, num_hypotheses);
  visit_floating(log_probs, [&]<typename Scalar>(Scalar) {
    for (int64_t n = 0; n < batch.num_utterances(); ++n) {
      const auto frames = batch.utterance<Scalar>(n);
      for (int64_t t = 0; t < frames.num_frames; ++t) {
        for (int64_t c = 0; c < frames.num_classes; ++c) check_log_prob(frames(t, c), n, t, c);
      }
    }
    torch::stable::parallel_for(0, batch.num_utterances(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        store(egl::ctc_beam_search(batch.utterance<Scalar>(n), {num_hypotheses, beam_width, blank}),
              n, found);
      }
    });
  });
  return found;
}

}  // namespace egl::ops
