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
from torch import Tensor

from egl_fast import ops
from egl_fast.errors import ModelError
from egl_fast.estimation.keys import sign_key
from egl_fast.estimation.spanning import SPAN
from egl_fast.gradients.engine import GradientEngine
from egl_fast.gradients.output_layer import output_layer_of
from egl_fast.gradients.tape import Tape
from egl_fast.records import ScoreRecord
from egl_fast.scoring.classes import Classes
from egl_fast.scoring.options import ScoringOptions
from egl_fast.scoring.outputs import model_outputs
from egl_fast.scoring.pending import PendingScore

#: Room on a GPU for the rows of utterances that are searched together.
SEARCH_BYTES = 2**31


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
    found: list[tuple[ops.NbestCotangents, int]] = []
    parts = _searched_together(logits, options)
    for part in parts:
        some = ops.ctc_nbest_cotangents(
            logits[part],
            lengths[part].to(device),
            num_hypotheses=options.k,
            beam_width=options.beam_width_on(device),
            tolerance=options.tolerance if options.method == "lowrank" else None,
            probes=options.probes if options.method == "probe" else None,
            span=SPAN if options.method == "exact" and logits.dtype == torch.float32 else None,
            keys=keys[part].to(device),
            frame_gram=None if frame_gram is None else frame_gram[part],
            blank=classes.blank,
        ).summary_on_host()
        found += [(some, n) for n in range(len(some.hypotheses.counts))]
    for name, (some, n) in zip(ids, found, strict=True):
        if int(some.hypotheses.counts[n]) == 0:
            raise ModelError(f"utterance {name!r}: no labeling has a probability above 0")
    log_probs = logits.detach().double().log_softmax(dim=2)
    pending = [
        PendingScore(
            name=ids[n],
            duration=durations[n],
            log_probs=log_probs[n, : int(lengths[n])],
            found=found[n][0],
            utterance=found[n][1],
            key=int(keys[n]),
            output_layer=() if layer is None else layer.names,
            classes=classes,
            options=options,
        )
        for n in range(len(ids))
    ]
    if options.full:
        for part in parts:
            drawn = ops.Hypotheses.of([score.outside.labelings for score in pending[part]])
            # What is combined before it is pulled back is combined in float64.
            _, cotangents = ops.ctc_logits_cotangents(
                log_probs[part], lengths[part].to(device), drawn.to(device), blank=classes.blank
            )
            for n, score in enumerate(pending[part]):
                score.add_outside(
                    cotangents[n, : len(score.outside.labelings)],
                    None if frame_gram is None else frame_gram[part][n],
                )
    return pending


def _searched_together(logits: Tensor, options: ScoringOptions) -> list[slice]:
    """The utterances of a batch in parts whose rows there is room for.

    On a GPU, which does not wait to learn how many rows are needed, there is room for the most that
    may be, of every utterance of a call: with thousands of classes that is too much for a batch.
    """
    num_utterances, num_frames, num_classes = logits.shape
    together = num_utterances
    if logits.device.type != "cpu":
        num_rows = options.probes if options.method == "probe" else options.k
        of_utterance = num_rows * num_frames * num_classes * logits.element_size()
        if options.full:
            of_utterance += options.full_samples * num_frames * num_classes * 8
        together = max(1, SEARCH_BYTES // max(1, of_utterance))
    return [slice(n, n + together) for n in range(0, num_utterances, max(1, together))]


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
