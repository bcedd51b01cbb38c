"""How scores were made: questions for ``Scoring.ask``, answered where the model is."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from egl_fast import __version__, _extension
from egl_fast.data.manifest import Utterance
from egl_fast.files.addresses import absolute, is_url
from egl_fast.gradients.layers import layers_of
from egl_fast.scoring.run.pool import PoolScoring


def run_settings(scoring: PoolScoring, pool_sha256: str) -> dict[str, Any]:
    """Everything that decides the scores, except for rounding."""
    engine = scoring.task.engine
    return {
        "model_sha256": scoring.task.recognizer.sha256,
        "pool_sha256": pool_sha256,
        **scoring.options.settings(engine.device),
        "batch_seconds": scoring.batch_seconds,
        "max_duration": scoring.limits.max_duration,
        "memory_bytes": engine.memory.planned_bytes,
        "precision": engine.precision,
        "device": engine.device.type,
        "versions": {"egl_fast": __version__, "torch": torch.__version__},
    }


def circumstances_of(scoring: PoolScoring, model: str, pool: Sequence[str]) -> dict[str, Any]:
    """Further facts to record about how the scores were made."""
    device = scoring.task.engine.device
    # One path that leads somewhere, or else a list: of several, of `-`, of NAME=PATH.
    leads = [os.path.exists(path) or is_url(path) for path in pool]
    paths = [absolute(path) if one else path for path, one in zip(pool, leads, strict=True)]
    return {
        "model": model,
        "frame_seconds": scoring.task.recognizer.frame_seconds,
        "vocabulary": list(scoring.task.classes.vocabulary),
        "pool": paths[0] if leads == [True] else paths,
        "versions": {
            "egl_fast": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "extension": _extension.build_info(),
        },
        "machine": platform.platform(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
    }


def norm_rules(scoring: PoolScoring, scored: Utterance) -> dict[str, Any] | None:
    """Which parameters have a norm rule; see ``PoolScoring.coverage``."""
    coverage = scoring.coverage(scored)
    return None if coverage is None else coverage.as_json()


def layer_sizes(scoring: PoolScoring) -> dict[str, int]:
    """Parameters that count, by layer."""
    parameters = scoring.task.engine.parameters
    layers = layers_of(scoring.task.engine.model, parameters)
    return {
        layer: sum(parameters[name].numel() for name in names) for layer, names in layers.items()
    }


def counting_parameters(scoring: PoolScoring) -> tuple[str, str | None] | None:
    """The model's own choice of parameters, by name and as a pattern; None if all count."""
    recognizer = scoring.task.recognizer
    return None if recognizer.params is None else (recognizer.params, recognizer.pattern(None))


def trusted_by_the_model(scoring: PoolScoring) -> npt.NDArray[np.float32] | None:
    """[m, d] of recordings that the model was trained on, if it came with them."""
    trusted = scoring.task.recognizer.trusted
    return None if trusted is None else trusted.numpy()


def unpooled_params(scoring: PoolScoring) -> str | None:
    """The pattern of parameters, if it leaves out the output layer, which changes embeddings."""
    engine = scoring.task.engine
    if any(name.startswith("output.") for name in engine.parameters):
        return None
    return engine.params
