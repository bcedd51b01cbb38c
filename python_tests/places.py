"""A folder to run commands in, with outputs whose loss would show."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from recordings import write_manifest, write_recordings

FINE = {"audio_filepath": "rec0.wav", "text": "ab"}


@dataclass
class Place:
    """A folder with everything a command needs, and outputs that it is told to overwrite."""

    folder: Path
    model: Path

    def __post_init__(self) -> None:
        self.pool = write_recordings(self.folder, ["ab", "no", "ab", "no"], [0.5, 0.8, 0.65, 0.45])
        self.scores = write_manifest(
            self.folder / "scored.jsonl",
            [
                {"id": name, "duration": 2.0, "egl": 1.0, "egl_full": None, "beam_mass": 0.9}
                for name in "abc"
            ],
        )
        for suffix in ("", ".meta.json", ".errors.jsonl"):
            (self.folder / f"out.jsonl{suffix}").write_text("precious")

    def manifest(self, *lines: str | dict[str, Any]) -> Path:
        path = self.folder / "manifest.jsonl"
        path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines))
        return path

    def checkpoint(self, content: Any) -> Path:
        path = self.folder / "model.pt"
        torch.save(content, path)
        return path

    def score(self, *more: object, **changed: object) -> list[object]:
        given = {"model": self.model, "pool": self.pool, "out": "out.jsonl", **changed}
        return self._command("score", given, *more)

    def transcribe(self, **changed: object) -> list[object]:
        return self._command(
            "transcribe", {"model": self.model, "data": self.pool, "out": "out.jsonl", **changed}
        )

    def train(self, text: str, *, first: str = "ab") -> list[object]:
        data = self.manifest({**FINE, "text": first}, {**FINE, "id": "other", "text": text})
        given = {"train": data, "valid": self.pool, "run-dir": "run", "preset": "tiny"}
        return ["train", *(x for k, v in given.items() for x in (f"--{k}", v))]

    def select(self, budget: str, **changed: object) -> list[object]:
        given = {"budget": budget, "out": "out.jsonl", **changed}
        return [*self._command("select", given), self.scores]

    @staticmethod
    def _command(name: str, given: dict[str, object], *more: object) -> list[object]:
        return [name, "--overwrite", *(x for k, v in given.items() for x in (f"--{k}", v)), *more]
