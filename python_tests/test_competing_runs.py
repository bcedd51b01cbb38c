"""Two runs with the same output."""

from __future__ import annotations

import os
import signal
import subprocess

from commands import contents, lines_of, refused, start, wait_until
from places import Place
from recordings import random_checkpoint

from egl_fast.checkpoint import save_checkpoint


def hanging(place: Place) -> tuple[subprocess.Popen[str], list[object]]:
    """A run that is waiting for a recording of its pool, and its arguments."""
    os.mkfifo(place.folder / "hanging.wav")
    pool = place.manifest(*lines_of(place.pool.read_text()), {"audio_filepath": "hanging.wav"})
    arguments = [
        *("score", "--model", place.model, "--pool", pool, "--out", "new.jsonl"),
        *("--k", 3, "--read-timeout", 600, "--threads", 1),
    ]
    process = start(*arguments, cwd=place.folder)
    assert wait_until(process, (place.folder / "new.jsonl.journal").exists)
    return process, arguments


def test_two_runs_do_not_write_one_file(place: Place, undisturbed_scores: dict[str, bytes]) -> None:
    first, arguments = hanging(place)
    try:
        assert "give --resume" in refused(*arguments, cwd=place.folder)
        for option in ("--resume", "--overwrite"):
            line = refused(*arguments, option, cwd=place.folder)
            assert f"output new.jsonl: another run is writing it (process {first.pid} on" in line
            assert "wait for it, or give another name" in line
    finally:
        with open(place.folder / "hanging.wav", "wb"):
            pass  # lets the first run read an empty file
        _, err = first.communicate()
    assert first.returncode == 3, err
    assert (place.folder / "new.jsonl").read_bytes() == undisturbed_scores["out.jsonl"]
    assert not (place.folder / "new.jsonl.lock").exists()


def test_a_run_is_not_gone_on_with_by_another(place: Place) -> None:
    first, arguments = hanging(place)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    other = place.folder / "other.pt"
    save_checkpoint(other, random_checkpoint(seed=1))
    arguments[arguments.index("--k") + 1] = 4
    arguments[arguments.index("--model") + 1] = other
    arguments[arguments.index("--pool") + 1] = place.pool
    before = contents(place.folder)
    line = refused(*arguments, "--resume", cwd=place.folder)
    assert "output new.jsonl: was started with" in line
    for difference in ("another model", "another manifest", "--k 3 (now 4)"):
        assert difference in line
    assert "resume it with the same, or start over with --overwrite" in line
    # The lock that the killed run left is removed by the next run to hold it.
    before.pop("new.jsonl.lock")
    assert contents(place.folder) == before
