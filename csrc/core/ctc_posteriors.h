// The fast twin of ctc_forward_backward: in the linear domain, eight states at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "csrc/core/ctc_forward_backward.h"
#include "csrc/core/emissions.h"
#include "csrc/core/isa.h"

namespace egl {

// One utterance's emissions as logarithms and as probabilities, shared by its labelings.
class ProbabilityTable {
 public:
  // `log_probs` [T, C] is kept.
  ProbabilityTable(std::vector<double> log_probs, int64_t num_frames, int64_t num_classes);

  int64_t num_frames() const { return num_frames_; }
  int64_t num_classes() const { return num_classes_; }
  Emissions<double> log_probs() const {
    return {log_probs_.data(), num_frames_, num_classes_, num_classes_, 1};
  }
  const double* probs() const { return probs_.data(); }  // [T, C]
  const double* frame(int64_t t) const { return probs() + t * num_classes_; }

  // Whether no probability above zero underflows.
  bool complete() const { return complete_; }
  // Whether some are so small that both directions may lose their products.
  bool faint() const { return faint_; }

 private:
  std::vector<double> log_probs_;
  int64_t num_frames_;
  int64_t num_classes_;
  std::vector<double> probs_;
  bool complete_ = true;
  bool faint_ = false;
};

// Buffers that one thread reuses from labeling to labeling.
struct PosteriorWorkspace {
  std::vector<double> emissions;    // rows, see linear_kernel.h
  std::vector<double> blank_probs;  // [T]
  std::vector<double> skips;
  std::vector<double> labels;
  std::vector<double> blanks;
  std::vector<int64_t> exponents;
  std::vector<double> betas;
  std::vector<double> sums;
  ForwardBackwardWorkspace log_domain;
};

// As ctc_forward_backward, with the same result to a relative 1e-11.
//
// Masses are scaled frame by frame, so what underflows is less than 1e-300 of the largest at that
// frame. If neither direction lost anything that matters, the probability is the same at every
// frame. If it is not, if emissions underflow, or if both directions may have lost the same mass
// (see csrc/core/linear_domain.h), the calculation is repeated in the log domain.
double ctc_posteriors(const ProbabilityTable& table, const int64_t* labels, int64_t num_labels,
                      int64_t blank, Isa isa, PosteriorWorkspace& workspace, double* occupancy);

}  // namespace egl
