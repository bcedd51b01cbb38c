"""The processes that train one model together, each on its share of every batch.

Whatever a single process sums over a batch (losses, gradients, the statistics of normalization) is
summed over all shares. So the result is that of one process with the whole batch, up to rounding.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from egl_fast.errors import EglError, ProcessError, one_line
from egl_fast.files.run_settings import changed_settings
from egl_fast.model import SequenceBatchNorm

Item = TypeVar("Item")


@dataclass(frozen=True)
class Processes:
    """This process among those that train together; by default, it is alone.

    All of them must call the same methods in the same order. Those of ``Processes()`` return their
    arguments.

    Attributes:
        rank: number of this process; process 0 writes files and messages.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and messages."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """This process's share of a list that all have; neighbors go to different processes."""
        return items[self.rank :: self.count]

    def joined(self, found: Iterable[Item]) -> list[Item]:
        """The results of all processes for their shares of a list, in the order of that list.

        An ``EglError`` in one of them is raised in all.
        """
        with self.together():
            own = list(found)
        if self.count == 1:
            return own
        shares = self._gathered(own)
        whole: list[Any] = [None] * sum(map(len, shares))
        for rank, part in enumerate(shares):
            whole[rank :: self.count] = part
        return whole

    def from_first(self, make: Callable[[], Item]) -> Item:
        """What ``make`` returns in the first process; its ``EglError`` is raised in all."""
        made: list[Any] = [None]
        with self.together():
            if self.is_first:
                made = [make()]
        if self.count > 1:
            dist.broadcast_object_list(made, src=0)
        result: Item = made[0]
        return result

    @contextmanager
    def together(self) -> Iterator[None]:
        """Leave the context together: an ``EglError`` in one process is raised in all."""
        own = None
        try:
            yield
        except EglError as error:
            if self.count == 1:
                raise
            own = error
        if self.any(own is not None):
            raise next(error for error in self._gathered(own) if error is not None)

    def any(self, condition: bool) -> bool:
        """Whether a condition holds in at least one process."""
        return self.sums(condition)[0] > 0

    def sums(self, *numbers: float) -> list[float]:
        """Sums over all processes, in float64."""
        if self.count == 1:
            return list(numbers)
        total = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(total)
        found: list[float] = total.tolist()
        return found

    def refuse_differences(self, settings: Mapping[str, Any]) -> None:
        """Raise ``ProcessError`` in all processes unless they have the same settings."""
        first = self.from_first(lambda: settings)
        with self.together():
            found = changed_settings(first, settings)
            if found:
                raise ProcessError(
                    f"process {self.rank} of {self.count} differs from the first, which has "
                    f"{'; '.join(found)}; start all with the same command and files"
                )

    def replicated(self, model: nn.Module) -> nn.Module:
        """The model to call in training, so that gradients are means over processes.

        Every process gets the weights of the first.
        """
        if self.count == 1:
            return model
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch 2.13 renames the argument
            # Running statistics are the same everywhere; see ``joint_statistics``.
            return nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)

    @contextmanager
    def joint_statistics(self, model: nn.Module, *, counts: bool) -> Iterator[None]:
        """Let norms take their statistics over the batches of all processes.

        Args:
            model: whose ``SequenceBatchNorm`` run in training mode.
            counts: whether this process's batch is part of them.
        """
        if self.count == 1:
            yield
            return
        norms = [m for m in model.modules() if isinstance(m, SequenceBatchNorm)]
        for norm in norms:
            norm.__dict__["total"] = lambda sums: _total(sums if counts else 0 * sums)
        try:
            yield
        finally:
            for norm in norms:
                del norm.__dict__["total"]

    def _gathered(self, own: Item) -> list[Item]:
        everyones: list[Any] = [None] * self.count
        dist.all_gather_object(everyones, own)
        return everyones


class _Total(torch.autograd.Function):
    """Sums over all processes. Each depends on every summand, so gradients are summed, too."""

    @staticmethod
    def forward(ctx: Any, summand: Tensor) -> Tensor:
        total = summand.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Tensor:
        total = cotangents[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def _total(summand: Tensor) -> Tensor:
    total: Tensor = _Total.apply(summand)  # type: ignore[no-untyped-call]
    return total


def counted() -> Processes:
    """The processes that a launcher such as ``torchrun`` started, by the variables it sets."""
    try:
        count, rank = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
    except (KeyError, ValueError):
        return Processes()
    return Processes(rank, count) if 0 <= rank < count and count > 1 else Processes()


@contextmanager
def connected() -> Iterator[None]:
    """Connect the processes of ``counted`` while the context is open.

    Raises ``ProcessError`` if they cannot be reached, or one of them is lost.
    """
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        yield
        # Not after an error: the others may be gone.
        dist.destroy_process_group()
    except (RuntimeError, ValueError) as error:
        if not _is_about_processes(error):
            raise
        raise ProcessError(
            "lost the connection to the other processes: one was killed, or says why it ended; the "
            f"same command with --resume continues from the last saved state ({_brief(error)})"
        ) from None


def _is_about_processes(error: Exception) -> bool:
    # gloo raises plain errors that name its source file; torch raises one if a variable is missing.
    words = ("gloo", "rendezvous", "MASTER_ADDR", "MASTER_PORT")
    return isinstance(error, dist.DistError) or any(word in str(error) for word in words)


def _brief(error: Exception) -> str:
    """The first sentence, without the addresses and source locations that gloo adds."""
    return re.sub(r"\[[^]]*\](:\d+)?[.:]? ?", "", one_line(error)).split(". ")[0][:150]
