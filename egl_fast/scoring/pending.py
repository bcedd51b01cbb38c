"""One utterance between the search for its labelings and its score."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from egl_fast import ops
from egl_fast.errors import ModelError
from egl_fast.estimation.estimator import Rows, SingleNorms
from egl_fast.estimation.outside import OutsideDraws, OutsideGroups
from egl_fast.estimation.sampling import sample_labelings
from egl_fast.estimation.spanning import SpanningRows
from egl_fast.records import Hypothesis, ScoreRecord, random_score
from egl_fast.scoring.classes import Classes
from egl_fast.scoring.options import ScoringOptions
from egl_fast.vocabulary import decode


class PendingScore:
    """Knows its labelings, their probabilities and what to pull back; not yet what that gives.

    Attributes:
        log_probs: [T, C] float64 on the model's device, T the utterance's own frames.
        cotangents: [rows, T, C] to pull back, on the model's device. All else is on the CPU.
        outside: draws for ``full``.
        output_layer: names of parameters whose share in every hypothesis's norm is known already.
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
        output_layer: tuple[str, ...],
        classes: Classes,
        options: ScoringOptions,
    ) -> None:
        self.name = name
        self.duration = duration
        self.log_probs = log_probs
        self.labelings = found.hypotheses.labelings(utterance)
        self.log_prob = found.hypotheses.log_prob[utterance, : len(self.labelings)]
        self.output_layer = output_layer
        self.classes = classes
        self.options = options
        self.rows: Rows | SpanningRows = (
            SpanningRows.of(found, utterance)
            if found.spans(utterance)
            else Rows.of(found, utterance)
        )
        self.cotangents = found.cotangents[utterance, : len(self.rows), : self.num_frames]
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

    @property
    def num_frames(self) -> int:
        """T."""
        return self.log_probs.shape[0]

    @property
    def num_rows(self) -> int:
        """Cotangents to pull back."""
        return self.cotangents.shape[0]

    @property
    def spans(self) -> bool:
        """Whether the rows are a basis of the hypotheses' cotangents."""
        return isinstance(self.rows, SpanningRows)

    @property
    def wants_products(self) -> bool:
        """Whether ``record`` wants inner products of the rows' gradients, not only norms."""
        if self.spans:
            return True
        return self.options.per_hypothesis and isinstance(self.rows, Rows) and not self.rows.exact

    def pull_back_one_by_one(self) -> None:
        """Let each hypothesis have a row of its own: more rows, but norms of them suffice."""
        device = self.log_probs.device
        own = ops.Hypotheses.of([self.labelings]).to(device)
        lengths = torch.tensor([self.num_frames], device=device)
        _, cotangents = ops.ctc_logits_cotangents(
            self.log_probs[None], lengths, own, blank=self.classes.blank
        )
        rest = self.cotangents[len(self.rows) :]
        self.cotangents = torch.cat([cotangents[0].to(rest.dtype), rest])
        self.rows = Rows.of_hypotheses(self.log_prob.softmax(dim=0))

    def add_outside(self, cotangents: Tensor, frame_gram: Tensor | None) -> None:
        """Add the rows of ``outside``, given its labelings' cotangents [D, T or more, C]."""
        cotangents = cotangents[:, : self.num_frames]
        if frame_gram is not None:
            frame_gram = frame_gram[: self.num_frames, : self.num_frames]
        if isinstance(self.outside, OutsideGroups):
            cotangents = self.outside.combine(cotangents, frame_gram)
        self.cotangents = torch.cat([self.cotangents, cotangents.to(self.cotangents.dtype)])

    def record(self, products: Tensor, of_output: Tensor) -> ScoreRecord:
        """What the rows' gradients say, of all parameters and of the output layer.

        Args:
            products: [rows] squared norms, or [rows, rows] inner products; there may be more.
            of_output: likewise.
        """
        own, end = len(self.rows), self.num_rows
        norms = [x.diagonal() if x.dim() == 2 else x for x in (products, of_output)]
        mine = (slice(own),) * products.dim()
        estimate, single = self.rows.finish(products[mine], of_output[mine])
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
        # p log p -> 0 as p -> 0, also where log p is -inf.
        entropy = -torch.special.xlogy(self.log_probs.exp(), self.log_probs.exp()).sum(1).mean()
        try:
            return ScoreRecord(
                id=self.name,
                duration=self.duration,
                num_frames=self.num_frames,
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
                pctc=-float(self.log_prob[0]) / self.num_frames,
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
