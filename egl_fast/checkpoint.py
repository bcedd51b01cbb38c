"""The model file: weights, configuration and vocabulary in one dictionary, nothing executable.

Format (``FORMAT_VERSION`` 1), written by ``torch.save`` and read with ``weights_only=True``:

    format            "egl-fast checkpoint"
    format_version    int
    model             fields of ModelConfig
    features          fields of FeatureConfig
    vocabulary        list of str, blank first
    state_dict        name -> tensor; floating-point tensors may be half precision
    training          facts about the training run: plain numbers and strings
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from egl_fast import atomic
from egl_fast.errors import CheckpointError, ModelError, one_line
from egl_fast.features import FeatureConfig
from egl_fast.model import ConvShape, DeepSpeech2, ModelConfig

FORMAT = "egl-fast checkpoint"
FORMAT_VERSION = 1


@dataclass
class Checkpoint:
    """A model with all that is needed to run it.

    Attributes:
        model: in evaluation mode, float32.
        features: how to make its input.
        vocabulary: class names in index order; index 0 is the blank.
        training: facts about how it was trained.
        sha256: hash of the file it came from, "" for one that was never saved.
    """

    model: DeepSpeech2
    features: FeatureConfig
    vocabulary: tuple[str, ...]
    training: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""


def save_checkpoint(path: str | Path, checkpoint: Checkpoint, *, half: bool = False) -> None:
    """Write a model file atomically; ``half`` stores floating-point weights in 16 bits.

    Raises:
        OutputError: the file cannot be written.
    """
    write_torch(path, checkpoint_content(checkpoint, half=half))


def checkpoint_content(checkpoint: Checkpoint, *, half: bool = False) -> dict[str, Any]:
    """The dictionary of the module's docstring, with all tensors on the CPU."""
    state = {
        name: (tensor.half() if half and tensor.is_floating_point() else tensor).cpu()
        for name, tensor in checkpoint.model.state_dict().items()
    }
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": plain_config(checkpoint.model.config),
        "features": asdict(checkpoint.features),
        "vocabulary": list(checkpoint.vocabulary),
        "state_dict": state,
        "training": plain_values(checkpoint.training),
    }


def plain_values(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts as JSON would give them back: no tuples and no classes, which a file could not name."""
    plain: dict[str, Any] = json.loads(json.dumps(facts))
    return plain


def plain_config(config: ModelConfig) -> dict[str, Any]:
    """The configuration in lists, numbers and strings: named tuples would need their class."""
    shapes = [[list(shape.kernel), list(shape.stride)] for shape in config.conv_shapes]
    return {**asdict(config), "conv_shapes": shapes}


def load_checkpoint(path: str | Path, *, device: str | torch.device = "cpu") -> Checkpoint:
    """Read a model file. Nothing in it is executed.

    Raises:
        CheckpointError: the file is missing, damaged, not one of ours, or of another version.
    """
    path = Path(path)
    content = read_torch(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return checkpoint_from_content(content, path, sha256=digest, device=device)


def checkpoint_from_content(
    content: Any, path: Path, *, sha256: str = "", device: str | torch.device = "cpu"
) -> Checkpoint:
    """Build the model of a dictionary that was read from ``path``.

    Raises:
        CheckpointError: as for ``load_checkpoint``.
    """
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(
            f"model {path}: is no egl-fast checkpoint; give a file that `egl-fast train` wrote"
        )
    if content.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"model {path}: has format version {content.get('format_version')!r}, this egl-fast "
            f"reads version {FORMAT_VERSION}; use the egl-fast that wrote it"
        )
    try:
        shapes = tuple(
            ConvShape((kernel[0], kernel[1]), (stride[0], stride[1]))
            for kernel, stride in content["model"]["conv_shapes"]
        )
        model = DeepSpeech2(ModelConfig(**{**content["model"], "conv_shapes": shapes}))
        model.load_state_dict(content["state_dict"])
        features = FeatureConfig(**content["features"])
        vocabulary = tuple(str(name) for name in content["vocabulary"])
        training = dict(content["training"])
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError, ModelError) as error:
        raise CheckpointError(
            f"model {path}: is damaged ({type(error).__name__}: {one_line(error)})"
        ) from None
    if len(vocabulary) != model.config.num_classes or features.num_bins != model.config.num_bins:
        raise CheckpointError(f"model {path}: vocabulary, features and model do not fit together")
    model.float().eval().to(device)
    return Checkpoint(model, features, vocabulary, training, sha256)


def write_torch(path: str | Path, content: dict[str, Any]) -> None:
    """``torch.save``, atomically: a reader sees the old file or the new one, never a part.

    Raises:
        OutputError: the file cannot be written.
    """
    # Straight into a file, torch.save would not say what the system had against it.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic.replacing(Path(path)) as file:
        file.write(buffer.getbuffer())


def read_torch(path: Path) -> Any:
    """``torch.load`` of plain values and tensors.

    Raises:
        CheckpointError: the file is missing, or holds anything else.
    """
    if not path.is_file():
        raise CheckpointError(f"model {path}: no such file; give one that `egl-fast train` wrote")
    try:
        # All that torch.save writes today is a zip archive; torch.load warns about older forms at
        # length, and takes an archive's contents for right without looking at their checksums.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError, zlib.error):
        raise CheckpointError(
            f"model {path}: is no egl-fast checkpoint, or is cut short; copy it anew, or give a "
            "file that `egl-fast train` wrote"
        ) from None
    except OSError as error:
        raise CheckpointError(f"model {path}: cannot be read ({one_line(error)})") from None
    if damaged is not None:
        raise CheckpointError(
            f"model {path}: is damaged (checksum of {damaged}); copy it anew, or give another"
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # A damaged pickle can fail in any way at all.
        # torch's own message tells how to load the file unsafely: no advice to pass on.
        raise CheckpointError(
            f"model {path}: is no egl-fast checkpoint, or is damaged ({type(error).__name__}); "
            "copy it anew, or give a file that `egl-fast train` wrote"
        ) from None
