"""A float64 copy of a model, to compare with."""

from __future__ import annotations

import copy

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from egl_fast.errors import ModelError, one_line


def in_double(model: nn.Module) -> nn.Module:
    """A copy in float64, with the modes of its modules.

    Raises:
        ModelError: the model cannot be copied.
    """
    # Tensors with a graph, which torch refuses to copy: what the last call computed, such as the
    # weight of the older kinds of weight norm. The next call computes them again.
    computed = {
        id(x): x.detach().clone()
        for x in tree_leaves([vars(module) for module in model.modules()])
        if isinstance(x, Tensor) and not x.is_leaf
    }
    try:
        return copy.deepcopy(model, computed).double()
    except Exception as error:
        raise ModelError(
            f"the model cannot be copied to compute in float64 ({type(error).__name__}: "
            f"{one_line(error)}); give its modules only attributes that copy.deepcopy takes"
        ) from None
