"""One command in several processes, as ``torchrun`` starts them: one of them speaks."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from egl_fast.cli import options
from egl_fast.cli.console import say, stderr
from egl_fast.errors import EglError
from egl_fast.warning import EglWarning

if TYPE_CHECKING:
    import torch

    from egl_fast.training.processes import Processes


@contextmanager
def connected_processes(
    device_name: str, num_threads: int | None
) -> Iterator[tuple[Processes, torch.device]]:
    """The processes that run this command, connected, and this one's device.

    Whatever ends the command is raised in all of them, or was said by the process that it happened
    to. So all but the first end silently, and with status 0: a launcher that saw them fail would
    kill the first before it has said why and saved the state.

    Args:
        device_name: as given; on GPUs, each process of a machine gets its own.
        num_threads: of this process; None: torch's default.
    """
    from egl_fast.training.processes import connected, counted

    processes = counted()
    if processes.count == 1:
        yield processes, options.set_up_torch(device_name, num_threads)
        return
    if not processes.is_first:
        stderr.quiet = True
        warnings.simplefilter("ignore", EglWarning)
    try:
        say(f"waiting for {processes.count} processes")
        with connected():
            with processes.together():
                device = options.set_up_torch(_own(device_name), num_threads)
            yield processes, device
    except (EglError, KeyboardInterrupt, click.UsageError):
        if processes.is_first:
            raise
        raise click.exceptions.Exit(0) from None


def is_first_process() -> bool:
    """Whether this process speaks and writes, if there are several."""
    from egl_fast.training.processes import counted

    return counted().is_first


def _own(device_name: str) -> str:
    """The GPU of this process, if it computes on one."""
    from egl_fast.compute.devices import usable_device

    if device_name.startswith("cuda:"):
        raise click.UsageError(
            f"--device {device_name}: every process needs a GPU of its own; give --device cuda"
        )
    kind = usable_device(device_name).type
    return kind if kind == "cpu" else f"{kind}:{os.environ.get('LOCAL_RANK', 0)}"
