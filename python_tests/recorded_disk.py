"""What a folder holds at every moment of a run, in the running system and on its disk.

A run is recorded once, in this process. A step is anything that changes the disk: opening, writing,
flushing, truncating, and closing a file, fsync, and creating, renaming, and removing names. If the
process ends, what it has not handed to the system is lost. If the power fails, so may be what was
written to a file since its last fsync, and changes of a folder's names since the folder's last
fsync; a file system may have kept any part of them. The folder can be rebuilt as it was before any
step, in the state in which each of these endings could leave it.

Steps can also be made to fail, as on a full disk.
"""

from __future__ import annotations

import builtins
import errno
import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from unittest.mock import patch

#: The number of a folder, and a name in it.
Key: TypeAlias = tuple[int, str]

#: A tree of files: path below the folder -> content, None for a folder.
Tree: TypeAlias = Mapping[str, bytes | None]

_ROOT = 0


@dataclass(frozen=True)
class Snapshot:
    """A folder before a step. Files and folders have numbers, which they keep under all names.

    Attributes:
        names: as a running system sees them.
        contents: of files, likewise; what a process has handed over.
        safe_names: those that no power cut can take away.
        safe_contents: likewise.
        pending: what became of names since: those that came, and those that went.
        folders: numbers that are folders.
        told: what the run has promised by then.
    """

    names: Mapping[Key, int]
    contents: Mapping[int, bytes]
    safe_names: Mapping[Key, int]
    safe_contents: Mapping[int, bytes]
    pending: tuple[tuple[Mapping[Key, int], tuple[Key, ...]], ...]
    folders: frozenset[int]
    told: tuple[str, ...]

    def tree(
        self, names: Mapping[Key, int], contents: Mapping[int, bytes]
    ) -> dict[str, bytes | None]:
        """The files that these names refer to."""
        found: dict[str, bytes | None] = {}

        def walk(folder: int, prefix: str) -> None:
            for (parent, name), number in names.items():
                if parent != folder:
                    continue
                if number in self.folders:
                    found[prefix + name] = None
                    walk(number, f"{prefix}{name}/")
                else:
                    found[prefix + name] = contents.get(number, b"")

        walk(_ROOT, "")
        return found


def nothing_is_lost(at: Snapshot, rng: random.Random) -> Tree:
    """The process was killed: the system keeps what it was given."""
    return at.tree(at.names, at.contents)


def all_is_lost(at: Snapshot, rng: random.Random) -> Tree:
    """A power cut: what was not synced is lost."""
    return at.tree(at.safe_names, at.safe_contents)


def only_the_last_name_is_kept(at: Snapshot, rng: random.Random) -> Tree:
    """A power cut where only the newest change of a name reached the disk."""
    return at.tree(_changed(at.safe_names, at.pending[-1:]), at.safe_contents)


def some_is_lost(at: Snapshot, rng: random.Random) -> Tree:
    """A power cut: of what was not synced, anything may be there."""
    kept = tuple(change for change in at.pending if rng.random() < 0.5)
    contents = dict(at.safe_contents)
    for number, content in at.contents.items():
        safe = contents.get(number, b"")
        if not content.startswith(safe):
            contents[number] = rng.choice([safe, content])
            continue
        tail = bytearray(content[len(safe) :])
        if (
            len(tail) > 100 and rng.random() < 0.3
        ):  # a page that never reached the disk, amid others that did
            tail[10:50] = bytes(40)
        if rng.random() < 0.5:
            del tail[rng.randrange(len(tail) + 1) :]
        contents[number] = safe + bytes(tail)
    return at.tree(_changed(at.safe_names, kept), contents)


def _changed(
    names: Mapping[Key, int], changes: tuple[tuple[Mapping[Key, int], tuple[Key, ...]], ...]
) -> dict[Key, int]:
    now = dict(names)
    for came, went in changes:
        for key in went:
            now.pop(key, None)
        now |= came
    return now


POWER: dict[str, Callable[[Snapshot, random.Random], Tree]] = {
    "killed": nothing_is_lost,
    "power cut": all_is_lost,
    "names out of order": only_the_last_name_is_kept,
    "half a power cut": some_is_lost,
}


class RecordedDisk:
    """The steps of this process in a folder, while ``recording``.

    Args:
        folder: whose files count, at any depth.
        fail_from: the first step that fails, from 1, and all after it that ``error`` concerns; 0:
            none.
        error: how they fail. Where there is no room, files can still be closed and removed.
    """

    def __init__(self, folder: Path, *, fail_from: int = 0, error: int = errno.ENOSPC) -> None:
        self.folder = folder
        self.steps = 0
        self.snapshots: list[Snapshot] = []
        self._fail_from = fail_from
        self._error = error
        self._told: tuple[str, ...] = ()
        self._numbers = {folder.stat().st_ino: _ROOT}
        self._next = 1
        self._folders: set[int] = {_ROOT}
        self._contents: dict[int, bytes] = {}
        self._names: dict[Key, int] = {}
        self._look()
        self._safe_names, self._safe_contents = dict(self._names), dict(self._contents)
        self._pending: tuple[tuple[Mapping[Key, int], tuple[Key, ...]], ...] = ()

    def tell(self, line: str) -> None:
        """Note a promise that the run has made."""
        self._told += (line,)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Count steps; the last snapshot is of the end."""
        with ExitStack() as stack:
            for module, name in (
                *((os, name) for name in ("replace", "rename", "link", "mkdir", "open")),
                *((os, name) for name in ("unlink", "remove", "rmdir")),
            ):
                real = getattr(module, name)
                removes = name in ("unlink", "remove", "rmdir")
                stack.enter_context(patch.object(module, name, self._wrapped(real, removes)))
            stack.enter_context(patch.object(builtins, "open", self._open(builtins.open)))
            stack.enter_context(patch.object(os, "fsync", self._fsync))
            yield
        self._snapshot()

    def states(self, power: str) -> dict[frozenset[tuple[str, bytes | None]], Snapshot]:
        """Every distinct tree that such an end can leave -> the last moment at which it can."""
        found = {}
        for number, snapshot in enumerate(self.snapshots):
            found[frozenset(POWER[power](snapshot, random.Random(number)).items())] = snapshot
        return found

    def step(self, *, removes: bool = False) -> None:
        """Count a step, or make it fail."""
        self.steps += 1
        self._snapshot()
        if self.fails and not (removes and self._error in (errno.ENOSPC, errno.EDQUOT)):
            raise OSError(self._error, os.strerror(self._error))

    @property
    def fails(self) -> bool:
        """Whether steps fail by now."""
        return 0 < self._fail_from <= self.steps

    def reread(self, descriptor: int) -> None:
        """Record what the system has of an open file."""
        number = self._numbers.get(os.fstat(descriptor).st_ino)
        if number is not None:
            self._contents[number] = _content(descriptor)

    def _snapshot(self) -> None:
        if self._fail_from:
            return
        self.snapshots.append(
            Snapshot(
                dict(self._names), dict(self._contents), dict(self._safe_names),
                dict(self._safe_contents), self._pending, frozenset(self._folders), self._told,
            )
        )  # fmt: skip

    def _concerns(self, path: Any, options: Mapping[str, Any]) -> bool:
        if options.get("dir_fd") is not None:
            path = os.path.join(os.readlink(f"/proc/self/fd/{options['dir_fd']}"), path)
        # Locks belong to the system, not to the disk; the files they leave count all the same.
        return not isinstance(path, int) and (
            os.path.abspath(path).startswith(f"{self.folder}/") and not str(path).endswith("lock")
        )

    def _wrapped(self, real: Callable[..., Any], removes: bool) -> Callable[..., Any]:
        def call(path: Any, *args: Any, **options: Any) -> Any:
            if not self._concerns(path, options):
                return real(path, *args, **options)
            if real is _real_open and not args[0] & (os.O_CREAT | os.O_TRUNC):
                return real(path, *args, **options)
            self.step(removes=removes)
            result = real(path, *args, **options)
            self._look()
            return result

        return call

    def _open(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def open_(path: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            if set(mode) <= set("rbt") or not self._concerns(path, {}):
                return real(path, mode, *args, **options)
            self.step()
            file = real(path, mode, *args, **options)
            self._look()
            self.reread(file.fileno())
            return _File(self, file)

        return open_

    def _fsync(self, descriptor: int) -> None:
        # The real one is slow and makes no difference here.
        number = self._numbers.get(os.fstat(descriptor).st_ino)
        if number is None:
            return
        self.step()
        if number not in self._folders:
            self.reread(descriptor)
            self._safe_contents[number] = self._contents[number]
            return
        kept = {key: n for key, n in self._safe_names.items() if key[0] != number}
        self._safe_names = kept | {key: n for key, n in self._names.items() if key[0] == number}
        self._pending = tuple(
            change
            for change in self._pending
            if number not in {k[0] for k in (*change[0], *change[1])}
        )

    def _look(self) -> None:
        """Record what the last step did to names."""
        names: dict[Key, int] = {}
        numbers: dict[int, int] = {self.folder.stat().st_ino: _ROOT}

        def walk(path: str, folder: int) -> None:
            with os.scandir(path) as entries:
                for entry in entries:
                    inode = entry.inode()
                    number = numbers.get(inode, self._numbers.get(inode))
                    if number is None:
                        number, self._next = self._next, self._next + 1
                        if entry.is_dir(follow_symlinks=False):
                            self._folders.add(number)
                        else:
                            self._contents[number] = Path(entry.path).read_bytes()
                    numbers[inode] = number
                    names[folder, entry.name] = number
                    if number in self._folders:
                        walk(entry.path, number)

        walk(str(self.folder), _ROOT)
        came = {key: number for key, number in names.items() if self._names.get(key) != number}
        went = tuple(key for key in self._names if key not in names)
        if (came or went) and self.steps:
            self._pending += ((came, went),)
        # The inode number of a removed file may soon be reused.
        self._names, self._numbers = names, numbers


class _File:
    """An open file whose steps count."""

    def __init__(self, disk: RecordedDisk, file: Any) -> None:
        self._disk = disk
        self._file = file

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._file, name)
        if name not in ("write", "flush", "truncate"):
            return real

        def call(*args: Any) -> Any:
            self._disk.step()
            result = real(*args)
            self._disk.reread(self._file.fileno())
            return result

        return call

    def __iter__(self) -> Iterator[Any]:
        return iter(self._file)

    def close(self) -> None:
        """A step that closes the file even if it fails."""
        if self._file.closed:
            return
        descriptor = os.dup(self._file.fileno())
        try:
            self._disk.step()
        finally:
            self._file.close()
            self._disk.reread(descriptor)
            os.close(descriptor)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def restore(folder: Path, tree: Iterator[tuple[str, bytes | None]] | Any) -> None:
    """Make a folder that holds exactly these files."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in sorted(tree):
        if content is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(content)


@contextmanager
def no_syncing() -> Iterator[None]:
    """Turn off fsync, which is slow and makes no difference while the system keeps running."""
    with patch.object(os, "fsync", lambda descriptor: None):
        yield


_real_open = os.open


def _content(descriptor: int) -> bytes:
    again = _real_open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)
    try:
        return os.pread(again, os.fstat(again).st_size, 0)
    finally:
        os.close(again)
