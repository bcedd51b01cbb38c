"""Random signs that belong to a hypothesis, wherever and whenever it is scored."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

#: Signs that one digest holds.
_PER_DIGEST = 512


def random_signs(
    seed: int, name: str, labelings: Sequence[Sequence[int]], num_probes: int, *, first: int = 0
) -> Tensor:
    """Independent signs, a function of seed, utterance, labeling and probe alone.

    So neither the order of hypotheses nor batching, threads or resumption change them.

    Args:
        seed: of the run.
        name: the utterance's id.
        labelings: class indices of K hypotheses.
        num_probes: m.
        first: number of the first probe.

    Returns:
        [K, m] float64 of +1 and -1.

    Example:
        >>> a = random_signs(0, "a", [(1,), (2,)], 3)
        >>> b = random_signs(0, "a", [(2,)], 2, first=1)
        >>> torch.equal(a[1:, 1:], b), a.abs().unique().tolist()
        (True, [1.0])
    """
    key = hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogatepass")).digest()
    rows = [_signs_of(key, labels, num_probes, first) for labels in labelings]
    return torch.tensor(rows, dtype=torch.float64).view(len(labelings), num_probes)


def _signs_of(key: bytes, labels: Sequence[int], num_probes: int, first: int) -> list[float]:
    content = ",".join(map(str, labels)).encode()
    signs: list[float] = []
    for place in range(first // _PER_DIGEST, (first + num_probes - 1) // _PER_DIGEST + 1):
        digest = hashlib.blake2b(content, key=key, salt=place.to_bytes(8, "little")).digest()
        bits = int.from_bytes(digest, "little")
        signs += [1.0 if bits >> i & 1 else -1.0 for i in range(_PER_DIGEST)]
    start = first % _PER_DIGEST
    return signs[start : start + num_probes]
