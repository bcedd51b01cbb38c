// The fused operator, ctc_nbest_cotangents, as torch calls it: its hypotheses against the core's
// search, all K cotangents against the log domain, rows against the combinations of cotangents that
// they claim to be; and that precision, strides and other utterances change nothing.
#include <cmath>
#include <optional>

#include "csrc/core/cotangent_rows.h"
#include "csrc/core/ctc_beam_search.h"
#include "csrc/core/ctc_forward_backward.h"
#include "csrc/ops/aten.h"
#include "csrc/ops/log_softmax.h"
#include "csrc/ops/operators.h"
#include "csrc/test/posterior_cases.h"
#include "fuzz/input.h"
#include "fuzz/tensors.h"

namespace egl::fuzz {
namespace {

using ops::NbestCotangents;
using ops::Tensor;

constexpr double kEpsilon = std::numeric_limits<double>::epsilon();

struct Batch {
  int64_t num_utterances;
  int64_t num_frames;
  int64_t num_classes;
  int64_t num_hypotheses;
  int64_t beam_width;
  int64_t blank;
  CompressionOptions options;
  std::vector<int64_t> lengths;
  std::vector<int64_t> keys;
  std::vector<double> logits;  // [N, T, C]
  bool has_gram;
  std::vector<double> frame_gram;  // [N, T, T]

  explicit Batch(Input& input)
      : num_utterances(input.between(1, 3)),
        num_frames(input.between(0, 10)),
        num_classes(input.between(1, 6)),
        num_hypotheses(input.between(1, 12)),
        beam_width(num_hypotheses + input.between(0, 30)),
        blank(input.between(0, num_classes - 1)),
        options{} {
    const uint8_t way = input.byte();
    if (way % 4 == 1) options.tolerance = (1 + way / 4) / 65.0;
    if (way % 4 == 2) options.num_probes = 2 + way / 4 % 12;
    if (way % 4 == 3) options.span = std::ldexp(1.0, -1 - way / 4 % 22);
    std::vector<double> levels;
    for (int64_t i = input.between(1, 8); i > 0; --i) levels.push_back(input.logit());
    for (int64_t n = 0; n < num_utterances; ++n) {
      lengths.push_back(input.between(0, num_frames));
      keys.push_back(static_cast<int64_t>(input.word()));
    }
    for (int64_t i = 0; i < num_utterances * num_frames * num_classes; ++i) {
      logits.push_back(levels[input.byte() % levels.size()]);
    }
    has_gram = input.byte() % 4 > 0;
    for (int64_t n = 0; n < num_utterances; ++n) {
      std::vector<double> inputs;
      for (int64_t t = 0; t < num_frames; ++t) inputs.push_back(input.byte() / 64.0 - 2.0);
      for (const double a : inputs) {
        for (const double b : inputs) frame_gram.push_back(1.0 + a * b);
      }
    }
  }

  Batch(const Batch& all, int64_t n) : Batch(all) {
    const auto keep = [&](auto& values, int64_t size) {
      values = {values.begin() + n * size, values.begin() + (n + 1) * size};
    };
    keep(lengths, 1);
    keep(keys, 1);
    keep(logits, num_frames * num_classes);
    keep(frame_gram, num_frames * num_frames);
    num_utterances = 1;
  }

  Emissions<double> utterance(int64_t n) const {
    return {logits.data() + n * num_frames * num_classes, lengths[n], num_classes, num_classes, 1};
  }

  NbestCotangents call(const Tensor& values) const {
    std::optional<Tensor> gram;
    if (has_gram) gram = tensor(frame_gram, {num_utterances, num_frames, num_frames});
    return ops::ctc_nbest_cotangents(values, tensor(lengths, {num_utterances}), num_hypotheses,
                                     beam_width, options.tolerance, options.num_probes,
                                     options.span, tensor(keys, {num_utterances}), gram, blank);
  }

  NbestCotangents call() const {
    return call(tensor(logits, {num_utterances, num_frames, num_classes}));
  }

  template <typename Scalar>
  NbestCotangents call_transposed(int64_t step) const {
    const Transposed<Scalar> values(logits, num_utterances, num_frames, num_classes, step);
    return call(values.view());
  }
};

bool is_valid(const Batch& batch) {
  bool valid = true;
  for (int64_t n = 0; n < batch.num_utterances; ++n) {
    const auto frames = batch.utterance(n);
    for (int64_t t = 0; t < frames.num_frames; ++t) {
      bool some = false;
      for (int64_t c = 0; c < frames.num_classes; ++c) {
        valid &= frames(t, c) < std::numeric_limits<double>::infinity();  // not NaN, either
        some |= std::isfinite(frames(t, c));
      }
      valid &= some;
    }
  }
  return valid;
}

// One thing about the arguments is wrong.
void check_refusals(Batch batch, uint8_t which) {
  const int64_t n = which / 8 % batch.num_utterances;
  switch (which % 8) {
    case 0:
      batch.lengths[n] = batch.num_frames + 1;
      break;
    case 1:
      batch.lengths[n] = -1;
      break;
    case 2:
      batch.blank = batch.num_classes;
      break;
    case 3:
      batch.num_hypotheses = 0;
      break;
    case 4:
      batch.beam_width = batch.num_hypotheses - 1;
      break;
    case 5:
      batch.options = {0.5, 2, 0.0};
      break;
    case 6:
      batch.options = {0.0, 0, std::numeric_limits<double>::quiet_NaN()};
      break;
    default: {
      batch.keys.push_back(0);
      const std::vector<int64_t>& keys = batch.keys;
      const int64_t count = batch.num_utterances;
      EXPECT(is_refused([&] {
        ops::ctc_nbest_cotangents(
            tensor(batch.logits, {count, batch.num_frames, batch.num_classes}),
            tensor(batch.lengths, {count}), 1, 1, 0.0, 0, 0.0, tensor(keys, {count + 1}),
            std::nullopt, batch.blank);
      }));
      return;
    }
  }
  EXPECT(is_refused([&] { batch.call(); }));
}

// Results of one utterance.
struct Found {
  const NbestCotangents& all;
  const Batch& batch;
  int64_t n;

  int64_t count() const { return all.hypotheses.counts.const_data_ptr<int64_t>()[n]; }
  int64_t num_directions() const { return all.num_directions.const_data_ptr<int64_t>()[n]; }
  int64_t num_probes() const { return all.num_probes.const_data_ptr<int64_t>()[n]; }
  int64_t num_rows() const { return num_directions() + num_probes(); }
  int64_t slot(int64_t k) const { return n * batch.num_hypotheses + k; }
  double log_prob(int64_t k) const {
    return all.hypotheses.log_prob.const_data_ptr<double>()[slot(k)];
  }
  const double* sq_norms() const {
    return all.cotangent_sq_norms.const_data_ptr<double>() + slot(0);
  }
  double output_sq_norm(int64_t k) const {
    return all.output_sq_norms.const_data_ptr<double>()[slot(k)];
  }
  test::Labeling labels(int64_t k) const {
    const int64_t* first =
        all.hypotheses.labels.const_data_ptr<int64_t>() + slot(k) * batch.num_frames;
    return {first, first + all.hypotheses.label_lengths.const_data_ptr<int64_t>()[slot(k)]};
  }
  double combination(int64_t r, int64_t k) const {
    return all.combinations
        .const_data_ptr<double>()[(n * all.combinations.size(1) + r) * batch.num_hypotheses + k];
  }
  // [T, C]
  std::vector<double> row(int64_t r) const {
    const int64_t size = batch.num_frames * batch.num_classes;
    const int64_t start = (n * all.cotangents.size(1) + r) * size;
    std::vector<double> values;
    ops::visit_floating(all.cotangents, [&]<typename Scalar>(Scalar) {
      const Scalar* first = all.cotangents.const_data_ptr<Scalar>() + start;
      values.assign(first, first + size);
    });
    return values;
  }
};

// What precision, strides, compression and other utterances do not change.
bool same(const Found& a, const Found& b) {
  bool equal = a.count() == b.count();
  for (int64_t k = 0; equal && k < a.count(); ++k) {
    equal &= a.labels(k) == b.labels(k) && a.log_prob(k) == b.log_prob(k) &&
             a.sq_norms()[k] == b.sq_norms()[k];
  }
  return equal;
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

// A found utterance without compression, in double: its rows are the K cotangents.
void check_cotangents(const Found& found) {
  const Batch& batch = found.batch;
  const int64_t length = batch.lengths[found.n];
  test::Problem problem{length, batch.num_classes, batch.blank, {}};
  problem.log_probs.resize(length * batch.num_classes);
  ops::log_softmax(batch.utterance(found.n), found.n, problem.log_probs.data());
  const auto hypotheses =
      ctc_beam_search(problem.emissions(), {batch.num_hypotheses, batch.beam_width, batch.blank});
  EXPECT(found.count() == static_cast<int64_t>(hypotheses.size()));
  EXPECT(found.num_directions() == found.count() && found.num_probes() == 0);
  EXPECT(found.all.output_sq_norms.size(0) == (batch.has_gram ? batch.num_utterances : 0));
  ForwardBackwardWorkspace workspace;
  for (int64_t k = 0; k < found.count(); ++k) {
    EXPECT(found.labels(k) == hypotheses[k].labels);
    EXPECT(found.log_prob(k) == hypotheses[k].log_prob);
    const test::Labeling labels = found.labels(k);
    std::vector<double> occupancy(problem.log_probs.size());
    ctc_forward_backward(problem.emissions(), labels.data(), static_cast<int64_t>(labels.size()),
                         batch.blank, workspace, occupancy.data());
    // As test::agrees().
    const double tolerance =
        2 * (8.0 * length * std::max(1.0, std::abs(found.log_prob(k))) * kEpsilon + 2e-11);
    const std::vector<double> row = found.row(k);
    for (size_t i = 0; i < row.size(); ++i) {
      const double expected =
          i < occupancy.size() ? std::exp(problem.log_probs[i]) - occupancy[i] : 0.0;
      EXPECT(test::near(row[i], expected, tolerance));
    }
    for (int64_t r = 0; r < found.num_rows(); ++r) EXPECT(found.combination(r, k) == (r == k));
    // Sums of T C squares, each twice rounded.
    const double terms = length * batch.num_classes + 8.0;
    EXPECT(test::near(found.sq_norms()[k], dot(row, row),
                      terms * kEpsilon * dot(row, row) + std::numeric_limits<double>::min()));
    if (!batch.has_gram) continue;
    double form = 0.0;
    double size = 0.0;
    const double* gram = batch.frame_gram.data() + found.n * batch.num_frames * batch.num_frames;
    for (int64_t t = 0; t < length; ++t) {
      for (int64_t s = 0; s < length; ++s) {
        for (int64_t c = 0; c < batch.num_classes; ++c) {
          const double term = gram[t * batch.num_frames + s] * row[t * batch.num_classes + c] *
                              row[s * batch.num_classes + c];
          form += term;
          size += std::abs(term);
        }
      }
    }
    EXPECT(test::near(found.output_sq_norm(k), form, terms * terms * kEpsilon * size + 1e-300));
  }
}

// Rows are combinations of the scaled cotangents, and the combinations are what they should be.
void check_rows(const Found& found, const Found& all, double rounding) {
  const int64_t count = found.count();
  const CompressionOptions& options = found.batch.options;
  EXPECT(same(found, all));
  EXPECT(found.num_directions() >= 0 && found.num_probes() >= 0 && found.num_rows() <= count);
  std::vector<double> log_probs;
  for (int64_t k = 0; k < count; ++k) log_probs.push_back(found.log_prob(k));
  std::vector<double> scales = column_scales(log_probs.data(), found.sq_norms(), count, options);
  bool is_identity = found.num_directions() == count;
  for (int64_t r = 0; r < found.num_rows(); ++r) {
    for (int64_t k = 0; k < count; ++k) is_identity &= found.combination(r, k) == (r == k);
  }
  if (is_identity) scales.assign(count, 1.0);
  const auto size = static_cast<double>(std::max<int64_t>(count, 1));

  std::vector<std::vector<double>> columns;
  for (int64_t k = 0; k < count; ++k) {
    columns.push_back(all.row(k));
    for (double& value : columns.back()) value *= scales[k];
  }
  std::vector<std::vector<double>> rows;
  for (int64_t r = 0; r < found.all.cotangents.size(1); ++r) {
    rows.push_back(found.row(r));
    std::vector<double> expected(rows.back().size());
    for (int64_t k = 0; r < found.num_rows() && k < count; ++k) {
      for (size_t i = 0; i < expected.size(); ++i) {
        expected[i] += found.combination(r, k) * columns[k][i];
      }
    }
    // K products of a column no longer than 1 and an entry of a row no longer than sqrt(K).
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT(test::near(rows[r][i], expected[i], size * std::sqrt(size) * rounding));
    }
  }
  if (is_identity) return;
  EXPECT(options.any());
  for (int64_t r = 0; r < found.num_rows(); ++r) {
    for (int64_t s = 0; s <= std::min(r, found.num_directions() - 1); ++s) {
      double product = 0.0;
      for (int64_t k = 0; k < count; ++k)
        product += found.combination(r, k) * found.combination(s, k);
      EXPECT(test::near(product, r == s ? 1.0 : 0.0, 1e-9));  // eigenvectors are orthonormal
    }
    if (r < found.num_directions()) continue;
    double length = 0.0;
    for (int64_t k = 0; k < count; ++k) length += std::pow(found.combination(r, k), 2);
    EXPECT(test::near(length, size - found.num_directions(), 1e-9 * size));
  }
  if (options.num_probes > 0) EXPECT(found.num_rows() <= options.num_probes);
  if (options.span == 0.0) return;
  EXPECT(found.num_probes() == 0);
  for (int64_t k = 0; k < count; ++k) {
    std::vector<double> rest = columns[k];
    for (int64_t r = 0; r < found.num_rows(); ++r) {
      for (size_t i = 0; i < rest.size(); ++i) rest[i] -= found.combination(r, k) * rows[r][i];
    }
    // Eigenvalues are known to K eps of the largest, which is at most K.
    const double slack = 16 * size * size * kEpsilon + size * std::pow(size * rounding, 2);
    EXPECT(dot(rest, rest) <= options.span * options.span + slack);
  }
}

void cotangents(Input& input) {
  const uint8_t spoil = input.byte();
  const int64_t step = input.between(1, 3);
  const Batch batch(input);
  if (!is_valid(batch)) {
    EXPECT(is_refused([&] { batch.call(); }));
    return;
  }
  if (spoil >= 192) return check_refusals(batch, spoil);

  Batch plain = batch;
  plain.options = {};
  const NbestCotangents all = plain.call();
  const NbestCotangents found = batch.call();
  const NbestCotangents strided = batch.call_transposed<double>(step);
  std::optional<NbestCotangents> single;
  if (are_floats(batch.logits)) single = batch.call_transposed<float>(step);
  for (int64_t n = 0; n < batch.num_utterances; ++n) {
    const Found exact{all, plain, n};
    check_cotangents(exact);
    check_rows({found, batch, n}, exact, 4 * kEpsilon);
    check_rows({strided, batch, n}, exact, 4 * kEpsilon);
    if (single.has_value()) {
      check_rows({*single, batch, n}, exact, 2 * std::numeric_limits<float>::epsilon());
    }
    const Batch own(batch, n);
    const NbestCotangents alone = own.call();
    EXPECT(same({alone, own, 0}, {found, batch, n}));
  }
}

}  // namespace
}  // namespace egl::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  egl::fuzz::Input input(data, size);
  egl::fuzz::cotangents(input);
  return 0;
}
