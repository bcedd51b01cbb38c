// Normal numbers that belong to a hypothesis: hashes, not the output of a generator with state, so
// that order, batching, threads and resumption do not change them.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

#include "csrc/core/host_device.h"

namespace egl {

// One step of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators",
// 2014): increment, then mix.
EGL_HOST_DEVICE inline uint64_t split_mix(uint64_t value) {
  value += 0x9e3779b97f4a7c15U;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9U;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebU;
  return value ^ (value >> 31);
}

// `key` comes from the run's seed and the utterance.
EGL_HOST_DEVICE inline uint64_t hash_labeling(uint64_t key, const int64_t* labels,
                                              int64_t num_labels) {
  uint64_t hash = split_mix(key);
  for (int64_t u = 0; u < num_labels; ++u) {
    hash = split_mix(hash ^ static_cast<uint64_t>(labels[u]));
  }
  return split_mix(hash ^ static_cast<uint64_t>(num_labels));
}

// In (0, 1), never at its ends: the upper 52 bits and a half, which a double holds.
EGL_HOST_DEVICE inline double uniform_of(uint64_t bits) {
  return (static_cast<double>(bits >> 12) + 0.5) * 0x1p-52;
}

// A hypothesis's number in (0, 1) that breaks ties.
EGL_HOST_DEVICE inline double tie_break_of(uint64_t hash) { return uniform_of(split_mix(~hash)); }

// Number `index` of a hypothesis, standard normal (Box and Muller, 1958).
EGL_HOST_DEVICE inline double normal_of(uint64_t hash, int64_t index) {
  const auto place = 2 * static_cast<uint64_t>(index);
  const double radius = std::sqrt(-2.0 * std::log(uniform_of(split_mix(hash + place))));
  const double angle = 2.0 * std::numbers::pi * uniform_of(split_mix(hash + place + 1));
  return radius * std::cos(angle);
}

}  // namespace egl
