// The operators as torch finds them, and their CPU halves.
#include <torch/csrc/stable/library.h>

#include "csrc/ops/ops.h"
#include "csrc/ops/schemas.h"
#include "csrc/ops/torch_errors.h"

STABLE_TORCH_LIBRARY(egl_fast, library) { egl::ops::define_operators(library); }

STABLE_TORCH_LIBRARY_IMPL(egl_fast, CPU, library) {
  library.impl("ctc_beam_search",
               TORCH_BOX(&egl::ops::WithTorchErrors<&egl::ops::ctc_beam_search>::call));
  library.impl("ctc_occupancy",
               TORCH_BOX(&egl::ops::WithTorchErrors<&egl::ops::ctc_occupancy>::call));
  library.impl("ctc_logits_cotangents",
               TORCH_BOX(&egl::ops::WithTorchErrors<&egl::ops::ctc_logits_cotangents>::call));
  library.impl("ctc_nbest_cotangents",
               TORCH_BOX(&egl::ops::WithTorchErrors<&egl::ops::ctc_nbest_cotangents>::call));
  library.impl("ctc_hypothesis_normals",
               TORCH_BOX(&egl::ops::WithTorchErrors<&egl::ops::ctc_hypothesis_normals>::call));
  library.impl("recurrent_forward",
               TORCH_BOX(&egl::ops::WithTorchErrors<&egl::ops::recurrent_forward>::call));
  library.impl("recurrent_backward",
               TORCH_BOX(&egl::ops::WithTorchErrors<&egl::ops::recurrent_backward>::call));
}
