"""Everything that scores the same recordings: the methods, and the baselines beside them.

All start from the same features and model. The methods include forward pass, search, occupancy,
backward pass, norms, and record, as ``egl-fast score`` does it. The baselines are the plain loop
and one inference pass, which is what entropy costs. The plain loop is given the labelings: it runs
the model once with torch's own layers and calls ``torch.autograd.grad`` on torch's CTC loss once
per labeling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from egl_fast.benchmarking.interleaved import Work, one_round
from egl_fast.benchmarking.recordings import Recording
from egl_fast.benchmarking.stopwatch import StopwatchEngine
from egl_fast.compute.precision import matmul_precision
from egl_fast.errors import ModelError
from egl_fast.gradients.counted import counted_parameters
from egl_fast.gradients.double import in_double
from egl_fast.gradients.model_call import ModelInputs, call_model
from egl_fast.records import ScoreRecord
from egl_fast.recurrent import without_cudnn
from egl_fast.reference import TOLERANCE
from egl_fast.reference.gradients import looped_sq_norms
from egl_fast.scorer import Scorer
from egl_fast.scoring.options import ScoringOptions
from egl_fast.scoring.schedule.batches import BatchLimit, BatchScoring
from egl_fast.scoring.task import ScoringTask

EXACT, NO_GRADIENTS = "exact", "none"
LOOP, INFERENCE, READING = "plain loop", "one inference pass", "audio to features"
_LOOP_FORWARD = "forward pass of the loop"

#: What a user writes after ``--method`` -> the same in Python.
METHODS: dict[str, dict[str, Any]] = {
    EXACT: {"method": "exact"},
    "lowrank --tolerance 0.01": {"method": "lowrank", "tolerance": 0.01},
    "lowrank --tolerance 0.1": {"method": "lowrank", "tolerance": 0.1},
    "probe --probes 4": {"method": "probe", "probes": 4},
}

#: Labelings whose norms are compared with the plain loop's in float64.
COMPARED = 2

#: An estimate is wrong if it is off by more than this many standard errors: its own or, because a
#: few probes say little about their own spread, those expected of it.
STANDARD_ERRORS = 6.0

#: Relative standard error expected of four probes without a tolerance (docs/estimators.md).
PROBES_ERROR = 0.3


@dataclass(frozen=True)
class Run:
    """One run of a method or baseline.

    Attributes:
        seconds: of the whole run; those of the plain loop are extrapolated to all labelings.
        forward: seconds of these in a method's forward passes.
        backward: seconds of these in its backward passes, norms included.
        rows: number of cotangents pulled back.
    """

    seconds: float
    forward: float = 0.0
    backward: float = 0.0
    rows: int = 0


class Comparison:
    """Recordings of similar length, and everything that scores them.

    Args:
        scorer: of the model.
        engine: of the same model.
        recordings: the plain loop scores the first one, and so do the methods on a CPU. On a GPU
            the methods score all of them together, as the inference pass does everywhere.
        k: hypotheses.
        looped: number of these that the plain loop goes through.

    Attributes:
        record: the exact score of the first recording, with every hypothesis's norm.
        sq_norms: the plain loop's results in its last run.
    """

    def __init__(
        self,
        scorer: Scorer,
        engine: StopwatchEngine,
        recordings: list[Recording],
        *,
        k: int,
        looped: int,
    ) -> None:
        self.scorer, self.engine, self.recordings, self.k = scorer, engine, recordings, k
        self.first = recordings[0]
        self.scored = recordings if scorer.device.type == "cuda" else recordings[:1]
        self.record: ScoreRecord | None = None
        self.sq_norms: list[float] = []
        self._estimates: dict[str, ScoreRecord] = {}
        self._num_looped = looped

    @property
    def labelings(self) -> list[tuple[int, ...]]:
        """Labelings of the first recording, once it is scored."""
        assert self.record is not None
        return [hypothesis.labels for hypothesis in self.record.hypotheses]

    @property
    def looped(self) -> list[tuple[int, ...]]:
        """The labelings that the plain loop goes through."""
        return self.labelings[: self._num_looped]

    def score(self, **options: Any) -> list[ScoreRecord]:
        """Records of the recordings, starting from their features."""
        return BatchScoring(
            ScoringTask(self.engine, self.scorer.recognizer, ScoringOptions(k=self.k, **options)),
            [recording.prepared for recording in self.scored],
            [recording.id for recording in self.scored],
            limit=BatchLimit(self.scorer.default_batch_seconds),
        ).records()

    def score_exactly(self) -> None:
        """Score the first recording exactly, and set ``record``."""
        self.record = self.score(per_hypothesis=True)[0]

    def warm_up(self) -> None:
        """Score by every method, and run nothing else."""
        for name, options in METHODS.items():
            if name != EXACT:
                self._estimates[name] = self.score(**options)[0]
        self.score_exactly()

    def works(self) -> dict[str, Work]:
        """Everything that is timed; the plain loop needs ``record``."""
        return {
            LOOP: self._loop,
            _LOOP_FORWARD: self._forward,
            **{name: partial(self.score, **options) for name, options in METHODS.items()},
            NO_GRADIENTS: partial(self.score, method=NO_GRADIENTS),
            INFERENCE: self._infer,
            READING: lambda: [recording.load() for recording in self.scored],
        }

    def run_round(self, works: Mapping[str, Work] | None = None) -> dict[str, Run]:
        """Run everything once, each method and baseline by its name.

        Args:
            works: what runs, if it is not ``works()``.
        """
        self.engine.restart()
        runs = {}
        for name, seconds in one_round(works or self.works(), self.scorer.device):
            runs[name] = Run(seconds, *self.engine.seconds(), rows=self.engine.rows)
            self.engine.restart()
        forward = runs.pop(_LOOP_FORWARD).seconds
        runs[LOOP] = Run(self.loop_over_all(runs[LOOP].seconds, forward))
        return runs

    def loop_over_all(self, looped_seconds: float, forward_seconds: float) -> float:
        """The plain loop's time for all labelings: one forward pass, equal backward passes."""
        backward = looped_seconds - forward_seconds
        return forward_seconds + backward * len(self.labelings) / len(self.looped)

    def audio_seconds(self, name: str) -> float:
        """Seconds of audio that a method or baseline processes."""
        if name == LOOP:
            return self.first.seconds
        processed = self.recordings if name == INFERENCE else self.scored
        return sum(recording.seconds for recording in processed)

    def check(self) -> float:
        """Compare exact norms with a loop in float64, and estimates with exact scores.

        Needs ``warm_up``.

        Returns:
            The largest relative error of an exact norm. In reduced precision it is not judged.

        Raises:
            ModelError: something is wrong.
        """
        assert self.record is not None
        double = in_double(self.scorer.model).eval()
        error = self._error_against(
            self._loop_through(double, torch.float64, self.labelings[:COMPARED])
        )
        if self.scorer.precision == "float32" and not error <= TOLERANCE["float32"]:
            raise ModelError(
                f"recording {self.first.id!r}: squared norms differ from plain autograd's by "
                f"{error:.1e}, so nothing was timed; `egl-fast check` says where"
            )
        exact = self.record.egl
        assert exact is not None
        for name, estimate in self._estimates.items():
            assert estimate.egl is not None
            assert estimate.egl_stderr is not None
            expected = METHODS[name].get("tolerance", PROBES_ERROR) * exact
            allowed = STANDARD_ERRORS * max(estimate.egl_stderr, expected)
            if not abs(estimate.egl - exact) <= allowed:
                raise ModelError(
                    f"recording {self.first.id!r}: --method {name} gives {estimate.egl:.4g}, but "
                    f"the exact egl is {exact:.4g}, so nothing was timed; please report this"
                )
        return error

    def largest_error(self) -> float:
        """Largest relative error of exact squared norms against the loop's last ones."""
        return self._error_against(self.sq_norms)

    def _error_against(self, sq_norms: list[float]) -> float:
        assert self.record is not None
        hypotheses = self.record.hypotheses[: len(sq_norms)]
        own = [one.sq_grad_norm for one in hypotheses if one.sq_grad_norm is not None]
        pairs = zip(own, sq_norms, strict=True)
        return max(abs(a - b) / b if b > 0 else abs(a) for a, b in pairs)

    def _infer(self) -> None:
        together = [self.recordings]
        if not self.engine.shares_batches:
            together = [[recording] for recording in self.recordings]
        model = self.scorer.model.eval()
        with torch.inference_mode(), matmul_precision(self.scorer.precision, self.scorer.device):
            for recordings in together:
                call_model(model, self.inputs(recordings))

    def _forward(self) -> None:
        with matmul_precision(self.scorer.precision, self.scorer.device), without_cudnn():
            call_model(self.scorer.model.eval(), self.inputs([self.first]))

    def _loop(self) -> None:
        with matmul_precision(self.scorer.precision, self.scorer.device):
            self.sq_norms = self._loop_through(
                self.scorer.model.eval(), self.engine.dtype, self.looped
            )

    def inputs(
        self, recordings: Sequence[Recording], dtype: torch.dtype | None = None
    ) -> ModelInputs:
        """Inputs of one call for these recordings, where the model is; by default in its dtype."""
        return self.scorer.recognizer.inputs(
            [recording.prepared for recording in recordings], dtype=dtype or self.engine.dtype
        )

    def _loop_through(
        self, model: nn.Module, dtype: torch.dtype, labelings: list[tuple[int, ...]]
    ) -> list[float]:
        with without_cudnn():
            found = looped_sq_norms(
                partial(call_model, model),
                (self.inputs([self.first], dtype),),
                labelings,
                parameters=counted_parameters(model, self.engine.params),
                blank=self.scorer.classes.blank,
            )
        return [sum(norms.values()) for norms in found]
