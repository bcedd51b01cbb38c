#include "csrc/core/ctc_exact_log_probs.h"

#include <algorithm>
#include <type_traits>

#include "csrc/core/linear_domain.h"
#include "csrc/core/semiring.h"

namespace egl {
namespace {

using Node = PrefixTree::Node;

// Kept prefixes and all their beginnings, parents first.
struct Trie {
  static constexpr int32_t kAbsent = -1;

  struct Cell {
    int32_t parent;
    int32_t label;
    bool repeats;  // the parent ends in the same label
  };

  Trie(const PrefixTree& tree, const std::vector<KeptPrefix>& prefixes)
      : cell_of_node(tree.size(), kAbsent) {
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
    for (const Node node : nodes) {
      const bool is_root = node == PrefixTree::kRoot;
      const Node parent = tree.parent(node);
      cells.push_back({is_root ? kAbsent : cell_of_node[parent], tree.label(node),
                       !is_root && tree.label(parent) == tree.label(node)});
    }
  }

  std::vector<int32_t> cell_of_node;
  std::vector<Cell> cells;  // the root first
};

struct ForwardResult {
  std::vector<double> log_mass;  // of each cell after all frames
  bool normalized;               // do the classes that occur sum to at most 1 in each frame?
};

template <Semiring Mass, typename Scalar>
ForwardResult forward(const Emissions<Scalar>& log_probs, int64_t blank, const Trie& trie) {
  struct Masses {
    double ends_in_blank;
    double ends_in_label;
    double total;
  };
  ForwardResult result{{}, true};
  std::vector<Masses> masses(trie.cells.size(), {Mass::zero, Mass::zero, Mass::zero});
  if (masses.empty()) return result;
  masses[0] = {Mass::one, Mass::zero, Mass::one};
  std::vector<int64_t> classes = {blank};
  std::vector<double> frame(log_probs.num_classes, Mass::zero);
  std::vector<bool> occurs(frame.size(), false);
  for (const Trie::Cell& cell : trie.cells) {
    if (cell.label == PrefixTree::kNone || occurs[cell.label]) continue;
    occurs[cell.label] = true;
    classes.push_back(cell.label);
  }

  for (int64_t t = 0; t < log_probs.num_frames; ++t) {
    double sum = 0.0;
    for (const int64_t cls : classes) {
      frame[cls] = Mass::of_log(log_probs(t, cls));
      if constexpr (std::is_same_v<Mass, LinearMass>) sum += frame[cls];
    }
    result.normalized &= sum <= 1.0 + 1e-5;  // may be rounded in single precision
    const double of_blank = frame[blank];
    // Children first: each reads its parent's mass of the previous frame.
    for (size_t i = masses.size(); i-- > 1;) {
      const Trie::Cell& cell = trie.cells[i];
      const Masses& parent = masses[cell.parent];
      Masses& own = masses[i];
      const double arriving = cell.repeats ? parent.ends_in_blank : parent.total;
      if (arriving == Mass::zero && own.total == Mass::zero) continue;
      own.ends_in_label = Mass::times(Mass::plus(own.ends_in_label, arriving), frame[cell.label]);
      own.ends_in_blank = Mass::times(own.total, of_blank);
      own.total = Mass::plus(own.ends_in_blank, own.ends_in_label);
    }
    masses[0].ends_in_blank = masses[0].total = Mass::times(masses[0].total, of_blank);
  }
  result.log_mass.reserve(masses.size());
  for (const Masses& own : masses) result.log_mass.push_back(Mass::to_log(own.total));
  return result;
}

}  // namespace

template <typename Scalar>
std::vector<double> ctc_exact_log_probs(const Emissions<Scalar>& log_probs, int64_t blank,
                                        const PrefixTree& tree,
                                        const std::vector<KeptPrefix>& prefixes) {
  const Trie trie(tree, prefixes);
  ForwardResult found = forward<LinearMass>(log_probs, blank, trie);
  double least = 0.0;
  for (const KeptPrefix& prefix : prefixes) {
    least = std::min(least, found.log_mass[trie.cell_of_node[prefix.node]]);
  }
  if (least < kSafe || !found.normalized) found = forward<LogMass>(log_probs, blank, trie);
  std::vector<double> result;
  result.reserve(prefixes.size());
  for (const KeptPrefix& prefix : prefixes) {
    result.push_back(found.log_mass[trie.cell_of_node[prefix.node]]);
  }
  return result;
}

template std::vector<double> ctc_exact_log_probs(const Emissions<float>&, int64_t,
                                                 const PrefixTree&, const std::vector<KeptPrefix>&);
template std::vector<double> ctc_exact_log_probs(const Emissions<double>&, int64_t,
                                                 const PrefixTree&, const std::vector<KeptPrefix>&);

}  // namespace egl
