"""A recording's whole score on real speech: against the plain loop and one inference pass.

Everyone starts from the same features and model, in float32, on the same threads. ``exact``,
``lowrank`` and ``probe`` include forward pass, search, occupancy, backward pass, norms and record.
The plain loop gets the labelings for nothing: it runs the model once with torch's own layers and
takes one ``torch.autograd.grad`` of torch's CTC loss a labeling. Each round is another recording
of about 2 s; all squared norms are compared.
"""

from __future__ import annotations

import copy
import statistics
from functools import partial
from pathlib import Path

import operation_count
import product_rate
import pytest
import speech
import torch
from contest import Contest, Turns
from speech import Clip
from torch import nn

from egl_fast import Scorer, ops
from egl_fast.estimation.spanning import SPAN
from egl_fast.gradients.engine import GradientEngine
from egl_fast.records import ScoreRecord
from egl_fast.reference.gradients import looped_sq_norms
from egl_fast.scoring.options import ScoringOptions
from egl_fast.scoring.pipeline import score_tape

LOOP, INFERENCE, FORWARD = "plain loop", "one inference pass", "forward pass of the loop"

ESTIMATES = {
    "lowrank, 1 %": {"method": "lowrank", "tolerance": 0.01},
    "lowrank, 10 %": {"method": "lowrank", "tolerance": 0.1},
    "probe, 4": {"method": "probe", "probes": 4},
}

#: Of float64 (DESIGN.md, section 5).
PROMISED = 1e-4

#: Of the plain loop, whose float32 recurrence errs by up to 5e-4 on some recordings.
AGREEMENT = 2e-3

#: An estimate further from the exact score than this many of its own standard errors is wrong.
STANDARD_ERRORS = 6.0


class Scoring:
    """One recording under all contenders.

    Args:
        scorer: of the model.
        clip: the recording.
        k: hypotheses.
        looped: of them, those that the plain loop goes through.
    """

    def __init__(self, scorer: Scorer, clip: Clip, k: int, looped: int) -> None:
        self.scorer, self.clip, self.k = scorer, clip, k
        self.engine = GradientEngine(scorer.model)
        self.record: ScoreRecord | None = None
        self.sq_norms: list[float] = []
        logits, lengths = self.infer()
        found = ops.ctc_beam_search(logits.double().log_softmax(2), lengths, num_hypotheses=k)
        self.labelings = found.labelings(0)
        spanned = ops.ctc_nbest_cotangents(logits, lengths, num_hypotheses=k, span=SPAN)
        self.num_rows = int(spanned.num_directions)
        self.looped = self.labelings[:looped]

    def infer(self) -> tuple[torch.Tensor, torch.Tensor]:
        """One inference pass, the price of entropy."""
        with torch.inference_mode():
            outputs: tuple[torch.Tensor, torch.Tensor] = self.scorer.model.eval()(*self.clip.inputs)
        return outputs

    def forward(self) -> None:
        """The loop's forward pass."""
        self.scorer.model.eval()(*self.clip.inputs)

    def loop(self) -> None:
        """The plain loop over ``looped`` hypotheses."""
        self.loop_through(self.scorer.model.eval(), self.clip.inputs)

    def loop_in_double(self) -> None:
        """The same in float64."""
        features, lengths = self.clip.inputs
        double = copy.deepcopy(self.scorer.model).double().eval()
        self.loop_through(double, (features.double(), lengths))

    def loop_through(self, model: nn.Module, inputs: tuple[torch.Tensor, torch.Tensor]) -> None:
        """One backward pass a hypothesis."""
        named = dict(model.named_parameters())
        found = looped_sq_norms(model, inputs, self.looped, parameters=named)
        self.sq_norms = [sum(norms.values()) for norms in found]

    def score(self, **options: object) -> ScoreRecord:
        """Everything from features to record."""
        [record] = score_tape(
            self.engine,
            self.engine.run(*self.clip.inputs),
            ids=[self.clip.id],
            durations=[self.clip.spectrogram.seconds],
            classes=self.scorer.classes,
            options=ScoringOptions(k=self.k, **options),  # type: ignore[arg-type]
        )
        return record

    def score_exactly(self) -> None:
        """``score`` with every hypothesis's norm."""
        self.record = self.score(per_hypothesis=True)

    def largest_error(self) -> float:
        """Relative, of the exact squared norms against the loop's."""
        assert self.record is not None
        own = {h.labels: h.sq_grad_norm for h in self.record.hypotheses}
        pairs = zip(self.looped, self.sq_norms, strict=True)
        return max(abs(own[labels] - norm) / norm for labels, norm in pairs)

    def check(self) -> None:
        """Compare exact scores with a loop in float64, and estimates with exact scores."""
        self.loop_in_double()
        self.score_exactly()
        assert self.record is not None
        assert self.largest_error() <= PROMISED
        for options in ESTIMATES.values():
            estimate = self.score(**options)
            error = abs(estimate.egl - self.record.egl)
            assert error <= STANDARD_ERRORS * estimate.egl_stderr + PROMISED * self.record.egl


@pytest.mark.benchmark(group="pipeline")
@pytest.mark.parametrize("model", ["small", "deep"])
def test_pipeline(contest: Contest, model_file: Path, pool: Path, model: str) -> None:
    settings = contest.settings
    trained = speech.trained_scorer(model_file)
    scorer = trained if model == "small" else speech.random_scorer(settings.deep, model_file)
    assert trained.features is not None
    index = 0 if model == "small" else 1
    num_clips, looped = settings.clips[index], settings.looped[index]
    clips = speech.clips_of_two_seconds(pool, num_clips, trained.features)
    # A few hypotheses show that results are right; all of them are compared where they are timed.
    checked = Scoring(scorer, clips[0], settings.k, looped=2)
    checked.check()
    contestants = [Scoring(scorer, clip, settings.k, looped) for clip in clips]
    current = contestants[0]

    def choose(number: int) -> None:
        nonlocal current
        current = contestants[number]
        contest.say(f"{current.clip.id}, {len(current.labelings)} hypotheses")

    turns = contest.take_turns(
        lambda: current.score_exactly(),
        {
            LOOP: lambda: current.loop(),
            FORWARD: lambda: current.forward(),
            INFERENCE: lambda: current.infer(),
            **{
                name: partial(lambda options: current.score(**options), options)
                for name, options in ESTIMATES.items()
            },
            **product_rate.products(),
        },
        rounds=len(clips),
        before=choose,
        warm_up=False,
    )
    measured = contestants[: len(turns.own)]
    worst = max(scoring.largest_error() for scoring in measured)
    assert worst <= AGREEMENT
    extrapolate(turns, measured)
    multiply_adds = [num_multiply_adds(scoring) for scoring in measured]
    share = statistics.median(
        count / seconds / rate
        for count, seconds, rate in zip(
            multiply_adds, turns.own, product_rate.rates(turns), strict=True
        )
    )
    contest.note(
        model=model,
        seconds=[scoring.clip.spectrogram.seconds for scoring in measured],
        hypotheses=[len(scoring.labelings) for scoring in measured],
        rows=[scoring.num_rows for scoring in measured],
        looped=looped,
        largest_error=worst,
        share=share,
        peers=turns.summary(),
    )
    rows = ", ".join(f"{scoring.num_rows} for {len(scoring.labelings)}" for scoring in measured)
    contest.say(f"rows that exact scoring pulled back for hypotheses: {rows}")
    contest.figure(f"pipeline_{model}", turns.times(LOOP))
    contest.figure(f"pipeline_share_{model}", share)
    contest.say(
        f"exact: {turns.times(LOOP):.1f} times the plain loop, {1 / turns.times(INFERENCE):.0f} "
        f"inference passes, {share:.0%} of the machine's rate over all cotangents; "
        f"largest error {worst:.1e}"
    )


def extrapolate(turns: Turns, scorings: list[Scoring]) -> None:
    """Make of the loop's time that of all hypotheses: one forward pass, equal backward passes."""
    for number, scoring in enumerate(scorings):
        forward = turns.peers[FORWARD][number]
        backward = turns.peers[LOOP][number] - forward
        scale = len(scoring.labelings) / len(scoring.looped)
        turns.peers[LOOP][number] = forward + backward * scale


def num_multiply_adds(scoring: Scoring) -> float:
    """Counted operations of all hypotheses' cotangents, though a basis of them is pulled back."""
    k = len(scoring.labelings)
    counts = operation_count.count(scoring.scorer.model, scoring.clip.inputs, num_cotangents=k)
    return k * operation_count.total(counts)
