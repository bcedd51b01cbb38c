// An arena of labelings that share their beginnings. A node stands for the labeling spelled by the
// path from the root to it; the root is the empty labeling.
//
// Invariants, for every node i (check_invariants() verifies them in debug builds):
//   1. Node 0 is the root: parent kNone, label kNone, depth 0.
//   2. parent(i) < i for i > 0, so ascending order visits parents before children.
//   3. depth(i) == depth(parent(i)) + 1: the labeling's length.
//   4. No two nodes have the same (parent, label): one labeling, one node. A labeling that leaves
//      the beam and comes back meets its old node and, through it, its old descendants.
// Nodes are never removed or changed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <set>
#include <stdexcept>
#include <utility>
#include <vector>

#include "csrc/core/debug_check.h"
#include "csrc/core/labeling_order.h"

namespace egl {

class PrefixTree {
 public:
  using Node = int32_t;
  static constexpr Node kRoot = 0;
  static constexpr int32_t kNone = LabelingExtension::kNone;

  using Extension = LabelingExtension;

  PrefixTree() { nodes_.push_back({kNone, kNone, 0, kNone, kNone}); }

  Node size() const { return static_cast<Node>(nodes_.size()); }
  Node parent(Node node) const { return at(node).parent; }
  int32_t label(Node node) const { return at(node).label; }
  int32_t depth(Node node) const { return at(node).depth; }
  Extension as_extension(Node node) const { return {parent(node), label(node)}; }

  // The node of `parent`'s labeling followed by `label`, made on first use. Takes time linear in
  // the number of children that `parent` has.
  Node child(Node parent, int32_t label) {
    for (Node node = at(parent).first_child; node != kNone; node = at(node).next_sibling) {
      if (at(node).label == label) return node;
    }
    if (nodes_.size() >= std::numeric_limits<Node>::max()) {
      throw std::length_error("beam_width: more prefixes than 32 bits can count");
    }
    const Node node = size();
    nodes_.push_back({parent, label, at(parent).depth + 1, kNone, at(parent).first_child});
    nodes_[parent].first_child = node;
    return node;
  }

  std::vector<int64_t> labels(Node node) const {
    std::vector<int64_t> result(depth(node));
    for (auto slot = result.rbegin(); slot != result.rend(); ++slot, node = parent(node)) {
      *slot = label(node);
    }
    return result;
  }

  // Labeling order.
  bool precedes(Extension a, Extension b) const { return precedes_in(*this, a, b); }

  void check_invariants() const {
#ifdef EGL_DEBUG
    EGL_DEBUG_CHECK(nodes_[0].parent == kNone && nodes_[0].label == kNone);
    EGL_DEBUG_CHECK(nodes_[0].depth == 0);
    std::set<std::pair<Node, int32_t>> seen;
    for (Node node = 1; node < size(); ++node) {
      EGL_DEBUG_CHECK(parent(node) >= 0 && parent(node) < node);
      EGL_DEBUG_CHECK(depth(node) == depth(parent(node)) + 1);
      EGL_DEBUG_CHECK(seen.emplace(parent(node), label(node)).second);
    }
#endif
  }

 private:
  struct Entry {
    Node parent;
    int32_t label;
    int32_t depth;
    Node first_child;
    Node next_sibling;
  };

  const Entry& at(Node node) const {
    EGL_DEBUG_CHECK(node >= 0 && node < size());
    return nodes_[static_cast<size_t>(node)];
  }

  std::vector<Entry> nodes_;
};

}  // namespace egl
