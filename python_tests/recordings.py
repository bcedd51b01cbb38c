"""Recordings, manifests, and models: made up, or from the sample where real speech is needed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import torch

import egl_fast
from egl_fast.checkpoint import Checkpoint
from egl_fast.data.audio import load_audio
from egl_fast.data.manifest import Utterance, read_manifest
from egl_fast.features import FeatureConfig
from egl_fast.model import DeepSpeech2, preset
from egl_fast.recognizers.checkpoint import recognizer_of
from egl_fast.vocabulary import ENGLISH_CHARACTERS

SAMPLE_RATE_HZ = 16000


def waveform(
    seconds: float, *, pitch_hz: float = 440.0, rate_hz: int = SAMPLE_RATE_HZ, seed: int = 0
) -> npt.NDArray[np.float32]:
    """A tone in a little noise, [S] float32, its loudness swelling four times a second."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    noise = np.random.default_rng(seed).standard_normal(time.shape[0])
    tone = np.sin(2 * np.pi * pitch_hz * time) * np.sin(4 * np.pi * time) ** 2
    return (0.4 * tone + 0.01 * noise).astype(np.float32)


def write_manifest(path: Path, records: Iterable[dict[str, Any]]) -> Path:
    """Write one JSON object per line; returns the path."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def write_recordings(folder: Path, texts: Sequence[str], seconds: Sequence[float]) -> Path:
    """A manifest of WAV recordings; each text has its own pitch."""
    pitch_of = {text: 300.0 * 1.5**place for place, text in enumerate(sorted(set(texts)))}
    records = []
    for number, (text, length) in enumerate(zip(texts, seconds, strict=True)):
        name = f"rec{number}.wav"
        samples = waveform(length, pitch_hz=pitch_of[text], seed=number)
        soundfile.write(folder / name, samples, SAMPLE_RATE_HZ)
        records.append({"audio_filepath": name, "duration": length, "text": text, "nr": number})
    return write_manifest(folder / "all.jsonl", records)


def utterance(path: Path, **fields: Any) -> Utterance:
    """An utterance for a recording, as from a line of a manifest."""
    defaults: dict[str, Any] = {
        "id": path.name,
        "audio_path": path,
        "offset_seconds": 0.0,
        "duration_seconds": None,
        "text": None,
        "record": {},
        "line": 1,
    }
    return Utterance(**{**defaults, **fields})


def random_checkpoint(
    *, name: str = "tiny", cell: str | None = None, dropout: float = 0.0, seed: int = 0
) -> Checkpoint:
    """A model with random weights, whose output is strong enough to transcribe something."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = DeepSpeech2(replace(preset(name, cell=cell), dropout=dropout)).eval()
    with torch.no_grad():
        model.output.weight.mul_(20)
    return Checkpoint(model, FeatureConfig(), ENGLISH_CHARACTERS)


def scorer_of(checkpoint: Checkpoint, **options: Any) -> egl_fast.Scorer:
    """A scorer of its model, with its vocabulary and features."""
    return egl_fast.Scorer(recognizer_of(checkpoint), **options)


def load(path: Path, *, rate_hz: int = SAMPLE_RATE_HZ, **fields: Any) -> npt.NDArray[np.float32]:
    """The samples of a recording, or of the segment that the fields of its utterance name."""
    return load_audio(utterance(path, **fields), sample_rate_hz=rate_hz)


def shortest(examples: Path, count: int) -> list[Utterance]:
    """The shortest recordings of the sample's pool, shortest first."""
    utterances = read_manifest(examples / "pool.jsonl")
    return sorted(utterances, key=lambda u: float(u.duration_seconds or 0.0))[:count]
