// The most probable labelings of one utterance under CTC: a prefix search, ranked again by exact
// probability.
#pragma once

#include <cstdint>
#include <vector>

#include "csrc/core/ctc_exact_log_probs.h"
#include "csrc/core/ctc_prefix_search.h"

namespace egl {

struct Hypothesis {
  std::vector<int64_t> labels;
  double log_prob;         // exact: log p(labels | utterance)
  double search_log_prob;  // lower bound of log_prob, to rounding
};

// Search, then rank every kept prefix by its exact log-probability (ties by labeling order) and
// return the first `num_hypotheses`.
template <typename Scalar>
std::vector<Hypothesis> ctc_beam_search(const Emissions<Scalar>& log_probs,
                                        const BeamSearchOptions& options);

}  // namespace egl
