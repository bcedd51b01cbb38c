"""What ``aimed.py`` and ``badge.py`` found, packed to be kept with the results.

    python experiments/adaptation/sketches.py --cache runs/adaptation --found runs/aimed \
        --out experiments/results/adaptation

writes the upper triangles of the sketches in float16, divided by a number that no choice depends
on. BADGE's points are large and soon made again, so they are not kept: with ``--names aimed badge``
they are there for ``run.py``.
"""

from __future__ import annotations

import argparse
from functools import lru_cache
from pathlib import Path

import numpy as np
from halves import Cache

PACKED = Path(__file__).parents[1] / "results" / "adaptation" / "sketches.npz"


@lru_cache
def packed(name: str) -> dict[str, np.ndarray]:
    """A recording's sketch [m, m], or its point [d], by id.

    Args:
        name: a kind of ``aimed.py``, or "badge".
    """
    with np.load(PACKED) as file:
        ids, values = file[f"{name} ids"].tolist(), file[name].astype(np.float64)
    if name != "badge":
        values = from_triangles(values)
    return dict(zip(ids, values, strict=True))


def sketches_of(folders: list[Path]) -> tuple[list[int], np.ndarray]:
    """Indices of recordings that all parts have, and their sketches [n, m, m] over all parts."""
    names = set.intersection(*({path.name for path in one.glob("*.npy")} for one in folders))
    indices = sorted(int(name.removesuffix(".npy")) for name in names)
    found = []
    for index in indices:
        phi = np.concatenate([np.load(one / f"{index}.npy") for one in folders], axis=1)
        phi = phi.astype(np.float64)
        found.append(phi.T @ phi)
    return indices, np.stack(found)


def triangles(sketches: np.ndarray) -> np.ndarray:
    """[n, m (m + 1) / 2] of symmetric [n, m, m], over the mean of their diagonals."""
    rows, columns = np.triu_indices(sketches.shape[1])
    scale = np.diagonal(sketches, axis1=1, axis2=2).mean()
    return np.asarray(sketches[:, rows, columns] / scale)


def from_triangles(values: np.ndarray) -> np.ndarray:
    """The inverse of ``triangles``, up to the scale."""
    size = int((2 * values.shape[1]) ** 0.5)
    rows, columns = np.triu_indices(size)
    sketches = np.zeros((len(values), size, size))
    sketches[:, rows, columns] = sketches[:, columns, rows] = values
    return sketches


def main() -> None:
    """Pack."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--found", type=Path, required=True)
    parser.add_argument("--names", nargs="+", default=["aimed"])
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    recordings = Cache(args.cache).recordings
    arrays: dict[str, np.ndarray] = {}

    def keep(name: str, indices: list[int], values: np.ndarray) -> None:
        arrays[f"{name} ids"] = np.array([recordings[i].id for i in indices])
        arrays[name] = values.astype(np.float16)

    for name in args.names:
        if name == "badge":
            with np.load(args.found / "badge.npz") as file:
                points = file["points"]
                keep(name, file["indices"].tolist(), points / np.abs(points).mean())
        else:
            indices, sketches = sketches_of(sorted(args.found.glob(f"{name}.[0-9]")))
            keep(name, indices, triangles(sketches))
    np.savez_compressed(args.out / PACKED.name, allow_pickle=False, **arrays)


if __name__ == "__main__":
    main()
