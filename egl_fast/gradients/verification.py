"""The engine's squared norms against plain autograd's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from egl_fast.errors import ModelError
from egl_fast.gradients.tape import Tape, plain_sq_norms, plain_sq_norms_in_double

#: Largest relative disagreement with plain autograd that the engine takes for rounding, once a
#: model: far above float32's, far below any forgotten use of a parameter worth speaking of.
_DISAGREEMENT = 1e-2


def check_against_autograd(
    model: nn.Module, tape: Tape, cotangents: Tensor, norms: dict[str, Tensor]
) -> None:
    """Compare one cotangent's squared norms with those of a plain backward pass.

    The last utterance's first cotangent: in a shared pass, others must not leak into it.

    Args:
        model: the tape's.
        tape: of the run that the norms are of.
        cotangents: [N, R, T, C], R at least 1.
        norms: by qualified name, [N, R].

    Raises:
        ModelError: they differ by more than rounding explains.
    """
    cotangent = torch.zeros_like(cotangents[:, 0])
    cotangent[-1] = cotangents[-1, 0]
    got = {name: float(norms[name][-1, 0]) if name in norms else 0.0 for name in tape.parameters}
    expected = plain_sq_norms(model, tape.inputs, cotangent, list(tape.parameters))
    wrong = _disagreement(got, expected)
    if wrong is not None and cotangent.dtype == torch.float32:
        # Long noise makes a float32 recurrence itself err by per cents.
        expected = plain_sq_norms_in_double(model, tape.inputs, cotangent, list(got))
        wrong = _disagreement(got, expected)
    if wrong is not None:
        raise ModelError(
            f"the engine and plain autograd disagree on {wrong}: squared gradient norms "
            f"{got[wrong]:.6g} and {expected[wrong]:.6g}; this model does something egl-fast "
            "does not know (global hooks, hooks on parameters, state that changes from call to "
            "call?)"
        )


def _disagreement(got: dict[str, float], expected: dict[str, float]) -> str | None:
    """The first parameter whose squared norms differ by more than rounding explains."""
    total = sum(expected.values())
    for name, value in expected.items():
        if not abs(got[name] - value) <= _DISAGREEMENT * (value + 1e-3 * total):
            return name
    return None
