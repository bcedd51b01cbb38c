"""The first half of the formula: labelings, probabilities, and cotangents to pull back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from egl_fast import ops
from egl_fast.errors import ModelError
from egl_fast.gradients.output_layer import output_layer_of
from egl_fast.gradients.tape import Tape
from egl_fast.methods.keys import sign_key
from egl_fast.methods.method import Rows
from egl_fast.methods.samples import Labels, Reading, sample_labelings
from egl_fast.scoring.classes import Classes
from egl_fast.scoring.formula.outputs import model_outputs
from egl_fast.scoring.options import ScoringOptions

#: Room on a GPU for the rows of utterances that are searched together.
SEARCH_BYTES = 2**31


@dataclass(frozen=True, eq=False)
class Searched:
    """One utterance whose labelings are known, and what to pull back; not yet what that gives.

    Attributes:
        name: its id.
        duration: seconds; 0 where unknown.
        log_probs: [T, C] float64 on the model's device, T the utterance's own frames.
        labelings: K or fewer, best first.
        log_prob: [K] float64, their exact logarithms of p(y|x). On the CPU, as what follows.
        rows: how the first of the cotangents stand for the labelings'.
        reading: how the others stand for samples beyond the beam; None if there are none.
        cotangents: [rows, T, C] to pull back, on the model's device.
        output_layer: names of parameters whose share in every hypothesis's norm is known already.
    """

    name: str
    duration: float
    log_probs: Tensor
    labelings: Sequence[Labels]
    log_prob: Tensor
    rows: Rows
    reading: Reading | None
    cotangents: Tensor
    output_layer: tuple[str, ...]

    @property
    def num_frames(self) -> int:
        """T."""
        return self.log_probs.shape[0]

    @property
    def num_rows(self) -> int:
        """Cotangents to pull back."""
        return self.cotangents.shape[0]


def search(
    tape: Tape,
    *,
    ids: Sequence[str],
    durations: Sequence[float],
    classes: Classes,
    options: ScoringOptions,
) -> list[Searched]:
    """Find the K best labelings of each utterance, and the rows that stand for their cotangents.

    Args:
        tape: the forward pass, whose outputs are (logits [N, T, C], lengths [N]).
        ids: N names.
        durations: N lengths in seconds; 0 where unknown.
        classes: the C classes.
        options: what to compute.

    Raises:
        ModelError: the outputs have another form, or logits are NaN or +inf; the message names
            the utterance.
    """
    logits, lengths = model_outputs(tape.outputs, ids=ids, num_classes=len(classes.vocabulary))
    device, method = logits.device, options.chosen_method
    layer = output_layer_of(tape) if method.wants_output_layer else None
    frame_gram = None if layer is None else layer.frame_gram(lengths)
    keys = torch.tensor([sign_key(options.seed, name) for name in ids])
    log_probs = logits.detach().double().log_softmax(dim=2)
    searched: list[Searched] = []
    for part in _searched_together(logits, options):
        found = ops.ctc_nbest_cotangents(
            logits[part],
            lengths[part].to(device),
            num_hypotheses=options.k,
            beam_width=options.beam_width_on(device),
            keys=keys[part].to(device),
            frame_gram=None if frame_gram is None else frame_gram[part],
            blank=classes.blank,
            **method.compression(logits),
        ).summary_on_host()
        for name, count in zip(ids[part], found.hypotheses.counts.tolist(), strict=True):
            if count == 0:
                raise ModelError(f"utterance {name!r}: no labeling has a probability above 0")
        beyond = _beyond_the_beam(
            found.hypotheses,
            log_probs[part],
            lengths[part],
            None if frame_gram is None else frame_gram[part],
            ids=ids[part],
            keys=keys[part].tolist(),
            blank=classes.blank,
            options=options,
        )
        for n, (more, reading) in enumerate(beyond):
            num_frames = int(lengths[part][n])
            labelings = found.hypotheses.labelings(n)
            rows = method.rows(found, n)
            own = found.cotangents[n, : len(rows), :num_frames]
            searched.append(
                Searched(
                    name=ids[part][n],
                    duration=durations[part][n],
                    log_probs=log_probs[part][n, :num_frames],
                    labelings=labelings,
                    log_prob=found.hypotheses.log_prob[n, : len(labelings)],
                    rows=rows,
                    reading=reading,
                    cotangents=own if reading is None else torch.cat([own, more.to(own.dtype)]),
                    output_layer=() if layer is None else layer.names,
                )
            )
    return searched


def _searched_together(logits: Tensor, options: ScoringOptions) -> list[slice]:
    """The utterances of a batch in parts whose rows there is room for.

    On a GPU, which does not wait to learn how many rows are needed, there is room for the most that
    may be, of every utterance of a call: with thousands of classes that is too much for a batch.
    """
    num_utterances, num_frames, num_classes = logits.shape
    together = num_utterances
    if logits.device.type != "cpu":
        num_rows = options.chosen_method.most_rows(options.k)
        of_utterance = num_rows * num_frames * num_classes * logits.element_size()
        if options.full:
            of_utterance += options.full_samples * num_frames * num_classes * 8
        together = max(1, SEARCH_BYTES // max(1, of_utterance))
    return [slice(n, n + together) for n in range(0, num_utterances, max(1, together))]


def _beyond_the_beam(
    found: ops.Hypotheses,
    log_probs: Tensor,
    lengths: Tensor,
    frame_gram: Tensor | None,
    *,
    ids: Sequence[str],
    keys: Sequence[int],
    blank: int,
    options: ScoringOptions,
) -> list[tuple[Tensor, Reading | None]]:
    """Of each utterance, rows of samples beyond the beam [m, T, C] float64, and their reading."""
    if not options.full:
        return [(log_probs, None)] * len(ids)
    samples = []
    for n, name in enumerate(ids):
        own = log_probs[n, : int(lengths[n])]
        draws = sample_labelings(
            own, options.full_samples, seed=options.seed, name=name, blank=blank
        )
        inside = set(found.labelings(n))
        samples.append(options.chosen_method.samples(draws, inside, key=keys[n]))
    drawn = ops.Hypotheses.of([some.labelings for some in samples])
    device = log_probs.device
    # What is combined before it is pulled back is combined in float64.
    _, cotangents = ops.ctc_logits_cotangents(
        log_probs, lengths.to(device), drawn.to(device), blank=blank
    )
    rows: list[tuple[Tensor, Reading | None]] = []
    for n, some in enumerate(samples):
        end = int(lengths[n])
        own_gram = None if frame_gram is None else frame_gram[n, :end, :end]
        rows.append(some.rows(cotangents[n, : len(some.labelings), :end], own_gram))
    return rows
