"""The stage for NeMo Curator, where that is installed.

It pins packages that are not ours, so it is not a dependency. Without them these tests run, too:

    pip install --no-deps --target DIR nemo-curator cosmos-xenna loguru
    PYTHONPATH=$PWD:DIR python -m pytest python_tests/test_curator.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import soundfile

pytest.importorskip("nemo_curator")

from nemo_curator.stages.resources import Resources
from nemo_curator.tasks import AudioTask

from egl_fast.errors import ManifestError
from egl_fast.ray.curator import ScoreStage
from egl_fast.scorer import Scorer


def tasks_of(manifest: Path) -> list[Any]:
    lines = map(json.loads, manifest.read_text().splitlines())
    return [
        AudioTask(data={**line, "audio_filepath": str(manifest.parent / line["audio_filepath"])})
        for line in lines
    ]


def stage(model: Path, **settings: Any) -> Any:
    made = ScoreStage(model=str(model), options={"k": 3}, **settings)
    made = made.with_(resources=Resources(cpus=1.0), batch_size=8)
    made.setup()
    return made


def test_tasks_get_the_scores_of_a_local_run(partly_unreadable: Path, tiny_model: Path) -> None:
    tasks = tasks_of(partly_unreadable)
    scored = stage(tiny_model).process_batch(tasks)
    assert [task.data["error"] is None for task in scored] == [True, False, False, True, True]
    expected = Scorer.from_checkpoint(tiny_model).score_manifest(
        [dict(task.data) for task in tasks_of(partly_unreadable)], on_error="skip", k=3
    )
    found = {task.data["id"]: task.data["egl"] for task in scored if task.data["error"] is None}
    assert found == {record.id: record.egl for record in expected}


def test_decoded_samples_are_scored_without_their_file(recordings: Path, tiny_model: Path) -> None:
    of_files, of_samples = tasks_of(recordings), tasks_of(recordings)
    for number, task in enumerate(of_samples):
        samples, rate = soundfile.read(task.data["audio_filepath"], dtype="float32")
        task.data |= {"audio_filepath": "gone.wav", "waveform": samples[None], "sample_rate": rate}
        task.task_id = f"0_{number}"
    stage(tiny_model).process_batch(of_files)
    stage(tiny_model, waveform_key="waveform").process_batch(of_samples)
    assert [t.data["egl"] for t in of_samples] == [t.data["egl"] for t in of_files]
    assert all(task.data["audio_filepath"] == "gone.wav" for task in of_samples)


def test_tasks_that_do_not_fit_are_refused(recordings: Path, tiny_model: Path) -> None:
    ready = stage(tiny_model)
    with pytest.raises(ValueError, match=r"lacks one of \['audio_filepath'\]"):
        ready.process_batch([AudioTask(data={"text": "ab"})])
    first = tasks_of(recordings)[0]
    with pytest.raises(ManifestError, match="give each row its own id"):
        ready.process_batch([first, first])
