"""One writer at a time, whatever becomes of the others."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from egl_fast.errors import OutputError
from egl_fast.locking import sole_writer

#: Takes the lock, says so, and holds it until its standard input ends.
HOLDER = """
import sys
from pathlib import Path
from egl_fast.locking import sole_writer
with sole_writer(Path(sys.argv[1]), of="output scores.jsonl"):
    print("taken", flush=True)
    sys.stdin.read()
"""

#: Takes the lock again and again; inside, nobody else may be.
RUSHER = """
import os, sys
from pathlib import Path
from egl_fast.errors import OutputError
from egl_fast.locking import sole_writer
lock, inside = Path(sys.argv[1]), sys.argv[2]
taken = 0
while taken < 300:
    try:
        with sole_writer(lock, of="output scores.jsonl"):
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
            os.unlink(inside)
            taken += 1
    except OutputError as error:
        assert "another run is writing it" in str(error), error
"""


def process(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_another_process_is_kept_out_until_the_lock_is_let_go(tmp_path: Path) -> None:
    lock = tmp_path / "scores.jsonl.lock"
    with process(HOLDER, lock) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "taken\n"
        with pytest.raises(OutputError) as caught, sole_writer(lock, of="output scores.jsonl"):
            pass
        assert str(caught.value) == (
            f"output scores.jsonl: another run is writing it (process {holder.pid} on "
            f"{os.uname().nodename}); wait for it, or give another name"
        )
        assert lock.exists()
        holder.communicate()
    assert not lock.exists()
    with sole_writer(lock, of="output scores.jsonl"):
        assert lock.exists()
    assert not list(tmp_path.iterdir())


def test_a_killed_holder_keeps_nobody_out(tmp_path: Path) -> None:
    lock = tmp_path / "scores.jsonl.lock"
    with process(HOLDER, lock) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    assert lock.exists()
    with sole_writer(lock, of="output scores.jsonl"):
        assert str(os.getpid()) in lock.read_text()
    assert not list(tmp_path.iterdir())


def test_a_failure_lets_the_lock_go(tmp_path: Path) -> None:
    lock = tmp_path / "scores.jsonl.lock"
    with pytest.raises(KeyboardInterrupt), sole_writer(lock, of="output scores.jsonl"):
        raise KeyboardInterrupt
    assert not lock.exists()


def test_taking_and_removing_at_once_lets_only_one_in(tmp_path: Path) -> None:
    lock, inside = tmp_path / "scores.jsonl.lock", tmp_path / "inside"
    with contextlib.ExitStack() as stack:
        rushers = [stack.enter_context(process(RUSHER, lock, inside)) for _ in range(3)]
        for rusher in rushers:
            _, err = rusher.communicate()
            assert rusher.returncode == 0, err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_hold_the_lock_is_named(tmp_path: Path) -> None:
    lock = tmp_path / "none" / "scores.jsonl.lock"
    with (
        pytest.raises(OutputError, match=r"^output scores.jsonl: cannot be locked \(.*none"),
        sole_writer(lock, of="output scores.jsonl"),
    ):
        pass


def test_a_full_disk_keeps_nobody_from_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "scores.jsonl.lock"
    lock.symlink_to("/dev/full")
    with sole_writer(lock, of="output scores.jsonl"):
        pass
    assert not lock.is_symlink()
