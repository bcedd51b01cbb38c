"""``ScoreStage``: scores as a stage of a NeMo Curator pipeline.

It keeps Curator's conventions (1.4): a dataclass of plain settings; the model loaded in ``setup``,
once per worker; ``process_batch`` over ``AudioTask``s; resources that ``with_()`` overrides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from egl_fast.errors import MissingExtraError
from egl_fast.ray.recordings import SCORES, ScoreRecordings

try:
    from nemo_curator.stages.base import ProcessingStage
    from nemo_curator.stages.resources import Resources
    from nemo_curator.tasks import AudioTask
except ImportError as error:
    raise MissingExtraError(
        f"ScoreStage needs nemo-curator 1.4 or later ({error}): pip install nemo-curator"
    ) from None


@dataclass
class ScoreStage(ProcessingStage[AudioTask, AudioTask]):  # type: ignore[misc]
    """Adds the keys of a scores file to each task's data, and ``error``: None, or what went wrong.

    Args:
        model: any that ``--model`` takes.
        options: see ``ScoreRecordings``, such as ``{"k": 100}``.
        audio_filepath_key: where a task's data names its recording.
        waveform_key: where it holds samples, [n] or [channels, n], if an earlier stage decoded
            them; the file is not read then.
        sample_rate_key: of those samples, in Hz.
    """

    model: str
    options: dict[str, Any] = field(default_factory=dict)
    audio_filepath_key: str = "audio_filepath"
    waveform_key: str | None = None
    sample_rate_key: str = "sample_rate"
    name: str = "ScoreStage"
    batch_size: int = 64
    resources: Any = field(default_factory=lambda: Resources(cpus=1.0))

    def inputs(self) -> tuple[list[str], list[str]]:
        """What a task must have."""
        if self.waveform_key is not None:
            return [], [self.waveform_key, self.sample_rate_key]
        return [], [self.audio_filepath_key]

    def outputs(self) -> tuple[list[str], list[str]]:
        """What each task has afterwards; those with an ``error`` have no scores."""
        return [], ["egl", "entropy", "pctc", "pred_text", "error"]

    def setup(self, worker_metadata: Any = None) -> None:
        """Load the model."""
        here = {
            "device": "cuda" if self.resources.requires_gpu else "cpu",
            "threads": max(1, int(self.resources.cpus)),
        }
        self._score = ScoreRecordings(self.model, **(here | self.options))

    def process(self, task: AudioTask) -> AudioTask:
        """Score one task."""
        return self.process_batch([task])[0]

    def process_batch(self, tasks: list[AudioTask]) -> list[AudioTask]:
        """Score tasks as one window, in order.

        Raises:
            ValueError: a task lacks one of ``inputs``.
            ManifestError: two have the same id, or the same file and no id.
        """
        for task in tasks:
            if not self.validate_input(task):
                raise ValueError(
                    f"{self.name}: task {task.task_id} lacks one of {self.inputs()[1]}"
                )
        rows = [self._row(number, task) for number, task in enumerate(tasks)]
        lines = self._score.lines(rows)
        for task, row, line in zip(tasks, rows, lines, strict=True):
            for key in SCORES & task.data.keys():
                del task.data[key]
            task.data |= {key: value for key, value in line.items() if key not in row}
        self._log_metric("recordings_failed", sum(line["error"] is not None for line in lines))
        return tasks

    def _row(self, number: int, task: AudioTask) -> dict[str, Any]:
        data = task.data
        if self.waveform_key is not None:
            return {
                # Without an id, not that of the file: the samples may be a part of it.
                "id": data.get("id") or task.task_id or str(number),
                "audio": {
                    "array": data[self.waveform_key],
                    "sampling_rate": data[self.sample_rate_key],
                },
            }
        part = ("offset", "duration") if data.get("offset") is not None else ()
        row = {key: data[key] for key in ("id", *part) if data.get(key) is not None}
        return row | {"audio_filepath": data[self.audio_filepath_key]}
