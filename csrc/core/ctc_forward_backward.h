// Exact probability and occupancy of a labeling under CTC (Graves et al., 2006, section 4.1).
#pragma once

#include <cstdint>
#include <vector>

#include "csrc/core/emissions.h"

namespace egl {

// Buffers that one thread reuses from labeling to labeling.
struct ForwardBackwardWorkspace {
  std::vector<double> alpha;     // [T, S]
  std::vector<double> beta;      // [S]
  std::vector<double> arriving;  // [S]
};

// Returns log p(labels | utterance), minus infinity if the labeling is impossible, and writes the
// occupancy [T, C], contiguous: the posterior of each class at each frame given the labeling. Each
// frame of it sums to one, or is all zero where the labeling is impossible. Pass nullptr for
// `occupancy` where only the probability is wanted.
//
// `labels` holds `num_labels` classes other than `blank`. Works in the log domain in double
// throughout, so no probability is too small.
template <typename Scalar>
double ctc_forward_backward(const Emissions<Scalar>& log_probs, const int64_t* labels,
                            int64_t num_labels, int64_t blank, ForwardBackwardWorkspace& workspace,
                            double* occupancy);

}  // namespace egl
