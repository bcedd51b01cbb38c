// The operators that take labelings, as torch calls them: any numbers for labels, lengths and
// counts are refused, or give what the log domain does; precision and strides change nothing.
#include <cmath>

#include "csrc/core/ctc_forward_backward.h"
#include "csrc/ops/log_softmax.h"
#include "csrc/ops/operators.h"
#include "csrc/test/posterior_cases.h"
#include "fuzz/input.h"
#include "fuzz/tensors.h"

namespace egl::fuzz {
namespace {

// In [low, high], save for a few inputs.
int64_t mostly_between(Input& input, int64_t low, int64_t high) {
  const uint8_t way = input.byte();
  if (way == 255) return static_cast<int64_t>(input.word());
  return way >= 250 || high < low ? high + way % 2 : low + way % (high - low + 1);
}

struct Arguments {
  int64_t num_utterances;
  int64_t num_frames;
  int64_t num_classes;
  int64_t num_slots;
  int64_t capacity;
  int64_t blank;
  std::vector<int64_t> lengths;        // [N]
  std::vector<int64_t> labels;         // [N, K, U]
  std::vector<int64_t> label_lengths;  // [N, K]
  std::vector<int64_t> counts;         // [N]
  std::vector<double> emissions;       // [N, T, C]: log-probabilities, or logits

  explicit Arguments(Input& input)
      : num_utterances(input.between(0, 3)),
        num_frames(input.between(0, 20)),
        num_classes(input.between(1, 6)),
        num_slots(input.between(0, 4)),
        capacity(input.between(0, 12)),
        blank(mostly_between(input, 0, num_classes - 1)) {
    std::vector<double> levels;
    for (int64_t i = input.between(1, 8); i > 0; --i) {
      levels.push_back(input.byte() < 240 ? input.log_prob() : input.any());
    }
    for (int64_t n = 0; n < num_utterances; ++n) {
      lengths.push_back(mostly_between(input, 0, num_frames));
      counts.push_back(mostly_between(input, 0, num_slots));
      for (int64_t k = 0; k < num_slots; ++k) {
        label_lengths.push_back(mostly_between(input, 0, capacity));
        for (int64_t u = 0; u < capacity; ++u) {
          int64_t label = mostly_between(input, 0, num_classes - 2);
          if (label >= blank && label < num_classes - 1) ++label;
          labels.push_back(label);
        }
      }
    }
    for (int64_t i = 0; i < num_utterances * num_frames * num_classes; ++i) {
      emissions.push_back(levels[input.byte() % levels.size()]);
    }
  }

  // Whether all but the emissions are as they should be.
  bool are_valid() const {
    const auto within = [](const std::vector<int64_t>& values, int64_t high) {
      return std::all_of(values.begin(), values.end(),
                         [&](int64_t value) { return value >= 0 && value <= high; });
    };
    bool valid = blank >= 0 && blank < num_classes && within(lengths, num_frames) &&
                 within(label_lengths, capacity) && within(counts, num_slots);
    for (int64_t n = 0; valid && n < num_utterances; ++n) {
      for (int64_t k = 0; k < counts[n]; ++k) {
        for (const int64_t label : labeling(n, k)) {
          valid &= label >= 0 && label < num_classes && label != blank;
        }
      }
    }
    return valid;
  }

  test::Labeling labeling(int64_t n, int64_t k) const {
    const auto first = labels.begin() + (n * num_slots + k) * capacity;
    return {first, first + label_lengths[n * num_slots + k]};
  }

  Emissions<double> utterance(int64_t n) const {
    return {emissions.data() + n * num_frames * num_classes, lengths[n], num_classes, num_classes,
            1};
  }

  // With the emissions `step` apart, class by class.
  template <typename Scalar, typename Operator>
  auto call(const Operator& function, int64_t step) const {
    const Transposed<Scalar> values(emissions, num_utterances, num_frames, num_classes, step);
    return function(values.view(), tensor(lengths, {num_utterances}),
                    tensor(labels, {num_utterances, num_slots, capacity}),
                    tensor(label_lengths, {num_utterances, num_slots}),
                    tensor(counts, {num_utterances}), blank)
        .as_tuple();
  }
};

// The log-probabilities of utterance n, or false where an operator has to refuse them.
using LogProbs = bool (*)(const Arguments& arguments, int64_t n, std::vector<double>& log_probs);

bool as_given(const Arguments& arguments, int64_t n, std::vector<double>& log_probs) {
  const auto frames = arguments.utterance(n);
  for (int64_t t = 0; t < frames.num_frames; ++t) {
    for (int64_t c = 0; c < frames.num_classes; ++c) log_probs.push_back(frames(t, c));
  }
  return std::all_of(log_probs.begin(), log_probs.end(),
                     [](double value) { return value <= kMostLogProb; });
}

bool of_logits(const Arguments& arguments, int64_t n, std::vector<double>& log_probs) {
  const auto frames = arguments.utterance(n);
  log_probs.resize(frames.num_frames * frames.num_classes);
  return !is_refused([&] { ops::log_softmax(frames, n, log_probs.data()); });
}

// Rows are entry(probability, occupancy).
template <typename Operator, typename Entry>
void check(const Arguments& arguments, int64_t step, const Operator& function, LogProbs log_probs,
           const Entry& entry) {
  const int64_t size = arguments.num_frames * arguments.num_classes;
  std::vector<test::Problem> problems;
  bool valid = arguments.are_valid();
  for (int64_t n = 0; valid && n < arguments.num_utterances; ++n) {
    problems.push_back({arguments.lengths[n], arguments.num_classes, arguments.blank, {}});
    valid = log_probs(arguments, n, problems.back().log_probs);
  }
  if (!valid) {
    EXPECT(is_refused([&] { arguments.call<double>(function, step); }));
    return;
  }
  const auto [log_prob, rows] = arguments.call<double>(function, step);
  ForwardBackwardWorkspace workspace;
  for (int64_t slot = 0; slot < arguments.num_utterances * arguments.num_slots; ++slot) {
    const int64_t n = slot / arguments.num_slots;
    const test::Problem& problem = problems[n];
    const double* row = rows.template const_data_ptr<double>() + slot * size;
    test::Posteriors found{log_prob.template const_data_ptr<double>()[slot], {row, row + size}};
    test::Posteriors expected{kNegInf, std::vector<double>(size, 0.0)};
    if (slot % arguments.num_slots < arguments.counts[n]) {
      const test::Labeling labels = arguments.labeling(n, slot % arguments.num_slots);
      expected.log_prob = ctc_forward_backward(problem.emissions(), labels.data(),
                                               static_cast<int64_t>(labels.size()), problem.blank,
                                               workspace, expected.occupancy.data());
    }
    for (size_t i = 0; expected.log_prob > kNegInf && i < problem.log_probs.size(); ++i) {
      expected.occupancy[i] = entry(std::exp(problem.log_probs[i]), expected.occupancy[i]);
    }
    EXPECT(test::agrees(found, expected, std::max<int64_t>(problem.num_frames, 1)));
    if (expected.log_prob == kNegInf) EXPECT(found.occupancy == expected.occupancy);
    for (int64_t i = problem.num_frames * problem.num_classes; i < size; ++i) EXPECT(row[i] == 0.0);
  }
  if (!are_floats(arguments.emissions)) return;
  const auto [single_log_prob, single_rows] = arguments.call<float>(function, step);
  for (int64_t i = 0; i < log_prob.numel(); ++i) {
    EXPECT(single_log_prob.template const_data_ptr<double>()[i] ==
           log_prob.template const_data_ptr<double>()[i]);
  }
  for (int64_t i = 0; i < rows.numel(); ++i) {
    EXPECT(single_rows.template const_data_ptr<float>()[i] ==
           static_cast<float>(rows.template const_data_ptr<double>()[i]));
  }
}

void labelings(Input& input) {
  const int64_t step = input.between(1, 3);
  const Arguments arguments(input);
  check(arguments, step, ops::ctc_occupancy, as_given,
        [](double /*prob*/, double occupied) { return occupied; });
  check(arguments, step, ops::ctc_logits_cotangents, of_logits,
        [](double prob, double occupied) { return prob - occupied; });
}

}  // namespace
}  // namespace egl::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  egl::fuzz::Input input(data, size);
  egl::fuzz::labelings(input);
  return 0;
}
