"""Runs commands as children of a process that has already loaded torch, which takes a second.

Started by ``commands`` with the path of a socket, it listens until its standard input ends. A
request is a line of JSON, sent with open files; the answer is the exit status. A child is a process
like any other, with its own streams, folder, and environment. It cannot show how modules are loaded
or how an interpreter shuts down; ``commands.start`` does.
"""

from __future__ import annotations

import atexit
import fcntl
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from typing import Any, NoReturn

import soundfile  # noqa: F401
import soxr  # noqa: F401
import sympy  # noqa: F401, which torch loads when it first vectorizes a backward pass
import torch

import egl_fast.benchmarking.comparison
import egl_fast.cli.main
import egl_fast.scorer
import egl_fast.training.loop

# Commands are modules that are loaded when they are called. Not here those whose libraries run
# threads: a forked process has none of them.
for name in ("score", "select", "train", "evaluate", "transcribe", "check", "bench", "doctor"):
    importlib.import_module(f"egl_fast.cli.{name}")


def main() -> None:
    """Answer requests until standard input ends."""
    gc.freeze()  # what is loaded now stays in pages that children share
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[1])
        listener.listen()
        print("listening", flush=True)
        while sys.stdin not in select.select([sys.stdin, listener], [], [])[0]:
            connection, _ = listener.accept()
            # One child per request, since the commands of a pipeline run at the same time.
            if os.fork() == 0:
                listener.close()
                answer(connection)
            connection.close()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def answer(connection: socket.socket) -> NoReturn:
    """Run a command and send back its status."""
    text, files, _, _ = socket.recv_fds(connection, 2**16, 100)
    while not text.endswith(b"\n"):
        text += connection.recv(2**16)
    child = os.fork()
    if child == 0:
        connection.close()
        request = json.loads(text)
        become(request, files)
        leave(finished(request))
    for file in files:
        os.close(file)
    _, status = os.waitpid(child, 0)
    connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def become(request: dict[str, Any], files: list[int]) -> None:
    """Become the process that a shell would have started."""
    # Move them out of the way first: one may have the number that another is to get.
    files = [fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 200) for file in files]
    for file, number in zip(files, request["descriptors"], strict=True):
        os.dup2(file, number)
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
    """Run the command; its exit status."""
    try:
        if "script" in request:
            sys.path[0] = os.path.dirname(request["script"])
            runpy.run_path(request["script"], run_name="__main__")
        else:
            exec(request.get("before", ""), {})
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
