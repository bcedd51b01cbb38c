#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <span>
#include <vector>

#include "csrc/core/cotangent_rows.h"
#include "csrc/core/random_normals.h"
#include "csrc/cuda/choose_rows.h"
#include "csrc/test/eigen_cases.h"
#include "csrc/test/emulated.h"

namespace {

using egl::CompressionOptions;
using egl::RowChoice;

// Cotangents of one utterance, as far as a choice of rows needs them.
struct Utterance {
  int64_t count;
  std::vector<double> gram;  // [count, count]
  std::vector<double> log_prob;
  std::vector<double> sq_norms;
  std::vector<uint64_t> hashes;
};

// `rank` dimensions, each with `fall` times the length of the one before.
Utterance random_utterance(std::mt19937& random, int64_t count, int64_t rank, double fall) {
  Utterance utterance{count, egl::test::random_gram(random, count, rank, fall), {}, {}, {}};
  for (int64_t k = 0; k < count; ++k) {
    utterance.sq_norms.push_back(utterance.gram[k * count + k]);
    // So improbable that only their ratios are numbers.
    utterance.log_prob.push_back(-2000.0 - 0.2 * static_cast<double>(k));
    utterance.hashes.push_back(egl::split_mix(random()));
  }
  return utterance;
}

struct Found {
  int64_t num_directions;
  int64_t num_probes;
  std::vector<double> combinations;   // [R, K]
  std::vector<double> of_cotangents;  // [R, K]
};

// For each utterance, what the kernels choose, and what the core chooses from the same
// eigenvectors.
struct Both {
  Found found;
  std::optional<RowChoice> expected;
  std::vector<double> scales;
};

std::vector<Both> choose(const std::vector<Utterance>& utterances, int64_t num_slots,
                         const CompressionOptions& options) {
  // Fills what is unused, and would show up in results if it were used.
  const double nothing = std::nan("");
  const auto num_utterances = static_cast<int64_t>(utterances.size());
  std::vector<double> gram(num_utterances * num_slots * num_slots, nothing);
  std::vector<double> log_prob(num_utterances * num_slots, nothing);
  std::vector<double> sq_norms(num_utterances * num_slots, nothing);
  std::vector<uint64_t> hashes(num_utterances * num_slots);
  std::vector<int64_t> counts;
  for (int64_t n = 0; n < num_utterances; ++n) {
    const Utterance& utterance = utterances[n];
    counts.push_back(utterance.count);
    for (int64_t k = 0; k < utterance.count; ++k) {
      std::copy_n(utterance.gram.begin() + k * utterance.count, utterance.count,
                  gram.begin() + (n * num_slots + k) * num_slots);
    }
    std::copy(utterance.log_prob.begin(), utterance.log_prob.end(),
              log_prob.begin() + n * num_slots);
    std::copy(utterance.sq_norms.begin(), utterance.sq_norms.end(),
              sq_norms.begin() + n * num_slots);
    std::copy(utterance.hashes.begin(), utterance.hashes.end(), hashes.begin() + n * num_slots);
  }
  const int64_t max_rows = egl::cuda::max_rows_of(options, num_slots);
  std::vector<double> combinations(num_utterances * max_rows * num_slots, nothing);
  std::vector<double> of_cotangents(combinations.size(), nothing);
  std::vector<int64_t> num_directions(num_utterances, -7);
  std::vector<int64_t> num_probes(num_utterances, -7);
  std::vector<double> workspace(
      egl::cuda::device_bytes_of<egl::cuda::RowWorkspace>(num_utterances, num_slots) /
              sizeof(double) +
          1,
      nothing);
  egl::cuda::choose_rows({gram.data(), log_prob.data(), sq_norms.data(), hashes.data(),
                          counts.data(), num_utterances, num_slots},
                         options, workspace.data(),
                         {max_rows, combinations.data(), of_cotangents.data(),
                          num_directions.data(), num_probes.data()},
                         nullptr);

  egl::cuda::DeviceArena arena(workspace.data());
  const egl::cuda::RowWorkspace own(arena, num_utterances, num_slots);
  std::vector<Both> all;
  for (int64_t n = 0; n < num_utterances; ++n) {
    const int64_t count = counts[n];
    const auto rows_of = [&](const std::vector<double>& values) {
      return std::vector<double>(values.begin() + n * max_rows * num_slots,
                                 values.begin() + (n + 1) * max_rows * num_slots);
    };
    Both& both = all.emplace_back(
        Both{{num_directions[n], num_probes[n], rows_of(combinations), rows_of(of_cotangents)},
             std::nullopt,
             egl::column_scales(utterances[n].log_prob.data(), utterances[n].sq_norms.data(), count,
                                options)});
    for (int64_t k = 0; k < count; ++k) CHECK(own.scales[n * num_slots + k] == both.scales[k]);
    std::vector<double> vectors(count * count);
    for (int64_t r = 0; r < count; ++r) {
      const int64_t row = n * num_slots + own.pairs.order[n * num_slots + r];
      for (int64_t k = 0; k < count; ++k) {
        vectors[k * count + r] = own.pairs.vectors[row * num_slots + k];
      }
    }
    both.expected = egl::choose_rows({count, own.pairs.values + n * num_slots, vectors.data()},
                                     utterances[n].hashes, options);
  }
  return all;
}

Both choose(const Utterance& utterance, const CompressionOptions& options) {
  return choose({utterance}, utterance.count, options)[0];
}

void check_same(const Both& both, int64_t count, int64_t num_slots) {
  const auto& [found, expected, scales] = both;
  if (!expected.has_value()) {
    CHECK(found.num_directions == count);
    CHECK(found.num_probes == 0);
  } else {
    CHECK(found.num_directions == expected->num_directions);
    CHECK(found.num_probes == expected->num_probes);
  }
  const int64_t num_rows = found.num_directions + found.num_probes;
  const auto max_rows = static_cast<int64_t>(found.combinations.size()) / num_slots;
  CHECK(num_rows <= max_rows);
  for (int64_t r = 0; r < max_rows; ++r) {
    for (int64_t k = 0; k < num_slots; ++k) {
      double of_column = 0.0;
      double scale = 1.0;
      if (r < num_rows && k < count) {
        of_column = expected.has_value() ? expected->combinations[r * count + k] : r == k;
        scale = expected.has_value() ? scales[k] : 1.0;
      }
      CHECK(found.combinations[r * num_slots + k] == of_column);
      CHECK(found.of_cotangents[r * num_slots + k] == of_column * scale);
    }
  }
}

// The columns' Gram matrix with ties broken, by the core.
std::vector<double> columns_gram(const Utterance& utterance, const CompressionOptions& options) {
  std::vector<double> gram = utterance.gram;
  const std::vector<double> scales = egl::column_scales(
      utterance.log_prob.data(), utterance.sq_norms.data(), utterance.count, options);
  for (int64_t k = 0; k < utterance.count; ++k) {
    for (int64_t j = 0; j < utterance.count; ++j) {
      gram[k * utterance.count + j] *= scales[k] * scales[j];
    }
  }
  if (options.span == 0.0) egl::break_ties(gram.data(), utterance.hashes);
  return gram;
}

constexpr CompressionOptions kOptions[] = {{0.3, 0, 0.0},  {0.02, 0, 0.0}, {0.0, 2, 0.0},
                                           {0.0, 3, 0.0},  {0.0, 9, 0.0},  {0.0, 100, 0.0},
                                           {0.0, 0, 1e-2}, {0.0, 0, 1e-6}};

}  // namespace

EGL_TEST(the_core_chooses_the_same_from_the_same_eigenvectors) {
  std::mt19937 random(1);
  for (const CompressionOptions& options : kOptions) {
    for (const int64_t count : {1, 2, 7, 24}) {
      // Flat; falling fast in a few dimensions; one too many to be combined for a span.
      const auto same = [&](const Utterance& utterance) {
        check_same(choose(utterance, options), count, count);
      };
      same(random_utterance(random, count, count, 1.0));
      same(random_utterance(random, count, count / 3 + 1, 0.6));
      if (options.span > 0.0) same(random_utterance(random, count, (count + 1) * 11 / 12, 1.0));
    }
  }
}

EGL_TEST(both_ways_out_are_taken) {
  std::mt19937 random(2);
  int combined = 0;
  int one_by_one = 0;
  for (const CompressionOptions& options : kOptions) {
    const Both few = choose(random_utterance(random, 24, 4, 0.3), options);
    const Both many = choose(random_utterance(random, 4, 4, 1.0), options);
    combined += few.expected.has_value() ? 1 : 0;
    one_by_one += many.expected.has_value() ? 0 : 1;
  }
  CHECK(combined >= 7);
  CHECK(one_by_one >= 5);
}

EGL_TEST(a_batch_has_counts_of_its_own) {
  std::mt19937 random(3);
  constexpr int64_t kSlots = 18;
  std::vector<Utterance> utterances;
  for (const int64_t count : {15, 0, 18, 1, 8}) {
    utterances.push_back(random_utterance(random, count, 3, 0.5));
  }
  for (const CompressionOptions& options : kOptions) {
    const std::vector<Both> all = choose(utterances, kSlots, options);
    for (size_t n = 0; n < utterances.size(); ++n) {
      check_same(all[n], utterances[n].count, kSlots);
    }
  }
}

EGL_TEST(every_hypothesis_is_a_row_without_compression) {
  constexpr int64_t kSlots = 6;
  const std::vector<int64_t> counts{4, 0, 6};
  std::vector<double> combinations(3 * kSlots * kSlots, 77.0);
  std::vector<int64_t> num_directions(3, -7);
  std::vector<int64_t> num_probes(3, -7);
  egl::cuda::all_rows(
      counts.data(), 3, kSlots,
      {kSlots, combinations.data(), nullptr, num_directions.data(), num_probes.data()}, nullptr);
  CHECK(num_directions == counts);
  CHECK((num_probes == std::vector<int64_t>{0, 0, 0}));
  for (int64_t i = 0; i < 3 * kSlots * kSlots; ++i) {
    const int64_t r = i / kSlots % kSlots;
    const bool own = r == i % kSlots && r < counts[i / kSlots / kSlots];
    CHECK(combinations[i] == (own ? 1.0 : 0.0));
  }
}

// All rows of an exact choice, as an independent check that its eigenvectors are those of the
// columns' Gram matrix: their combinations Q make Q G Q^T diagonal, and what they leave of the
// trace is what a residual of 1e-6 allows, or ties.
EGL_TEST(directions_are_eigenvectors_of_the_columns) {
  std::mt19937 random(4);
  for (const CompressionOptions& options :
       {CompressionOptions{0.02, 0, 0.0}, CompressionOptions{0.0, 0, 1e-6}}) {
    const Utterance utterance = options.span > 0.0 ? random_utterance(random, 24, 6, 0.5)
                                                   : random_utterance(random, 24, 24, 0.6);
    const Both both = choose(utterance, options);
    const int64_t count = utterance.count;
    const int64_t num_directions = both.found.num_directions;
    CHECK(num_directions > 0 && num_directions < count);
    const std::vector<double> gram = columns_gram(utterance, options);
    double trace = 0.0;
    double kept = 0.0;
    for (int64_t k = 0; k < count; ++k) trace += gram[k * count + k];
    for (int64_t r = 0; r < num_directions; ++r) {
      for (int64_t s = 0; s < num_directions; ++s) {
        double form = 0.0;
        for (int64_t k = 0; k < count; ++k) {
          for (int64_t j = 0; j < count; ++j) {
            form += both.found.combinations[r * count + k] * gram[k * count + j] *
                    both.found.combinations[s * count + j];
          }
        }
        if (r == s) kept += form;
        CHECK(r == s || std::abs(form) <= 1e-13 * trace);
      }
    }
    if (options.span > 0.0) {
      CHECK(std::abs(trace - kept) <= static_cast<double>(count) * 2e-12);
    } else {
      CHECK(kept < trace);
      CHECK(both.found.num_probes >= 4);
    }
  }
}

// A probe's part along each eigenvector beyond the directions is 1 or -1.
EGL_TEST(probes_hold_every_eigenvector_that_is_left_once) {
  std::mt19937 random(5);
  const Utterance utterance = random_utterance(random, 20, 20, 0.8);
  const Both both = choose(utterance, {0.0, 9, 0.0});
  const int64_t count = utterance.count;
  CHECK(both.found.num_directions > 0);
  CHECK(both.found.num_probes >= 3);
  for (int64_t p = both.found.num_directions; p < 9; ++p) {
    const double* probe = both.found.combinations.data() + p * count;
    double length = 0.0;
    for (int64_t k = 0; k < count; ++k) length += probe[k] * probe[k];
    CHECK(std::abs(length - static_cast<double>(count - both.found.num_directions)) <= 1e-11);
    for (int64_t r = 0; r < both.found.num_directions; ++r) {
      double along = 0.0;
      for (int64_t k = 0; k < count; ++k)
        along += probe[k] * both.found.combinations[r * count + k];
      CHECK(std::abs(along) <= 1e-12);
    }
  }
}

EGL_TEST(a_certain_hypothesis_has_no_column_in_a_span) {
  std::mt19937 random(6);
  Utterance utterance = random_utterance(random, 9, 2, 1.0);
  for (int64_t j = 0; j < 9; ++j) utterance.gram[4 * 9 + j] = utterance.gram[j * 9 + 4] = 0.0;
  utterance.sq_norms[4] = 0.0;
  const Both both = choose(utterance, {0.0, 0, 1e-6});
  check_same(both, 9, 9);
  CHECK(both.found.num_directions == 2);
  CHECK(both.found.of_cotangents[4] == 0.0);
}

EGL_EMULATED_TEST_MAIN()
