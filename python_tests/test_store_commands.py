"""Commands that read from a store and write to one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faulty_store
import pytest
from commands import contents, lines_of
from conftest import Run
from faulty_store import FaultyStore, content, failing, names, released
from recordings import write_manifest

from egl_fast.files import remote
from egl_fast.scores import read_scores

SECRETS = ("user-7f", "pass-3a", "signed-91")
AT = "faulty://user-7f:pass-3a@b/"
QUERY = "?X-Signature=signed-91"


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setattr(remote, "PAUSES", (0.0, 0.0))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def store(recordings: Path) -> Iterator[type[FaultyStore]]:
    with faulty_store.store_of(recordings.parent) as found:
        yield found


def unfinished() -> set[str]:
    """What is kept on this machine."""
    return {os.path.basename(name) for name in contents(Path(os.environ["XDG_CACHE_HOME"]))}


def at(name: str) -> str:
    return f"{AT}{name}{QUERY}"


def scoring(model: Path) -> tuple[str | Path | int, ...]:
    """A command that scores the pool in the store, quickly."""
    return ("score", "--model", model, "--method", "none", "--k", 3, "--pool", at("all.jsonl"))


def without_circumstances(metadata: bytes) -> dict[str, Any]:
    found = json.loads(metadata)
    return {k: v for k, v in found.items() if k not in ("pool", "wall_seconds")}


def test_scores_in_a_store_are_those_on_the_disk(
    run: Run, store: type[FaultyStore], recordings: Path, tiny_model: Path, tmp_path: Path
) -> None:
    (recordings.parent / "rec1.wav").write_bytes(b"RIFF broken")
    store().pipe_file("b/rec1.wav", b"RIFF broken")
    options = ("--model", tiny_model, "--k", 3)
    local = tmp_path / "local.jsonl"
    assert run("score", *options, "--pool", recordings, "--out", local)[0] == 3
    store().pipe_file("b/tiny.pt", tiny_model.read_bytes())
    status, _, err = run(
        "score", "--model", at("tiny.pt"), "--k", 3, "--pool", at("all.jsonl"),
        "--out", at("scores.jsonl"),
    )  # fmt: skip
    assert status == 3, err
    assert "faulty://***@b/scores.jsonl" in err
    assert content("scores.jsonl") == local.read_bytes()
    moved = [path for name, path in store.calls if name == "move"]
    beside = ["/b/scores.jsonl.errors.jsonl", "/b/scores.jsonl.meta.json"]
    assert moved == [*beside, "/b/scores.jsonl"]  # which a reader may find at once
    far, near = (
        lines_of(content("scores.jsonl.errors.jsonl").decode()),
        lines_of(Path(f"{local}.errors.jsonl").read_text()),
    )
    assert [one["id"] for one in far] == [one["id"] for one in near] == ["rec1.wav"]
    metadata = without_circumstances(content("scores.jsonl.meta.json"))
    assert metadata.pop("model") == "faulty://***@b/tiny.pt?***"
    expected = without_circumstances(Path(f"{local}.meta.json").read_bytes())
    assert expected.pop("model") == str(tiny_model)
    assert metadata == expected
    assert unfinished() == set()


def test_scores_with_typicality_are_resumed_chosen_from_and_shown(
    run: Run, store: type[FaultyStore], recordings: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """Files beside scores travel with them, and paths lead to where recordings are."""
    pytest.importorskip("sklearn")
    pytest.importorskip("pyarrow")
    out, local = at("s.parquet"), tmp_path / "s.parquet"
    score = ("score", "--model", tiny_model, "--method", "none", "--k", 3)
    lines = [{"audio_filepath": f"rec{n % 4}.wav", "id": f"{n}"} for n in range(8)]
    trusted = write_manifest(tmp_path / "trusted.jsonl", lines)
    store().pipe_file("b/trusted.jsonl", trusted.read_bytes())
    far_ones = ("--pool", at("all.jsonl"), "--typicality", at("trusted.jsonl"), "--out", out)
    near_ones = ("--pool", recordings, "--typicality", trusted, "--out", local)
    for ones in (far_ones, near_ones):
        status, _, err = run(*score, *ones)
        assert status == 0, err
    for suffix in ("", ".embeddings.npy"):
        assert content(f"s.parquet{suffix}") == Path(f"{local}{suffix}").read_bytes()
    # Complete scores are found complete, on any machine.
    store.calls.clear()
    status, _, err = run(*score, *far_ones, "--resume")
    assert (status, err) == (0, "faulty://***@b/s.parquet?***: already complete\n")
    assert not any(name == "put" for name, _ in store.calls)
    status, _, err = run(*score, *far_ones)
    assert status == 2
    assert "output faulty://***@b/s.parquet?***: already exists; give --overwrite" in err
    # From the store to the disk, and within the store.
    picks = tmp_path / "picks.jsonl"
    assert run("select", out, "--budget", 2, "--drop-atypical", "25%", "--out", picks)[0] == 0
    assert {one["audio_filepath"] for one in lines_of(picks.read_text())} <= {
        f"faulty://***@b/rec{n}.wav?***" for n in range(4)
    }
    arguments = ("--budget", 2, "--drop-atypical", "25%", "--out", at("picks/p.jsonl"))
    assert run("select", out, *arguments)[0] == 0
    assert "picks/p.jsonl.atypical.jsonl" in names()
    near = tmp_path / "near.jsonl"
    assert run("select", local, *arguments[:-1], near)[0] == 0
    far = lines_of(content("picks/p.jsonl").decode())
    assert [one["id"] for one in far] == [one["id"] for one in lines_of(near.read_text())]
    assert (
        json.loads(content("picks/p.jsonl.meta.json"))["scores"] == "faulty://***@b/s.parquet?***"
    )
    assert {one["audio_filepath"] for one in far} <= {f"../rec{n}.wav" for n in range(4)}
    others = ("--exclude", at("picks/p.jsonl"), "--out", at("q.jsonl"))
    assert run("select", out, "--budget", 1, *others)[0] == 0
    (rest,) = lines_of(content("q.jsonl").decode())
    assert rest["id"] not in {one["id"] for one in far}
    assert rest["audio_filepath"] == rest["id"]  # relative, as in the manifest beside it
    assert unfinished() == set()


def test_what_fails_or_is_refused_leaves_what_was_there(
    run: Run, store: type[FaultyStore], recordings: Path, tiny_model: Path
) -> None:
    score = ("score", "--model", tiny_model, "--method", "none", "--k", 3, "--pool", recordings)
    out = at("s.jsonl")
    store().pipe_file("b/s.jsonl", b"old")
    store().pipe_file("b/s.jsonl.embeddings.npy", b"old")
    assert run(*score, "--out", out)[0] == 2
    store.fault = failing("put", error=ConnectionError("reset by pass-3a"), of=".partial")
    status, _, err = run(*score, "--out", out, "--overwrite")
    assert status == 2
    assert err.splitlines()[-1] == (
        "egl-fast: output faulty://***@b/s.jsonl?***: cannot be written (reset by ***); "
        "--resume continues from what is finished"
    )
    assert content("s.jsonl") == b"old"
    assert "s.jsonl" in unfinished()
    # The same command with --resume puts there what is complete, and computes nothing.
    store.fault = failing("put", error=ConnectionError("reset"), times=2)
    assert run(*score, "--out", out)[0] == 2
    status, _, err = run(*score, "--out", out, "--resume")
    assert status == 0, err
    assert len(lines_of(content("s.jsonl").decode())) == 4
    assert "s.jsonl.embeddings.npy" not in names()
    assert unfinished() == set()
    assert not any(name.endswith(".partial") for name in names())


def test_an_interrupted_run_is_continued_from_this_machine(
    run: Run, store: type[FaultyStore], recordings: Path, tiny_model: Path, tmp_path: Path
) -> None:
    score = scoring(tiny_model)
    assert run(*score, "--out", tmp_path / "local.jsonl")[0] == 0

    def interrupt(name: str, path: str, count: int) -> None:
        if name == "read" and path.endswith("rec3.wav"):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
            time.sleep(0.2)  # the main thread waits for this recording, and handles the signal

    store.fault = staticmethod(interrupt)
    status, _, err = run(*score, "--out", at("s.jsonl"))
    store.fault = staticmethod(lambda *_: None)
    assert status == 130, err
    assert not any(name.startswith("s.jsonl") for name in names())
    assert "s.jsonl.journal" in unfinished()
    status, _, err = run(*score, "--out", at("s.jsonl"))
    assert status == 2
    assert "faulty://***@b/s.jsonl?***: an earlier run was stopped" in err
    assert run(*score, "--out", at("s.jsonl"), "--resume")[0] == 0
    assert content("s.jsonl") == (tmp_path / "local.jsonl").read_bytes()
    assert unfinished() == set()


def everything(tmp_path: Path) -> dict[str, bytes]:
    """All files that commands wrote, here and in the store."""
    kept = contents(Path(os.environ["XDG_CACHE_HOME"]))
    return {**contents(tmp_path), **kept, **{f"b/{name}": content(name) for name in names()}}


def test_no_credentials_in_any_output(
    run: Run, store: type[FaultyStore], tiny_model: Path, tmp_path: Path
) -> None:
    for package in ("jinja2", "polars", "sklearn"):
        pytest.importorskip(package)
    store().pipe_file("b/rec1.wav", b"RIFF broken")
    # A recording named by its own URL, with credentials of its own; and one that is missing.
    lines = [
        *lines_of(content("all.jsonl").decode()),
        {"audio_filepath": at("rec0.wav"), "offset": 0.1, "duration": 0.2},
        {"audio_filepath": at("missing.wav")},
    ]
    store().pipe_file("b/pool.jsonl", "".join(json.dumps(one) + "\n" for one in lines).encode())
    given = set(everything(tmp_path))
    run_files = ("--log-json", tmp_path / "log", "--metrics", tmp_path / "run.prom")
    model, pool = ("--model", tiny_model), ("--pool", at("pool.jsonl"))
    score = ("score", *model, *pool, "--method", "none", "--k", 3)
    said = []

    def says(wanted: int, *arguments: object) -> None:
        status, out, err = run(*arguments)
        said.extend([out, err])
        assert status == wanted, err

    says(3, *score, "--out", at("s.jsonl"), *run_files)
    says(2, *score, "--out", at("s.jsonl"), *run_files)
    says(3, *score, "--out", at("s.jsonl"), "--resume", "--json")
    says(3, *score)
    store.fault = failing("put", error=OSError(f"PUT {at('x')} failed: signed-91"))
    says(2, *score, "--out", at("t.jsonl"), *run_files)
    store.fault = failing("open", error=PermissionError(f"403: {at('all.jsonl')} pass-3a"))
    says(2, "score", *model, "--pool", at("all.jsonl"), "--out", tmp_path / "x")
    store.fault = failing("read", error=PermissionError(f"403: {at('rec')} pass-3a"), of=".wav")
    says(3, *score, "--out", tmp_path / "u.jsonl", *run_files)
    store.fault = staticmethod(lambda *_: None)
    says(2, "select", at("missing"), "--budget", 2)
    says(0, "select", at("s.jsonl"), "--budget", 2, "--table")
    says(0, "select", at("s.jsonl"), "--budget", 2)
    says(0, "select", at("s.jsonl"), "--budget", 2, "--out", at("p.jsonl"))
    says(0, "select", at("s.jsonl"), "--budget", 2, "--out", tmp_path / "p.csv")
    says(
        0, "select", at("s.jsonl"), "--budget", 2, "--out", at("p.json"), "--format", "label-studio"
    )
    says(2, "select", at("s.jsonl"), "--budget", 2, "--out", at("p"), "--format", "hf")
    says(0, "report", "--scores", at("s.jsonl"))
    says(0, "report", "--scores", at("p.jsonl"), "--out", tmp_path / "page.html")
    says(3, "query", *model, *pool, "--budget", 2, "--k", 3, "--out", at("q.jsonl"))
    says(3, "manifest", at("pool.jsonl"), "--out", at("m.jsonl"))
    says(3, "transcribe", *model, "--data", at("pool.jsonl"), "--out", at("t.jsonl"))
    store().pipe_file("b/labeled.jsonl", content("p.jsonl"))
    says(3, "labels", at("p.jsonl"), at("labeled.jsonl"), "--out", at("l.jsonl"))
    written = everything(tmp_path)
    assert {"b/s.jsonl", "b/p.jsonl", "b/p.json", "b/s.jsonl.html", "b/q.jsonl", "b/m.jsonl"} < set(
        written
    )
    assert {"log", "run.prom", "page.html", "u.jsonl.errors.jsonl"} < set(written)
    assert any(name.endswith("/t.jsonl.journal") for name in written)
    for name, text in written.items():
        if name not in given:
            assert not any(secret.encode() in text for secret in SECRETS), name
            assert not any(copy in text for copy in (b"/tmp/egl-fast-", b"/egl-fast/stores/")), name
    assert not any(secret in text for secret in SECRETS for text in said)
    assert not any("/tmp/egl-fast-" in text for text in said)


def test_a_recording_that_never_comes_is_left_out(
    run: Run, store: type[FaultyStore], tiny_model: Path, tmp_path: Path
) -> None:
    def hang(name: str, path: str, count: int) -> None:
        if name == "read" and path.endswith("rec1.wav"):
            released.wait(60)

    store.fault = staticmethod(hang)
    out = tmp_path / "s.jsonl"
    options = ("--method", "none", "--k", 3, "--read-timeout", 1, "--out", out)
    status, _, err = run("score", "--model", tiny_model, "--pool", at("all.jsonl"), *options)
    released.set()
    assert status == 3, err
    assert len(lines_of(out.read_text())) == 3
    (error,) = lines_of(Path(f"{out}.errors.jsonl").read_text())
    assert error["error"].startswith("audio faulty://***@b/rec1.wav?***: was not read within 1 s")


@pytest.mark.parametrize(
    ("operation", "fault"),
    [
        ("put", OSError("503")),
        ("put", KeyboardInterrupt()),
        ("put", 10),
        ("move", OSError("503")),
        ("move", KeyboardInterrupt()),
    ],
    ids=repr,
)
def test_an_upload_that_breaks_off_leaves_the_old_object(
    operation: str, fault: BaseException | int, run: Run, store: type[FaultyStore], tmp_path: Path
) -> None:
    scores = write_manifest(
        tmp_path / "s.jsonl",
        [{"id": f"{n}", "duration": 1.0, "egl": n, "pctc": n} for n in range(4)],
    )
    select = ("select", scores, "--budget", 2, "--strategy", "egl", "--out", at("p.jsonl"))
    store().pipe_file("b/p.jsonl", b"old")
    if isinstance(fault, int):
        store.fault = staticmethod(lambda name, path, count: fault if name == operation else None)
    else:
        store.fault = failing(
            operation, error=fault, of=".jsonl.partial" if operation == "put" else ".jsonl"
        )
    status, _, err = run(*select, "--overwrite")
    assert status == (130 if isinstance(fault, KeyboardInterrupt) else 2), err
    assert err.count("\n") <= 4
    assert content("p.jsonl") == b"old"
    if status == 2:  # what was made is not lost
        _, said, folder = err.splitlines()[-1].partition("; what was to go there is in ")
        assert said
        assert len(lines_of(Path(folder, "p.jsonl").read_text())) == 2
        shutil.rmtree(folder)
    # Nothing but the object that was being written is half there, and not under its name.
    store.fault = staticmethod(lambda *_: None)
    assert run(*select, "--overwrite")[0] == 0
    assert [one["id"] for one in lines_of(content("p.jsonl").decode())] == ["3", "2"]
    assert names() >= {"p.jsonl", "p.jsonl.meta.json"}
    assert not any(name.endswith(".partial") for name in names())


def test_a_run_whose_output_is_not_in_its_store_has_failed(
    run: Run, store: type[FaultyStore], recordings: Path, tiny_model: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    store.fault = failing("put", error=ConnectionError("reset"))
    model = ("--model", tiny_model, "--threads", 1)
    transcribe = ("transcribe", *model, "--data", recordings, "--out", at("t.jsonl"))
    status, _, err = run(*transcribe, "--log-json", log)
    assert status == 2
    shutil.rmtree(err.splitlines()[-1].partition("; what was to go there is in ")[2])
    last = lines_of(log.read_text())[-1]
    assert (last["event"], last["status"]) == ("stopped", 2)
    assert "faulty://***@b/t.jsonl?***: cannot be written (reset)" in last["cause"]


def test_picks_of_a_query_that_are_not_in_their_store_are_put_there_by_resume(
    run: Run, store: type[FaultyStore], recordings: Path, tiny_model: Path
) -> None:
    query = ("query", "--model", tiny_model, "--pool", recordings, "--budget", 2, "--k", 2)
    store.fault = failing("put", error=ConnectionError("reset"))
    status, _, err = run(*query, "--out", at("q.jsonl"))
    assert (status, err.splitlines()[-1].partition("(")[2]) == (
        2,
        "reset); --resume continues from what is finished",
    )
    store.fault = staticmethod(lambda *_: None)
    status, _, err = run(*query, "--out", at("q.jsonl"), "--resume")
    assert status == 0, err
    assert len(lines_of(content("q.jsonl").decode())) == 2


def test_nothing_is_replaced_because_a_store_does_not_answer(
    run: Run, store: type[FaultyStore], tmp_path: Path
) -> None:
    scores = write_manifest(
        tmp_path / "s.jsonl", [{"id": "a", "duration": 1.0, "egl": 1, "pctc": 1}]
    )
    store().pipe_file("b/p.jsonl", b"old")
    select = ("select", scores, "--budget", 1, "--strategy", "egl", "--out", at("p.jsonl"))
    for error in (PermissionError("403"), OSError("503"), RuntimeError("x")):
        store.fault = failing("info", error=error)
        status, _, err = run(*select)
        assert (status, err.count("\n")) == (2, 1)
        assert "output faulty://***@b/p.jsonl?***: cannot be written" in err
    store.fault = failing("info", error=OSError("503"), times=2)
    assert "already exists; give --overwrite" in run(*select)[2]
    assert content("p.jsonl") == b"old"


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("faulty://b/folder/", "names a folder; name a file in it"),
        ("simplecache::faulty://b/p.jsonl", "a chain of stores can only be read"),
        ("nowhere://b/p.jsonl", "nowhere:// is unknown to fsspec"),
        ("faulty://b/s.jsonl", "is a file that this command reads"),
        ("faulty://b/p.csv.meta.json", "are reserved for files beside outputs"),
    ],
)
def test_outputs_that_cannot_be(out: str, said: str, run: Run, store: type[FaultyStore]) -> None:
    line = b'{"id": "a", "duration": 1.0, "egl": 1, "pctc": 1}\n'
    store().pipe_file("b/s.jsonl", line)
    select = ("select", "faulty://b/s.jsonl", "--budget", 1, "--strategy", "egl")
    status, _, err = run(*select, "--out", out, "--overwrite")
    assert (status, err.count("\n")) == (2, 1), err
    assert said in err
    assert content("s.jsonl") == line


def test_a_folder_is_on_a_disk(run: Run) -> None:
    status, _, err = run("report", at("run"))
    assert status == 2
    assert "faulty://***@b/run?*** is a URL; name a folder on a disk" in err


def test_a_log_is_on_a_disk(run: Run, tiny_model: Path) -> None:
    status, _, err = run("score", "--model", tiny_model, "--pool", "x", "--log-json", at("log"))
    assert status == 2
    assert "faulty://***@b/log?*** is a URL; name a file on a disk" in err


def test_shards_in_a_store_are_merged(
    run: Run, store: type[FaultyStore], tiny_model: Path, recordings: Path, tmp_path: Path
) -> None:
    store().pipe_file("b/rec1.wav", b"RIFF broken")
    score = scoring(tiny_model)
    run(*score, "--out", at("whole.jsonl"))
    for shard in (1, 2):
        run(*score, "--shard", f"{shard}/2", "--out", at(f"{shard}.jsonl"))
    named = ("--pool", at("all.jsonl"), "--out", at("merged.jsonl"))
    assert run("merge", at("1.jsonl"), at("2.jsonl"), *named)[0] == 3
    for suffix in ("", ".errors.jsonl"):
        assert content(f"merged.jsonl{suffix}") == content(f"whole.jsonl{suffix}")


def test_scores_in_a_store_from_python(
    run: Run, store: type[FaultyStore], tiny_model: Path
) -> None:
    score = scoring(tiny_model)
    assert run(*score, "--out", at("s.jsonl"))[0] == 0
    scores = read_scores(at("s.jsonl"))
    assert [one["id"] for one in scores] == [f"rec{n}.wav" for n in range(4)]
    assert scores.metadata["num_scored"] == 4
