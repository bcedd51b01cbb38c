"""What ``--model`` and ``Scorer.from_pretrained`` take, and which file loads it.

    FILE                    a model file that ``egl-fast train`` wrote
    hf:DIR                  a CTC model of Hugging Face, as ``save_pretrained`` writes it
    nemo:FILE.nemo          a CTC model of NeMo
    FILE.py:FACTORY         a function that returns a recognizer
    PACKAGE.MODULE:FACTORY  the same, in an installed package

``hf+pickle:DIR`` also reads weights that are a pickle, ``hf+trust_remote_code:DIR`` runs code that
comes with the model. Nothing here imports torch before a model is loaded.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from egl_fast.errors import ModelError

if TYPE_CHECKING:
    import torch

    from egl_fast.recognizers.recognizer import Recognizer

Kind = Literal["checkpoint", "hf", "nemo", "factory"]

#: What users may allow by name, as in ``hf+pickle:DIR``.
REQUESTS: Final = ("pickle", "trust_remote_code")

_HUGGING_FACE = re.compile(r"hf((?:\+\w+)*):(.*)", re.DOTALL)
_FACTORY = re.compile(r"(.+\.py|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)", re.DOTALL)


@dataclass(frozen=True)
class Spec:
    """A model as users name it.

    Attributes:
        kind: what loads it.
        source: file, folder, or module.
        factory: the function's name, "" for other kinds.
        requests: those of ``REQUESTS`` that the user allows.
    """

    kind: Kind
    source: str
    factory: str = ""
    requests: frozenset[str] = frozenset()

    @property
    def files(self) -> list[str]:
        """Files that loading it reads, as far as its name shows; nothing may overwrite them."""
        path = Path(self.source)
        if self.kind == "factory":
            return [self.source] if self.source.endswith(".py") else []
        if self.kind == "hf":
            return [str(file) for file in path.iterdir()] if path.is_dir() else []
        return [self.source]


def parse(text: str) -> Spec:
    """The model that a text names.

    Raises:
        ModelError: it asks for something unknown, or names nothing.

    Example:
        >>> parse("hf+pickle:models/wav2vec2").source
        'models/wav2vec2'
        >>> parse("mine.py:recognizer").factory
        'recognizer'
    """
    if text.endswith(".py"):
        raise ModelError(f"model {text}: name the function that makes the model: {text}:FUNCTION")
    if os.path.exists(text):
        return Spec("checkpoint", text)
    found = _HUGGING_FACE.fullmatch(text)
    if found is not None:
        requests = frozenset(found[1].split("+")[1:])
        for request in sorted(requests.difference(REQUESTS)):
            raise ModelError(
                f"model {text}: {request!r} is unknown; known are hf+{', hf+'.join(REQUESTS)}"
            )
        return Spec("hf", _named(found[2], text), requests=requests)
    if text.startswith("nemo:"):
        return Spec("nemo", _named(text.removeprefix("nemo:"), text))
    found = _FACTORY.fullmatch(text)
    if found is not None:
        return Spec("factory", os.path.expanduser(found[1]), found[2])
    return Spec("checkpoint", text)


def _named(source: str, text: str) -> str:
    if not source:
        raise ModelError(f"model {text}: names nothing; give hf:DIR or nemo:FILE.nemo")
    return os.path.expanduser(source)  # which shells do at the start of a word only


def load_recognizer(text: str, *, device: torch.device) -> Recognizer:
    """Load the model that a text names.

    Raises:
        EglError: it is missing, damaged, or no CTC model; or something that it takes is missing.
    """
    spec = parse(text)
    if spec.kind == "hf":
        from egl_fast.recognizers import huggingface

        return huggingface.load(spec.source, requests=spec.requests, device=device)
    if spec.kind == "nemo":
        from egl_fast.recognizers import nemo

        return nemo.load(spec.source, device=device)
    if spec.kind == "factory":
        from egl_fast.recognizers import factory

        return factory.load(spec.source, spec.factory, device=device)
    from egl_fast.recognizers import checkpoint

    return checkpoint.load(spec.source, device=device)
