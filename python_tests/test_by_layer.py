"""What each layer adds to a score, against looped float64 autograd summed by hand."""

from __future__ import annotations

import copy
import json
import math
import statistics
from pathlib import Path

import pytest
import small_factory
import torch
from conftest import Run
from foreign_models import NUM_BINS, NUM_CLASSES, VOCABULARY, batch
from test_engine import PROMISED
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from egl_fast import Scorer, ScoreRecord
from egl_fast.records import from_json, to_json
from egl_fast.reference.gradients import looped_sq_norms

SMALL = f"{small_factory.__file__}:recognizer"

#: Layer -> how the names of its parameters begin.
LAYERS = {
    "scale": ("scale",),
    "conv": ("conv.",),
    "blocks.0": ("blocks.0.",),
    "blocks.1": ("blocks.1.",),
    "rnn.l0": tuple(f"rnn.{w}_l0" for w in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")),
    "rnn.l1": tuple(f"rnn.{w}_l1" for w in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")),
    "output": ("output.",),
}


class Layered(nn.Module):
    """Its own weight, a parametrized one, nested lists, and a stacked recurrent module."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.scale = nn.Parameter(torch.ones(1))
        self.conv = weight_norm(nn.Conv1d(NUM_BINS, 8, 3, padding=1))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.Tanh()) for _ in range(2)
        )
        self.rnn = nn.LSTM(8, 5, num_layers=2, bidirectional=True, batch_first=True)
        self.output = nn.Linear(10, NUM_CLASSES)
        self.idle = nn.Linear(2, 2)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv(x.mT).mT * self.scale
        for block in self.blocks:
            x = x + block(x)
        return self.output(3 * self.rnn(x)[0]), lengths


def expected(model: nn.Module, inputs: tuple[Tensor, Tensor], record: ScoreRecord) -> list[float]:
    x, lengths = inputs
    double = copy.deepcopy(model).double().eval()
    norms = looped_sq_norms(
        double,
        (x.double(), lengths),
        [one.labels for one in record.hypotheses],
        parameters=dict(double.named_parameters()),
    )
    return [
        sum(
            math.exp(one.log_prob) * value
            for one, of_parameter in zip(record.hypotheses, norms, strict=True)
            for name, value in of_parameter.items()
            if name.startswith(prefixes)
        )
        for prefixes in LAYERS.values()
    ]


@pytest.mark.parametrize("dtype", PROMISED, ids=str)
def test_layers_are_what_the_loop_says(dtype: torch.dtype) -> None:
    model = Layered().to(dtype)
    x, lengths = batch(dtype=dtype)
    for n, end in enumerate(lengths.tolist()):
        own = x[n : n + 1, :end], lengths[n : n + 1]
        [record] = Scorer(model, VOCABULARY).score_batch(
            *own, k=20, by_layer=True, per_hypothesis=True
        )
        assert record.by_layer is not None
        assert list(record.by_layer) == list(LAYERS)
        assert list(record.by_layer.values()) == pytest.approx(
            expected(model, own, record), rel=PROMISED[dtype], abs=1e-3 * PROMISED[dtype]
        )
        # Sums of some dozen numbers in double precision.
        assert sum(record.by_layer.values()) == pytest.approx(record.egl, rel=1e-12)
        assert record.by_layer_full is None


@pytest.mark.filterwarnings("ignore:.*different logits alone:egl_fast.EglWarning")
@pytest.mark.parametrize("method", ["exact", "lowrank", "probe"])
def test_layers_change_no_score_and_add_up_to_it(method: str) -> None:
    scorer = Scorer(Layered(), VOCABULARY)
    x, lengths = batch(dtype=torch.float32)
    options = {"k": 20, "full": True, "full_samples": 20, "tolerance": 0.3}
    with_layers = scorer.score_batch(x, lengths, method=method, by_layer=True, **options)
    without = scorer.score_batch(x, lengths, method=method, **options)
    for record, plain in zip(with_layers, without, strict=True):
        assert record.by_layer is not None
        assert record.by_layer_full is not None
        assert sum(record.by_layer.values()) == pytest.approx(record.egl, rel=1e-9)
        assert sum(record.by_layer_full.values()) == pytest.approx(record.egl_full, rel=1e-9)
        assert {**to_json(record), "by_layer": 0, "by_layer_full": 0} == {
            **to_json(plain), "by_layer": 0, "by_layer_full": 0,
        }  # fmt: skip
        assert from_json(json.loads(json.dumps(to_json(record)))) == record
        assert hash(record) == hash(plain)


def test_estimated_layers_are_unbiased() -> None:
    """Over seeds, the mean is within five standard errors; the output layer's is known exactly."""
    scorer = Scorer(Layered().double(), VOCABULARY)
    x, _ = batch()
    own = x[:1, :6], torch.tensor([6])
    [every] = scorer.score_batch(*own, k=5000, by_layer=True)
    assert every.beam_mass == pytest.approx(1.0)  # of all labelings there are
    [exact] = scorer.score_batch(*own, k=8, by_layer=True)
    found = [
        scorer.score_batch(
            *own, k=8, by_layer=True, method="probe", probes=3, full=True, full_samples=8, seed=s
        )[0]
        for s in range(60)
    ]
    for truth, field in ((exact, "by_layer"), (every, "by_layer_full")):
        assert truth.by_layer is not None
        for layer, value in truth.by_layer.items():
            values = [getattr(record, field)[layer] for record in found]
            error = statistics.stdev(values) / len(values) ** 0.5
            assert abs(statistics.mean(values) - value) <= 5 * error + 1e-9 * value, (field, layer)
            assert layer in ("output", "scale") or error > 1e-6 * value
    assert found[0].by_layer is not None
    assert exact.by_layer is not None
    assert found[0].by_layer["output"] == pytest.approx(exact.by_layer["output"], rel=1e-9)


@pytest.mark.filterwarnings("ignore:.*different logits alone:egl_fast.EglWarning")
@pytest.mark.parametrize("wrong", [{"a": "1"}, {"a": math.nan}, [1.0], 1.0])
def test_layers_are_finite_numbers_by_name(wrong: object) -> None:
    [record] = Scorer(Layered(), VOCABULARY).score_batch(
        *batch(dtype=torch.float32), ids=["a", "b", "c"], k=2
    )[:1]
    with pytest.raises(ValueError, match="by_layer: "):
        from_json({**to_json(record), "by_layer": wrong})


def test_the_command_shows_the_pools_layers_also_when_it_is_resumed(
    run: Run, recordings: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores.jsonl"
    arguments = ["score", "--model", SMALL, "--pool", recordings, "--k", 5, "--device", "cpu"]
    status, table, _ = run(*arguments, "--by-layer", "--full", "--out", out)
    assert status == 0
    records = [json.loads(line) for line in out.read_text().splitlines()]
    metadata = json.loads((tmp_path / "scores.jsonl.meta.json").read_text())
    shares = metadata["layer_shares"]
    for score, field in (("egl", "by_layer"), ("egl_full", "by_layer_full")):
        assert list(records[0][field]) == ["inner", "output"]
        mean = statistics.mean(record[field]["inner"] / record[score] for record in records)
        assert shares[score]["inner"] == pytest.approx(mean, rel=1e-9)
        assert sum(shares[score].values()) == pytest.approx(1.0)
    [line] = [line for line in table.splitlines() if " inner " in line]
    assert "3,208" in line
    assert f"{shares['egl']['inner']:.1%}" in line

    again, table_again, err = run(*arguments, "--by-layer", "--full", "--out", out, "--resume")
    assert (again, table_again) == (0, table)
    assert "already complete" in err
    status, printed, _ = run(*arguments, "--by-layer", "--full", "--out", out, "--resume", "--json")
    assert json.loads(printed)["layer_shares"] == shares
    status, _, err = run(*arguments, "--full", "--out", out, "--resume")
    assert status == 2
    assert "--by-layer True (now False)" in err
    status, printed, err = run(*arguments, "--by-layer", "--full")  # records have standard output
    assert [json.loads(line)["by_layer"] for line in printed.splitlines()] == [
        record["by_layer"] for record in records
    ]
    assert "share of each layer" in err
    assert run("select", out, "--budget", 2, "--out", tmp_path / "picks.jsonl")[0] == 0
    picked = (tmp_path / "picks.jsonl").read_text().splitlines()
    assert all(json.loads(line)["by_layer"] for line in picked)
