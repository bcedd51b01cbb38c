"""Which layer of a model a parameter belongs to, as coarse as a reader wants it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import nn

#: Only the parameters' names distinguish the layers of a ``torch.nn.RNNBase``.
_RECURRENT = re.compile(r"_(l\d+)(?:_reverse)?$")


def layers_of(model: nn.Module, names: Iterable[str]) -> dict[str, list[str]]:
    """Layers with the qualified names of their parameters, in order.

    A layer is the module that has the parameter. If a list of modules is around it, such as the
    blocks of an encoder, it is the item of that list; of nested lists, the outermost below the
    model itself. Layers of a recurrent module have its name and ``l0``, ``l1``, ...

    Example:
        >>> model = nn.Sequential(nn.GRU(2, 3, num_layers=2), nn.Linear(3, 2))
        >>> found = layers_of(model, dict(model.named_parameters()))
        >>> {layer: len(names) for layer, names in found.items()}
        {'0.l0': 4, '0.l1': 4, '1': 2}
    """
    modules = dict(model.named_modules())
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(_layer_of(modules, name), []).append(name)
    return found


def owner_of(name: str) -> str:
    """The path of the module that has a parameter, even if the parameter is parametrized."""
    path, _, _ = f".{name}".rpartition(".")
    return path.partition(".parametrizations.")[0].removeprefix(".")


def _layer_of(modules: Mapping[str, nn.Module], name: str) -> str:
    owner = owner_of(name)
    parts = owner.split(".")
    for end, part in enumerate(parts[1:], start=2):
        if part.isdigit():
            return ".".join(parts[:end])
    own = _RECURRENT.search(name)
    if own is not None and isinstance(modules[owner], nn.RNNBase):
        return ".".join(part for part in (owner, own[1]) if part)
    return owner or name
