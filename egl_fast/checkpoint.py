"""The model file: weights, configuration, and vocabulary in one dictionary, nothing executable.

Format (``FORMAT_VERSION`` 1), written by ``torch.save``:

    format            "egl-fast checkpoint"
    format_version    int
    model             fields of ModelConfig
    features          fields of FeatureConfig
    vocabulary        list of str, blank first; see ``class_names``
    state_dict        name -> tensor; floating-point tensors may be half precision
    training          facts about the training run: plain numbers and strings
    trusted           [m, d] embeddings of recordings it was trained on; may be missing

Files may come from anyone. ``torch_file`` reads them without executing anything, in memory bounded
by the file's own size; every field is checked by the kind in its dataclass; and the model is built
from the file's own tensors, after they have the shapes that its configuration requires.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from egl_fast import kinds
from egl_fast.display import shortened, shown
from egl_fast.embeddings.spectrum import SIZE
from egl_fast.errors import CheckpointError, ModelError, one_line
from egl_fast.features import FeatureConfig
from egl_fast.files import atomic
from egl_fast.model import DeepSpeech2, ModelConfig
from egl_fast.torch_file import formats
from egl_fast.torch_file.archive import NotAnArchiveError, NotATorchFileError, torch_content
from egl_fast.torch_file.pickled import NamesCodeError
from egl_fast.vocabulary import class_names

FORMAT: Final = "egl-fast checkpoint"
FORMAT_VERSION: Final = 1

#: Larger files are refused. A training state of the largest model is smaller.
MAX_FILE_BYTES: Final = 16 * 10**9

_REMEDY: Final = "give a file that `egl-fast train` wrote"


@dataclass
class Checkpoint:
    """A model with everything needed to run it.

    Attributes:
        model: in evaluation mode, float32.
        features: how to make its input.
        vocabulary: class names in index order, blank first.
        training: facts about how it was trained.
        trusted: [m, d] embeddings, by this model, of recordings it was trained on (see
            ``training.trusted``); None if the file has none.
        sha256: hash of its file, "" if it was never saved.
    """

    model: DeepSpeech2
    features: FeatureConfig
    vocabulary: tuple[str, ...]
    training: dict[str, Any] = field(default_factory=dict)
    trusted: Tensor | None = None
    sha256: str = ""


def save_checkpoint(path: str | Path, checkpoint: Checkpoint, *, half: bool = False) -> None:
    """Write a model file atomically; ``half`` stores floating-point weights in 16 bits.

    Raises ``OutputError`` if the file cannot be written; otherwise see ``checkpoint_content``.
    """
    write_torch(path, checkpoint_content(checkpoint, half=half))


def checkpoint_content(checkpoint: Checkpoint, *, half: bool = False) -> dict[str, Any]:
    """The dictionary described above, with all tensors on the CPU.

    Raises:
        ModelError: a weight exceeds half precision.
        ValueError: the vocabulary is one that ``load_checkpoint`` would refuse.
    """
    state = checkpoint.model.state_dict()
    if half:
        largest = torch.finfo(torch.float16).max
        for name, tensor in state.items():
            if bool((tensor.abs() > largest).any()):
                raise ModelError(
                    f"weights {name}: reach {float(tensor.abs().max()):g}, but half precision only "
                    f"{largest:g}; save them in full precision"
                )
        state = {name: tensor.half() for name, tensor in state.items()}
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": plain_config(checkpoint.model.config),
        "features": asdict(checkpoint.features),
        "vocabulary": list(class_names(checkpoint.vocabulary)),
        "state_dict": {name: tensor.cpu() for name, tensor in state.items()},
        "training": plain_values(checkpoint.training),
    }
    if checkpoint.trusted is not None:
        content["trusted"] = _shortest(checkpoint.trusted.cpu())
    return content


def _shortest(embeddings: Tensor) -> Tensor:
    """Embeddings in half precision, if they fit; docs/typicality.md says what that changes."""
    half = embeddings.half()
    return half if bool(half.isfinite().all()) else embeddings


def plain_values(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts as read back from JSON: no tuples and no classes, which a file could not contain."""
    plain: dict[str, Any] = json.loads(json.dumps(facts))
    return plain


def plain_config(config: ModelConfig) -> dict[str, Any]:
    """A configuration in lists, numbers, and strings: named tuples would need their class."""
    shapes = [[list(shape.kernel), list(shape.stride)] for shape in config.conv_shapes]
    return {**asdict(config), "conv_shapes": shapes}


def load_checkpoint(path: str | Path, *, device: str | torch.device = "cpu") -> Checkpoint:
    """Read a model file. Nothing in it is executed.

    Raises:
        CheckpointError: the file is missing, damaged, not one of ours, or of another version; a
            field has a value that its kind refuses; or a weight is NaN or infinite.
    """
    path = Path(path)
    content = _read_bytes(path)
    digest = hashlib.sha256(content).hexdigest()
    return checkpoint_from_content(_parsed(content, path), path, sha256=digest, device=device)


def checkpoint_from_content(
    content: Any, path: Path, *, sha256: str = "", device: str | torch.device = "cpu"
) -> Checkpoint:
    """Build the model of a dictionary read from ``path``; raises ``CheckpointError``."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise _not_a_checkpoint(path, formats.content_format(content))
    version = content.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise CheckpointError(
            f"model {path}: has format version {shown(version)}, but this egl-fast "
            f"reads version {FORMAT_VERSION}; use the egl-fast that wrote it"
        )

    def part(name: str, read: Any) -> Any:
        if name not in content:
            raise _damaged(path, f"{name} is missing")
        try:
            return read(content[name])
        except (ValueError, ModelError) as error:
            raise _damaged(path, f"{name}: {error}") from None

    config: ModelConfig = part("model", lambda value: kinds.from_mapping(ModelConfig, value))
    features = part("features", lambda value: kinds.from_mapping(FeatureConfig, value))
    vocabulary = part("vocabulary", class_names)
    training = part("training", plain_facts)
    if len(vocabulary) != config.num_classes or features.num_bins != config.num_bins:
        raise CheckpointError(
            f"model {path}: vocabulary ({len(vocabulary)} classes), features "
            f"({features.num_bins} bins) and model ({config.num_classes} classes, "
            f"{config.num_bins} bins) do not fit together; {_REMEDY}"
        )
    model = part("state_dict", lambda state: _model_of(config, state))
    trusted = None
    if "trusted" in content:
        trusted = part("trusted", lambda value: _embeddings_by(model, value))
    return Checkpoint(model.eval().to(device), features, vocabulary, training, trusted, sha256)


def plain_facts(value: Any) -> dict[str, Any]:
    """Kind: a dictionary as in JSON: of numbers, strings, booleans, None, lists, and dictionaries.

    Values read from a file are never deep or cyclic, thanks to ``torch_file``.
    """
    if not isinstance(value, dict):
        raise ValueError(f"expected facts by name, got {shown(value)}")

    def check(fact: Any) -> None:
        if isinstance(fact, dict):
            for name, item in fact.items():
                if not isinstance(name, str):
                    raise ValueError(f"expected names that are strings, got {shown(name)}")
                check(item)
        elif isinstance(fact, list):
            for item in fact:
                check(item)
        elif not isinstance(fact, (str, int, float, type(None))):
            raise ValueError(f"expected plain values, got {shown(fact)}")

    check(value)
    return value


def _model_of(config: ModelConfig, state: Any) -> DeepSpeech2:
    """A float32 model with a file's weights; raises ``ValueError`` if they do not fit."""
    # On the meta device, tensors take no memory.
    with torch.device("meta"):
        model = DeepSpeech2(config)
    expected = model.state_dict()
    if not isinstance(state, Mapping):
        raise ValueError(f"expected tensors by name, got {shown(state)}")
    for name in expected:
        if name not in state:
            raise ValueError(f"{name} is missing")
    for name in state:
        if name not in expected:
            raise ValueError(f"{shown(name)} is not a weight of this model")
    if len({id(value) for value in state.values()}) != len(state):
        raise ValueError("has weights that share their numbers")
    weights = {name: _weights(name, value, expected[name]) for name, value in state.items()}
    model.load_state_dict(weights, assign=True)
    return model


def _embeddings_by(model: DeepSpeech2, value: Any) -> Tensor | None:
    rows, width = 1, 2 * model.output.in_features
    if isinstance(value, Tensor) and value.dim() == 2:
        rows, given = value.shape
        if given == width:
            return None  # early versions wrote no spectra: not comparable with today's
    return _numbers("embeddings", value, (rows, width + SIZE))


def _weights(name: str, value: Any, expected: Tensor) -> Tensor:
    weights = _numbers(name, value, expected.shape)
    if name.endswith(".running_var") and bool((weights < 0).any()):
        raise ValueError(f"{name}: contains a variance below 0")
    return weights


def _numbers(name: str, value: Any, shape: Sequence[int]) -> Tensor:
    """A weight in float32; raises ``ValueError``."""
    if not isinstance(value, Tensor):
        raise ValueError(f"{name}: expected a tensor, got {shown(value)}")
    if list(value.shape) != list(shape):
        raise ValueError(f"{name}: the model has shape {list(shape)}, the file {list(value.shape)}")
    if not value.is_floating_point():
        raise ValueError(f"{name}: expected floating-point numbers, got {value.dtype}")
    numbers = value.float()
    if not bool(numbers.isfinite().all()):
        raise ValueError(f"{name}: contains NaN or infinity")
    return numbers


def write_torch(path: str | Path, content: dict[str, Any]) -> None:
    """``torch.save``, atomically. Raises ``OutputError``."""
    # Writing to a file, torch.save would hide the system's error.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic.replacing(Path(path)) as file:
        file.write(buffer.getbuffer())


def read_torch(path: Path) -> Any:
    """What ``write_torch`` wrote, on the CPU. Raises ``CheckpointError``."""
    return _parsed(_read_bytes(path), path)


def _read_bytes(path: Path) -> bytes:
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise _not_a_checkpoint(path, formats.folder_format(path))
        if not stat.S_ISREG(status.st_mode):
            raise _not_a_checkpoint(path, "a pipe or device")
        with open(path, "rb") as file:
            start = file.read(512)
            if not start.startswith(b"PK"):
                raise _not_a_checkpoint(path, formats.format_of(start, path.suffix))
            if status.st_size > MAX_FILE_BYTES:
                raise _not_a_checkpoint(path, f"{status.st_size:,} bytes, more than any model has")
            file.seek(0)
            return file.read()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: NUL in the name
        raise CheckpointError(
            f"model {path}: no such file; give one that `egl-fast train` wrote"
        ) from None
    except (OSError, MemoryError) as error:
        raise CheckpointError(
            f"model {path}: cannot be read ({one_line(error)}); make it readable, or {_REMEDY}"
        ) from None


def _parsed(content: bytes, path: Path) -> Any:
    try:
        return torch_content(content)
    except NotAnArchiveError:
        raise CheckpointError(
            f"model {path}: is not an egl-fast checkpoint, or is cut short; copy it again, or "
            f"{_REMEDY}"
        ) from None
    except (MemoryError, RuntimeError):  # torch raises the latter
        raise CheckpointError(
            f"model {path}: does not fit into memory ({len(content):,} bytes); {_REMEDY}"
        ) from None
    except NotATorchFileError as error:
        raise _not_a_checkpoint(path, formats.archive_format(error.names)) from None
    except ValueError as error:
        # Python's own messages may quote offending values at length.
        what = shortened(one_line(error), 200)
        instead = "copy it again"
        if isinstance(error, NamesCodeError):
            instead = "for a model saved whole, give FILE.py:FACTORY, a function that loads it"
        raise CheckpointError(
            f"model {path}: is not an egl-fast checkpoint, or is damaged ({what}); "
            f"{instead}, or {_REMEDY}"
        ) from None


def _not_a_checkpoint(path: Path, what: str) -> CheckpointError:
    but = f" but {what}" if what else ""
    return CheckpointError(
        f"model {path}: is not an egl-fast checkpoint{but}; {formats.remedy(what, path) or _REMEDY}"
    )


def _damaged(path: Path, what: str) -> CheckpointError:
    return CheckpointError(f"model {path}: is damaged ({what}); {_REMEDY}")
