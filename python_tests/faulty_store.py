"""A store in memory, ``faulty://``, that fails as it is told; with passwords and signatures."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.memory import MemoryFileSystem

#: Opened when a test is over, so that no thread hangs longer.
released = threading.Event()


class FaultyStore(MemoryFileSystem):  # type: ignore[misc]
    """What is called is noted; a fault may be put in its way."""

    protocol = "faulty"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    calls: ClassVar[list[tuple[str, str]]] = []
    #: Called before each operation with its name, its path, and how often that has been called.
    fault: ClassVar[Callable[[str, str, int], Any]] = staticmethod(lambda name, path, count: None)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        plain = path.partition("?")[0].removeprefix("faulty://")
        user, at, rest = plain.partition("@")
        return "/" + (rest if at else user).strip("/")

    def _meet(self, name: str, path: str) -> Any:
        path = self._strip_protocol(path)
        self.calls.append((name, path))
        return type(self).fault(name, path, self.calls.count((name, path)))

    def cat_file(self, path: str, start: int | None = None, end: int | None = None) -> bytes:
        """All or some of it, or what the fault gives instead."""
        changed = self._meet("read", path)
        found = self.store.get(self._strip_protocol(path))
        if found is None:
            raise FileNotFoundError(path)
        content: bytes = found.getvalue()
        return content[start:end] if changed is None else content[start:end][:changed]

    def _open(self, path: str, mode: str = "rb", **more: Any) -> Any:
        """As the others, if it is for reading; the fault may give a shorter file."""
        changed = self._meet("open", path) if mode == "rb" else None
        found = super()._open(path, mode, **more)
        return found if changed is None else io.BytesIO(found.read(changed))

    def info(self, path: str, **more: Any) -> dict[str, Any]:
        """Its size."""
        self._meet("info", path)
        found: dict[str, Any] = super().info(path, **more)
        return found

    #: As other stores do it: any failure is a no.
    isfile = AbstractFileSystem.isfile

    def put_file(self, lpath: str, rpath: str, **more: Any) -> None:
        """Write it byte by byte as far as others can see, up to what the fault allows."""
        self.pipe_file(rpath, b"")
        changed = self._meet("put", rpath)
        self.pipe_file(rpath, Path(lpath).read_bytes()[:changed])

    def mv(self, path1: str, path2: str, **more: Any) -> None:
        """Rename it."""
        self._meet("move", path2)
        self.store[self._strip_protocol(path2)] = self.store.pop(self._strip_protocol(path1))

    def rm_file(self, path: str) -> None:
        """Remove it."""
        self._meet("remove", path)
        self.store.pop(self._strip_protocol(path))


fsspec.register_implementation("faulty", FaultyStore, clobber=True)


@contextmanager
def store_of(folder: Path | None = None) -> Iterator[type[FaultyStore]]:
    """The store with the files of a folder, without faults, and emptied at the end."""
    _reset()
    released.clear()
    for path in [] if folder is None else folder.rglob("*"):
        if path.is_file():
            FaultyStore().pipe_file(f"b/{path.relative_to(folder)}", path.read_bytes())
    FaultyStore.calls.clear()
    try:
        yield FaultyStore
    finally:
        released.set()
        _reset()


def content(name: str) -> bytes:
    """What is stored under a name."""
    found: bytes = FaultyStore.store[f"/b/{name}"].getvalue()
    return found


def names() -> set[str]:
    """What is stored."""
    return {path.removeprefix("/b/") for path in FaultyStore.store}


def _reset() -> None:
    FaultyStore.store.clear()
    FaultyStore.pseudo_dirs[:] = [""]
    FaultyStore.calls.clear()
    FaultyStore.fault = staticmethod(lambda name, path, count: None)


def failing(
    *wanted: str, error: BaseException, times: int = 10**9, of: str = ""
) -> Callable[[str, str, int], None]:
    """A fault: these operations on paths that end so raise an error the first times."""

    def fault(name: str, path: str, count: int) -> None:
        if name in wanted and path.endswith(of) and count <= times:
            raise error

    return staticmethod(fault)  # type: ignore[return-value]
