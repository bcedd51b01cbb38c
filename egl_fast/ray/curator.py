"""``ScoreStage``: scores as a stage of a NeMo Curator pipeline.

It follows Curator's conventions (1.x): a dataclass of plain settings, the model loaded in ``setup``
once per worker, ``process_batch`` over ``AudioTask``s, resources that ``with_()`` overrides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from egl_fast.errors import MissingExtraError
from egl_fast.ray.recordings import ScoreRecordings

try:
    from nemo_curator.stages.base import ProcessingStage
    from nemo_curator.stages.resources import Resources
    from nemo_curator.tasks import AudioTask
except ImportError:
    raise MissingExtraError("ScoreStage needs nemo-curator: pip install nemo-curator") from None


@dataclass
class ScoreStage(ProcessingStage):  # type: ignore[misc]
    """Adds the keys of a scores file to each task's data, and ``error`` if it has none.

    Args:
        model: any that ``--model`` takes.
        options: see ``ScoringOptions``, such as ``{"k": 100}``.
        audio_filepath_key: where a task's data names its recording.
    """

    model: str
    options: dict[str, Any] = field(default_factory=dict)
    audio_filepath_key: str = "audio_filepath"
    name: str = "ScoreStage"
    batch_size: int = 64
    resources: Any = field(default_factory=lambda: Resources(cpus=1.0))

    def inputs(self) -> tuple[list[str], list[str]]:
        """What a task must have."""
        return [], [self.audio_filepath_key]

    def outputs(self) -> tuple[list[str], list[str]]:
        """What it has then."""
        return [], ["egl", "entropy", "pctc", "pred_text"]

    def setup(self, worker_metadata: Any = None) -> None:
        """Load the model."""
        threads = max(1, int(self.resources.cpus))
        device = "cuda" if self.resources.requires_gpu else "cpu"
        self._score = ScoreRecordings(self.model, device=device, threads=threads, **self.options)

    def process(self, task: AudioTask) -> AudioTask:
        """Score one task."""
        return self.process_batch([task])[0]

    def process_batch(self, tasks: list[AudioTask]) -> list[AudioTask]:
        """Score tasks as one window, in order."""
        path = self.audio_filepath_key
        # Their own ids may repeat in a batch; those of rows must not.
        rows = [{"audio_filepath": task.data[path], "id": str(n)} | _cut(task.data)
                for n, task in enumerate(tasks)]  # fmt: skip
        for task, line in zip(tasks, self._score.lines(rows), strict=True):
            known = {"id", "audio_filepath"}
            task.data |= {
                key: x
                for key, x in line.items()
                if key not in known and (key, x) != ("error", None)
            }
        return tasks


def _cut(data: dict[str, Any]) -> dict[str, Any]:
    """Which part of the recording is meant."""
    return {key: data[key] for key in ("offset", "duration") if data.get("offset") is not None}
