// The emulator: schedules, and launches that fail.
#include <array>
#include <cstdint>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "csrc/cuda/launch.h"
#include "csrc/test/emulated.h"

namespace {

using egl::emulator::Order;
using egl::emulator::run;
using egl::test::OptionsScope;

constexpr unsigned kAll = egl::cuda::kFullWarp;

// What `launch` throws, as text; empty if it throws nothing.
template <typename Launch>
std::string error_of(const Launch& launch) {
  try {
    launch();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

// The order in which the threads of a grid run if none has to wait.
std::vector<unsigned> running_order(Order order, uint64_t seed, unsigned blocks, unsigned threads) {
  const OptionsScope scope;
  egl::emulator::options().schedule = {order, seed};
  std::vector<unsigned> ran(size_t{blocks} * threads);
  unsigned count = 0;
  run({blocks, threads},
      [&] { ran[atomicAdd(&count, 1)] = blockIdx.x * blockDim.x + threadIdx.x; });
  return ran;
}

__global__ void count_runs(int* runs) { atomicAdd(runs, 1); }

}  // namespace

EGL_TEST(schedules_differ_in_who_runs_first) {
  const auto forward = running_order(Order::kForward, 0, 3, 40);
  const auto reversed = running_order(Order::kReversed, 0, 3, 40);
  const auto shuffled = running_order(Order::kShuffled, 1, 3, 40);
  for (unsigned i = 0; i < 120; ++i) {
    CHECK(forward[i] == i);
    CHECK(reversed[i] == 119 - i);
  }
  CHECK(shuffled != forward && shuffled != reversed);
  CHECK(shuffled == running_order(Order::kShuffled, 1, 3, 40));
  CHECK(shuffled != running_order(Order::kShuffled, 2, 3, 40));
  CHECK((std::set<unsigned>(shuffled.begin(), shuffled.end()).size() == 120));
}

EGL_TEST(schedules_hold_after_a_barrier_too) {
  for (const auto& [order, first] : {std::pair{Order::kForward, 0U}, {Order::kReversed, 63U}}) {
    const OptionsScope scope;
    egl::emulator::options().schedule = {order, 0};
    unsigned came = 0;
    std::array<unsigned, 64> place{};
    run({1, 64}, [&] {
      __syncthreads();
      place[threadIdx.x] = atomicAdd(&came, 1);
    });
    CHECK(place[first] == 0);
  }
}

EGL_TEST(what_a_thread_throws_ends_the_launch) {
  for (int repeat = 0; repeat < 3; ++repeat) {
    int reached_block = 0;
    const std::string error = error_of([&] {
      run({1, 50}, [&] {
        if (threadIdx.x == 20) throw std::runtime_error("of thread 20");
        __syncthreads();
        ++reached_block;
      });
    });
    CHECK(error == "of thread 20");
    CHECK(reached_block == 0);
    // Fibers that waited are gone; others can be had.
    std::array<int, 50> out{};
    run({1, 50}, [&] { out[threadIdx.x] = __syncthreads_or(1); });
    for (const int any : out) CHECK(any == 1);
  }
}

EGL_TEST(what_was_written_before_an_error_can_be_read) {
  std::array<int, 50> out{};
  const std::string error = error_of([&] {
    run({2, 50}, [&] {
      out[threadIdx.x] = 1;
      if (threadIdx.x == 20) throw std::runtime_error("stop");
      __syncthreads();
    });
  });
  CHECK(error == "stop");
  out.fill(2);
  run({1, 50}, [&] { ++out[threadIdx.x]; });
  for (const int value : out) CHECK(value == 3);
}

EGL_TEST(a_barrier_that_some_do_not_reach_is_divergent) {
  const std::string ended = error_of([] {
    run({2, 64}, [] {
      if (threadIdx.x < 60) __syncthreads();
    });
  });
  CHECK(contains(ended, "divergent barrier in block"));
  CHECK(contains(ended, "60 threads, the first is 0, are at __syncthreads at "));
  CHECK(contains(ended, "test_emulator_launches.cpp:"));
  CHECK(contains(ended, "4 threads, the first is 60, are at the end of the kernel"));

  const std::string two_places = error_of([] {
    run({1, 64}, [] {
      if (threadIdx.x % 2 == 0) {
        __syncthreads();
      } else {
        __syncthreads();
      }
    });
  });
  CHECK(contains(two_places, "divergent barrier in block 0: 32 threads"));
  const std::string one_line =
      error_of([] { run({1, 64}, [] { threadIdx.x < 32 ? __syncthreads() : __syncthreads(); }); });
  CHECK(contains(one_line, "divergent barrier"));
}

EGL_TEST(threads_that_wait_for_each_other_in_different_places_are_deadlocked) {
  const std::string error = error_of([] {
    run({1, 64}, [] {
      if (threadIdx.x == 3) {
        __syncwarp();
      } else {
        __syncthreads();
      }
    });
  });
  CHECK(contains(error, "deadlock in block 0:"));
  CHECK(contains(error, "63 threads, the first is 0, are at __syncthreads at "));
  CHECK(contains(error, "1 threads, the first is 3, are at __syncwarp of mask ffffffff at "));

  const std::string left = error_of([] {
    run({1, 32}, [] {
      if (threadIdx.x != 5) __shfl_sync(kAll, 1, 0);
    });
  });
  CHECK(contains(left, "deadlock in block 0: 31 threads, the first is 0, are at __shfl_sync of"));

  const std::string masks = error_of(
      [] { run({1, 32}, [] { __ballot_sync(threadIdx.x < 16 ? kAll : 0xffff0000U, 1); }); });
  CHECK(contains(masks, "deadlock"));
  CHECK(contains(masks, "a vote of mask ffffffff"));
}

EGL_TEST(wrong_masks) {
  const std::string not_in_it = error_of([] { run({1, 32}, [] { __syncwarp(0x0000ffffU); }); });
  CHECK(contains(not_in_it, "wrong mask: thread "));
  CHECK(
      contains(not_in_it, " is not one of those that it waits for in __syncwarp of mask ffff at "));

  const std::string source = error_of([] {
    run({1, 32}, [] {
      if (threadIdx.x < 16) __shfl_sync(0xffffU, 1, 16);
    });
  });
  CHECK(
      contains(source, " reads lane 16, which does not take part in __shfl_sync of mask ffff at "));
  const std::string up = error_of([] {
    run({1, 32}, [] {
      if (threadIdx.x >= 16) __shfl_up_sync(0xffff0000U, 1, 1);
    });
  });
  CHECK(contains(up, "thread 16 reads lane 15"));
  const std::string crossed = error_of([] {
    run({1, 32}, [] {
      if (threadIdx.x < 16) __shfl_xor_sync(0xffffU, 1, 16);
    });
  });
  CHECK(contains(crossed, "which does not take part in __shfl_xor_sync"));

  const std::string beyond = error_of([] { run({1, 40}, [] { __syncwarp(); }); });
  CHECK(contains(beyond, "wrong mask: the block ends before lane 8 of __syncwarp"));
}

EGL_TEST(a_wrong_mask_is_known_before_anyone_waits_forever) {
  // On a GPU this could hang, or not.
  const std::string error = error_of([] {
    run({1, 64}, [] {
      if (threadIdx.x == 40) __any_sync(1U, 1);
      __syncthreads();
    });
  });
  CHECK(contains(error, "wrong mask: thread 40"));
}

EGL_TEST(launches_have_limits) {
  const auto nothing = [] {};
  CHECK(error_of([&] { run({1, 1025}, nothing); }) ==
        "a block of 1025 threads; 1 to 1024 are possible");
  CHECK(error_of([&] { run({1, 0}, nothing); }) == "a block of 0 threads; 1 to 1024 are possible");
  CHECK(error_of([&] { run({0, 1}, nothing); }) == "a grid without blocks");
  CHECK(error_of([&] { run({1, 1, 227 * 1024}, nothing); }).empty());
  CHECK(error_of([&] { run({1, 1, 227 * 1024 + 1}, nothing); }) ==
        "a block of 232449 bytes of dynamic shared memory; 232448 are possible");
  CHECK(error_of([&] { run({1, 1024}, nothing); }).empty());
}

EGL_TEST(launch_says_which_kernel_wants_too_much_shared_memory) {
  const OptionsScope scope;
  egl::emulator::options().shared_memory_limit = 99 * 1024;
  int runs = 0;
  CHECK(error_of([&] {
          egl::cuda::launch("count_runs", count_runs, {1, 32, 101377}, nullptr, &runs);
        }) == "count_runs needs 101377 bytes of shared memory per block; this device has 101376");
  egl::cuda::launch("count_runs", count_runs, {0, 32, 16}, nullptr, &runs);
  CHECK(runs == 0);
}

EGL_TEST(a_launch_within_a_launch_is_refused) {
  std::string inner;
  run({1, 1}, [&] { inner = error_of([] { run({1, 1}, [] {}); }); });
  CHECK(inner == "a launch within a launch");
  CHECK(error_of([] { run({1, 2}, [] { run({1, 1}, [] {}); }); }) == "a launch within a launch");
}

EGL_TEST(host_threads_launch_one_after_another) {
  std::array<int, 4> sums{};
  std::vector<std::thread> hosts;
  for (int& sum : sums) {
    hosts.emplace_back([&sum] {
      for (int repeat = 0; repeat < 10; ++repeat) {
        run({3, 64}, [&] {
          __syncthreads();
          atomicAdd(&sum, 1);
        });
      }
    });
  }
  for (std::thread& host : hosts) host.join();
  for (const int sum : sums) CHECK(sum == 10 * 3 * 64);
}

EGL_TEST(launches_see_what_earlier_ones_wrote) {
  std::vector<int> values(128);
  for (int repeat = 0; repeat < 4; ++repeat) {
    run({2, 64}, [&] {
      // Each launch spreads blocks over other items.
      values[(blockIdx.x * 64 + threadIdx.x + static_cast<unsigned>(repeat) * 37) % 128] += 1;
    });
  }
  for (const int value : values) CHECK(value == 4);
}

EGL_EMULATED_TEST_MAIN()
