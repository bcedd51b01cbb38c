#include "csrc/core/ctc_prefix_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <type_traits>

#include "csrc/core/ctc_beam.h"
#include "csrc/core/debug_check.h"
#include "csrc/core/linear_domain.h"
#include "csrc/core/semiring.h"

namespace egl {
namespace {

using Node = PrefixTree::Node;

// One frame at a time; buffers are reused from frame to frame.
//
// The beam is sorted by total. A prefix that stays *pulls* the mass its parent sends it, if the
// parent is in the beam, so prefixes never have to be merged by comparing labels. Extensions to
// prefixes not in the beam are visited in a staircase: with slots and tokens sorted by falling
// mass and counted from 1, only those with
//     slot_rank * (token_rank - 1) <= width
// can enter the next beam of `width`, apart from ties, which are visited in a second step.
//
// Why: take an extension (i, r) outside, and let W = width. Every (i', r') with i' <= i, r' <= r
// that lies inside is at least as probable, except for one token a row: the repeat of the prefix's
// last label, which extends only part of its mass. Row i' holds at least min(r - 1, floor(W / i'))
// such extensions. With W = i*q + s, 0 <= s < i, and r - 1 >= q + 1, the rows i' <= W / (q + 1)
// give q + 1 or more each and the other rows q, so all of them i*q + floor(W / (q + 1)); and
// floor(W / (q + 1)) >= s, because s * (q + 1) <= i*q + s. That makes W distinct prefixes at least
// as probable (one that is in the beam already has its own mass on top), so (i, r) is needed at
// most for a tie with the last of them. Rounding is monotone, so this holds to the bit. No row
// needs more tokens than the first, W + 1 and ties.
//
// In the linear domain, masses are scaled by powers of two, exactly, so that the best of a frame
// is about 1. Mass that is then not above Mass::underflow may be lost: a whole prefix, which is
// dropped, or one of the two masses of a prefix that stays, which a later frame may need. If the
// beam has room for what was lost, the search is `incomplete` and must be repeated in the log
// domain. A beam that is too narrow drops much more than that anyway.
//
// If emissions are not probabilities, masses may become NaN. Comparisons are written so that NaN is
// never kept: the search ends, and its result is meaningless.
template <Semiring Mass>
class PrefixSearch {
 public:
  PrefixSearch(int64_t width, int32_t blank, PrefixTree& tree)
      : width_(width), blank_(blank), tree_(tree) {
    const double none = Mass::zero;
    beam_.push_back(
        {PrefixTree::kRoot, PrefixTree::kNone, PrefixTree::kNone, Mass::one, none, Mass::one});
    slot_of_node_.push_back(0);
  }

  template <typename Scalar>
  void advance(const Emissions<Scalar>& log_probs, int64_t frame) {
    load_frame(log_probs, frame);
    stay();
    select_tokens();
    extend();
    keep_best();
  }

  bool incomplete() const { return incomplete_; }

  std::vector<KeptPrefix> result() const {
    std::vector<KeptPrefix> kept;
    kept.reserve(beam_.size());
    for (const Slot& slot : beam_)
      kept.push_back({slot.node, Mass::to_log(slot.total) + log_scale()});
    return kept;
  }

 private:
  double log_scale() const { return static_cast<double>(exponent_) * std::numbers::ln2; }

  template <typename Scalar>
  void load_frame(const Emissions<Scalar>& log_probs, int64_t frame) {
    scale_ = Mass::one;
    double least = kNegInf;  // possible emissions below this are lost
    if constexpr (std::is_same_v<Mass, LinearMass>) {
      const int exponent = beam_.empty() ? 0 : std::ilogb(beam_[0].total);
      scale_ = std::ldexp(1.0, -exponent);
      exponent_ += exponent;
      // Scaled, and before that.
      least = std::max(Mass::to_log(Mass::underflow) - Mass::to_log(scale_), kLeastLinear);
    }
    const auto num_classes = static_cast<size_t>(log_probs.num_classes);
    log_probs_.resize(num_classes);
    for (size_t cls = 0; cls < num_classes; ++cls) {
      const double log_prob = log_probs(frame, static_cast<int64_t>(cls));
      log_probs_[cls] = log_prob;
      incomplete_ |= log_prob <= least && log_prob > kNegInf;
    }
    frame_.assign(num_classes, std::numeric_limits<double>::quiet_NaN());
    in_beam_.resize(beam_.size() * num_classes);
  }

  // The mass of a class in this frame; computed on first use, since it takes an exponential.
  double emission(int32_t cls) {
    double& mass = frame_[cls];
    if (std::isnan(mass)) mass = Mass::times(Mass::of_log(log_probs_[cls]), scale_);
    return mass;
  }

  // Sorts the tokens that some row may need: few of thousands, once the beam is full.
  void select_tokens() {
    tokens_.clear();
    // Nothing below the last of a full beam of candidates can enter.
    threshold_ = Mass::underflow;
    has_last_tie_ = false;
    if (static_cast<int64_t>(candidates_.size()) == width_) {
      threshold_ = std::min_element(candidates_.begin(), candidates_.end(), below)->total;
    }
    if (beam_.empty()) return;
    const double best = beam_[0].total;
    // A little lower, for the rounding of logarithms. What passes is compared exactly.
    const double log_best = Mass::to_log(Mass::times(best, scale_));
    const double floor = Mass::to_log(threshold_) - log_best - 1e-6 - 1e-15 * std::abs(log_best);
    for (int32_t cls = 0; cls < static_cast<int32_t>(log_probs_.size()); ++cls) {
      if (cls == blank_ || log_probs_[cls] == kNegInf) continue;
      if (log_probs_[cls] >= floor && Mass::times(best, emission(cls)) >= threshold_) {
        tokens_.push_back({emission(cls), cls});
      } else {
        dropped_ = true;
      }
    }
    const auto better = [](const Token& a, const Token& b) {
      return a.mass != b.mass ? a.mass > b.mass : a.label < b.label;
    };
    if (static_cast<int64_t>(tokens_.size()) - 1 > width_) {
      std::nth_element(tokens_.begin(), tokens_.begin() + width_, tokens_.end(), better);
      const double least = tokens_[width_].mass;
      tokens_.erase(std::remove_if(tokens_.begin(), tokens_.end(),
                                   [&](const Token& token) { return token.mass < least; }),
                    tokens_.end());
    }
    std::sort(tokens_.begin(), tokens_.end(), better);
  }

  // The masses of each prefix of the beam if it stays, including what its parent sends it.
  void stay() {
    stays_.clear();
    candidates_.clear();
    marks_.clear();
    const double blank = emission(blank_);
    for (const Slot& slot : beam_) {
      const double ends_in_blank = Mass::times(slot.total, blank);
      double mass = Mass::zero;  // that may end in the label
      double label = Mass::zero;
      if (slot.node != PrefixTree::kRoot) {
        const int32_t parent = slot_of_node_[slot.parent];
        mass = slot.ends_in_label;
        if (parent != PrefixTree::kNone) {
          mass = Mass::plus(mass, beam_[parent].extendable(slot.label));
          marks_.push_back(mark_of(parent, slot.label));
        }
        label = emission(slot.label);
      }
      const double ends_in_label = Mass::times(mass, label);
      const double total = Mass::plus(ends_in_blank, ends_in_label);
      const auto index = static_cast<int32_t>(stays_.size());
      stays_.push_back({slot.node, slot.parent, slot.label, ends_in_blank, ends_in_label, total});
      if (total > Mass::underflow) candidates_.push_back({total, index, PrefixTree::kNone});
      if (ends_in_blank <= Mass::underflow || ends_in_label <= Mass::underflow) {
        const bool lost =
            underflows(slot.total, blank, ends_in_blank) || underflows(mass, label, ends_in_label);
        lost_ |= lost;
        dropped_ |= lost && total <= Mass::underflow;
      }
    }
    for (const size_t mark : marks_) in_beam_[mark] = 1;
  }

  // Whether a product that is above zero may be lost.
  static bool underflows(double mass, double emission, double product) {
    return product <= Mass::underflow && mass > Mass::zero && emission > Mass::zero;
  }

  void extend() {
    row_ends_.resize(beam_.size());
    for (size_t i = 0; i < beam_.size(); ++i) {
      const auto steps = static_cast<size_t>(width_ / static_cast<int64_t>(i + 1));
      const size_t end = steps < tokens_.size() ? steps + 1 : tokens_.size();
      row_ends_[i] = extend_row(i, 0, end);
      if (static_cast<int64_t>(candidates_.size()) / 2 >= width_) narrow();
    }
    if (static_cast<int64_t>(candidates_.size()) >= width_) {
      narrow();
      for (size_t i = 0; i < beam_.size(); ++i) {
        extend_row(i, row_ends_[i], tokens_.size());
        if (static_cast<int64_t>(candidates_.size()) / 2 >= width_) narrow();
      }
    }
    for (const size_t mark : marks_) in_beam_[mark] = 0;
  }

  // Adds the extensions of slot i by tokens [begin, end) that reach the threshold, except ties that
  // come too late in labeling order. Returns where it stopped.
  size_t extend_row(size_t i, size_t begin, size_t end) {
    const Slot& slot = beam_[i];
    const unsigned char* in_beam = &in_beam_[i * frame_.size()];
    size_t rank = begin;
    for (; rank < end; ++rank) {
      const Token& token = tokens_[rank];
      if (Mass::times(slot.total, token.mass) < threshold_) {
        dropped_ |= slot.total > Mass::zero;
        break;
      }
      if (in_beam[token.label]) continue;
      const double mass = slot.extendable(token.label);
      const double total = Mass::times(mass, token.mass);
      if (!(total > threshold_)) {
        if (!(total == threshold_ && total > Mass::underflow)) {
          dropped_ |= mass > Mass::zero;
          continue;
        }
        if (const size_t next = skip_late_ties(slot, rank, end); next > rank) {
          rank = next - 1;
          continue;
        }
      }
      candidates_.push_back({total, static_cast<int32_t>(i), token.label});
    }
    return rank;
  }

  // Keeps the best `width` candidates and those that tie with the last of them, whose total becomes
  // the threshold. Where too many tie, only the first in labeling order stay: in a flat frame
  // nearly all extensions tie, and each would be examined once for every row.
  void narrow() {
    too_narrow_ |= static_cast<int64_t>(candidates_.size()) > width_;
    const auto last = candidates_.begin() + (width_ - 1);
    std::nth_element(candidates_.begin(), last, candidates_.end(), above);
    if (last->total != threshold_) has_last_tie_ = false;
    threshold_ = last->total;
    candidates_.erase(std::partition(last, candidates_.end(),
                                     [&](const Candidate& c) { return c.total == threshold_; }),
                      candidates_.end());
    if (static_cast<int64_t>(candidates_.size()) / 2 >= width_) keep_first_of_ties();
  }

  [[gnu::noinline]] void keep_first_of_ties() {
    const auto ties = std::partition(candidates_.begin(), candidates_.end(),
                                     [&](const Candidate& c) { return c.total != threshold_; });
    const auto last = candidates_.begin() + (width_ - 1);
    std::nth_element(ties, last, candidates_.end(), [this](const Candidate& a, const Candidate& b) {
      return tree_.precedes(labeling(a), labeling(b));
    });
    has_last_tie_ = true;
    last_tie_ = *last;
    candidates_.resize(width_);
  }

  // With the token at `rank`, `slot` ties with the threshold. Returns the rank of the first token
  // from there on with which it is not too late in labeling order for a beam full of ties. Equally
  // probable tokens come in the order of their labels, so all of them are too late if the first is;
  // not so after a repeat, which extends only part of the mass.
  [[gnu::noinline]] size_t skip_late_ties(const Slot& slot, size_t rank, size_t end) const {
    const Token& token = tokens_[rank];
    if (!has_last_tie_ || tree_.precedes({slot.node, token.label}, labeling(last_tie_))) {
      return rank;
    }
    const bool repeats = token.label == slot.label;
    do {
      ++rank;
    } while (!repeats && rank < end && tokens_[rank].mass == token.mass);
    return rank;
  }

  void keep_best() {
    std::sort(candidates_.begin(), candidates_.end(), above);
    for (size_t begin = 0, end = 0; begin < candidates_.size(); begin = end) {
      do {
        ++end;
      } while (end < candidates_.size() && candidates_[end].total == candidates_[begin].total);
      if (end - begin > 1) {
        std::sort(candidates_.begin() + begin, candidates_.begin() + end,
                  [this](const Candidate& a, const Candidate& b) {
                    return tree_.precedes(labeling(a), labeling(b));
                  });
      }
    }
    const auto count = static_cast<int64_t>(candidates_.size());
    too_narrow_ |= count > width_;
    if constexpr (Mass::underflow > Mass::zero) {
      incomplete_ |= count < width_ ? dropped_ || lost_ : lost_ && !too_narrow_;
    }
    dropped_ = false;
    if (count > width_) candidates_.resize(width_);

    for (const Slot& slot : beam_) slot_of_node_[slot.node] = PrefixTree::kNone;
    next_.clear();
    for (const Candidate& candidate : candidates_) {
      if (candidate.label == PrefixTree::kNone) {
        next_.push_back(stays_[candidate.slot]);
      } else {
        const Node parent = beam_[candidate.slot].node;
        const Node node = tree_.child(parent, candidate.label);
        next_.push_back(
            {node, parent, candidate.label, Mass::zero, candidate.total, candidate.total});
      }
    }
    beam_.swap(next_);
    slot_of_node_.resize(tree_.size(), PrefixTree::kNone);
    for (size_t i = 0; i < beam_.size(); ++i) {
      EGL_DEBUG_CHECK(slot_of_node_[beam_[i].node] == PrefixTree::kNone);
      EGL_DEBUG_CHECK(beam_[i].total > Mass::underflow);
      EGL_DEBUG_CHECK(i == 0 || beam_[i - 1].total >= beam_[i].total);
      slot_of_node_[beam_[i].node] = static_cast<int32_t>(i);
    }
  }

  PrefixTree::Extension labeling(const Candidate& candidate) const {
    const Slot& slot = beam_[candidate.slot];
    if (candidate.label == PrefixTree::kNone) return {slot.parent, slot.label};
    return {slot.node, candidate.label};
  }

  size_t mark_of(int32_t slot, int32_t label) const {
    return static_cast<size_t>(slot) * frame_.size() + static_cast<size_t>(label);
  }

  static bool below(const Candidate& a, const Candidate& b) { return a.total < b.total; }
  static bool above(const Candidate& a, const Candidate& b) { return a.total > b.total; }

  const int64_t width_;
  const int32_t blank_;
  PrefixTree& tree_;
  std::vector<Slot> beam_;  // sorted: most probable first, ties by labeling order
  std::vector<Slot> next_;
  std::vector<int32_t> slot_of_node_;  // index in beam_, or kNone
  int64_t exponent_ = 0;               // true masses are those here times 2^exponent_
  bool incomplete_ = false;
  bool dropped_ = false;     // in this frame, a prefix
  bool lost_ = false;        // in any frame, mass of a prefix that stays
  bool too_narrow_ = false;  // in any frame, for all candidates

  double scale_ = Mass::one;            // of this frame's emissions
  std::vector<double> log_probs_;       // this frame's emissions, by class
  std::vector<double> frame_;           // their masses, scaled; NaN until first used
  std::vector<Token> tokens_;           // labels that are possible here, most probable first
  std::vector<Slot> stays_;             // beam_ one frame later, in the same order
  std::vector<Candidate> candidates_;   // prefixes with mass > Mass::underflow that may be kept
  double threshold_ = Mass::zero;       // what a candidate has to reach
  bool has_last_tie_ = false;           // of those at the threshold, what comes after
  Candidate last_tie_{};                // this one in labeling order is out
  std::vector<size_t> row_ends_;        // where each row of the staircase stopped
  std::vector<unsigned char> in_beam_;  // [slot, label]: is this extension in the beam already?
  std::vector<size_t> marks_;           // entries of in_beam_ that are set
};

}  // namespace

template <Semiring Mass, typename Scalar>
std::optional<std::vector<KeptPrefix>> ctc_prefix_search_in(const Emissions<Scalar>& log_probs,
                                                            const BeamSearchOptions& options,
                                                            PrefixTree& tree) {
  PrefixSearch<Mass> search(options.beam_width, static_cast<int32_t>(options.blank), tree);
  for (int64_t frame = 0; frame < log_probs.num_frames; ++frame) {
    search.advance(log_probs, frame);
    if (search.incomplete()) return std::nullopt;
  }
  tree.check_invariants();
  return search.result();
}

template <typename Scalar>
std::vector<KeptPrefix> ctc_prefix_search(const Emissions<Scalar>& log_probs,
                                          const BeamSearchOptions& options, PrefixTree& tree) {
  if (auto found = ctc_prefix_search_in<LinearMass>(log_probs, options, tree)) return *found;
  tree = PrefixTree();
  return *ctc_prefix_search_in<LogMass>(log_probs, options, tree);
}

#define EGL_INSTANTIATE(Scalar)                                                     \
  template std::optional<std::vector<KeptPrefix>> ctc_prefix_search_in<LogMass>(    \
      const Emissions<Scalar>&, const BeamSearchOptions&, PrefixTree&);             \
  template std::optional<std::vector<KeptPrefix>> ctc_prefix_search_in<LinearMass>( \
      const Emissions<Scalar>&, const BeamSearchOptions&, PrefixTree&);             \
  template std::vector<KeptPrefix> ctc_prefix_search(const Emissions<Scalar>&,      \
                                                     const BeamSearchOptions&, PrefixTree&);
EGL_INSTANTIATE(float)
EGL_INSTANTIATE(double)
#undef EGL_INSTANTIATE

}  // namespace egl
