// The operators' CUDA halves. Emulated, they are operators of CPU tensors, in a namespace of their
// own: egl_fast_emulated.
#include <torch/csrc/stable/library.h>

#include "csrc/ops/cuda/ops.h"
#include "csrc/ops/torch_errors.h"

#ifdef EGL_EMULATE
#include "csrc/emulator/emulator.h"
#include "csrc/ops/schemas.h"

STABLE_TORCH_LIBRARY(egl_fast_emulated, library) { egl::ops::define_operators(library); }

// For the tests, by ctypes: who runs first in the launches to come (see emulator::Order).
extern "C" __attribute__((visibility("default"))) void egl_emulated_schedule(int order,
                                                                             uint64_t seed) {
  egl::emulator::options().schedule = {static_cast<egl::emulator::Order>(order), seed};
}

STABLE_TORCH_LIBRARY_IMPL(egl_fast_emulated, CPU, library) {
#else
STABLE_TORCH_LIBRARY_IMPL(egl_fast, CUDA, library) {
#endif
  library.impl("ctc_beam_search",
               TORCH_BOX(&egl::ops::WithTorchErrors<&egl::ops::cuda::ctc_beam_search>::call));
  library.impl("ctc_occupancy",
               TORCH_BOX(&egl::ops::WithTorchErrors<&egl::ops::cuda::ctc_occupancy>::call));
  library.impl("ctc_logits_cotangents",
               TORCH_BOX(&egl::ops::WithTorchErrors<&egl::ops::cuda::ctc_logits_cotangents>::call));
  library.impl("ctc_nbest_cotangents",
               TORCH_BOX(&egl::ops::WithTorchErrors<&egl::ops::cuda::ctc_nbest_cotangents>::call));
  library.impl(
      "ctc_hypothesis_normals",
      TORCH_BOX(&egl::ops::WithTorchErrors<&egl::ops::cuda::ctc_hypothesis_normals>::call));
  library.impl("recurrent_forward",
               TORCH_BOX(&egl::ops::WithTorchErrors<&egl::ops::cuda::recurrent_forward>::call));
  library.impl("recurrent_backward",
               TORCH_BOX(&egl::ops::WithTorchErrors<&egl::ops::cuda::recurrent_backward>::call));
  library.impl("row_sq_norms",
               TORCH_BOX(&egl::ops::WithTorchErrors<&egl::ops::cuda::row_sq_norms>::call));
}
