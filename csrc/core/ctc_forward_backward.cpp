#include "csrc/core/ctc_forward_backward.h"

#include <algorithm>
#include <cmath>

#include "csrc/core/log_semiring.h"

namespace egl {
namespace {

// A labeling spread over S = 2U + 1 states: blank, y_1, blank, y_2, ..., y_U, blank.
struct States {
  const int64_t* labels;
  int64_t blank;
  int64_t count;

  int64_t cls(int64_t state) const { return state % 2 == 0 ? blank : labels[state / 2]; }

  // Whether an alignment may step over the blank before `state`: only between different labels.
  bool can_skip_to(int64_t state) const {
    return state % 2 == 1 && state >= 3 && labels[state / 2] != labels[state / 2 - 1];
  }
};

// Of the states at `frame`, those in [first, last) are on some path from the start to the end.
struct Band {
  int64_t first;
  int64_t last;

  Band(int64_t frame, int64_t num_frames, int64_t num_states)
      : first(std::max<int64_t>(0, num_states - 2 * (num_frames - frame))),
        last(std::min(num_states, 2 * (frame + 1))) {}
};

// alpha[t, s]: log mass of the alignments of frames 0..t that end in state s at frame t, with frame
// t's emission. States outside the band are left at minus infinity.
template <typename Scalar>
void forward(const Emissions<Scalar>& log_probs, const States& states, std::vector<double>& alpha) {
  const int64_t num_states = states.count;
  alpha.assign(static_cast<size_t>(log_probs.num_frames * num_states), kNegInf);
  const Band start(0, log_probs.num_frames, num_states);
  for (int64_t s = start.first; s < start.last; ++s) alpha[s] = log_probs(0, states.cls(s));

  for (int64_t frame = 1; frame < log_probs.num_frames; ++frame) {
    const double* before = &alpha[(frame - 1) * num_states];
    double* now = &alpha[frame * num_states];
    const Band band(frame, log_probs.num_frames, num_states);
    for (int64_t s = band.first; s < band.last; ++s) {
      const double step = s >= 1 ? before[s - 1] : kNegInf;
      const double mass = states.can_skip_to(s) ? log_add(before[s], step, before[s - 2])
                                                : log_add(before[s], step);
      now[s] = mass + log_probs(frame, states.cls(s));
    }
  }
}

// Walks backwards with beta[s], the log mass of the alignments of the frames after t that start
// from state s at frame t, and adds each state's share of the frame's mass, exp(alpha + beta), to
// the occupancy of its class. beta leaves out frame t's own emission, so alpha + beta counts each
// emission once.
template <typename Scalar>
void backward(const Emissions<Scalar>& log_probs, const States& states,
              ForwardBackwardWorkspace& workspace, double* occupancy) {
  const int64_t num_states = states.count;
  auto& beta = workspace.beta;
  auto& arriving = workspace.arriving;
  beta.assign(num_states, kNegInf);
  arriving.resize(num_states);
  beta[num_states - 1] = 0.0;
  if (num_states > 1) beta[num_states - 2] = 0.0;

  for (int64_t frame = log_probs.num_frames - 1; frame >= 0; --frame) {
    double* joint = &workspace.alpha[frame * num_states];
    double* posterior = occupancy + frame * log_probs.num_classes;
    for (int64_t s = 0; s < num_states; ++s) joint[s] += beta[s];
    // Shares of this frame's own total, which is the labeling's probability up to rounding. The
    // rounding grows with the logarithms: near 1e300, exp(joint - log_prob) would be infinite.
    const double most = *std::max_element(joint, joint + num_states);
    double total = 0.0;
    for (int64_t s = 0; s < num_states; ++s) {
      joint[s] = std::exp(joint[s] - most);
      total += joint[s];
    }
    for (int64_t s = 0; s < num_states; ++s) posterior[states.cls(s)] += joint[s] / total;
    if (frame == 0) break;

    for (int64_t s = 0; s < num_states; ++s) {
      arriving[s] = beta[s] + log_probs(frame, states.cls(s));
    }
    // beta outside the band needs no reset: states before it were never set, and what stays in
    // those after it meets an alpha of minus infinity.
    const Band band(frame - 1, log_probs.num_frames, num_states);
    for (int64_t s = band.first; s < band.last; ++s) {
      const double step = s + 1 < num_states ? arriving[s + 1] : kNegInf;
      const bool skips = s + 2 < num_states && states.can_skip_to(s + 2);
      beta[s] = skips ? log_add(arriving[s], step, arriving[s + 2]) : log_add(arriving[s], step);
    }
  }
}

}  // namespace

template <typename Scalar>
double ctc_forward_backward(const Emissions<Scalar>& log_probs, const int64_t* labels,
                            int64_t num_labels, int64_t blank, ForwardBackwardWorkspace& workspace,
                            double* occupancy) {
  const int64_t num_frames = log_probs.num_frames;
  if (occupancy != nullptr) std::fill_n(occupancy, num_frames * log_probs.num_classes, 0.0);
  if (num_frames == 0) return num_labels == 0 ? 0.0 : kNegInf;

  const States states{labels, blank, 2 * num_labels + 1};
  forward(log_probs, states, workspace.alpha);
  const double* last = &workspace.alpha[(num_frames - 1) * states.count];
  const double log_prob =
      num_labels == 0 ? last[0] : log_add(last[states.count - 1], last[states.count - 2]);
  if (occupancy != nullptr && log_prob > kNegInf) {
    backward(log_probs, states, workspace, occupancy);
  }
  return log_prob;
}

template double ctc_forward_backward(const Emissions<float>&, const int64_t*, int64_t, int64_t,
                                     ForwardBackwardWorkspace&, double*);
template double ctc_forward_backward(const Emissions<double>&, const int64_t*, int64_t, int64_t,
                                     ForwardBackwardWorkspace&, double*);

}  // namespace egl
