"""What a method decides, and how its rows become a score.

Letters: K hypotheses of one utterance, R rows that are pulled back for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from egl_fast import kinds

if TYPE_CHECKING:
    from torch import Tensor

    from egl_fast.methods.budget import Budget, Eigenvalues
    from egl_fast.ops import NbestCotangents


#: Of ``--full``: the draws are a sample, so more rows would hardly make the sum more precise.
DRAWS_TOLERANCE: Final = 0.1


@dataclass(frozen=True)
class Estimate:
    """An estimate of a sum of probabilities times squared gradient norms."""

    value: float  # unbiased
    variance: float  # unbiased estimate of the value's variance; 0 if it is exact


@dataclass(frozen=True)
class SingleNorms:
    """Squared norms of the individual hypotheses."""

    sq_norms: Tensor  # [K], not negative
    stderr: Tensor  # [K], their estimated errors; 0 if they are exact


@dataclass(frozen=True)
class Rows(ABC):
    """The rows that one utterance pulls back, and how to get a score from their gradients."""

    # Whether ``finish`` uses inner products of the rows' gradients: never, for single norms only,
    # or always. If memory does not hold all pairs, ``OwnRows`` replaces rows that need them.
    inner_products: ClassVar[Literal["unused", "for single norms", "needed"]] = "unused"
    weights: Tensor  # [K] float64, p(y_k|x) over their sum

    @abstractmethod
    def __len__(self) -> int:
        """R."""

    @abstractmethod
    def finish(self, products: Tensor, output_share: Tensor) -> tuple[Estimate, SingleNorms | None]:
        """The sum of w_k ||g_k||^2; and all ||g_k||^2, if the rows determine them.

        The sum is an affine function of the arguments, so that it can be divided among layers.

        Args:
            products: [R] float64 squared norms of the rows' gradients over all parameters, or
                [R, R] their inner products.
            output_share: likewise, the output layer's share.
        """


def weights_of(found: NbestCotangents, utterance: int) -> Tensor:
    """[K] float64, p(y_k|x) over their sum.

    In the log domain: in a long utterance every p may underflow, but not their ratios.
    """
    count = int(found.hypotheses.counts[utterance])
    return found.hypotheses.log_prob[utterance, :count].softmax(dim=0)


def has_own_rows(found: NbestCotangents, utterance: int) -> bool:
    """Whether row k is the cotangent of hypothesis k, as combinations would save nothing."""
    return int(found.num_directions[utterance]) == int(found.hypotheses.counts[utterance])


@dataclass(frozen=True)
class OwnRows(Rows):
    """One row per hypothesis: its cotangent."""

    def __len__(self) -> int:
        return len(self.weights)

    def finish(self, products: Tensor, output_share: Tensor) -> tuple[Estimate, SingleNorms]:
        sq_norms = products.diagonal() if products.dim() == 2 else products
        return exactly(self.weights, sq_norms)


def exactly(weights: Tensor, sq_norms: Tensor) -> tuple[Estimate, SingleNorms]:
    """The result for exact squared norms of all hypotheses."""
    single = SingleNorms(sq_norms, sq_norms.new_zeros(sq_norms.shape))
    return Estimate(float(weights @ sq_norms), 0.0), single


class Method(ABC):
    """One way to compute ``egl``: a frozen dataclass whose fields are its options.

    Attributes:
        name: what ``--method`` calls it: its module's name.
        summary: what it does, for ``--help``.
        pulls_back: whether there are gradients; without, an utterance has no rows.
        wants_output_layer: whether it uses ``NbestCotangents.output_sq_norms``, the output layer's
            norms, which are known before any backward pass.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    pulls_back: ClassVar[bool] = True
    wants_output_layer: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        cls.name = cls.__module__.rpartition(".")[2]

    def __post_init__(self) -> None:
        kinds.check_fields(self)

    def most_rows(self, k: int) -> int:
        """The most rows that an utterance with k hypotheses can have."""
        return k

    def likely_rows(self, k: int) -> int:
        """The number of rows to plan forward passes for; 1 if only the search tells."""
        return self.most_rows(k)

    def compression(self, logits: Tensor) -> dict[str, Any]:
        """Arguments of ``ops.ctc_nbest_cotangents`` that decide its rows.

        Without any, row k is the cotangent of hypothesis k.
        """
        return {}

    @abstractmethod
    def rows(self, found: NbestCotangents, utterance: int) -> Rows | None:
        """What an utterance's rows mean; the first ``len(...)`` of its cotangents are pulled back.

        ``found`` covers a batch, with everything except the cotangents on the CPU.
        """

    def budget_of_draws(self, eigenvalues: Eigenvalues) -> Budget:
        """Directions and probes for labelings drawn from the model that are not in the beam.

        ``eigenvalues`` are those of their scaled cotangents' Gram matrix.
        """
        from egl_fast.methods.budget import budget_for_tolerance

        return budget_for_tolerance(eigenvalues, DRAWS_TOLERANCE)
