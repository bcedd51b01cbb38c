"""The first half of the formula: labelings, their probabilities, and cotangents to pull back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from egl_fast import ops
from egl_fast.errors import ModelError
from egl_fast.gradients.output_layer import output_layer_of
from egl_fast.gradients.tape import Tape
from egl_fast.methods.draws import MORE_DRAWS, Draws, compressed_draws
from egl_fast.methods.keys import sign_key
from egl_fast.methods.method import Rows
from egl_fast.methods.samples import Labels, sample_labelings
from egl_fast.scoring.formula.dropout import dropout_disagreement
from egl_fast.scoring.formula.embedding import embeddings_of
from egl_fast.scoring.formula.outputs import model_outputs
from egl_fast.scoring.options import ScoringOptions
from egl_fast.scoring.task import ScoringTask

#: Memory on a GPU for the rows of utterances that are searched together.
SEARCH_BYTES = 2**31


@dataclass(frozen=True, eq=False, kw_only=True)
class Decoded:
    """One utterance with its labelings."""

    name: str
    duration: float  # seconds; 0 if unknown
    log_probs: Tensor  # [T, C] float64 on the model's device, T the utterance's own frames
    labelings: Sequence[Labels]  # K or fewer, best first
    log_prob: Tensor  # [K] float64 on the CPU, log p(y|x) of the labelings, exact
    embedding: Tensor | None  # [d] on the CPU, if the task asks for it
    mc_dropout: float | None  # see ``dropout_disagreement``, if the options ask for it

    @property
    def num_frames(self) -> int:
        """T."""
        return self.log_probs.shape[0]


@dataclass(frozen=True, eq=False, kw_only=True)
class Searched(Decoded):
    """A decoded utterance with its rows to pull back. On the CPU, except for cotangents."""

    rows: Rows  # how to get the labelings' norms from the first of the cotangents
    energies: Tensor  # [K] float64, ||delta_k||^2 of the labelings
    draws: Draws | None  # likewise for labelings beyond the beam, from the other cotangents
    cotangents: Tensor  # [rows, T, C] to pull back, on the model's device
    # Parameters of the output layer, if the method knows its norms in advance.
    output_layer: tuple[str, ...]

    @property
    def num_rows(self) -> int:
        """Cotangents to pull back."""
        return self.cotangents.shape[0]


def search(
    task: ScoringTask, tape: Tape, *, ids: Sequence[str], durations: Sequence[float]
) -> list[Searched]:
    """Find the K best labelings of each utterance, and the rows that stand for their cotangents.

    The tape's outputs are (logits [N, T, C], lengths [N]); durations are in seconds, 0 if unknown.

    Raises:
        ModelError: the outputs have another form, or logits are NaN or +inf; the message names the
            utterance.
    """
    options, classes = task.options, task.classes
    logits, lengths = model_outputs(tape.outputs, ids=ids, num_classes=len(classes.vocabulary))
    device, method = logits.device, options.chosen_method
    layer = output_layer_of(tape) if method.wants_output_layer else None
    frame_gram = None if layer is None else layer.frame_gram(lengths)
    known = _known_of(task, tape, lengths, ids=ids, durations=durations)
    searched: list[Searched] = []
    for part in _searched_together(logits, options):
        names, num_frames = ids[part], lengths[part].tolist()
        own_gram = None if frame_gram is None else frame_gram[part]
        keys = [sign_key(options.seed, name) for name in names]
        found = ops.ctc_nbest_cotangents(
            logits[part],
            lengths[part].to(device),
            num_hypotheses=options.k,
            beam_width=options.beam_width_on(device),
            keys=torch.tensor(keys).to(device),
            frame_gram=own_gram,
            blank=classes.blank,
            **method.compression(logits),
        ).summary_on_host()
        _refuse_impossible(names, found.hypotheses)
        for n, name in enumerate(names):
            of_utterance = known[part][n]
            labelings = found.hypotheses.labelings(n)
            rows = method.rows(found, n)
            assert rows is not None, "this method pulls nothing back"
            cotangents = found.cotangents[n, : len(rows), : num_frames[n]]
            draws = None
            if options.full:
                end = num_frames[n]
                more, draws = _beyond_the_beam(
                    task,
                    of_utterance["log_probs"],
                    labelings,
                    None if own_gram is None else own_gram[n, :end, :end],
                    name=name,
                    key=keys[n],
                )
                cotangents = torch.cat([cotangents, more.to(cotangents.dtype)])
            searched.append(
                Searched(
                    **of_utterance,
                    labelings=labelings,
                    log_prob=found.hypotheses.log_prob[n, : len(labelings)],
                    rows=rows,
                    energies=found.cotangent_sq_norms[n, : len(labelings)],
                    draws=draws,
                    cotangents=cotangents,
                    output_layer=() if layer is None else layer.names,
                )
            )
    return searched


def decode(
    task: ScoringTask, tape: Tape, *, ids: Sequence[str], durations: Sequence[float]
) -> list[Decoded]:
    """``search`` for a method without backward passes; finds the same labelings.

    Their probabilities may differ in the last bits, since the fused operator has its own
    log-softmax.
    """
    options, classes = task.options, task.classes
    logits, lengths = model_outputs(tape.outputs, ids=ids, num_classes=len(classes.vocabulary))
    found = ops.ctc_beam_search(
        logits.detach().double().log_softmax(dim=2),
        lengths.to(logits.device),
        num_hypotheses=options.k,
        beam_width=options.beam_width_on(logits.device),
        blank=classes.blank,
    )
    _refuse_impossible(ids, found)
    known = _known_of(task, tape, lengths, ids=ids, durations=durations)
    log_prob = found.log_prob.cpu()
    return [
        Decoded(
            **of_utterance,
            labelings=(labelings := found.labelings(n)),
            log_prob=log_prob[n, : len(labelings)],
        )
        for n, of_utterance in enumerate(known)
    ]


def _known_of(
    task: ScoringTask,
    tape: Tape,
    lengths: Tensor,
    *,
    ids: Sequence[str],
    durations: Sequence[float],
) -> list[dict[str, Any]]:
    """The fields of ``Decoded`` that need no search, for each utterance."""
    embeddings = embeddings_of(tape, lengths) if task.embeds else None
    dropped = dropout_disagreement(task, tape, ids) if task.options.mc_dropout else None
    log_probs = tape.logits.detach().double().log_softmax(dim=2)
    if task.plausibility is not None:
        task.plausibility.see(log_probs, lengths, durations)
    return [
        {
            "name": name,
            "duration": durations[n],
            "log_probs": log_probs[n, :end],
            "embedding": None if embeddings is None else embeddings[n],
            "mc_dropout": None if dropped is None else dropped[n],
        }
        for n, (name, end) in enumerate(zip(ids, lengths.tolist(), strict=True))
    ]


def _refuse_impossible(names: Sequence[str], found: ops.Hypotheses) -> None:
    for name, count in zip(names, found.counts.tolist(), strict=True):
        if count == 0:
            raise ModelError(f"utterance {name!r}: no labeling has a probability above 0")


def _searched_together(logits: Tensor, options: ScoringOptions) -> list[slice]:
    """The utterances of a batch, split so that each part's rows fit into memory.

    On a GPU, the operator does not wait to learn how many rows are needed. It allocates the largest
    possible number for every utterance: with thousands of classes, too much for a batch.
    """
    num_utterances, num_frames, num_classes = logits.shape
    together = num_utterances
    if logits.device.type != "cpu":
        num_rows = options.chosen_method.most_rows(options.k)
        of_utterance = num_rows * num_frames * num_classes * logits.element_size()
        if options.full:  # draws are compressed one utterance at a time, to no more rows
            of_utterance *= 2
        together = max(1, SEARCH_BYTES // max(1, of_utterance))
    return [slice(n, n + together) for n in range(0, num_utterances, max(1, together))]


def _beyond_the_beam(
    task: ScoringTask,
    log_probs: Tensor,
    labelings: Sequence[Labels],
    frame_gram: Tensor | None,
    *,
    name: str,
    key: int,
) -> tuple[Tensor, Draws]:
    """An utterance's rows for draws that are not among its labelings, and how to use them."""
    options, blank = task.options, task.classes.blank
    num_draws = options.full_samples
    drawn = sample_labelings(
        log_probs, (1 + MORE_DRAWS) * num_draws, seed=options.seed, name=name, blank=blank
    )
    return compressed_draws(
        log_probs,
        drawn,
        set(labelings),
        num_draws=num_draws,
        budget=options.chosen_method.budget_of_draws,
        key=key,
        frame_gram=frame_gram,
        blank=blank,
    )
