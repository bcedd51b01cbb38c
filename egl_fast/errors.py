"""Every error that egl_fast raises on purpose.

The message of an ``EglError`` is for the user: one line that names what is wrong and how to fix it.
The command line prints it without a traceback and exits with status 2. A programmer's wrong
arguments remain ``TypeError`` and ``ValueError``.
"""

from __future__ import annotations

import errno


class EglError(Exception):
    """Base of the errors whose message is meant for the user."""


class ExtensionError(EglError):
    """The native extension is missing, or does not fit this torch."""


class DeviceError(EglError):
    """A device is unknown, or cannot be used here; the message says why."""


class ManifestError(EglError):
    """A manifest is missing, empty, or malformed; the message names the file and the line."""


class AudioError(EglError):
    """One recording cannot be read; where possible, the others are still processed."""


class CheckpointError(EglError):
    """A file is not an egl-fast checkpoint, is damaged, or has another format version."""


class ClusterError(EglError):
    """A Ray cluster cannot be joined, or its workers cannot be kept alive."""


class ModelError(EglError):
    """A model cannot be scored: its outputs, vocabulary, or parameters do not fit."""


class ProcessError(EglError):
    """Processes that train a model together were started differently, or one of them is lost."""


class OutputError(EglError):
    """An output cannot be written, or would overwrite an existing file."""


class SelectionError(EglError):
    """A budget or strategy does not fit the scores."""


class ConfigError(EglError):
    """A configuration is invalid; the message names the file, the line, and the key."""


class MissingExtraError(EglError):
    """A package of an optional extra is missing; the message names the extra."""


class ReportError(EglError):
    """A report cannot be made: a run folder lacks tables, or they contradict each other."""


_REMEDIES = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EFBIG: "raise the limit on file size (ulimit -f)",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENAMETOOLONG: "shorten the name",
}


def cannot_be_written(name: object, error: BaseException, *, remedy: str = "") -> OutputError:
    """The error for an output that the system refuses to write; ``remedy`` adds a way to fix it."""
    first = remedy_of(error)
    remedies = [first, remedy or ("" if first else "choose another place")]
    return OutputError(
        f"output {name}: cannot be written ({one_line(error)}); "
        + ", and ".join(part for part in remedies if part)
    )


def remedy_of(error: BaseException) -> str:
    """How to fix what the system complains about; empty if unknown."""
    return _REMEDIES.get(error.errno or 0, "") if isinstance(error, OSError) else ""


def one_line(error: BaseException) -> str:
    """An exception's message without line breaks, for use inside another message."""
    return " ".join(str(error).split()) or type(error).__name__
