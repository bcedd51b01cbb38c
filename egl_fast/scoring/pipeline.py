"""Expected Gradient Length of a batch: from logits to score records, top to bottom.

Huang et al., "Active Learning for Speech Recognition: the Power of Gradients", 2016, Eq. 4:

    egl(x) = sum over the K most probable labelings y of  p(y|x) ||grad_theta loss(x, y)||^2

with loss(x, y) = -log p(y|x). The gradient of the loss with respect to the logits is
softmax(logits) - occupancy(y); ``GradientEngine`` turns it into the squared norm of the
parameter gradient.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from egl_fast import ops
from egl_fast.errors import ModelError
from egl_fast.estimation.keys import sign_key
from egl_fast.estimation.spanning import SPAN
from egl_fast.gradients.engine import GradientEngine
from egl_fast.gradients.output_layer import output_layer_of
from egl_fast.gradients.tape import Tape
from egl_fast.records import ScoreRecord
from egl_fast.scoring.options import Classes, ScoringOptions
from egl_fast.scoring.outputs import model_outputs
from egl_fast.scoring.pending import PendingScore


def score_tape(
    engine: GradientEngine,
    tape: Tape,
    *,
    ids: Sequence[str],
    durations: Sequence[float],
    classes: Classes,
    options: ScoringOptions,
) -> list[ScoreRecord]:
    """Scores of the utterances of one forward pass.

    Args:
        engine: of the model that ran.
        tape: the forward pass, whose outputs are (logits [N, T, C], lengths [N]).
        ids: N names.
        durations: N lengths in seconds; 0 where unknown.
        classes: the C classes.
        options: what to compute.

    Raises:
        ModelError: the outputs have another form, or logits are NaN or +inf; the message names
            the utterance.
    """
    pending = search(tape, ids=ids, durations=durations, classes=classes, options=options)
    return pull_back(engine, tape, pending)


def search(
    tape: Tape,
    *,
    ids: Sequence[str],
    durations: Sequence[float],
    classes: Classes,
    options: ScoringOptions,
) -> list[PendingScore]:
    """The first half: labelings, probabilities, and the cotangents worth pulling back.

    Args and Raises: see ``score_tape``.
    """
    logits, lengths = model_outputs(tape.outputs, ids=ids, num_classes=len(classes.vocabulary))
    layer = None if options.method == "exact" else output_layer_of(tape, logits)
    frame_gram = None if layer is None else layer.frame_gram(lengths)
    keys = torch.tensor([sign_key(options.seed, name) for name in ids])
    device = logits.device
    found = ops.ctc_nbest_cotangents(
        logits,
        lengths.to(device),
        num_hypotheses=options.k,
        beam_width=options.beam_width_on(device),
        tolerance=options.tolerance if options.method == "lowrank" else None,
        probes=options.probes if options.method == "probe" else None,
        span=SPAN if options.method == "exact" and logits.dtype == torch.float32 else None,
        keys=keys.to(device),
        frame_gram=frame_gram,
        blank=classes.blank,
    ).summary_on_host()
    counts = found.hypotheses.counts
    if int(counts.min()) == 0:
        name = ids[int(counts.argmin())]
        raise ModelError(f"utterance {name!r}: no labeling has a probability above 0")
    log_probs = logits.detach().double().log_softmax(dim=2)
    pending = [
        PendingScore(
            name=ids[n],
            duration=durations[n],
            log_probs=log_probs[n, : int(lengths[n])],
            found=found,
            utterance=n,
            key=int(keys[n]),
            output_layer=() if layer is None else layer.names,
            classes=classes,
            options=options,
        )
        for n in range(len(ids))
    ]
    if options.full:
        labelings = [score.outside.labelings for score in pending]
        drawn = ops.Hypotheses.of(labelings).to(device)
        # What is combined before it is pulled back is combined in float64.
        _, cotangents = ops.ctc_logits_cotangents(
            log_probs, lengths.to(device), drawn, blank=classes.blank
        )
        for n, score in enumerate(pending):
            score.add_outside(
                cotangents[n, : len(labelings[n])], None if frame_gram is None else frame_gram[n]
            )
    return pending


def pull_back(
    engine: GradientEngine, tape: Tape, pending: Sequence[PendingScore]
) -> list[ScoreRecord]:
    """The second half: squared gradient norms of the cotangents, and what they say.

    Args:
        engine: of the model that ran.
        tape: a forward pass of the same utterances; not necessarily the one that was searched.
        pending: what ``search`` made of them.

    Raises:
        ModelError: an utterance has another number of frames in this pass.
    """
    logits, lengths = model_outputs(
        tape.outputs,
        ids=[score.name for score in pending],
        num_classes=len(pending[0].classes.vocabulary),
    )
    most = max(score.num_rows for score in pending)
    if any(score.spans for score in pending) and not engine.holds_gradients(tape, logits, most):
        # Inner products of rows of different passes want the gradients of all at once.
        for score in pending:
            if score.spans:
                score.pull_back_one_by_one()
    most = max(1, *(score.num_rows for score in pending))
    rows = logits.new_zeros(len(pending), most, *logits.shape[1:])
    for n, score in enumerate(pending):
        if int(lengths[n]) != score.num_frames:
            raise ModelError(
                f"utterance {score.name!r}: the model gives it {int(lengths[n])} frames beside "
                f"other neighbours than those where it had {score.num_frames}"
            )
        rows[n, : score.num_rows, : score.num_frames] = score.cotangents
    if any(score.wants_products for score in pending):
        by_parameter = engine.gram(tape, logits, rows)
    else:
        by_parameter = engine.sq_norms(tape, logits, rows)
    products = torch.stack(list(by_parameter.values())).sum(dim=0)
    of_output = torch.zeros_like(products)
    for name in pending[0].output_layer:
        of_output += by_parameter[name]
    products, of_output = products.cpu(), of_output.cpu()
    return [score.record(products[n], of_output[n]) for n, score in enumerate(pending)]
