"""Plain values and tensors from the pickle of a torch file, without running it.

A pickle is a program for a stack machine, and ``pickle.load`` calls whatever the program names.
This machine knows the instructions that ``torch.save`` writes for numbers, strings, lists, tuples,
dictionaries, and dense tensors, and calls nothing. What it builds takes no more memory than a small
multiple of the file:

- The program is short (``MAX_PROGRAM_BYTES``, ``MAX_STEPS``), and so is every number in it.
- A tensor lies inside the numbers in the file, and no two tensors share them.
- A value may occur in several places, but the result cannot grow that way: written out, it has
  hardly more values than the program has instructions, and nesting is limited.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from egl_fast.display import shown


class NamesCodeError(ValueError):
    """The pickle names something to call, as that of a model saved whole does."""


MAX_PROGRAM_BYTES: Final = 2**22
MAX_STEPS: Final = 300_000
MAX_DEPTH: Final = 50

#: Our files contain no integers of more than 128 bits; seeds have 64.
_MAX_INTEGER: Final = 2**127

_STORAGES: Final = {
    "torch FloatStorage": torch.float32,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch DoubleStorage": torch.float64,
    "torch LongStorage": torch.int64,
    "torch IntStorage": torch.int32,
    "torch ShortStorage": torch.int16,
    "torch CharStorage": torch.int8,
    "torch ByteStorage": torch.uint8,
}
_TENSOR: Final = "torch._utils _rebuild_tensor_v2"
_PARAMETER: Final = "torch._utils _rebuild_parameter"
_ORDERED: Final = "collections OrderedDict"

#: Instructions that put their argument, or a constant, on the stack.
_PUSH: Final = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"}
_CONSTANTS: Final[dict[str, Callable[[], Any]]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
_TUPLES: Final = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}

_MARK: Final = object()


@dataclass(frozen=True)
class _Name:
    """Something importable that the program names."""

    name: str


@dataclass
class _Storage:
    """The numbers of one tensor, as stored in the file."""

    numbers: Tensor
    taken: bool = False


def plain_content(program: bytes, read_member: Callable[[str], bytes]) -> Any:
    """What a pickle written by ``torch.save`` describes.

    Args:
        program: the pickle.
        read_member: the bytes of a storage, by its key.

    Returns:
        Numbers, strings, None, lists, tuples, dictionaries with strings or integers as keys, and
        dense tensors on the CPU that share no memory.

    Raises:
        ValueError: the program names anything else, or is damaged; the message says how.
    """
    if len(program) > MAX_PROGRAM_BYTES:
        raise ValueError(f"its index has more than {MAX_PROGRAM_BYTES >> 20} MiB")
    machine = _Machine(read_member)
    steps = 0
    try:
        for opcode, argument, _ in pickletools.genops(program):
            steps += 1
            if steps > MAX_STEPS:
                raise ValueError(f"its index has more than {MAX_STEPS:,} instructions")
            machine.step(opcode.name, argument)
        content = machine.result()
    except (IndexError, KeyError):
        raise ValueError("its index makes no sense") from None
    _check_size(content, limit=10_000 + 2 * steps)
    return content


class _Machine:
    """Stack, memo, and storages of a running program."""

    def __init__(self, read_member: Callable[[str], bytes]) -> None:
        self.read_member = read_member
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, _Storage] = {}

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _PUSH:
            if isinstance(argument, int) and not -_MAX_INTEGER <= argument < _MAX_INTEGER:
                raise ValueError(f"contains a number of {argument.bit_length()} bits")
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _TUPLES:
            stack.append(tuple(self._pop(_TUPLES[name])))
        elif name == "TUPLE":
            stack.append(tuple(self._pop_to_mark()))
        elif name in ("APPEND", "APPENDS"):
            items = self._pop(1) if name == "APPEND" else self._pop_to_mark()
            self._top(list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._pop(2) if name == "SETITEM" else self._pop_to_mark()
            self._top(dict).update(_pairs(items))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self._top(object)
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "GLOBAL":
            if argument not in (*_STORAGES, _TENSOR, _PARAMETER, _ORDERED):
                raise _refusal(argument)
            stack.append(_Name(argument))
        elif name == "BINPERSID":
            stack.append(self._storage(*self._pop(1)))
        elif name == "REDUCE":
            stack.append(_made(*self._pop(2)))
        elif name == "BUILD":
            # Attributes of an ordered dictionary (versions of modules), which are never read.
            self._pop(1)
            self._top(dict)
        elif name not in ("PROTO", "STOP"):
            raise ValueError(
                f"its index has an instruction ({name}) that torch.save does not write"
            )

    def result(self) -> Any:
        (content,) = self._pop(1)
        if self.stack:
            raise ValueError("its index makes no sense")
        return content

    def _pop(self, count: int) -> list[Any]:
        items = self.stack[-count:]
        if len(items) < count or any(item is _MARK for item in items):
            raise ValueError("its index makes no sense")
        del self.stack[-count:]
        return items

    def _pop_to_mark(self) -> list[Any]:
        items = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def _top(self, kind: type) -> Any:
        top = self.stack[-1]
        if not isinstance(top, kind) or top is _MARK:
            raise ValueError("its index makes no sense")
        return top

    def _storage(self, identity: Any) -> _Storage:
        """The numbers that ("storage", type, key, device, count) refers to."""
        match identity:
            case ("storage", _Name(name), str(key), str(), int(count)) if name in _STORAGES:
                pass
            case _:
                raise ValueError("its index makes no sense")
        if key not in self.storages:
            dtype = _STORAGES[name]
            content = bytearray(self.read_member(key))
            if len(content) != count * dtype.itemsize:
                raise ValueError(
                    f"claims {shown(count)} numbers of {dtype.itemsize} bytes in the "
                    f"{len(content)} bytes of its part {shown(key)}"
                )
            if not content:
                raise ValueError(f"has no numbers in its part {shown(key)}")
            # Copied, because torch aligns its own memory.
            self.storages[key] = _Storage(torch.frombuffer(content, dtype=dtype).clone())
        return self.storages[key]


def _refusal(name: str) -> ValueError:
    label = name.replace(" ", ".")
    if name.endswith("Storage") and name.startswith("torch "):
        return ValueError(f"contains numbers of a type ({shown(label)}) that no model file has")
    if name.startswith("torch._utils _rebuild"):
        return ValueError(f"contains a tensor that is not dense ({shown(label)})")
    return NamesCodeError(f"names code ({shown(label)}), which no model file does")


def _pairs(items: list[Any]) -> dict[Any, Any]:
    keys = items[::2]
    # Anything else might be nested too deeply to be hashed.
    if len(items) % 2 != 0 or not all(isinstance(key, (str, int)) for key in keys):
        raise ValueError("has a dictionary whose keys are not strings or integers")
    return dict(zip(keys, items[1::2], strict=True))


def _made(function: Any, arguments: Any) -> Any:
    """The results of the functions that a program may name."""
    match function, arguments:
        case _Name(name), () if name == _ORDERED:
            return {}
        case _Name(name), (Tensor() as data, *_) if name == _PARAMETER:
            return data
        case _Name(name), (_Storage() as storage, int(offset), tuple(size), tuple(stride), *_) if (
            name == _TENSOR
        ):
            return _tensor(storage, offset, size, stride)
        case _:
            raise ValueError("its index makes no sense")


def _tensor(
    storage: _Storage, offset: int, size: tuple[Any, ...], stride: tuple[Any, ...]
) -> Tensor:
    numbers = (offset, *size, *stride)
    if (
        not all(type(number) is int and 0 <= number < 2**62 for number in numbers)
        or len(size) != len(stride)
        or len(size) > 8
        or 0 in size
    ):
        raise ValueError(f"has a tensor whose shape makes no sense ({shown(list(size))})")
    if storage.taken:
        raise ValueError("has tensors that share their numbers")
    storage.taken = True
    available = storage.numbers.numel()
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if math.prod(size) > available or last >= available:
        raise ValueError(
            f"has a tensor of shape {shown(list(size))} in a part of {available} numbers"
        )
    return storage.numbers.as_strided(size, stride, offset).contiguous()


def _check_size(content: Any, *, limit: int) -> None:
    """Refuse values that are nested too deeply, contain themselves, or repeat others too often."""
    waiting = [(content, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"is nested more than {MAX_DEPTH} deep")
        if isinstance(value, (_Name, _Storage)):
            raise ValueError("its index makes no sense")
        if isinstance(value, (dict, list, tuple)):
            limit -= len(value)
            if limit < 0:
                raise ValueError("contains the same values over and over")
            items = value.values() if isinstance(value, dict) else value
            waiting += [(item, depth + 1) for item in items]
