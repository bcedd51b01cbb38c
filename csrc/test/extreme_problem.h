// Random small CTC problems whose log-probabilities are extreme, tied, or both, and their answers
// by enumeration: the log-probability of every alignment is added up in long double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "csrc/test/random_problem.h"

namespace egl::test {

// How many problems a test tries: EGL_FUZZ of the environment, or `few`.
inline int64_t num_fuzzed(int64_t few) {
  const char* wanted = std::getenv("EGL_FUZZ");
  return wanted == nullptr ? few : std::atoll(wanted);
}

// Where probabilities, their products and the scales of frames leave the range of a double or a
// float, on either side of it; and ordinary numbers.
inline constexpr double kExtremeLevels[] = {
    0.0,    -1e-310, -1e-9,  -0.5,   -1.0,   -7.0,   -50.0,  -87.5,  -103.2,
    -103.9, -150.0,  -200.0, -300.0, -333.0, -350.0, -380.0, -400.0, -600.0,
    -660.0, -667.0,  -668.0, -690.0, -699.0, -701.0, -708.0, -709.0, -740.0,
    -745.0, -746.0,  -800.0, -1102., -1500., -1762., -1e4,   -1e9,   kNegInf};

inline double extreme_log_prob(std::mt19937& random) {
  std::uniform_int_distribution<size_t> any(0, std::size(kExtremeLevels) - 1);
  switch (random() % 4) {
    case 0:
      return std::uniform_real_distribution<double>(-720.0, 0.0)(random);
    case 1:
      return -std::exp(std::uniform_real_distribution<double>(-5.0, 8.0)(random));
    default:
      return kExtremeLevels[any(random)];
  }
}

// At most `max_frames` frames and `max_classes` classes, made of few different numbers, so that
// ties are common. In half of them all numbers are floats.
inline Problem extreme_problem(std::mt19937& random, int64_t max_frames, int64_t max_classes) {
  const auto up_to = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  const int64_t num_frames = up_to(1, max_frames);
  const int64_t num_classes = up_to(1, max_classes);
  Problem problem{num_frames, num_classes, up_to(0, num_classes - 1), {}};
  std::vector<double> levels;
  for (int64_t i = up_to(1, 6); i >= 0; --i) levels.push_back(extreme_log_prob(random));
  if (random() % 2 == 0) levels.push_back(0.0);
  const bool single = random() % 2 == 0;
  const bool normalized = random() % 4 == 0;
  for (int64_t t = 0; t < num_frames; ++t) {
    std::vector<double> frame;
    for (int64_t c = 0; c < num_classes; ++c) frame.push_back(levels[random() % levels.size()]);
    const double total = log_sum_exp(frame.data(), num_classes);
    for (double value : frame) {
      if (normalized && total > kNegInf) value -= total;
      problem.log_probs.push_back(single ? static_cast<double>(static_cast<float>(value)) : value);
    }
  }
  return problem;
}

// log(exp(a) + exp(b)) of sums that were never rounded to double.
inline void add_log(long double& sum, long double value) {
  const long double high = std::max(sum, value);
  const long double low = std::min(sum, value);
  sum = low == -HUGE_VALL ? high : high + std::log1p(std::exp(low - high));
}

struct Answer {
  long double log_prob = -HUGE_VALL;
  std::vector<long double> log_occupancy;  // [T, C], joint with the labeling
};

// Of every labeling that is possible.
inline std::map<Labeling, Answer> enumerate_answers(const Problem& problem) {
  std::map<Labeling, Answer> answers;
  for_each_alignment(problem, [&](const auto& alignment, const Labeling& labeling, double) {
    long double log_prob = 0.0L;
    for (size_t t = 0; t < alignment.size(); ++t) {
      log_prob += problem.log_probs[t * problem.num_classes + alignment[t]];
    }
    if (log_prob == -HUGE_VALL) return;
    Answer& answer = answers[labeling];
    answer.log_occupancy.resize(problem.log_probs.size(), -HUGE_VALL);
    add_log(answer.log_prob, log_prob);
    for (size_t t = 0; t < alignment.size(); ++t) {
      add_log(answer.log_occupancy[t * problem.num_classes + alignment[t]], log_prob);
    }
  });
  return answers;
}

// The most prefixes that are possible at the end of any frame: a beam of this width loses nothing.
inline int64_t widest_beam(const Problem& problem) {
  // What an alignment has spelled, and its last class.
  std::set<std::pair<Labeling, int64_t>> reached{{{}, problem.blank}};
  size_t widest = 1;
  for (int64_t t = 0; t < problem.num_frames; ++t) {
    std::set<std::pair<Labeling, int64_t>> next;
    std::set<Labeling> prefixes;
    for (const auto& [prefix, last] : reached) {
      for (int64_t c = 0; c < problem.num_classes; ++c) {
        if (problem.log_probs[t * problem.num_classes + c] == kNegInf) continue;
        Labeling longer = prefix;
        if (c != problem.blank && c != last) longer.push_back(c);
        prefixes.insert(longer);
        next.emplace(std::move(longer), c);
      }
    }
    widest = std::max(widest, prefixes.size());
    reached = std::move(next);
  }
  return static_cast<int64_t>(widest);
}

// As rounding(), for numbers as large as these; and what the linear domain may differ by.
inline double extreme_rounding(const Problem& problem) {
  double largest = 1.0;
  for (const double value : problem.log_probs) {
    if (value > kNegInf) largest = std::max(largest, -value);
  }
  const auto num_frames = static_cast<double>(problem.num_frames);
  return 2 * 4 * num_frames * num_frames * largest * std::numeric_limits<double>::epsilon() + 2e-11;
}

}  // namespace egl::test
