// Exact probability and occupancy of any labeling: every instruction set against the log domain,
// against enumeration where that is small, and what must hold of any result.
#include <cmath>

#include "csrc/core/isa.h"
#include "csrc/test/against_enumeration.h"
#include "fuzz/input.h"

namespace egl::fuzz {
namespace {

using test::Posteriors;
using test::Problem;

Posteriors in_log_domain(const Problem& problem, const test::Labeling& labels) {
  ForwardBackwardWorkspace workspace;
  Posteriors found{0.0, std::vector<double>(problem.log_probs.size(), NAN)};
  found.log_prob =
      ctc_forward_backward(problem.emissions(), labels.data(), static_cast<int64_t>(labels.size()),
                           problem.blank, workspace, found.occupancy.data());
  return found;
}

void check_posteriors(const Posteriors& found, const Problem& problem,
                      const test::Labeling& labels) {
  EXPECT(!std::isnan(found.log_prob));
  if (is_normalized(problem)) {
    EXPECT(found.log_prob <= test::extreme_rounding(problem));
  }
  if (found.log_prob > kNegInf) {
    EXPECT(test::is_distribution_at_each_frame(found, problem.num_classes));
  } else {
    EXPECT(std::all_of(found.occupancy.begin(), found.occupancy.end(),
                       [](double value) { return value == 0.0; }));
  }
  int64_t repeats = 0;
  for (size_t u = 1; u < labels.size(); ++u) repeats += labels[u] == labels[u - 1];
  if (static_cast<int64_t>(labels.size()) + repeats > problem.num_frames) {
    EXPECT(found.log_prob == kNegInf);
  }
}

void occupancy(Input& input) {
  const Problem problem = input.problem(40, 8);
  test::Labeling labels;
  for (int64_t u = problem.num_classes > 1 ? input.between(0, 40) : 0; u > 0; --u) {
    const int64_t label = input.between(0, problem.num_classes - 2);
    labels.push_back(label + (label >= problem.blank));
  }
  const Posteriors expected = in_log_domain(problem, labels);
  check_posteriors(expected, problem, labels);
  const ProbabilityTable table = test::table_of(problem);
  PosteriorWorkspace workspace;  // one for all, as a thread has
  for (const Isa isa : available_isas()) {
    const auto calculate = [&](double* out) {
      return ctc_posteriors(table, labels.data(), static_cast<int64_t>(labels.size()),
                            problem.blank, isa, workspace, out);
    };
    Posteriors found{0.0, std::vector<double>(problem.log_probs.size(), NAN)};
    found.log_prob = calculate(found.occupancy.data());
    check_posteriors(found, problem, labels);
    EXPECT(test::agrees(found, expected, problem.num_frames));
    EXPECT(calculate(nullptr) == found.log_prob);
  }
  if (std::pow(problem.num_classes, problem.num_frames) > 300) return;
  const auto answers = test::enumerate_answers(problem);
  EXPECT(answers.contains(labels) == (expected.log_prob > kNegInf));
  EXPECT(test::occupies(problem, answers, std::nullopt));
  for (const Isa isa : available_isas()) EXPECT(test::occupies(problem, answers, isa));
}

}  // namespace
}  // namespace egl::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  egl::fuzz::Input input(data, size);
  egl::fuzz::occupancy(input);
  return 0;
}
