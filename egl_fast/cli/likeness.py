"""``score --typicality``: trusted recordings, and how the pool compares with them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from egl_fast.cli import options
from egl_fast.cli.console import progress_bar, warn
from egl_fast.data.manifest import read_manifest_and_hash
from egl_fast.embeddings.file import hash_of_embeddings, hash_of_ids
from egl_fast.errors import ManifestError, one_line
from egl_fast.files import atomic
from egl_fast.files.addresses import absolute
from egl_fast.files.copies import as_given
from egl_fast.selection.gate import quantiles, too_few_trusted

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from egl_fast.data.manifest import Utterance
    from egl_fast.embeddings.typicality import Typicality
    from egl_fast.scoring.run.scoring import Scoring


class TrainedOn:
    """Stands for the recordings whose embeddings the model file holds, in place of a manifest."""


def typicality_option(help: str) -> options.Decorator:
    """``--typicality [FILE]``; the value is None, a path, or a ``TrainedOn``.

    Args:
        help: what it does.
    """
    return click.option(
        "--typicality",
        "trusted",
        is_flag=False,
        flag_value=TrainedOn(),
        type=options.MANIFEST,
        metavar="[FILE]",
        help=f"{help} Without FILE: training recordings that `train` kept with the model.",
    )


def trusted_path(scores: Path) -> Path:
    """Where a shard keeps the embeddings of trusted recordings."""
    return Path(f"{scores}.trusted.npy")


#: Rates of false alarms whose thresholds the metadata holds.
FALSE_ALARMS = (0.01, 0.02, 0.05, 0.1)


class Likeness:
    """Trusted recordings, and what they say of a pool.

    Attributes:
        sha256: of their manifest, or of their embeddings in the model file.
    """

    def __init__(
        self,
        path: str,
        sha256: str,
        *,
        utterances: Sequence[Utterance] = (),
        embeddings: npt.NDArray[np.float32] | None = None,
    ) -> None:
        self.sha256 = sha256
        self._path = path
        self._utterances = utterances
        self._embeddings = embeddings
        self._found: Typicality | None = None
        self._pool_sha256 = ""

    @classmethod
    def to(
        cls, trusted: str | TrainedOn, num_pool: int, *, scoring: Scoring, model_spec: str
    ) -> Likeness:
        """Likeness to the recordings of a manifest, or to those that the model was trained on.

        Args:
            trusted: of ``typicality_option``.
            num_pool: how many recordings are to be compared with them.
            scoring: with the model.
            model_spec: where it came from.

        Raises:
            ManifestError: the manifest cannot be used, the model comes without embeddings, there
                are too few recordings to compare, or scikit-learn is not installed.
        """
        try:
            import sklearn  # noqa: F401

            from egl_fast.embeddings.typicality import MIN_NEIGHBORS
        except ImportError:
            raise ManifestError(
                "--typicality needs scikit-learn; install it with: pip install scikit-learn"
            ) from None
        if isinstance(trusted, str):
            utterances, sha256 = read_manifest_and_hash(trusted)
            found = cls(trusted, sha256, utterances=utterances)
        else:
            from egl_fast.scoring.run.provenance import trusted_by_the_model

            embeddings = scoring.ask(trusted_by_the_model)
            if embeddings is None:
                raise ManifestError(
                    f"--typicality: the model {model_spec} comes without embeddings of what it was "
                    "trained on; name trusted recordings: --typicality FILE"
                )
            sha256 = hashlib.sha256(embeddings.tobytes()).hexdigest()
            found = cls(model_spec, sha256, embeddings=embeddings)
        least = MIN_NEIGHBORS + 2
        if found.num_trusted + num_pool < least:
            raise ManifestError(
                f"--typicality {found._path}: typicality needs at least {least} recordings, "
                f"trusted ones and pool together; there are {found.num_trusted + num_pool}"
            )
        return found

    @property
    def num_trusted(self) -> int:
        """How many trusted recordings there are."""
        return len(self._utterances if self._embeddings is None else self._embeddings)

    def look(self, scoring: Scoring, pool: Sequence[Utterance]) -> None:
        """Run the model over the trusted recordings, unless their embeddings are known.

        Args:
            scoring: with the model.
            pool: what will be compared with them.

        Raises:
            ManifestError: one of them cannot be used, or is not comparable with the pool.
        """
        if self._embeddings is not None:
            if not self._utterances:
                _refuse_other_embeddings(scoring)
            return
        # A large pool is not read again for a few trusted recordings, which cannot be half of it.
        may_be_half = 4 * len(self._utterances) > len(pool)
        shared = _shared(self._utterances, pool) if may_be_half else 0
        if 2 * shared > len(pool):
            warn(
                f"--typicality {self._path}: {shared} of the pool's {len(pool)} recordings are "
                "among the trusted ones, so junk in the pool is trusted, too, and typicality says "
                "little; name recordings that somebody has listened to, such as the training set"
            )
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

    def keep(self, scores: Path) -> None:
        """Save the embeddings beside the scores of a shard, for `merge`."""
        import numpy as np

        assert self._embeddings is not None
        with atomic.as_output_error(scores), atomic.replacing(trusted_path(scores)) as file:
            np.save(file, self._embeddings)

    @property
    def path(self) -> str:
        """Of the trusted recordings' manifest, or of the model file."""
        return absolute(as_given(self._path))

    def of(self, pool: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """[n] typicality of a pool's embeddings [n, d]."""
        from egl_fast.embeddings.typicality import typicality

        assert self._embeddings is not None
        self._found = typicality(self._embeddings, pool)
        self._pool_sha256 = hash_of_embeddings(pool)
        return self._found.pool

    def metadata(self, ids: Iterable[str]) -> dict[str, Any]:
        """What ``OUT.meta.json`` says of it; thresholds by their rates of false alarms.

        Args:
            ids: of the scored recordings, in order.
        """
        assert self._found is not None
        return {
            "trusted": self.path,
            "num_trusted": self.num_trusted,
            "ids_sha256": hash_of_ids(ids),
            "embeddings_sha256": self._pool_sha256,
            "thresholds": {f"{rate:g}": self._found.threshold(rate) for rate in FALSE_ALARMS},
            "quantiles": quantiles(self._found.trusted),
        }


def _shared(trusted: Iterable[Utterance], pool: Iterable[Utterance]) -> int:
    """How many recordings of a pool are trusted ones: by file and offset, or by id."""

    def place(utterance: Utterance) -> tuple[str, float]:
        return absolute(utterance.audio_path), utterance.offset_seconds

    known = {key for utterance in trusted for key in (utterance.id, place(utterance))}
    return sum(utterance.id in known or place(utterance) in known for utterance in pool)


def _refuse_other_embeddings(scoring: Scoring) -> None:
    """Refuse ``params`` without the output layer: another layer would be pooled."""
    from egl_fast.scoring.run.provenance import unpooled_params

    params = scoring.ask(unpooled_params)
    if params is not None:
        raise ManifestError(
            f"--typicality: --params {params} leaves out the output layer, so embeddings "
            "differ from those that came with the model; name trusted recordings: --typicality "
            "FILE"
        )
