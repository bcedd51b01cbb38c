"""The Ray actor that has the model."""

from __future__ import annotations

import os
import platform
import threading
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from egl_fast.data.manifest import Utterance
from egl_fast.errors import EglError, ManifestError
from egl_fast.scoring.options import ScoringOptions
from egl_fast.warning import EglWarning

if TYPE_CHECKING:
    from egl_fast.scorer import Scorer
    from egl_fast.scoring.run.pool import PoolScoring, ReadingLimits
    from egl_fast.scoring.run.scoring import WindowWork, Work


@dataclass(frozen=True)
class ModelPlan:
    """The model of all workers; see ``Scorer``."""

    spec: str
    params: str | None = None
    memory_bytes: int | None = None
    precision: Any = "float32"


@dataclass(frozen=True)
class ScoringPlan:
    """What workers compute; see ``pool_scoring``."""

    options: ScoringOptions
    batch_seconds: float | None = None
    limits: ReadingLimits | None = None
    embeds: bool = False


class Reply(NamedTuple):
    """What a worker found, and what it had to warn of meanwhile."""

    found: Any
    warnings: list[str]


class Worker:
    """Scores windows: decodes one while another is computed, if two are asked of it at a time.

    Args:
        folder: where relative paths start; ignored where it does not exist.
        num_threads: for computing.
        on_gpu: whether it has a GPU, or part of one.
    """

    def __init__(self, folder: str, num_threads: int, on_gpu: bool) -> None:
        self._folder = folder
        self._num_threads = num_threads
        self._device = "cuda" if on_gpu else "cpu"
        # One thread, whoever asks: OpenMP makes a pool of threads for each thread that computes,
        # and with more threads than cores it lets them sleep between operations.
        self._computing = ThreadPoolExecutor(max_workers=1)
        self._choosing = threading.Lock()
        self._scorer: Scorer | None = None
        self._scorings: list[tuple[ScoringPlan, PoolScoring]] = []
        self._warnings: list[str] = []

    def load(self, model: ModelPlan) -> Reply:
        """Load the model; the reply is the memory for gradients, which all workers are to have.

        Raises:
            EglError: it cannot be loaded.
        """
        return self._reply(self._computing.submit(self._load, model).result())

    def _load(self, model: ModelPlan) -> int:
        self._keep_warnings()
        if os.path.isdir(self._folder):
            os.chdir(self._folder)
        import torch

        from egl_fast.compute.devices import usable_device
        from egl_fast.compute.memory import keep_freed_memory
        from egl_fast.scorer import Scorer

        keep_freed_memory()
        torch.set_num_threads(self._num_threads)
        try:
            self._scorer = Scorer.from_pretrained(
                model.spec,
                device=usable_device(self._device),
                params=model.params,
                memory_bytes=model.memory_bytes,
                precision=model.precision,
            )
        except EglError as error:
            raise type(error)(f"{error} (on node {platform.node()})") from None
        return self._scorer.memory_bytes

    def ask(self, plan: ScoringPlan, question: Callable[..., Any], *arguments: Any) -> Reply:
        """See ``Scoring.ask``."""
        scoring = self._scoring(plan)
        return self._reply(self._computing.submit(question, scoring, *arguments).result())

    def do(
        self,
        plan: ScoringPlan,
        work: Work[Any],
        window: Mapping[int, Utterance],
        completed: frozenset[int],
    ) -> Reply:
        """Do work on a window; the reply is all that was found, by position."""
        from egl_fast.scoring.run.scoring import WindowWork

        self._refuse_paths_from_elsewhere(window)
        scoring = self._scoring(plan)  # without waiting for the window that is being computed
        positions = list(window)
        [(_, loaded)] = scoring.loaded(window.values())
        own = {positions[place]: recording for place, recording in loaded.items()}
        here = WindowWork(window, own, completed)
        return self._reply(self._computing.submit(_all_found, work, scoring, here).result())

    def _scoring(self, plan: ScoringPlan) -> PoolScoring:
        from egl_fast.scorer import pool_scoring

        assert self._scorer is not None
        with self._choosing:
            for known, scoring in self._scorings:
                if known == plan:
                    return scoring
            scoring = pool_scoring(
                self._scorer,
                plan.options,
                batch_seconds=plan.batch_seconds,
                limits=plan.limits,
                embeds=plan.embeds,
            )
            self._scorings = [*self._scorings[-1:], (plan, scoring)]
            return scoring

    def _refuse_paths_from_elsewhere(self, window: Mapping[int, Utterance]) -> None:
        for utterance in window.values():
            path = utterance.audio_path
            if utterance.held is None and not path.is_absolute() and os.getcwd() != self._folder:
                raise ManifestError(
                    f"audio {path}: is relative to {self._folder}, a folder that node "
                    f"{platform.node()} lacks; give absolute paths, or share that folder"
                )

    def _keep_warnings(self) -> None:
        def keep(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, EglWarning):
                self._warnings.append(str(message))

        warnings.showwarning = keep
        warnings.simplefilter("always", EglWarning)

    def _reply(self, found: Any) -> Reply:
        said, self._warnings = self._warnings, []
        return Reply(found, said)


def _all_found(work: Work[Any], scoring: PoolScoring, window: WindowWork) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for some in work(scoring, window):
        found |= some
    return found
