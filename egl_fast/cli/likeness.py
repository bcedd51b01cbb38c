"""``score --typicality``: trusted recordings, and how the pool compares with them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from egl_fast.cli.console import progress_bar, warn
from egl_fast.data.manifest import read_manifest_and_hash
from egl_fast.embeddings.file import hash_of_ids
from egl_fast.errors import ManifestError, one_line
from egl_fast.selection.gate import quantiles, too_few_trusted

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from egl_fast.data.manifest import Utterance
    from egl_fast.embeddings.typicality import Typicality
    from egl_fast.scoring.run.pool import PoolScoring

#: Rates of false alarms whose thresholds the metadata holds.
FALSE_ALARMS = (0.01, 0.02, 0.05, 0.1)


class Likeness:
    """Trusted recordings, and what they say of a pool.

    Attributes:
        sha256: of their manifest.
    """

    def __init__(self, path: str, utterances: Sequence[Utterance], sha256: str) -> None:
        self.sha256 = sha256
        self._path = path
        self._utterances = utterances
        self._embeddings: npt.NDArray[np.float32] | None = None
        self._found: Typicality | None = None

    @classmethod
    def to(cls, path: str, num_pool: int) -> Likeness:
        """To the recordings of a manifest.

        Raises:
            ManifestError: it cannot be used, there are too few recordings to compare, or
                scikit-learn is not installed.
        """
        try:
            import sklearn  # noqa: F401

            from egl_fast.embeddings.typicality import MIN_NEIGHBORS
        except ImportError:
            raise ManifestError(
                "--typicality needs scikit-learn; install it with: pip install scikit-learn"
            ) from None
        utterances, sha256 = read_manifest_and_hash(path)
        least = MIN_NEIGHBORS + 2
        if len(utterances) + num_pool < least:
            raise ManifestError(
                f"--typicality {path}: typicality needs at least {least} recordings, trusted ones "
                f"and pool together; there are {len(utterances) + num_pool}"
            )
        return cls(path, utterances, sha256)

    def look(self, scoring: PoolScoring) -> None:
        """Run the model over the trusted recordings.

        Raises:
            ManifestError: one of them cannot be used.
        """
        from egl_fast.scoring.run.trusted import trusted_embeddings

        with progress_bar() as bar:
            task = bar.add_task("trusted", total=len(self._utterances), note="recordings")
            try:
                self._embeddings = trusted_embeddings(
                    scoring, self._utterances, lambda count: bar.update(task, advance=count)
                )
            except ManifestError:
                raise
            except Exception as error:
                raise ManifestError(
                    f"--typicality {self._path}: {one_line(error)}; remove it from there"
                ) from error
        few = too_few_trusted(len(self._utterances))
        if few is not None:
            warn(f"--typicality {self._path}: {few}")

    def of(self, pool: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """[n] typicality of a pool's embeddings [n, d]."""
        from egl_fast.embeddings.typicality import typicality

        assert self._embeddings is not None
        self._found = typicality(self._embeddings, pool)
        return self._found.pool

    def metadata(self, ids: Sequence[str]) -> dict[str, Any]:
        """What ``OUT.meta.json`` says of it; thresholds by their rates of false alarms.

        Args:
            ids: of the scored recordings, in order.
        """
        assert self._found is not None
        return {
            "trusted": os.path.abspath(self._path),
            "num_trusted": len(self._utterances),
            "ids_sha256": hash_of_ids(ids),
            "thresholds": {f"{rate:g}": self._found.threshold(rate) for rate in FALSE_ALARMS},
            "quantiles": quantiles(self._found.trusted),
        }
