"""The second half of the formula: from cotangents to squared gradient norms to a record."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from egl_fast import ops
from egl_fast.errors import ModelError
from egl_fast.gradients.memory import GradientMemory
from egl_fast.gradients.tape import Tape
from egl_fast.methods.method import OwnRows, SingleNorms
from egl_fast.recognizers.classes import Classes
from egl_fast.records import Hypothesis, ScoreRecord, random_score
from egl_fast.scoring.formula.outputs import model_outputs
from egl_fast.scoring.formula.search import Searched
from egl_fast.scoring.formula.word_confidence import word_uncertainty
from egl_fast.scoring.task import ScoringTask

_log = logging.getLogger("egl_fast")


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
    for name in searched[0].output_layer:
        output_share += by_parameter[name]
    products, output_share = products.cpu(), output_share.cpu()
    return [record(task, one, products[n], output_share[n]) for n, one in enumerate(searched)]


def _tell_of_lost_basis(
    memory: GradientMemory, tape: Tape, searched: Sequence[Searched], num_rows: int
) -> None:
    if memory.told_of_lost_bases:
        return
    memory.told_of_lost_bases = True
    _log.warning(
        "utterance %r: inner products of %d gradients do not fit into %.3g GiB of memory for "
        "gradients, so %d labelings are pulled back one by one: just as exact, but slower; with "
        "%.2g GiB they would fit (--memory)",
        searched[0].name,
        num_rows,
        memory.total_bytes / 2**30,
        max(len(one.labelings) for one in searched),
        memory.least_bytes(tape, num_rows) / 2**30 * 1.05,  # printed with two digits
    )


def _one_by_one(one: Searched, blank: int) -> Searched:
    """With a row for each hypothesis: these are more rows, but their squared norms suffice."""
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


def record(task: ScoringTask, one: Searched, products: Tensor, output_share: Tensor) -> ScoreRecord:
    """The record of an utterance, from the gradients of its rows.

    ``products`` are [rows] squared norms over all parameters, or [rows, rows] inner products,
    padded if other utterances have more rows; ``output_share`` is the output layer's share of them.
    """
    options, classes = task.options, task.classes
    own = (slice(len(one.rows)),) * products.dim()
    estimate, single = one.rows.finish(products[own], output_share[own])
    probability = one.log_prob.exp()
    mass = float(probability.sum())
    full = full_stderr = None
    if one.draws is not None:
        norms = [x.diagonal() if x.dim() == 2 else x for x in (products, output_share)]
        energy = float(one.rows.weights @ one.energies)
        beyond = one.draws.estimate(
            *(x[len(one.rows) : one.num_rows] for x in norms),
            # The K best's, which do not depend on the draws.
            gain=estimate.value / energy if energy > 0.0 else 0.0,
        )
        full = mass * estimate.value + beyond.value
        full_stderr = math.sqrt(mass**2 * estimate.variance + beyond.variance)
    # p log p -> 0 as p -> 0, also where log p is -inf.
    entropy = -torch.special.xlogy(one.log_probs.exp(), one.log_probs.exp()).sum(1).mean()
    words = word_uncertainty(one.log_probs, task.classes) if options.word_confidence else None
    hypotheses: tuple[Hypothesis, ...] = ()
    try:
        if options.per_hypothesis and single is not None:
            hypotheses = _hypotheses(one, single, classes)
        return ScoreRecord(
            id=one.name,
            duration=one.duration,
            num_frames=one.num_frames,
            pred_text=classes.text(one.labelings[0]),
            num_hypotheses=len(one.labelings),
            beam_mass=mass,
            egl=mass * estimate.value,
            egl_stderr=mass * math.sqrt(estimate.variance),
            egl_normalized=estimate.value,
            egl_unsquared=None if single is None else float(probability @ single.sq_norms.sqrt()),
            egl_full=full,
            egl_full_stderr=full_stderr,
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


def _hypotheses(one: Searched, single: SingleNorms, classes: Classes) -> tuple[Hypothesis, ...]:
    numbers = (one.log_prob.tolist(), single.sq_norms.tolist(), single.stderr.tolist())
    return tuple(
        Hypothesis(classes.text(labels), labels, *three)
        for labels, *three in zip(one.labelings, *numbers, strict=True)
    )
