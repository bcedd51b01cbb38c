"""``egl-fast check``."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import click
from rich.table import Table

from egl_fast.cli import options
from egl_fast.cli.console import progress_bar, tell, tell_json, tell_table, warn
from egl_fast.display import printable
from egl_fast.errors import EglError, ManifestError, one_line
from egl_fast.recognizers.spec import load_recognizer
from egl_fast.reference import TOLERANCE

if TYPE_CHECKING:
    from torch import Tensor, nn

    from egl_fast.gradients.coverage import Coverage
    from egl_fast.gradients.model_call import ModelInputs
    from egl_fast.recognizers.front_end import RecordingInput
    from egl_fast.recognizers.recognizer import Recognizer

#: What is compared, beside the engine in the precisions of ``TOLERANCE``: squared norms at the
#: logits that the model has in float32, with those at the logits it has in float64.
_LOGITS: Final = "float32_logits"

#: Above its tolerance and up to this, an error in float32 is called rounding if float64 is right:
#: a ReLU whose input is near 0 lets a gradient through in one of them and not in the other.
_ROUNDING: Final = 1e-2

#: Rows of the table; the rest is in --json.
_MOST_ROWS: Final = 20


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
    """Show what a model hears, and whether its gradient norms are right.

    First, transcripts of the first recordings of the pool: text that makes no sense means a wrong
    vocabulary, blank, sample rate, or front end, which all scores would suffer from.

    Then the engine's squared gradient norms, compared with a plain loop of one torch.autograd
    backward pass per labeling, in float64, through torch's own layers and CTC loss. The engine in
    float32, as used for scoring, is compared at the logits that the model returns in float32; what
    the rounding of these logits does to the norms is shown below the table. Prints the largest
    relative errors by layer; exit status 2 if one of them is too large.

    \b
    Example:
      egl-fast check --model base.pt --pool pool.jsonl
    """
    import torch

    from egl_fast.gradients.double import in_double
    from egl_fast.scoring.formula.plausibility import Plausibility

    recognizer = load_recognizer(model_spec, device=options.set_up_torch(device, threads))
    options.say_what_counts(recognizer)
    single, double = recognizer.module, in_double(recognizer.module).eval()
    plausibility = Plausibility(recognizer)
    heard: list[_Heard] = []
    worst: _Errors = {name: defaultdict(float) for name in (*TOLERANCE, _LOGITS)}
    share: dict[str, float] = defaultdict(float)
    with progress_bar() as bar:
        task = bar.add_task("checking", total=num_utterances, note="")
        for one in _recordings(recognizer, pool, num_utterances):
            x32 = recognizer.inputs([one.input], dtype=torch.float32)
            x64 = recognizer.inputs([one.input], dtype=torch.float64)
            logits, lengths = _outputs(recognizer, double, x64)
            plausibility.see(logits, lengths, [one.input.seconds])
            labelings = _labelings(recognizer, logits, lengths, k)
            heard.append(_Heard(one.id, recognizer.classes.text(labelings[0]), one.text))
            truth = _reference(recognizer, double, x64, labelings)
            gap = _outputs(recognizer, single, x32)[0].double() - logits
            at_single = _reference(recognizer, double, x64, labelings, gap)
            of_single, coverage = _engine_norms(recognizer, single, x32, labelings)
            of_double, _ = _engine_norms(recognizer, double, x64, labelings)
            for name, found, expected in (
                ("float32", of_single, at_single),
                ("float64", of_double, truth),
                (_LOGITS, at_single, truth),
            ):
                _keep_largest_errors(worst[name], found, expected)
            for labeling in map(_by_group, truth):
                for group, value in labeling.items():
                    share[group] += value
            bar.advance(task)
    if pool:
        plausibility.judge()
    passed = all(_verdict(worst, group) != _TOO_LARGE for group in share)
    if as_json:
        facts = {
            "passed": passed,
            "heard": [vars(one) for one in heard] if pool else [],
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
        if pool:
            _print_heard(heard)
        _print_table(worst, share, len(heard), k)
        tell(coverage.sentence)
    return 0 if passed else 2


@dataclass(frozen=True)
class _Recording:
    id: str
    text: str | None  # what was said, if the manifest has it
    input: RecordingInput


@dataclass(frozen=True)
class _Heard:
    id: str
    pred_text: str
    text: str | None


#: Whose norms -> group of parameters -> largest relative error.
_Errors: TypeAlias = dict[str, dict[str, float]]

_TOTAL = "all"


def _keep_largest_errors(
    worst: dict[str, float], found: list[dict[str, float]], expected: list[dict[str, float]]
) -> None:
    for got, right in zip(map(_by_group, found), map(_by_group, expected), strict=True):
        for group, value in right.items():
            # A part with less than a thousandth of the norm must meet the same absolute error.
            size = max(value, 1e-3 * right[_TOTAL])
            error = abs(got[group] - value) / size if size > 0 else abs(got[group])
            if not error <= worst[group]:  # so that NaN is the worst
                worst[group] = error


def _by_group(norms: dict[str, float]) -> dict[str, float]:
    """A labeling's squared norms by the module that has the parameters, and their total."""
    found: dict[str, float] = defaultdict(float)
    for name, value in norms.items():
        for group in (name.rpartition(".")[0] or name, _TOTAL):
            found[group] += value
    return found


def _verdict(worst: _Errors, group: str) -> str:
    if not worst["float64"][group] <= TOLERANCE["float64"]:
        return _TOO_LARGE
    if worst["float32"][group] <= TOLERANCE["float32"]:
        return "ok"
    return "rounding" if worst["float32"][group] <= _ROUNDING else _TOO_LARGE


_TOO_LARGE: Final = "TOO LARGE"


def _recordings(recognizer: Recognizer, pool: Sequence[str], count: int) -> Iterator[_Recording]:
    from egl_fast.benchmarking.recordings import noise

    if pool:
        yield from islice(_readable(pool, recognizer), count)
    else:
        for number, one in enumerate(noise(recognizer, count)):
            yield _Recording(f"noise {number}", None, one.prepared)


def _readable(pool: Sequence[str], recognizer: Recognizer) -> Iterator[_Recording]:
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
        yield _Recording(utterance.id, utterance.text, found)
    if num_read == 0:
        raise ManifestError(
            f"manifest {', '.join(pool)}: none of its recordings can be read ({first})"
        )


def _outputs(
    recognizer: Recognizer, model: nn.Module, inputs: ModelInputs
) -> tuple[Tensor, Tensor]:
    """Logits [1, T, C] and lengths [1] of one utterance."""
    import torch

    from egl_fast.gradients.model_call import call_model
    from egl_fast.scoring.formula.outputs import model_outputs

    with torch.no_grad():
        outputs = call_model(model, inputs)
    num_classes = len(recognizer.classes.vocabulary)
    return model_outputs(outputs, ids=["to check"], num_classes=num_classes)


def _labelings(
    recognizer: Recognizer, logits: Tensor, lengths: Tensor, k: int
) -> list[tuple[int, ...]]:
    """The k best labelings of one utterance, shared by everything that is compared."""
    from egl_fast import ops

    found = ops.ctc_beam_search(
        logits.log_softmax(dim=2),
        lengths.to(logits.device),
        num_hypotheses=k,
        blank=recognizer.classes.blank,
    )
    return found.labelings(0)


def _reference(
    recognizer: Recognizer,
    model: nn.Module,
    inputs: ModelInputs,
    labelings: list[tuple[int, ...]],
    gap: Tensor | float = 0.0,
) -> list[dict[str, float]]:
    """Squared norms by looped autograd, at logits that are off by a gap."""
    from egl_fast.compute.precision import matmul_precision
    from egl_fast.gradients.counted import counted_parameters
    from egl_fast.gradients.model_call import call_model
    from egl_fast.recurrent import without_cudnn
    from egl_fast.reference.gradients import looped_sq_norms

    def run(given: ModelInputs) -> Any:
        logits, lengths = call_model(model, given)
        return logits + gap, lengths

    parameters = counted_parameters(model, recognizer.pattern(None))
    with matmul_precision("float32", next(iter(parameters.values())).device), without_cudnn():
        return looped_sq_norms(
            run,
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


def _print_heard(heard: Sequence[_Heard]) -> None:
    """Transcripts, with what was said and the errors where that is known."""
    tell("what the model hears:")
    for one in heard:
        tell(f"  {printable(one.id)}: {printable(one.pred_text) or '(nothing)'}")
        if one.text:
            tell(f"    said: {printable(one.text)}")


def _print_table(worst: _Errors, share: dict[str, float], num_utterances: int, k: int) -> None:
    groups = [group for group in share if group != _TOTAL]
    wrong = {group for group in groups if _verdict(worst, group) == _TOO_LARGE}
    # What matters most: what is wrong, then what the norm consists of.
    ranked = sorted(groups, key=lambda group: (group not in wrong, -share[group]))
    shown = set(ranked[: max(_MOST_ROWS, len(wrong))])
    table = Table(title=f"engine against looped float64 autograd, {num_utterances} x {k} labelings")
    table.add_column("parameters of", no_wrap=True)
    table.add_column("share of the squared norm", justify="right")
    for dtype in TOLERANCE:
        table.add_column(f"largest error of {dtype}", justify="right")
    table.add_column("")
    kept = [group for group in groups if group in shown]
    for group in [*kept, _TOTAL]:
        table.add_row(
            printable(group),
            f"{share[group] / share[_TOTAL]:.1%}",
            *(f"{worst[dtype][group]:.1e}" for dtype in TOLERANCE),
            _verdict(worst, group),
            end_section=group == kept[-1],
        )
    tell_table(table)
    if len(kept) < len(groups):
        tell(f"{len(groups) - len(kept)} others, none of them too large, are in --json")
    limits = ", ".join(f"{limit:g} in {dtype}" for dtype, limit in TOLERANCE.items())
    tell(f"allowed: {limits}; rounding: up to {_ROUNDING:g} in float32 where float64 is right")
    tell(
        "float32 itself: rounding of the logits changes squared norms by up to "
        f"{worst[_LOGITS][_TOTAL]:.1e}, with any software"
    )
