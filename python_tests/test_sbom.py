"""The bill of materials lists what the locks pin."""

from __future__ import annotations

from pathlib import Path

import pytest
from sbom import LOCKS, bill_of_materials


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_every_pin_of_the_lock_is_listed_with_its_version(path: Path) -> None:
    lock = path.read_text("utf-8")
    listed = [f"{one['name']}=={one['version']}" for one in bill_of_materials(lock)["components"]]
    pinned = [line.split()[0] for line in lock.splitlines() if "==" in line and line[0] != "#"]
    assert len(pinned) > 20
    assert listed == pinned


def test_hashes_and_markers_are_no_part_of_a_version() -> None:
    lock = 'a==1.0 ; python_version < "3.11" \\\n    --hash=sha256:00\nb_c==2 --hash=sha256:11\n'
    first, second = bill_of_materials(lock)["components"]
    assert (first["name"], first["version"]) == ("a", "1.0")
    assert first["properties"][0]["value"] == 'python_version < "3.11"'
    assert second["purl"] == "pkg:pypi/b-c@2"
