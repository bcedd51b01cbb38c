"""Files of other programs, given as a model, are named for what they are."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
import torch_archives as made
from torch_archives import refusal, zipped

from egl_fast.checkpoint import load_checkpoint
from egl_fast.errors import CheckpointError


def legacy(content: Any) -> bytes:
    return made.saved(content, _use_new_zipfile_serialization=False)


def nemo() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        file.addfile(tarfile.TarInfo("model_config.yaml"))
    return buffer.getvalue()


FOREIGN: dict[str, tuple[str, bytes, str]] = {
    "legacy": ("x.pt", legacy({"a": torch.zeros(3)}), "of the form before torch 1.6"),
    "TorchScript": (
        "x.pt", zipped({"x/data.pkl": b"N.", "x/constants.pkl": b").", "x/code/a.py": b""}),
        "a TorchScript archive"),
    "torch.export": (
        "x.pt2", zipped({"x/archive_format": b"pt2", "x/models/model.json": b"{}"}),
        "an exported program"),
    "safetensors": (
        "x.safetensors", struct.pack("<Q", 20) + b'{"a":{"dtype":"F32"}}' + bytes(50),
        "a safetensors file"),
    "ONNX": ("x.onnx", b"\x08\x08\x12\x07pytorch", "an ONNX model"),
    "NeMo": ("x.nemo", nemo(), "a tar archive, as NeMo writes them"),
    "NeMo, compressed": ("x.nemo", gzip.compress(nemo()), "compressed with gzip"),
    "Keras 2": ("x.h5", b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file, as Keras writes"),
    "Keras 3": (
        "x.keras", zipped({"config.json": b"{}", "model.weights.h5": b""}), "a Keras model"),
    "NumPy": ("x.npz", zipped({"a.npy": b""}), "a NumPy archive"),
    "a zip archive": ("x.zip", zipped({"a.txt": b""}), "a zip archive"),
    "a pickle": ("x.pkl", pickle.dumps([1, 2]), "a pickle"),
    "GGUF": ("x.gguf", b"GGUF" + bytes(50), "a GGUF file"),
    "an LFS pointer": (
        "base.pt", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "a page": ("base.pt", b"\n<!DOCTYPE html><html>not found</html>", "an HTML page"),
    "a recording": ("x.wav", b"RIFF" + bytes(40), "a recording"),
    "an empty file": ("x.pt", b"", "an empty file"),
    "zeros": ("x.pt", bytes(600), "a file of zeros"),
    "text": ("x.pt", b"hello\n", "is not an egl-fast checkpoint but text;"),
    "a pickle of nothing": ("x.pkl", b"\x80\x04.", "is not an egl-fast checkpoint"),
    "the start of a zip archive": (
        "x.pt", b"PK\x03\x04" + bytes(50), "is not an egl-fast checkpoint"),
    "a list": ("x.pt", made.saved([1]), "a torch file of something else"),
    "a tensor": ("x.pt", made.saved(torch.zeros(3)), "but a torch file of"),
    "a dictionary": ("x.pt", made.saved({"a": 1}), "but a torch file of"),
    "another format": ("x.pt", made.saved({"format": "else"}), "but a torch file of"),
    "weights alone": (
        "x.pt", made.saved(torch.nn.Linear(2, 2).state_dict()), "a torch file of weights alone"),
    "Lightning": (
        "x.ckpt", made.saved({"state_dict": {}, "pytorch-lightning_version": "2"}), "of Lightning"),
    "a whole model": (
        "x.pt", made.saved(torch.nn.Linear(2, 2)), "a model saved whole, give FILE.py:FACTORY"),
    "a training state": (
        "last.pt", made.saved({"checkpoint": {}, "optimizer": {}, "settings": {}}),
        "the state of a training run (give the model.pt beside it)"),
}  # fmt: skip


#: How to score with some of them.
REMEDIES = {
    "TorchScript": "builds the original model; this one has no gradients",
    "ONNX": "builds the original model; this one has no gradients",
    "torch.export": "builds the original model",
    "safetensors": ", its folder",
    "NeMo": "x.nemo",
    "NeMo, compressed": "x.nemo",
    "weights alone": "builds the model and loads this file",
    "Lightning": "builds the model and loads this file",
}


@pytest.mark.parametrize("what", FOREIGN)
def test_what_other_programs_write_is_named(tmp_path: Path, what: str) -> None:
    name, start, cause = FOREIGN[what]
    path = tmp_path / name
    path.write_bytes(start)
    remedy = REMEDIES.get(what)
    message = refusal(path) if remedy is None else refusal(path, remedy=remedy)
    assert "is not an egl-fast checkpoint" in message
    assert cause in message
    assert ("to score with it, give " in message) == (what in REMEDIES)


@pytest.mark.parametrize(
    ("file", "cause"),
    [
        ("config.json", "a folder of a Hugging Face model"),
        ("model.pt", "a folder (give its model.pt)"),
        ("saved_model.pb", "a folder of a TensorFlow model"),
        ("other", "but a folder;"),
    ],
)
def test_folders_are_named(tmp_path: Path, file: str, cause: str) -> None:
    (tmp_path / file).touch()
    if file == "config.json":
        assert cause in refusal(tmp_path, remedy=f"give hf:{tmp_path}")
    else:
        assert cause in refusal(tmp_path)


def test_pipes_and_names_that_no_file_has_are_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "a pipe or device" in refusal(tmp_path / "pipe")
    for name in ("a\0b", "a/b", "\udcff"):
        with pytest.raises(CheckpointError, match="no such file"):
            load_checkpoint(tmp_path / name)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path / ("n" * 300))
