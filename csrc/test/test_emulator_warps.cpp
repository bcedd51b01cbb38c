// The emulator: what lanes of a warp do together, against what the programming guide says.
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "csrc/cuda/launch.h"
#include "csrc/cuda/shared_memory.h"
#include "csrc/test/emulated.h"

namespace {

using egl::cuda::SharedArena;
using egl::emulator::run;

constexpr unsigned kAll = egl::cuda::kFullWarp;

// What each lane of one warp gets from `shuffle`, called with its lane.
template <typename T, typename Shuffle>
std::array<T, 32> of_warp(const Shuffle& shuffle) {
  std::array<T, 32> got{};
  run({{1}, {32}}, [&] { got[threadIdx.x] = shuffle(static_cast<int>(threadIdx.x)); });
  return got;
}

// The four shuffles at a width, against what the programming guide says of each lane.
template <typename T>
void check_shuffles(int width, T (*value_of)(int lane)) {
  for (const int by : {0, 1, 3, 16, 31}) {
    const auto direct =
        of_warp<T>([&](int lane) { return __shfl_sync(kAll, value_of(lane), by, width); });
    const auto up = of_warp<T>([&](int lane) {
      return __shfl_up_sync(kAll, value_of(lane), static_cast<unsigned>(by), width);
    });
    const auto down = of_warp<T>([&](int lane) {
      return __shfl_down_sync(kAll, value_of(lane), static_cast<unsigned>(by), width);
    });
    const auto crossed =
        of_warp<T>([&](int lane) { return __shfl_xor_sync(kAll, value_of(lane), by, width); });
    for (int lane = 0; lane < 32; ++lane) {
      const int first = lane / width * width;
      const int end = first + width;
      CHECK(direct[lane] == value_of(first + by % width));
      CHECK(up[lane] == value_of(lane - by >= first ? lane - by : lane));
      CHECK(down[lane] == value_of(lane + by < end ? lane + by : lane));
      CHECK(crossed[lane] == value_of((lane ^ by) < end ? lane ^ by : lane));
    }
  }
}

}  // namespace

EGL_TEST(parts_of_a_warp_meet_without_the_rest) {
  SharedArena arena;
  arena.take<int>(64);
  std::vector<int> out(64);
  run({{1}, {64}, arena.bytes()}, [&] {
    int* shared = SharedArena::of_block().take<int>(64);
    const unsigned lane = threadIdx.x % 32;
    // Lanes 0 to 9, the odd ones of the others, and the even ones, which end.
    const bool low = lane < 10;
    if (!low && lane % 2 == 0) return;
    const unsigned mask = low ? 0x3ffU : 0xaaaaa800U;
    const int step = low ? 1 : 2;
    const unsigned first = threadIdx.x - lane + (low ? 0 : 11);
    for (int round = 0; round < 3; ++round) {
      shared[threadIdx.x] = static_cast<int>(lane) + round;
      __syncwarp(mask);
      const unsigned next = threadIdx.x + static_cast<unsigned>(step);
      const bool is_last = low ? lane == 9 : lane == 31;
      out[threadIdx.x] = shared[is_last ? first : next];
      __syncwarp(mask);
    }
  });
  for (int i = 0; i < 64; ++i) {
    const int lane = i % 32;
    if (lane >= 10 && lane % 2 == 0) {
      CHECK(out[i] == 0);
    } else {
      CHECK(out[i] == 2 + (lane == 9 ? 0 : lane < 9 ? lane + 1 : lane == 31 ? 11 : lane + 2));
    }
  }
}

EGL_TEST(shuffles_of_every_width_and_type) {
  for (const int width : {1, 2, 4, 8, 16, 32}) {
    check_shuffles<int>(width, [](int lane) { return 5 - lane; });
    check_shuffles<unsigned>(width,
                             [](int lane) { return 0xfffffff0U + static_cast<unsigned>(lane); });
    check_shuffles<float>(width, [](int lane) { return 0.1F * static_cast<float>(lane); });
    check_shuffles<double>(width, [](int lane) { return 0.1 * lane - 1e300; });
    check_shuffles<long long>(width, [](int lane) { return (1LL << 40) - lane; });
    check_shuffles<unsigned long long>(
        width, [](int lane) { return ~0ULL - static_cast<unsigned>(lane); });
  }
}

EGL_TEST(shuffles_carry_every_bit) {
  const auto nan = of_warp<double>([](int lane) {
    return __shfl_xor_sync(kAll, lane == 0 ? std::numeric_limits<double>::quiet_NaN() : -0.0, 1);
  });
  CHECK(std::isnan(nan[1]));
  CHECK(nan[0] == 0 && std::signbit(nan[0]));
}

EGL_TEST(parts_of_a_warp_shuffle_and_vote) {
  constexpr unsigned kMask = 0xff00U;
  std::array<int, 32> sum{};
  std::array<unsigned, 32> ballot{};
  run({{1}, {32}}, [&] {
    const unsigned lane = threadIdx.x;
    if ((kMask >> lane & 1U) == 0) return;
    int total = static_cast<int>(lane);
    for (int by = 4; by > 0; by /= 2) total += __shfl_xor_sync(kMask, total, by, 8);
    sum[lane] = total;
    ballot[lane] = __ballot_sync(kMask, lane % 3 == 0);
  });
  for (unsigned lane = 8; lane < 16; ++lane) {
    CHECK(sum[lane] == 8 + 9 + 10 + 11 + 12 + 13 + 14 + 15);
    CHECK(ballot[lane] == ((1U << 9) | (1U << 12) | (1U << 15)));
  }
}

EGL_TEST(votes) {
  for (const unsigned bits : {0U, 1U, 0x80000000U, 0xf0f0f0f0U, ~0U}) {
    std::array<unsigned, 32> ballot{};
    std::array<int, 32> any{};
    std::array<int, 32> all{};
    run({{1}, {32}}, [&] {
      const int predicate = (bits >> threadIdx.x & 1U) != 0 ? -2 : 0;
      ballot[threadIdx.x] = __ballot_sync(kAll, predicate);
      any[threadIdx.x] = __any_sync(kAll, predicate);
      all[threadIdx.x] = __all_sync(kAll, predicate);
    });
    for (unsigned lane = 0; lane < 32; ++lane) {
      CHECK(ballot[lane] == bits);
      CHECK((any[lane] != 0) == (bits != 0));
      CHECK((all[lane] != 0) == (bits == ~0U));
    }
  }
}

EGL_TEST(a_block_may_end_within_a_warp) {
  std::array<unsigned, 40> ballot{};
  run({{1}, {40}}, [&] {
    const unsigned mask = threadIdx.x < 32 ? kAll : 0xffU;
    ballot[threadIdx.x] = __ballot_sync(mask, 1);
  });
  for (unsigned i = 0; i < 40; ++i) CHECK(ballot[i] == (i < 32 ? kAll : 0xffU));
}

EGL_EMULATED_TEST_MAIN()
