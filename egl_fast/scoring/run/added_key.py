"""A key that is known only when the whole pool is scored, added to every record at the end."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from egl_fast.data.jsonl import encoded_line
from egl_fast.data.strict_json import json_value
from egl_fast.files import atomic
from egl_fast.files.arrays import read_array


class AddedKey:
    """Values kept in a separate file until they are added to the records.

    Args:
        name: the key.
        path: where the values wait; a crash in between leaves them there.
    """

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path

    def keep(self, values: npt.NDArray[np.float64]) -> None:
        """Write the values to disk, one for each record."""
        with atomic.replacing(self.path) as file:
            np.save(file, values)

    def add(self, records: Path, num_records: int) -> None:
        """Write the values, if any, into a file of records; may be repeated."""
        if not self.path.exists():
            return
        values = map(float, read_array(self.path))
        with_key = records.with_name(records.name + ".added")
        with open(records, "rb") as lines, atomic.new_file(with_key) as file:
            for line, value in zip(islice(lines, num_records), values, strict=True):
                file.write(encoded_line({**json_value(line), self.name: value}))
            atomic.sync(file)
        os.replace(with_key, records)
        atomic.sync_folder(records.parent)
        self.path.unlink()
        atomic.sync_folder(records.parent)  # before the records get their final name
