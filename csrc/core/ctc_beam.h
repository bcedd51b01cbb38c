// The beam of a prefix search, and the candidates for the next.
#pragma once

#include <cstdint>

#include "csrc/core/prefix_tree.h"

namespace egl {

// A prefix in the beam, with the mass of its alignments that end in blank and in its last label.
struct Slot {
  PrefixTree::Node node;
  PrefixTree::Node parent;
  int32_t label;
  double ends_in_blank;
  double ends_in_label;
  double total;  // of both, stored because the search needs it everywhere

  // Mass that may be followed by `next` and grow the prefix: a repeat of the last label needs a
  // blank in between, else it merges with it.
  double extendable(int32_t next) const { return next == label ? ends_in_blank : total; }
};

// A prefix that competes for a place in the next beam.
struct Candidate {
  double total;
  int32_t slot;   // in the beam: itself, or what it extends
  int32_t label;  // of the extension; kNone for a prefix that stays
};

struct Token {
  double mass;
  int32_t label;
};

}  // namespace egl
