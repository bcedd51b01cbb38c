"""Pickles that ``torch.save`` does not write, and tensors that the model file does not hold."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
import torch_archives as made
from torch_archives import refusal

from egl_fast.checkpoint import read_torch


def laughs() -> bytes:
    """Lists of ten times the list before, thirty times over: 10^30 values in 700 instructions."""
    program = made.EMPTY_LIST + b"q\x00"
    for place in range(30):
        refer = pickle.BINGET + bytes([place])
        program += pickle.EMPTY_LIST + pickle.MARK + 10 * refer + pickle.APPENDS
        program += pickle.BINPUT + bytes([place + 1])
    return program


PROGRAMS: dict[str, tuple[bytes, str]] = {
    "a billion laughs": (laughs(), "makes no sense"),
    "a billion laughs, alone": (b"(" + laughs() + b"l", "(LIST)"),
    "a list that holds itself": (b"]q\x00h\x00a", "deep"),
    "lists 100,000 deep": (100_000 * b"]" + 99_999 * b"a", "is nested more than 50 deep"),
    "tuples 100,000 deep": (b")" + 100_000 * b"\x85", "is nested more than 50 deep"),
    "a key that is nested too deeply to be hashed": (
        b"}" + b")" + 100_000 * b"\x85" + b"Ns", "keys are not strings or integers"),
    "a number of 2,000 bits": (made.number(2**2000), "contains a number of 2001 bits"),
    "a number of 10 MB": (
        b"\x8b" + struct.pack("<i", 2**21) + bytes(2**21 - 1) + b"\x01", "(LONG4)"),
    "a decimal number": (b"I" + 1000 * b"9" + b"\n", "(INT)"),
    "a string longer than the file": (
        pickle.BINUNICODE + struct.pack("<I", 2**32 - 1) + b"abc", "expected 4294967295 bytes"),
    "a string of 2^60 bytes": (pickle.BINUNICODE8 + struct.pack("<Q", 2**60) + b"abc", "bytes"),
    "more than 4 MiB": (pickle.BINUNICODE + struct.pack("<I", 2**23) + bytes(2**23), "4 MiB"),
    "half a million instructions": (500_000 * b"N", "more than 300,000 instructions"),
    "a place in the memo far away": (b"Nr" + struct.pack("<I", 2**32 - 1) + b"0", "(POP)"),
    "a memo that is empty": (b"h\x07", "makes no sense"),
    "an empty stack": (b"a", "makes no sense"),
    "no mark": (b"NNt", "makes no sense"),
    "a mark that is left": (b"(", "makes no sense"),
    "two results": (b"NN", "makes no sense"),
    "an odd number of keys and values": (b"}(NNNu", "keys are not strings"),
    "appending to a dictionary": (b"}Na", "makes no sense"),
    "an unknown instruction": (b"\xff", "unknown"),
    "a protocol of the future": (b"\x95" + struct.pack("<Q", 1) + b"N", "(FRAME)"),
    "an object": (b"(" + made.named("os", "system") + b"o", "names code ('os.system')"),
    "an instance": (b"(ios\nsystem\n", "(INST)"),
    "a new object": (made.named("builtins", "bytearray") + b")\x81", "('builtins.bytearray')"),
    "an extension": (b"\x82\x01", "(EXT1)"),
    "10 GB from 10 bytes": (
        made.named("builtins", "bytearray") + made.number(10**10) + b"\x85R",
        "names code ('builtins.bytearray')"),
    "a storage from its size": (
        made.named("torch", "FloatStorage") + made.number(10**12) + b"\x85R", "makes no sense"),
    "a name alone": (made.named("torch", "FloatStorage"), "makes no sense"),
    "numbers alone": (made.storage("0", 4 * 41 * 11), "makes no sense"),
    "numbers that another object stands for": (b"}Q", "makes no sense"),
    "a tensor from numbers that are not": (
        made.named("torch._utils", "_rebuild_tensor_v2") + b"(NNNNtR", "makes no sense"),
    "a name of a million letters": (made.named("x" * 10**6, "\x1b"), "names code ('xxxx"),
}  # fmt: skip


@pytest.mark.parametrize("what", PROGRAMS)
def test_pickles_that_torch_save_does_not_write_are_refused(
    tmp_path: Path, model_content: dict[str, Any], what: str
) -> None:
    program, cause = PROGRAMS[what]
    archive = made.with_program(made.saved(model_content), made.PROTO + program + made.STOP)
    assert cause in refusal(made.changed(tmp_path, archive))


def test_a_billion_laughs_inside_a_checkpoint_are_refused(
    tmp_path: Path, model_content: dict[str, Any]
) -> None:
    laugh: list[Any] = []
    for _ in range(30):
        laugh = [laugh] * 10
    for key in ("training", "vocabulary", "model"):
        archive = made.saved({**model_content, key: {"x": laugh}})
        assert "over and over" in refusal(made.changed(tmp_path, archive))


@pytest.mark.parametrize("protocol", [0, 1, 3, 4, 5])
def test_pickles_of_other_protocols_are_refused(
    tmp_path: Path, model_content: dict[str, Any], protocol: int
) -> None:
    program = pickle.dumps({"format": "x", "n": [1, 2.5, None, 10**20]}, protocol=protocol)
    archive = made.with_program(made.saved(model_content), program)
    assert "is not an egl-fast checkpoint" in refusal(made.changed(tmp_path, archive))


#: The file's part "0" holds sixteen numbers, 64 bytes.
TENSORS: dict[str, tuple[bytes, str]] = {
    "more numbers than the part has": (
        made.tensor(made.storage("0", 10**12), offset=0, size=[16], stride=[1]),
        "claims 1000000000000 numbers of 4 bytes in the 64 bytes of its part '0'"),
    "numbers of another width": (
        made.tensor(made.storage("0", 16, "DoubleStorage"), offset=0, size=[8], stride=[1]),
        "claims 16 numbers of 8 bytes in the 64 bytes"),
    "a part that is not there": (
        made.tensor(made.storage("9", 16), offset=0, size=[16], stride=[1]),
        "lacks its part 'data/9'"),
    "a part by way of its folder": (
        made.tensor(made.storage("../data.pkl", 16), offset=0, size=[16], stride=[1]),
        "lacks its part 'data/../data.pkl'"),
    "16 numbers that claim 10^12": (
        made.tensor(made.storage("0", 16), offset=0, size=[10**6, 10**6], stride=[0, 0]),
        "of shape [1000000, 1000000] in a part of 16 numbers"),
    "numbers beyond the end": (
        made.tensor(made.storage("0", 16), offset=9, size=[8], stride=[1]), "in a part of 16"),
    "numbers far beyond the end": (
        made.tensor(made.storage("0", 16), offset=2**61, size=[1], stride=[1]), "in a part of 16"),
    "an offset that overflows": (
        made.tensor(made.storage("0", 16), offset=2**100, size=[1], stride=[1]), "no sense"),
    "a stride that overflows": (
        made.tensor(made.storage("0", 16), offset=0, size=[1], stride=[2**63]), "no sense"),
    "a stride below zero": (
        made.tensor(made.storage("0", 16), offset=8, size=[2], stride=[-1]), "no sense"),
    "a size below zero": (
        made.tensor(made.storage("0", 16), offset=0, size=[-4, -4], stride=[1, 1]), "no sense"),
    "a huge stride": (
        made.tensor(made.storage("0", 16), offset=0, size=[2], stride=[2**61]), "in a part of 16"),
    "sizes whose product overflows": (
        made.tensor(made.storage("0", 16), offset=0, size=[2**32, 2**32], stride=[0, 0]),
        "in a part of 16"),
    "no numbers, in a strange shape": (
        made.tensor(made.storage("0", 16), offset=0, size=[0, 2**61], stride=[0, 0]), "no sense"),
    "more dimensions than strides": (
        made.tensor(made.storage("0", 16), offset=0, size=[4, 4], stride=[1]), "no sense"),
    "a hundred dimensions": (
        made.tensor(made.storage("0", 16), offset=0, size=100 * [1], stride=100 * [1]), "no sense"),
    "the same numbers twice": (
        made.tuple_of(*2 * [made.tensor(made.storage("0", 16), offset=0, size=[16], stride=[1])]),
        "tensors that share their numbers"),
}  # fmt: skip


@pytest.mark.parametrize("what", TENSORS)
def test_tensors_that_are_not_in_the_file_are_refused(tmp_path: Path, what: str) -> None:
    program, cause = TENSORS[what]
    archive = made.with_program(
        made.saved({"x": torch.arange(16.0)}), made.PROTO + program + made.STOP
    )
    assert cause in refusal(made.changed(tmp_path, archive))


def test_a_tensor_of_any_strides_inside_the_file_is_read(tmp_path: Path) -> None:
    whole = torch.arange(24.0)
    pieces = {"transposed": whole.clone().view(4, 6).T, "part": whole.clone()[3:9:2]}
    path = made.changed(tmp_path, made.saved(pieces))
    read = read_torch(path)
    for name, tensor in pieces.items():
        assert torch.equal(read[name], tensor)
