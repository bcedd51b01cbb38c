"""``FILE.py:FACTORY`` and ``PACKAGE.MODULE:FACTORY``: a recognizer that the user's code builds.

The factory takes no arguments. It returns a ``Recognizer``, or the arguments of ``Recognizer.of``
as a tuple (module, vocabulary, front end) or a dictionary.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from egl_fast.errors import EglError, ModelError, one_line
from egl_fast.recognizers.identity import identity_of
from egl_fast.recognizers.recognizer import Recognizer

_FORM = (
    "return (module, vocabulary, front_end), a dictionary of these and of blank and "
    "sample_rate_hz, or an egl_fast.Recognizer"
)


def load(source: str, factory: str, *, device: torch.device) -> Recognizer:
    """Run a factory. The user is responsible for what it and its module do.

    Args:
        source: a file that ends in ``.py``, or a module's name; beside the file and in the current
            folder, modules are found as by ``python FILE.py`` and ``python -m MODULE``.
        factory: the function's name there.
        device: where to put the model.

    Raises:
        ModelError: there is no such file, module or function, it fails, or it returns something
            else.
    """
    name = f"model {source}:{factory}"
    module = _imported(source, name)
    function = getattr(module, factory, None)
    if not callable(function):
        raise ModelError(f"{name}: {source} has no function {factory!r}; define it there")
    try:
        recognizer = _recognizer_of(function(), name)
        # Its own class may refuse both.
        recognizer.module.to(device).eval()
    except EglError as error:
        own = str(error)
        raise ModelError(own if own.startswith(name) else f"{name}: {own}") from error
    except Exception as error:
        raise _failed(name, error) from error
    if recognizer.sha256:
        return recognizer
    settings = {
        "source": _digest(module),
        "vocabulary": recognizer.classes.vocabulary,
        "blank": recognizer.classes.blank,
        "front_end": _settings_of(recognizer.front_end),
    }
    return replace(recognizer, sha256=identity_of(recognizer.module, settings))


def _imported(source: str, name: str) -> ModuleType:
    path = Path(source)
    try:
        if not source.endswith(".py"):
            _first_on_path(os.getcwd())
            return importlib.import_module(source)
        if not path.is_file():
            raise ModelError(f"{name}: no such file; give an existing one")
        _first_on_path(str(path.resolve().parent))
        spec = importlib.util.spec_from_file_location(f"_egl_fast_factory_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses and pickles look there
        spec.loader.exec_module(module)
        return module
    except EglError:
        raise
    except (Exception, SystemExit) as error:
        raise _failed(name, error) from error


def _first_on_path(folder: str) -> None:
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _recognizer_of(made: Any, name: str) -> Recognizer:
    if isinstance(made, Recognizer):
        return made
    if isinstance(made, nn.Module) or not isinstance(made, (tuple, list, Mapping)):
        raise ModelError(f"{name}: returned a {type(made).__name__}; {_FORM}")
    try:
        if isinstance(made, Mapping):
            return Recognizer.of(**made)
        return Recognizer.of(*made)
    except TypeError as error:
        raise ModelError(f"{name}: {one_line(error)}; {_FORM}") from None


def _failed(name: str, error: BaseException) -> ModelError:
    """What the user's code raised, and where."""
    where = ""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__]
    # If a library failed, the user's line that called it says more than the library's own line.
    own = [f for f in frames if "importlib" not in f.filename and "-packages" not in f.filename]
    if own:
        where = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})"
    return ModelError(f"{name}: failed with {type(error).__name__}: {one_line(error)}{where}")


def _digest(module: ModuleType) -> str:
    """A hash of the module's source, if it has a file."""
    path = getattr(module, "__file__", None)
    if path is None or not os.path.isfile(path):
        return ""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _settings_of(front_end: Any) -> Any:
    """What is known of a front end: its source is part of the module's, most likely."""
    config = getattr(front_end, "config", None)
    return [getattr(front_end, "sample_rate_hz", None), None if config is None else vars(config)]
