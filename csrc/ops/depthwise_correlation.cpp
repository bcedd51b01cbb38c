#include "csrc/core/depthwise_correlation.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>

#include "csrc/ops/check.h"
#include "csrc/ops/operators.h"

namespace egl::ops {

Tensor depthwise_correlation(const Tensor& x, const Tensor& taps, int64_t before, int64_t after,
                             int64_t stride, int64_t dilation) {
  check_tensor(x, "x", {ScalarType::Float, ScalarType::Double}, {{"N"}, {"C"}, {"T"}});
  check_tensor(taps, "taps", {x.scalar_type()}, {{"M"}, {"C", x.size(1)}, {"K"}});
  check(x.size(0) == 1 || taps.size(0) == 1, "taps: expected M=1 or N=1, got M=", taps.size(0),
        " and N=", x.size(0));
  check(taps.size(2) >= 1, "taps: expected K of at least 1, got 0");
  check(stride >= 1, "stride: expected at least 1, got ", stride);
  check(dilation >= 1, "dilation: expected at least 1, got ", dilation);
  // No tensor is as large, and sums of these do not overflow.
  constexpr int64_t kMost = int64_t{1} << 48;
  for (const int64_t padding : {before, after}) {
    check(padding >= -kMost && padding <= kMost, "padding: expected at most 2^48, got ", padding);
  }
  check(dilation <= kMost / taps.size(2), "dilation: expected at most 2^48 frames between the ",
        "first and the last tap, got ", dilation, " for K=", taps.size(2));
  const int64_t beyond = x.size(2) + before + after - dilation * (taps.size(2) - 1) - 1;
  check(beyond >= 0, "x: expected at least ", -beyond, " more frames, or more padding");
  const int64_t num_outputs = 1 + beyond / stride;
  const int64_t num_rows = x.size(0) == 1 ? taps.size(0) : x.size(0);
  const Tensor dense_x = torch::stable::contiguous(x);
  const Tensor dense_taps = torch::stable::contiguous(taps);
  Tensor y = torch::stable::new_empty(x, {num_rows, x.size(1), num_outputs});
  if (y.numel() == 0) return y;
  visit_floating(x, [&]<typename Scalar>(Scalar) {
    const DepthwiseCorrelation<Scalar> problem = {.x = dense_x.const_data_ptr<Scalar>(),
                                                  .taps = dense_taps.const_data_ptr<Scalar>(),
                                                  .y = y.mutable_data_ptr<Scalar>(),
                                                  .num_x_rows = x.size(0),
                                                  .num_tap_rows = taps.size(0),
                                                  .num_channels = x.size(1),
                                                  .num_frames = x.size(2),
                                                  .num_taps = taps.size(2),
                                                  .num_outputs = num_outputs,
                                                  .before = before,
                                                  // With one output, the stride does not matter.
                                                  .stride = num_outputs == 1 ? 1 : stride,
                                                  .dilation = dilation};
    const Isa isa = isa_in_use();
    // Smaller pieces are not worth a thread.
    constexpr int64_t kLeastProducts = 1 << 16;
    const int64_t grain =
        std::max<int64_t>(1, kLeastProducts / (num_rows * num_outputs * taps.size(2)));
    torch::stable::parallel_for(0, x.size(1), grain, [&](int64_t first, int64_t last) {
      egl::depthwise_correlation(problem, first, last, isa);
    });
  });
  return y;
}

}  // namespace egl::ops
