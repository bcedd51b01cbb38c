#include <algorithm>
#include <cmath>
#include <deque>
#include <numeric>
#include <utility>
#include <vector>

#include "csrc/core/cotangent_rows.h"
#include "csrc/core/ctc_posteriors.h"
#include "csrc/core/isa.h"
#include "csrc/ops/aten.h"
#include "csrc/ops/class_subset.h"
#include "csrc/ops/ctc_inputs.h"
#include "csrc/ops/hypothesis_posteriors.h"
#include "csrc/ops/log_softmax.h"
#include "csrc/ops/operators.h"
#include "csrc/ops/semidefinite_eigen.h"

namespace egl::ops {
namespace {

// Vectors of one utterance, [T, C] each, that differ in only a few classes: outside the V classes
// of a subset each is a multiple of the softmax. `values` [count, T * V + 1] holds the entries at
// those classes, and last the length of the multiple, so inner products are those of the whole
// vectors.
struct SparseVectors {
  std::vector<double> values;
  std::vector<double> multiples;  // [count]
  int64_t size;                   // T * V + 1

  int64_t count() const { return static_cast<int64_t>(multiples.size()); }
};

// One utterance's softmax, split into the classes of its labelings and the rest.
class Softmax {
 public:
  Softmax(const Emissions<double>& log_probs, ClassSubset subset)
      : num_frames_(log_probs.num_frames),
        num_classes_(log_probs.num_classes),
        subset_(std::move(subset)),
        table_(subset_.gather(log_probs), num_frames_, subset_.size()),
        rest_(num_frames_ * num_classes_, 0.0) {
    for (int64_t t = 0; t < num_frames_; ++t) {
      for (int64_t c = 0; c < num_classes_; ++c) {
        if (!subset_.contains(c)) rest_[t * num_classes_ + c] = std::exp(log_probs(t, c));
      }
    }
    rest_length_ = std::sqrt(std::inner_product(rest_.begin(), rest_.end(), rest_.begin(), 0.0));
  }

  int64_t num_frames() const { return num_frames_; }
  int64_t num_classes() const { return num_classes_; }
  const ClassSubset& subset() const { return subset_; }
  const ProbabilityTable& table() const { return table_; }
  const std::vector<double>& rest() const { return rest_; }  // [T, C], zero at the subset
  double rest_length() const { return rest_length_; }

 private:
  int64_t num_frames_;
  int64_t num_classes_;
  ClassSubset subset_;
  ProbabilityTable table_;  // [T, V]
  std::vector<double> rest_;
  double rest_length_;
};

// softmax - occupancy_k. Where the model is sure the two nearly cancel, so this is done in double.
SparseVectors cotangents_of(const Softmax& softmax, const LabelingBatch& labelings, int64_t n) {
  const int64_t count = labelings.count(n);
  const int64_t at_subset = softmax.num_frames() * softmax.subset().size();
  SparseVectors found{std::vector<double>(count * (at_subset + 1)), std::vector<double>(count, 1.0),
                      at_subset + 1};
  const Isa isa = isa_in_use();
  for_each_hypothesis(1, count, [&](int64_t, int64_t k, HypothesisScratch& scratch) {
    softmax.subset().posteriors(softmax.table(), labelings, n, k, isa, scratch);
    double* out = found.values.data() + k * found.size;
    std::transform(scratch.occupancy.begin(), scratch.occupancy.end(), softmax.table().probs(), out,
                   [](double occupied, double prob) { return prob - occupied; });
    out[at_subset] = softmax.rest_length();
  });
  return found;
}

void store_sq_norms(const SparseVectors& vectors, double* out) {
  const double* values = vectors.values.data();
  for (int64_t k = 0; k < vectors.count(); ++k, values += vectors.size) {
    out[k] = std::inner_product(values, values + vectors.size, values, 0.0);
  }
}

// out[k] = sum over classes of delta_k^T F delta_k for the frames' Gram matrix F.
void store_output_sq_norms(const SparseVectors& cotangents, const Softmax& softmax,
                           Tensor frame_gram, double* out) {
  const int64_t num_frames = softmax.num_frames();
  const int64_t width = softmax.subset().size();
  frame_gram = torch::stable::narrow(frame_gram, 0, 0, num_frames);
  frame_gram = torch::stable::narrow(frame_gram, 1, 0, num_frames);
  const auto form = [&](const double* values, int64_t columns) {
    const Tensor seen = torch::stable::contiguous(
        torch::stable::matmul(frame_gram, matrix(values, num_frames, columns)));
    return std::inner_product(values, values + num_frames * columns, seen.const_data_ptr<double>(),
                              0.0);
  };
  const double of_rest =
      softmax.rest_length() > 0.0 ? form(softmax.rest().data(), softmax.num_classes()) : 0.0;
  for (int64_t k = 0; k < cotangents.count(); ++k) {
    out[k] = form(cotangents.values.data() + k * cotangents.size, width) + of_rest;
  }
}

// The rows to pull back for an utterance.
struct UtteranceRows {
  SparseVectors vectors;
  RowChoice choice;
};

UtteranceRows rows_of(SparseVectors cotangents, const std::vector<double>& scales,
                      const std::vector<uint64_t>& hashes, const CompressionOptions& options) {
  const int64_t count = cotangents.count();
  if (options.any()) {
    std::vector<double> columns(cotangents.values);
    for (int64_t k = 0; k < count; ++k) {
      double* column = columns.data() + k * cotangents.size;
      std::for_each(column, column + cotangents.size, [&](double& value) { value *= scales[k]; });
    }
    const Tensor as_matrix = matrix(columns.data(), count, cotangents.size);
    const Tensor gram = torch::stable::matmul(as_matrix, torch::stable::transpose(as_matrix, 0, 1));
    if (options.span == 0.0) break_ties(gram.mutable_data_ptr<double>(), hashes);
    const EigenPairs pairs = eigen_of_semidefinite(torch::stable::contiguous(gram));
    const Eigen eigen{count, pairs.values.data(), pairs.vectors.data()};
    if (auto choice = choose_rows(eigen, hashes, options)) {
      const int64_t num_rows = choice->num_directions + choice->num_probes;
      SparseVectors rows{std::vector<double>(num_rows * cotangents.size),
                         std::vector<double>(num_rows), cotangents.size};
      mm_out(matrix(choice->combinations.data(), num_rows, count), as_matrix,
             matrix(rows.values.data(), num_rows, cotangents.size));
      for (int64_t r = 0; r < num_rows; ++r) {
        rows.multiples[r] = std::inner_product(scales.begin(), scales.end(),
                                               choice->combinations.begin() + r * count, 0.0);
      }
      return {std::move(rows), std::move(*choice)};
    }
  }
  RowChoice all{count, 0, std::vector<double>(count * count, 0.0)};
  for (int64_t k = 0; k < count; ++k) all.combinations[k * count + k] = 1.0;
  return {std::move(cotangents), std::move(all)};
}

// Writes rows [R, T, C], rounded.
template <typename Scalar>
void store_rows(const SparseVectors& vectors, const Softmax& softmax, int64_t max_frames,
                Scalar* out) {
  const int64_t num_classes = softmax.num_classes();
  const std::vector<int64_t>& classes = softmax.subset().classes();
  const auto width = static_cast<int64_t>(classes.size());
  for (int64_t r = 0; r < vectors.count(); ++r) {
    const double multiple = vectors.multiples[r];
    for (int64_t t = 0; t < softmax.num_frames(); ++t) {
      Scalar* row = out + (r * max_frames + t) * num_classes;
      const double* rest = softmax.rest().data() + t * num_classes;
      const double* values = vectors.values.data() + r * vectors.size + t * width;
      for (int64_t c = 0; c < num_classes; ++c) row[c] = static_cast<Scalar>(multiple * rest[c]);
      for (int64_t v = 0; v < width; ++v) row[classes[v]] = static_cast<Scalar>(values[v]);
    }
  }
}

}  // namespace

NbestCotangents ctc_nbest_cotangents(const Tensor& logits, const Tensor& lengths,
                                     int64_t num_hypotheses, int64_t beam_width, double tolerance,
                                     int64_t num_probes, double span, const Tensor& keys,
                                     const std::optional<Tensor>& frame_gram, int64_t blank) {
  const EmissionBatch batch(logits, lengths, blank, "logits");
  const CompressionOptions options{tolerance, num_probes, span};
  check_beam(num_hypotheses, beam_width);
  check_compression(logits, options, keys, frame_gram);
  const int64_t num_utterances = batch.num_utterances();
  const int64_t max_frames = batch.max_frames();
  const int64_t num_classes = batch.num_classes();
  const auto zeros = [&](std::initializer_list<int64_t> sizes, ScalarType dtype) {
    return torch::stable::new_zeros(logits, sizes, dtype);
  };

  // One softmax in double serves the search and the cotangents.
  Tensor log_probs = zeros({num_utterances, max_frames, num_classes}, ScalarType::Double);
  visit_floating(logits, [&]<typename Scalar>(Scalar) {
    for (int64_t n = 0; n < num_utterances; ++n) {
      log_softmax(batch.utterance<Scalar>(n), n,
                  log_probs.mutable_data_ptr<double>() + n * max_frames * num_classes);
    }
  });
  NbestCotangents found =
      new_nbest_cotangents(ctc_beam_search(log_probs, lengths, num_hypotheses, beam_width, blank),
                           frame_gram.has_value(), zeros);
  const EmissionBatch softmax_batch(log_probs, lengths, blank, "log_probs");
  const LabelingBatch labelings(found.hypotheses.labels, found.hypotheses.label_lengths,
                                found.hypotheses.counts, batch, blank);

  const Tensor key_values = torch::stable::contiguous(keys);
  std::deque<Softmax> softmaxes;
  std::vector<UtteranceRows> all_rows;
  int64_t most_rows = 0;
  for (int64_t n = 0; n < num_utterances; ++n) {
    const Softmax& softmax = softmaxes.emplace_back(softmax_batch.utterance<double>(n),
                                                    ClassSubset(labelings, n, num_classes, blank));
    SparseVectors cotangents = cotangents_of(softmax, labelings, n);
    double* sq_norms = found.cotangent_sq_norms.mutable_data_ptr<double>() + n * num_hypotheses;
    store_sq_norms(cotangents, sq_norms);
    if (frame_gram.has_value()) {
      store_output_sq_norms(cotangents, softmax, torch::stable::select(*frame_gram, 0, n),
                            found.output_sq_norms.mutable_data_ptr<double>() + n * num_hypotheses);
    }
    std::vector<uint64_t> hashes;
    hashes.reserve(labelings.count(n));
    for (int64_t k = 0; k < labelings.count(n); ++k) {
      hashes.push_back(labelings.hash(n, k, key_values.const_data_ptr<int64_t>()[n]));
    }
    const std::vector<double> scales =
        column_scales(found.hypotheses.log_prob.const_data_ptr<double>() + n * num_hypotheses,
                      sq_norms, labelings.count(n), options);
    all_rows.push_back(rows_of(std::move(cotangents), scales, hashes, options));
    const RowChoice& choice = all_rows.back().choice;
    found.num_directions.mutable_data_ptr<int64_t>()[n] = choice.num_directions;
    found.num_probes.mutable_data_ptr<int64_t>()[n] = choice.num_probes;
    most_rows = std::max(most_rows, choice.num_directions + choice.num_probes);
  }

  found.cotangents =
      zeros({num_utterances, most_rows, max_frames, num_classes}, logits.scalar_type());
  found.combinations = zeros({num_utterances, most_rows, num_hypotheses}, ScalarType::Double);
  for (int64_t n = 0; n < num_utterances; ++n) {
    const auto& [vectors, choice] = all_rows[n];
    const int64_t first = n * most_rows;
    visit_floating(logits, [&]<typename Scalar>(Scalar) {
      store_rows(vectors, softmaxes[n], max_frames,
                 found.cotangents.mutable_data_ptr<Scalar>() + first * max_frames * num_classes);
    });
    const int64_t count = labelings.count(n);
    for (int64_t r = 0; r < vectors.count(); ++r) {
      std::copy_n(choice.combinations.begin() + r * count, count,
                  found.combinations.mutable_data_ptr<double>() + (first + r) * num_hypotheses);
    }
  }
  return found;
}

}  // namespace egl::ops
