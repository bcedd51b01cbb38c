// The arguments and results of the CTC operators, on any device: what shapes and options they may
// have, and tensors for the results.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>

#include "csrc/core/cotangent_rows.h"
#include "csrc/core/emissions.h"
#include "csrc/ops/check.h"
#include "csrc/ops/operators.h"

namespace egl::ops {

// Emissions [N, T, C], any strides, with the utterances' lengths [N]. Shapes are checked, values
// are not.
struct EmissionTensors {
  EmissionTensors(const Tensor& values, const Tensor& lengths, int64_t blank, const char* name)
      : values(values), lengths(torch::stable::contiguous(lengths)), name(name) {
    check_tensor(values, name, {ScalarType::Float, ScalarType::Double}, {{"N"}, {"T"}, {"C"}});
    check_tensor(lengths, "lengths", {ScalarType::Long}, {{"N", values.size(0)}});
    check(blank >= 0 && blank < num_classes(), "blank: expected a class index in [0, ",
          num_classes(), "), got ", blank);
  }

  int64_t num_utterances() const { return values.size(0); }
  int64_t max_frames() const { return values.size(1); }
  int64_t num_classes() const { return values.size(2); }

  Tensor values;
  Tensor lengths;
  const char* name;
};

// Labelings [N, K, U], likewise.
struct LabelingTensors {
  LabelingTensors(const Tensor& labels, const Tensor& label_lengths, const Tensor& counts,
                  int64_t num_utterances = Axis::kAnySize)
      : labels(torch::stable::contiguous(labels)),
        label_lengths(torch::stable::contiguous(label_lengths)),
        counts(torch::stable::contiguous(counts)) {
    check_tensor(labels, "labels", {ScalarType::Long}, {{"N", num_utterances}, {"K"}, {"U"}});
    check_tensor(label_lengths, "label_lengths", {ScalarType::Long},
                 {{"N", labels.size(0)}, {"K", num_slots()}});
    check_tensor(counts, "counts", {ScalarType::Long}, {{"N", labels.size(0)}});
  }

  int64_t num_utterances() const { return labels.size(0); }
  int64_t num_slots() const { return labels.size(1); }
  int64_t capacity() const { return labels.size(2); }

  Tensor labels;
  Tensor label_lengths;
  Tensor counts;
};

inline void check_label(int64_t label, int64_t num_classes, int64_t blank, int64_t n, int64_t k) {
  check(label >= 0 && label < num_classes && label != blank, "labels: expected classes in [0, ",
        num_classes, ") other than blank ", blank, ", got ", label, " in utterance ", n,
        ", hypothesis ", k);
}

// Log-probabilities may be minus infinity. A frame's probabilities need not sum to one.
inline void check_log_prob(double value, int64_t n, int64_t t, int64_t c) {
  check(value <= kMostLogProb, "log_probs: expected natural logarithms of probabilities, got ",
        value, " in utterance ", n, ", frame ", t, ", class ", c,
        "; log_softmax makes them from logits");
}

// `total`: the log-sum-exp of a frame's logits.
inline void check_logits(double total, int64_t n, int64_t t) {
  check(std::isfinite(total),
        "logits: expected no NaN or +inf, and at least one finite value per frame; violated in "
        "utterance ",
        n, ", frame ", t);
}

inline void check_beam(int64_t num_hypotheses, int64_t beam_width) {
  // The core counts prefixes in 32 bits, so no search finds more.
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  check(num_hypotheses >= 1 && num_hypotheses <= kMost, "num_hypotheses: expected 1 to ", kMost,
        ", got ", num_hypotheses);
  check(beam_width >= num_hypotheses,
        "beam_width: expected at least num_hypotheses = ", num_hypotheses, ", got ", beam_width);
}

inline void check_keys(const Tensor& keys, int64_t num_utterances) {
  check_tensor(keys, "keys", {ScalarType::Long}, {{"N", num_utterances}});
}

// Arguments of ctc_nbest_cotangents in addition to the search's.
inline void check_compression(const Tensor& logits, const CompressionOptions& options,
                              const Tensor& keys, const std::optional<Tensor>& frame_gram) {
  const auto& [tolerance, num_probes, span] = options;
  check(tolerance >= 0.0 && tolerance < 1.0, "tolerance: expected a share between 0 and 1, got ",
        tolerance);
  check(num_probes == 0 || num_probes >= 2, "probes: expected at least 2, got ", num_probes);
  check(span >= 0.0 && span < 1.0, "span: expected a share between 0 and 1, got ", span);
  check((tolerance > 0.0) + (num_probes > 0) + (span > 0.0) <= 1,
        "tolerance, probes and span: expected one of them, not several");
  check_keys(keys, logits.size(0));
  if (frame_gram.has_value()) {
    check_tensor(*frame_gram, "frame_gram", {ScalarType::Double},
                 {{"N", logits.size(0)}, {"T", logits.size(1)}, {"T", logits.size(1)}});
  }
}

// `num_normals` decides how large the result is; torch reports overflow.
inline void check_num_normals(int64_t num_normals) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  check(num_normals >= 0, "num_normals: expected at least 0, got ", num_normals);
  check(num_normals <= kMost, "num_normals: expected at most ", kMost, ", got ", num_normals);
}

// Uninitialized, for emissions [N, T, C].
inline Hypotheses new_hypotheses(const Tensor& emissions, int64_t num_hypotheses) {
  const auto empty = [&](std::initializer_list<int64_t> sizes, ScalarType dtype) {
    return torch::stable::new_empty(emissions, sizes, dtype);
  };
  const int64_t num_utterances = emissions.size(0);
  return {.labels = empty({num_utterances, num_hypotheses, emissions.size(1)}, ScalarType::Long),
          .label_lengths = empty({num_utterances, num_hypotheses}, ScalarType::Long),
          .log_prob = empty({num_utterances, num_hypotheses}, ScalarType::Double),
          .search_log_prob = empty({num_utterances, num_hypotheses}, ScalarType::Double),
          .counts = empty({num_utterances}, ScalarType::Long)};
}

// All but the rows and their combinations, by allocate(sizes, dtype).
template <typename Allocate>
NbestCotangents new_nbest_cotangents(const Hypotheses& hypotheses, bool has_frame_gram,
                                     const Allocate& allocate) {
  const int64_t num_utterances = hypotheses.labels.size(0);
  const int64_t num_hypotheses = hypotheses.labels.size(1);
  return {.hypotheses = hypotheses,
          .cotangents = {},
          .combinations = {},
          .num_directions = allocate({num_utterances}, ScalarType::Long),
          .num_probes = allocate({num_utterances}, ScalarType::Long),
          .cotangent_sq_norms = allocate({num_utterances, num_hypotheses}, ScalarType::Double),
          .output_sq_norms =
              allocate({has_frame_gram ? num_utterances : 0, num_hypotheses}, ScalarType::Double)};
}

// Uninitialized: log-probabilities [N, K], and occupancy or cotangents [N, K, T, C].
struct PosteriorTensors {
  PosteriorTensors(const EmissionTensors& emissions, const LabelingTensors& labelings)
      : log_prob(torch::stable::new_empty(emissions.values,
                                          {emissions.num_utterances(), labelings.num_slots()},
                                          ScalarType::Double)),
        rows(torch::stable::new_empty(emissions.values,
                                      {emissions.num_utterances(), labelings.num_slots(),
                                       emissions.max_frames(), emissions.num_classes()})) {}

  Tensor log_prob;
  Tensor rows;
};

}  // namespace egl::ops
