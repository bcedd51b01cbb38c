// Labelings that share their beginnings, in a GPU's memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "csrc/core/host_device.h"
#include "csrc/core/labeling_order.h"
#include "csrc/cuda/platform.h"

namespace egl::cuda {

// As csrc/core/prefix_tree.h, for one utterance and one block. Node 0 is the empty labeling. A
// prefix that enters the beam at frame t in place j becomes node 1 + t * width + j, unless a hash
// table of (parent, label) has a node for it already. So a node's number does not depend on the
// order of threads.
class DevicePrefixTree {
 public:
  static constexpr int kNone = -1;

  using Extension = LabelingExtension;

  // Rounded up, so that slices stay aligned.
  static __host__ __device__ size_t bytes(int64_t num_frames, int64_t width) {
    return static_cast<size_t>(4 * num_nodes(num_frames, width) + table_size(num_frames, width)) *
           sizeof(int32_t);
  }

  __device__ DevicePrefixTree(void* memory, int64_t num_frames, int64_t width)
      : parents_(static_cast<int32_t*>(memory)) {
    const int64_t nodes = num_nodes(num_frames, width);
    labels_ = parents_ + nodes;
    depths_ = labels_ + nodes;
    slots_ = depths_ + nodes;
    table_ = slots_ + nodes;
    table_size_ = table_size(num_frames, width);
  }

  // By the whole block; a barrier has to follow.
  __device__ void clear() {
    for (int64_t i = threadIdx.x; i < table_size_; i += blockDim.x) table_[i] = kNone;
    if (threadIdx.x == 0) {
      parents_[0] = labels_[0] = kNone;
      depths_[0] = 0;
      slots_[0] = 0;
    }
  }

  EGL_HOST_DEVICE int parent(int node) const { return parents_[node]; }
  EGL_HOST_DEVICE int label(int node) const { return labels_[node]; }
  EGL_HOST_DEVICE int depth(int node) const { return depths_[node]; }

  // Where in the beam a node is, or kNone.
  __device__ int slot(int node) const { return slots_[node]; }
  __device__ void set_slot(int node, int slot) { slots_[node] = slot; }

  // The node of `parent` followed by `label`, or kNone. Not while others add.
  __device__ int find(int parent, int label) const {
    for (int64_t i = place_of(parent, label);; i = next(i)) {
      const int node = table_[i];
      if (node == kNone || (parents_[node] == parent && labels_[node] == label)) return node;
    }
  }

  // Others may add other labelings at the same time.
  __device__ void add(int node, int parent, int label) {
    parents_[node] = parent;
    labels_[node] = label;
    depths_[node] = depths_[parent] + 1;
    for (int64_t i = place_of(parent, label);; i = next(i)) {
      if (atomicCAS(&table_[i], kNone, node) == kNone) return;
    }
  }

 private:
  static __host__ __device__ int64_t num_nodes(int64_t num_frames, int64_t width) {
    return (1 + num_frames * width + 1) / 2 * 2;
  }

  // A power of two, at least half of it empty.
  static __host__ __device__ int64_t table_size(int64_t num_frames, int64_t width) {
    int64_t size = 2;
    while (size < 2 * (1 + num_frames * width)) size *= 2;
    return size;
  }

  __device__ int64_t place_of(int parent, int label) const {
    auto hash = static_cast<uint64_t>(parent) * 0x9e3779b97f4a7c15u;
    hash = (hash ^ static_cast<uint64_t>(label)) * 0xd1342543de82ef95u;
    return static_cast<int64_t>(hash >> 32) & (table_size_ - 1);
  }
  __device__ int64_t next(int64_t place) const { return (place + 1) & (table_size_ - 1); }

  int32_t* parents_;
  int32_t* labels_;
  int32_t* depths_;
  int32_t* slots_;
  int32_t* table_;
  int64_t table_size_;
};

}  // namespace egl::cuda
