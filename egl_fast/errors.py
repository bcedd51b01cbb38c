"""Every error that egl_fast raises on purpose.

An ``EglError`` is a message for the person at the keyboard: one line that names the thing at
fault and the remedy. The command line prints it without a traceback and exits with status 2.
Wrong arguments from a programmer stay ``TypeError`` and ``ValueError``.
"""

from __future__ import annotations

import errno


class EglError(Exception):
    """Base of the errors whose message is meant for the user."""


class ExtensionError(EglError):
    """The native extension is missing, or does not fit this torch."""


class DeviceError(EglError):
    """A device is unknown, or cannot be used here; the message says what keeps it from that."""


class ManifestError(EglError):
    """A manifest is missing, empty or malformed; the message names the file and the line."""


class AudioError(EglError):
    """One recording cannot be read; scoring goes on with the others where it may."""


class CheckpointError(EglError):
    """A file is not an egl-fast checkpoint, is damaged, or has another format version."""


class ModelError(EglError):
    """A model cannot be scored: its outputs, vocabulary or parameters do not fit."""


class OutputError(EglError):
    """An output cannot be written, or would overwrite what is there."""


class SelectionError(EglError):
    """A budget or strategy does not fit the scores at hand."""


class ConfigError(EglError):
    """A configuration cannot be used; the message names the file, the line and the key."""


class MissingExtraError(EglError):
    """A package is missing that an optional extra installs; the message names the extra."""


class ReportError(EglError):
    """A report cannot be made: a run folder lacks its tables, or they contradict each other."""


_REMEDIES = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENAMETOOLONG: "shorten the name",
}


def cannot_be_written(name: object, error: BaseException, *, remedy: str = "") -> OutputError:
    """What to raise where the system does not let an output be written.

    Args:
        name: the output.
        error: what the system says.
        remedy: what else to do than what the system's complaint suggests.
    """
    first = remedy_of(error)
    remedies = [first, remedy or ("" if first else "name another place")]
    return OutputError(
        f"output {name}: cannot be written ({one_line(error)}); "
        + ", and ".join(part for part in remedies if part)
    )


def remedy_of(error: BaseException) -> str:
    """What helps against what the system complains of; empty where that is not plain."""
    return _REMEDIES.get(error.errno or 0, "") if isinstance(error, OSError) else ""


def one_line(error: BaseException) -> str:
    """An exception's message without line breaks, for use inside another message."""
    return " ".join(str(error).split()) or type(error).__name__
