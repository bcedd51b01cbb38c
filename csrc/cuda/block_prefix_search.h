// The prefix search of csrc/core/ctc_prefix_search.h, by one block: the same prefixes in the same
// order with the same masses to the bit, ties included, where exp and log1p are the host's.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <type_traits>
#include <utility>

#include "csrc/core/emissions.h"
#include "csrc/core/labeling_order.h"
#include "csrc/core/linear_domain.h"
#include "csrc/core/semiring.h"
#include "csrc/cuda/block_select.h"
#include "csrc/cuda/ctc_token_selection.h"
#include "csrc/cuda/platform.h"
#include "csrc/cuda/prefix_candidates.h"
#include "csrc/cuda/prefix_search_memory.h"
#include "csrc/cuda/prefix_tree.h"
#include "csrc/cuda/staircase.h"

namespace egl::cuda {

// One utterance, by the whole block. csrc/core/ctc_prefix_search.cpp explains the calculation, and
// why the staircase is enough. Differences:
//   - Candidates are not stored: each is a product of two numbers in shared memory, and each pass
//     of the radix selection multiplies them again. Threads own equal parts of the staircase.
//   - Ties with the last kept candidate are processed in parts that fit in memory together with the
//     kept ones; after each part only the first in labeling order stay.
template <Semiring Mass>
class BlockPrefixSearch {
 public:
  __device__ BlockPrefixSearch(const PrefixSearchShared& shared, DevicePrefixTree& tree, int width,
                               int blank)
      : shared_(shared),
        tree_(tree),
        width_(width),
        blank_(blank),
        in_beam_{shared.extensions, shared.num_extensions},
        staircase_(shared.row_starts, width) {}

  // False where this arithmetic fails. All threads return the same.
  template <typename Scalar>
  __device__ __forceinline__ bool run(const Emissions<Scalar>& log_probs, const FrameTokens& tokens,
                                      int64_t first_frame) {
    begin();
    for (int64_t t = 0; t < log_probs.num_frames; ++t) {
      load_frame(log_probs, tokens, first_frame + t, t);
      if (incomplete_) return false;
      stay(log_probs, t);
      staircase_.lay_out(beam_size_, num_tokens_);
      keep_best();
      if (incomplete_) return false;
      step_to(t);
      if (beam_size_ == 0) break;
    }
    return true;
  }

  __device__ __forceinline__ void write(int64_t n, int64_t max_frames,
                                        const KeptPrefixes& kept) const {
    const double log_scale = static_cast<double>(exponent_) * std::numbers::ln2;
    for (int i = thread(); i < beam_size_; i += step()) {
      const int64_t place = n * kept.width + i;
      kept.search_log_prob[place] = Mass::to_log(total_of(i)) + log_scale;
      int node = shared_.nodes[i];
      const int length = tree_.depth(node);
      kept.lengths[place] = length;
      int32_t* labels = kept.labels + place * max_frames;
      for (int u = length; u-- > 0; node = tree_.parent(node)) labels[u] = tree_.label(node);
    }
    if (threadIdx.x == 0) kept.counts[n] = beam_size_;
  }

 private:
  static __device__ __forceinline__ int thread() { return static_cast<int>(threadIdx.x); }
  static __device__ __forceinline__ int step() { return static_cast<int>(blockDim.x); }

  __device__ __forceinline__ double total_of(int slot) const {
    return Mass::plus(shared_.ends_in_blank[slot], shared_.ends_in_label[slot]);
  }
  __device__ __forceinline__ double stay_total(int slot) const {
    return Mass::plus(shared_.stays_in_blank[slot], shared_.stays_in_label[slot]);
  }

  // The beam of the empty labeling.
  __device__ __forceinline__ void begin() {
    tree_.clear();
    if (threadIdx.x == 0) {
      shared_.nodes[0] = 0;
      shared_.parents[0] = shared_.labels[0] = DevicePrefixTree::kNone;
      shared_.ends_in_blank[0] = Mass::one;
      shared_.ends_in_label[0] = Mass::zero;
    }
    beam_size_ = 1;
    exponent_ = 0;
    incomplete_ = false;
    too_narrow_ = false;
    lost_ = false;
    __syncthreads();
  }

  template <typename Scalar>
  __device__ __forceinline__ double emission(const Emissions<Scalar>& log_probs, int64_t t,
                                             int label) const {
    return Mass::times(Mass::of_log(log_probs(t, label)), scale_);
  }

  template <typename Scalar>
  __device__ __forceinline__ void load_frame(const Emissions<Scalar>& log_probs,
                                             const FrameTokens& tokens, int64_t frame, int64_t t) {
    scale_ = Mass::one;
    if constexpr (std::is_same_v<Mass, LinearMass>) {
      const int exponent = ilogb(total_of(0));
      scale_ = ldexp(1.0, -exponent);
      exponent_ += exponent;
      const double scaled = Mass::to_log(Mass::underflow) - Mass::to_log(scale_);
      const double least = scaled > kLeastLinear ? scaled : kLeastLinear;
      incomplete_ = tokens.least[frame] <= least;  // the same for all threads
    }
    num_tokens_ = tokens.counts[frame];
    for (int i = thread(); i < num_tokens_; i += step()) {
      const uint16_t label = tokens.labels[frame * tokens.capacity + i];
      shared_.token_labels[i] = label;
      shared_.token_masses[i] = emission(log_probs, t, label);
    }
    in_beam_.clear();
    __syncthreads();
  }

  template <typename Scalar>
  __device__ __forceinline__ void stay(const Emissions<Scalar>& log_probs, int64_t t) {
    dropped_ = false;
    const double blank = emission(log_probs, t, blank_);
    for (int i = thread(); i < beam_size_; i += step()) {
      const double ends_in_blank = Mass::times(total_of(i), blank);
      double mass = Mass::zero;  // that may end in the label
      double arriving = Mass::zero;
      const int label = shared_.labels[i];
      if (label != DevicePrefixTree::kNone) {
        const int parent = tree_.slot(shared_.parents[i]);
        mass = shared_.ends_in_label[i];
        if (parent != DevicePrefixTree::kNone) {
          mass = Mass::plus(mass, extendable(parent, label));
          in_beam_.insert(extending(parent, label));
        }
        arriving = emission(log_probs, t, label);
      }
      const double ends_in_label = Mass::times(mass, arriving);
      shared_.stays_in_blank[i] = ends_in_blank;
      shared_.stays_in_label[i] = ends_in_label;
      const bool lost = underflows(total_of(i), blank, ends_in_blank) ||
                        underflows(mass, arriving, ends_in_label);
      dropped_ |= lost && stay_total(i) <= Mass::underflow;
      lost_ |= lost;
    }
    __syncthreads();
  }

  // Whether a product that is above zero may be lost.
  static __device__ __forceinline__ bool underflows(double mass, double emission, double product) {
    return product <= Mass::underflow && mass > Mass::zero && emission > Mass::zero;
  }

  // Mass that may be followed by `next` and grow the prefix.
  __device__ __forceinline__ double extendable(int slot, int next) const {
    return next == shared_.labels[slot] ? shared_.ends_in_blank[slot] : total_of(slot);
  }

  // An extension's total, or zero where it is no candidate.
  __device__ __forceinline__ double extension_total(int slot, int rank) {
    const double token = shared_.token_masses[rank];
    if (Mass::times(total_of(slot), token) < Mass::underflow) {
      dropped_ = true;
      return Mass::zero;
    }
    const int label = shared_.token_labels[rank];
    const double mass = extendable(slot, label);
    const double total = Mass::times(mass, token);
    if (total > Mass::underflow) {
      return in_beam_.contains(extending(slot, label)) ? Mass::zero : total;
    }
    dropped_ |= mass > Mass::zero && !in_beam_.contains(extending(slot, label));
    return Mass::zero;
  }

  // Calls visit(total, candidate) for this thread's candidates, in the staircase and among those
  // that stay.
  template <typename Visit>
  __device__ __forceinline__ void for_each_candidate(const Visit& visit) {
    for (int i = thread(); i < beam_size_; i += step()) {
      const double total = stay_total(i);
      if (total > Mass::underflow) visit(total, staying(i));
    }
    staircase_.for_each([&](int slot, int rank) {
      const double total = extension_total(slot, rank);
      if (total > Mass::underflow) visit(total, extending(slot, shared_.token_labels[rank]));
    });
  }

  __device__ __forceinline__ void keep_best() {
    if (threadIdx.x == 0) *shared_.count = 0;
    __syncthreads();
    int own = 0;
    for_each_candidate([&](double, uint32_t) { ++own; });
    atomicAdd(shared_.count, own);
    __syncthreads();
    num_candidates_ = *shared_.count;
    too_narrow_ |= num_candidates_ > width_;
    const bool matters = num_candidates_ < width_ ? dropped_ || lost_ : lost_ && !too_narrow_;
    if (__syncthreads_or(matters ? 1 : 0) != 0) incomplete_ = Mass::underflow > Mass::zero;
    SelectedKeys selected{0, 0};
    if (num_candidates_ > width_) {
      selected = select_largest(
          [&](const auto& visit) {
            for_each_candidate([&](double total, uint32_t) { visit(ordered_key(total)); });
          },
          width_, *shared_.scratch);
    }
    // If too many tie with the last, none of these yet.
    const uint64_t floor = selected.floor + (selected.surplus > 0 ? 1 : 0);
    if (threadIdx.x == 0) *shared_.count = 0;
    __syncthreads();
    for_each_candidate([&](double total, uint32_t candidate) {
      if (ordered_key(total) >= floor) append(total, candidate);
    });
    __syncthreads();
    const int count = *shared_.count;
    sort(0, count);
    kept_ = count;
    if (selected.surplus > 0) {
      keep_first_of_ties(selected.floor, count);
    } else if (count == width_) {
      const double last = shared_.totals[count - 1];
      if (__syncthreads_or(ties_outside(last) ? 1 : 0) != 0) {
        const uint64_t key = ordered_key(last);
        keep_first_of_ties(key, first_not_above(key, count));
      }
    }
  }

  __device__ __forceinline__ void append(double total, uint32_t candidate) {
    const int place = atomicAdd(shared_.count, 1);
    shared_.totals[place] = total;
    shared_.candidates[place] = candidate;
  }

  __device__ __forceinline__ void sort(int first, int count) {
    sort_block(
        count,
        [&](int i, int j) {
          const double a = shared_.totals[first + i];
          const double b = shared_.totals[first + j];
          if (a != b) return a > b;
          return precedes_in(tree_, labeling(shared_.candidates[first + i]),
                             labeling(shared_.candidates[first + j]));
        },
        [&](int i, int j) {
          std::swap(shared_.totals[first + i], shared_.totals[first + j]);
          std::swap(shared_.candidates[first + i], shared_.candidates[first + j]);
        });
  }

  __device__ __forceinline__ DevicePrefixTree::Extension labeling(uint32_t candidate) const {
    const int slot = slot_of(candidate);
    if (stays(candidate)) return {shared_.parents[slot], shared_.labels[slot]};
    return {shared_.nodes[slot], label_of(candidate)};
  }

  // Whether a row of this thread has a token beyond the staircase that may reach `last`.
  __device__ __forceinline__ bool ties_outside(double last) const {
    bool found = false;
    for (int i = thread(); i < beam_size_; i += step()) {
      const int end = staircase_.row_length(i);
      if (end == num_tokens_) continue;
      found |= Mass::times(total_of(i), shared_.token_masses[end]) >= last;
    }
    return found;
  }

  __device__ __forceinline__ int first_not_above(uint64_t key, int count) const {
    int first = count;
    while (first > 0 && ordered_key(shared_.totals[first - 1]) == key) --first;
    return first;
  }

  // Fills the beam, which holds `above` candidates with larger keys, with those of this key that
  // come first in labeling order. Looks at all rows to their ends.
  __device__ __forceinline__ void keep_first_of_ties(uint64_t key, int above) {
    const int wanted = width_ - above;
    const int all = beam_size_ + beam_size_ * num_tokens_;
    int found = 0;
    __syncthreads();
    if (threadIdx.x == 0) *shared_.count = above;
    __syncthreads();
    for (int first = 0; first < all; first += step()) {
      const int i = first + thread();
      if (i < beam_size_) {
        const double total = stay_total(i);
        if (total > Mass::underflow && ordered_key(total) == key) append(total, staying(i));
      } else if (i < all) {
        const int slot = (i - beam_size_) / num_tokens_;
        const int rank = (i - beam_size_) % num_tokens_;
        const double total = extension_total(slot, rank);
        if (total > Mass::underflow && ordered_key(total) == key) {
          append(total, extending(slot, shared_.token_labels[rank]));
        }
      }
      __syncthreads();
      const int with_new = *shared_.count - above;
      if (with_new > found) {
        sort(above, with_new);
        found = with_new < wanted ? with_new : wanted;
        __syncthreads();
        if (threadIdx.x == 0) *shared_.count = above + found;
      }
      __syncthreads();
    }
    kept_ = above + found;
  }

  // Makes the kept candidates the beam.
  __device__ __forceinline__ void step_to(int64_t t) {
    int nodes[kSlotsPerThread];
    int parents[kSlotsPerThread];
    int labels[kSlotsPerThread];
    double blanks[kSlotsPerThread];
    double totals[kSlotsPerThread];
    bool is_new[kSlotsPerThread];
    EGL_UNROLL
    for (int s = 0; s < kSlotsPerThread; ++s) {
      const int j = thread() + s * step();
      is_new[s] = false;
      if (j >= kept_) continue;
      const uint32_t candidate = shared_.candidates[j];
      const int slot = slot_of(candidate);
      if (stays(candidate)) {
        nodes[s] = shared_.nodes[slot];
        parents[s] = shared_.parents[slot];
        labels[s] = shared_.labels[slot];
        blanks[s] = shared_.stays_in_blank[slot];
        totals[s] = shared_.stays_in_label[slot];
      } else {
        parents[s] = shared_.nodes[slot];
        labels[s] = label_of(candidate);
        nodes[s] = tree_.find(parents[s], labels[s]);
        is_new[s] = nodes[s] == DevicePrefixTree::kNone;
        if (is_new[s]) nodes[s] = static_cast<int>(1 + t * width_ + j);
        blanks[s] = Mass::zero;
        totals[s] = shared_.totals[j];
      }
    }
    for (int i = thread(); i < beam_size_; i += step()) {
      tree_.set_slot(shared_.nodes[i], DevicePrefixTree::kNone);
    }
    __syncthreads();
    EGL_UNROLL
    for (int s = 0; s < kSlotsPerThread; ++s) {
      const int j = thread() + s * step();
      if (j >= kept_) continue;
      shared_.nodes[j] = nodes[s];
      shared_.parents[j] = parents[s];
      shared_.labels[j] = labels[s];
      shared_.ends_in_blank[j] = blanks[s];
      shared_.ends_in_label[j] = totals[s];
      if (is_new[s]) tree_.add(nodes[s], parents[s], labels[s]);
      tree_.set_slot(nodes[s], j);
    }
    beam_size_ = kept_;
    __syncthreads();
  }

  const PrefixSearchShared& shared_;
  DevicePrefixTree& tree_;
  const int width_;
  const int blank_;
  const ExtensionSet in_beam_;
  Staircase staircase_;

  // The same in all threads.
  int beam_size_ = 0;
  int kept_ = 0;
  int num_tokens_ = 0;
  int num_candidates_ = 0;
  int64_t exponent_ = 0;  // true masses are those here times 2^exponent_
  double scale_ = 0.0;    // of this frame's emissions
  bool incomplete_ = false;
  bool too_narrow_ = false;  // in any frame, for all candidates

  // This thread's.
  bool dropped_ = false;  // in this frame, a prefix
  bool lost_ = false;     // in any frame, mass of a prefix that was to stay
};

}  // namespace egl::cuda
