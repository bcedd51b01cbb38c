// The most probable labelings of one utterance under CTC: an exact log-add prefix beam search
// (Graves et al., 2006; Hannun et al., 2014), ranked again by exact probability.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "csrc/core/emissions.h"
#include "csrc/core/prefix_tree.h"

namespace egl {

struct BeamSearchOptions {
  int64_t num_hypotheses;  // K, at least 1
  int64_t beam_width;      // prefixes kept after each frame, at least K; no upper limit
  int64_t blank;           // index of the blank class
};

// A prefix that the search kept after the last frame.
struct KeptPrefix {
  PrefixTree::Node node;
  double search_log_prob;  // log of the mass that the search saw: a lower bound, to rounding
};

struct Hypothesis {
  std::vector<int64_t> labels;
  double log_prob;         // exact: log p(labels | utterance)
  double search_log_prob;  // lower bound of log_prob, to rounding
};

// The at most `beam_width` prefixes left after all frames, most probable first, ties by labeling
// order; none has probability 0, so the result may be shorter, even empty. With no frames, it is
// the empty labeling with log-probability 0. Equals, to the bit, a search that scores every
// extension of every prefix, in the same arithmetic: LinearMass or LogMass (csrc/core/mass.h).
// Nothing where that arithmetic does not do, which is never so for LogMass.
template <typename Mass, typename Scalar>
std::optional<std::vector<KeptPrefix>> ctc_prefix_search_in(const Emissions<Scalar>& log_probs,
                                                            const BeamSearchOptions& options,
                                                            PrefixTree& tree);

// The same in the linear domain, or, where that does not do, in the log domain. `tree` is new.
template <typename Scalar>
std::vector<KeptPrefix> ctc_prefix_search(const Emissions<Scalar>& log_probs,
                                          const BeamSearchOptions& options, PrefixTree& tree);

// log p(labeling | utterance), exactly, for each kept prefix. Equal beginnings are computed once:
// the work is one cell a frame for each distinct beginning, not for each label of each labeling.
template <typename Scalar>
std::vector<double> ctc_exact_log_probs(const Emissions<Scalar>& log_probs, int64_t blank,
                                        const PrefixTree& tree,
                                        const std::vector<KeptPrefix>& prefixes);

// Search, then rank every kept prefix by its exact log-probability (ties by labeling order) and
// return the first `num_hypotheses`.
template <typename Scalar>
std::vector<Hypothesis> ctc_beam_search(const Emissions<Scalar>& log_probs,
                                        const BeamSearchOptions& options);

}  // namespace egl
