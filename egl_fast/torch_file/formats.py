"""Recognizes what a file is that was given as a model but is not one of ours."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from egl_fast.files.signatures import RECORDING, SOUND, TAR, signature_of, text_kind

_LEGACY: Final = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_PICKLES: Final = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def format_of(start: bytes, suffix: str) -> str:
    """What a file other than a zip archive is, by its first 512 bytes and suffix; "" if unknown."""
    if start.startswith(_PICKLES):
        legacy = start.startswith(_LEGACY)
        return "a torch file of the form before torch 1.6" if legacy else "a pickle"
    found = signature_of(start)
    if found is not None:
        name = RECORDING if found.group == SOUND else found.name
        return f"{name}, as NeMo writes them" if name == TAR else name
    if start[8:10] == b'{"' and int.from_bytes(start[:8], "little") < 2**27:
        return "a safetensors file"
    if suffix == ".onnx" or (start[:1] == b"\x08" and start[2:3] == b"\x12"):
        return "an ONNX model"
    if start[4:8] == b"TFL3":
        return "a TensorFlow Lite model"
    if not start:
        return "an empty file"
    if not start.strip(b"\0"):
        return "a file of zeros"
    return text_kind(start) or ""


def archive_format(names: Iterable[str]) -> str:
    """What a zip archive is, if ``torch.save`` did not write it."""
    names = set(names)
    if any(name.rpartition("/")[2] == "constants.pkl" for name in names):
        return "a TorchScript archive"
    if any(name.rpartition("/")[2] == "archive_format" for name in names):
        return "an exported program"
    if "model.weights.h5" in names:
        return "a Keras model"
    if names and all(name.endswith(".npy") for name in names):
        return "a NumPy archive"
    return "a zip archive"


def folder_format(path: Path) -> str:
    """What a folder is."""
    if (path / "model.pt").is_file():
        return "a folder (give its model.pt)"
    if (path / "config.json").is_file():
        return "a folder of a Hugging Face model"
    if (path / "saved_model.pb").is_file():
        return "a folder of a TensorFlow model"
    return "a folder"


def content_format(content: Any) -> str:
    """What a torch file contains, if it is not one of our checkpoints."""
    if isinstance(content, Tensor):
        return "a torch file of one tensor"
    if not isinstance(content, dict):
        return "a torch file of something else"
    if {"checkpoint", "optimizer", "settings"} <= content.keys():
        return "the state of a training run (give the model.pt beside it)"
    if "pytorch-lightning_version" in content:
        return "a checkpoint of Lightning"
    if content and all(isinstance(value, Tensor) for value in content.values()):
        return "a torch file of weights alone"
    return "a torch file of something else"


def remedy(what: str, path: Path) -> str:
    """How to score with a model in another format, as named by the functions above; "" if unknown.

    Squared gradient norms need modules that torch can differentiate.
    """
    factory = "FILE.py:FACTORY, a function that builds"
    if what == "a folder of a Hugging Face model":
        give = f"hf:{path}"
    elif what == "a safetensors file":
        give = f"hf:{path.parent}, its folder"
    elif path.suffix == ".nemo":
        give = f"nemo:{path}"
    elif what in ("a TorchScript archive", "an ONNX model", "a TensorFlow Lite model"):
        give = f"{factory} the original model; this one has no gradients"
    elif what == "an exported program":
        give = f"{factory} the original model"
    elif what in ("a checkpoint of Lightning", "a torch file of weights alone"):
        give = f"{factory} the model and loads this file"
    else:
        return ""
    return f"to score with it, give {give}"
