"""Files in any store that fsspec knows: ``s3://``, ``gs://``, ``https://``, ``memory://``.

Errors of a store become ``OSError``, as if a disk had failed, without secrets in their text.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias, TypeVar

from egl_fast.errors import MissingExtraError, one_line
from egl_fast.files.addresses import MASK, Address, Place, masked, secrets_in
from egl_fast.files.atomic import PARTIAL

Result = TypeVar("Result")

#: Between the attempts to reach a store, in seconds.
PAUSES: Final = (0.5, 2.0)

#: In what libraries say, such as ``token=abc``.
_NAMED: Final = re.compile(
    r"(?i)((?:key|secret|token|password|signature|credential)[\w-]*['\"]?\s*[=:]\s*['\"]?)[^\s&,;'\"]+"
)

#: A file that is read whole may have no more.
MOST_BYTES: Final = 2**31

#: Stores in which an object appears whole or not at all, however it is written.
_PUTS_WHOLE: Final = frozenset(("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oci", "oss"))

#: What brings a store whose package is not installed.
_PACKAGES: Final = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("abfs", "abfss", "az", "adl"), "adlfs"),
    **dict.fromkeys(("http", "https"), "aiohttp"),
    **dict.fromkeys(("sftp", "ssh"), "paramiko"),
    "hf": "huggingface_hub",
    "smb": "smbprotocol",
}

#: Errors that another attempt would not fix.
_LASTING: Final = (
    *(FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError),
    *(ValueError, TypeError, AttributeError, NotImplementedError, ImportError),
)

#: A file, when it was made, and its bytes.
Version: TypeAlias = tuple[Place, str, int]


def is_file(place: Place) -> bool:
    """Whether there is such a file. Raises ``OSError`` if a store cannot tell."""
    if isinstance(place, Path):
        return os.path.isfile(place)  # False for a path that cannot be
    return _attempted(place, _has)


def _has(store: Any, path: str) -> bool:
    """Not ``store.isfile``, which takes any failure for a no."""
    try:
        return bool(store.info(path)["type"] == "file")
    except FileNotFoundError:
        return False


def version_of(place: Place) -> Version:
    """What changes if a file does. Raises as ``read``."""
    if isinstance(place, Path):
        status = place.stat()
        return place, str(status.st_mtime_ns), status.st_size

    def attempt(store: Any, path: str) -> Version:
        told = store.info(path)
        keys = ("ETag", "etag", "md5Hash", "LastModified", "mtime", "created")
        return place, str([told.get(key) for key in keys]), told.get("size") or 0

    return _attempted(place, attempt)


def reading(
    place: Place, use: Callable[[BinaryIO], Result], *, passing: tuple[type[Exception], ...] = ()
) -> Result:
    """What a function makes of an open file, of which it reads parts.

    Args:
        place: the file.
        use: called again if the store fails.
        passing: errors of the function about what the file holds.

    Raises:
        OSError: see ``read``.
    """
    if isinstance(place, Path):
        with open(place, "rb") as file:
            return use(file)

    def attempt(store: Any, path: str) -> Result | Exception:
        with store.open(path, "rb") as file:
            try:
                return use(file)
            except passing as error:
                return error

    found = _attempted(place, attempt)
    if isinstance(found, Exception):
        raise found
    return found


def read(address: Address) -> bytes:
    """All bytes of a file.

    Raises:
        OSError: it is missing, may not be read, or the store failed three times.
        MissingExtraError: a package for this kind of store is not installed.
    """

    def attempt(store: Any, path: str) -> bytes:
        size = store.info(path).get("size")
        if size is not None and size > MOST_BYTES:
            raise ValueError(f"has {size:,} bytes, too many to be read at once; cut it")
        content: bytes = store.cat_file(path)
        _refuse_short(len(content), size)
        return content

    return _attempted(address, attempt)


def read_part(place: Place, part: range) -> bytes:
    """Some bytes of a file; fewer at the end of one on the disk. Raises as ``read``."""
    if isinstance(place, Path):
        with open(place, "rb") as file:
            file.seek(part.start)
            return file.read(len(part))

    def attempt(store: Any, path: str) -> bytes:
        content: bytes = store.cat_file(path, start=part.start, end=part.stop)
        _refuse_short(len(content), len(part))
        return content

    return _attempted(place, attempt) if part else b""


def copy(address: Address, file: BinaryIO) -> None:
    """Write all bytes of a file into an empty one on the disk. Raises as ``read``."""

    def attempt(store: Any, path: str) -> None:
        file.seek(0)
        file.truncate()
        size = store.info(path).get("size")
        with store.open(path, "rb") as source:
            shutil.copyfileobj(source, file, 2**20)
        _refuse_short(file.tell(), size)

    _attempted(address, attempt)
    file.seek(0)


def spooled(address: Address) -> BinaryIO:
    """A temporary copy, open at its start, which is gone once it is closed. Raises as ``read``."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 (its reader closes it)
    try:
        copy(address, file)
    except BaseException:
        file.close()
        raise
    return file


def put(path: Path, address: Address) -> None:
    """Store a file: under its name is the old one, or all of the new one, at every moment.

    Object stores show an object once all of it is there. Elsewhere it is written beside, as
    ``X.partial``, and then renamed. Raises as ``read``.
    """

    def attempt(store: Any, target: str) -> None:
        whole = _scheme(address) in _PUTS_WHOLE
        written = target if whole else target + PARTIAL
        if not whole and "/" in target:
            store.makedirs(store._parent(target), exist_ok=True)
        store.put_file(str(path), written)
        store.invalidate_cache()
        _refuse_short(store.info(written).get("size"), path.stat().st_size)
        if not whole:
            store.mv(written, target)

    _attempted(address, attempt)


def remove(address: Address) -> None:
    """Remove a file if there is one. Raises as ``read``."""

    def attempt(store: Any, path: str) -> None:
        if _has(store, path):
            store.rm_file(path)

    _attempted(address, attempt)


def _scheme(address: Address) -> str:
    return address.url.partition("://")[0].lower()


def _refuse_short(found: int | None, size: int | None) -> None:
    if None not in (found, size) and found != size:
        raise OSError(f"{found:,} bytes came instead of {size:,}")


def _attempted(address: Address, attempt: Callable[[Any, str], Result]) -> Result:
    """The result of an operation, which is tried up to three times."""
    for pause in (*PAUSES, None):
        try:
            store, path = _store(address)
            return attempt(store, path)
        except MissingExtraError:
            raise
        except Exception as error:  # Each library has its own.
            if pause is None or isinstance(error, _LASTING):
                raise _as_os_error(error, address) from None
        time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def _store(address: Address) -> tuple[Any, str]:
    if MASK in address.url:
        raise PermissionError(
            "its credentials were left out where it was written down; give them by the "
            "environment or the configuration of the store"
        )
    link, _, path = address.url.rpartition("://")
    if link.endswith("file") and not os.path.isfile(path.partition("::")[0]):
        raise FileNotFoundError  # a device, say, that never ends
    import fsspec

    scheme = _scheme(address).split("::")[-1]
    try:
        store, path = fsspec.core.url_to_fs(address.url)
    except ImportError as error:
        package = _PACKAGES.get(scheme)
        remedy = f"pip install {package}" if package else one_line(error)
        raise MissingExtraError(f"{address}: {scheme}:// needs another package: {remedy}") from None
    except ValueError as error:
        if scheme not in fsspec.available_protocols():
            raise ValueError(f"{scheme}:// is unknown to fsspec") from None
        raise error
    return store, path


def _as_os_error(error: Exception, address: Address) -> OSError:
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError("no such file")
    if isinstance(error, IsADirectoryError):
        return IsADirectoryError("is a folder")
    said = one_line(error)
    if isinstance(error, OSError) and error.strerror:
        said = error.strerror
    for secret in secrets_in(address.url):
        said = said.replace(secret, MASK)
    said = _NAMED.sub(rf"\1{MASK}", masked(said))
    if isinstance(error, PermissionError):
        return PermissionError(f"the store refuses access: {said}")
    return OSError(said)
