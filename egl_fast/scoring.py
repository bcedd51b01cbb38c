"""Expected Gradient Length of a batch: from logits to score records, top to bottom.

Huang et al., "Active Learning for Speech Recognition: the Power of Gradients", 2016, Eq. 4:

    egl(x) = sum over the K most probable labelings y of  p(y|x) ||grad_theta loss(x, y)||^2

with loss(x, y) = -log p(y|x). The gradient of the loss with respect to the logits is
softmax(logits) - occupancy(y); ``GradientEngine`` turns it into the squared norm of the
parameter gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from egl_fast import ops
from egl_fast.errors import ModelError
from egl_fast.estimation.estimator import Rows, SingleNorms
from egl_fast.estimation.keys import sign_key
from egl_fast.estimation.outside import OutsideDraws, OutsideGroups
from egl_fast.estimation.sampling import sample_labelings
from egl_fast.gradients.engine import GradientEngine
from egl_fast.gradients.output_layer import output_layer_of
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
        method: "exact"; "lowrank", as many combinations of the K cotangents as the tolerance
            asks for; or "probe", a fixed number of them.
        tolerance: of "lowrank", target relative standard error of ``egl``.
        probes: of "probe", cotangents pulled back, at least 2.
        full: estimate the sum over all labelings too.
        full_samples: labelings that ``full`` draws, at least 2.
        per_hypothesis: keep the hypotheses with their probabilities and squared norms, which have
            an error of their own unless the method is "exact".
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
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance: expected a share between 0 and 1, got {self.tolerance}")
        for name in ("probes", "full_samples"):
            if getattr(self, name) < 2:  # one alone has no spread, so no error bar
                raise ValueError(f"{name}: expected at least 2, got {getattr(self, name)}")

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
    layer = None if options.method == "exact" else output_layer_of(tape, logits)
    frame_gram = None if layer is None else layer.frame_gram(lengths)
    keys = torch.tensor([sign_key(options.seed, name) for name in ids])
    found = ops.ctc_nbest_cotangents(
        logits,
        lengths,
        num_hypotheses=options.k,
        beam_width=options.effective_beam_width,
        tolerance=options.tolerance if options.method == "lowrank" else None,
        probes=options.probes if options.method == "probe" else None,
        keys=keys,
        frame_gram=frame_gram,
        blank=classes.blank,
    )
    counts = found.hypotheses.counts
    if int(counts.min()) == 0:
        name = ids[int(counts.argmin())]
        raise ModelError(f"utterance {name!r}: no labeling has a probability above 0")
    log_probs = logits.detach().double().log_softmax(dim=2)
    works = [
        _Work(
            name=ids[n],
            duration=durations[n],
            log_probs=log_probs[n, : int(lengths[n])],
            found=found,
            utterance=n,
            key=int(keys[n]),
            classes=classes,
            options=options,
        )
        for n in range(len(ids))
    ]
    if options.full:
        labelings = [work.outside.labelings for work in works]
        drawn = ops.Hypotheses.of(labelings)
        # What is combined before it is pulled back is combined in float64.
        _, cotangents = ops.ctc_logits_cotangents(log_probs, lengths, drawn, blank=classes.blank)
        for n, work in enumerate(works):
            work.add_outside(
                cotangents[n, : len(labelings[n])], None if frame_gram is None else frame_gram[n]
            )
    most = max(len(work.cotangents) for work in works)
    rows = logits.new_zeros(len(ids), max(1, most), *logits.shape[1:])
    for n, work in enumerate(works):
        rows[n, : len(work.cotangents)] = work.cotangents
    # Estimates of single hypotheses want to know how their rows' gradients lie to each other.
    if options.per_hypothesis and options.method != "exact":
        by_parameter = engine.gram(tape, logits, rows)
    else:
        by_parameter = engine.sq_norms(tape, logits, rows)
    products = torch.stack(list(by_parameter.values())).sum(dim=0)
    of_output = torch.zeros_like(products)
    for name in () if layer is None else layer.names:
        of_output += by_parameter[name]
    return [work.record(products[n], of_output[n]) for n, work in enumerate(works)]


class _Work:
    """One utterance between search and record.

    Attributes:
        cotangents: [rows, T, C] to pull back.
        outside: draws for ``full``.
    """

    def __init__(
        self,
        *,
        name: str,
        duration: float,
        log_probs: Tensor,
        found: ops.NbestCotangents,
        utterance: int,
        key: int,
        classes: Classes,
        options: ScoringOptions,
    ) -> None:
        self.name = name
        self.duration = duration
        self.log_probs = log_probs
        self.labelings = found.hypotheses.labelings(utterance)
        self.log_prob = found.hypotheses.log_prob[utterance, : len(self.labelings)]
        self.classes = classes
        self.options = options
        self.rows = Rows.of(found, utterance)
        self.cotangents = found.cotangents[utterance, : len(self.rows)]
        self.outside: OutsideDraws | OutsideGroups = OutsideDraws([], ())
        if options.full:
            draws = sample_labelings(
                log_probs, options.full_samples, seed=options.seed, name=name, blank=classes.blank
            )
            inside = set(self.labelings)
            self.outside = (
                OutsideGroups(draws, inside, num_groups=options.probes, key=key)
                if options.method == "probe"
                else OutsideDraws(draws, inside)
            )

    def add_outside(self, cotangents: Tensor, frame_gram: Tensor | None) -> None:
        """Add the rows of ``outside``, given its labelings' cotangents [D, T, C]."""
        if isinstance(self.outside, OutsideGroups):
            cotangents = self.outside.combine(cotangents, frame_gram)
        self.cotangents = torch.cat([self.cotangents, cotangents.to(self.cotangents.dtype)])

    def record(self, products: Tensor, of_output: Tensor) -> ScoreRecord:
        """What the rows' gradients say, of all parameters and of the output layer.

        Args:
            products: [rows] squared norms, or [rows, rows] inner products; there may be more.
            of_output: likewise.
        """
        own, end = len(self.rows), len(self.cotangents)
        norms = [x.diagonal() if x.dim() == 2 else x for x in (products, of_output)]
        estimate = self.rows.estimate(*(x[:own] for x in norms))
        single = None
        if products.dim() == 2:
            single = self.rows.single_norms(products[:own, :own], of_output[:own, :own])
        elif self.rows.exact:
            single = SingleNorms(norms[0][:own], torch.zeros(own))
        probability = self.log_prob.exp()
        mass = float(probability.sum())
        full = full_stderr = None
        if self.options.full:
            if isinstance(self.outside, OutsideGroups):
                rest = self.outside.finish(*(x[own:end] for x in norms))
            else:
                rest = self.outside.finish(norms[0][own:end])
            full = mass * estimate.value + rest.value
            full_stderr = math.sqrt(mass**2 * estimate.variance + rest.variance)
        num_frames = self.log_probs.shape[0]
        # p log p -> 0 as p -> 0, also where log p is -inf.
        entropy = -torch.special.xlogy(self.log_probs.exp(), self.log_probs.exp()).sum(1).mean()
        try:
            return ScoreRecord(
                id=self.name,
                duration=self.duration,
                num_frames=num_frames,
                pred_text=decode(self.labelings[0], self.classes.vocabulary),
                num_hypotheses=len(self.labelings),
                beam_mass=mass,
                egl=mass * estimate.value,
                egl_stderr=mass * math.sqrt(estimate.variance),
                egl_normalized=estimate.value,
                egl_unsquared=None
                if single is None
                else float(probability @ single.sq_norms.sqrt()),
                egl_full=full,
                egl_full_stderr=full_stderr,
                entropy=max(0.0, float(entropy)),
                pctc=-float(self.log_prob[0]) / num_frames,
                random=random_score(self.options.seed, self.name),
                hypotheses=self._hypotheses(single)
                if self.options.per_hypothesis and single is not None
                else (),
            )
        except ValueError as error:
            raise ModelError(f"utterance {self.name!r}: {error}") from None

    def _hypotheses(self, single: SingleNorms) -> tuple[Hypothesis, ...]:
        return tuple(
            Hypothesis(
                text=decode(labels, self.classes.vocabulary),
                labels=labels,
                log_prob=float(self.log_prob[k]),
                sq_grad_norm=float(single.sq_norms[k]),
                sq_grad_norm_stderr=float(single.stderr[k]),
            )
            for k, labels in enumerate(self.labelings)
        )


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
