// The operators as torch finds them, and their CPU halves.
#include <torch/csrc/stable/library.h>

#include "csrc/ops/ops.h"
#include "csrc/ops/schemas.h"

STABLE_TORCH_LIBRARY(egl_fast, library) { egl::ops::define_operators(library); }

STABLE_TORCH_LIBRARY_IMPL(egl_fast, CPU, library) {
  library.impl("ctc_beam_search", TORCH_BOX(&egl::ops::ctc_beam_search));
  library.impl("ctc_occupancy", TORCH_BOX(&egl::ops::ctc_occupancy));
  library.impl("ctc_sparse_occupancy", TORCH_BOX(&egl::ops::ctc_sparse_occupancy));
  library.impl("ctc_logits_cotangents", TORCH_BOX(&egl::ops::ctc_logits_cotangents));
  library.impl("ctc_nbest_cotangents", TORCH_BOX(&egl::ops::ctc_nbest_cotangents));
  library.impl("ctc_hypothesis_normals", TORCH_BOX(&egl::ops::ctc_hypothesis_normals));
  library.impl("recurrent_forward", TORCH_BOX(&egl::ops::recurrent_forward));
  library.impl("recurrent_backward", TORCH_BOX(&egl::ops::recurrent_backward));
}
