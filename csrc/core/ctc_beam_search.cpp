#include "csrc/core/ctc_beam_search.h"

#include <algorithm>
#include <numeric>

#include "csrc/core/debug_check.h"
#include "csrc/core/log_semiring.h"

namespace egl {
namespace {

using Node = PrefixTree::Node;

// A prefix in the beam with the log mass of its alignments, by what they end in.
struct Slot {
  Node node;
  double ends_in_blank;
  double ends_in_label;
  double total;  // log_add of the two, kept because the search asks for it everywhere

  static Slot make(Node node, double ends_in_blank, double ends_in_label) {
    return {node, ends_in_blank, ends_in_label, log_add(ends_in_blank, ends_in_label)};
  }

  // Mass that may be followed by `label` and grow the prefix: a repeat of the last label needs a
  // blank in between, else it merges with it.
  double extendable(int32_t label, const PrefixTree& tree) const {
    return label == tree.label(node) ? ends_in_blank : total;
  }
};

// A prefix that competes for a place in the next beam.
struct Candidate {
  double total;
  PrefixTree::Extension labeling;
  int32_t stay;  // index of its Slot among those already in the beam, or kNone for an extension
};

struct Token {
  double log_prob;
  int32_t label;
};

// One frame at a time; buffers are reused from frame to frame.
//
// The beam is sorted by total. A prefix that stays *pulls* the mass its parent sends it, if the
// parent is in the beam, so prefixes never have to be merged by comparing labels. Extensions to
// prefixes not in the beam are visited in a staircase: with slots and tokens sorted by falling
// log-probability and counted from 1, only those with
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
// most for a tie with the last of them. Rounding is monotone, so this holds to the bit.
class PrefixSearch {
 public:
  PrefixSearch(int64_t width, int32_t blank, PrefixTree& tree)
      : width_(width), blank_(blank), tree_(tree) {
    beam_.push_back(Slot::make(PrefixTree::kRoot, 0.0, kNegInf));
    slot_of_node_.push_back(0);
  }

  template <typename Scalar>
  void advance(const Emissions<Scalar>& log_probs, int64_t frame) {
    load_frame(log_probs, frame);
    stay();
    extend();
    keep_best();
  }

  std::vector<KeptPrefix> result() const {
    std::vector<KeptPrefix> kept;
    kept.reserve(beam_.size());
    for (const Slot& slot : beam_) kept.push_back({slot.node, slot.total});
    return kept;
  }

 private:
  template <typename Scalar>
  void load_frame(const Emissions<Scalar>& log_probs, int64_t frame) {
    const auto num_classes = static_cast<int32_t>(log_probs.num_classes);
    frame_.resize(num_classes);
    tokens_.clear();
    for (int32_t cls = 0; cls < num_classes; ++cls) {
      frame_[cls] = log_probs(frame, cls);
      if (cls != blank_ && frame_[cls] > kNegInf) tokens_.push_back({frame_[cls], cls});
    }
    std::sort(tokens_.begin(), tokens_.end(), [](const Token& a, const Token& b) {
      return a.log_prob != b.log_prob ? a.log_prob > b.log_prob : a.label < b.label;
    });
    in_beam_.resize(beam_.size() * frame_.size());
  }

  // What each prefix of the beam is worth if it stays, with what its parent sends it.
  void stay() {
    stays_.clear();
    candidates_.clear();
    marks_.clear();
    for (const Slot& slot : beam_) {
      double ends_in_label = kNegInf;
      if (slot.node != PrefixTree::kRoot) {
        const int32_t label = tree_.label(slot.node);
        const int32_t parent = slot_of_node_[tree_.parent(slot.node)];
        double arriving = kNegInf;
        if (parent != PrefixTree::kNone) {
          arriving = beam_[parent].extendable(label, tree_);
          marks_.push_back(mark_of(parent, label));
        }
        ends_in_label = log_add(slot.ends_in_label, arriving) + frame_[label];
      }
      const auto stay = static_cast<int32_t>(stays_.size());
      stays_.push_back(Slot::make(slot.node, slot.total + frame_[blank_], ends_in_label));
      if (stays_.back().total > kNegInf) {
        candidates_.push_back({stays_.back().total, tree_.as_extension(slot.node), stay});
      }
    }
    for (const size_t mark : marks_) in_beam_[mark] = 1;
  }

  void extend() {
    // With a full beam of candidates, nothing below the last of them can enter.
    double threshold = kNegInf;
    if (static_cast<int64_t>(candidates_.size()) == width_) {
      threshold = std::min_element(candidates_.begin(), candidates_.end(), below)->total;
    }
    row_ends_.resize(beam_.size());
    for (size_t i = 0; i < beam_.size(); ++i) {
      const auto steps = static_cast<size_t>(width_ / static_cast<int64_t>(i + 1));
      const size_t end = steps < tokens_.size() ? steps + 1 : tokens_.size();
      row_ends_[i] = extend_row(i, 0, end, threshold);
    }
    if (static_cast<int64_t>(candidates_.size()) >= width_) {
      const auto last = candidates_.begin() + (width_ - 1);
      std::nth_element(candidates_.begin(), last, candidates_.end(),
                       [](const Candidate& a, const Candidate& b) { return a.total > b.total; });
      const double tied = last->total;
      for (size_t i = 0; i < beam_.size(); ++i) {
        extend_row(i, row_ends_[i], tokens_.size(), tied);
      }
    }
    for (const size_t mark : marks_) in_beam_[mark] = 0;
  }

  // Adds the extensions of slot i by tokens [begin, end) that reach `threshold`; returns where it
  // stopped.
  size_t extend_row(size_t i, size_t begin, size_t end, double threshold) {
    const Slot& slot = beam_[i];
    size_t rank = begin;
    for (; rank < end; ++rank) {
      const Token& token = tokens_[rank];
      if (slot.total + token.log_prob < threshold) break;
      if (in_beam_[mark_of(static_cast<int32_t>(i), token.label)]) continue;
      const double total = slot.extendable(token.label, tree_) + token.log_prob;
      if (total < threshold || total == kNegInf) continue;
      candidates_.push_back({total, {slot.node, token.label}, PrefixTree::kNone});
    }
    return rank;
  }

  void keep_best() {
    const auto better = [this](const Candidate& a, const Candidate& b) {
      return a.total != b.total ? a.total > b.total : tree_.precedes(a.labeling, b.labeling);
    };
    if (static_cast<int64_t>(candidates_.size()) > width_) {
      std::nth_element(candidates_.begin(), candidates_.begin() + (width_ - 1), candidates_.end(),
                       better);
      candidates_.resize(width_);
    }
    std::sort(candidates_.begin(), candidates_.end(), better);

    for (const Slot& slot : beam_) slot_of_node_[slot.node] = PrefixTree::kNone;
    beam_.clear();
    for (const Candidate& candidate : candidates_) {
      if (candidate.stay != PrefixTree::kNone) {
        beam_.push_back(stays_[candidate.stay]);
      } else {
        const Node node = tree_.child(candidate.labeling.parent, candidate.labeling.label);
        beam_.push_back(Slot::make(node, kNegInf, candidate.total));
      }
    }
    slot_of_node_.resize(tree_.size(), PrefixTree::kNone);
    for (size_t i = 0; i < beam_.size(); ++i) {
      EGL_DEBUG_CHECK(slot_of_node_[beam_[i].node] == PrefixTree::kNone);
      EGL_DEBUG_CHECK(beam_[i].total > kNegInf);
      slot_of_node_[beam_[i].node] = static_cast<int32_t>(i);
    }
  }

  size_t mark_of(int32_t slot, int32_t label) const {
    return static_cast<size_t>(slot) * frame_.size() + static_cast<size_t>(label);
  }

  static bool below(const Candidate& a, const Candidate& b) { return a.total < b.total; }

  const int64_t width_;
  const int32_t blank_;
  PrefixTree& tree_;
  std::vector<Slot> beam_;             // sorted: most probable first, ties by labeling order
  std::vector<int32_t> slot_of_node_;  // index in beam_, or kNone

  std::vector<double> frame_;           // log-probabilities of this frame, by class
  std::vector<Token> tokens_;           // labels that are possible here, most probable first
  std::vector<Slot> stays_;             // beam_ one frame later, in the same order
  std::vector<Candidate> candidates_;   // prefixes with mass > 0 that may be kept
  std::vector<size_t> row_ends_;        // where each row of the staircase stopped
  std::vector<unsigned char> in_beam_;  // [slot, label]: is this extension in the beam already?
  std::vector<size_t> marks_;           // entries of in_beam_ that are set
};

}  // namespace

template <typename Scalar>
std::vector<KeptPrefix> ctc_prefix_search(const Emissions<Scalar>& log_probs,
                                          const BeamSearchOptions& options, PrefixTree& tree) {
  PrefixSearch search(options.beam_width, static_cast<int32_t>(options.blank), tree);
  for (int64_t frame = 0; frame < log_probs.num_frames; ++frame) search.advance(log_probs, frame);
  tree.check_invariants();
  return search.result();
}

template <typename Scalar>
std::vector<double> ctc_exact_log_probs(const Emissions<Scalar>& log_probs, int64_t blank,
                                        const PrefixTree& tree,
                                        const std::vector<KeptPrefix>& prefixes) {
  // The kept prefixes and all their beginnings, parents first.
  constexpr int32_t kAbsent = -1;
  std::vector<int32_t> cell_of_node(tree.size(), kAbsent);
  std::vector<Node> nodes;
  for (const KeptPrefix& prefix : prefixes) {
    for (Node node = prefix.node; node != PrefixTree::kNone; node = tree.parent(node)) {
      if (cell_of_node[node] != kAbsent) break;
      cell_of_node[node] = 0;
      nodes.push_back(node);
    }
  }
  std::sort(nodes.begin(), nodes.end());
  for (size_t i = 0; i < nodes.size(); ++i) cell_of_node[nodes[i]] = static_cast<int32_t>(i);

  struct Cell {
    int32_t parent;
    int32_t label;
    bool repeats;  // the parent ends in the same label
  };
  std::vector<Cell> cells(nodes.size());
  std::vector<Slot> masses(nodes.size());
  for (size_t i = 0; i < nodes.size(); ++i) {
    const Node node = nodes[i];
    const bool is_root = node == PrefixTree::kRoot;
    const Node parent = tree.parent(node);
    cells[i] = {is_root ? kAbsent : cell_of_node[parent], tree.label(node),
                !is_root && tree.label(parent) == tree.label(node)};
    masses[i] = Slot::make(node, is_root ? 0.0 : kNegInf, kNegInf);
  }

  for (int64_t frame = 0; frame < log_probs.num_frames; ++frame) {
    // Children first: each reads its parent's mass of the frame before.
    for (size_t i = nodes.size(); i-- > 0;) {
      const Cell& cell = cells[i];
      double ends_in_label = kNegInf;
      if (cell.parent != kAbsent) {
        const Slot& parent = masses[cell.parent];
        const double arriving = cell.repeats ? parent.ends_in_blank : parent.total;
        if (arriving == kNegInf && masses[i].total == kNegInf) continue;
        ends_in_label = log_add(masses[i].ends_in_label, arriving) + log_probs(frame, cell.label);
      }
      masses[i] = Slot::make(nodes[i], masses[i].total + log_probs(frame, blank), ends_in_label);
    }
  }

  std::vector<double> result;
  result.reserve(prefixes.size());
  for (const KeptPrefix& prefix : prefixes) {
    result.push_back(masses[cell_of_node[prefix.node]].total);
  }
  return result;
}

template <typename Scalar>
std::vector<Hypothesis> ctc_beam_search(const Emissions<Scalar>& log_probs,
                                        const BeamSearchOptions& options) {
  PrefixTree tree;
  const auto kept = ctc_prefix_search(log_probs, options, tree);
  const auto exact = ctc_exact_log_probs(log_probs, options.blank, tree, kept);

  std::vector<size_t> order(kept.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    if (exact[a] != exact[b]) return exact[a] > exact[b];
    return tree.precedes(tree.as_extension(kept[a].node), tree.as_extension(kept[b].node));
  });
  if (static_cast<int64_t>(order.size()) > options.num_hypotheses) {
    order.resize(options.num_hypotheses);
  }
  std::vector<Hypothesis> hypotheses;
  hypotheses.reserve(order.size());
  for (const size_t i : order) {
    EGL_DEBUG_CHECK(exact[i] > kNegInf);
    hypotheses.push_back({tree.labels(kept[i].node), exact[i], kept[i].search_log_prob});
  }
  return hypotheses;
}

#define EGL_INSTANTIATE(Scalar)                                                              \
  template std::vector<KeptPrefix> ctc_prefix_search(const Emissions<Scalar>&,               \
                                                     const BeamSearchOptions&, PrefixTree&); \
  template std::vector<double> ctc_exact_log_probs(                                          \
      const Emissions<Scalar>&, int64_t, const PrefixTree&, const std::vector<KeptPrefix>&); \
  template std::vector<Hypothesis> ctc_beam_search(const Emissions<Scalar>&,                 \
                                                   const BeamSearchOptions&);
EGL_INSTANTIATE(float)
EGL_INSTANTIATE(double)
#undef EGL_INSTANTIATE

}  // namespace egl
