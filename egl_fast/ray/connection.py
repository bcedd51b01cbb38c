"""Joining a Ray cluster, or starting one on this machine."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from egl_fast.errors import ClusterError, one_line


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Be connected to a cluster; one that this process joined before is used, and stays joined.

    Args:
        address: of the cluster, ``auto`` for the one of this machine; None: $RAY_ADDRESS, or else
            one is started here, and stopped at the end.

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
    joins = bool(address or "RAY_ADDRESS" in os.environ)
    # An address that no VPN changes, and nobody else reaches.
    here: dict[str, Any] = {} if joins else {"_node_ip_address": "127.0.0.1"}
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM) if in_main else None
    try:
        ray.init(
            address,
            include_dashboard=None if joins else False,
            logging_level=logging.ERROR,
            log_to_driver=False,
            **here,
        )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        with suppress(Exception):
            ray.shutdown()
        where = address or os.environ.get("RAY_ADDRESS", "on this machine")
        raise ClusterError(
            f"Ray cluster {where}: cannot be joined ({one_line(error)[:300]}); start one with "
            "`ray start --head`, or give its --address"
        ) from None
    finally:
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)  # Ray's own ends the process at once
    try:
        yield
    finally:
        ray.shutdown()
