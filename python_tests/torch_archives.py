"""Torch files built by hand, with any pickle and members, so that tests can forge each part."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from egl_fast.checkpoint import load_checkpoint
from egl_fast.errors import CheckpointError

ROOT = "archive"

#: Instructions of a pickle; ``pickle`` spells them as bytes.
EMPTY_LIST, APPEND, STOP = pickle.EMPTY_LIST, pickle.APPEND, pickle.STOP
PROTO = pickle.PROTO + b"\x02"


def saved(content: Any, **options: Any) -> bytes:
    """What ``torch.save`` writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def members_of(archive: bytes) -> dict[str, bytes]:
    """The members of a torch file by their names below its folder."""
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        return {name.partition("/")[2]: file.read(name) for name in file.namelist()}


def archive_of(members: Mapping[str, bytes], *, root: str = ROOT) -> bytes:
    """A torch file with these members and correct checksums."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(f"{root}/{name}", content)
    return buffer.getvalue()


def with_program(archive: bytes, program: bytes) -> bytes:
    """A torch file with another pickle, but the same tensor data."""
    return archive_of({**members_of(archive), "data.pkl": program})


def string(text: str) -> bytes:
    """The instruction that puts a string on the stack."""
    encoded = text.encode("utf-8", "surrogatepass")
    return pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded


def number(value: int) -> bytes:
    """The instruction that puts an integer on the stack."""
    encoded = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return pickle.LONG1 + bytes([len(encoded)]) + encoded


def named(module: str, name: str) -> bytes:
    """The instruction that puts something importable on the stack."""
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def tuple_of(*items: bytes) -> bytes:
    """Instructions that put a tuple on the stack."""
    return pickle.MARK + b"".join(items) + pickle.TUPLE


def storage(key: str, count: int, kind: str = "FloatStorage") -> bytes:
    """Instructions that put the numbers of a member ``data/KEY`` on the stack."""
    identity = (string("storage"), named("torch", kind), string(key), string("cpu"), number(count))
    return tuple_of(*identity) + pickle.BINPERSID


def tensor(numbers: bytes, *, offset: int, size: list[int], stride: list[int]) -> bytes:
    """Instructions that put a tensor on the stack."""
    arguments = (
        numbers,
        number(offset),
        tuple_of(*map(number, size)),
        tuple_of(*map(number, stride)),
        pickle.NEWFALSE,
        named("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE,
    )
    return named("torch._utils", "_rebuild_tensor_v2") + tuple_of(*arguments) + pickle.REDUCE


def changed(folder: Path, archive: bytes) -> Path:
    """Write these bytes to a file."""
    path = folder / "changed.pt"
    path.write_bytes(archive)
    return path


def refusal(path: Path, *, remedy: str = "give a file that `egl-fast train` wrote") -> str:
    """The one line, ending in the remedy, with which a file is refused as a model."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"model {path}: ")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 400
    assert message.endswith(remedy)
    return message


def zipped(members: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, value in members.items():
            file.writestr(name, value)
    return buffer.getvalue()


class Attack:
    """Pickles as a call of ``os.mkdir``."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)
