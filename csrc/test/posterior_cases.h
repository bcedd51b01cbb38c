// Problems that exact probabilities and occupancy are tested on, in the core and in kernels.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "csrc/core/ctc_posteriors.h"
#include "csrc/test/random_problem.h"
#include "csrc/test/test.h"

namespace egl::test {

struct Posteriors {
  double log_prob;
  std::vector<double> occupancy;  // [T, C]
};

inline ProbabilityTable table_of(const Problem& problem) {
  return {problem.log_probs, problem.num_frames, problem.num_classes};
}

// Emissions of a model that is more or less sure. Some classes are impossible at some frames.
inline Problem long_problem(std::mt19937& random, int64_t num_frames, int64_t num_classes,
                            double sure) {
  Problem problem{num_frames, num_classes, 0, {}};
  std::normal_distribution<double> normal;
  for (int64_t t = 0; t < num_frames; ++t) {
    std::vector<double> logits;
    for (int64_t c = 0; c < num_classes; ++c) logits.push_back(sure * normal(random));
    const double total = log_sum_exp(logits.data(), num_classes);
    for (int64_t c = 0; c < num_classes; ++c) {
      const bool out = c != 0 && random() % 50 == 0;
      problem.log_probs.push_back(out ? kNegInf : logits[c] - total);
    }
  }
  return problem;
}

// Of classes other than 0.
inline Labeling random_labeling(std::mt19937& random, int64_t num_labels, int64_t num_classes) {
  Labeling labels;
  for (int64_t u = 0; u < num_labels; ++u) {
    labels.push_back(std::uniform_int_distribution<int64_t>(1, num_classes - 1)(random));
  }
  return labels;
}

// The labeling {1} has a probability far below the smallest double.
inline Problem improbable_problem(int64_t num_frames) {
  return {num_frames, 2, 0, std::vector<double>(num_frames * 2, -5.0)};
}

// Probabilities too small for a double, of the labeling {1, 2}.
inline Problem underflowing_problem() {
  return {2, 3, 0, {-1500, -0.5, -1000, -0.5, -1500, -2000}};
}

// The most likely alignment of {1, 2, 3} has emitted two labels by frame 10, where that is 300
// orders of magnitude less likely than none: the forward pass loses it, and keeps an alignment that
// is less likely by e^140.
inline Problem problem_that_loses_mass() {
  const int64_t num_frames = 16;
  Problem problem{num_frames, 4, 0, {}};
  for (int64_t t = 0; t < num_frames; ++t) {
    const bool early = t < 10;
    const bool third = t == 10 || t == 11;  // all but label 3 are next to impossible
    const auto label = [&](int64_t own) { return early ? -380.0 : t == own ? -50.0 : -600.0; };
    problem.log_probs.insert(problem.log_probs.end(), {third ? -400.0 : 0.0, label(12), label(13),
                                                       third || t == 14 ? 0.0 : -600.0});
  }
  return problem;
}

// The most likely alignment of {1, 2} starts with a blank, whose emission is above one here: not a
// probability. In the forward pass the next frame's emission, scaled by that, underflows, and what
// is left is less by e^80; in the backward pass it does not. So the directions disagree.
inline Problem problem_on_which_directions_disagree() {
  return {3, 3, 0, {600, -80, -700, -700, -600, 0, -700, -700, 0}};
}

// The most likely alignments of {1, 2, 3} stay in label 1 until the last frames. After the first
// three frames they are e^-1400 below one that has emitted all labels, and before the last three,
// in the other direction, as far below one that only has to end. So both directions lose them, and
// agree on what is left, which is less likely by e^3700.
inline Problem problem_that_both_directions_lose() {
  Problem problem{16, 4, 0, {}};
  for (int t = 0; t < 16; ++t) {
    const int64_t sure = t < 3 ? t + 1 : t < 13 ? 1 : 0;
    const bool between = t >= 3 && t < 13;
    for (int64_t c = 0; c < 4; ++c) {
      const double other = !between ? -700.0 : c == 0 ? -650.0 : kNegInf;
      problem.log_probs.push_back(c == sure ? 0.0 : other);
    }
  }
  return problem;
}

// The labeling {1, 2, 1} has mass e^583, through an emission of e^690, which is not a probability.
inline Problem problem_beyond_probabilities() {
  return {4, 3, 0, {-59.4, -46.1, -55, -9.1, -7.9, 0, -99.5, -700, 690, 690, -60.5, -34.1}};
}

// The first frame's sum for {1} is below the normal numbers, and its reciprocal infinite, though
// both directions agree on it.
inline Problem problem_with_a_denormal_sum() { return {2, 2, 0, {-695, -692, -20, -20}}; }

// Log-probabilities so far below zero that sums of them are rounded by more than 709.
inline Problem astronomically_improbable_problem(int64_t num_frames) {
  Problem problem{num_frames, 3, 0, {}};
  for (int64_t t = 0; t < num_frames; ++t) {
    const double base = -1e17 * static_cast<double>(t % 3 + 1) / 3.0;
    problem.log_probs.insert(problem.log_probs.end(), {base, base, -1e300});
  }
  return problem;
}

// {1, 2} has one alignment, and at the first frame e^-710 of the mass, which has no inverse in
// double.
inline Problem problem_of_a_tiny_total() { return {2, 3, 0, {-178, -532, -355, -1, 0, -178}}; }

// Whether all frames are finite, not negative, and sum to one.
inline bool is_distribution_at_each_frame(const Posteriors& found, int64_t num_classes) {
  bool good = true;
  for (size_t start = 0; start < found.occupancy.size(); start += num_classes) {
    double total = 0.0;
    for (int64_t c = 0; c < num_classes; ++c) {
      good &= found.occupancy[start + c] >= 0.0;
      total += found.occupancy[start + c];
    }
    good &= near(total, 1.0, 1e-11);
  }
  return good;
}

// Across domains. The log domain rounds sums as large as the log-probability: see rounding().
inline bool agrees(const Posteriors& a, const Posteriors& b, int64_t num_frames) {
  if (a.log_prob == kNegInf || b.log_prob == kNegInf) return a.log_prob == b.log_prob;
  const double tolerance = 8.0 * static_cast<double>(num_frames) *
                               std::max(1.0, std::abs(b.log_prob)) *
                               std::numeric_limits<double>::epsilon() +
                           2e-11;
  bool same = near(a.log_prob, b.log_prob, tolerance);
  for (size_t i = 0; i < a.occupancy.size(); ++i) {
    same &= near(a.occupancy[i], b.occupancy[i], 2 * tolerance);
  }
  return same;
}

}  // namespace egl::test
