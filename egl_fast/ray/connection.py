"""Joining a Ray cluster, or starting one on this machine."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Final

from egl_fast.errors import ClusterError, one_line
from egl_fast.warning import warn

#: For an answer of the cluster's address.
_LOOK_SECONDS: Final = 10.0


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Be connected to a cluster; one that this process joined before is used, and stays joined.

    Args:
        address: of the cluster, ``auto`` for the one of this machine; None: $RAY_ADDRESS, or else
            ``local``: one is started that listens on loopback alone, and is stopped at the end.

    Raises:
        ClusterError: there is none, or it cannot be joined.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing here reports on its users
    # Without it, Ray warns that it will change what it does to workers without GPUs.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    starts = address == "local"
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM) if in_main else None
    try:
        _look_for(address)
        with on_loopback() if starts else nullcontext():
            ray.init(
                address,
                include_dashboard=False if starts else None,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        with suppress(Exception):
            ray.shutdown()
        why = one_line(error)[:300]
        raise ClusterError(
            f"a Ray cluster cannot be started here ({why}); give the --address of one"
            if starts
            else f"Ray cluster {address}: cannot be joined ({why}); start one with "
            "`ray start --head`, or give its --address"
        ) from None
    finally:
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)  # Ray's own ends the process at once
    try:
        head = ray.get_runtime_context().gcs_address if starts else "127."
        if not head.startswith("127."):
            warn(f"Ray listens on {head}, and runs what anybody sends it: use a firewall")
        yield
    finally:
        ray.shutdown()


def _look_for(address: str) -> None:
    """Raise ``OSError`` if nothing listens there; Ray itself looks for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), _LOOK_SECONDS).close()


@contextmanager
def on_loopback() -> Iterator[None]:
    """Have the cluster that is started meanwhile listen on 127.0.0.1 alone.

    Ray listens on all addresses of a machine, has no option that changes it, and replaces 127.0.0.1
    as a node's address by another. On Windows and macOS, though, it keeps to loopback; so it is
    told that this is such a system.
    """
    from ray._private import ray_constants

    name = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # for the processes that it starts
    before = os.environ.get(name), getattr(ray_constants, "ENABLE_RAY_CLUSTER", True)
    os.environ[name], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before[1]
        if before[0] is None:
            del os.environ[name]
        else:
            os.environ[name] = before[0]
