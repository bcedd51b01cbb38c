"""All tensors of a call are in one place."""

from __future__ import annotations

from torch import Tensor


def check_placement(name: str, like: Tensor, /, **others: Tensor | None) -> None:
    """Make sure that arguments are on one device.

    The operators themselves are chosen by their arguments' devices, so that a wrong one may lead to
    an operator that knows nothing of the right one.

    Args:
        name: of the argument that decides.
        like: that argument.
        **others: further arguments by name; None where one is not given.

    Raises:
        ValueError: one is elsewhere.
    """
    for other, tensor in others.items():
        if tensor is not None and tensor.device != like.device:
            raise ValueError(
                f"{other}: expected on {like.device} as {name}, got on {tensor.device}"
            )
