"""Whether a transcript is one that the model could believe: an audit of what came back.

CTC's frames are independent given the audio, so labelings are drawn exactly from p(y|x)
(``methods.samples``). A right transcript y is, to the model, about as surprising as these draws:
-log p(y|x) and the length of its loss gradient lie among theirs. Far outside, the transcript is
wrong, or the recording is not what it seems, or the model has never met such speech. Measured
(docs/labeling.md), -log p(y|x) per label by itself tells wrong transcripts from right ones as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from egl_fast import ops
from egl_fast.data.manifest import Utterance
from egl_fast.gradients.engine import GradientEngine
from egl_fast.methods.samples import sample_labelings
from egl_fast.recognizers.recognizer import Recognizer
from egl_fast.scoring.formula.outputs import model_outputs


@dataclass(frozen=True)
class Audited:
    """A labeling of an utterance, among labelings drawn from the model.

    Attributes:
        nll: -log p(y|x) in nats; infinite if the labeling does not fit into the frames.
        num_labels: its length.
        sq_grad_norm: squared length of the loss gradient; 0 if ``nll`` is infinite, and without
            draws, when nothing would be compared with it.
        drawn_nlls: -log p of each draw.
        drawn_sq_norms: squared length of the gradient of each draw.
    """

    nll: float
    num_labels: int
    sq_grad_norm: float
    drawn_nlls: Sequence[float]
    drawn_sq_norms: Sequence[float]

    @property
    def nll_per_label(self) -> float:
        """Nats; what transcripts are ranked by."""
        return self.nll / max(1, self.num_labels)

    @property
    def nll_percentile(self) -> float:
        """Percentage of the draws that are less surprising, ties counting half."""
        return _percentile(self.nll, self.drawn_nlls)

    @property
    def norm_percentile(self) -> float:
        """Percentage of the draws whose gradient is shorter, ties counting half."""
        norm = math.inf if math.isinf(self.nll) else self.sq_grad_norm
        return _percentile(norm, self.drawn_sq_norms)


def _percentile(value: float, drawn: Sequence[float]) -> float:
    # Equal numbers of the same labeling may differ by rounding.
    same = [math.isclose(value, one, rel_tol=1e-6, abs_tol=1e-9) for one in drawn]
    below = sum(one < value and not tie for one, tie in zip(drawn, same, strict=True))
    return 100 * (below + sum(same) / 2) / len(drawn)


def audit(
    recognizer: Recognizer,
    engine: GradientEngine,
    utterance: Utterance,
    labelings: Sequence[Sequence[int]],
    *,
    num_draws: int,
    seed: int,
) -> list[Audited]:
    """Compare labelings of one utterance with draws, in one forward pass.

    Args:
        recognizer: the model, in evaluation mode.
        engine: of its module.
        utterance: the recording.
        labelings: of class indices, never the blank.
        num_draws: from the model; equal ones are pulled back once. 0: no backward pass.
        seed: of the draws, together with the utterance's id.

    Returns:
        For each of the labelings, how it compares.

    Raises:
        AudioError: the recording cannot be read.
        ModelError: the model fails on it.
    """
    classes = recognizer.classes
    inputs = recognizer.inputs([recognizer.load(utterance)])
    tape = engine.run(*inputs.positional, **inputs.named) if num_draws else None
    outputs = engine.infer(*inputs.positional, **inputs.named) if tape is None else tape.outputs
    logits, lengths = model_outputs(
        outputs, ids=[utterance.id], num_classes=len(classes.vocabulary)
    )
    log_probs = logits[0, : int(lengths[0])].detach().double().log_softmax(dim=1)
    drawn = sample_labelings(
        log_probs, num_draws, seed=seed, name=utterance.id, blank=classes.blank
    )
    distinct = list(dict.fromkeys([*map(tuple, labelings), *drawn]))
    log_prob, cotangents = ops.ctc_logits_cotangents(
        logits,
        lengths.to(logits.device),
        ops.Hypotheses.of([distinct]).to(logits.device),
        blank=classes.blank,
    )
    nlls = (-log_prob[0]).tolist()
    sq_norms = [0.0] * len(distinct)
    if tape is not None:
        by_parameter = engine.sq_norms(tape, cotangents)
        sq_norms = torch.stack(list(by_parameter.values())).sum(dim=0)[0].tolist()
    place = {labels: k for k, labels in enumerate(distinct)}
    own_places = [place[labels] for labels in drawn]
    return [
        Audited(
            nlls[place[labels]],
            len(labels),
            sq_norms[place[labels]],
            [nlls[k] for k in own_places],
            [sq_norms[k] for k in own_places],
        )
        for labels in map(tuple, labelings)
    ]
