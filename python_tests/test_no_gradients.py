"""``--method none``: scores that need no gradients, for little more than an inference pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import in_this_process, lines_of
from conftest import Run
from foreign_models import NUM_BINS, NUM_CLASSES, VOCABULARY, batch
from test_output_layer import Tied
from torch import nn

import egl_fast
from egl_fast.gradients.engine import GradientEngine
from egl_fast.records import ScoreRecord
from egl_fast.scoring.formula.embedding import embeddings_of

GRADIENTS = ("egl", "egl_stderr", "egl_normalized", "egl_unsquared")


class Plain(nn.Module):
    """Two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(NUM_BINS, 8)
        self.output = nn.Linear(8, NUM_CLASSES)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.output(self.hidden(x).tanh()), lengths


class NoOutputLayer(Plain):
    """The logits are a sum, so no single layer makes them."""

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return super().forward(x, lengths)[0] + self.output.bias, lengths


def assert_same_but_for_gradients(found: ScoreRecord, expected: ScoreRecord) -> None:
    for name in GRADIENTS:
        assert getattr(found, name) is None
    assert (found.pred_text, found.num_hypotheses) == (expected.pred_text, expected.num_hypotheses)
    for name in ("pctc", "entropy", "beam_mass", "random", "duration"):
        # Of two log-softmaxes in float64, over the few frames of a test.
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-12)
    pairs = zip(found.hypotheses, expected.hypotheses, strict=True)
    for own, other in pairs:
        assert own.labels == other.labels
        assert own.sq_grad_norm is None


def test_everything_else_is_as_with_gradients(examples: Path) -> None:
    torch.manual_seed(0)
    model, (x, lengths) = Plain().double(), batch()
    scorer = egl_fast.Scorer(model, VOCABULARY)
    kinds: list[Any] = ["none", "exact"]
    found, expected = (
        scorer.score_batch(x, lengths, k=6, method=kind, per_hypothesis=True) for kind in kinds
    )
    for one, other in zip(found, expected, strict=True):
        assert_same_but_for_gradients(one, other)
    own = egl_fast.Scorer.from_checkpoint(examples / "base.pt")
    waves = [torch.randn(8000), torch.randn(4000)]
    found, expected = (
        own.score_waveforms(waves, sample_rate_hz=16000, k=4, method=kind, per_hypothesis=True)
        for kind in kinds
    )
    for one, other in zip(found, expected, strict=True):
        assert_same_but_for_gradients(one, other)


@pytest.mark.parametrize("params", [None, "output.*", "hidden.*"])
@pytest.mark.parametrize("kind", [Plain, Tied, NoOutputLayer])
def test_embeddings_are_those_of_a_complete_recording(
    kind: type[nn.Module], params: str | None
) -> None:
    torch.manual_seed(0)
    x, lengths = batch()
    engine = GradientEngine(kind().to(x.dtype), params=params)
    expected = embeddings_of(engine.run(x[:1], lengths[:1]), lengths[:1])
    engine.run_output_layer(x[:1], lengths[:1])  # which finds the output layer
    tape = engine.run_output_layer(x[:1], lengths[:1])
    assert torch.equal(embeddings_of(tape, lengths[:1]), expected)
    assert len(tape.calls) <= 1  # nothing below the output layer is kept


def test_another_head_is_noticed() -> None:
    x, lengths = batch()
    model = Plain().to(x.dtype)
    engine = GradientEngine(model)
    engine.run_output_layer(x[:1], lengths[:1])
    model.head, model.output = model.output, nn.Identity()
    model.output.forward = lambda h: model.head(h)  # type: ignore[method-assign]
    expected = embeddings_of(engine.run(x[:1], lengths[:1]), lengths[:1])
    found = embeddings_of(engine.run_output_layer(x[:1], lengths[:1]), lengths[:1])
    assert torch.equal(found, expected)


def test_draws_need_gradients() -> None:
    with pytest.raises(ValueError, match="full: needs gradients"):
        egl_fast.Scorer(Plain(), VOCABULARY).score_batch(*batch(), method="none", full=True)


@pytest.fixture(scope="module")
def sample(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The model, and the 12 shortest recordings of the pool."""
    lines = [json.loads(line) for line in (examples / "pool.jsonl").read_text().splitlines()]
    lines.sort(key=lambda line: float(line["duration"]))
    for line in lines:
        line["audio_filepath"] = str(examples / line["audio_filepath"])
    pool = tmp_path_factory.mktemp("sample") / "pool.jsonl"
    pool.write_text("".join(json.dumps(line) + "\n" for line in lines[:12]))
    return examples / "base.pt", pool


def test_a_query_takes_one_look_and_picks_what_select_picks(
    sample: tuple[Path, Path], tmp_path: Path, run: Run
) -> None:
    model, pool = sample
    given = ("--model", model, "--pool", pool, "--k", 5, "--threads", 1)
    scores, picks = tmp_path / "scores.jsonl", tmp_path / "picks.jsonl"
    status, _, err = run("score", *given, "--method", "none", "--out", scores)
    assert status == 0
    assert "beam_mass" not in err  # a warning about egl, which is not there
    assert all(line["egl"] is None for line in lines_of(scores.read_text()))
    assert in_this_process("query", *given, "--budget", "25%", "--out", picks) == 0
    status, out, _ = run("select", scores, "--budget", "25%")
    chosen = lines_of(picks.read_text())
    assert [line["id"] for line in chosen] == [line["id"] for line in lines_of(out)]
    assert [line["probability"] for line in chosen] == [1.0] * 3
    found = json.loads(Path(f"{picks}.meta.json").read_text())
    assert (found["passes"], found["rounds"][0]["looks_by_rows"]) == (1.5, {"0": 12})


def test_a_strategy_that_needs_gradients_says_what_is_missing(
    sample: tuple[Path, Path], tmp_path: Path, run: Run
) -> None:
    model, pool = sample
    scores = tmp_path / "scores.jsonl"
    given = ("--model", model, "--pool", pool, "--k", 2, "--threads", 1, "--out", scores)
    assert run("score", *given, "--method", "none")[0] == 0
    status, _, err = run("select", scores, "--budget", 2, "--strategy", "egl")
    assert status == 2
    assert "holds no egl" in err
    assert "pctc" in err
    status, _, err = run("score", *given, "--method", "none", "--full", "--overwrite")
    assert (status, "needs gradients" in err) == (2, True)
    assert run("report", "--scores", scores, "--out", tmp_path / "page.html", "--audio", 0)[0] == 0
