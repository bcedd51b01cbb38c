"""All ways to score recordings: the methods, the plain loop, and one inference pass for entropy.

Everyone starts from the same features and model. The methods include forward pass, search,
occupancy, backward pass, norms and record, as ``egl-fast score`` does it. The plain loop gets the
labelings for nothing: it runs the model once with torch's own layers and takes one
``torch.autograd.grad`` of torch's CTC loss a labeling.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from torch import nn

from egl_fast.benchmarking.recordings import Recording
from egl_fast.benchmarking.stopwatch import StopwatchEngine
from egl_fast.benchmarking.turns import Work
from egl_fast.compute.precision import matmul_precision
from egl_fast.data.loading import pad_features
from egl_fast.errors import ModelError
from egl_fast.records import ScoreRecord
from egl_fast.recurrent import without_cudnn
from egl_fast.reference import TOLERANCE
from egl_fast.reference.gradients import looped_sq_norms
from egl_fast.scorer import Scorer
from egl_fast.scoring.options import ScoringOptions
from egl_fast.scoring.schedule.batches import BatchLimit, BatchScoring
from egl_fast.scoring.task import ScoringTask

EXACT = "exact"
LOOP, LOOP_FORWARD = "plain loop", "forward pass of the loop"
INFERENCE, READING = "one inference pass", "audio to features"

#: What a user would write after ``--method`` -> the same in Python.
METHODS: dict[str, dict[str, Any]] = {
    EXACT: {"method": "exact"},
    "lowrank --tolerance 0.01": {"method": "lowrank", "tolerance": 0.01},
    "lowrank --tolerance 0.1": {"method": "lowrank", "tolerance": 0.1},
    "probe --probes 4": {"method": "probe", "probes": 4},
}

#: Labelings whose norms are compared with the plain loop's in float64.
COMPARED = 2

#: An estimate is wrong if it is further from the exact score than this many standard errors: its
#: own, or, as three or four probes hardly know their spread, the one that is expected of it.
STANDARD_ERRORS = 6.0

#: Relative standard error expected of four probes without a tolerance (docs/estimators.md).
PROBES_ERROR = 0.3


class Contenders:
    """Recordings of like length, and everyone who works on them.

    Args:
        scorer: of the model.
        engine: of the same model.
        recordings: the plain loop works on the first of them. The methods do, too, unless a GPU
            wants more at a time; one inference pass takes all.
        k: hypotheses.
        looped: of them, those that the plain loop goes through.

    Attributes:
        record: what ``score_exactly`` made of the first recording.
        estimates: what the other methods made of it when they warmed up.
        sq_norms: what the plain loop found.
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
        self.estimates: dict[str, ScoreRecord] = {}
        self.sq_norms: list[float] = []
        self._num_looped = looped

    @property
    def labelings(self) -> list[tuple[int, ...]]:
        """Of the first recording, once it is scored."""
        assert self.record is not None
        return [hypothesis.labels for hypothesis in self.record.hypotheses]

    @property
    def looped(self) -> list[tuple[int, ...]]:
        """Those of them that the plain loop goes through."""
        return self.labelings[: self._num_looped]

    def read(self) -> None:
        """Audio to features."""
        for recording in self.scored:
            recording.load()

    def infer(self) -> None:
        """One inference pass over all recordings, the price of entropy."""
        device = self.scorer.device
        spectrograms = [recording.spectrogram.features for recording in self.recordings]
        features, lengths = pad_features(spectrograms, device=device)
        with torch.inference_mode(), matmul_precision(self.scorer.precision, device):
            self.scorer.model.eval()(features.to(self.engine.dtype), lengths)

    def forward(self) -> None:
        """The plain loop's forward pass."""
        with matmul_precision(self.scorer.precision, self.scorer.device), without_cudnn():
            self.scorer.model.eval()(*self._inputs(self.engine.dtype))

    def loop(self) -> None:
        """The plain loop over ``looped``."""
        with matmul_precision(self.scorer.precision, self.scorer.device):
            self.sq_norms = self._loop_through(
                self.scorer.model.eval(), self.engine.dtype, self.looped
            )

    def score(self, **options: Any) -> list[ScoreRecord]:
        """Everything from features to records."""
        self.engine.restart()
        return BatchScoring(
            ScoringTask(self.engine, self.scorer.classes, ScoringOptions(k=self.k, **options)),
            [recording.spectrogram for recording in self.scored],
            [recording.id for recording in self.scored],
            limit=BatchLimit(self.scorer.default_batch_seconds),
        ).records()

    def score_exactly(self) -> None:
        """``score`` with every hypothesis's norm."""
        self.record = self.score(per_hypothesis=True)[0]

    def warm_up(self) -> None:
        """Score by every method, and nothing else."""
        for name, options in METHODS.items():
            if name != EXACT:
                self.estimates[name] = self.score(**options)[0]
        self.score_exactly()

    def largest_error(self) -> float:
        """Relative, of the exact squared norms against those that the loop found last."""
        return self._error_against(self.sq_norms)

    def loop_over_all(self, looped_seconds: float, forward_seconds: float) -> float:
        """The plain loop's time for all labelings: one forward pass, equal backward passes.

        Args:
            looped_seconds: of ``loop``.
            forward_seconds: of ``forward``.
        """
        backward = looped_seconds - forward_seconds
        return forward_seconds + backward * len(self.labelings) / len(self.looped)

    def work(self) -> dict[str, Work]:
        """Everyone's, by name."""
        return {
            LOOP: self.loop,
            LOOP_FORWARD: self.forward,
            **{name: partial(self.score, **options) for name, options in METHODS.items()},
            INFERENCE: self.infer,
            READING: self.read,
        }

    def audio_seconds(self, name: str) -> float:
        """What one of them works on."""
        if name in (LOOP, LOOP_FORWARD):
            return self.first.seconds
        worked_on = self.recordings if name == INFERENCE else self.scored
        return sum(recording.seconds for recording in worked_on)

    def check(self) -> float:
        """Compare exact norms with a loop in float64, and estimates with exact scores: once warm.

        Returns:
            The largest relative error of an exact norm. In reduced precision it is not judged.

        Raises:
            ModelError: something is wrong.
        """
        assert self.record is not None
        double = copy.deepcopy(self.scorer.model).double().eval()
        error = self._error_against(
            self._loop_through(double, torch.float64, self.labelings[:COMPARED])
        )
        if self.scorer.precision == "float32" and not error <= TOLERANCE["float32"]:
            raise ModelError(
                f"recording {self.first.id!r}: squared norms are off by {error:.1e} of plain "
                "autograd's, so nothing is timed; `egl-fast check` says where"
            )
        exact = self.record.egl
        for name, estimate in self.estimates.items():
            expected = METHODS[name].get("tolerance", PROBES_ERROR) * exact
            allowed = STANDARD_ERRORS * max(estimate.egl_stderr, expected)
            if not abs(estimate.egl - exact) <= allowed:
                raise ModelError(
                    f"recording {self.first.id!r}: --method {name} gives {estimate.egl:.4g} for an "
                    f"egl of {exact:.4g}, so nothing is timed; please report it"
                )
        return error

    def _error_against(self, sq_norms: list[float]) -> float:
        """Largest relative error of the first exact squared norms."""
        assert self.record is not None
        own = [hypothesis.sq_grad_norm for hypothesis in self.record.hypotheses[: len(sq_norms)]]
        pairs = zip(own, sq_norms, strict=True)
        return max(abs(a - b) / b if b > 0 else abs(a) for a, b in pairs)

    def _inputs(self, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        features, lengths = self.first.inputs
        return features.to(self.scorer.device, dtype), lengths

    def _loop_through(
        self, model: nn.Module, dtype: torch.dtype, labelings: list[tuple[int, ...]]
    ) -> list[float]:
        with without_cudnn():
            found = looped_sq_norms(
                model,
                self._inputs(dtype),
                labelings,
                parameters=dict(model.named_parameters()),
                blank=self.scorer.classes.blank,
            )
        return [sum(norms.values()) for norms in found]
