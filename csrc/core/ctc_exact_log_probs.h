// The exact probabilities of the prefixes that a search kept.
#pragma once

#include <cstdint>
#include <vector>

#include "csrc/core/ctc_prefix_search.h"

namespace egl {

// log p(labeling | utterance), exactly, for each kept prefix. Equal beginnings are computed once:
// each frame takes one cell for each distinct beginning, not for each label of each labeling.
template <typename Scalar>
std::vector<double> ctc_exact_log_probs(const Emissions<Scalar>& log_probs, int64_t blank,
                                        const PrefixTree& tree,
                                        const std::vector<KeptPrefix>& prefixes);

}  // namespace egl
