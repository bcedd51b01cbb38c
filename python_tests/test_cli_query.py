"""``egl-fast query`` end to end: picks, what is beside them, refusals, stopping and going on."""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from commands import contents, in_this_process, lines_of, start, wait_until
from conftest import Run

from egl_fast.cli.query_looks import Looks
from egl_fast.data.audio_folder import audio_folder
from egl_fast.selection import select

OPTIONS = ("--k", 10, "--threads", 1, "--budget", "25%")
ROUND_1 = "round-1.rows-4.jsonl"


@pytest.fixture(scope="module")
def sample(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The model, and 20 short recordings of the pool."""
    lines = [json.loads(line) for line in (examples / "pool.jsonl").read_text().splitlines()]
    lines.sort(key=lambda line: float(line["duration"]))
    for line in lines:
        line["audio_filepath"] = str(examples / line["audio_filepath"])
    pool = tmp_path_factory.mktemp("sample") / "pool.jsonl"
    pool.write_text("".join(json.dumps(line) + "\n" for line in lines[:20]))
    return examples / "base.pt", pool


@pytest.fixture(scope="module")
def picks(sample: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a query leaves."""
    out = tmp_path_factory.mktemp("picks") / "picks.jsonl"
    assert query(sample, out) == 0
    return out


@pytest.fixture(scope="module")
def exact(sample: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """The exact scores."""
    out = tmp_path_factory.mktemp("exact") / "scores.jsonl"
    model, pool = sample
    assert (
        in_this_process("score", "--model", model, "--pool", pool, *OPTIONS[:4], "--out", out) == 0
    )
    return {record["id"]: record["egl"] for record in read(out)}


def given(sample: tuple[Path, Path], out: Path) -> tuple[object, ...]:
    known = ("query", "--model", sample[0], "--pool", sample[1], "--strategy", "egl")
    return (*known, "--out", out, *OPTIONS)


def query(sample: tuple[Path, Path], out: Path, *more: object) -> int:
    return in_this_process(*given(sample, out), *more)


def read(path: Path) -> list[dict[str, Any]]:
    return lines_of(path.read_text())


def metadata(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"{out}.meta.json").read_text())
    return found


def copied(picks: Path, folder: Path) -> Path:
    shutil.copytree(picks.parent, folder, dirs_exist_ok=True)
    return folder / picks.name


def test_the_picks_are_those_of_exact_scores(
    sample: tuple[Path, Path], picks: Path, exact: dict[str, float]
) -> None:
    records = read(picks)
    assert [record["rank"] for record in records] == [1, 2, 3, 4, 5]
    values = [record["egl"] for record in records]
    assert values == sorted(values, reverse=True)
    names = list(exact)
    best = select([{"egl": exact[name]} for name in names], budget="25%")
    missed = {names[i] for i in best} - {record["id"] for record in records}
    assert len(missed) <= 1
    # Whoever is missed is among the runners-up.
    beside = Path(f"{picks}.uncertain.jsonl")
    assert missed <= {record["id"] for record in (read(beside) if beside.exists() else [])}


def test_what_it_took_is_said(sample: tuple[Path, Path], picks: Path) -> None:
    found = metadata(picks)
    assert found["num_scored"] == 20
    assert found["num_picks"] == 5
    assert found["overlap"] >= 0.98
    assert 3.8 <= found["passes"] <= 10.0
    assert found["rounds"][0]["looks_by_rows"] == {"4": 20}
    assert found["passes"] == pytest.approx(sum(one["passes"] for one in found["rounds"]), abs=0.01)
    mean = sum(record["probability"] for record in read(picks)) / 5
    assert found["overlap"] == pytest.approx(mean, abs=1e-3)


def test_picks_go_to_a_table_too(sample: tuple[Path, Path], picks: Path, tmp_path: Path) -> None:
    out = tmp_path / "picks.csv"
    shutil.copytree(f"{picks}.query", f"{out}.query")  # so nothing is looked at again
    assert query(sample, out, "--overwrite") == 0
    with out.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    ranked = [(str(one["rank"]), one["id"], str(one["egl"])) for one in read(picks)]
    assert [(row["rank"], row["id"], row["score"]) for row in rows] == ranked


def test_batches_do_not_change_the_picks(
    sample: tuple[Path, Path], picks: Path, tmp_path: Path
) -> None:
    out = tmp_path / "picks.jsonl"
    assert query(sample, out, "--batch-seconds", 1) == 0

    def seen(path: Path) -> list[tuple[str, float]]:
        return [(record["id"], record["probability"]) for record in read(path)]

    assert seen(out) == seen(picks)
    assert metadata(out)["rounds"] == metadata(picks)["rounds"]


def test_a_run_that_is_interrupted_goes_on(
    sample: tuple[Path, Path],
    picks: Path,
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "picks.jsonl"
    take = Looks.take

    def stopping(looks: Looks, *arguments: Any, **named: Any) -> Any:
        looks._stop.set()
        return take(looks, *arguments, **named)

    # However far it comes each time: once in every step, and then to the end.
    with monkeypatch.context() as patched:
        patched.setattr(Looks, "take", stopping)
        assert query(sample, out) == 130
        assert not out.exists()
    status, _, err = run(*given(sample, out))
    assert status == 2
    assert "give --resume to continue it" in err
    assert query(sample, out, "--resume") == 0
    assert out.read_bytes() == picks.read_bytes()
    before = contents(tmp_path)
    assert query(sample, out, "--resume") == 0
    assert contents(tmp_path) == before


def test_a_run_that_is_killed_goes_on(
    sample: tuple[Path, Path], picks: Path, tmp_path: Path
) -> None:
    out = tmp_path / "picks.jsonl"
    journal = Path(f"{out}.query", f"{ROUND_1}.journal")
    process = start(*given(sample, out))
    begun = wait_until(process, lambda: journal.exists() and journal.read_bytes().count(b"\n") > 1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert begun
    assert not out.exists()
    assert query(sample, out, "--resume") == 0
    assert out.read_bytes() == picks.read_bytes()


def test_another_budget_starts_from_what_was_looked_at(
    sample: tuple[Path, Path], picks: Path, tmp_path: Path, run: Run
) -> None:
    out = copied(picks, tmp_path)
    first = Path(f"{out}.query", ROUND_1)
    before = first.stat().st_mtime_ns
    other = ("--budget", 2, "--confidence", 0.5)
    status, _, err = run(*given(sample, out), *other, "--resume")
    assert status == 2
    assert "was made with --budget 25% (now 2)" in err
    assert query(sample, out, *other, "--overwrite") == 0
    assert first.stat().st_mtime_ns == before
    assert len(read(out)) == 2


def test_caps_shares_and_exclusions_are_those_of_select(
    sample: tuple[Path, Path], picks: Path, tmp_path: Path, run: Run
) -> None:
    out = tmp_path / "picks.jsonl"
    more = ("--exclude", picks, "--confidence", 0.5)
    assert query(sample, out, *more) == 0
    found = read(out)
    # A quarter of the pool of 20, as with `select`, not of the 15 that are left.
    assert len(found) == 5
    assert not {record["id"] for record in found} & {record["id"] for record in read(picks)}
    assert metadata(out)["num_scored"] == 15
    status, _, err = run(*given(sample, out), *more, "--per", "corpus=1", "--overwrite")
    assert status == 0
    corpora = [record["corpus"] for record in read(out)]
    assert len(set(corpora)) == len(corpora) < 5
    assert "budget 25%: is not spent in full" in err
    assert "of 20 utterances, all that is left (excluded: 5, beyond --per: " in err


def test_relative_paths_of_picks_start_from_their_own_folder(
    sample: tuple[Path, Path], tmp_path: Path
) -> None:
    """Also for a command that looks for the manifest of what was scored."""
    folder = tmp_path / "pool"
    folder.mkdir()
    lines = []
    for line in read(sample[1])[:4]:
        name = Path(line["audio_filepath"]).name
        shutil.copy(line["audio_filepath"], folder / name)
        lines.append(json.dumps({**line, "audio_filepath": name}) + "\n")
    (folder / "pool.jsonl").write_text("".join(lines))
    out = tmp_path / "picks.jsonl"
    assert query((sample[0], folder / "pool.jsonl"), out, "--confidence", 0.1) == 0
    start = audio_folder(str(out), None)
    assert start is not None
    assert all((start / record["audio_filepath"]).is_file() for record in read(out))


def test_the_gate_and_batches_are_those_of_select(
    sample: tuple[Path, Path], picks: Path, tmp_path: Path, run: Run
) -> None:
    out = copied(picks, tmp_path)
    gate = ("--typicality", sample[1], "--drop-atypical", "10%", "--confidence", 0.5, "--overwrite")
    status, _, err = run(*given(sample, out), *gate, "--batch", "facility")
    assert status == 0
    assert "warning: --typicality" in err
    assert "only 20 trusted recordings" in err
    assert f"--drop-atypical 10%: leaves out 2 atypical utterances in 1 group; {out}" in err
    away = {record["id"] for record in read(Path(f"{out}.atypical.jsonl"))}
    assert len(away) == 2
    assert not away & {record["id"] for record in read(out)}
    assert all("typicality" in record for record in read(out))
    found = metadata(out)
    assert found["gate"]["option"] == "--drop-atypical 10%"
    assert 0.0 < found["likely_overlap"] <= found["overlap"] <= 1.0
    # What estimates are chosen by is chosen by `select` from the same estimates.
    first = Path(f"{out}.query", ROUND_1)
    same = ("--strategy", "egl", "--budget", "25%", *gate[2:4], "--batch", "facility")
    written = ("--out", tmp_path / "same.jsonl", "--pool", sample[1])
    assert in_this_process("select", first, *same, *written) == 0
    if set(found["rounds"][-1]["looks_by_rows"]) == {"4"}:
        assert {r["id"] for r in read(tmp_path / "same.jsonl")} == {r["id"] for r in read(out)}
    # The looks serve another batch, too.
    before = first.stat().st_mtime_ns
    assert query(sample, out, *gate, "--batch", "clusters") == 0
    assert first.stat().st_mtime_ns == before
    assert not away & {record["id"] for record in read(out)}


def test_a_recording_that_fails_is_listed_and_the_status_says_so(
    sample: tuple[Path, Path], tmp_path: Path
) -> None:
    pool = tmp_path / "pool.jsonl"
    lines = sample[1].read_text().splitlines()[:4]
    pool.write_text("\n".join([*lines, '{"id": "gone", "audio_filepath": "gone.wav"}\n']))
    out = tmp_path / "picks.jsonl"
    assert query((sample[0], pool), out, "--confidence", 0.1) == 3
    [error] = read(Path(f"{out}.errors.jsonl"))
    assert error["id"] == "gone"
    assert len(read(out)) == 1
    assert query((sample[0], pool), out, "--confidence", 0.1, "--resume") == 3


def test_a_pool_of_which_nothing_can_be_scored_says_why(
    sample: tuple[Path, Path], tmp_path: Path, run: Run
) -> None:
    pool = tmp_path / "pool.jsonl"
    pool.write_text('{"id": "gone", "audio_filepath": "gone.wav"}\n')
    out = tmp_path / "picks.jsonl"
    status, _, err = run(*given((sample[0], pool), out), "--budget", 1, "--quiet")
    assert (status, err.count("\n")) == (2, 1)
    assert "none of 1 recordings could be scored; the first, gone:" in err


def test_too_little_effort_is_said(
    sample: tuple[Path, Path], picks: Path, tmp_path: Path, run: Run
) -> None:
    out = copied(picks, tmp_path)
    more = ("--effort", 3.9, "--confidence", 1, "--overwrite")
    status, _, err = run(*given(sample, out), *more)
    assert status == 0
    assert re.search(
        r"warning: .* of the picks are expected to be those of exact scores, less than", err
    )


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--effort", 1), "the first look at all recordings takes 3.8 passes"),
        (("--strategy", "renyi"), "for others, use `score --method none` and `select`"),
        (("--strategy", "egl/hour"), "expected pctc, entropy, egl, egl_normalized, egl_full"),
        (("--budget", 500), "there are only 20 records"),
        (("--budget", "much"), "expected a percentage"),
        (("--drop-atypical", "10%"), "--drop-atypical does nothing without --typicality"),
        (("--batch", "clusters"), "--batch does nothing without --typicality"),
        (("--confidence", 0), "--confidence"),
        (("--resume", "--overwrite"), "give only one"),
        (("--k", 10, "--beam-width", 5), "beam-width: expected at least k = 10"),
        (("--out", "-"), "name one with --out"),
        (("--out", "picks.xlsx"), "is named like a spreadsheet"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_looked_at(
    sample: tuple[Path, Path],
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    more: tuple[object, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = run(*given(sample, tmp_path / "picks.jsonl"), *more)
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert said in err
    assert contents(tmp_path) == {}


def test_all_excluded_is_said(sample: tuple[Path, Path], tmp_path: Path, run: Run) -> None:
    status, _, err = run(*given(sample, tmp_path / "picks.jsonl"), "--exclude", sample[1])
    assert (status, err.count("\n")) == (2, 1)
    assert "every utterance is excluded" in err
