"""``score --shard`` and ``merge``: to the bit what a single run writes."""

from __future__ import annotations

import json
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
from commands import bash, in_this_process, start, wait_until
from conftest import Run
from recordings import waveform, write_manifest

import egl_fast
from egl_fast.evaluation.reporting.scores_file import read_scores_file
from egl_fast.scoring.run.shards import Shard

NUM_RECORDINGS = 200
OPTIONS = ("--k", 2, "--threads", 1, "--device", "cpu")


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four windows of recordings, the last one short; three of them cannot be read."""
    folder = tmp_path_factory.mktemp("pool")
    for n in range(5):
        soundfile.write(folder / f"{n}.wav", waveform(0.15 + 0.05 * n, seed=n), 16000)
    lines = [
        {"id": f"é {n}/“{n % 7}”", "audio_filepath": f"{n % 5}.wav", "speaker": n % 3}
        for n in range(NUM_RECORDINGS)
    ]
    for n in (3, 64, 199):
        lines[n]["audio_filepath"] = "gone.wav"
    write_manifest(folder / "trusted.jsonl", [{**line, "id": f"t{n}"} for n, line in
                                              enumerate(lines[10:40])])  # fmt: skip
    return write_manifest(folder / "pool.jsonl", lines)


def score(model: Path, pool: Path, out: Path, *more: object) -> int:
    given = ("--model", model, "--pool", pool, "--out", out)
    return in_this_process("score", *given, *OPTIONS, *more)


def with_typicality(pool: Path) -> tuple[object, ...]:
    return ("--typicality", pool.with_name("trusted.jsonl"))


@pytest.fixture(scope="module")
def single(tiny_model: Path, pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores of a single run, with typicality."""
    out = tmp_path_factory.mktemp("single") / "scores.jsonl"
    assert score(tiny_model, pool, out, *with_typicality(pool)) == 3
    return out


@pytest.fixture(scope="module")
def halves(tiny_model: Path, pool: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Scores of two shards."""
    folder = tmp_path_factory.mktemp("halves")
    for n in (1, 2):
        out = folder / f"scores.{n}.jsonl"
        assert score(tiny_model, pool, out, "--shard", f"{n}/2", *with_typicality(pool)) == 3
    return [folder / f"scores.{n}.jsonl" for n in (1, 2)]


def timeless(scores: Path) -> dict[str, Any]:
    metadata: dict[str, Any] = json.loads(Path(f"{scores}.meta.json").read_text("utf-8"))
    metadata.pop("wall_seconds")
    return metadata


def assert_same(merged: Path, single: Path) -> None:
    for suffix in ("", ".errors.jsonl", ".embeddings.npy"):
        assert Path(f"{merged}{suffix}").read_bytes() == Path(f"{single}{suffix}").read_bytes()
    assert list(timeless(merged).items()) == list(timeless(single).items())
    names = {path.name.removeprefix(single.name) for path in single.parent.iterdir()}
    assert {path.name.removeprefix(merged.name) for path in merged.parent.iterdir()} == names


def test_merged_scores_are_those_of_a_single_run(
    halves: list[Path], single: Path, tmp_path: Path, run: Run
) -> None:
    status, _, err = run("merge", *reversed(halves), "--out", tmp_path / "scores.jsonl")
    assert status == 3
    assert "merged 2 shards, 197 recordings" in err
    assert_same(tmp_path / "scores.jsonl", single)


def test_scores_as_parquet_are_the_same_records_for_every_reader(
    tiny_model: Path, pool: Path, single: Path, halves: list[Path], tmp_path: Path, run: Run
) -> None:
    pytest.importorskip("pyarrow")
    whole, shard, merged = (tmp_path / f"{name}.parquet" for name in ("whole", "2", "merged"))
    assert score(tiny_model, pool, whole, *with_typicality(pool)) == 3
    assert score(tiny_model, pool, shard, "--shard", "2/2", *with_typicality(pool)) == 3
    # Shards of either form make either form.
    assert run("merge", shard, halves[0], "--out", merged)[0] == 3
    assert merged.read_bytes() == whole.read_bytes()
    lines = tmp_path / "lines" / "scores.jsonl"
    lines.parent.mkdir()
    assert run("merge", shard, halves[0], "--out", lines)[0] == 3
    assert_same(lines, single)
    before = sorted(path.name for path in tmp_path.iterdir())
    assert score(tiny_model, pool, whole, *with_typicality(pool), "--resume") == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert egl_fast.read_scores(whole).records == egl_fast.read_scores(single).records
    for name, path in (("a", whole), ("b", single)):
        picks = tmp_path / f"{name}.jsonl"
        status, _, err = run("select", path, "--budget", "20%", "--out", picks)
        assert status == 0, err
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    ours, theirs = (read_scores_file(path, keep_ids=True) for path in (whole, single))
    assert ours.ids == theirs.ids
    assert {name: x.tolist() for name, x in ours.strategies.items()} == {
        name: x.tolist() for name, x in theirs.strategies.items()
    }
    steps: list[int] = []
    read_scores_file(whole, advance=steps.append)
    assert sum(steps) == whole.stat().st_size
    assert ours.records([190, 4]) == theirs.records([190, 4])


def test_the_shell_may_name_errors_files_too(
    halves: list[Path], single: Path, tmp_path: Path
) -> None:
    found = sorted(halves[0].parent.glob("scores.*.jsonl"))
    assert found != halves, "the pattern of the help must match errors files"
    assert in_this_process("merge", *found, "--out", tmp_path / "scores.jsonl") == 3
    assert_same(tmp_path / "scores.jsonl", single)


def test_a_shard_is_complete_in_itself(halves: list[Path], single: Path) -> None:
    lines = [json.loads(line) for half in halves for line in half.read_text("utf-8").splitlines()]
    expected = [json.loads(line) for line in single.read_text("utf-8").splitlines()]
    # Typicality is a matter of the whole pool.
    assert all("typicality" not in line for line in lines)
    for line in expected:
        assert isinstance(line.pop("typicality"), float)
    key = lambda line: line["id"]  # noqa: E731
    assert sorted(lines, key=key) == sorted(expected, key=key)
    assert timeless(halves[1])["shard"] == "2/2"


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("size", [0, 1, 64, 65, 200, 1000])
def test_shards_are_whole_windows_and_cover_the_pool(size: int, count: int) -> None:
    windows = [range(size)[start : start + 64] for start in range(0, size, 64)]
    parts = [list(Shard(number, count).of(range(size))) for number in range(1, count + 1)]
    for number, part in enumerate(parts):
        assert part == [n for window in windows[number::count] for n in window]


def test_a_shard_that_is_killed_resumes(
    tiny_model: Path, pool: Path, single: Path, halves: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "scores.1.jsonl"
    arguments = ("score", "--model", tiny_model, "--pool", pool, "--out", out, *OPTIONS)
    arguments += ("--shard", "1/2", *with_typicality(pool), "--resume")
    process = start(*arguments)
    journal = Path(f"{out}.journal")
    has_begun = lambda: journal.exists() and b"outcomes" in journal.read_bytes()  # noqa: E731
    assert wait_until(process, has_begun)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not out.exists()
    merge = ("merge", out, halves[1], "--out", tmp_path / "merged" / "scores.jsonl")
    (tmp_path / "merged").mkdir()
    assert in_this_process(*merge) == 2
    assert in_this_process(*arguments[:-1], "--resume") == 3
    assert out.read_bytes() == halves[0].read_bytes()
    assert in_this_process(*merge) == 3
    assert_same(tmp_path / "merged" / "scores.jsonl", single)


def copied(halves: list[Path], folder: Path) -> list[Path]:
    for path in halves[0].parent.iterdir():
        shutil.copyfile(path, folder / path.name)
    return [folder / half.name for half in halves]


def cut(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-2]))


def doubled(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:5], lines[3], *lines[5:]]))


def changed(key: str, value: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        metadata = Path(f"{path}.meta.json")
        metadata.write_text(json.dumps({**json.loads(metadata.read_text("utf-8")), key: value}))

    return change


def without(suffix: str) -> Callable[[Path], None]:
    return lambda path: Path(f"{path}{suffix}").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut, r"2 missing: 'é 19[78]/“\d”', 'é 19\d/“\d”'"),
        (doubled, r"1 not in the pool, or out of order: 'é 6\d/.* missing: "),
        (changed("k", 3), r"was scored otherwise than .*: --k 2 \(now 3\)"),
        (changed("pool_sha256", "0"), "another manifest"),
        (changed("limit", 70), "--limit"),
        (
            changed("trusted_sha256", None),
            r"was scored otherwise than .*: --typicality \(now none\)",
        ),
        (changed("shard", None), r"scores\.2\.jsonl: holds the scores of a whole pool"),
        (without(".meta.json"), r"scores\.2\.jsonl\.meta\.json cannot be read"),
        (without(".embeddings.npy"), r"shard .*2\.jsonl: cannot be read"),
        (lambda path: path.write_text("{}\n"), "has a line that is no score"),
        (lambda path: path.write_text('{"id": "x"}\n'), "not in the pool"),
    ],
)
def test_shards_at_fault_are_refused_and_nothing_is_written(
    halves: list[Path], tmp_path: Path, run: Run, spoil: Callable[[Path], None], message: str
) -> None:
    shards = copied(halves, tmp_path)
    spoil(shards[1])
    out = tmp_path / "out" / "scores.jsonl"
    out.parent.mkdir()
    status, _, err = run("merge", *shards, "--out", out)
    assert status == 2, err
    assert len(err.splitlines()) == 1
    assert re.search(message, err), err
    assert [path.name for path in out.parent.iterdir() if not path.name.endswith(".lock")] == []


def test_one_copy_of_the_trusted_embeddings_is_enough(
    halves: list[Path], single: Path, tmp_path: Path, run: Run
) -> None:
    shards = copied(halves, tmp_path)
    without(".trusted.npy")(shards[0])
    out = tmp_path / "out" / "scores.jsonl"
    out.parent.mkdir()
    assert run("merge", *shards, "--out", out)[0] == 3
    assert out.read_bytes() == single.read_bytes()
    without(".trusted.npy")(shards[1])
    status, _, err = run("merge", *shards, "--out", out, "--overwrite")
    assert status == 2
    assert "scores.1.jsonl.trusted.npy cannot be read" in err


def test_recordings_twice_or_in_no_shard_are_named(
    halves: list[Path], tmp_path: Path, run: Run
) -> None:
    again = copied(halves, tmp_path)[0]
    status, _, err = run("merge", halves[0], again, halves[1], "--out", tmp_path / "s.jsonl")
    assert status == 2
    assert "128 twice: 'é 0/“0”' in" in err
    status, _, err = run("merge", halves[1], "--out", tmp_path / "s.jsonl")
    assert status == 2
    assert "128 missing: 'é 0/“0”', 'é 1/“1”', 'é 2/“2”', ..." in err


def test_limits_hold_for_the_pool_not_for_a_shard(
    tiny_model: Path, pool: Path, single: Path, tmp_path: Path
) -> None:
    shards = [tmp_path / f"{n}.jsonl" for n in (1, 2, 3)]
    for n, out in enumerate(shards, start=1):
        # The third has nothing to do, which is not an error in a job array.
        status = score(tiny_model, pool, out, "--limit", 70, "--shard", f"{n}/3")
        assert status == (0 if n == 3 else 3)
    assert in_this_process("merge", *shards, "--out", tmp_path / "scores.jsonl") == 3
    assert score(tiny_model, pool, tmp_path / "whole.jsonl", "--limit", 70) == 3
    merged = (tmp_path / "scores.jsonl").read_bytes()
    assert merged == (tmp_path / "whole.jsonl").read_bytes()
    assert len(merged.splitlines()) == 68


def test_a_pool_that_has_moved_is_named_by_its_option(
    halves: list[Path], pool: Path, tmp_path: Path, run: Run
) -> None:
    shards = copied(halves, tmp_path)
    for shard in shards:
        changed("pool", str(tmp_path / "gone.jsonl"))(shard)
    status, _, err = run("merge", *shards, "--out", tmp_path / "s.jsonl")
    assert (status, "gone.jsonl" in err) == (2, True)
    other = write_manifest(tmp_path / "other.jsonl", [{"audio_filepath": "a.wav"}])
    status, _, err = run("merge", *shards, "--out", tmp_path / "s.jsonl", "--pool", other)
    assert status == 2
    assert "is not the one that was scored" in err
    assert run("merge", *shards, "--out", tmp_path / "s.jsonl", "--pool", pool)[0] == 3


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2", ""])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected I/N with I from 1 to N"):
        Shard.parse(text)


def test_the_job_array_of_the_page(
    tiny_model: Path, pool: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Its script, with what Slurm sets for three tasks, of which one is run twice."""
    page = (request.config.rootpath / "docs" / "scale.md").read_text(encoding="utf-8")
    section = page.partition("\n## A Slurm job array\n")[2]
    script = section.partition("```bash\n")[2].partition("```")[0]
    assert "--k 100 " in script
    (tmp_path / "array.sh").write_text(script.replace("--k 100 ", "--k 2 "))
    (tmp_path / "base.pt").symlink_to(tiny_model)
    lines = [json.loads(line) for line in pool.read_text("utf-8").splitlines()[:130]]
    for line in lines:
        line["audio_filepath"] = str(pool.parent / line["audio_filepath"])
    write_manifest(tmp_path / "pool.jsonl", lines)
    result = bash(
        'srun() { shift; "$@"; }\n'
        "export -f srun\n"
        "export SLURM_ARRAY_TASK_COUNT=3 SLURM_CPUS_PER_TASK=1\n"
        "for task in 3 1 1 2; do SLURM_ARRAY_TASK_ID=$task bash array.sh || exit; done\n"
        "egl-fast merge scores.*.jsonl --out scores.jsonl; [ $? -eq 3 ] || exit\n"
        "egl-fast score --model base.pt --pool pool.jsonl --k 2 --threads 1 --out alone.jsonl\n"
        "[ $? -eq 3 ] && cmp scores.jsonl alone.jsonl",
        tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert len((tmp_path / "scores.jsonl").read_bytes().splitlines()) == 128
    ends = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text("utf-8").splitlines()]
    ends = [(end["shard"], end["status"]) for end in ends if end["event"] == "finished"]
    assert ends == [("3/3", 0), ("1/3", 3), ("1/3", 3), ("2/3", 3)]
    assert len(list((tmp_path / "metrics").glob("*.prom"))) == 3
