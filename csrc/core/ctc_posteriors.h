// The fast twin of ctc_forward_backward: in the linear domain, eight states at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "csrc/core/ctc_forward_backward.h"
#include "csrc/core/emissions.h"
#include "csrc/core/isa.h"

namespace egl {

// One utterance's emissions as probabilities, shared by its labelings.
class ProbabilityTable {
 public:
  // Reads `log_probs` as long as the table lives.
  explicit ProbabilityTable(const Emissions<double>& log_probs);

  const Emissions<double>& log_probs() const { return log_probs_; }
  const double* probs() const { return probs_.data(); }  // [T, C]
  const double* frame(int64_t t) const { return probs() + t * log_probs_.num_classes; }

  // Whether all are numbers that can be calculated with: none that is possible underflows.
  bool complete() const { return complete_; }

 private:
  Emissions<double> log_probs_;
  std::vector<double> probs_;
  bool complete_;
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

// As ctc_forward_backward, and its result to a relative 1e-11.
//
// Masses are scaled frame by frame, so what underflows is less than 1e-300 of the largest at that
// frame. That this was nothing that mattered is seen by the probability, which is the same at every
// frame if both directions lost nothing: where it is not, and where emissions underflow, the log
// domain does it again.
double ctc_posteriors(const ProbabilityTable& table, const int64_t* labels, int64_t num_labels,
                      int64_t blank, Isa isa, PosteriorWorkspace& workspace, double* occupancy);

}  // namespace egl
