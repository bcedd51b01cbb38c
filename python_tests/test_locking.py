"""One writer at a time, whatever happens to the others."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from egl_fast.errors import OutputError
from egl_fast.files.locking import LockHeldError, sole_writer

#: Takes the lock, says so, and holds it until its standard input ends.
HOLDER = """
import sys
from pathlib import Path
from egl_fast.files.locking import sole_writer
with sole_writer(Path(sys.argv[1]), of="output scores.jsonl"):
    print("taken", flush=True)
    sys.stdin.read()
"""

#: Takes the lock again and again, and fails if another process is inside too.
RUSHER = """
import os, sys
from pathlib import Path
from egl_fast.errors import OutputError
from egl_fast.files.locking import sole_writer
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


def test_the_lock_of_a_killed_holder_is_free(tmp_path: Path) -> None:
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


def test_a_failure_releases_the_lock(tmp_path: Path) -> None:
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


def test_a_full_disk_keeps_nobody_from_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(FileIO):
        def write(self, content: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("egl_fast.files.locking.FileIO", Full)
    lock = tmp_path / "scores.jsonl.lock"
    with (
        sole_writer(lock, of="output scores.jsonl"),
        pytest.raises(LockHeldError, match="unknown process"),
    ):
        take(lock)
    take(lock)
    assert not lock.exists()


def take(lock: Path) -> None:
    with sole_writer(lock, of="output scores.jsonl"):
        pass


@pytest.mark.parametrize(
    "left", ["", "pro", "process 1 on this-host", "process {pid} on here", "\0" * 20]
)
def test_a_lock_left_by_a_crashed_machine_is_free(tmp_path: Path, left: str) -> None:
    # Whichever process has the number now: only the system knows who holds a lock.
    lock = tmp_path / "scores.jsonl.lock"
    lock.write_text(left.format(pid=os.getpid()))
    with sole_writer(lock, of="output scores.jsonl"):
        assert lock.read_text() == f"process {os.getpid()} on {os.uname().nodename}"
    assert not lock.exists()


@pytest.mark.parametrize("kind", ["link", "loose link", "hard link", "file", "folder", "pipe"])
def test_a_file_that_is_not_a_lock_is_not_written_to(tmp_path: Path, kind: str) -> None:
    # As with `--out poetry`, whose lock would be poetry.lock.
    precious, lock = tmp_path / "precious", tmp_path / "poetry.lock"
    precious.write_text("precious")
    if kind == "link":
        lock.symlink_to(precious)
    elif kind == "loose link":
        lock.symlink_to(tmp_path / "nothing")
    elif kind == "hard link":
        lock.hardlink_to(precious)
    elif kind == "file":
        lock.write_text("precious")
    elif kind == "folder":
        lock.mkdir()
    else:
        os.mkfifo(lock)
    before = lock.lstat()
    line = "needs .*poetry.lock as a lock file, but that is something else; move it, or"
    with pytest.raises(OutputError, match=line):
        take(lock)
    assert precious.read_text() == "precious"
    assert lock.lstat().st_ino == before.st_ino
    assert not (tmp_path / "nothing").exists()


def test_a_lock_file_replaced_meanwhile_stays(tmp_path: Path) -> None:
    lock = tmp_path / "scores.jsonl.lock"
    with sole_writer(lock, of="output scores.jsonl"):
        lock.unlink()
        with sole_writer(lock, of="output scores.jsonl"):
            theirs = lock.read_bytes()
            with pytest.raises(LockHeldError):
                take(lock)
            assert lock.read_bytes() == theirs
    assert not lock.exists()
    with contextlib.ExitStack() as first, contextlib.ExitStack() as second:
        first.enter_context(sole_writer(lock, of="output scores.jsonl"))
        lock.unlink()
        second.enter_context(sole_writer(lock, of="output scores.jsonl"))
        first.close()
        with pytest.raises(LockHeldError):
            take(lock)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EIO])
def test_a_file_system_without_locks_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("egl_fast.files.locking.fcntl.flock", flock)
    with pytest.raises(OutputError, match=r"cannot be locked .*; choose a folder where") as caught:
        take(tmp_path / "scores.jsonl.lock")
    assert not isinstance(caught.value, LockHeldError)


def test_a_file_that_was_removed_on_another_machine_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    flock = fcntl.flock

    def flock_on_nfs(*arguments: Any) -> None:
        calls.append(arguments[1])
        if len(calls) == 1:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        flock(*arguments)

    monkeypatch.setattr("egl_fast.files.locking.fcntl.flock", flock_on_nfs)
    lock = tmp_path / "scores.jsonl.lock"
    with sole_writer(lock, of="output scores.jsonl"):
        assert f"process {os.getpid()} " in lock.read_text()
    assert calls[1] == calls[0]


def test_a_stopped_holder_keeps_its_lock_and_is_called_stopped(tmp_path: Path) -> None:
    lock = tmp_path / "scores.jsonl.lock"
    with process(HOLDER, lock) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, holder.pid, os.WSTOPPED | os.WNOWAIT)
        stopped = f"process {holder.pid} on .*, which is stopped; .* kill -CONT {holder.pid}"
        with pytest.raises(LockHeldError, match=stopped):
            take(lock)
        holder.send_signal(signal.SIGCONT)
        with pytest.raises(LockHeldError):
            take(lock)
        holder.communicate()
        assert holder.returncode == 0
    take(lock)
