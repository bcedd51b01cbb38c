// The prefix search of csrc/core/ctc_prefix_search.h, a block an utterance: the same prefixes in
// the same order with the same masses to the bit, ties included, where exp and log1p are the
// host's.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <type_traits>
#include <utility>

#include "csrc/core/labeling_order.h"
#include "csrc/core/linear_domain.h"
#include "csrc/core/semiring.h"
#include "csrc/cuda/block_select.h"
#include "csrc/cuda/ctc_batch.h"
#include "csrc/cuda/ctc_token_selection.h"
#include "csrc/cuda/prefix_tree.h"
#include "csrc/cuda/shared_memory.h"

namespace egl::cuda {

inline constexpr int64_t kMaxBeamWidth = 1024;

// What the search keeps of each utterance.
struct KeptPrefixes {
  int64_t width;            // W
  int32_t* counts;          // [N]
  int32_t* lengths;         // [N, W]
  int32_t* labels;          // [N, W, T]
  double* search_log_prob;  // [N, W]
};

struct PrefixSearchShared {
  SelectScratch* scratch;
  // The beam, sorted: most probable first, ties by labeling order.
  double* ends_in_blank;
  double* ends_in_label;
  // The same prefixes one frame later.
  double* stays_in_blank;
  double* stays_in_label;
  double* token_masses;  // [capacity], scaled
  double* totals;        // [width + threads], of the next beam's candidates
  uint32_t* candidates;  // likewise
  uint32_t* extensions;  // [2^k >= 2 * width]: a set of those that are in the beam
  int* nodes;
  int* parents;
  int* labels;
  int* row_starts;         // [width + 1]
  uint16_t* token_labels;  // [capacity]
  int* count;
  int num_extensions;

  __host__ __device__ PrefixSearchShared(SharedArena& arena, int64_t width, int64_t capacity,
                                         int threads)
      : num_extensions(2) {
    while (num_extensions < 2 * width) num_extensions *= 2;
    scratch = arena.take<SelectScratch>(1);
    ends_in_blank = arena.take<double>(width);
    ends_in_label = arena.take<double>(width);
    stays_in_blank = arena.take<double>(width);
    stays_in_label = arena.take<double>(width);
    token_masses = arena.take<double>(capacity);
    totals = arena.take<double>(width + threads);
    candidates = arena.take<uint32_t>(width + threads);
    extensions = arena.take<uint32_t>(num_extensions);
    nodes = arena.take<int>(width);
    parents = arena.take<int>(width);
    labels = arena.take<int>(width);
    row_starts = arena.take<int>(width + 1);
    token_labels = arena.take<uint16_t>(capacity);
    count = arena.take<int>(1);
  }
};

inline constexpr int kMaxSearchThreads = 512;
inline constexpr int kSlotsPerThread = static_cast<int>(kMaxBeamWidth) / kMaxSearchThreads;

// One utterance, by the whole block. What is calculated, and why the staircase holds all that is
// needed, is explained in csrc/core/ctc_prefix_search.cpp; here is what differs:
//   - Candidates are not stored: each is a product of two numbers in shared memory, and each pass
//     of the radix selection multiplies them again. Threads own equal parts of the staircase.
//   - Ties with the last that is kept are gone through in parts that fit beside the kept ones, and
//     after each part only the first in labeling order stay.
template <Semiring Mass>
class BlockPrefixSearch {
 public:
  __device__ BlockPrefixSearch(const PrefixSearchShared& shared, DevicePrefixTree& tree, int width,
                               int blank)
      : shared_(shared), tree_(tree), width_(width), blank_(blank) {}

  // False where this arithmetic does not do. All threads return the same.
  template <typename Scalar>
  __device__ __forceinline__ bool run(const Emissions<Scalar>& log_probs, const FrameTokens& tokens,
                                      int64_t first_frame) {
    begin();
    for (int64_t t = 0; t < log_probs.num_frames; ++t) {
      load_frame(log_probs, tokens, first_frame + t, t);
      if (incomplete_) return false;
      stay(log_probs, t);
      lay_out_rows();
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
  // A candidate is a slot that stays, or the extension of one: slot * 2^16 + label + 1.
  static __device__ __forceinline__ uint32_t staying(int slot) {
    return static_cast<uint32_t>(slot) << 16;
  }
  static __device__ __forceinline__ uint32_t extending(int slot, int label) {
    return (static_cast<uint32_t>(slot) << 16) + static_cast<uint32_t>(label) + 1;
  }
  static __device__ __forceinline__ int slot_of(uint32_t candidate) {
    return static_cast<int>(candidate >> 16);
  }
  static __device__ __forceinline__ int label_of(uint32_t candidate) {
    return static_cast<int>(candidate & 0xffff) - 1;
  }
  static __device__ __forceinline__ bool stays(uint32_t candidate) {
    return (candidate & 0xffff) == 0;
  }

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
    rows_of_beam_ = rows_of_tokens_ = -1;
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
    for (int i = thread(); i < shared_.num_extensions; i += step()) shared_.extensions[i] = 0;
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
          insert_extension(extending(parent, label));
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

  // Whether a product of what is possible may be lost.
  static __device__ __forceinline__ bool underflows(double mass, double emission, double product) {
    return product <= Mass::underflow && mass > Mass::zero && emission > Mass::zero;
  }

  // Mass that may be followed by `next` and grow the prefix.
  __device__ __forceinline__ double extendable(int slot, int next) const {
    return next == shared_.labels[slot] ? shared_.ends_in_blank[slot] : total_of(slot);
  }

  __device__ __forceinline__ void insert_extension(uint32_t key) {
    for (int i = place_of(key);; i = (i + 1) & (shared_.num_extensions - 1)) {
      if (atomicCAS(&shared_.extensions[i], 0u, key) == 0u) return;
    }
  }
  __device__ __forceinline__ bool is_in_beam(uint32_t key) const {
    for (int i = place_of(key);; i = (i + 1) & (shared_.num_extensions - 1)) {
      const uint32_t found = shared_.extensions[i];
      if (found == key) return true;
      if (found == 0) return false;
    }
  }
  __device__ __forceinline__ int place_of(uint32_t key) const {
    return static_cast<int>(key * 0x9e3779b1u >> 8) & (shared_.num_extensions - 1);
  }

  // Tokens of row `slot` inside the staircase.
  __device__ __forceinline__ int row_length(int slot) const {
    const int steps = width_ / (slot + 1) + 1;
    return steps < num_tokens_ ? steps : num_tokens_;
  }

  // Cuts the staircase into equal parts; the same as in most frames before.
  __device__ __forceinline__ void lay_out_rows() {
    if (beam_size_ == rows_of_beam_ && num_tokens_ == rows_of_tokens_) return;
    rows_of_beam_ = beam_size_;
    rows_of_tokens_ = num_tokens_;
    // Running sums by the first warp, 32 rows at a time.
    if (threadIdx.x < kWarpSize) {
      int before = 0;
      for (int first = 0; first < beam_size_; first += kWarpSize) {
        const int row = first + thread();
        int through = row < beam_size_ ? row_length(row) : 0;
        for (int delta = 1; delta < kWarpSize; delta *= 2) {
          const int other = __shfl_up_sync(kFullWarp, through, static_cast<unsigned>(delta));
          if (thread() >= delta) through += other;
        }
        if (row < beam_size_) shared_.row_starts[row + 1] = before + through;
        before += __shfl_sync(kFullWarp, through, kWarpSize - 1);
      }
      if (threadIdx.x == 0) shared_.row_starts[0] = 0;
    }
    __syncthreads();
    const int size = shared_.row_starts[beam_size_];
    const int part = (size + step() - 1) / step();
    const int first = thread() * part;
    part_size_ = first >= size ? 0 : size - first < part ? size - first : part;
    // The last row that starts at or before the part.
    int low = 0;
    int high = beam_size_ - 1;
    while (low < high) {
      const int middle = (low + high + 1) / 2;
      if (shared_.row_starts[middle] <= first) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    part_slot_ = low;
    part_rank_ = first - shared_.row_starts[low];
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
      return is_in_beam(extending(slot, label)) ? Mass::zero : total;
    }
    dropped_ |= mass > Mass::zero && !is_in_beam(extending(slot, label));
    return Mass::zero;
  }

  // Calls visit(total, candidate) for those of this thread: of the staircase, and of those that
  // stay.
  template <typename Visit>
  __device__ __forceinline__ void for_each_candidate(const Visit& visit) {
    for (int i = thread(); i < beam_size_; i += step()) {
      const double total = stay_total(i);
      if (total > Mass::underflow) visit(total, staying(i));
    }
    int slot = part_slot_;
    int rank = part_rank_;
    for (int i = 0; i < part_size_; ++i) {
      while (rank >= row_length(slot)) {
        ++slot;
        rank = 0;
      }
      const double total = extension_total(slot, rank);
      if (total > Mass::underflow) visit(total, extending(slot, shared_.token_labels[rank]));
      ++rank;
    }
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
    // Of those that tie with the last, which are too many, none yet.
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
      const int end = row_length(i);
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

  // Fills the beam, which holds the `above` candidates that are above, with those of this key that
  // come first in labeling order, from all rows to their ends.
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

  // The same in all threads.
  int beam_size_ = 0;
  int kept_ = 0;
  int num_tokens_ = 0;
  int num_candidates_ = 0;
  int64_t exponent_ = 0;  // true masses are those here times 2^exponent_
  double scale_ = 0.0;    // of this frame's emissions
  bool incomplete_ = false;
  bool too_narrow_ = false;  // in any frame, for all candidates
  int rows_of_beam_ = -1;
  int rows_of_tokens_ = -1;

  // This thread's.
  bool dropped_ = false;  // in this frame, a prefix
  bool lost_ = false;     // in any frame, mass of a prefix that was to stay
  int part_slot_ = 0;     // of the staircase: where its part begins
  int part_rank_ = 0;
  int part_size_ = 0;
};

// A block owns an utterance at a time, its threads the slots of the beam and equal parts of the
// candidates, a warp nothing of its own but the running sums.
//   Shared memory: 60 bytes a slot, 12 a thread, 10 a token, and 1 KiB: 11 KB for a beam of 128 and
//   C = 29; 94 KB for 1,024 and C = 10,000, which has to be asked for and which an sm_75 lacks.
//   Moves, a frame: 2 bytes a token and 8 * (C + beam) bytes of log-probabilities; some 40 bytes
//   for each prefix that enters the beam. All stays in the second-level cache. Roofline: none of
//   this matters: a frame is about 80 barriers and as many dependent steps in shared memory, an
//   estimated 5 to 10 microseconds, so a block walks 30 s of speech (1,500 frames of 20 ms) in
//   about 10 ms. Of 128 threads, at 128 registers each, an H100 holds 528 such blocks, more than a
//   batch has utterances.
// In the log domain only the utterances for which the linear domain did not do: kept.counts is -1.
template <Semiring Mass, typename Scalar>
__global__ void __launch_bounds__(kMaxSearchThreads, 1)
    prefix_search_kernel(EmissionBatch<Scalar> batch, int64_t blank, FrameTokens tokens,
                         int64_t width, unsigned char* trees, int64_t tree_bytes,
                         KeptPrefixes kept) {
  SharedArena arena = SharedArena::of_block();
  const PrefixSearchShared shared(arena, width, tokens.capacity, static_cast<int>(blockDim.x));
  for (int64_t n = blockIdx.x; n < batch.num_utterances; n += gridDim.x) {
    if (std::is_same_v<Mass, LogMass> && kept.counts[n] >= 0) continue;
    const Emissions<Scalar> log_probs = batch.utterance(n);
    DevicePrefixTree tree(trees + blockIdx.x * tree_bytes, log_probs.num_frames, width);
    BlockPrefixSearch<Mass> search(shared, tree, static_cast<int>(width), static_cast<int>(blank));
    if (search.run(log_probs, tokens, n * batch.max_frames)) {
      search.write(n, batch.max_frames, kept);
    } else if (threadIdx.x == 0) {
      kept.counts[n] = -1;
    }
    __syncthreads();
  }
}

inline int search_threads(int64_t width) { return threads_for(width, kMaxSearchThreads); }

inline size_t search_shared_bytes(int64_t width, int64_t token_capacity) {
  return shared_bytes_of<PrefixSearchShared>(width, token_capacity, search_threads(width));
}

// Of each utterance that is searched at the same time.
inline size_t search_workspace_bytes(int64_t max_frames, int64_t width) {
  return (DevicePrefixTree::bytes(max_frames, width) + 255) / 256 * 256;
}

// `workspace` has room for `num_resident` utterances.
template <typename Scalar>
void prefix_search(const EmissionBatch<Scalar>& batch, int64_t blank, const FrameTokens& tokens,
                   int64_t width, void* workspace, int64_t num_resident, const KeptPrefixes& kept,
                   cudaStream_t stream) {
  const int64_t blocks = batch.num_utterances < num_resident ? batch.num_utterances : num_resident;
  const LaunchShape shape{blocks, search_threads(width),
                          search_shared_bytes(width, tokens.capacity)};
  const auto run = [&](auto kernel) {
    launch("prefix_search", kernel, shape, stream, batch, blank, tokens, width,
           static_cast<unsigned char*>(workspace),
           static_cast<int64_t>(search_workspace_bytes(batch.max_frames, width)), kept);
  };
  run(prefix_search_kernel<LinearMass, Scalar>);
  run(prefix_search_kernel<LogMass, Scalar>);
}

}  // namespace egl::cuda
