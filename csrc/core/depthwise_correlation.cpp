#include "csrc/core/depthwise_correlation.h"

#include <algorithm>
#include <vector>

#include "csrc/core/depthwise_kernel.h"

namespace egl {
namespace {

// Some channels, one after the other, in the same scratch memory.
template <typename Scalar>
class Run {
 public:
  Run(const DepthwiseCorrelation<Scalar>& problem, Isa isa)
      : problem_(problem),
        kernel_(depthwise_kernel<Scalar>(isa)),
        num_vectors_((problem.num_outputs + kernel_.vector_size - 1) / kernel_.vector_size) {
    // Outputs next to each other read frames `stride` apart: every stride-th frame forms a phase.
    const int64_t last_tap = (problem.num_taps - 1) * problem.dilation;
    phase_size_ = last_tap / problem.stride + num_vectors_ * kernel_.vector_size;
    line_.resize(problem.stride * phase_size_);
    offsets_.resize(problem.num_taps);
    for (int64_t k = 0; k < problem.num_taps; ++k) {
      const int64_t frame = k * problem.dilation;
      offsets_[k] = frame % problem.stride * phase_size_ + frame / problem.stride;
    }
    y_.resize((problem.num_x_rows == 1 ? problem.num_tap_rows : 1) * num_vectors_ *
              kernel_.vector_size);
  }

  void channel(int64_t c) {
    for (int64_t n = 0; n < problem_.num_x_rows; ++n) {
      read_line(problem_.x + (n * problem_.num_channels + c) * problem_.num_frames);
      kernel_.correlate({.line = line_.data(),
                         .offsets = offsets_.data(),
                         .num_taps = problem_.num_taps,
                         .taps = problem_.taps + c * problem_.num_taps,
                         .taps_stride = problem_.num_channels * problem_.num_taps,
                         .y = y_.data(),
                         .num_rows = problem_.num_tap_rows,
                         .num_vectors = num_vectors_});
      for (int64_t m = 0; m < problem_.num_tap_rows; ++m) {
        std::copy_n(y_.data() + m * num_vectors_ * kernel_.vector_size, problem_.num_outputs,
                    problem_.y + ((n + m) * problem_.num_channels + c) * problem_.num_outputs);
      }
    }
  }

 private:
  // The padded frames, by phases. What lies beyond the last that counts reaches no output.
  void read_line(const Scalar* x) {
    const int64_t stride = problem_.stride;
    for (int64_t phase = 0; phase < stride; ++phase) {
      // Place i of the phase is frame i stride + skipped.
      const int64_t skipped = phase - problem_.before;
      const int64_t begin = skipped >= 0 ? 0 : (-skipped + stride - 1) / stride;
      const int64_t end = std::max<int64_t>(0, problem_.num_frames - skipped + stride - 1) / stride;
      const int64_t first = std::min(begin, phase_size_);
      const int64_t last = std::clamp(end, first, phase_size_);
      Scalar* line = line_.data() + phase * phase_size_;
      std::fill(line, line + first, Scalar{0});
      // Without frames to copy, their place may be outside x, which may be null.
      if (stride == 1 && first < last) {
        std::copy(x + first + skipped, x + last + skipped, line + first);
      } else {
        for (int64_t i = first; i < last; ++i) line[i] = x[i * stride + skipped];
      }
      std::fill(line + last, line + phase_size_, Scalar{0});
    }
  }

  const DepthwiseCorrelation<Scalar>& problem_;
  const DepthwiseKernel<Scalar>& kernel_;
  const int64_t num_vectors_;
  int64_t phase_size_;
  std::vector<Scalar> line_;
  std::vector<int64_t> offsets_;
  std::vector<Scalar> y_;
};

}  // namespace

template <typename Scalar>
void depthwise_correlation(const DepthwiseCorrelation<Scalar>& problem, int64_t first, int64_t last,
                           Isa isa) {
  Run<Scalar> run(problem, isa);
  for (int64_t c = first; c < last; ++c) run.channel(c);
}

template void depthwise_correlation<float>(const DepthwiseCorrelation<float>&, int64_t, int64_t,
                                           Isa);
template void depthwise_correlation<double>(const DepthwiseCorrelation<double>&, int64_t, int64_t,
                                            Isa);

}  // namespace egl
