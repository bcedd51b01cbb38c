"""The folder of units: each has its own folder and is done once, however many processes work.

units/<kind>-<hash>/spec.json      what the unit is, readable; the hash is of this
                    result.json    written last: the unit is done
                    test.csv.gz    training: numbers of each test utterance
                    scores.jsonl.gz  scoring: a record per utterance of the pool
                    embeddings.npy   scoring: a row for each of them, if a choice needs them
                    metrics.jsonl  training: a line per epoch
                    timing.json    when, where and how long; no result
                    model.pt       training: while something may need it
                    run/           training: state of a run that is not finished
units/.locks/<kind>-<hash>         held by the process at work

Results are used weeks after they were written, and may have been edited or cut short by then. They
are compared with the rest of their folder before they are used.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt

from egl_fast.data.strict_json import json_value
from egl_fast.errors import OutputError, one_line
from egl_fast.evaluation.simulation.units import ScoreUnit, unit_name
from egl_fast.evaluation.table_columns import CONTROLS, ON_REQUEST
from egl_fast.files import atomic
from egl_fast.files.arrays import read_array
from egl_fast.files.locking import sole_writer
from egl_fast.records import ASKED_FOR_BY, STRATEGIES

#: Numbers that a record may lack.
_HYPOTHESIS: Final[dict[str, type | tuple[type, ...]]] = {
    "text": str,
    "log_prob": float,
    "sq_grad_norm": (float, type(None)),
}
_ASKED_FOR: Final = {*ASKED_FOR_BY, *ON_REQUEST}

_Content = TypeVar("_Content")


class UnitStore:
    """The folder of units: what is done, and who is at work.

    Reading from a unit raises OutputError if what is read is damaged, or does not fit the rest of
    its folder.

    Args:
        root: the folder; several simulations may share it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        # Results never change once they are there.
        self._contents: dict[Path, Any] = {}

    def folder(self, name: str) -> Path:
        """The folder of a unit's files."""
        return self.root / name

    def model_path(self, name: str) -> Path:
        """The model file of a training, if it is kept."""
        return self.root / name / "model.pt"

    def has_model(self, name: str) -> bool:
        """Whether a training's model is there, which means that it is finished."""
        return self.model_path(name).exists()

    def discard_model(self, name: str) -> None:
        """Remove a training's model file, which can be made again.

        Raises:
            OutputError: that fails.
        """
        atomic.remove(self.model_path(name))

    def run_dir(self, name: str) -> Path:
        """The folder of a training in progress; see ``training.loop``."""
        return self.root / name / "run"

    def discard_run(self, name: str) -> None:
        """Remove the states that a training resumes from, and leftovers of an earlier removal."""
        run = self.run_dir(name)
        doomed = run.with_name("run.removed")
        shutil.rmtree(doomed, ignore_errors=True)
        # Half-removed under its own name, it would look like a run that lost its states.
        with suppress(OSError):
            os.replace(run, doomed)
            atomic.sync_folder(run.parent)
            shutil.rmtree(doomed, ignore_errors=True)

    def is_done(self, name: str) -> bool:
        """Whether a unit's result is there."""
        return self.result(name) is not None

    def result(self, name: str) -> dict[str, Any] | None:
        """A unit's result; None while it is not done."""
        path = self.folder(name) / "result.json"
        if path not in self._contents and not path.exists():
            return None

        def checked(path: Path) -> dict[str, Any]:
            spec = self._read(path.with_name("spec.json"), _spec)
            result = _json_object(path)
            self._check_result(name, spec, result)
            return result

        return self._read(path, checked)

    def seconds(self, name: str) -> float | None:
        """How long a unit took; None if that is not known."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            seconds = float(_json_object(self.folder(name) / "timing.json")["wall_seconds"])
            return seconds if 0 <= seconds < math.inf else None
        return None

    def test_numbers(self, name: str) -> dict[str, list[Any]]:
        """Columns id, ctc_loss, char_errors, num_chars, word_errors, num_words of a training."""
        return self._read(self.folder(name) / "test.csv.gz", _test_columns)

    def scores(self, unit: ScoreUnit) -> list[dict[str, Any]]:
        """The records of a scoring, in the order of its pool."""
        path = self.folder(unit.name) / "scores.jsonl.gz"
        return self._read(path, lambda path: _score_records(path, unit))

    def embeddings(self, unit: ScoreUnit) -> npt.NDArray[np.float32]:
        """[n, d] of a scoring that keeps them, in the order of its pool."""
        path = self.folder(unit.name) / "embeddings.npy"
        return self._read(path, lambda path: _embeddings(path, len(unit.pool)))

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold a unit while at work on it.

        Raises:
            LockHeldError: another process does.
            OutputError: the lock cannot be made.
        """
        folder = self.root / ".locks"
        atomic.make_folder(folder)
        with sole_writer(folder / name, of=f"unit {self.folder(name)}"):
            yield

    def _read(self, path: Path, reader: Callable[[Path], _Content]) -> _Content:
        """A file of a unit, read once."""
        if path not in self._contents:
            try:
                self._contents[path] = reader(path)
            except (OSError, EOFError, ValueError, KeyError, TypeError, csv.Error, zlib.error) as e:
                what = f"lacks {e}" if isinstance(e, KeyError) else one_line(e)
                raise OutputError(
                    f"unit {path}: is damaged ({what}); remove the folder {path.parent} to have "
                    "its work done again"
                ) from None
        content: _Content = self._contents[path]
        return content

    def _check_result(self, name: str, spec: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        if spec["kind"] == "score":
            return
        lines = (self.folder(name) / "metrics.jsonl").read_text().split("\n")
        epochs = [json_value(line) for line in lines if line]
        losses = {epoch["epoch"]: epoch["valid_loss"] for epoch in epochs}
        if losses[result["best_epoch"]] != result["valid_loss"] or len(losses) != result["epochs"]:
            _disagree("valid_loss or epochs", "metrics.jsonl")
        if not spec["test"]["clips"]:
            return
        test, numbers = result["test"], self.test_numbers(name)
        count = len(numbers["id"])
        if count == 0:
            _disagree("test", "test.csv.gz")
        loss, chars = math.fsum(numbers["ctc_loss"]), sum(numbers["num_chars"])
        expected = {
            "utterances": count,
            "ctc_loss": loss / count,
            "ctc_loss_per_char": loss / chars if chars else None,
            "cer": sum(numbers["char_errors"]) / (chars or count),
            "wer": sum(numbers["word_errors"]) / (sum(numbers["num_words"]) or count),
        }
        for key, value in expected.items():
            # Up to rounding: a sum's last digits depend on the version of Python.
            if value != test[key] and not math.isclose(value, test[key], rel_tol=1e-9):
                _disagree(key, "test.csv.gz")


def write_gzip(path: Path, text: str) -> None:
    """Write a compressed file atomically, the same bytes for the same text.

    Raises:
        OutputError: it cannot be written.
    """
    atomic.write_bytes(path, gzip.compress(text.encode("utf-8", "surrogatepass"), mtime=0))


def _json_object(path: Path) -> dict[str, Any]:
    content = json_value(path.read_bytes())
    if not isinstance(content, dict):
        raise ValueError("no JSON object")
    return content


def _gunzipped(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode("utf-8", "surrogatepass")


def _spec(path: Path) -> dict[str, Any]:
    spec = _json_object(path)
    if unit_name(spec) != path.parent.name:
        raise ValueError("it belongs to another unit than its folder's name says")
    return spec


def _disagree(key: str, other: str) -> NoReturn:
    raise ValueError(f"{key} disagrees with {other}")


def _test_columns(path: Path) -> dict[str, list[Any]]:
    header, *rows = csv.reader(io.StringIO(_gunzipped(path), newline=""))
    readers: dict[str, Callable[[str], Any]] = {"id": str, "ctc_loss": _finite}
    return {
        column: [readers.get(column, int)(row[place]) for row in rows]
        for place, column in enumerate(header)
    }


def _finite(text: str | float) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"a number that is {number}")
    return number


def _embeddings(path: Path, num_rows: int) -> npt.NDArray[np.float32]:
    found: npt.NDArray[np.float32] = np.array(read_array(path))
    if found.ndim != 2 or len(found) != num_rows or not np.isfinite(found).all():
        raise ValueError("its rows are not those of the pool")
    return found


def _score_records(path: Path, unit: ScoreUnit) -> list[dict[str, Any]]:
    records = [json_value(line) for line in _gunzipped(path).split("\n") if line]
    if [record["id"] for record in records] != [member.utterance.id for member in unit.pool]:
        raise ValueError("its records are not those of the pool")
    for record in records:
        for name in (*STRATEGIES, *CONTROLS):
            value = record.get(name) if name in _ASKED_FOR else record[name]
            if not isinstance(value, (int, float, type(None))):
                raise ValueError(f"{name} {value!r}")
        if unit.trusted is not None:
            _finite(record["typicality"])
        for hypothesis in record.get("hypotheses", ()):
            for name, kinds in _HYPOTHESIS.items():
                if not isinstance(hypothesis[name], kinds):
                    raise ValueError(f"hypothesis with {name} {hypothesis[name]!r}")
    return records
