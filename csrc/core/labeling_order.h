// Labeling order: lexicographic by class index, a labeling before its own extensions.
#pragma once

#include <cstdint>

#include "csrc/core/host_device.h"

namespace egl {

// A labeling that may not have a node in a tree yet: `parent`'s labeling followed by `label`. The
// empty labeling is {kNone, kNone}.
struct LabelingExtension {
  static constexpr int32_t kNone = -1;
  int32_t parent;
  int32_t label;
};

// Whether `a` comes before `b` in a tree with parent(node), label(node) and depth(node). Takes time
// linear in the lengths; meant for ties.
template <typename Tree>
EGL_HOST_DEVICE bool precedes_in(const Tree& tree, LabelingExtension a, LabelingExtension b) {
  const auto depth_of = [&](const LabelingExtension& extension) {
    return extension.parent == LabelingExtension::kNone ? 0 : tree.depth(extension.parent) + 1;
  };
  const auto shorten = [&](LabelingExtension& extension) {
    extension = {tree.parent(extension.parent), tree.label(extension.parent)};
  };
  const int32_t depth_a = depth_of(a);
  const int32_t depth_b = depth_of(b);
  for (int32_t i = depth_a; i > depth_b; --i) shorten(a);
  for (int32_t i = depth_b; i > depth_a; --i) shorten(b);
  if (a.parent == b.parent && a.label == b.label) return depth_a < depth_b;
  while (a.parent != b.parent) {
    shorten(a);
    shorten(b);
  }
  return a.label < b.label;
}

}  // namespace egl
