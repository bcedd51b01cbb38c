"""Comparison of the engine's squared norms with those of a backward pass as in training."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from egl_fast.compute.memory import is_out_of_memory
from egl_fast.errors import ModelError, one_line
from egl_fast.gradients.calls import graph_of
from egl_fast.gradients.double import in_double
from egl_fast.gradients.model_call import ModelInputs, call_model
from egl_fast.gradients.running import constants, running
from egl_fast.gradients.tape import Tape
from egl_fast.recurrent import without_cudnn
from egl_fast.warning import warn

_log = logging.getLogger("egl_fast")

#: Largest relative disagreement with plain autograd that counts as rounding: far more than that of
#: float32, far less than from any relevant use of a parameter that was missed.
_DISAGREEMENT = 1e-2

#: Plain autograd gets a multiple of the cotangent (exact in any binary format), to check that the
#: backward pass is linear, as combinations of cotangents require. It is not if a function clips or
#: normalizes gradients, or drops negative ones.
_MULTIPLE = -4.0

#: A parameter is in use if changing it changes some logit by this fraction of the largest one. If
#: it is not in use, the bits stay the same, except with GPU kernels that sum in varying order.
_MOVED = 1e-5


def check_against_autograd(
    model: nn.Module, tape: Tape, cotangents: Tensor, norms: dict[str, Tensor]
) -> None:
    """Compare one cotangent's squared norms with those of a plain backward pass.

    The last utterance's first cotangent: in a shared pass, others must not leak into it. Cotangents
    are [N, R, T, C], R at least 1; norms, by qualified name, [N, R].

    Raises:
        ModelError: they differ by more than rounding, or the logits depend on a parameter in a way
            that autograd does not see.
    """
    cotangent = torch.zeros_like(cotangents[:, 0])
    cotangent[-1] = _MULTIPLE * cotangents[-1, 0]
    got = {
        name: _MULTIPLE**2 * float(norms[name][-1, 0]) if name in norms else 0.0
        for name in tape.parameters
    }
    found = plain_sq_norms(model, tape.inputs, cotangent, tape.parameters)
    wrong = _disagreement(got, found, tape.parameters)
    if wrong is not None and cotangent.dtype == torch.float32:
        # On long noise, a float32 recurrence itself is off by several percent.
        in_double = plain_sq_norms_in_double(model, tape.inputs, cotangent, tape.parameters)
        wrong = _disagreement(got, in_double, tape.parameters)
        found = in_double if wrong is not None else found
    if wrong is not None:
        raise ModelError(
            f"the engine and plain autograd disagree on {wrong}: squared gradient norms "
            f"{got[wrong]:.6g} and {found[wrong] or 0.0:.6g}; this model does something that "
            "egl-fast does not support (global hooks, hooks on parameters, weights that train() or "
            "eval() changes, state that changes from call to call, such as a random generator of "
            "its own, or a function whose backward pass sets, clips or normalizes gradients?), or "
            "a norm rule you added is wrong"
        )
    _refuse_cut_off(model, tape, [name for name, value in found.items() if value is None])


def _disagreement(
    got: Mapping[str, float],
    expected: Mapping[str, float | None],
    parameters: Mapping[str, nn.Parameter],
) -> str | None:
    """The first parameter whose squared norms differ by more than rounding."""
    total = sum(value or 0.0 for value in expected.values())
    for name, value in expected.items():
        value = value or 0.0
        if not abs(got[name] - value) <= _DISAGREEMENT * (value + 1e-3 * total):
            return name
    return None


def _refuse_cut_off(model: nn.Module, tape: Tape, names: list[str]) -> None:
    """Distinguish parameters that the forward pass does not use from those hidden from autograd.

    Neither has a path in the graph. But if the forward pass does not use a parameter, the logits
    stay the same for any value; if it is detached, quantized or read under ``no_grad``, they
    change. So if there are such parameters, one more pass without a graph runs with other values
    for all of them.
    """
    if not names:
        return
    try:
        logits = _logits(model, tape.inputs, {})

        def moves(some: list[str]) -> bool:
            other = {name: tape.parameters[name] for name in some}
            gap = (_logits(model, tape.inputs, other) - logits).abs()
            return bool((gap > _MOVED * logits.abs().amax()).any())

        cut_off = moves(names)
        suspects = names
        while cut_off and len(suspects) > 1:  # bisect
            first = suspects[: len(suspects) // 2]
            suspects = first if moves(first) else suspects[len(first) :]
    except Exception as error:  # the model may refuse other values
        warn(
            f"no gradient reaches {', '.join(names)}, and it is not known whether the logits "
            f"depend on them ({one_line(error)})"
        )
        return
    if cut_off:
        raise ModelError(
            f"the logits depend on {suspects[0]}, but in evaluation mode no gradient reaches it: "
            "something between them is detached, quantized, rounded, or runs under no_grad; let "
            "the gradient through, or, if this is intended, set requires_grad_(False) or choose "
            "other parameters by params"
        )
    _log.info("this model's logits do not depend on %s", ", ".join(names))


def _logits(model: nn.Module, inputs: ModelInputs, other: dict[str, nn.Parameter]) -> Tensor:
    """[N, T, C] float64, NaN and infinity at 0, with other values for some parameters."""
    with running(model), torch.inference_mode(False), torch.no_grad(), _other_values(other):
        logits: Tensor = call_model(model, constants(inputs))[0]
        return logits.double().nan_to_num(0.0, 0.0, 0.0)


@contextmanager
def _other_values(parameters: dict[str, nn.Parameter]) -> Iterator[None]:
    before = {name: parameter.data for name, parameter in parameters.items()}
    try:
        for name, value in before.items():
            # Not random, as models may draw; not constant, which a norm layer would remove.
            size = value.abs().double().square().mean().sqrt() if value.numel() else 1.0
            wave = torch.arange(1, value.numel() + 1, device=value.device).double().sin()
            moved = wave.reshape(value.shape) * (size if size > 0 else 1.0)
            # A new tensor, so that graphs with the old one are not affected.
            parameters[name].data = (value + moved).to(value.dtype)
        yield
    finally:
        for name, value in before.items():
            parameters[name].data = value


def plain_sq_norms(
    model: nn.Module, inputs: ModelInputs, cotangent: Tensor, names: Iterable[str]
) -> dict[str, float | None]:
    """||J^T cotangent||^2 of the named parameters, by a backward pass through the unmodified model.

    None if autograd sees no path. Gradients go into ``.grad``, where some functions (reversible or
    checkpointed layers) write them themselves, which ``torch.autograd.grad`` would miss.

    Raises:
        ModelError: the backward pass fails, so the model could not be trained either.
    """
    own = dict(model.named_parameters())
    with (
        running(model),
        without_cudnn(),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        logits = call_model(model, constants(inputs))[0]
        if any(parameter._post_accumulate_grad_hooks for parameter in own.values()):
            # These run when .grad is set, and may contain an optimizer's step.
            gradients = torch.autograd.grad(
                logits, [own[name] for name in names], cotangent, allow_unused=True
            )
            return dict(zip(names, map(_sq_norm, gradients), strict=True))
        _, leaves = graph_of(logits)
        with kept_gradients([*own.values(), *leaves.values()]):
            try:
                logits.backward(cotangent)
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise
                raise ModelError(
                    f"a plain backward pass through this model fails ({one_line(error)}), so it "
                    "can be neither trained nor scored as it is"
                ) from error
            return {name: _sq_norm(own[name].grad) for name in names}


@contextmanager
def kept_gradients(leaves: Iterable[Tensor]) -> Iterator[None]:
    """Save and clear ``.grad`` while the context is open."""
    kept = {id(leaf): (leaf, leaf.grad) for leaf in leaves}
    try:
        for leaf, _ in kept.values():
            leaf.grad = None
        yield
    finally:
        for leaf, gradient in kept.values():
            leaf.grad = gradient


def _sq_norm(gradient: Tensor | None) -> float | None:
    if gradient is None:
        return None
    dense = gradient.to_dense() if gradient.layout != torch.strided else gradient
    return float(dense.to(torch.complex128).abs().square().sum())


def plain_sq_norms_in_double(
    model: nn.Module, inputs: ModelInputs, cotangent: Tensor, names: Iterable[str]
) -> dict[str, float | None]:
    """``plain_sq_norms`` of a float64 copy of the model; of the model itself if that fails."""
    if any(parameter._backward_hooks for parameter in model.parameters()):
        return plain_sq_norms(model, inputs, cotangent, names)  # copies have no hooks

    def wide(x: Tensor) -> Tensor:
        return x.detach().double() if x.is_floating_point() else x

    try:
        return plain_sq_norms(
            in_double(model), tree_map_only(Tensor, wide, inputs), cotangent.double(), names
        )
    except Exception:  # the model may refuse to be copied, or to compute in float64
        return plain_sq_norms(model, inputs, cotangent, names)
