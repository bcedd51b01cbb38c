// The bytes of one input, read as numbers and as small CTC problems. Past their end everything is
// zero, so every input means something.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <vector>

#include "csrc/core/emissions.h"
#include "csrc/core/log_semiring.h"
#include "csrc/test/extreme_problem.h"

namespace egl::fuzz {

// Ends the process: libFuzzer then keeps the input.
#define EXPECT(condition)                                                          \
  do {                                                                             \
    if (condition) break;                                                          \
    std::fprintf(stderr, "%s:%d: expected: %s\n", __FILE__, __LINE__, #condition); \
    std::abort();                                                                  \
  } while (false)

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), end_(data + size) {}

  uint8_t byte() { return data_ == end_ ? 0 : *data_++; }

  // In [low, high], which are at most 255 apart.
  int64_t between(int64_t low, int64_t high) { return low + byte() % (high - low + 1); }

  bool flag() { return byte() % 2 == 1; }

  uint64_t word() {
    uint64_t bits = 0;
    for (int i = 0; i < 8; ++i) bits = bits << 8 | byte();
    return bits;
  }

  // Any double, NaN and infinities included.
  double any() { return std::bit_cast<double>(word()); }

  // A level of extreme_problem.h, a number of ordinary size, one that is above 0 as by rounding, or
  // any other below.
  double log_prob() {
    const uint8_t way = byte();
    if (way < std::size(test::kExtremeLevels)) return test::kExtremeLevels[way];
    if (way < 224) return -std::ldexp(1.0 + byte() / 256.0, way % 12 - 4);
    if (way < 232) return kMostLogProb * byte() / 255.0;
    // Sums stay finite: a path whose log-probability is no finite double counts as impossible,
    // which enumeration in long double does not know.
    const double value = -std::abs(any());
    return std::isnan(value) || value < -1e300 ? kNegInf : value;
  }

  // As log_prob(), of either sign. Minus infinity is common, since nothing about coverage leads to
  // it; NaN and plus infinity, which are refused, are rare.
  double logit() {
    const uint8_t way = byte();
    if (way < 32) return kNegInf;
    if (way >= 224) return any();
    const double value = log_prob();
    return way % 2 == 0 || value == kNegInf ? value : -value;
  }

  // At most this large. Emissions are drawn from few values, so that ties are common.
  test::Problem problem(int64_t max_frames, int64_t max_classes) {
    const int64_t num_frames = between(0, max_frames);
    const int64_t num_classes = between(1, max_classes);
    test::Problem problem{num_frames, num_classes, between(0, num_classes - 1), {}};
    const uint8_t kind = byte();
    std::vector<double> levels;
    for (int64_t i = between(1, 8); i > 0; --i) levels.push_back(log_prob());
    for (int64_t t = 0; t < num_frames; ++t) {
      std::vector<double> frame;
      for (int64_t c = 0; c < num_classes; ++c) frame.push_back(levels[byte() % levels.size()]);
      const double total = log_sum_exp(frame.data(), num_classes);
      for (double value : frame) {
        if (kind % 2 == 1 && total > kNegInf) value = std::min(value - total, 0.0);
        if (kind % 4 / 2 == 1) value = static_cast<double>(static_cast<float>(value));
        problem.log_probs.push_back(value);
      }
    }
    return problem;
  }

 private:
  const uint8_t* data_;
  const uint8_t* end_;
};

// A frame whose probabilities add up to more than one makes sums of probabilities meaningless.
inline bool is_normalized(const test::Problem& problem) {
  for (int64_t t = 0; t < problem.num_frames; ++t) {
    const double* frame = problem.log_probs.data() + t * problem.num_classes;
    if (log_sum_exp(frame, problem.num_classes) > 1e-12) return false;
  }
  return true;
}

}  // namespace egl::fuzz
