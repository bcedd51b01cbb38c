"""Units of a simulation, done on a Ray cluster; the folder of units is shared by all nodes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray as _ray
from ray.exceptions import RayError, RayTaskError

from egl_fast.errors import ClusterError, EglError, one_line
from egl_fast.ray.workers import Request

if TYPE_CHECKING:
    from egl_fast.evaluation.simulation.store import UnitStore
    from egl_fast.evaluation.simulation.units import Unit

ray: Any = _ray  # half of it has no types

#: How often Ray begins a unit again whose process or node was lost; it resumes where it was.
_RETRIES = 5


class UnitsOnRay:
    """Does units one at a time, as ``simulation.execution.execute`` does; from any thread.

    Args:
        request: of the processes that do them.

    Attributes:
        count: how many units there is room for.

    Raises:
        ValueError: no node of the cluster has what one takes.
    """

    def __init__(self, request: Request) -> None:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self.count, self._threads = request.on(nodes)
        self._task = ray.remote(_do).options(
            num_cpus=self._threads, num_gpus=request.gpus_per_worker, max_retries=_RETRIES
        )
        self._device = "cuda" if request.gpus_per_worker else "cpu"

    def __call__(
        self, unit: Unit, store: UnitStore, note: Callable[[str], None], *, device: Any = None
    ) -> None:
        """Do a unit, whose lock is held here. Raises ``EglError``."""
        note("on the cluster")
        place = (os.getcwd(), store.root, self._device, self._threads)
        try:
            ray.get(self._task.remote(unit, *place))
        except RayTaskError as error:
            if isinstance(error.cause, EglError):
                raise error.cause from None
            raise
        except RayError as error:
            raise ClusterError(
                f"{unit.title} ({unit.name}): its process was lost {_RETRIES + 1} times "
                f"({one_line(error)[:200]})"
            ) from None


def _do(unit: Unit, folder: str, root: Path, device: str, threads: int) -> None:
    os.chdir(folder)
    import torch

    from egl_fast.compute.memory import keep_freed_memory
    from egl_fast.evaluation.simulation.execution import execute
    from egl_fast.evaluation.simulation.store import UnitStore

    keep_freed_memory()
    torch.set_num_threads(threads)
    execute(unit, UnitStore(root), lambda words: None, device=torch.device(device))
