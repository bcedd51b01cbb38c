"""Processes that end at their n-th step on the disk, and disks that lose what never got there.

A step is whatever writes or renames: opening, writing, flushing, truncating and closing a file,
fsync, and names that come, change and go. What a process has not handed to the system ends with it.
With the power goes more: what a file holds since its last fsync, and what became of the names of a
folder since the last fsync of that. A file system may have kept any of it.
"""

from __future__ import annotations

import builtins
import os
import random
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: What a child that has crashed ends with.
CRASHED = 86


@dataclass
class CrashingDisk:
    """The steps of this process in a folder, of which the n-th is never made.

    Attributes:
        folder: whose files count; subfolders do not.
        crash_at: the step at which the process ends, from 1.
        at_crash: what the power does to the folder then.
    """

    folder: Path
    crash_at: int
    at_crash: Callable[[CrashingDisk], None]
    steps: int = 0
    #: Names and contents, by inode, that no power cut can take away.
    names: dict[str, int] = field(default_factory=dict)
    contents: dict[int, bytes] = field(default_factory=dict)
    #: What became of names since: (new name or None, old name or None, inode).
    pending: list[tuple[str | None, str | None, int]] = field(default_factory=list)

    def install(self) -> None:
        """Count from now on; for good, so only in a process of its own."""
        for path in self.folder.iterdir():
            self.names[path.name] = path.stat().st_ino
            self.contents[path.stat().st_ino] = path.read_bytes()
        real_open, real_replace = builtins.open, os.replace
        real_unlink, real_touch = Path.unlink, Path.touch

        def open_(path: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            path = Path(path)
            if path.parent != self.folder:
                return real_open(path, mode, *args, **options)
            self.step()
            existed = path.exists()
            file = real_open(path, mode, *args, **options)
            if not existed:
                self.pending.append((path.name, None, path.stat().st_ino))
            return file if mode == "rb" else _File(self, file)

        def fsync(descriptor: int) -> None:
            self.step()  # without the real one, which is slow and changes nothing here
            if os.readlink(f"/proc/self/fd/{descriptor}") == str(self.folder):
                self.names, self.pending = self.names_now(), []
                return
            with real_open(f"/proc/self/fd/{descriptor}", "rb") as file:
                self.contents[os.fstat(descriptor).st_ino] = file.read()

        def replace(old: Path, new: Path) -> None:
            self.step()
            inode = Path(old).stat().st_ino
            real_replace(old, new)
            self.pending.append((Path(new).name, Path(old).name, inode))

        def unlink(path: Path, missing_ok: bool = False) -> None:
            self.step()
            inode = path.stat().st_ino if path.exists() else 0
            real_unlink(path, missing_ok=missing_ok)
            self.pending.append((None, path.name, inode))

        def touch(path: Path, *args: Any, **options: Any) -> None:
            self.step()
            existed = path.exists()
            real_touch(path, *args, **options)
            if not existed:
                self.pending.append((path.name, None, path.stat().st_ino))

        patched: Any = Path
        patched.unlink, patched.touch = unlink, touch
        builtins.open, os.fsync, os.replace = open_, fsync, replace  # type: ignore[assignment]
        self._open, self._unlink = real_open, real_unlink

    def step(self) -> None:
        """Make the next step, or end here."""
        self.steps += 1
        if self.steps == self.crash_at:
            self.at_crash(self)
            os._exit(CRASHED)

    def names_now(self) -> dict[str, int]:
        """The folder as a running system sees it."""
        return {path.name: path.stat().st_ino for path in self.folder.iterdir()}

    def become(self, names: dict[str, int], contents: dict[int, bytes]) -> None:
        """Let the folder hold these files alone."""
        for path in self.folder.iterdir():
            self._unlink(path)
        for name, inode in names.items():
            with self._open(self.folder / name, "wb") as file:
                file.write(contents.get(inode, b""))


class _File:
    """An open file whose steps count."""

    def __init__(self, disk: CrashingDisk, file: Any) -> None:
        self._disk = disk
        self._file = file

    def __getattr__(self, name: str) -> Any:
        if name in ("write", "flush", "truncate", "close"):
            self._disk.step()
        return getattr(self._file, name)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def nothing_is_lost(disk: CrashingDisk) -> None:
    """The process was killed: the system keeps what it was handed."""


def all_is_lost(disk: CrashingDisk) -> None:
    """A power cut: what was not brought onto the disk is not there."""
    disk.become(disk.names, disk.contents)


def only_the_last_name_is_kept(disk: CrashingDisk) -> None:
    """A power cut where the newest change of a name got to the disk, and none before it."""
    names = dict(disk.names)
    for new, old, inode in disk.pending[-1:]:
        names.pop(old or "", None)
        if new is not None:
            names[new] = inode
    disk.become(names, disk.contents)


def some_is_lost(disk: CrashingDisk) -> None:
    """A power cut: of what was not brought onto the disk, anything may be there."""
    rng = random.Random(disk.crash_at)
    now = {inode: (disk.folder / name).read_bytes() for name, inode in disk.names_now().items()}
    names = dict(disk.names)
    for new, old, inode in disk.pending:
        if rng.random() < 0.5:
            continue
        names.pop(old or "", None)
        if new is not None:
            names[new] = inode
    contents = dict(disk.contents)
    for inode, content in now.items():
        safe = contents.get(inode, b"")
        if not content.startswith(safe):
            contents[inode] = rng.choice([safe, content])
            continue
        tail = bytearray(content[len(safe) :])
        if len(tail) > 100 and rng.random() < 0.3:  # a page that never got there, amid others
            tail[10:50] = bytes(40)
        if rng.random() < 0.5:
            del tail[rng.randrange(len(tail) + 1) :]
        contents[inode] = safe + bytes(tail)
    disk.become(names, contents)


POWER = {
    "killed": nothing_is_lost,
    "power cut": all_is_lost,
    "names out of order": only_the_last_name_is_kept,
    "half a power cut": some_is_lost,
}


def in_child(work: Callable[[Callable[[str], None]], None], disk: CrashingDisk) -> tuple[int, str]:
    """Work in a child until its disk crashes: the exit status, and what it told before.

    Args:
        work: called with a way to tell something that the crash cannot take back.
        disk: where it crashes.
    """
    receiver, sender = os.pipe()

    def tell(line: str) -> None:
        os.write(sender, f"{line}\n".encode())

    with warnings.catch_warnings():
        # Of threads, which the child neither has nor needs.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(receiver)
            disk.install()
            work(tell)
            status = 0
        except BaseException:
            tell(traceback.format_exc())
        finally:
            os._exit(status)
    os.close(sender)
    with open(receiver, encoding="utf-8") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), told
