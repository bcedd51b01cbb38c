"""Has ``command_server`` run a command: in a shell, in the place of the command.

It imports as little as it can, since a shell starts an interpreter for each command.
"""

import json
import os
import socket
import sys


def ask(server, request, files):
    """The exit status of what the server was asked to run.

    Args:
        server: the path of its socket.
        request: a command's arguments, folder and environment.
        files: number there -> number here, standard streams among them.
    """
    request = {**request, "descriptors": list(files)}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(server)
        text = json.dumps(request).encode() + b"\n"
        sent = socket.send_fds(connection, [text], list(files.values()))
        connection.sendall(text[sent:])
        return int(connection.makefile().readline())


def main():
    """Ask the server to run what this process was asked to run."""
    request = {
        "arguments": sys.argv[1:],
        "folder": os.getcwd(),
        "environment": dict(os.environ),
    }
    # For <(...), a shell passes on more files than the standard streams.
    files = {n: n for n in map(int, os.listdir("/dev/fd")) if inherited(n)}
    sys.exit(ask(os.environ["COMMAND_SERVER"], request, files) % 256)


def inherited(number):
    """Whether a file came from the shell; those that this process opened are not inheritable."""
    try:
        return os.get_inheritable(number)
    except OSError:  # closed by now
        return False


if __name__ == "__main__":
    main()
