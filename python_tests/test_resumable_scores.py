"""A resumed scores file is the same as if its run had never been stopped, at any step."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recorded_disk import POWER, RecordedDisk, no_syncing, restore

from egl_fast.data.manifest import Utterance
from egl_fast.data.parquet_records import record_lines
from egl_fast.errors import AudioError, OutputError
from egl_fast.records import ScoreRecord
from egl_fast.scoring.run.outcome import Outcome
from egl_fast.scoring.run.resumable_scores import ResumableScores

SETTINGS = {"model_sha256": "0a", "pool_sha256": "0b", "k": 50, "params": None}
METADATA = {**SETTINGS, "machine": "this one"}

#: As in a run, but smaller: crashes are tried between all steps.
WINDOW = 8

#: Three windows, the last one not full.
NUM_UTTERANCES = 2 * WINDOW + 5

NUM_BROKEN = 4


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("egl_fast.scoring.run.resumable_scores.WINDOW", WINDOW)


def outcome(position: int, *, broken: bool) -> Outcome:
    """A made-up outcome that differs from every other."""
    name = f"rec{position}"
    utterance = Utterance(
        name, Path(f"{name}.wav"), 0.0, None, None, {"id": name, "who": "é"}, position + 1
    )
    if broken:
        return Outcome(position, utterance, AudioError(f"audio {name}.wav:\nno such file"))
    rng = random.Random(position)
    record = ScoreRecord(
        id=name, duration=rng.random(), num_frames=7, pred_text="so " * rng.randrange(9),
        num_hypotheses=3, beam_mass=rng.random(), egl=rng.random(), egl_stderr=0.0,
        egl_normalized=rng.random(), egl_unsquared=None, egl_full=None, egl_full_stderr=None,
        entropy=rng.random(), pctc=rng.random(), random=rng.random(),
    )  # fmt: skip
    return Outcome(position, utterance, record, torch.tensor([rng.random() for _ in range(5)]))


def units() -> list[list[Outcome]]:
    """Outcomes of a pool in the order of computation: window by window, units of any size."""
    rng = random.Random(7)
    broken = set(rng.sample(range(NUM_UTTERANCES), NUM_BROKEN))
    found: list[list[Outcome]] = []
    for start in range(0, NUM_UTTERANCES, WINDOW):
        positions = list(range(start, min(start + WINDOW, NUM_UTTERANCES)))
        rng.shuffle(positions)
        while positions:
            size = rng.randrange(1, 6)
            found.append([outcome(p, broken=p in broken) for p in positions[:size]])
            del positions[:size]
    return found


UNITS = units()

#: So many units leave a window begun, of which the journal holds the outcomes.
NUM_STOPPED = 5


def finish(
    out: Path,
    *,
    resume: bool = True,
    overwrite: bool = False,
    settings: dict[str, Any] = SETTINGS,
    given: Iterable[list[Outcome]] = UNITS,
    kept: Callable[[str], None] = lambda position: None,
    embeddings: bool = False,
) -> list[int]:
    """Do what ``egl-fast score`` does; the positions it had to compute.

    Args:
        out: the scores file.
        resume: as the command's option.
        overwrite: likewise.
        settings: what decides the scores.
        given: what is computed.
        kept: called with every position that is promised to be on the disk.
        embeddings: keep them, and add a typicality that is made of them.
    """
    computed = []
    results = ResumableScores(str(out), resume=resume, overwrite=overwrite, embeddings=embeddings)
    with results.locked():
        if not results.begin(settings, NUM_UTTERANCES):
            return computed
        for unit in given:
            fresh = [o for o in unit if o.position not in results]
            if fresh:
                results.add(fresh, 0.125)
                computed += [o.position for o in fresh]
                for o in fresh:
                    kept(str(o.position))
        assert len(list(results.column("id"))) == results.tally.num_scored
        typicality = results.embeddings().astype(np.float64).sum(1) if embeddings else None
        results.finish({**METADATA, **settings}, typicality=typicality)
    return computed


def files(out: Path) -> dict[str, bytes]:
    """All files of the folder, without the metadata that depend on the clock."""
    found = {path.name: path.read_bytes() for path in out.parent.iterdir() if path.is_file()}
    name = f"{out.name}.meta.json"
    if name in found:
        metadata = json.loads(found[name])
        metadata.pop("wall_seconds", None)
        found[name] = json.dumps(metadata).encode()
    return found


def undisturbed(folder: Path, *, embeddings: bool = False) -> dict[str, bytes]:
    """What an undisturbed run leaves."""
    out = folder / "scores.jsonl"
    folder.mkdir()
    assert len(finish(out, resume=False, embeddings=embeddings)) == NUM_UTTERANCES
    found = files(out)
    beside = {".errors.jsonl", ".meta.json", *([".embeddings.npy"] if embeddings else [])}
    assert set(found) == {out.name, *(out.name + suffix for suffix in beside)}
    assert found[out.name].count(b"\n") == NUM_UTTERANCES - NUM_BROKEN
    assert found[f"{out.name}.errors.jsonl"].count(b"\n") == NUM_BROKEN
    return found


def crashes(
    out: Path, power: str, **options: Any
) -> list[tuple[Iterable[tuple[str, bytes | None]], set[int]]]:
    """What a run can leave if it ends at any step, and what it had promised to keep by then."""
    disk = RecordedDisk(out.parent)
    with disk.recording():
        finish(out, kept=disk.tell, **options)
    found = disk.states(power)
    return [(tree, set(map(int, at.told))) for tree, at in found.items()]


@pytest.mark.parametrize("times", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("power", POWER)
@pytest.mark.parametrize("embeddings", [False, True])
def test_every_crash_point(tmp_path: Path, power: str, times: int, embeddings: bool) -> None:
    expected = undisturbed(tmp_path / "undisturbed", embeddings=embeddings)
    (tmp_path / "run").mkdir()
    numbers = count()

    def go_on(tree: Iterable[tuple[str, bytes | None]], kept: set[int], times: int) -> None:
        out = tmp_path / str(next(numbers)) / "scores.jsonl"
        restore(out.parent, tree)
        if times > 1:
            for left, more in crashes(out, power, embeddings=embeddings)[::29]:
                go_on(left, kept | more, times - 1)
            return
        computed = finish(out, embeddings=embeddings)
        assert kept.isdisjoint(computed), "what was kept is computed again"
        assert files(out) == expected

    with no_syncing():
        found = crashes(tmp_path / "run" / "scores.jsonl", power, embeddings=embeddings)
        assert len(found) > 20
        for tree, kept in found:
            go_on(tree, kept, times)


@pytest.mark.parametrize("power", POWER)
def test_every_crash_point_of_scores_as_parquet(tmp_path: Path, power: str) -> None:
    pytest.importorskip("pyarrow")
    whole = tmp_path / "whole" / "scores.parquet"
    whole.parent.mkdir()
    finish(whole, resume=False, embeddings=True)
    lines = undisturbed(tmp_path / "lines", embeddings=True)
    with whole.open("rb") as file:
        assert b"".join(record_lines(file, "scores")) == lines["scores.jsonl"]
    (tmp_path / "run").mkdir()
    with no_syncing():
        states = crashes(tmp_path / "run" / "scores.parquet", power, embeddings=True)
        # The steps from the last recording on; those before do not depend on the form.
        for number, (tree, kept) in enumerate(states[-60:]):
            out = tmp_path / str(number) / "scores.parquet"
            restore(out.parent, tree)
            assert kept.isdisjoint(finish(out, embeddings=True)), "what was kept is computed again"
            assert files(out) == files(whole)


def test_parquet_takes_over_another_typicality(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    out = tmp_path / "scores.parquet"
    finish(out, resume=False, embeddings=True, settings={**SETTINGS, "trusted_sha256": "0b"})
    content = out.read_bytes()
    assert finish(out, embeddings=True, settings={**SETTINGS, "trusted_sha256": "0c"}) == []
    assert out.read_bytes() == content
    assert b"0c" in Path(f"{out}.meta.json").read_bytes()


def test_embeddings_are_an_array_in_the_order_of_the_records(tmp_path: Path) -> None:
    undisturbed(tmp_path / "run", embeddings=True)
    out = tmp_path / "run" / "scores.jsonl"
    rows = np.load(f"{out}.embeddings.npy")
    records = [json.loads(line) for line in out.read_text().splitlines()]
    made = {o.utterance.id: o for unit in UNITS for o in unit if o.record is not None}
    for row, record in zip(rows, records, strict=True):
        embedding = made[record["id"]].embedding
        assert embedding is not None
        assert row.tolist() == embedding.tolist()
        assert record["typicality"] == row.astype(np.float64).sum()


def test_new_scores_without_embeddings_take_the_old_ones_away(tmp_path: Path) -> None:
    undisturbed(tmp_path / "run", embeddings=True)
    out = tmp_path / "run" / "scores.jsonl"
    with pytest.raises(OutputError, match="give --overwrite"):
        ResumableScores(str(out))
    finish(out, resume=False, overwrite=True)
    assert not Path(f"{out}.embeddings.npy").exists()


@pytest.mark.parametrize("power", POWER)
def test_scores_to_be_overwritten_are_the_old_ones_or_the_new_ones(
    tmp_path: Path, power: str
) -> None:
    expected = undisturbed(tmp_path / "undisturbed")
    old = dict.fromkeys(expected, b"{}")
    restore(tmp_path / "run", old.items())
    options = {"resume": False, "overwrite": True}
    states = crashes(tmp_path / "run" / "scores.jsonl", power, **options)
    with no_syncing():
        for number, (tree, kept) in enumerate(states):
            out = tmp_path / str(number) / "scores.jsonl"
            restore(out.parent, tree)
            assert out.read_bytes() in (old[out.name], expected[out.name])
            if out.with_name("scores.jsonl.journal").exists():
                assert kept.isdisjoint(finish(out)), "what was kept is computed again"
                assert files(out) == expected
            else:  # Nothing had begun, or nothing was left to do.
                left = files(out)
                left.pop("scores.jsonl.journal.partial", None)
                left.pop("scores.jsonl.lock", None)
                assert left in (old, expected)


def stopped(out: Path, *, after: int = NUM_STOPPED, **options: Any) -> dict[str, bytes]:
    """What a stopped run leaves."""
    results = ResumableScores(str(out), **options)
    with results.locked():
        results.begin(SETTINGS, NUM_UTTERANCES)
        for unit in UNITS[:after]:
            results.add(unit, 0.125)
    return files(out)


def refusal(out: Path, **options: Any) -> str:
    """The message with which resuming is refused; it must change nothing."""
    before = files(out)
    with pytest.raises(OutputError) as caught:
        finish(out, **options)
    assert files(out) == before
    return str(caught.value).removeprefix(f"output {out}")


def test_a_stopped_run_is_not_started_over_unasked(tmp_path: Path) -> None:
    out = tmp_path / "scores.jsonl"
    stopped(out)
    line = refusal(out, resume=False)
    assert line == (
        ": an earlier run was stopped before it was complete, or is still going on; give "
        "--resume to continue it, or --overwrite to start over"
    )
    finish(out, resume=False, overwrite=True)
    assert files(out) == undisturbed(tmp_path / "undisturbed")


def test_a_run_resumes_only_with_its_own_settings(tmp_path: Path) -> None:
    out = tmp_path / "scores.jsonl"
    stopped(out)
    line = refusal(out, settings={**SETTINGS, "k": 7, "model_sha256": "0c"})
    assert line.startswith(": was started with another model; --k 50 (now 7); resume it with")
    finish(out)
    # The same goes for complete scores.
    assert "--k 50 (now 7)" in refusal(out, settings={**SETTINGS, "k": 7})
    assert finish(out) == []


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda journal: b"", "is damaged"),
        (lambda journal: b"no journal\n", "is damaged"),
        (lambda journal: b"[1, 2]\n", "is damaged"),
        (lambda journal: journal.replace(b'"format_version": 1', b'"format_version": 2'),
         "has format version 2, this egl-fast reads 1; finish it with the egl-fast that"),
        (lambda journal: journal.replace(b'"tally"', b'"talli"'), "is damaged ('tally')"),
        (lambda journal: journal.replace(b'"outcomes"', b'"outcome"'), "another form"),
        (lambda journal: journal.replace(b'[{"position": ', b'[{"position": 9'), "beyond"),
        (lambda journal: journal.replace(b'[{"position": ', b'[{"position": -9'), "beyond"),
        (lambda journal: journal.replace(b'"records_bytes": ', b'"records_bytes": -1'), "-1"),
        (lambda journal: journal.replace(b'[{"position"', b'[{"posi"'), "is damaged"),
        (lambda journal: journal.replace(b'{"seconds"', b'"seconds"', 1), "is damaged"),
    ],
)  # fmt: skip
def test_a_damaged_journal_is_refused(
    tmp_path: Path, damage: Callable[[bytes], bytes], complaint: str
) -> None:
    out = tmp_path / "scores.jsonl"
    journal = tmp_path / "scores.jsonl.journal"
    content = stopped(out)[journal.name]
    assert damage(content) != content
    journal.write_bytes(damage(content))
    line = refusal(out)
    assert line.startswith(".journal: ")
    assert complaint in line
    assert "start over with --overwrite" in line


def test_a_last_line_that_is_torn_is_computed_again(tmp_path: Path) -> None:
    out = tmp_path / "scores.jsonl"
    journal = tmp_path / "scores.jsonl.journal"
    lines = stopped(out, after=2)[journal.name].split(b"\n")[:-1]
    assert len(lines) == 3
    torn = lines[2][:50] + bytes(40) + lines[2][90:]
    journal.write_bytes(b"\n".join([*lines[:2], torn]) + b"\n")

    def interrupted() -> Iterator[list[Outcome]]:
        yield UNITS[1]
        raise KeyboardInterrupt

    # The torn line is removed, and does not damage what is written next.
    with pytest.raises(KeyboardInterrupt):
        finish(out, given=interrupted())
    computed = finish(out)
    assert {o.position for unit in UNITS[:2] for o in unit}.isdisjoint(computed)
    assert files(out) == undisturbed(tmp_path / "undisturbed")


@pytest.mark.parametrize("suffix", [".partial", ".errors.jsonl.partial"])
def test_files_shorter_than_the_journal_says_are_refused(tmp_path: Path, suffix: str) -> None:
    out = tmp_path / "scores.jsonl"
    path = tmp_path / f"scores.jsonl{suffix}"
    content = stopped(out, after=len(UNITS) - 1)[path.name]
    path.write_bytes(content[:10])
    line = refusal(out)
    assert line.startswith(f"{suffix}: is damaged (10 bytes are left of ")
    assert line.endswith("; start over with --overwrite")


def test_scores_created_meanwhile_are_kept(tmp_path: Path) -> None:
    out = tmp_path / "scores.jsonl"
    stopped(out)
    out.write_text("precious")
    line = ": has appeared since the run started; move it away and give --resume"
    with pytest.raises(OutputError, match=line):
        finish(out)
    assert out.read_text() == "precious"
    assert line in refusal(out)
    out.rename(tmp_path / "mine")
    assert finish(out) == []
    (tmp_path / "mine").unlink()
    assert files(out) == undisturbed(tmp_path / "undisturbed")
