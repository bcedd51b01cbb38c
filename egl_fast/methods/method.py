"""What a method decides, and the forms in which its rows come back as a score.

Letters: K hypotheses of one utterance, R rows that are pulled back for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from egl_fast import kinds

if TYPE_CHECKING:
    from torch import Tensor

    from egl_fast.methods.samples import Labels, Samples
    from egl_fast.ops import NbestCotangents


@dataclass(frozen=True)
class Estimate:
    """Of a sum of probabilities times squared gradient norms.

    Attributes:
        value: unbiased over everything random.
        variance: unbiased estimate of the value's variance; 0 where it is exact.
    """

    value: float
    variance: float


@dataclass(frozen=True)
class SingleNorms:
    """Squared norms of the single hypotheses.

    Attributes:
        sq_norms: [K], not negative.
        stderr: [K], about how far they may be off; 0 where they are exact.
    """

    sq_norms: Tensor
    stderr: Tensor


@dataclass(frozen=True)
class Rows(ABC):
    """What one utterance pulls back, and what the gradients of that say of its hypotheses.

    Attributes:
        inner_products: whether ``finish`` wants those, beside squared norms: never; to tell single
            norms; or always, of all pairs of rows. Where there is no memory for all pairs,
            ``OwnRows`` take the place of rows that need them.
        weights: [K] float64, p(y_k|x) over their sum.
    """

    inner_products: ClassVar[Literal["unused", "for single norms", "needed"]] = "unused"
    weights: Tensor

    @abstractmethod
    def __len__(self) -> int:
        """R."""

    @abstractmethod
    def finish(self, products: Tensor, output_share: Tensor) -> tuple[Estimate, SingleNorms | None]:
        """The sum of w_k ||g_k||^2; and the ||g_k||^2, if all K can be told.

        Args:
            products: [R] float64 squared norms of the rows' gradients over all parameters, or
                [R, R] their inner products.
            output_share: likewise, the output layer's share.
        """


def weights_of(found: NbestCotangents, utterance: int) -> Tensor:
    """[K] float64, p(y_k|x) over their sum.

    In the log domain: in a long utterance every p may underflow, their ratios don't.
    """
    count = int(found.hypotheses.counts[utterance])
    return found.hypotheses.log_prob[utterance, :count].softmax(dim=0)


def has_own_rows(found: NbestCotangents, utterance: int) -> bool:
    """Whether row k is the cotangent of hypothesis k: nothing would be saved by fewer rows."""
    return int(found.num_directions[utterance]) == int(found.hypotheses.counts[utterance])


@dataclass(frozen=True)
class OwnRows(Rows):
    """A row for each hypothesis: its own cotangent."""

    def __len__(self) -> int:
        return len(self.weights)

    def finish(self, products: Tensor, output_share: Tensor) -> tuple[Estimate, SingleNorms]:
        """See ``Rows``."""
        sq_norms = products.diagonal() if products.dim() == 2 else products
        return exactly(self.weights, sq_norms)


def exactly(weights: Tensor, sq_norms: Tensor) -> tuple[Estimate, SingleNorms]:
    """The result of exact squared norms of the hypotheses."""
    single = SingleNorms(sq_norms, sq_norms.new_zeros(sq_norms.shape))
    return Estimate(float(weights @ sq_norms), 0.0), single


class Method(ABC):
    """One way to compute ``egl``: a frozen dataclass whose fields are its options.

    Attributes:
        name: what ``--method`` calls it: its module's name.
        summary: what it does, for ``--help``.
        wants_output_layer: it makes use of what the output layer's inputs tell before any backward
            pass (``NbestCotangents.output_sq_norms``).
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    wants_output_layer: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        cls.name = cls.__module__.rpartition(".")[2]

    def __post_init__(self) -> None:
        kinds.check_fields(self)

    def most_rows(self, k: int) -> int:
        """The most rows that an utterance with k hypotheses may need."""
        return k

    def likely_rows(self, k: int) -> int:
        """How many to plan forward passes by; 1 if only the search tells."""
        return self.most_rows(k)

    def compression(self, logits: Tensor) -> dict[str, Any]:
        """Arguments of ``ops.ctc_nbest_cotangents`` that decide which rows it makes.

        Without any, row k is the cotangent of hypothesis k.
        """
        return {}

    @abstractmethod
    def rows(self, found: NbestCotangents, utterance: int) -> Rows:
        """What to make of an utterance's rows; it pulls back the first so many of them.

        Args:
            found: of a batch; all but the cotangents on the CPU.
            utterance: which of the batch.
        """

    def samples(self, draws: Sequence[Labels], inside: Collection[Labels], *, key: int) -> Samples:
        """How labelings drawn from the model are pulled back where they are not in the beam.

        Args:
            draws: n labelings, at least 2.
            inside: the K best.
            key: of the utterance's random signs.
        """
        from egl_fast.methods.samples import separate_samples

        return separate_samples(draws, inside)
