"""The second half of the formula: from cotangents to squared gradient norms to a record."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import repeat

import torch
from torch import Tensor

from egl_fast import ops
from egl_fast.errors import ModelError
from egl_fast.gradients.memory import GradientMemory
from egl_fast.gradients.tape import Tape
from egl_fast.methods.method import OwnRows, SingleNorms
from egl_fast.naming import named
from egl_fast.recognizers.classes import Classes
from egl_fast.records import Hypothesis, ScoreRecord, random_score
from egl_fast.scoring.formula.estimates import estimates
from egl_fast.scoring.formula.layer_scores import LayerProducts
from egl_fast.scoring.formula.outputs import model_outputs
from egl_fast.scoring.formula.search import Decoded, Searched, decode
from egl_fast.scoring.formula.word_confidence import word_uncertainty
from egl_fast.scoring.task import ScoringTask
from egl_fast.warning import warn


@dataclass(frozen=True)
class Sums:
    """Expected gradient lengths of an utterance, see ``ScoreRecord``; None: not computed."""

    egl: float | None = None
    egl_stderr: float | None = None
    egl_normalized: float | None = None
    egl_unsquared: float | None = None
    egl_full: float | None = None
    egl_full_stderr: float | None = None
    single: SingleNorms | None = None  # of the hypotheses


def without_gradients(
    task: ScoringTask, tape: Tape, *, ids: Sequence[str], durations: Sequence[float]
) -> list[tuple[ScoreRecord, Tensor | None]]:
    """Records of a forward pass's utterances, and embeddings if the task asks for them.

    For methods without backward passes; arguments and errors are those of ``search``.
    """
    decoded = decode(task, tape, ids=ids, durations=durations)
    return [(record(task, one, Sums()), one.embedding) for one in decoded]


def pull_back(task: ScoringTask, tape: Tape, searched: Sequence[Searched]) -> list[ScoreRecord]:
    """Records of utterances that were searched.

    The tape is of a forward pass of the same utterances, not necessarily the one that was searched.

    Raises:
        ModelError: an utterance has another number of frames in this pass.
    """
    engine, options = task.engine, task.options
    logits, lengths = model_outputs(
        tape.outputs,
        ids=[one.name for one in searched],
        num_classes=len(task.classes.vocabulary),
    )
    for one, length in zip(searched, lengths.tolist(), strict=True):
        if length != one.num_frames:
            raise ModelError(
                f"utterance {one.name!r}: the model returns {length} frames for it in this batch, "
                f"and {one.num_frames} in another; its lengths must not depend on the batch"
            )
    most = max(one.num_rows for one in searched)
    wanted = {one.rows.inner_products for one in searched}
    if "needed" in wanted and not engine.memory.holds_gradients(tape, most):
        _tell_of_lost_basis(engine.memory, tape, searched, most)
        wanted.remove("needed")
        searched = [_one_by_one(one, task.classes.blank) for one in searched]
    most = max(1, *(one.num_rows for one in searched))
    cotangents = logits.new_zeros(len(searched), most, *logits.shape[1:])
    for n, one in enumerate(searched):
        cotangents[n, : one.num_rows, : one.num_frames] = one.cotangents
    if "needed" in wanted or ("for single norms" in wanted and options.per_hypothesis):
        by_parameter = engine.gram(tape, cotangents)
    else:
        by_parameter = engine.sq_norms(tape, cotangents)
    products = torch.stack(list(by_parameter.values())).sum(dim=0)
    output_share = torch.zeros_like(products)
    output_layer = searched[0].output_layer
    for name in output_layer:
        output_share += by_parameter[name]
    products, output_share = products.cpu(), output_share.cpu()
    records = [
        record(task, one, sums_of(one, products[n], output_share[n]))
        for n, one in enumerate(searched)
    ]
    if options.by_layer:
        layers = LayerProducts.of(engine.model, by_parameter, output_layer)
        records = [
            layers.divided(found, n, one, output_share[n])
            for n, (found, one) in enumerate(zip(records, searched, strict=True))
        ]
    return records


def _tell_of_lost_basis(
    memory: GradientMemory, tape: Tape, searched: Sequence[Searched], num_rows: int
) -> None:
    if memory.warned_of_lost_bases:
        return
    memory.warned_of_lost_bases = True
    most = max(len(one.labelings) for one in searched)
    enough = memory.least_bytes(tape, num_rows) / 2**30 * 1.05  # printed with two digits
    warn(
        f"utterance {searched[0].name!r}: inner products of {num_rows} gradients do not fit into "
        f"{memory.total_bytes / 2**30:.3g} GiB of memory for gradients, so {most} labelings are "
        "pulled back one by one: just as exact, but slower; with "
        f"{enough:.2g} GiB they would fit ({named('memory_bytes')})"
    )


def _one_by_one(one: Searched, blank: int) -> Searched:
    """Use a row per hypothesis: more rows, but only squared norms are needed."""
    if one.rows.inner_products != "needed":
        return one
    device = one.log_probs.device
    own = ops.Hypotheses.of([one.labelings]).to(device)
    lengths = torch.tensor([one.num_frames], device=device)
    _, cotangents = ops.ctc_logits_cotangents(one.log_probs[None], lengths, own, blank=blank)
    beyond = one.cotangents[len(one.rows) :]
    return replace(
        one,
        rows=OwnRows(one.log_prob.softmax(dim=0)),
        cotangents=torch.cat([cotangents[0].to(beyond.dtype), beyond]),
    )


def sums_of(one: Searched, products: Tensor, output_share: Tensor) -> Sums:
    """The sums over an utterance's labelings, from the gradients of its rows.

    ``products`` are [rows] squared norms over all parameters, or [rows, rows] inner products,
    padded if other utterances have more rows; ``output_share`` is the output layer's share of them.
    """
    estimate, single, beyond = estimates(one, products, output_share)
    probability = one.log_prob.exp()
    mass = float(probability.sum())
    full = full_stderr = None
    if beyond is not None:
        full = mass * estimate.value + beyond.value
        full_stderr = math.sqrt(mass**2 * estimate.variance + beyond.variance)
    return Sums(
        egl=mass * estimate.value,
        egl_stderr=mass * math.sqrt(estimate.variance),
        egl_normalized=estimate.value,
        egl_unsquared=None if single is None else float(probability @ single.sq_norms.sqrt()),
        egl_full=full,
        egl_full_stderr=full_stderr,
        single=single,
    )


def record(task: ScoringTask, one: Decoded, sums: Sums) -> ScoreRecord:
    """The record of an utterance.

    Raises:
        ModelError: a number is NaN or infinite.
    """
    options, classes = task.options, task.classes
    # p log p -> 0 as p -> 0, also where log p is -inf.
    entropy = -torch.special.xlogy(one.log_probs.exp(), one.log_probs.exp()).sum(1).mean()
    words = word_uncertainty(one.log_probs, task.classes) if options.word_confidence else None
    hypotheses: tuple[Hypothesis, ...] = ()
    try:
        if options.per_hypothesis:
            hypotheses = _hypotheses(one, sums.single, classes)
        return ScoreRecord(
            id=one.name,
            duration=one.duration,
            num_frames=one.num_frames,
            pred_text=classes.text(one.labelings[0]),
            num_hypotheses=len(one.labelings),
            beam_mass=float(one.log_prob.exp().sum()),
            egl=sums.egl,
            egl_stderr=sums.egl_stderr,
            egl_normalized=sums.egl_normalized,
            egl_unsquared=sums.egl_unsquared,
            egl_full=sums.egl_full,
            egl_full_stderr=sums.egl_full_stderr,
            entropy=max(0.0, float(entropy)),
            pctc=-float(one.log_prob[0]) / one.num_frames,
            random=random_score(options.seed, one.name),
            hypotheses=hypotheses,
            tsallis=None if words is None else words.tsallis,
            renyi=None if words is None else words.renyi,
            mc_dropout=one.mc_dropout,
        )
    except ValueError as error:
        raise ModelError(f"utterance {one.name!r}: {error}") from None


def _hypotheses(
    one: Decoded, single: SingleNorms | None, classes: Classes
) -> tuple[Hypothesis, ...]:
    norms: Iterable[tuple[float | None, float]] = repeat((None, 0.0))
    if single is not None:
        norms = zip(single.sq_norms.tolist(), single.stderr.tolist(), strict=True)
    return tuple(
        Hypothesis(classes.text(labels), labels, log_prob, *norm)
        for labels, log_prob, norm in zip(one.labelings, one.log_prob.tolist(), norms, strict=False)
    )
