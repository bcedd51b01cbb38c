#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <vector>

#include "csrc/core/cotangent_budget.h"
#include "csrc/core/random_normals.h"
#include "csrc/ops/aten.h"
#include "csrc/ops/ctc_inputs.h"
#include "csrc/ops/log_softmax.h"
#include "csrc/ops/ops.h"

namespace egl::ops {
namespace {

// Equal eigenvalues leave their eigenvectors' rotation open, and so the probes. So the Gram
// matrix's diagonal gets a part of this size, relative to its trace, from each hypothesis's own
// numbers: far above rounding in double, far below anything that matters. Any basis is unbiased.
constexpr double kTieBreak = 1e-10;

// The numbers of an utterance's hypotheses.
class HypothesisNumbers {
 public:
  HypothesisNumbers(const LabelingBatch& labelings, int64_t n, uint64_t key) {
    for (int64_t k = 0; k < labelings.count(n); ++k) {
      hashes_.push_back(hash_labeling(key, labelings.labeling(n, k), labelings.length(n, k)));
    }
  }

  double normal(int64_t k, int64_t probe) const { return normal_of(hashes_[k], probe); }
  double tie_break(int64_t k) const { return uniform_of(split_mix(~hashes_[k])); }

 private:
  std::vector<uint64_t> hashes_;
};

// What the caller asked for: all cotangents unless one of these is above zero.
struct CompressionOptions {
  double tolerance;
  int64_t num_probes;
  double span;

  bool any() const { return tolerance > 0.0 || num_probes > 0 || span > 0.0; }
};

// Where one utterance's results go.
struct Slots {
  double* combinations;  // [R, K], zero
  int64_t* num_directions;
  int64_t* num_probes;
};

// p(y_k | x) / sum_j p(y_j | x). In the log domain: in a long utterance every p may underflow,
// their ratios do not.
std::vector<double> weights_of(const double* log_prob, int64_t count) {
  const double total = log_sum_exp(log_prob, count, 1);
  std::vector<double> weights(count);
  for (int64_t k = 0; k < count; ++k) weights[k] = std::exp(log_prob[k] - total);
  return weights;
}

// Chooses an utterance's directions as combinations of the columns delta_k / ||delta_k||, whose Gram
// matrix [count, count] is given, so that every column is a combination of them but for `span` of
// its length; false if the hypotheses had better be pulled back one by one.
bool combine_span(const Tensor& gram, double span, int64_t num_slots, const Slots& out) {
  const int64_t count = gram.size(0);
  const auto [value_tensor, vector_tensor] = eigen_of_semidefinite(gram);
  const double* values = value_tensor.const_data_ptr<double>();
  const double* vectors = vector_tensor.const_data_ptr<double>();  // [count, count], in columns
  const int64_t rank = rank_of_span({values, static_cast<size_t>(count)}, vectors, span);
  if (!worth_combining(rank, count)) return false;
  *out.num_directions = rank;
  for (int64_t r = 0; r < rank; ++r) {
    for (int64_t k = 0; k < count; ++k) {
      out.combinations[r * num_slots + k] = vectors[k * count + r];
    }
  }
  return true;
}

// Chooses an utterance's directions and probes, as combinations of the columns
// sqrt(p_k) delta_k, whose Gram matrix [count, count] is given; false if the hypotheses had better
// be pulled back one by one.
bool combine(const Tensor& gram, const HypothesisNumbers& numbers,
             const CompressionOptions& options, int64_t num_slots, const Slots& out) {
  const int64_t count = gram.size(0);
  auto* entries = gram.mutable_data_ptr<double>();
  double trace = 0.0;
  for (int64_t k = 0; k < count; ++k) trace += entries[k * count + k];
  for (int64_t k = 0; k < count; ++k) {
    entries[k * count + k] += kTieBreak * trace * numbers.tie_break(k);
  }
  const auto [value_tensor, vector_tensor] = eigen_of_semidefinite(gram);
  const std::span values(value_tensor.const_data_ptr<double>(), static_cast<size_t>(count));
  const double* vectors = vector_tensor.const_data_ptr<double>();  // [count, count], in columns
  const CotangentBudget budget = options.tolerance > 0.0
                                     ? budget_for_tolerance(values, options.tolerance)
                                     : budget_of_probes(values, options.num_probes);
  if (budget.num_directions + budget.num_probes >= count) return false;
  *out.num_directions = budget.num_directions;
  *out.num_probes = budget.num_probes;
  for (int64_t r = 0; r < budget.num_directions; ++r) {
    double* row = out.combinations + r * num_slots;
    for (int64_t k = 0; k < count; ++k) row[k] = vectors[k * count + r];
  }
  // A probe is a sum of the eigenvectors left, under random signs. Independent normal numbers stay
  // so in any orthonormal basis: their signs along the eigenvectors are fair and independent, and
  // an eigenvector of the other sign gives the same probe.
  std::vector<double> normals(count);
  for (int64_t p = 0; p < budget.num_probes; ++p) {
    for (int64_t k = 0; k < count; ++k) normals[k] = numbers.normal(k, p);
    double* row = out.combinations + (budget.num_directions + p) * num_slots;
    for (int64_t r = budget.num_directions; r < count; ++r) {
      double along = 0.0;
      for (int64_t k = 0; k < count; ++k) along += vectors[k * count + r] * normals[k];
      const double sign = along < 0.0 ? -1.0 : 1.0;
      for (int64_t k = 0; k < count; ++k) row[k] += sign * vectors[k * count + r];
    }
  }
  return true;
}

// out[k] = <a_k, b_k> of two [K, T, C].
void store_inner_products(const Tensor& a, const Tensor& b, double* out) {
  const double* left = a.const_data_ptr<double>();
  const double* right = b.const_data_ptr<double>();
  const int64_t size = a.size(1) * a.size(2);
  for (int64_t k = 0; k < a.size(0); ++k, left += size, right += size) {
    out[k] = std::inner_product(left, left + size, right, 0.0);
  }
}

// What a hypothesis's cotangent is multiplied with before cotangents are combined.
std::vector<double> scales_of(const double* log_prob, const double* sq_norms, int64_t count,
                              const CompressionOptions& options) {
  std::vector<double> scales(count);
  if (options.span > 0.0) {
    // A hypothesis that is certain has no cotangent.
    std::transform(sq_norms, sq_norms + count, scales.begin(),
                   [](double value) { return value > 0.0 ? 1.0 / std::sqrt(value) : 0.0; });
  } else {
    const std::vector<double> weights = weights_of(log_prob, count);
    std::transform(weights.begin(), weights.end(), scales.begin(),
                   [](double weight) { return std::sqrt(weight); });
  }
  return scales;
}

// columns[k] *= scales[k]
void scale(const std::vector<double>& scales, int64_t size, double* columns) {
  for (const double factor : scales) {
    for (double* const end = columns + size; columns != end; ++columns) *columns *= factor;
  }
}

// One utterance's rows [R, T, C] to pull back, from its cotangents [count, T, C], whose memory is
// used up.
template <typename Scalar>
void store_rows(const Tensor& cotangents, const std::vector<double>& scales,
                const HypothesisNumbers& numbers, const CompressionOptions& options,
                int64_t num_slots, const Slots& out, Scalar* rows) {
  const int64_t count = cotangents.size(0);
  const int64_t size = cotangents.size(1) * cotangents.size(2);
  auto* data = cotangents.mutable_data_ptr<double>();
  bool combined = false;
  if (options.any()) {
    std::vector<double> copy(data, data + count * size);
    scale(scales, size, copy.data());
    const Tensor columns = matrix(copy.data(), count, size);
    const Tensor gram = torch::stable::matmul(columns, torch::stable::transpose(columns, 0, 1));
    combined = options.span > 0.0 ? combine_span(gram, options.span, num_slots, out)
                                  : combine(gram, numbers, options, num_slots, out);
    if (combined) {
      const int64_t num_rows = *out.num_directions + *out.num_probes;
      std::vector<double> dense;
      for (int64_t r = 0; r < num_rows; ++r) {
        dense.insert(dense.end(), out.combinations + r * num_slots,
                     out.combinations + r * num_slots + count);
      }
      mm_out(matrix(dense.data(), num_rows, count), columns, matrix(data, num_rows, size));
      std::copy(data, data + num_rows * size, rows);
    }
  }
  if (!combined) {
    *out.num_directions = count;
    for (int64_t k = 0; k < count; ++k) out.combinations[k * num_slots + k] = 1.0;
    std::copy(data, data + count * size, rows);
  }
}

}  // namespace

NbestCotangents ctc_nbest_cotangents(const Tensor& logits, const Tensor& lengths,
                                     int64_t num_hypotheses, int64_t beam_width, double tolerance,
                                     int64_t num_probes, double span, const Tensor& keys,
                                     const std::optional<Tensor>& frame_gram, int64_t blank) {
  const EmissionBatch batch(logits, lengths, blank, "logits");
  const int64_t num_utterances = batch.num_utterances();
  const int64_t max_frames = batch.max_frames();
  const int64_t num_classes = batch.num_classes();
  check(tolerance >= 0.0 && tolerance < 1.0, "tolerance: expected a share between 0 and 1, got ",
        tolerance);
  check(num_probes == 0 || num_probes >= 2, "probes: expected at least 2, got ", num_probes);
  check(span >= 0.0 && span < 1.0, "span: expected a share between 0 and 1, got ", span);
  check((tolerance > 0.0) + (num_probes > 0) + (span > 0.0) <= 1,
        "tolerance, probes and span: expected one of them, not several");
  check_tensor(keys, "keys", {ScalarType::Long}, {{"N", num_utterances}});
  if (frame_gram.has_value()) {
    check_tensor(*frame_gram, "frame_gram", {ScalarType::Double},
                 {{"N", num_utterances}, {"T", max_frames}, {"T", max_frames}});
  }
  const auto zeros = [&](std::initializer_list<int64_t> sizes, ScalarType dtype) {
    return torch::stable::new_zeros(logits, sizes, dtype);
  };

  // One softmax in double serves the search and the cotangents.
  Tensor log_probs = zeros({num_utterances, max_frames, num_classes}, ScalarType::Double);
  log_softmax(batch, log_probs.mutable_data_ptr<double>());
  auto [labels, label_lengths, log_prob, search_log_prob, counts] =
      ctc_beam_search(log_probs, lengths, num_hypotheses, beam_width, blank);
  const LabelingBatch labelings(labels, label_lengths, counts, batch, blank);

  const int64_t num_rows = num_probes == 0 ? num_hypotheses : std::min(num_probes, num_hypotheses);
  Tensor rows = zeros({num_utterances, num_rows, max_frames, num_classes}, logits.scalar_type());
  Tensor combinations = zeros({num_utterances, num_rows, num_hypotheses}, ScalarType::Double);
  Tensor num_directions = zeros({num_utterances}, ScalarType::Long);
  Tensor probe_counts = zeros({num_utterances}, ScalarType::Long);
  Tensor sq_norms = zeros({num_utterances, num_hypotheses}, ScalarType::Double);
  Tensor output_sq_norms =
      zeros({frame_gram.has_value() ? num_utterances : 0, num_hypotheses}, ScalarType::Double);

  const Tensor key_values = torch::stable::contiguous(keys);
  for (int64_t n = 0; n < num_utterances; ++n) {
    const int64_t count = labelings.count(n);
    if (count == 0) continue;
    const auto only = [n](Tensor& tensor) { return torch::stable::narrow(tensor, 0, n, 1); };
    Tensor lengths_copy = lengths;
    Tensor all =
        std::get<1>(ctc_logits_cotangents(only(log_probs), only(lengths_copy), only(labels),
                                          only(label_lengths), only(counts), blank));
    Tensor slots = torch::stable::select(all, 0, 0);
    const Tensor cotangents = torch::stable::narrow(slots, 0, 0, count);
    store_inner_products(cotangents, cotangents,
                         sq_norms.mutable_data_ptr<double>() + n * num_hypotheses);
    if (frame_gram.has_value()) {
      store_inner_products(cotangents,
                           torch::stable::contiguous(torch::stable::matmul(
                               torch::stable::select(*frame_gram, 0, n), cotangents)),
                           output_sq_norms.mutable_data_ptr<double>() + n * num_hypotheses);
    }
    const HypothesisNumbers numbers(labelings, n,
                                    static_cast<uint64_t>(key_values.const_data_ptr<int64_t>()[n]));
    const double* log_prob_row = log_prob.const_data_ptr<double>() + n * num_hypotheses;
    const Slots out{
        combinations.mutable_data_ptr<double>() + n * num_rows * num_hypotheses,
        num_directions.mutable_data_ptr<int64_t>() + n,
        probe_counts.mutable_data_ptr<int64_t>() + n,
    };
    const int64_t first = n * num_rows * max_frames * num_classes;
    const CompressionOptions options{tolerance, num_probes, span};
    const std::vector<double> scales = scales_of(
        log_prob_row, sq_norms.const_data_ptr<double>() + n * num_hypotheses, count, options);
    if (batch.is_double()) {
      store_rows(cotangents, scales, numbers, options, num_hypotheses, out,
                 rows.mutable_data_ptr<double>() + first);
    } else {
      store_rows(cotangents, scales, numbers, options, num_hypotheses, out,
                 rows.mutable_data_ptr<float>() + first);
    }
  }
  return {labels,       label_lengths,  log_prob,     search_log_prob, counts,         rows,
          combinations, num_directions, probe_counts, sq_norms,        output_sq_norms};
}

Tensor ctc_hypothesis_normals(const Tensor& labels, const Tensor& label_lengths,
                              const Tensor& counts, const Tensor& keys, int64_t num_normals) {
  check_tensor(labels, "labels", {ScalarType::Long}, {{"N"}, {"K"}, {"U"}});
  const int64_t num_utterances = labels.size(0);
  const int64_t num_slots = labels.size(1);
  check_tensor(label_lengths, "label_lengths", {ScalarType::Long},
               {{"N", num_utterances}, {"K", num_slots}});
  check_tensor(counts, "counts", {ScalarType::Long}, {{"N", num_utterances}});
  check_tensor(keys, "keys", {ScalarType::Long}, {{"N", num_utterances}});
  check(num_normals >= 0, "num_normals: expected at least 0, got ", num_normals);
  const Tensor label_values = torch::stable::contiguous(labels);
  const Tensor length_values = torch::stable::contiguous(label_lengths);
  const Tensor count_values = torch::stable::contiguous(counts);
  const Tensor key_values = torch::stable::contiguous(keys);
  check_range(length_values, "label_lengths", 0, labels.size(2));
  check_range(count_values, "counts", 0, num_slots);
  Tensor normals = torch::stable::new_zeros(labels, {num_utterances, num_slots, num_normals},
                                            ScalarType::Double);
  auto* out = normals.mutable_data_ptr<double>();
  for (int64_t n = 0; n < num_utterances; ++n) {
    const auto key = static_cast<uint64_t>(key_values.const_data_ptr<int64_t>()[n]);
    for (int64_t k = 0; k < count_values.const_data_ptr<int64_t>()[n]; ++k) {
      const int64_t slot = n * num_slots + k;
      const uint64_t hash =
          hash_labeling(key, label_values.const_data_ptr<int64_t>() + slot * labels.size(2),
                        length_values.const_data_ptr<int64_t>()[slot]);
      for (int64_t i = 0; i < num_normals; ++i) out[slot * num_normals + i] = normal_of(hash, i);
    }
  }
  return normals;
}

}  // namespace egl::ops
