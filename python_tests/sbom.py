"""A software bill of materials (CycloneDX 1.5, JSON) of every pin in the locks.

``python python_tests/sbom.py build/sbom.cdx.json``, or ``make sbom``. The same locks give the same
bytes. Two pins of one package, for different versions of Python, are two components.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

_ROOT = Path(__file__).resolve().parent.parent

#: requirements-cpu.lock is another build of torch, which the first of these has.
LOCKS = [_ROOT / "requirements.lock", _ROOT / "requirements-cuda.lock"]


def pins(lock: str) -> list[Requirement]:
    """The lock's lines, without comments, options, and hashes."""
    lines = [line.split(" --hash")[0].rstrip(" \\") for line in lock.splitlines()]
    return [
        Requirement(line) for line in lines if line and not line.lstrip().startswith(("#", "--"))
    ]


def bill_of_materials(lock: str) -> dict[str, Any]:
    """The lock as a CycloneDX document."""
    components = []
    for pin in pins(lock):
        (version,) = (one.version for one in pin.specifier)
        component = {
            "type": "library",
            "name": pin.name,
            "version": version,
            "purl": f"pkg:pypi/{pin.name.lower().replace('_', '-')}@{version}",
        }
        if pin.marker is not None:
            condition = {"name": "python:environment-marker", "value": str(pin.marker)}
            component |= {"properties": [condition]}  # type: ignore[dict-item]
        components.append(component)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "library", "name": "egl-fast"}},
        "components": components,
    }


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    locks = "".join(lock.read_text("utf-8") for lock in LOCKS)
    target.write_text(json.dumps(bill_of_materials(locks), indent=1) + "\n")
