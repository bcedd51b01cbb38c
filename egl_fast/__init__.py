"""Expected Gradient Length for any CTC speech recognizer: which recordings to transcribe.

    scorer = egl_fast.Scorer.from_checkpoint("base.pt")
    records = list(scorer.score_manifest("pool.jsonl", k=100))
    chosen = egl_fast.select(records, budget="20%")

Names are imported when they are first used: the command line starts without torch.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

try:
    __version__ = version("egl-fast")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

if TYPE_CHECKING:
    from egl_fast import ops
    from egl_fast.dataframes import to_dataframe
    from egl_fast.errors import (
        AudioError,
        CheckpointError,
        ClusterError,
        ConfigError,
        DeviceError,
        EglError,
        ExtensionError,
        ManifestError,
        MissingExtraError,
        ModelError,
        OutputError,
        ProcessError,
        ReportError,
        SelectionError,
    )
    from egl_fast.features import FeatureConfig
    from egl_fast.recognizers.recognizer import Recognizer
    from egl_fast.records import Hypothesis, ScoreRecord
    from egl_fast.scorer import Scorer
    from egl_fast.scores import read_scores
    from egl_fast.selection import Scores, select
    from egl_fast.warning import EglWarning

__all__ = [
    "AudioError",
    "CheckpointError",
    "ClusterError",
    "ConfigError",
    "DeviceError",
    "EglError",
    "EglWarning",
    "ExtensionError",
    "FeatureConfig",
    "Hypothesis",
    "ManifestError",
    "MissingExtraError",
    "ModelError",
    "OutputError",
    "ProcessError",
    "Recognizer",
    "ReportError",
    "ScoreRecord",
    "Scorer",
    "Scores",
    "SelectionError",
    "ops",
    "read_scores",
    "select",
    "to_dataframe",
]

_HOMES = {
    "FeatureConfig": "egl_fast.features",
    "Hypothesis": "egl_fast.records",
    "Recognizer": "egl_fast.recognizers.recognizer",
    "ScoreRecord": "egl_fast.records",
    "Scorer": "egl_fast.scorer",
    "Scores": "egl_fast.selection",
    "read_scores": "egl_fast.scores",
    "select": "egl_fast.selection",
    "to_dataframe": "egl_fast.dataframes",
    "EglWarning": "egl_fast.warning",
    **{name: "egl_fast.errors" for name in __all__ if name.endswith("Error")},
}


def __getattr__(name: str) -> Any:
    if name == "ops":
        return importlib.import_module("egl_fast.ops")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'egl_fast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
