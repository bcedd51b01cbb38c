"""``egl-fast check``."""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

import click
from rich.table import Table

from egl_fast.cli import options
from egl_fast.cli.console import progress_bar, tell, tell_json, tell_table, warn
from egl_fast.display import printable
from egl_fast.errors import EglError, ManifestError, one_line
from egl_fast.reference import TOLERANCE

if TYPE_CHECKING:
    from torch import Tensor, nn

    from egl_fast.features import FeatureConfig
    from egl_fast.gradients.coverage import Coverage
    from egl_fast.scorer import Scorer

_PLAIN = "plain loop, float32"


@click.command("check")
@options.model
@click.option("--pool", type=options.FILE, help="Manifest of recordings [default: 2 s of noise].")
@click.option("--utterances", "num_utterances", type=click.IntRange(min=1), default=3,
              show_default=True, help="How many recordings: the first readable ones.")  # fmt: skip
@options.scoring_option(
    "k", default=10, help="Labelings per recording; each takes one backward pass."
)
@options.device
@options.threads
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@options.quiet
def command(
    model_path: str,
    pool: str | None,
    num_utterances: int,
    k: int,
    device: str,
    threads: int | None,
    as_json: bool,
) -> int:
    """Compare the engine's squared gradient norms with looped autograd, for a model.

    The reference takes one torch.autograd backward pass per labeling, in float64, through torch's
    own layers and CTC loss. It is compared with the engine in float32, as used for scoring, and in
    float64, and with the plain loop in float32. Prints the largest relative error for each group of
    parameters; exit status 2 if one is too large.

    \b
    Example:
      egl-fast check --model base.pt --pool pool.jsonl
    """
    import torch

    from egl_fast.scorer import Scorer

    torch_device = options.set_up_torch(device, threads)
    scorer = Scorer.from_checkpoint(model_path, device=torch_device)
    single, double = scorer.model, copy.deepcopy(scorer.model).double().eval()
    inputs = _inputs(scorer, pool, num_utterances)
    worst: _Errors = {name: defaultdict(float) for name in ("float32", _PLAIN, "float64")}
    share: dict[str, float] = defaultdict(float)
    with progress_bar() as bar:
        task = bar.add_task("checking", total=len(inputs), note="")
        for features in inputs:
            x32 = features.to(torch_device)
            x64, lengths = x32.double(), torch.tensor([features.shape[1]], device=torch_device)
            labelings = _labelings(scorer, double, x64, lengths, k)
            truth = list(map(_by_group, _reference(double, x64, lengths, labelings)))
            of_single, coverage = _engine_norms(single, x32, lengths, labelings)
            of_double, _ = _engine_norms(double, x64, lengths, labelings)
            for name, found in (
                ("float32", of_single),
                (_PLAIN, _reference(single, x32, lengths, labelings)),
                ("float64", of_double),
            ):
                for expected, got in zip(truth, map(_by_group, found), strict=True):
                    for group, value in expected.items():
                        error = abs(got[group] - value) / value if value > 0 else abs(got[group])
                        if not error <= worst[name][group]:  # so that NaN is the worst
                            worst[name][group] = error
            for expected in truth:
                for group, value in expected.items():
                    share[group] += value
            bar.advance(task)
    passed = all(_passes(worst, group) for group in share)
    if as_json:
        facts = {
            "passed": passed,
            "allowed": TOLERANCE,
            # The error of a norm that is NaN is NaN, which JSON lacks.
            "largest_error": {
                name: {group: e if math.isfinite(e) else None for group, e in errors.items()}
                for name, errors in worst.items()
            },
            "share": {group: value / share[_TOTAL] for group, value in share.items()},
            "norm_rules": coverage.as_json(),
        }
        tell_json(facts)
    else:
        _print_table(worst, share, len(inputs), k)
        tell(coverage.sentence)
    return 0 if passed else 2


#: Whose norms -> group of parameters -> largest relative error.
_Errors: TypeAlias = dict[str, dict[str, float]]

_TOTAL = "all"


def _by_group(norms: dict[str, float]) -> dict[str, float]:
    """A labeling's squared norms by the module that has the parameters, and their total."""
    found: dict[str, float] = defaultdict(float)
    for name, value in norms.items():
        for group in (name.rpartition(".")[0] or name, _TOTAL):
            found[group] += value
    return found


def _passes(worst: _Errors, group: str) -> bool:
    return all(worst[dtype][group] <= limit for dtype, limit in TOLERANCE.items())


def _inputs(scorer: Scorer, pool: str | None, count: int) -> list[Tensor]:
    """Features [1, T, F] of each recording."""
    from egl_fast.benchmarking.recordings import noise
    from egl_fast.features import FeatureConfig

    features = scorer.features or FeatureConfig()
    if pool is not None:
        return list(islice(_readable(pool, features), count))
    return [one.spectrogram.features.unsqueeze(0) for one in noise(features, count)]


def _readable(pool: str, features: FeatureConfig) -> Iterator[Tensor]:
    """Features of the recordings that can be read; the others are named and skipped."""
    from egl_fast.data.loading import load_spectrogram
    from egl_fast.data.manifest import read_manifest

    first: EglError | None = None
    num_read = 0
    for utterance in read_manifest(pool):
        try:
            found = load_spectrogram(utterance, features).features.unsqueeze(0)
        except EglError as error:
            first = first or error
            warn(f"skipped {utterance.id}: {one_line(error)}")
            continue
        num_read += 1
        yield found
    if num_read == 0:
        raise ManifestError(f"manifest {pool}: none of its recordings can be read ({first})")


def _labelings(
    scorer: Scorer, model: nn.Module, features: Tensor, lengths: Tensor, k: int
) -> list[tuple[int, ...]]:
    """The k best labelings of one utterance, shared by everything that is compared."""
    import torch

    from egl_fast import ops
    from egl_fast.scoring.formula.outputs import model_outputs

    with torch.no_grad():
        outputs = model(features, lengths)
    logits, num_frames = model_outputs(
        outputs, ids=["to check"], num_classes=len(scorer.classes.vocabulary)
    )
    found = ops.ctc_beam_search(
        logits.log_softmax(dim=2),
        num_frames.to(logits.device),
        num_hypotheses=k,
        blank=scorer.classes.blank,
    )
    return found.labelings(0)


def _reference(
    model: nn.Module, features: Tensor, lengths: Tensor, labelings: list[tuple[int, ...]]
) -> list[dict[str, float]]:
    from egl_fast.compute.precision import matmul_precision
    from egl_fast.recurrent import without_cudnn
    from egl_fast.reference.gradients import looped_sq_norms

    with matmul_precision("float32", features.device), without_cudnn():
        return looped_sq_norms(
            model, (features, lengths), labelings, parameters=dict(model.named_parameters())
        )


def _engine_norms(
    model: nn.Module, features: Tensor, lengths: Tensor, labelings: list[tuple[int, ...]]
) -> tuple[list[dict[str, float]], Coverage]:
    """The engine's squared norms, in the same form as the reference's."""
    from egl_fast import ops
    from egl_fast.gradients.engine import GradientEngine

    engine = GradientEngine(model)
    tape = engine.run(features, lengths)
    logits, num_frames = tape.outputs
    hypotheses = ops.Hypotheses.of([labelings]).to(logits.device)
    _, cotangents = ops.ctc_logits_cotangents(logits.detach(), num_frames, hypotheses)
    norms = engine.sq_norms(tape, cotangents)
    assert engine.coverage is not None
    return [
        {name: float(values[0, i]) for name, values in norms.items()} for i in range(len(labelings))
    ], engine.coverage


def _print_table(worst: _Errors, share: dict[str, float], num_utterances: int, k: int) -> None:
    table = Table(title=f"engine against looped float64 autograd, {num_utterances} x {k} labelings")
    table.add_column("parameters of", no_wrap=True)
    table.add_column("share of the squared norm", justify="right")
    for dtype in worst:
        name = dtype if dtype == _PLAIN else f"engine, {dtype}"
        table.add_column(f"largest error: {name}", justify="right")
    table.add_column("")
    groups = [group for group in share if group != _TOTAL]
    for group in [*groups, _TOTAL]:
        table.add_row(
            printable(group),
            f"{share[group] / share[_TOTAL]:.1%}",
            *(f"{worst[dtype][group]:.1e}" for dtype in worst),
            "ok" if _passes(worst, group) else "TOO LARGE",
            end_section=group == groups[-1],
        )
    tell_table(table)
    limits = ", ".join(f"{limit:g} in {dtype}" for dtype, limit in TOLERANCE.items())
    tell(f"allowed: {limits}")
