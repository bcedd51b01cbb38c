"""Labelings of a batch in tensors, and the random numbers that belong to each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from egl_fast import _extension
from egl_fast.ops.arguments import check_integers, check_same_device


@dataclass(frozen=True, eq=False)
class Hypotheses:
    """The K best labelings of each utterance, best first by exact probability.

    Slots from ``counts[n]`` on are unused: length 0, labels -1, log-probabilities -inf. A used slot
    of length 0 is the empty labeling.

    Attributes:
        labels: [N, K, U] int64, class indices padded with -1. U is the length of the longest
            labeling; on a GPU, so as not to wait for it, the number of frames.
        label_lengths: [N, K] int64.
        log_prob: [N, K] float64, exact natural logarithm of p(labeling | utterance).
        search_log_prob: [N, K] float64, log of the mass that the search found: a lower bound of
            ``log_prob``, up to rounding.
        counts: [N] int64, used slots of each utterance.
    """

    labels: Tensor
    label_lengths: Tensor
    log_prob: Tensor
    search_log_prob: Tensor
    counts: Tensor

    @classmethod
    def of(cls, labelings: Sequence[Sequence[Sequence[int]]]) -> Hypotheses:
        """Labelings without probabilities (NaN), for operators that do not read these.

        Args:
            labelings: for each of N utterances, up to K labelings of class indices.

        Example:
            >>> Hypotheses.of([[[1, 2], []], [[3]]]).labels.tolist()
            [[[1, 2], [-1, -1]], [[3, -1], [-1, -1]]]
        """
        counts = torch.tensor([len(rows) for rows in labelings], dtype=torch.int64)
        num_slots = int(counts.max()) if labelings else 0
        lengths = torch.zeros(len(labelings), num_slots, dtype=torch.int64)
        longest = max((len(labels) for rows in labelings for labels in rows), default=0)
        padded = torch.full((len(labelings), num_slots, longest), -1, dtype=torch.int64)
        for n, rows in enumerate(labelings):
            for k, labels in enumerate(rows):
                lengths[n, k] = len(labels)
                padded[n, k, : len(labels)] = torch.tensor(labels, dtype=torch.int64)
        unknown = torch.full((len(labelings), num_slots), torch.nan, dtype=torch.float64)
        return cls(padded, lengths, unknown, unknown.clone(), counts)

    @classmethod
    def found(
        cls,
        labels: Tensor,
        label_lengths: Tensor,
        log_prob: Tensor,
        search_log_prob: Tensor,
        counts: Tensor,
    ) -> Hypotheses:
        """The results of a search, with labels cut to the longest labeling.

        On a GPU they keep their length, since finding the longest labeling would mean waiting.
        """
        if labels.device.type == "cpu":
            longest = int(label_lengths.max()) if label_lengths.numel() > 0 else 0
            labels = labels[:, :, :longest].contiguous()
        return cls(labels, label_lengths, log_prob, search_log_prob, counts)

    def to(self, device: torch.device) -> Hypotheses:
        """The same on another device; on the CPU, with labels cut to the longest labeling."""
        return Hypotheses.found(*(getattr(self, field.name).to(device) for field in fields(self)))

    @property
    def as_arguments(self) -> tuple[Tensor, Tensor, Tensor]:
        """The parts that operators read: labels, their lengths, counts."""
        return self.labels, self.label_lengths, self.counts

    @property
    def by_name(self) -> dict[str, Tensor]:
        """``as_arguments`` with the operators' names for them."""
        return dict(zip(("labels", "label_lengths", "counts"), self.as_arguments, strict=True))

    def labelings(self, utterance: int) -> list[tuple[int, ...]]:
        """The labelings of one utterance, as class indices."""
        count = int(self.counts[utterance])
        lengths = self.label_lengths[utterance, :count].tolist()
        padded = self.labels[utterance, :count].tolist()
        return [tuple(row[:length]) for row, length in zip(padded, lengths, strict=True)]


def ctc_hypothesis_normals(hypotheses: Hypotheses, keys: Tensor, *, num_normals: int) -> Tensor:
    """Independent standard normal numbers that depend on key, labeling and index alone.

    Args:
        hypotheses: labelings of N utterances.
        keys: [N] int64.
        num_normals: of each hypothesis.

    Returns:
        [N, K, num_normals] float64; zero for unused slots.

    Example:
        >>> one, two, key = Hypotheses.of([[[1], [2]]]), Hypotheses.of([[[2]]]), torch.tensor([7])
        >>> a = ctc_hypothesis_normals(one, key, num_normals=3)
        >>> b = ctc_hypothesis_normals(two, key, num_normals=1)
        >>> bool(a[0, 1, 0] == b[0, 0, 0])
        True
    """
    labels, label_lengths, counts = hypotheses.as_arguments
    check_same_device("labels", labels, label_lengths=label_lengths, counts=counts, keys=keys)
    check_integers(num_normals=num_normals)
    normals: Tensor = _extension.operators().ctc_hypothesis_normals.default(
        labels, label_lengths, counts, keys, num_normals
    )
    return normals


torch.library.register_fake(
    "egl_fast::ctc_hypothesis_normals",
    lambda labels, lengths, counts, keys, num_normals: labels.new_empty(
        *labels.shape[:2], num_normals, dtype=torch.float64
    ),
)
