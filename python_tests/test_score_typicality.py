"""``score --typicality``: embeddings in the same pass, and how the pool compares with others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import in_this_process
from conftest import Run
from embeddings_alone import alone

from egl_fast.cli.likeness import Likeness
from egl_fast.embeddings.typicality import typicality

OPTIONS = ("--k", 5, "--method", "probe", "--probes", 2)


@pytest.fixture(scope="module")
def sample(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The model, 20 recordings of its training set, and 20 of the pool."""
    folder = tmp_path_factory.mktemp("sample")
    found = []
    for name in ("train", "pool"):
        lines = []
        for line in (examples / f"{name}.jsonl").read_text().splitlines()[::3][:20]:
            record = json.loads(line)
            record["audio_filepath"] = str(examples / record["audio_filepath"])
            lines.append(json.dumps(record) + "\n")
        found.append(folder / f"{name}.jsonl")
        found[-1].write_text("".join(lines))
    return examples / "base.pt", found[0], found[1]


@pytest.fixture(scope="module")
def scores(sample: tuple[Path, Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores with typicality."""
    out = tmp_path_factory.mktemp("scores") / "scores.jsonl"
    assert score(sample, out) == 0
    return out


def score(sample: tuple[Path, Path, Path], out: Path, *more: object) -> int:
    model, trusted, pool = sample
    given = ("--model", model, "--pool", pool, "--typicality", trusted, "--out", out)
    return in_this_process("score", *given, *OPTIONS, *more)


def test_a_row_is_what_the_output_layer_sees_of_a_recording_alone(
    sample: tuple[Path, Path, Path], scores: Path
) -> None:
    model, _, pool = sample
    rows = np.load(f"{scores}.embeddings.npy")
    assert rows.dtype == np.float32
    # Sums in float32 take other orders in other batches.
    assert rows == pytest.approx(alone(model, pool), rel=1e-3, abs=1e-4)


def test_records_and_metadata_hold_typicality(
    sample: tuple[Path, Path, Path], scores: Path
) -> None:
    model, trusted, _ = sample
    expected = typicality(alone(model, trusted), np.load(f"{scores}.embeddings.npy"))
    found = [json.loads(line)["typicality"] for line in scores.read_text().splitlines()]
    assert found == pytest.approx(expected.pool, abs=1e-3)
    metadata = json.loads(Path(f"{scores}.meta.json").read_text())["typicality"]
    assert metadata["num_trusted"] == 20
    assert metadata["thresholds"]["0.05"] == pytest.approx(expected.threshold(0.05), abs=1e-3)


def test_scores_are_those_without_it(sample: tuple[Path, Path, Path], scores: Path) -> None:
    model, _, pool = sample
    out = scores.with_name("without.jsonl")
    given = ("--model", model, "--pool", pool, "--out", out)
    assert in_this_process("score", *given, *OPTIONS) == 0

    def without_typicality(path: Path) -> list[dict[str, Any]]:
        records = [json.loads(line) for line in path.read_text().splitlines()]
        return [{k: v for k, v in one.items() if k != "typicality"} for one in records]

    assert without_typicality(scores) == without_typicality(out)
    assert not Path(f"{out}.embeddings.npy").exists()


def test_a_complete_run_is_left_alone(sample: tuple[Path, Path, Path], scores: Path) -> None:
    before = scores.read_bytes()
    assert score(sample, scores, "--resume") == 0
    assert scores.read_bytes() == before


def test_with_other_trusted_recordings_only_typicality_is_found_again(
    sample: tuple[Path, Path, Path], scores: Path, tmp_path: Path, run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out = shutil.copytree(scores.parent, tmp_path / "copy") / scores.name
    model, trusted, pool = sample
    fewer = tmp_path / "fewer.jsonl"
    fewer.write_text("".join(trusted.read_text().splitlines(keepends=True)[:10]))
    other = (model, fewer, pool)
    # Stopped in between, the old scores are there, and the next run goes on.
    with monkeypatch.context() as patched:
        patched.setattr(Likeness, "of", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert score(other, out, "--resume") == 130
    assert out.read_bytes() == scores.read_bytes()
    assert score(other, out, "--resume") == 0
    status, _, err = run("score", "--model", model, "--pool", pool, "--typicality", fewer,
                         "--out", out, *OPTIONS, "--resume")  # fmt: skip
    assert status == 0
    assert err.endswith(f"\n{out}: already complete\n")

    def without_typicality(path: Path) -> list[dict[str, Any]]:
        records = [json.loads(line) for line in path.read_text().splitlines()]
        return [{k: v for k, v in one.items() if k != "typicality"} for one in records]

    assert without_typicality(out) == without_typicality(scores)
    embeddings = np.load(f"{out}.embeddings.npy")
    assert (embeddings == np.load(f"{scores}.embeddings.npy")).all()
    expected = typicality(alone(model, fewer), embeddings)
    found = [json.loads(line)["typicality"] for line in out.read_text().splitlines()]
    assert found == pytest.approx(expected.pool, abs=1e-3)
    metadata = json.loads(Path(f"{out}.meta.json").read_text())
    assert metadata["typicality"]["num_trusted"] == 10
    before = json.loads(Path(f"{scores}.meta.json").read_text())
    for key in ("num_scored", "audio_seconds", "wall_seconds", "k"):
        assert metadata[key] == before[key]
    for suffix in (".partial", ".journal", ".lock"):
        assert not Path(f"{out}{suffix}").exists()
    # Those of another pool of as many recordings would give every record a wrong typicality.
    rows = np.load(f"{out}.embeddings.npy")
    np.save(f"{out}.embeddings.npy", rows[::-1])
    given = ("--model", model, "--pool", pool, "--typicality", trusted, "--out", out)
    status, _, err = run("score", *given, *OPTIONS, "--resume")
    assert status == 2
    assert "belongs to another scores file" in err
    assert not Path(f"{out}.journal").exists()
    np.save(f"{out}.embeddings.npy", rows)
    # Without embeddings, there is nothing to compare.
    Path(f"{out}.embeddings.npy").unlink()
    given = ("--model", model, "--pool", pool, "--typicality", pool, "--out", out)
    status, _, err = run("score", *given, *OPTIONS, "--resume")
    assert status == 2
    assert "was started with another --typicality;" in err
    # Nor is typicality dropped without a word.
    status, _, err = run("score", *given[:4], "--out", out, *OPTIONS, "--resume")
    assert status == 2
    assert "was started with --typicality (now none); resume it with the same" in err


def test_a_pool_that_is_trusted_itself_is_warned_of(
    sample: tuple[Path, Path, Path], scores: Path, tmp_path: Path, run: Run
) -> None:
    """Its junk would be trusted, too. A few trusted recordings of the pool are fine."""
    out = shutil.copytree(scores.parent, tmp_path / "copy") / scores.name
    model, _, pool = sample
    few = tmp_path / "few.jsonl"
    few.write_text("".join(pool.read_text().splitlines(keepends=True)[:10]))
    for trusted, is_pool in ((pool, True), (few, False)):
        given = ("--model", model, "--pool", pool, "--typicality", trusted, "--out", out)
        status, _, err = run("score", *given, *OPTIONS, "--resume")
        assert status == 0
        assert ("20 of the pool's 20 recordings are among the trusted ones" in err) == is_pool
        assert "scored 20 of 20 recordings before: none was left to score" in err


def test_what_cannot_be_trusted_is_said_before_anything_is_scored(
    sample: tuple[Path, Path, Path], tmp_path: Path, run: Run
) -> None:
    model, _, pool = sample
    trusted = tmp_path / "trusted.jsonl"
    trusted.write_text('{"audio_filepath": "missing.wav"}\n')
    out = tmp_path / "scores.jsonl"
    given = ("--model", model, "--pool", pool, "--typicality", trusted)
    status, _, err = run("score", *given, "--out", out)
    assert (status, err.count("\n")) == (2, 1)
    assert "missing.wav" in err
    assert {path.name for path in tmp_path.iterdir()} == {"trusted.jsonl"}
    status, _, err = run("score", *given)
    assert status == 2
    assert "--typicality does nothing without --out" in err
