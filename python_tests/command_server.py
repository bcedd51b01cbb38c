"""Runs commands as children of a process that has already loaded torch, which takes a second.

Started by ``commands``. Requests are JSON Lines on standard input, answers are exit statuses on
standard output. A child is a process like any other, with its own streams, folder and environment.
It cannot show how modules come to be loaded, nor how an interpreter is taken apart:
``commands.start`` does.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import sys
import threading
import traceback
from typing import Any, NoReturn

import soundfile  # noqa: F401
import soxr  # noqa: F401
import sympy  # noqa: F401, which torch loads when it first vectorizes a backward pass
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
    leave(finished(request))


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


def finished(request: dict[str, Any]) -> int:
    """The exit status of what was asked for."""
    try:
        if "script" in request:
            sys.path[0] = os.path.dirname(request["script"])
            runpy.run_path(request["script"], run_name="__main__")
        else:
            exec(request["before"], {})
            egl_fast.cli.main.main()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def leave(status: int) -> NoReturn:
    """End as an interpreter does, but leave modules alone: with torch, that takes 0.2 s."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    gc.collect()  # of what is dropped now, errors are printed
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
