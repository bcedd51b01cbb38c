// Candidates for the next beam, in 32 bits each, and the set of extensions that are in the beam.
#pragma once

#include <cstdint>

#include "csrc/cuda/platform.h"

namespace egl::cuda {

// A slot that stays, or the extension of one: slot * 2^16 + label + 1.
__device__ __forceinline__ uint32_t staying(int slot) { return static_cast<uint32_t>(slot) << 16; }
__device__ __forceinline__ uint32_t extending(int slot, int label) {
  return (static_cast<uint32_t>(slot) << 16) + static_cast<uint32_t>(label) + 1;
}
__device__ __forceinline__ int slot_of(uint32_t candidate) {
  return static_cast<int>(candidate >> 16);
}
__device__ __forceinline__ int label_of(uint32_t candidate) {
  return static_cast<int>(candidate & 0xffff) - 1;
}
__device__ __forceinline__ bool stays(uint32_t candidate) { return (candidate & 0xffff) == 0; }

// The extensions that are prefixes of the beam themselves: a hash table with linear probing.
struct ExtensionSet {
  uint32_t* places;  // [size], 0 where there is none
  int size;          // a power of two

  // By all threads of the block. A barrier must follow before the first insertion.
  __device__ __forceinline__ void clear() const {
    for (int i = static_cast<int>(threadIdx.x); i < size; i += static_cast<int>(blockDim.x)) {
      places[i] = 0;
    }
  }

  __device__ __forceinline__ void insert(uint32_t extension) const {
    for (int i = place_of(extension);; i = (i + 1) & (size - 1)) {
      if (atomicCAS(&places[i], 0u, extension) == 0u) return;
    }
  }

  // Not while others insert.
  __device__ __forceinline__ bool contains(uint32_t extension) const {
    for (int i = place_of(extension);; i = (i + 1) & (size - 1)) {
      const uint32_t found = places[i];
      if (found == extension) return true;
      if (found == 0) return false;
    }
  }

 private:
  __device__ __forceinline__ int place_of(uint32_t extension) const {
    return static_cast<int>(extension * 0x9e3779b1u >> 8) & (size - 1);
  }
};

}  // namespace egl::cuda
