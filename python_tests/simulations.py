"""A small simulation on made-up recordings, and ways to change it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from recordings import SAMPLE_RATE_HZ, waveform, write_manifest

from egl_fast.evaluation.simulation.config import read_config
from egl_fast.evaluation.simulation.plan import Expansion, Plan
from egl_fast.evaluation.simulation.preparation import prepare
from egl_fast.evaluation.simulation.store import UnitStore, write_gzip
from egl_fast.evaluation.simulation.units import ScoreUnit, Unit
from egl_fast.evaluation.simulation.work import ready
from egl_fast.evaluation.table_columns import CONTROLS
from egl_fast.files import atomic
from egl_fast.records import STRATEGIES

PITCH_OF = {"ab": 300.0, "no": 450.0, "": 900.0}

CONFIG = """\
strategies = ["egl", "random"]
queries = ["25%", "50%"]
seeds = [0]

[[data.base]]
manifest = "all.jsonl"
where = { part = "base" }

[[data.pool]]
manifest = "all.jsonl"
where = { part = "pool" }

[[data.valid]]
manifest = "all.jsonl"
where = { part = "valid" }

[[data.test]]
manifest = "all.jsonl"
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
    """Eighteen recordings of different lengths in four parts, and a configuration for them."""
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
    write_manifest(folder / "all.jsonl", records)
    path = folder / "config.toml"
    path.write_text(config, encoding="utf-8")
    return path


def edit_manifest(folder: Path, number: int, **changes: object) -> None:
    """Change a line of the manifest; a key set to None is removed."""
    path = folder / "all.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    records[number] = {k: v for k, v in {**records[number], **changes}.items() if v is not None}
    write_manifest(path, records)


def plan_of(folder: Path, *changes: tuple[str, str]) -> Plan:
    """The plan of the small simulation with parts of its configuration replaced."""
    config = CONFIG
    for old, new in changes:
        assert config.count(old) == 1
        config = config.replace(old, new)
    return prepare(read_config(write_simulation(folder, config)))


def pretend_unit(
    unit: Unit, plan: Plan, store: UnitStore, *, scores: Sequence[float] = range(8)
) -> None:
    """Pretend to do a unit: later models give lower scores to the end of the pool."""
    folder = store.folder(unit.name)
    atomic.make_folder(folder)
    atomic.write_json(folder / "spec.json", unit.spec)
    atomic.write_json(folder / "timing.json", {"wall_seconds": 2 * unit.cost})
    if isinstance(unit, ScoreUnit):
        of = {member.utterance.id: s for member, s in zip(plan.pool, scores, strict=True)}
        sign = 1 if unit.model.kind == "base" else -1
        nothing = dict.fromkeys((*STRATEGIES, *CONTROLS))
        records = [
            {"id": name, **nothing, "egl": sign * of[name], "random": of[name]}
            for name in (member.utterance.id for member in unit.pool)
        ]
        result: dict[str, Any] = {"kind": "score"}
        if unit.trusted is not None:
            # The first of what is left is the least typical.
            records = [{**record, "typicality": n / 10} for n, record in enumerate(records)]
            result["typicality"] = {"thresholds": {"0.02": 0.15}}
            embeddings = np.random.default_rng(0).normal(size=(len(records), 4))
            np.save(folder / "embeddings.npy", embeddings.astype(np.float32))
        lines = "".join(json.dumps(record) + "\n" for record in records)
        write_gzip(folder / "scores.jsonl.gz", lines)
        atomic.write_json(folder / "result.json", result)
        return
    (folder / "model.pt").write_text("a model")
    loss = abs(unit.config.learning_rate - 2e-3)
    epoch = {"epoch": 1, "valid_loss": loss}
    atomic.write_bytes(folder / "metrics.jsonl", json.dumps(epoch).encode())
    result = {"valid_loss": loss, "epochs": 1, "best_epoch": 1}
    if unit.test:
        header = "id,ctc_loss,char_errors,num_chars,word_errors,num_words\n"
        rows = (f"{member.utterance.id},3.0,1,2,1,1\n" for member in unit.test)
        write_gzip(folder / "test.csv.gz", header + "".join(rows))
        rates = {"ctc_loss": 3.0, "ctc_loss_per_char": 1.5, "cer": 0.5, "wer": 1.0}
        result["test"] = {"utterances": len(unit.test), **rates}
    atomic.write_json(folder / "result.json", result)


def pretend(plan: Plan, store: UnitStore, *, scores: Sequence[float] = range(8)) -> list[str]:
    """Pretend to do all units; their titles in order."""
    order: list[str] = []
    for _ in range(200):
        expansion = plan.expand(store)
        unit = next(iter(ready(expansion, store)), None)
        if unit is None:
            assert not expansion.later
            return order
        order.append(unit.title)
        pretend_unit(unit, plan, store, scores=scores)
    raise AssertionError("endless")


def picks(expansion: Expansion, strategy: str, mode: str) -> list[tuple[str, tuple[int, ...]]]:
    """Each query of a choice, and what it picked of the pool."""
    return [
        (point.query, point.picks or ())
        for point in expansion.points
        if point.strategy == strategy and point.mode == mode
    ]
