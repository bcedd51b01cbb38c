// Random small CTC problems, and their answers by brute force.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <random>
#include <vector>

#include "csrc/core/emissions.h"
#include "csrc/core/log_semiring.h"

namespace egl::test {

using Labeling = std::vector<int64_t>;

// Log-probabilities of random problems are in [-kLargestLogProb, 0), or minus infinity.
inline constexpr double kLargestLogProb = 6.0;

struct Problem {
  int64_t num_frames;
  int64_t num_classes;
  int64_t blank;
  std::vector<double> log_probs;  // [T, C]

  Emissions<double> emissions() const {
    return {log_probs.data(), num_frames, num_classes, num_classes, 1};
  }
};

// Probabilities are drawn from few levels, so that equal numbers, and with them ties, are common;
// one level in `num_levels` + 1 is zero.
inline Problem random_problem(std::mt19937& random, int64_t num_frames, int64_t num_classes,
                              int num_levels) {
  std::uniform_int_distribution<int> level(0, num_levels);
  std::uniform_int_distribution<int64_t> any_class(0, num_classes - 1);
  Problem problem{num_frames, num_classes, any_class(random), {}};
  for (int64_t i = 0; i < num_frames * num_classes; ++i) {
    const int drawn = level(random);
    problem.log_probs.push_back(drawn == 0 ? kNegInf : -kLargestLogProb * drawn / num_levels);
  }
  return problem;
}

// How far two ways of summing the same alignments in the log domain may be apart: each frame rounds
// at most four times (a sum of two or three masses, an emission, the total), on either side,
// numbers no larger than T frames of emissions.
inline double rounding(const Problem& problem) {
  const auto num_frames = static_cast<double>(problem.num_frames);
  return 2 * 4 * num_frames * (num_frames * kLargestLogProb) *
         std::numeric_limits<double>::epsilon();
}

inline Labeling collapse(const std::vector<int64_t>& alignment, int64_t blank) {
  Labeling labeling;
  for (size_t t = 0; t < alignment.size(); ++t) {
    const bool repeats = t > 0 && alignment[t] == alignment[t - 1];
    if (alignment[t] != blank && !repeats) labeling.push_back(alignment[t]);
  }
  return labeling;
}

// Calls visit(alignment, labeling, mass) for each of the C^T alignments; masses are not logarithms.
template <typename Visit>
void for_each_alignment(const Problem& problem, const Visit& visit) {
  std::vector<int64_t> alignment(static_cast<size_t>(problem.num_frames), 0);
  while (true) {
    double log_mass = 0.0;
    for (size_t t = 0; t < alignment.size(); ++t) {
      log_mass += problem.log_probs[t * problem.num_classes + alignment[t]];
    }
    visit(alignment, collapse(alignment, problem.blank), std::exp(log_mass));
    size_t t = 0;
    while (t < alignment.size() && ++alignment[t] == problem.num_classes) alignment[t++] = 0;
    if (t == alignment.size()) return;
  }
}

inline std::map<Labeling, double> enumerate_labelings(const Problem& problem) {
  std::map<Labeling, double> mass;
  for_each_alignment(problem, [&](const auto&, const Labeling& labeling, double value) {
    if (value > 0.0) mass[labeling] += value;
  });
  return mass;
}

}  // namespace egl::test
