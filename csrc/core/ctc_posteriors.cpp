#include "csrc/core/ctc_posteriors.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

#include "csrc/core/linear_domain.h"
#include "csrc/core/linear_kernel.h"

namespace egl {
namespace {

// A row with zeros on both sides, as linear_kernel.h requires.
void make_row(std::vector<double>& row, int64_t stride) {
  row.assign(static_cast<size_t>(stride), 0.0);
}

// The labeling's log-probability; NaN where the linear domain fails.
double linear_posteriors(const ProbabilityTable& table, const int64_t* labels, int64_t num_labels,
                         int64_t blank, Isa isa, PosteriorWorkspace& workspace, double* occupancy) {
  const int64_t num_frames = table.num_frames();
  const int64_t num_classes = table.num_classes();
  LinearProblem problem{num_frames, num_labels, LinearProblem::width_of(num_labels),
                        nullptr,    nullptr,    nullptr};
  const int64_t stride = problem.stride();
  const auto all_rows = static_cast<size_t>(num_frames * stride);

  // Padding starts as zero, and only zeros are written to it.
  workspace.emissions.assign(all_rows + kLanes, 0.0);
  workspace.labels.resize(all_rows);
  workspace.blanks.resize(all_rows);
  workspace.blank_probs.resize(num_frames);
  workspace.exponents.resize(num_frames);
  workspace.sums.resize(2 * num_frames);
  make_row(workspace.skips, stride + kLanes);
  for (int64_t u = 1; u < num_labels; ++u) {
    workspace.skips[kLanes + u] = labels[u] != labels[u - 1] ? 1.0 : 0.0;
  }
  for (int64_t t = 0; t < num_frames; ++t) {
    const double* frame = table.frame(t);
    double* row = &workspace.emissions[t * stride + kLanes];
    for (int64_t u = 0; u < num_labels; ++u) row[u] = frame[labels[u]];
    workspace.blank_probs[t] = frame[blank];
    double* label_row = &workspace.labels[t * stride];
    double* blank_row = &workspace.blanks[t * stride];
    std::fill_n(label_row, kLanes, 0.0);
    std::fill_n(label_row + kLanes + problem.width, kLanes, 0.0);
    std::fill_n(blank_row, kLanes, 0.0);
    std::fill_n(blank_row + kLanes + problem.width, kLanes, 0.0);
  }
  problem.label_probs = workspace.emissions.data();
  problem.blank_probs = workspace.blank_probs.data();
  problem.skips = workspace.skips.data();

  const LinearKernel& kernel = linear_kernel(isa);
  const Scaled probability = kernel.forward(problem, workspace.labels.data(),
                                            workspace.blanks.data(), workspace.exponents.data());
  constexpr double kFails = std::numeric_limits<double>::quiet_NaN();
  if (!is_normal_mass(probability.mantissa)) return kFails;
  const double log_prob = std::log(probability.mantissa) +
                          static_cast<double>(probability.exponent) * std::numbers::ln2;
  if (table.faint() && log_prob < kSafe) return kFails;
  workspace.betas.assign(static_cast<size_t>(2 * (stride + kLanes)), 0.0);
  double* blank_sums = workspace.sums.data();
  double* sums = blank_sums + num_frames;
  const double disagreement =
      kernel.backward(problem, probability, workspace.labels.data(), workspace.blanks.data(),
                      workspace.exponents.data(), workspace.betas.data(),
                      workspace.betas.data() + stride + kLanes, blank_sums, sums);
  if (!(disagreement <= agreement(num_frames))) return kFails;
  // Both directions may agree on a sum that is too small, or not a number.
  const auto has_all_digits = [](double sum) { return is_normal_mass(sum) && sum >= kLeastTotal; };
  if (!std::all_of(sums, sums + num_frames, has_all_digits)) return kFails;
  if (occupancy == nullptr) return log_prob;
  for (int64_t t = 0; t < num_frames; ++t) {
    double* posterior = occupancy + t * num_classes;
    const double* joint = &workspace.labels[t * stride + kLanes];
    const double inverse = 1.0 / sums[t];
    std::fill_n(posterior, num_classes, 0.0);
    posterior[blank] = blank_sums[t] * inverse;
    for (int64_t u = 0; u < num_labels; ++u) posterior[labels[u]] += joint[u] * inverse;
  }
  return log_prob;
}

}  // namespace

ProbabilityTable::ProbabilityTable(std::vector<double> log_probs, int64_t num_frames,
                                   int64_t num_classes)
    : log_probs_(std::move(log_probs)), num_frames_(num_frames), num_classes_(num_classes) {
  probs_.reserve(log_probs_.size());
  for (const double value : log_probs_) {
    complete_ &= is_linear(value);
    faint_ |= is_faint(value);
    probs_.push_back(std::exp(value));
  }
}

double ctc_posteriors(const ProbabilityTable& table, const int64_t* labels, int64_t num_labels,
                      int64_t blank, Isa isa, PosteriorWorkspace& workspace, double* occupancy) {
  if (table.complete() && table.num_frames() > 0) {
    const double log_prob =
        linear_posteriors(table, labels, num_labels, blank, isa, workspace, occupancy);
    if (!std::isnan(log_prob)) return log_prob;
  }
  return ctc_forward_backward(table.log_probs(), labels, num_labels, blank, workspace.log_domain,
                              occupancy);
}

}  // namespace egl
