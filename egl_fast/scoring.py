"""Expected Gradient Length of a batch: from logits to score records, top to bottom.

Huang et al., "Active Learning for Speech Recognition: the Power of Gradients", 2016, Eq. 4:

    egl(x) = sum over the K most probable labelings y of  p(y|x) ||grad_theta loss(x, y)||^2

with loss(x, y) = -log p(y|x). The gradient of the loss with respect to the logits is
softmax(logits) - occupancy(y); ``GradientEngine`` turns it into the squared norm of the
parameter gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from egl_fast import ops
from egl_fast.errors import ModelError
from egl_fast.gradients.engine import GradientEngine
from egl_fast.gradients.tape import Tape
from egl_fast.records import Hypothesis, ScoreRecord, random_score
from egl_fast.vocabulary import decode

METHODS = ("exact", "lowrank", "probe")


@dataclass(frozen=True, kw_only=True)
class ScoringOptions:
    """What to compute; the same keywords in Python and on the command line.

    Attributes:
        k: labelings that the expectation runs over.
        beam_width: prefixes kept while searching, at least k; None: ``ops.default_beam_width``.
        method: "exact"; "lowrank" and "probe" are names kept for estimators to come.
        tolerance: target relative standard error of an estimator; "exact" has none.
        probes: cotangents that "probe" pulls back.
        full: estimate the sum over all labelings too; not available yet.
        full_samples: labelings that ``full`` draws.
        per_hypothesis: keep the hypotheses with their probabilities and squared norms.
        params: shell pattern of the parameters that count, several separated by commas;
            None: all that require a gradient.
        seed: of everything random.

    Raises:
        ValueError: a value is out of its range, or names something not available.
    """

    k: int = 100
    beam_width: int | None = None
    method: str = "exact"
    tolerance: float = 0.01
    probes: int = 4
    full: bool = False
    full_samples: int = 16
    per_hypothesis: bool = False
    params: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k: expected at least 1, got {self.k}")
        if self.beam_width is not None and self.beam_width < self.k:
            raise ValueError(f"beam_width: expected at least k = {self.k}, got {self.beam_width}")
        if self.method not in METHODS:
            raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {self.method!r}")
        if self.method != "exact":
            raise ValueError(f"method: {self.method!r} is not available yet; use 'exact'")
        if self.full:
            raise ValueError("full: the sum over all labelings is not available yet; leave it out")
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance: expected a share between 0 and 1, got {self.tolerance}")
        for name in ("probes", "full_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")

    @property
    def effective_beam_width(self) -> int:
        """The beam width that the search will use."""
        return ops.default_beam_width(self.k) if self.beam_width is None else self.beam_width


@dataclass(frozen=True)
class Classes:
    """What the C classes of a model mean.

    Attributes:
        vocabulary: names in index order.
        blank: index of the blank, whose name is ignored.
    """

    vocabulary: tuple[str, ...]
    blank: int


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
    logits, lengths = model_outputs(tape.outputs, ids=ids, num_classes=len(classes.vocabulary))
    # One softmax in float64 serves search, occupancy and entropy.
    log_probs = logits.detach().double().log_softmax(dim=2)
    hypotheses = ops.ctc_beam_search(
        log_probs,
        lengths,
        num_hypotheses=options.k,
        beam_width=options.effective_beam_width,
        blank=classes.blank,
    )
    if int(hypotheses.counts.min()) == 0:
        name = ids[int(hypotheses.counts.argmin())]
        raise ModelError(f"utterance {name!r}: no labeling has a probability above 0")
    log_prob, cotangents = ops.ctc_logits_cotangents(
        logits.detach(), lengths, hypotheses, blank=classes.blank
    )
    cotangents = cotangents[:, : int(hypotheses.counts.max())]  # no pass for unused slots
    by_parameter = engine.sq_norms(tape, logits, cotangents)
    sq_norms = torch.stack(list(by_parameter.values())).sum(dim=0)
    return [
        _record(
            name=ids[n],
            duration=durations[n],
            log_probs=log_probs[n, : int(lengths[n])],
            labelings=[
                tuple(hypotheses.labels[n, k, : int(hypotheses.label_lengths[n, k])].tolist())
                for k in range(int(hypotheses.counts[n]))
            ],
            log_prob=log_prob[n, : int(hypotheses.counts[n])],
            sq_norms=sq_norms[n, : int(hypotheses.counts[n])],
            classes=classes,
            options=options,
        )
        for n in range(len(ids))
    ]


def _record(
    *,
    name: str,
    duration: float,
    log_probs: Tensor,
    labelings: Sequence[tuple[int, ...]],
    log_prob: Tensor,
    sq_norms: Tensor,
    classes: Classes,
    options: ScoringOptions,
) -> ScoreRecord:
    """One utterance: [T, C] log-probabilities, K exact log-probabilities, K squared norms."""
    probability = log_prob.exp()
    # Normalising in the log domain: in a long utterance every p may underflow, their ratios don't.
    weight = log_prob.softmax(dim=0)
    # p log p -> 0 as p -> 0, also where log p is -inf.
    entropy = -torch.special.xlogy(log_probs.exp(), log_probs.exp()).sum(dim=1).mean()
    try:
        return ScoreRecord(
            id=name,
            duration=duration,
            num_frames=log_probs.shape[0],
            pred_text=decode(labelings[0], classes.vocabulary),
            num_hypotheses=len(labelings),
            beam_mass=float(probability.sum()),
            egl=float(probability @ sq_norms),
            egl_stderr=0.0,
            egl_normalized=float(weight @ sq_norms),
            egl_unsquared=float(probability @ sq_norms.sqrt()),
            egl_full=None,
            egl_full_stderr=None,
            entropy=max(0.0, float(entropy)),
            pctc=-float(log_prob[0]) / log_probs.shape[0],
            random=random_score(options.seed, name),
            hypotheses=tuple(
                Hypothesis(
                    text=decode(labels, classes.vocabulary),
                    labels=labels,
                    log_prob=float(log_prob[k]),
                    sq_grad_norm=float(sq_norms[k]),
                )
                for k, labels in enumerate(labelings)
            )
            if options.per_hypothesis
            else (),
        )
    except ValueError as error:
        raise ModelError(f"utterance {name!r}: {error}") from None


def model_outputs(
    outputs: Any, *, ids: Sequence[str] | None, num_classes: int
) -> tuple[Tensor, Tensor]:
    """Check what a model returned.

    Args:
        outputs: to be (logits [N, T, C], lengths [N]).
        ids: names of the N utterances; None where N is yet unknown.
        num_classes: C.

    Returns:
        The logits as they are, in the autograd graph, and the lengths as int64 on the CPU.

    Raises:
        ModelError: they have another form; the message says what was expected and what came.
    """
    if not isinstance(outputs, (tuple, list)) or len(outputs) != 2:
        raise ModelError(
            f"the model must return (logits [N, T, C], lengths [N]), got {_form(outputs)}"
        )
    logits, lengths = outputs
    if not isinstance(logits, Tensor) or logits.dim() != 3:
        raise ModelError(f"the model's logits: expected [N, T, C], got {_form(logits)}")
    if logits.dtype not in (torch.float32, torch.float64):
        raise ModelError(f"the model's logits: expected float32 or float64, got {logits.dtype}")
    if logits.shape[2] != num_classes:
        raise ModelError(
            f"the model's logits have {logits.shape[2]} classes, the vocabulary has {num_classes}"
        )
    lengths = torch.as_tensor(lengths)
    if lengths.dim() != 1 or lengths.is_floating_point() or lengths.shape[0] != logits.shape[0]:
        raise ModelError(
            f"the model's lengths: expected [{logits.shape[0]}] integers, got {_form(lengths)}"
        )
    lengths = lengths.to("cpu", torch.int64)
    if ids is None:
        return logits, lengths
    if len(ids) != logits.shape[0]:
        raise ModelError(f"got {len(ids)} ids for {logits.shape[0]} utterances")
    for n, name in enumerate(ids):
        if not 1 <= int(lengths[n]) <= logits.shape[1]:
            raise ModelError(
                f"utterance {name!r}: the model gives it {int(lengths[n])} frames of "
                f"{logits.shape[1]}"
            )
        rows = logits.detach()[n, : int(lengths[n])]
        # -inf rules a class out; a frame needs one that is not.
        if bool((rows.isnan() | rows.isposinf()).any() | rows.isneginf().all(dim=1).any()):
            raise ModelError(f"utterance {name!r}: the model's logits are NaN or infinite")
    return logits, lengths


def _form(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} {list(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__
