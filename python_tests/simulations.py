"""A small simulation on made-up clips, and how to change it."""

from __future__ import annotations

import json
from pathlib import Path

import soundfile
from recordings import SAMPLE_RATE_HZ, waveform, write_manifest

PITCH_OF = {"ab": 300.0, "no": 450.0, "": 900.0}

CONFIG = """\
strategies = ["egl", "random"]
queries = ["25%", "50%"]
seeds = [0]

[[data.base]]
manifest = "clips.jsonl"
where = { part = "base" }

[[data.pool]]
manifest = "clips.jsonl"
where = { part = "pool" }

[[data.valid]]
manifest = "clips.jsonl"
where = { part = "valid" }

[[data.test]]
manifest = "clips.jsonl"
where = { part = "test" }

[model]
preset = "tiny"
cell = "rnn_tanh"

[training]
max_epochs = 2
batch_seconds = 2
spec_augment = true

[scoring]
k = 4
hypotheses = 2
"""


def write_simulation(folder: Path, config: str = CONFIG) -> Path:
    """Eighteen clips of different lengths in four parts, and a configuration of them."""
    sizes = {"base": 4, "pool": 8, "valid": 3, "test": 3}
    parts = [part for part, size in sizes.items() for _ in range(size)]
    texts = ["ab", "no", "ab", "no", "ab", "no", "", "no"]
    records = []
    for number, part in enumerate(parts):
        text = texts[number % len(texts)] if part == "pool" else texts[number % 2]
        seconds = 0.3 + 0.02 * (number * 7 % 11)
        name = f"{part}{number}.wav"
        samples = waveform(seconds, pitch_hz=PITCH_OF[text], seed=number)
        soundfile.write(folder / name, samples, SAMPLE_RATE_HZ)
        records.append(
            {"audio_filepath": name, "duration": seconds, "text": text, "part": part, "nr": number}
        )
    write_manifest(folder / "clips.jsonl", records)
    path = folder / "config.toml"
    path.write_text(config, encoding="utf-8")
    return path


def edit_manifest(folder: Path, number: int, **changes: object) -> None:
    """Change a line of the manifest; a key set to None is removed."""
    path = folder / "clips.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    records[number] = {k: v for k, v in {**records[number], **changes}.items() if v is not None}
    write_manifest(path, records)
