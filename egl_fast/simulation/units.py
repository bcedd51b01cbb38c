"""Units of work: named by what determines their result, kept in a folder each, done once.

units/<kind>-<hash>/spec.json      what the unit is, readable; the hash is of this
                    result.json    written last: the unit is done
                    test.csv.gz    training: numbers of each test utterance
                    scores.jsonl.gz  scoring: a record a clip of the pool
                    metrics.jsonl  training: a line an epoch
                    timing.json    when, where and how long; no result
                    model.pt       training: while something may need it
                    run/           training: state of a run that is not finished
units/.locks/<kind>-<hash>         held by the process at work
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import gzip
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

from egl_fast import atomic
from egl_fast.checkpoint import plain_config
from egl_fast.data.json_reading import json_value
from egl_fast.errors import OutputError, one_line
from egl_fast.model import ModelConfig
from egl_fast.scoring.options import ScoringOptions
from egl_fast.simulation.sets import Clip, digest, total_seconds
from egl_fast.training.loop import TrainingConfig
from egl_fast.vocabulary import ENGLISH_CHARACTERS

#: Of what units compute. A change that alters results needs a new number.
FORMAT_VERSION: Final = 1


@dataclass(frozen=True)
class FreshInit:
    """Random weights."""

    model: ModelConfig
    seed: int

    @property
    def spec(self) -> dict[str, Any]:
        """What identifies it."""
        return {"model": plain_config(self.model), "seed": self.seed}


@dataclass(frozen=True)
class FileInit:
    """The weights of a model file."""

    path: Path
    sha256: str

    @property
    def spec(self) -> dict[str, Any]:
        """What identifies it."""
        return {"file_sha256": self.sha256}


@dataclass(frozen=True)
class TrainUnit:
    """One training run, with its evaluation.

    Attributes:
        kind: "pretrain", "base" or "train".
        init: where its weights come from; a unit must have its model by then.
        train: what it is trained on.
        valid: what decides about the best epoch.
        test: what its model is evaluated on; empty for none.
        config: how it is trained.
        title: what to call it in progress lines.
    """

    kind: Literal["pretrain", "base", "train"]
    init: FreshInit | FileInit | TrainUnit
    train: tuple[Clip, ...]
    valid: tuple[Clip, ...]
    test: tuple[Clip, ...]
    config: TrainingConfig
    title: str = field(compare=False)

    @cached_property
    def spec(self) -> dict[str, Any]:
        """All that determines the result."""
        init = {"unit": self.init.name} if isinstance(self.init, TrainUnit) else self.init.spec
        return {
            "format_version": FORMAT_VERSION,
            "kind": self.kind,
            "init": init,
            "vocabulary": "".join(ENGLISH_CHARACTERS[1:]),
            "train": _set_spec(self.train),
            "valid": _set_spec(self.valid),
            "test": _set_spec(self.test),
            "training": asdict(self.config),
        }

    @cached_property
    def name(self) -> str:
        """Name of its folder."""
        return _name(self.kind, self.spec)

    @property
    def needs(self) -> TrainUnit | None:
        """The unit whose model it starts from."""
        return self.init if isinstance(self.init, TrainUnit) else None

    @cached_property
    def cost(self) -> float:
        """Seconds of audio, which its time is about proportional to."""
        return total_seconds(self.train)


@dataclass(frozen=True)
class ScoreUnit:
    """Scores of a pool, or of what is left of it, by one model.

    Attributes:
        model: the unit whose model scores.
        pool: what is scored; the scorer sees no text, only ``oracle_loss`` does.
        options: how.
        num_hypotheses: labelings kept of each clip.
        title: what to call it in progress lines.
    """

    model: TrainUnit
    pool: tuple[Clip, ...]
    options: ScoringOptions
    num_hypotheses: int
    title: str = field(compare=False)
    kind: Literal["score"] = "score"

    @cached_property
    def spec(self) -> dict[str, Any]:
        """All that determines the result."""
        return {
            "format_version": FORMAT_VERSION,
            "kind": self.kind,
            "model": self.model.name,
            "pool": _set_spec(self.pool),
            "scoring": asdict(self.options),
            "hypotheses": self.num_hypotheses,
        }

    @cached_property
    def name(self) -> str:
        """Name of its folder."""
        return _name(self.kind, self.spec)

    @property
    def needs(self) -> TrainUnit | None:
        """The unit whose model it uses."""
        return self.model

    @cached_property
    def cost(self) -> float:
        """Seconds of audio, which its time is about proportional to."""
        return total_seconds(self.pool)


Unit = TrainUnit | ScoreUnit


def _set_spec(clips: Sequence[Clip]) -> dict[str, Any]:
    seconds = round(total_seconds(clips), 3)
    return {"clips": len(clips), "seconds": seconds, "sha256": digest(clips)}


def _name(kind: str, spec: dict[str, Any]) -> str:
    canonical = json.dumps(spec, sort_keys=True)
    return f"{kind}-{hashlib.sha256(canonical.encode()).hexdigest()[:16]}"


class UnitStore:
    """The folder of units: what is done, and who is at work.

    Args:
        root: the folder; several simulations may share it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        # Results never change once they are there.
        self._results: dict[str, dict[str, Any]] = {}
        self._tests: dict[str, dict[str, list[Any]]] = {}
        self._scores: dict[str, list[dict[str, Any]]] = {}

    def folder(self, name: str) -> Path:
        """Where a unit's files are."""
        return self.root / name

    def model_path(self, name: str) -> Path:
        """The model file of a training, if it is kept."""
        return self.root / name / "model.pt"

    def has_model(self, name: str) -> bool:
        """Whether a training's model is there; one that is, is finished."""
        return self.model_path(name).exists()

    def run_dir(self, name: str) -> Path:
        """Where a training is under way; see ``training.loop``."""
        return self.root / name / "run"

    def is_done(self, name: str) -> bool:
        """Whether a unit's result is there."""
        return self.result(name) is not None

    def result(self, name: str) -> dict[str, Any] | None:
        """What a unit came to; None while it is not done.

        Raises:
            OutputError: the file is damaged.
        """
        if name not in self._results:
            content = self._read_json(name, "result.json")
            if content is None:
                return None
            self._results[name] = content
        return self._results[name]

    def seconds(self, name: str) -> float | None:
        """How long a unit took; None where that is not known."""
        content = self._read_json(name, "timing.json")
        return None if content is None else float(content["wall_seconds"])

    def test_numbers(self, name: str) -> dict[str, list[Any]]:
        """Columns id, ctc_loss, char_errors, num_chars, word_errors, num_words of a training."""
        if name not in self._tests:
            rows = list(csv.reader(io.StringIO(self._read_gzip(name, "test.csv.gz"), newline="")))
            header, *body = rows
            readers = {"id": str, "ctc_loss": float}
            self._tests[name] = {
                column: [readers.get(column, int)(row[place]) for row in body]
                for place, column in enumerate(header)
            }
        return self._tests[name]

    def scores(self, name: str) -> list[dict[str, Any]]:
        """The records of a scoring, in the order of its pool."""
        if name not in self._scores:
            lines = self._read_gzip(name, "scores.jsonl.gz").split("\n")
            self._scores[name] = [json_value(line) for line in lines if line]
        return self._scores[name]

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[bool]:
        """Hold a unit while at work on it; False where another process does.

        The lock goes with the process, however it ends.
        """
        folder = self.root / ".locks"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = open(folder / name, "a")  # noqa: SIM115 (closed below)
        except OSError as error:
            raise OutputError(f"units {self.root}: cannot be written ({one_line(error)})") from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def _read_json(self, name: str, file_name: str) -> dict[str, Any] | None:
        path = self.folder(name) / file_name
        try:
            content = json_value(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise _damaged(path, error) from None
        assert isinstance(content, dict)
        return content

    def _read_gzip(self, name: str, file_name: str) -> str:
        path = self.folder(name) / file_name
        try:
            return gzip.decompress(path.read_bytes()).decode("utf-8", "surrogatepass")
        except (OSError, EOFError, ValueError) as error:
            raise _damaged(path, error) from None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file atomically.

    Raises:
        OutputError: it cannot be written.
    """
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_bytes(path, text.encode())


def write_gzip(path: Path, text: str) -> None:
    """Write a compressed file atomically, the same bytes for the same text.

    Raises:
        OutputError: it cannot be written.
    """
    write_bytes(path, gzip.compress(text.encode("utf-8", "surrogatepass"), mtime=0))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically, and its folder if there is none.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"output {path}: cannot be written ({one_line(error)})") from None
    # Several processes of a simulation may come to the same file.
    atomic.write_bytes(path, content, shared=True)


def _damaged(path: Path, error: Exception) -> OutputError:
    return OutputError(
        f"unit {path}: cannot be read ({one_line(error)}); remove the folder {path.parent.name} "
        "to do its work again"
    )
