"""Squared gradient norms of K cotangents as other libraries compute them.

Every function takes a network that maps [N, T, F] to logits [N, T, C], one utterance x [1, T, F],
and its cotangents [K, T, C], and returns a function without arguments that computes the squared
norms [K], which is what is timed. The loss of row k is <logits, cotangent_k>, whose gradient is
that of the CTC loss.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vjp, vmap

SqNorms = Callable[[], Tensor]
Prepare = Callable[[nn.Module, Tensor, Tensor], SqNorms]


@dataclass(frozen=True)
class Library:
    """One way to get the norms.

    Attributes:
        name: of library and method.
        prepare: see the module's docstring.
        module: what must be importable.
        install: how to get it.
    """

    name: str
    prepare: Prepare
    module: str = "torch"
    install: str = ""

    @property
    def installed(self) -> bool:
        """Whether it can be used here."""
        return importlib.util.find_spec(self.module) is not None


def autograd_loop(net: nn.Module, x: Tensor, cotangents: Tensor) -> SqNorms:
    """One torch.autograd.grad per cotangent over one forward pass: what users write."""
    parameters = list(net.parameters())

    def sq_norms() -> Tensor:
        logits = net(x)[0]
        norms = []
        for cotangent in cotangents:
            gradients = torch.autograd.grad(logits, parameters, cotangent, retain_graph=True)
            norms.append(_sq_norm(gradients))
        return torch.stack(norms)

    return sq_norms


def func_one_forward(net: nn.Module, x: Tensor, cotangents: Tensor) -> SqNorms:
    """torch.func: vmap of the vector-Jacobian product over one forward pass."""
    parameters = _detached(net)

    def sq_norms() -> Tensor:
        _, pull = vjp(lambda p: functional_call(net, p, (x,))[0], parameters)
        return vmap(lambda c: _sq_norm(pull(c)[0].values()))(cotangents)

    return sq_norms


def func_repeated_input(net: nn.Module, x: Tensor, cotangents: Tensor) -> SqNorms:
    """torch.func: per-sample gradients, the utterance repeated for every hypothesis."""
    parameters = _detached(net)

    def loss(p: dict[str, Tensor], one: Tensor, cotangent: Tensor) -> Tensor:
        return (functional_call(net, p, (one.unsqueeze(0),))[0] * cotangent).sum()

    def sq_norm(one: Tensor, cotangent: Tensor) -> Tensor:
        return _sq_norm(grad(loss)(parameters, one, cotangent).values())

    def sq_norms() -> Tensor:
        return vmap(sq_norm)(_repeated(x, cotangents), cotangents)

    return sq_norms


def torchjd(net: nn.Module, x: Tensor, cotangents: Tensor, *, repeated: bool) -> SqNorms:
    """TorchJD's Gramian engine: the diagonal."""
    from torchjd.autogram import Engine

    net = copy.deepcopy(net)
    engine = Engine(net, batch_dim=0 if repeated else None)

    def sq_norms() -> Tensor:
        logits = net(_repeated(x, cotangents) if repeated else x)
        return engine.compute_gramian((logits * cotangents).sum((1, 2))).diagonal()

    return sq_norms


def opacus_gradients(net: nn.Module, x: Tensor, cotangents: Tensor) -> SqNorms:
    """Opacus's GradSampleModule, the utterance repeated: gradients, then their norms."""
    from opacus import GradSampleModule

    module = GradSampleModule(_with_opacus_layers(net), loss_reduction="sum")

    def sq_norms() -> Tensor:
        _backward(module, x, cotangents)
        gradients = [parameter.grad_sample.flatten(1) for parameter in module.parameters()]
        return torch.stack([gradient.square().sum(1) for gradient in gradients]).sum(0)

    return sq_norms


def opacus_ghost(net: nn.Module, x: Tensor, cotangents: Tensor) -> SqNorms:
    """Opacus's ghost clipping, the utterance repeated: norms without gradients where it can."""
    from opacus.grad_sample import GradSampleModuleFastGradientClipping

    module = GradSampleModuleFastGradientClipping(
        _with_opacus_layers(net), loss_reduction="sum", max_grad_norm=1.0, use_ghost_clipping=True
    )

    def sq_norms() -> Tensor:
        _backward(module, x, cotangents)
        return module.get_norm_sample().square()

    return sq_norms


def backpack_norms(net: nn.Module, x: Tensor, cotangents: Tensor) -> SqNorms:
    """BackPACK's BatchL2Grad, the utterance repeated."""
    from backpack import backpack, extend
    from backpack.extensions import BatchL2Grad

    module = extend(copy.deepcopy(net))

    def sq_norms() -> Tensor:
        with backpack(BatchL2Grad()):
            _backward(module, x, cotangents)
        return torch.stack([parameter.batch_l2 for parameter in module.parameters()]).sum(0)

    return sq_norms


_OPACUS = "pip install --no-deps opacus opt-einsum  (and scipy)"
_TORCHJD = "pip install --no-deps torchjd"
_BACKPACK = "pip install --no-deps backpack-for-pytorch einops unfoldNd"

LOOP = Library("autograd, one hypothesis at a time", autograd_loop)

LIBRARIES = (
    LOOP,
    Library("torch.func, vmap over one forward pass", func_one_forward),
    Library("torch.func, vmap over a repeated input", func_repeated_input),
    Library("TorchJD, one forward pass", partial(torchjd, repeated=False), "torchjd", _TORCHJD),
    Library("TorchJD, repeated input", partial(torchjd, repeated=True), "torchjd", _TORCHJD),
    Library("Opacus, gradients", opacus_gradients, "opacus", _OPACUS),
    Library("Opacus, ghost norms", opacus_ghost, "opacus", _OPACUS),
    Library("BackPACK, BatchL2Grad", backpack_norms, "backpack", _BACKPACK),
)


def _detached(net: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in net.named_parameters()}


def _repeated(x: Tensor, cotangents: Tensor) -> Tensor:
    return x.expand(len(cotangents), *x.shape[1:])


def _backward(module: nn.Module, x: Tensor, cotangents: Tensor) -> None:
    module.zero_grad()
    (module(_repeated(x, cotangents)) * cotangents).sum().backward()


def _sq_norm(gradients: Any) -> Tensor:
    return torch.stack([gradient.square().sum() for gradient in gradients]).sum()


def _with_opacus_layers(net: nn.Module) -> nn.Module:
    """A copy with Opacus's own GRUs and the same weights: it has no rule for torch's."""
    from opacus.layers import DPGRU

    net = copy.deepcopy(net)
    for parent in list(net.modules()):
        for name, module in list(parent.named_children()):
            if type(module) is nn.GRU:
                own = DPGRU(
                    module.input_size,
                    module.hidden_size,
                    num_layers=module.num_layers,
                    batch_first=module.batch_first,
                    bidirectional=module.bidirectional,
                )
                own.load_state_dict(module.state_dict())
                setattr(parent, name, own)
    return net.train()  # Opacus keeps activations in training mode only
