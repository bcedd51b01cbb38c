"""Exceptions: one tree, importable from the package."""

from __future__ import annotations

import inspect

import egl_fast
from egl_fast import errors


def test_all_exceptions_are_subclasses_of_one() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    assert len(kinds) > 5
    assert all(issubclass(kind, errors.EglError) for kind in kinds)


def test_errors_are_importable_from_the_package() -> None:
    own = {n for n, x in vars(errors).items() if isinstance(x, type) and issubclass(x, Exception)}
    assert own <= set(egl_fast.__all__)
    assert all(getattr(egl_fast, name) is getattr(errors, name) for name in own)
