"""Inputs that nobody would write, for property tests, and what may become of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from hypothesis import settings
from hypothesis import strategies as st

from egl_fast.errors import EglError

#: So few that all property tests together take seconds; EGL_EXAMPLES=5000 looks for more.
few = settings(max_examples=int(os.environ.get("EGL_EXAMPLES", "40")))

#: What parsers stumble over, of any format.
FRAGMENTS = [
    *(b"", b"\n", b"\r\n", b"\r", b"\0", b" ", b"\t", b",", b";", b'"', b"'", b"=", b"\\", b"::"),
    *(b"{", b"}", b"[", b"]", b"[{", b"[" * 3000, b'{"a":' * 3000, b"null", b"true", b"NaN"),
    *(b"-1", b"0", b"1e999", b"1e-400", b"nan", b"inf", b"\xc2\xb2", b"0x" + b"f" * 5000),
    *(b"9" * 5000, b"0." + b"1" * 5000, b"x" * 300, b"x/" * 3000, b"../", b"/"),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\xff", b"\xed\xa0\x80"),
    *(b'"\\ud800"', b"\xe2\x80\xa8", b"\x1b[2J", b"\x1f\x8b", b"PAR1", b"ARROW1", b"PK\x03\x04"),
]  # fmt: skip

fragments = st.sampled_from(FRAGMENTS) | st.binary(max_size=8)


@st.composite
def mutated(draw: Callable[[Any], Any], valid: bytes, fragments: st.SearchStrategy[bytes]) -> bytes:
    """Valid bytes of which a few pieces are cut out, or replaced by a fragment."""
    content = valid
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        length = draw(st.sampled_from([0, 1, 2, 8, len(content)]))
        content = content[:start] + draw(fragments) + content[start + length :]
    return content


def any_bytes(*valid: bytes, also: Sequence[bytes] = ()) -> st.SearchStrategy[bytes]:
    """Bytes near to one of these, or any; ``also``: fragments of this format."""
    pieces = st.sampled_from(also) | fragments if also else fragments
    near = st.sampled_from(valid).flatmap(lambda one: mutated(one, pieces))
    return near | st.lists(pieces, max_size=8).map(b"".join)


#: Values of JSON that may be where another is expected.
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from(
        [0, -1, 2**63, 10**400, 1e300, -0.5, "", "x" * 300, "\ud800", "a\0", "\n", "²"]
    )
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


def places(value: Any) -> list[tuple[Any, ...]]:
    """The paths to all values inside a value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, item in inside:
        found.append((key,))
        if isinstance(item, (dict, list)):
            found += [(key, *rest) for rest in places(item)]
    return found


@st.composite
def with_another_value(draw: Callable[[Any], Any], *valid: dict[str, Any]) -> dict[str, Any]:
    """One of these objects, of which a value is replaced, or lost."""
    changed: dict[str, Any] = json.loads(json.dumps(draw(st.sampled_from(valid))))
    for _ in range(draw(st.integers(1, 2))):
        *path, last = draw(st.sampled_from(places(changed)))
        holder: Any = changed
        for key in path:
            holder = holder[key]
        if draw(st.integers(0, 4)) == 0:
            del holder[last]
        else:
            holder[last] = draw(json_values)
        if not changed:
            break
    return changed


def as_lines(*records: Any) -> bytes:
    """JSON Lines of any values."""
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def value_or_line(read: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What a parser makes of an input; None if it refuses it in one line, as it must."""
    try:
        return read(*arguments, **options)
    except (EglError, click.UsageError) as error:
        message = error.format_message() if isinstance(error, click.UsageError) else str(error)
        assert message.strip()
        # The command escapes the line ends of what it was given.
        given = [one for one in arguments if isinstance(one, str)]
        assert "\n" not in message or any("\n" in one for one in given)
        return None


def put(folder: Path, **files: bytes) -> None:
    """Make a folder hold these files and no others."""
    for old in folder.iterdir():
        if old.is_file():
            old.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)
