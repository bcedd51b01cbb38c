"""``egl-fast check``."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

import click
from rich.table import Table

from egl_fast.cli import options
from egl_fast.cli.console import progress_bar, tell, tell_json, tell_table, warn
from egl_fast.display import printable
from egl_fast.errors import EglError, ManifestError, one_line
from egl_fast.recognizers.spec import load_recognizer
from egl_fast.reference import TOLERANCE

if TYPE_CHECKING:
    from torch import nn

    from egl_fast.gradients.coverage import Coverage
    from egl_fast.gradients.model_call import ModelInputs
    from egl_fast.recognizers.front_end import RecordingInput
    from egl_fast.recognizers.recognizer import Recognizer

_PLAIN = "plain loop, float32"


@click.command("check")
@options.model
@options.sources("--pool", help="Manifest of recordings", default="2 s of noise")
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
    model_spec: str,
    pool: tuple[str, ...],
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

    from egl_fast.gradients.double import in_double

    recognizer = load_recognizer(model_spec, device=options.set_up_torch(device, threads))
    options.say_what_counts(recognizer)
    single, double = recognizer.module, in_double(recognizer.module).eval()
    recordings = _recordings(recognizer, pool, num_utterances)
    worst: _Errors = {name: defaultdict(float) for name in ("float32", _PLAIN, "float64")}
    share: dict[str, float] = defaultdict(float)
    with progress_bar() as bar:
        task = bar.add_task("checking", total=len(recordings), note="")
        for recording in recordings:
            x32 = recognizer.inputs([recording], dtype=torch.float32)
            x64 = recognizer.inputs([recording], dtype=torch.float64)
            labelings = _labelings(recognizer, double, x64, k)
            truth = list(map(_by_group, _reference(recognizer, double, x64, labelings)))
            of_single, coverage = _engine_norms(recognizer, single, x32, labelings)
            of_double, _ = _engine_norms(recognizer, double, x64, labelings)
            for name, found in (
                ("float32", of_single),
                (_PLAIN, _reference(recognizer, single, x32, labelings)),
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
        _print_table(worst, share, len(recordings), k)
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


def _recordings(recognizer: Recognizer, pool: Sequence[str], count: int) -> list[RecordingInput]:
    from egl_fast.benchmarking.recordings import noise

    if pool:
        return list(islice(_readable(pool, recognizer), count))
    return [one.prepared for one in noise(recognizer, count)]


def _readable(pool: Sequence[str], recognizer: Recognizer) -> Iterator[RecordingInput]:
    """The recordings that can be read; the others are named and skipped."""
    from egl_fast.data.manifest import read_manifest

    first: EglError | None = None
    num_read = 0
    for utterance in read_manifest(*pool):
        try:
            found = recognizer.load(utterance)
        except EglError as error:
            first = first or error
            warn(f"skipped {utterance.id}: {one_line(error)}")
            continue
        num_read += 1
        yield found
    if num_read == 0:
        raise ManifestError(
            f"manifest {', '.join(pool)}: none of its recordings can be read ({first})"
        )


def _labelings(
    recognizer: Recognizer, model: nn.Module, inputs: ModelInputs, k: int
) -> list[tuple[int, ...]]:
    """The k best labelings of one utterance, shared by everything that is compared."""
    import torch

    from egl_fast import ops
    from egl_fast.gradients.model_call import call_model
    from egl_fast.scoring.formula.outputs import model_outputs

    with torch.no_grad():
        outputs = call_model(model, inputs)
    classes = recognizer.classes
    logits, num_frames = model_outputs(
        outputs, ids=["to check"], num_classes=len(classes.vocabulary)
    )
    found = ops.ctc_beam_search(
        logits.log_softmax(dim=2),
        num_frames.to(logits.device),
        num_hypotheses=k,
        blank=classes.blank,
    )
    return found.labelings(0)


def _reference(
    recognizer: Recognizer,
    model: nn.Module,
    inputs: ModelInputs,
    labelings: list[tuple[int, ...]],
) -> list[dict[str, float]]:
    from egl_fast.compute.precision import matmul_precision
    from egl_fast.gradients.counted import counted_parameters
    from egl_fast.gradients.model_call import call_model
    from egl_fast.recurrent import without_cudnn
    from egl_fast.reference.gradients import looped_sq_norms

    parameters = counted_parameters(model, recognizer.pattern(None))
    with matmul_precision("float32", next(iter(parameters.values())).device), without_cudnn():
        return looped_sq_norms(
            partial(call_model, model),
            (inputs,),
            labelings,
            parameters=parameters,
            blank=recognizer.classes.blank,
        )


def _engine_norms(
    recognizer: Recognizer,
    model: nn.Module,
    inputs: ModelInputs,
    labelings: list[tuple[int, ...]],
) -> tuple[list[dict[str, float]], Coverage]:
    """The engine's squared norms, in the same form as the reference's."""
    from egl_fast import ops
    from egl_fast.gradients.engine import GradientEngine

    engine = GradientEngine(model, params=recognizer.pattern(None))
    tape = engine.run(*inputs.positional, **inputs.named)
    logits, num_frames = tape.outputs
    hypotheses = ops.Hypotheses.of([labelings]).to(logits.device)
    _, cotangents = ops.ctc_logits_cotangents(
        logits.detach(), num_frames, hypotheses, blank=recognizer.classes.blank
    )
    norms = engine.sq_norms(tape, cotangents)
    assert engine.coverage is not None
    return [
        {name: float(norms[name][0, i]) if name in norms else 0.0 for name in tape.parameters}
        for i in range(len(labelings))
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
