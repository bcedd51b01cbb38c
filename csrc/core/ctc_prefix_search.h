// The most massive prefixes of one utterance under CTC: an exact log-add prefix beam search
// (Graves et al., 2006; Hannun et al., 2014).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "csrc/core/emissions.h"
#include "csrc/core/prefix_tree.h"
#include "csrc/core/semiring.h"

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

// The at most `beam_width` prefixes left after all frames, most probable first, ties by labeling
// order; none has probability 0, so the result may be shorter, even empty. With no frames, it is
// the empty labeling with log-probability 0. Equals, to the bit, a search that scores every
// extension of every prefix, in the same arithmetic: LinearMass or LogMass (csrc/core/semiring.h).
// Nothing where that arithmetic fails, which LogMass never does.
//
// Log-probabilities are at most kMostLogProb, and not NaN. A path whose log-probability is not a
// finite double counts as impossible.
template <Semiring Mass, typename Scalar>
std::optional<std::vector<KeptPrefix>> ctc_prefix_search_in(const Emissions<Scalar>& log_probs,
                                                            const BeamSearchOptions& options,
                                                            PrefixTree& tree);

// The same in the linear domain or, where that fails, in the log domain. `tree` is new.
template <typename Scalar>
std::vector<KeptPrefix> ctc_prefix_search(const Emissions<Scalar>& log_probs,
                                          const BeamSearchOptions& options, PrefixTree& tree);

}  // namespace egl
