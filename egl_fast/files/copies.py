"""Files of a store as copies on this machine: fetched before a command, or put there after it.

Commands read and write paths. For a URL, they get the path of a copy in a folder of its own:

- an input is fetched at once, if wanted with what is beside it;
- an output is written there, beside a copy of what the store has under its name, so that a command
  refuses, replaces, or resumes it like a file. When the command is done, the output is put into the
  store, after all that is beside it.

The folder is temporary. Only that of an output that can be resumed stays until it is complete, as
``$XDG_CACHE_HOME/egl-fast/stores/<hash of the URL>``, on the machine where the run was stopped.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from egl_fast.errors import ManifestError, cannot_be_written, one_line
from egl_fast.files import atomic, remote
from egl_fast.files.addresses import Address, Place, place_of
from egl_fast.hashing import hashed

#: Endings of files beside scores and picks that other commands read.
BESIDE: Final = (
    *(".meta.json", ".errors.jsonl", ".embeddings.npy", ".trusted.npy"),
    *(".atypical.jsonl", ".uncertain.jsonl"),
)
#: Endings of files that belong to a run that is not complete.
_UNFINISHED: Final = (".partial", ".journal", ".lock", ".looks")


@dataclass
class _Copy:
    """A file on this machine that stands for one in a store."""

    path: Path
    address: Address
    is_output: bool
    is_kept: bool = False
    fetched: os.stat_result | None = None  # of an output that was in the store already

    @property
    def files(self) -> list[Path]:
        """What is complete, the file itself last."""
        found = [
            file
            for file in self.path.parent.iterdir()
            if file.is_file()
            and file.name.startswith(f"{self.path.name}.")
            and not file.name.endswith(_UNFINISHED)
        ]
        return [*sorted(found), *([self.path] if self.path.is_file() else [])]

    def fetch(self, suffixes: Sequence[str]) -> None:
        for suffix in suffixes:
            source = self.address.beside(suffix) if suffix else self.address
            if (suffix or self.is_output) and not remote.is_file(source):
                continue
            with open(_beside(self.path, suffix), "wb") as file:
                remote.copy(source, file)

    @property
    def has_changed(self) -> bool:
        """Whether there is something to put into the store."""
        if not self.is_output or not self.path.is_file():
            return False
        return self.fetched is None or not os.path.samestat(self.fetched, self.path.stat())


#: Copies of the command that is running, or of the last one, for its messages.
_COPIES: list[_Copy] = []


@contextmanager
def copies_of_a_command() -> Iterator[None]:
    """While a command runs; its copies are gone afterwards."""
    _COPIES.clear()
    try:
        yield
    finally:
        for copy in _COPIES:
            if not copy.is_kept:
                shutil.rmtree(copy.path.parent, ignore_errors=True)
            elif not _beside(copy.path, ".journal").exists():
                for file in copy.files:
                    file.unlink(missing_ok=True)
                with suppress(OSError):  # it still has something that a later run begins with
                    copy.path.parent.rmdir()


def fetched(address: Address, *, beside: bool = False) -> Path:
    """The copy of an input, if wanted with what is beside it.

    Raises:
        ManifestError: it is missing, or cannot be read.
        MissingExtraError: see ``remote.read``.
    """
    copy = _Copy(_temporary_folder() / (address.name or "file"), address, is_output=False)
    _COPIES.append(copy)
    try:
        copy.fetch(["", *(BESIDE if beside else ())])
    except FileNotFoundError:
        raise ManifestError(f"{address}: no such file; give one that exists") from None
    except OSError as error:
        raise ManifestError(f"{address}: cannot be read ({one_line(error)})") from None
    return copy.path


@contextmanager
def temporary(address: Address) -> Iterator[Path]:
    """A copy of an input with what is beside it, outside of a command. Raises as ``fetched``."""
    path = fetched(address, beside=True)
    try:
        yield path
    finally:
        _COPIES[:] = [copy for copy in _COPIES if copy.path != path]
        shutil.rmtree(path.parent, ignore_errors=True)


def output(address: Address, *, is_kept: bool) -> Path:
    """Where to write an output for a store.

    Args:
        address: where it goes.
        is_kept: whether what is unfinished stays for another run.

    Raises:
        OutputError: the store, or the folder, cannot be used.
        MissingExtraError: see ``remote.read``.
    """
    with atomic.as_output_error(address):
        if not address.name or address.url.endswith("/"):
            raise IsADirectoryError("names a folder; name a file in it")
        if "::" in address.url:
            raise OSError("a chain of stores can only be read")
        folder = _kept_folder(address) if is_kept else _temporary_folder()
        copy = _Copy(folder / address.name, address, is_output=True, is_kept=is_kept)
        _COPIES.append(copy)
        if not _beside(copy.path, ".journal").exists():
            for file in copy.files:
                file.unlink()
            copy.fetch(["", *BESIDE])
        if copy.path.exists():
            copy.fetched = copy.path.stat()
    return copy.path


def publish(path: Path) -> None:
    """Put a complete output into its store, after what is beside it; nothing if it has none.

    Raises ``OSError``: the old one is still there, or the new one is.
    """
    copy = next((copy for copy in _COPIES if copy.path == path), None)
    if copy is None or not copy.is_output or not copy.path.is_file():
        return
    files = copy.files
    for suffix in BESIDE:  # of the old one
        if _beside(path, suffix) not in files:
            remote.remove(copy.address.beside(suffix))
    for file in files:
        remote.put(file, copy.address.beside(file.name[len(path.name) :]))
    copy.fetched = path.stat()


def publish_all() -> None:
    """Put all outputs that changed into their stores.

    Raises:
        OutputError: a store failed. What is not there yet stays on this machine; the message says
            where, or that the same command finds it.
    """
    for copy in list(_COPIES):
        if copy.has_changed:
            try:
                publish(copy.path)
            except OSError as error:
                raise cannot_be_written(copy.address, error, remedy=_left_here(copy)) from None


def _left_here(failed: _Copy) -> str:
    """Keep what a store did not take, and say where it is."""
    if failed.is_kept:
        return "the same command tries again, and computes nothing twice"
    kept = [copy for copy in _COPIES if copy.has_changed and not copy.is_kept]
    # No longer copies: they are not removed, and messages name them as they are.
    _COPIES[:] = [copy for copy in _COPIES if copy not in kept]
    return f"what was to go there is in {' and '.join(str(copy.path.parent) for copy in kept)}"


def as_given(text: str) -> str:
    """A text with URLs, as far as they may be shown, in place of their copies."""
    for copy in _COPIES:
        text = text.replace(str(copy.path), str(copy.address))
        text = text.replace(str(copy.path.parent), str(copy.address.parent))
    return text


def origin_of(path: str | Path) -> Place:
    """The URL that a path is a copy of; otherwise the path, or URL, itself."""
    place = place_of(path)
    return next((copy.address for copy in _COPIES if copy.path == place), place)


def folder_of(path: Path) -> Place:
    """The folder of a file, or of what it is a copy of."""
    return origin_of(path).parent


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _temporary_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="egl-fast-"))


def _kept_folder(address: Address) -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(cache, "egl-fast", "stores", hashed(address).hex()[:16])
    atomic.make_folder(folder)
    return folder
