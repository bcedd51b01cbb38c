// Search and occupancy against the answers of extreme_problem.h.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <vector>

#include "csrc/core/ctc_beam_search.h"
#include "csrc/core/ctc_posteriors.h"
#include "csrc/core/semiring.h"
#include "csrc/test/extreme_problem.h"
#include "csrc/test/posterior_cases.h"
#include "csrc/test/test.h"

namespace egl::test {

using Answers = std::map<Labeling, Answer>;

inline bool finds_all(const Problem& problem, const Answers& answers, int64_t width) {
  const auto found = ctc_beam_search(problem.emissions(), {width, width, problem.blank});
  const double tolerance = extreme_rounding(problem);
  bool right = found.size() == answers.size();
  double before = std::numeric_limits<double>::infinity();
  for (const auto& hypothesis : found) {
    const auto answer = answers.find(hypothesis.labels);
    right &= answer != answers.end() && hypothesis.log_prob <= before;
    if (answer == answers.end()) continue;
    const auto expected = static_cast<double>(answer->second.log_prob);
    right &= near(hypothesis.log_prob, expected, tolerance);
    right &= near(hypothesis.search_log_prob, expected, tolerance);
    before = hypothesis.log_prob;
  }
  return right;
}

// A beam that is too narrow for all labelings keeps as many as a search by logarithms does.
inline bool fills_a_narrow_beam(const Problem& problem, const Answers& answers, int64_t width) {
  const BeamSearchOptions options{width, width, problem.blank};
  const auto found = ctc_beam_search(problem.emissions(), options);
  PrefixTree tree;
  const auto kept = ctc_prefix_search_in<LogMass>(problem.emissions(), options, tree);
  const double tolerance = extreme_rounding(problem);
  bool right = found.size() == kept->size();
  for (const auto& hypothesis : found) {
    const auto answer = answers.find(hypothesis.labels);
    right &= answer != answers.end();
    if (answer == answers.end()) continue;
    const auto expected = static_cast<double>(answer->second.log_prob);
    right &= near(hypothesis.log_prob, expected, tolerance);
    right &= hypothesis.search_log_prob <= expected + tolerance;
  }
  return right;
}

// With these instructions, or in the log domain.
inline bool occupies(const Problem& problem, const Answers& answers, std::optional<Isa> isa) {
  const ProbabilityTable table = table_of(problem);
  const double tolerance = 2 * extreme_rounding(problem);
  PosteriorWorkspace workspace;
  std::vector<double> occupancy(problem.log_probs.size());
  bool right = true;
  for (const auto& [labels, answer] : answers) {
    const auto num_labels = static_cast<int64_t>(labels.size());
    const double log_prob =
        isa.has_value()
            ? ctc_posteriors(table, labels.data(), num_labels, problem.blank, *isa, workspace,
                             occupancy.data())
            : ctc_forward_backward(problem.emissions(), labels.data(), num_labels, problem.blank,
                                   workspace.log_domain, occupancy.data());
    right &= near(log_prob, static_cast<double>(answer.log_prob), tolerance);
    for (size_t i = 0; i < occupancy.size(); ++i) {
      const long double expected = std::exp(answer.log_occupancy[i] - answer.log_prob);
      right &= near(occupancy[i], static_cast<double>(expected), tolerance);
    }
  }
  return right;
}

}  // namespace egl::test
