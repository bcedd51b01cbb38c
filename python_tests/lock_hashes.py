"""Write the hashes of every file of every pin into the locks, as the registry gives them.

    pip install uv; python python_tests/lock_hashes.py requirements.lock

For pins that were changed, or added as `NAME==VERSION`. Comments and conditions stay, and so do
hashes that the registry does not know.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from sbom import pins

_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")


def hashes_of(lock: str) -> dict[str, set[str]]:
    """NAME==VERSION -> the hashes that a lock lists."""
    found: dict[str, set[str]] = {}
    for line in lock.splitlines():
        if "==" in line and not line.startswith("#"):
            own = found.setdefault(re.split(r"[ ;\\]", line)[0], set())
        elif match := _HASH.search(line):
            own.add(match[1])
    return found


def with_hashes(lock: str, known: dict[str, set[str]]) -> str:
    """A lock with these hashes below every pin; its comments come first."""
    lines = [line for line in lock.splitlines() if line.startswith("#")]
    for pin in pins(lock):
        condition = f" ; {pin.marker}" if pin.marker else ""
        name = f"{pin.name}{pin.specifier}"
        hashes = [f"    --hash={one}" for one in sorted(known[name])]
        lines.append(" \\\n".join([f"{name}{condition}", *hashes]))
    return "\n".join(lines) + "\n"


def main() -> None:
    """Ask the registry, by uv."""
    for path in map(Path, sys.argv[1:]):
        lock = path.read_text("utf-8")
        compiled = subprocess.run(
            [
                *("uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.10"),
                *("--no-deps", "--no-annotate", "--no-header", "--generate-hashes", "-"),
            ],
            input="\n".join(map(str, pins(lock))),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        known = hashes_of(compiled)
        for name, own in hashes_of(lock).items():
            known.setdefault(name, set()).update(own)
        path.write_text(with_hashes(lock, known), "utf-8")


if __name__ == "__main__":
    main()
