"""Scores recordings on a Ray cluster (docs/scale.md).

``connection``  joins a cluster, or starts one here
``worker``      the actor that has the model
``workers``     keeps workers alive, and windows of a pool on their way
``attempts``    what is tried when a window kills its workers
``scoring``     the ``Scoring`` that commands use in place of a local one
``units``       units of a simulation
``recordings``  ``ScoreRecordings``, for Ray Data pipelines of one's own
``curator``     ``ScoreStage``, for NeMo Curator

Ray Core, not Ray Data, runs the commands; docs/decisions.md says why. Nothing here imports ray or
torch before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from egl_fast.ray.recordings import ScoreRecordings

__all__ = ["ScoreRecordings"]


def __getattr__(name: str) -> Any:
    if name == "ScoreRecordings":
        from egl_fast.ray.recordings import ScoreRecordings

        return ScoreRecordings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
