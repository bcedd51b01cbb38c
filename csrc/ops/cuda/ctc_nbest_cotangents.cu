#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>

#include "csrc/core/cotangent_rows.h"
#include "csrc/cuda/bad_utterances.h"
#include "csrc/cuda/choose_rows.h"
#include "csrc/cuda/ctc_posteriors.h"
#include "csrc/cuda/frame_gram.h"
#include "csrc/cuda/hypothesis_normals.h"
#include "csrc/cuda/inner_products.h"
#include "csrc/cuda/log_softmax.h"
#include "csrc/ops/aten.h"
#include "csrc/ops/cuda/beam_search.h"
#include "csrc/ops/cuda/ctc_inputs.h"
#include "csrc/ops/cuda/device.h"
#include "csrc/ops/operators.h"

namespace egl::ops::cuda {
namespace {

// At a time, as many utterances as have cotangents in double, and products of their size, that fit
// into this; at least one. In emulation it is small, so that tests see several chunks.
#ifdef EGL_EMULATE
constexpr int64_t kCotangentBytes = int64_t{64} << 10;
#else
constexpr int64_t kCotangentBytes = int64_t{512} << 20;
#endif

// Scratch memory of the posteriors' kernel in bytes: more is faster, up to a point.
constexpr size_t kPosteriorScratch = size_t{256} << 20;

// ATen's matrix products count rows and columns in 32 bits.
void check_products_fit(const EmissionBatch& batch) {
  const int64_t size = batch.max_frames() * batch.num_classes();
  check(size <= std::numeric_limits<int32_t>::max(),
        "logits: too many frames and classes for matrix products on cuda: T * C = ", size);
}

// What is known of all utterances before their cotangents.
struct Found {
  egl::cuda::EmissionBatch<double> log_probs;
  egl::cuda::LabelingBatch labelings;
  const double* log_prob;            // [N, K]
  const uint64_t* hashes;            // [N, K]
  std::optional<Tensor> frame_gram;  // [N, T, T], zero for padding
  int64_t blank;
};

// Turns labelings into rows, some utterances at a time, in memory that is reused.
class Rows {
 public:
  Rows(const DeviceScope& scope, const Tensor& like, const Found& found,
       const CompressionOptions& options, const NbestCotangents& results, int64_t max_rows)
      : scope_(scope),
        found_(found),
        options_(options),
        results_(results),
        max_rows_(max_rows),
        num_slots_(found.labelings.num_slots),
        row_size_(found.log_probs.max_frames * found.log_probs.num_classes),
        // Products are needed for a frame_gram, and where rows are rounded after they are made.
        with_products_(found.frame_gram.has_value() ||
                       (options.any() && results.cotangents.scalar_type() != ScalarType::Double)),
        most_(utterances_at_a_time()),
        posterior_bytes_(egl::cuda::ctc_posteriors_workspace_bytes(
            most_, found.log_probs.max_frames, found.log_probs.num_classes, num_slots_,
            found.labelings.capacity, kPosteriorScratch)),
        posterior_memory_(like, posterior_bytes_),
        cotangents_(doubles(like, most_ * num_slots_ * row_size_)),
        products_(doubles(like, with_products_ ? most_ * num_slots_ * row_size_ : 0)),
        log_prob_(doubles(like, most_ * num_slots_)),
        grams_(doubles(like, options.any() ? most_ * num_slots_ * num_slots_ : 0)),
        of_cotangents_(doubles(like, options.any() ? most_ * max_rows_ * num_slots_ : 0)),
        row_memory_(like, options.any() ? egl::cuda::device_bytes_of<egl::cuda::RowWorkspace>(
                                              most_, num_slots_)
                                        : 0) {}

  void make_all() {
    for (int64_t first = 0; first < found_.log_probs.num_utterances; first += most_) {
      const int64_t count = std::min(most_, found_.log_probs.num_utterances - first);
      make_cotangents(first, count);
      if (found_.frame_gram.has_value()) store_output_sq_norms(first, count);
      if (options_.any()) {
        combine(first, count);
      } else {
        copy(first, count);
      }
    }
  }

 private:
  static Tensor doubles(const Tensor& like, int64_t count) {
    return torch::stable::new_empty(like, {count}, ScalarType::Double);
  }

  // The beginning of `memory` as [count, rows, columns].
  static Tensor matrices(Tensor memory, int64_t count, int64_t rows, int64_t columns) {
    return torch::stable::view(torch::stable::narrow(memory, 0, 0, count * rows * columns),
                               {count, rows, columns});
  }

  static double* data(const Tensor& tensor) { return tensor.mutable_data_ptr<double>(); }

  int64_t utterances_at_a_time() const {
    const int64_t bytes =
        num_slots_ * row_size_ * static_cast<int64_t>(sizeof(double)) * (with_products_ ? 2 : 1);
    return std::clamp<int64_t>(kCotangentBytes / std::max<int64_t>(bytes, 1), 1,
                               std::max<int64_t>(found_.log_probs.num_utterances, 1));
  }

  // softmax - occupancy_k, zero on padding and in unused slots, and their squared norms. Where the
  // model is sure the two nearly cancel, so they are subtracted in double.
  void make_cotangents(int64_t first, int64_t count) {
    egl::cuda::ctc_posteriors<egl::cuda::PosteriorKind::kCotangents>(
        found_.log_probs.slice(first, count), found_.labelings.slice(first, count), found_.blank,
        egl::cuda::PosteriorOutput<double>{data(log_prob_), data(cotangents_)},
        posterior_memory_.data<void>(), posterior_bytes_, scope_.stream());
    egl::cuda::inner_products(data(cotangents_), data(cotangents_), count * num_slots_, row_size_,
                              data(results_.cotangent_sq_norms) + first * num_slots_,
                              scope_.stream());
  }

  // out[k] = sum over classes of delta_k^T F delta_k for the frames' Gram matrix F.
  void store_output_sq_norms(int64_t first, int64_t count) {
    const int64_t num_frames = found_.log_probs.max_frames;
    const auto frames_of = [&](const Tensor& memory, int64_t i) {
      Tensor all = memory;
      return torch::stable::view(
          torch::stable::narrow(all, 0, i * num_slots_ * row_size_, num_slots_ * row_size_),
          {num_slots_, num_frames, found_.log_probs.num_classes});
    };
    Tensor frame_gram = *found_.frame_gram;
    for (int64_t i = 0; i < count; ++i) {
      const Tensor own = torch::stable::narrow(frame_gram, 0, first + i, 1);
      bmm_out(expand(own, {num_slots_, num_frames, num_frames}), frames_of(cotangents_, i),
              frames_of(products_, i));
    }
    egl::cuda::inner_products(data(cotangents_), data(products_), count * num_slots_, row_size_,
                              data(results_.output_sq_norms) + first * num_slots_, scope_.stream());
  }

  egl::cuda::ChosenRows rows_of(int64_t first) const {
    return {max_rows_, data(results_.combinations) + first * max_rows_ * num_slots_,
            data(of_cotangents_), results_.num_directions.mutable_data_ptr<int64_t>() + first,
            results_.num_probes.mutable_data_ptr<int64_t>() + first};
  }

  Tensor rows_memory(int64_t first, int64_t count) const {
    Tensor rows = results_.cotangents;
    return torch::stable::view(torch::stable::narrow(rows, 0, first, count),
                               {count, max_rows_, row_size_});
  }

  // Every hypothesis is a row.
  void copy(int64_t first, int64_t count) {
    egl::cuda::all_rows(found_.labelings.counts + first, count, num_slots_, rows_of(first),
                        scope_.stream());
    Tensor rows = rows_memory(first, count);
    torch::stable::copy_(rows, matrices(cotangents_, count, num_slots_, row_size_));
  }

  // Columns are never formed: with scales S, their Gram matrix is S G S, and their combinations Q
  // are the combinations Q S of the cotangents.
  void combine(int64_t first, int64_t count) {
    const Tensor cotangents = matrices(cotangents_, count, num_slots_, row_size_);
    bmm_out(cotangents, torch::stable::transpose(cotangents, 1, 2),
            matrices(grams_, count, num_slots_, num_slots_));
    const int64_t slot = first * num_slots_;
    egl::cuda::choose_rows(
        {data(grams_), found_.log_prob + slot, data(results_.cotangent_sq_norms) + slot,
         found_.hashes + slot, found_.labelings.counts + first, count, num_slots_},
        options_, row_memory_.data<void>(), rows_of(first), scope_.stream());
    Tensor rows = rows_memory(first, count);
    const bool rounded = rows.scalar_type() != ScalarType::Double;
    const Tensor made = rounded ? matrices(products_, count, max_rows_, row_size_) : rows;
    bmm_out(matrices(of_cotangents_, count, max_rows_, num_slots_), cotangents, made);
    if (rounded) torch::stable::copy_(rows, made);
  }

  const DeviceScope& scope_;
  const Found& found_;
  const CompressionOptions& options_;
  const NbestCotangents& results_;
  int64_t max_rows_;   // R
  int64_t num_slots_;  // K
  int64_t row_size_;   // T * C
  bool with_products_;
  int64_t most_;  // utterances at a time
  size_t posterior_bytes_;
  Workspace posterior_memory_;
  Tensor cotangents_;     // [most, K, T, C]
  Tensor products_;       // likewise
  Tensor log_prob_;       // [most, K], the search's once more
  Tensor grams_;          // [most, K, K]
  Tensor of_cotangents_;  // [most, R, K]
  Workspace row_memory_;
};

// The Gram matrices [N, T, T], with zeros for padding frames.
Tensor without_padding(const DeviceScope& scope, const Tensor& frame_gram, const Tensor& lengths) {
  const int64_t num_utterances = frame_gram.size(0);
  const int64_t max_frames = frame_gram.size(1);
  Tensor out = torch::stable::new_empty(frame_gram, {num_utterances, max_frames, max_frames});
  egl::cuda::frame_gram_without_padding({frame_gram.const_data_ptr<double>(), frame_gram.stride(0),
                                         frame_gram.stride(1), frame_gram.stride(2)},
                                        lengths.const_data_ptr<int64_t>(), num_utterances,
                                        max_frames, out.mutable_data_ptr<double>(), scope.stream());
  return out;
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
  check_beam_fits(batch, beam_width);
  check_products_fit(batch);
  check_device(keys, "keys", logits, "logits");
  if (frame_gram.has_value()) check_device(*frame_gram, "frame_gram", logits, "logits");
  const DeviceScope scope(logits);
  const int64_t num_utterances = batch.num_utterances();
  const int64_t max_frames = batch.max_frames();
  const int64_t num_classes = batch.num_classes();
  const auto empty = [&](std::initializer_list<int64_t> sizes, ScalarType dtype) {
    return torch::stable::new_empty(logits, sizes, dtype);
  };

  // One softmax in double serves the search and the cotangents.
  const Workspace bad(logits, static_cast<size_t>(num_utterances) * sizeof(int32_t));
  Tensor log_probs = empty({num_utterances, max_frames, num_classes}, ScalarType::Double);
  batch.visit([&](const auto& view) {
    egl::cuda::log_softmax(view, log_probs.mutable_data_ptr<double>(), nullptr, bad.data<int32_t>(),
                           scope.stream());
  });
  Tensor good_lengths = empty({num_utterances}, ScalarType::Long);
  egl::cuda::good_lengths(batch.lengths.const_data_ptr<int64_t>(), bad.data<int32_t>(),
                          num_utterances, good_lengths.mutable_data_ptr<int64_t>(), scope.stream());
  const EmissionBatch softmax(log_probs, good_lengths, blank, "log_probs");
  NbestCotangents results = new_nbest_cotangents(
      search(scope, softmax, num_hypotheses, beam_width, blank), frame_gram.has_value(), empty);
  const Hypotheses& hypotheses = results.hypotheses;
  const egl::cuda::LabelingBatch labelings{hypotheses.labels.const_data_ptr<int64_t>(),
                                           hypotheses.label_lengths.const_data_ptr<int64_t>(),
                                           hypotheses.counts.const_data_ptr<int64_t>(),
                                           num_utterances,
                                           num_hypotheses,
                                           max_frames};
  const Workspace hashes(logits,
                         static_cast<size_t>(num_utterances * num_hypotheses) * sizeof(uint64_t));
  const Tensor key_values = torch::stable::contiguous(keys);
  egl::cuda::labeling_hashes(labelings, key_values.const_data_ptr<int64_t>(),
                             hashes.data<uint64_t>(), scope.stream());

  const int64_t max_rows = egl::cuda::max_rows_of(options, num_hypotheses);
  results.cotangents =
      empty({num_utterances, max_rows, max_frames, num_classes}, logits.scalar_type());
  results.combinations = empty({num_utterances, max_rows, num_hypotheses}, ScalarType::Double);
  const Found found{softmax.view<double>(),
                    labelings,
                    hypotheses.log_prob.const_data_ptr<double>(),
                    hashes.data<uint64_t>(),
                    frame_gram.has_value()
                        ? std::optional(without_padding(scope, *frame_gram, good_lengths))
                        : std::nullopt,
                    blank};
  Rows(scope, logits, found, options, results, max_rows).make_all();
  egl::cuda::mark_bad(bad.data<int32_t>(), num_utterances,
                      hypotheses.counts.mutable_data_ptr<int64_t>(), scope.stream());
  return results;
}

}  // namespace egl::ops::cuda
