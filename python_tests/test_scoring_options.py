"""Scoring options are the same in Python, on the command line, and in a run's settings."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from foreign_models import NUM_CLASSES, batch, build

import egl_fast
from egl_fast import kinds
from egl_fast.cli import options as cli_options
from egl_fast.cli.score import command
from egl_fast.compute.precision import PRECISIONS
from egl_fast.methods import METHODS, MethodName
from egl_fast.methods.lowrank import LowRank
from egl_fast.methods.method import Estimate, Method, Rows, weights_of
from egl_fast.methods.probe import Probe
from egl_fast.ops import NbestCotangents
from egl_fast.scoring.options import ScoringKeywords, ScoringOptions

FIELDS = {field.name: field for field in dataclasses.fields(ScoringOptions)}
CPU = torch.device("cpu")


def test_keywords_have_the_names_and_types_of_the_options() -> None:
    hints = typing.get_type_hints(ScoringOptions)
    assert typing.get_type_hints(ScoringKeywords) == {name: hints[name] for name in FIELDS}


@pytest.mark.parametrize("name", ["score_batch", "score_waveforms", "score_manifest"])
def test_methods_of_a_scorer_show_all_options(name: str) -> None:
    parameters = inspect.signature(getattr(egl_fast.Scorer, name)).parameters
    assert {n: p.default for n, p in parameters.items() if n in FIELDS} == {
        n: field.default for n, field in FIELDS.items()
    }
    arguments: dict[str, Any] = {
        "score_waveforms": {"waveforms": [], "sample_rate_hz": 16000},
        "score_manifest": {"manifest": "pool.jsonl"},
    }.get(name, {})
    with pytest.raises(TypeError, match="methd"):
        getattr(scorer(), name)(methd="exact", **arguments)


def test_the_command_line_has_all_options_with_their_defaults() -> None:
    found = {option.name: option for option in command.params if isinstance(option, click.Option)}
    assert set(FIELDS) | set(cli_options.METHOD_OPTIONS) <= set(found)
    defaults = command.make_context("score", ["--model", "m", "--pool", "p"]).params
    assert {name: defaults[name] for name in FIELDS} == {
        name: field.default for name, field in FIELDS.items()
    }
    assert {name: found[name].help for name in FIELDS} == {
        name: field.metadata["help"] for name, field in FIELDS.items()
    }
    precision = found["precision"].type
    assert isinstance(precision, click.Choice)
    assert tuple(precision.choices) == PRECISIONS


def test_every_method_is_listed_once() -> None:
    assert (
        list(METHODS)
        == [kind.name for kind in METHODS.values()]
        == list(typing.get_args(MethodName))
    )
    assert all(kind.summary for kind in METHODS.values())
    for name, methods in cli_options.METHOD_OPTIONS.items():
        [method] = methods
        own = {field.name: field for field in dataclasses.fields(METHODS[method])}[name]  # type: ignore[arg-type]
        if name in FIELDS:  # of those that the contract names
            assert kinds.kind_of(own) is kinds.kind_of(FIELDS[name])
            assert own.default == FIELDS[name].default


@pytest.mark.parametrize(
    ("chosen", "own"),
    [
        ({"method": "exact"}, {"tolerance": None, "probes": None}),
        ({"method": "lowrank", "tolerance": 0.2}, {"tolerance": 0.2, "probes": None}),
        ({"method": LowRank(0.2)}, {"tolerance": 0.2, "probes": None}),
        ({"method": "probe"}, {"tolerance": None, "probes": 4}),
        ({"method": Probe(7), "full": True}, {"tolerance": None, "probes": 7}),
    ],
)
def test_settings_hold_what_has_a_part_in_the_scores(
    chosen: dict[str, Any], own: dict[str, Any]
) -> None:
    options = ScoringOptions(k=30, **chosen)
    assert options.settings(CPU) == {
        "k": 30,
        "beam_width": 300,
        "method": options.chosen_method.name,
        **own,
        "full_samples": 200 if options.full else None,
        "per_hypothesis": False,
        "word_confidence": False,
        "mc_dropout": 0,
        "by_layer": False,
        "params": None,
        "seed": 0,
    }


def scorer() -> egl_fast.Scorer:
    return egl_fast.Scorer(build("convolutions"), list("-abcdefg")[:NUM_CLASSES])


@pytest.mark.filterwarnings("ignore:.*different logits alone:egl_fast.EglWarning")
def test_a_method_and_its_name_with_options_are_the_same() -> None:
    x, lengths = batch()
    named = scorer().score_batch(x, lengths, k=9, method="lowrank", tolerance=0.2)
    assert named == scorer().score_batch(x, lengths, k=9, method=LowRank(0.2))


class BestRow(Rows):
    def __len__(self) -> int:
        return 1

    def finish(self, products: torch.Tensor, of_output: torch.Tensor) -> tuple[Estimate, None]:
        return Estimate(float(products[0]), 0.0), None


@dataclasses.dataclass(frozen=True)
class Best(Method):
    """Only the best hypothesis counts."""

    summary = "the gradient of the most probable labeling"

    def rows(self, found: NbestCotangents, utterance: int) -> Rows:
        return BestRow(weights_of(found, utterance))


@pytest.mark.filterwarnings("ignore:.*different logits alone:egl_fast.EglWarning")
def test_a_method_of_the_caller_can_be_given() -> None:
    x, lengths = batch()
    records = scorer().score_batch(x, lengths, k=9, method=Best())
    exact = scorer().score_batch(x, lengths, k=9, per_hypothesis=True)
    for record, other in zip(records, exact, strict=True):
        assert record.egl_normalized == pytest.approx(other.hypotheses[0].sq_grad_norm, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"k": 0}, ValueError),
        ({"on_error": "warn"}, ValueError),
        ({"batch_seconds": 0.0}, ValueError),
        ({"max_duration": -1.0}, ValueError),
        ({"params": "nothing.*"}, egl_fast.ModelError),
        ({}, egl_fast.ManifestError),
    ],
    ids=str,
)
def test_errors_in_a_call_are_raised_at_the_call(
    examples: Path, tmp_path: Path, options: dict[str, Any], error: type[Exception]
) -> None:
    manifest = examples / "pool.jsonl" if options else tmp_path / "missing.jsonl"
    shipped = egl_fast.Scorer.from_checkpoint(examples / "base.pt")
    with pytest.raises(error):
        shipped.score_manifest(manifest, **options)  # and not at the first next()
