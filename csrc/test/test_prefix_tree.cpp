#include "csrc/core/prefix_tree.h"
#include "csrc/test/test.h"

using egl::PrefixTree;

EGL_TEST(one_labeling_one_node) {
  PrefixTree tree;
  const auto a = tree.child(PrefixTree::kRoot, 3);
  const auto ab = tree.child(a, 1);
  CHECK(tree.child(PrefixTree::kRoot, 3) == a);
  CHECK(tree.child(a, 1) == ab);
  CHECK(tree.child(a, 3) != a);
  CHECK(tree.size() == 4);
  CHECK((tree.labels(ab) == std::vector<int64_t>{3, 1}));
  CHECK(tree.labels(PrefixTree::kRoot).empty());
  CHECK(tree.depth(ab) == 2 && tree.parent(ab) == a && tree.label(ab) == 1);
  tree.check_invariants();
}

// Every pair of labelings over 3 labels up to length 3, against std::vector's order.
EGL_TEST(labeling_order_is_lexicographic) {
  PrefixTree tree;
  std::vector<PrefixTree::Node> nodes{PrefixTree::kRoot};
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (tree.depth(nodes[i]) == 3) continue;
    for (const int32_t label : {2, 0, 1}) nodes.push_back(tree.child(nodes[i], label));
  }
  CHECK(nodes.size() == 1 + 3 + 9 + 27);
  for (const auto a : nodes) {
    for (const auto b : nodes) {
      const bool expected = tree.labels(a) < tree.labels(b);
      CHECK(tree.precedes(tree.as_extension(a), tree.as_extension(b)) == expected);
    }
  }
}

EGL_TEST(extensions_without_a_node_are_ordered_too) {
  PrefixTree tree;
  const auto a = tree.child(PrefixTree::kRoot, 1);
  CHECK(tree.precedes(tree.as_extension(a), {a, 0}));
  CHECK(tree.precedes({a, 0}, {a, 2}));
  CHECK(tree.precedes({a, 9}, {PrefixTree::kRoot, 2}));
  CHECK(!tree.precedes({a, 9}, {a, 9}));
}

EGL_TEST_MAIN()
