"""``python -m egl_fast``: the same as the ``egl-fast`` command."""

from egl_fast.cli.main import program

program()
