#include "csrc/core/recurrent_backward.h"

#include <algorithm>

#include "csrc/ops/operators.h"
#include "csrc/ops/recurrent_backward_tensors.h"

namespace egl::ops {
namespace {

// Rows are cut into blocks, and each block goes through all frames on one thread: there is no
// barrier per frame, and a block's carry stays in the core's cache. A row's bits do not depend on
// its block, so the number of blocks may depend on that of threads, each of which gets equally
// many.
class Blocks {
 public:
  Blocks(int64_t num_rows, int64_t num_threads) : num_rows_(num_rows) {
    // The product takes four rows at a time, unless that leaves a thread without any.
    tile_ = std::clamp<int64_t>(num_rows / num_threads, 1, kTileRows);
    num_tiles_ = (num_rows + tile_ - 1) / tile_;
    const int64_t rounds = (num_rows + kMaxRows * num_threads - 1) / (kMaxRows * num_threads);
    count_ = std::min(rounds * num_threads, num_tiles_);
  }

  int64_t count() const { return count_; }
  // Block sizes differ by at most one tile.
  int64_t first_row(int64_t block) const {
    return std::min(num_tiles_ * block / count_ * tile_, num_rows_);
  }

 private:
  static constexpr int64_t kTileRows = 4;
  // Measured at 100 rows and H = 256: blocks of 16 to 50 rows cost the same on one thread.
  static constexpr int64_t kMaxRows = 16;

  int64_t num_rows_;
  int64_t tile_;
  int64_t num_tiles_;
  int64_t count_;
};

template <typename Scalar>
void run(const RecurrentBackwardTensors& tensors) {
  const Isa isa = isa_in_use();
  const PackedWeight<Scalar> weight =
      pack_for_backward(tensors.weight_hh().const_data_ptr<Scalar>(),
                        shape_of(tensors.cell()).num_gates, tensors.hidden_size(), isa);
  RecurrentPullback<Scalar> problem = tensors.pullback<Scalar>();
  problem.weight = &weight;
  const Blocks blocks(tensors.num_rows(), torch::stable::get_num_threads());
  torch::stable::parallel_for(0, blocks.count(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      recurrent_backward(problem, blocks.first_row(block), blocks.first_row(block + 1), isa);
    }
  });
}

}  // namespace

RecurrentCotangents recurrent_backward(int64_t cell, const Tensor& cotangents,
                                       const Tensor& coefficients, const Tensor& weight_hh,
                                       bool reverse,
                                       const std::optional<Tensor>& final_cell_cotangents) {
  const RecurrentBackwardTensors tensors(cell, cotangents, coefficients, weight_hh, reverse,
                                         final_cell_cotangents);
  if (tensors.state().numel() > 0) {
    visit_floating(cotangents, [&]<typename Scalar>(Scalar) { run<Scalar>(tensors); });
  }
  return tensors.results();
}

}  // namespace egl::ops
