// The search for labelings: against the plain one, against enumeration where that is small, and
// what must hold of any result.
#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "csrc/core/ctc_forward_backward.h"
#include "csrc/test/against_enumeration.h"
#include "csrc/test/plain_search.h"
#include "fuzz/input.h"

namespace egl::fuzz {
namespace {

using test::Problem;

// `step` apart in memory, class by class, as a transposed tensor is.
template <typename Scalar>
std::vector<Scalar> transposed(const Problem& problem, int64_t step) {
  std::vector<Scalar> values(step * problem.num_frames * problem.num_classes,
                             std::numeric_limits<Scalar>::quiet_NaN());
  for (int64_t t = 0; t < problem.num_frames; ++t) {
    for (int64_t c = 0; c < problem.num_classes; ++c) {
      values[step * (c * problem.num_frames + t)] =
          static_cast<Scalar>(problem.log_probs[t * problem.num_classes + c]);
    }
  }
  return values;
}

template <typename Scalar>
std::vector<Hypothesis> search_transposed(const Problem& problem, int64_t step,
                                          const BeamSearchOptions& options) {
  const auto values = transposed<Scalar>(problem, step);
  return ctc_beam_search(Emissions<Scalar>{values.data(), problem.num_frames, problem.num_classes,
                                           step, step * problem.num_frames},
                         options);
}

bool same(const std::vector<Hypothesis>& a, const std::vector<Hypothesis>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& one, const auto& other) {
    return one.labels == other.labels && one.log_prob == other.log_prob &&
           one.search_log_prob == other.search_log_prob;
  });
}

void check_hypotheses(const Problem& problem, const std::vector<Hypothesis>& found) {
  const double tolerance = test::extreme_rounding(problem);
  ForwardBackwardWorkspace workspace;
  std::set<test::Labeling> seen;
  double before = std::numeric_limits<double>::infinity();
  double total = 0.0;
  for (const Hypothesis& hypothesis : found) {
    EXPECT(seen.insert(hypothesis.labels).second);
    EXPECT(hypothesis.log_prob <= before && hypothesis.log_prob > kNegInf);
    EXPECT(hypothesis.search_log_prob <= hypothesis.log_prob + tolerance);
    for (const int64_t label : hypothesis.labels) {
      EXPECT(label >= 0 && label < problem.num_classes && label != problem.blank);
    }
    const double exact = ctc_forward_backward(problem.emissions(), hypothesis.labels.data(),
                                              static_cast<int64_t>(hypothesis.labels.size()),
                                              problem.blank, workspace, nullptr);
    EXPECT(test::near(hypothesis.log_prob, exact, tolerance));
    before = hypothesis.log_prob;
    total += std::exp(hypothesis.log_prob);
  }
  if (is_normalized(problem)) {
    EXPECT(total <= 1.0 + found.size() * tolerance + 1e-10);
  }
}

// Whether two emissions of a frame differ by so little that a mass may be the same after either.
// The search then takes the larger emission first, where the plain one sees a tie.
bool may_tie_by_rounding(const Problem& problem) {
  const double tolerance = test::extreme_rounding(problem);
  for (int64_t t = 0; t < problem.num_frames; ++t) {
    const double* frame = problem.log_probs.data() + t * problem.num_classes;
    std::vector<double> sorted(frame, frame + problem.num_classes);
    std::sort(sorted.begin(), sorted.end());
    for (size_t c = 1; c < sorted.size(); ++c) {
      if (sorted[c] > sorted[c - 1] && sorted[c] - sorted[c - 1] < tolerance) return true;
    }
  }
  return false;
}

void search(Input& input) {
  const int64_t num_hypotheses = input.between(1, 24);
  const int64_t width = num_hypotheses + input.between(0, 60);
  const int64_t step = input.between(1, 3);
  const Problem problem = input.problem(14, 8);
  const BeamSearchOptions options{num_hypotheses, width, problem.blank};

  const auto found = ctc_beam_search(problem.emissions(), options);
  EXPECT(static_cast<int64_t>(found.size()) <= num_hypotheses);
  check_hypotheses(problem, found);
  EXPECT(same(found, search_transposed<double>(problem, step, options)));
  if (std::all_of(problem.log_probs.begin(), problem.log_probs.end(),
                  [](double value) { return static_cast<float>(value) == value; })) {
    EXPECT(same(found, search_transposed<float>(problem, step, options)));
  }
  if (!may_tie_by_rounding(problem)) {
    EXPECT(test::fast_search<LogMass>(problem, width) ==
           test::plain_search<LogMass>(problem, width));
  }

  if (std::pow(problem.num_classes, problem.num_frames) > 300) return;
  const auto answers = test::enumerate_answers(problem);
  EXPECT(test::finds_all(problem, answers, int64_t{1} << 40));
  EXPECT(test::finds_all(problem, answers, test::widest_beam(problem)));
  EXPECT(test::fills_a_narrow_beam(problem, answers, 1 + width % 8));
}

}  // namespace
}  // namespace egl::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  egl::fuzz::Input input(data, size);
  egl::fuzz::search(input);
  return 0;
}
