"""URLs where a path could be, and what of them may be shown.

A URL may hold a password or a signature. ``Address`` shows neither (``masked``), and what users
type is replaced by a URL without them before anything else sees it (``disguised``). So they reach
no message, log, or file; ``unmasked`` is for what only this process reads.
"""

from __future__ import annotations

import os
import posixpath
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final, TypeAlias
from urllib.parse import unquote

#: What a URL starts with; links of a chain, such as ``simplecache::s3://``, come first.
_START: Final = re.compile(r"(?:[a-z][a-z0-9+.-]*::)*[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_FILES: Final = ("file://", "local://")
#: Before a host. A key that is pasted as it is may hold a slash; a port has only digits.
_USER: Final = re.compile(r"(?<=://)(?:[^/\s?]*|[^/\s@?:]+:(?!\d+/)[^\s@?]*)@")
#: Up to a space, what quotes the URL, the rest of a chain, or the colon before an explanation.
_QUERY: Final = re.compile(
    r"(://[^\s?'\"<>]*)\?(?=[^\s'\"<>]*=)(?:[^\s'\"<>:]|:(?!:|\s|$))*", re.MULTILINE
)
MASK: Final = "***"
#: URLs as users gave them, by their disguises.
_DISGUISED: dict[str, str] = {}


@dataclass(frozen=True)
class Address:
    """A URL where a ``Path`` could be; as text it has no password and no signature.

    Attributes:
        url: all of it.
    """

    url: str = field(repr=False)

    def __str__(self) -> str:
        """The URL as it may be shown."""
        return masked(self.url)

    def __fspath__(self) -> str:
        """As the text: no file on the disk has such a path."""
        return str(self)

    @property
    def name(self) -> str:
        """Its last part."""
        return PurePosixPath(self._parts[0]).name

    @property
    def suffix(self) -> str:
        """The ending of its name."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> Address:
        """The folder; what is in it is asked for with the same query."""
        base, tail = self._parts
        scheme, _, path = base.partition("://")
        folder, slash, _ = path.rstrip("/").rpartition("/")
        return Address(f"{scheme}://{folder}{slash}{tail}" if slash else f"{scheme}://{tail}")

    def __truediv__(self, path: str) -> Path | Address:
        """What a path in this folder leads to."""
        if path.startswith("/"):
            return Path(path)
        base, tail = self._parts
        path, *member = path.split("::", 1)
        url = f"{base}{'' if base.endswith('/') else '/'}{path}"
        if {".", ".."} & set(path.split("/")):
            scheme, _, rest = url.partition("://")
            url = f"{scheme}://{posixpath.normpath(rest)}"
        return Address("::".join([url + tail, *member]))

    def beside(self, suffix: str) -> Address:
        """The file whose name is this one's with a suffix."""
        base, tail = self._parts
        return Address(base + suffix + tail)

    def with_suffix(self, suffix: str) -> PurePosixPath:
        """As that of a path; what follows is a file of this name on a disk."""
        return PurePosixPath(self.name).with_suffix(suffix)

    def is_absolute(self) -> bool:
        """As that of a path."""
        return True

    def resolve(self) -> Address:
        """As that of a path: itself."""
        return self

    @property
    def inside(self) -> tuple[Address, str] | None:
        """An archive, and what of it is meant; None if all of a file is."""
        start = self.url.rindex("://") + 3
        place = self.url.find("::", start)
        return None if place < 0 else (Address(self.url[:place]), self.url[place + 2 :])

    @property
    def _root_and_path(self) -> tuple[str, str]:
        """Store, host or bucket; and the path there, without a query."""
        scheme, _, rest = self._parts[0].partition("://")
        host, _, path = rest.partition("/")
        return f"{scheme}://{host}", f"/{path}"

    @property
    def _parts(self) -> tuple[str, str]:
        """All that leads to its name, and what comes after it: a query, or the rest of a chain."""
        start = self.url.index("://") + 3
        ends = [self.url.find("?", start), self.url.find("::", start)]
        if ends[1] >= 0 and "://" not in self.url[ends[1] :]:
            ends[1] = -1  # a member of an archive
        end = min((end for end in ends if end >= 0), default=len(self.url))
        return self.url[:end], self.url[end:]


#: Where a file is.
Place: TypeAlias = Path | Address


def is_url(text: str) -> bool:
    """Whether a text names a file in a store; ``file://`` names one on the disk.

    Example:
        >>> is_url("s3://bucket/pool.jsonl"), is_url("simplecache::s3://b/x"), is_url("file:///x")
        (True, True, False)
    """
    # Of a million lines, most need no more than the first look.
    return "://" in text and _START.match(text) is not None and not text.startswith(_FILES)


def place_of(text: str | Path | Address) -> Place:
    """Where a file is that a user, or a line of a manifest, names."""
    if isinstance(text, Address):
        return text
    if isinstance(text, str) and is_url(text):
        return Address(_DISGUISED.get(text, text))
    if isinstance(text, str) and text.startswith(_FILES):
        text = text.partition("://")[2]
    return Path(text)


def joined(folder: Place, path: str) -> Place:
    """Where a path leads that may start from a folder."""
    return place_of(path) if "://" in path and _START.match(path) else folder / path


def is_absolute(path: str) -> bool:
    """Whether a path, or URL, leads to the same file from everywhere."""
    return path.startswith("/") or _START.match(path) is not None


def absolute(path: str | Place) -> str:
    """A path that does not depend on the current folder, as text; a URL without its secrets."""
    place = place_of(path)
    return str(place) if isinstance(place, Address) else os.path.abspath(place)


def path_from(folder: Place | None, address: Address) -> str:
    """What leads from a folder to a file: a path within the same store, otherwise a URL.

    A path is better: the credentials of what it is in lead to it, too.
    """
    if isinstance(folder, Address) and "::" not in folder.url + address.url:
        (root, start), (other, path) = folder._root_and_path, address._root_and_path
        if root == other and "//" not in f"{start} {path}":
            return posixpath.relpath(path, start)
    return str(address)


def masked(text: str) -> str:
    """A text without the passwords and queries of URLs in it.

    Example:
        >>> masked("s3://key:secret@bucket/a.wav?X-Amz-Signature=0b1f")
        's3://***@bucket/a.wav?***'
    """
    return _QUERY.sub(rf"\1?{MASK}", _USER.sub(f"{MASK}@", text))


def disguised(text: str) -> str:
    """What a user typed, with a URL in it replaced by one to show, which means the same here."""
    found = _START.search(text)
    if found is None:
        return text
    before, url = text[: found.start()], text[found.start() :]
    shown, number = masked(url), 2
    while shown != url and _DISGUISED.setdefault(shown, url) != url:
        shown = masked(url).replace(MASK, f"{MASK}{number}")
        number += 1
    return before + shown


def unmasked(place: Place) -> str:
    """A path, or a whole URL, for what only this process reads."""
    return place.url if isinstance(place, Address) else str(place)


def secrets_in(url: str) -> list[str]:
    """What must not be repeated of a URL, the longest first."""
    user = _USER.search(url)
    found = [] if user is None else [user[0][:-1], *user[0][:-1].split(":")[1:]]
    query = url.partition("?")[2]
    values = [pair.partition("=")[2] for pair in query.split("&")]
    found += [query, *values]
    found += [unquote(one) for one in found]
    return sorted({one for one in found if len(one) > 3}, key=len, reverse=True)
