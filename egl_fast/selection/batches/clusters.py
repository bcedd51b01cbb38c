"""Each kind of recording gets its share: clusters of embeddings, each by falling score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from egl_fast.embeddings.clusters import clusters
from egl_fast.selection.candidates import Candidates
from egl_fast.selection.shares import in_shares


def order(
    candidates: Candidates,
    scores: Sequence[float],
    costs: Sequence[float],
    *,
    num_picks: int,
    seed: int,
) -> Iterator[int]:
    """See ``Order``. A cluster's share is proportional to the root of what all of it costs."""
    embeddings = candidates.require_embeddings("batch clusters")
    groups = candidates.once(f"clusters {seed}", lambda: clusters(embeddings, seed=seed).tolist())
    return in_shares(groups, scores, costs)
