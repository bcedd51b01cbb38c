// The plain prefix search, and the core's in the same form.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "csrc/core/ctc_prefix_search.h"
#include "csrc/core/semiring.h"
#include "csrc/test/random_problem.h"

namespace egl::test {

using Ranked = std::vector<std::pair<Labeling, double>>;

// The plain search: every extension of every prefix, merged by whole labelings. Arithmetic is in
// the same order as the fast one's, so that results can be compared to the bit.
template <Semiring Mass>
Ranked plain_search(const Problem& problem, int64_t width) {
  struct Masses {
    double ends_in_blank = Mass::zero;
    double ends_in_label = Mass::zero;
    double total() const { return Mass::plus(ends_in_blank, ends_in_label); }
  };
  const auto log_probs = problem.emissions();
  std::map<Labeling, Masses> beam{{{}, {Mass::one, Mass::zero}}};
  Ranked ranked{{{}, Mass::one}};
  for (int64_t t = 0; t < problem.num_frames; ++t) {
    std::map<Labeling, Masses> grown;  // what arrives, without the frame's emission
    for (const auto& [prefix, masses] : beam) {
      const double total = masses.total();
      auto& stays = grown[prefix];
      stays.ends_in_blank = total;
      stays.ends_in_label = Mass::plus(stays.ends_in_label, masses.ends_in_label);
      for (int64_t c = 0; c < problem.num_classes; ++c) {
        if (c == problem.blank) continue;
        const bool repeats = !prefix.empty() && prefix.back() == c;
        Labeling longer = prefix;
        longer.push_back(c);
        auto& extends = grown[longer];
        extends.ends_in_label =
            Mass::plus(extends.ends_in_label, repeats ? masses.ends_in_blank : total);
      }
    }
    ranked.clear();
    const auto emit = [&](double& mass, int64_t cls) {
      mass = Mass::times(mass, Mass::of_log(log_probs(t, cls)));
    };
    for (auto& [prefix, masses] : grown) {
      emit(masses.ends_in_blank, problem.blank);
      if (!prefix.empty()) emit(masses.ends_in_label, prefix.back());
      if (masses.total() > Mass::zero) ranked.emplace_back(prefix, masses.total());
    }
    // std::map iterates in labeling order, and the sort is stable: ties are in labeling order.
    std::stable_sort(ranked.begin(), ranked.end(),
                     [](const auto& a, const auto& b) { return a.second > b.second; });
    if (static_cast<int64_t>(ranked.size()) > width) ranked.resize(width);
    beam.clear();
    for (const auto& [prefix, total] : ranked) beam[prefix] = grown[prefix];
  }
  for (auto& [labeling, mass] : ranked) mass = Mass::to_log(mass);
  return ranked;
}

// Nothing where this arithmetic fails, which LogMass never does.
template <Semiring Mass>
Ranked fast_search(const Problem& problem, int64_t width) {
  PrefixTree tree;
  const auto kept =
      ctc_prefix_search_in<Mass>(problem.emissions(), {1, width, problem.blank}, tree);
  if (!kept.has_value()) return {};
  Ranked result;
  for (const auto& prefix : *kept) {
    result.emplace_back(tree.labels(prefix.node), prefix.search_log_prob);
  }
  return result;
}

}  // namespace egl::test
