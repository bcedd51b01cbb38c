"""Exceptions: one tree, importable from the package."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import pickle
import pkgutil
from collections.abc import Iterator

import egl_fast
from egl_fast import errors
from egl_fast.files.locking import LockHeldError
from egl_fast.torch_file.archive import NotATorchFileError


def test_all_exceptions_are_subclasses_of_one() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    assert len(kinds) > 5
    assert all(issubclass(kind, errors.EglError) for kind in kinds)


def test_errors_are_importable_from_the_package() -> None:
    own = {n for n, x in vars(errors).items() if isinstance(x, type) and issubclass(x, Exception)}
    assert own <= set(egl_fast.__all__)
    assert all(getattr(egl_fast, name) is getattr(errors, name) for name in own)


def test_every_exception_survives_pickling() -> None:
    """Ray and multiprocessing send exceptions from worker to driver."""
    for module in pkgutil.walk_packages(egl_fast.__path__, "egl_fast."):
        with contextlib.suppress(ImportError, errors.MissingExtraError):
            if not module.name.endswith(".__main__"):
                importlib.import_module(module.name)
    kinds = set(own_exceptions(Exception))
    assert {errors.EglError, LockHeldError, NotATorchFileError} <= kinds
    for kind in kinds:
        has_init = inspect.isfunction(kind.__init__)
        error = kind(*(list(inspect.signature(kind).parameters) if has_init else ["message"]))
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is kind
        assert (str(again), vars(again)) == (str(error), vars(error)), kind


def own_exceptions(kind: type[Exception]) -> Iterator[type[Exception]]:
    for subclass in kind.__subclasses__():
        if subclass.__module__.startswith("egl_fast"):
            yield subclass
        yield from own_exceptions(subclass)
