"""Runs commands as children of a process that has already loaded torch, which takes a second.

Started by ``commands``. Requests are JSON Lines on standard input, answers are exit statuses on
standard output. A child is a process like any other, with its own streams, folder, environment, and
a normal end. What it cannot show is how modules come to be loaded: they are loaded already.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import signal
import sys
from typing import Any

import soundfile  # noqa: F401
import soxr  # noqa: F401
import torch

import egl_fast.benchmarking.contenders
import egl_fast.cli.main
import egl_fast.scorer
import egl_fast.training.loop

# Commands are modules that are loaded when they are called. Not here those whose libraries run
# threads: a forked process has none of them.
for name in ("score", "select", "train", "evaluate", "transcribe", "check", "bench", "doctor"):
    importlib.import_module(f"egl_fast.cli.{name}")


def main() -> None:
    """Answer until nobody asks."""
    gc.freeze()  # what is loaded stays in pages that children share
    with open(0, encoding="utf-8", closefd=False) as requests, os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        for line in requests:
            request = json.loads(line)
            child = os.fork()
            if child == 0:
                break
            _, status = os.waitpid(child, 0)
            answers.write(f"{os.waitstatus_to_exitcode(status)}\n")
            answers.flush()
        else:
            return
    become(request)
    if "script" in request:
        sys.path[0] = os.path.dirname(request["script"])
        runpy.run_path(request["script"], run_name="__main__")
    else:
        exec(request["before"], {})
        egl_fast.cli.main.main()


def become(request: dict[str, Any]) -> None:
    """The process that a shell would have started."""
    for descriptor, path in enumerate(request["streams"]):
        flags = os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_APPEND
        file = os.open(path, flags)
        os.dup2(file, descriptor)
        os.close(file)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    # A shell that runs the tests in its background has it ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [request.get("script", "egl-fast"), *request["arguments"]]
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))


if __name__ == "__main__":
    main()
