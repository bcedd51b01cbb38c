#include "csrc/core/ctc_beam_search.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "csrc/core/debug_check.h"

namespace egl {

template <typename Scalar>
std::vector<Hypothesis> ctc_beam_search(const Emissions<Scalar>& log_probs,
                                        const BeamSearchOptions& options) {
  PrefixTree tree;
  const auto kept = ctc_prefix_search(log_probs, options, tree);
  const auto exact = ctc_exact_log_probs(log_probs, options.blank, tree, kept);

  std::vector<size_t> order(kept.size());
  std::iota(order.begin(), order.end(), size_t{0});
  // Emissions that are not probabilities may give NaN, which cannot be ordered.
  std::erase_if(order, [&](size_t i) { return std::isnan(exact[i]); });
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    if (exact[a] != exact[b]) return exact[a] > exact[b];
    return tree.precedes(tree.as_extension(kept[a].node), tree.as_extension(kept[b].node));
  });
  if (static_cast<int64_t>(order.size()) > options.num_hypotheses) {
    order.resize(options.num_hypotheses);
  }
  std::vector<Hypothesis> hypotheses;
  hypotheses.reserve(order.size());
  for (const size_t i : order) {
    EGL_DEBUG_CHECK(exact[i] > kNegInf);
    hypotheses.push_back({tree.labels(kept[i].node), exact[i], kept[i].search_log_prob});
  }
  return hypotheses;
}

template std::vector<Hypothesis> ctc_beam_search(const Emissions<float>&, const BeamSearchOptions&);
template std::vector<Hypothesis> ctc_beam_search(const Emissions<double>&,
                                                 const BeamSearchOptions&);

}  // namespace egl
