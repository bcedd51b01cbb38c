"""What the GPU steps run on, how they run, and what becomes of their results."""

from __future__ import annotations

import json
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from machine import machine_with_gpu
from script import MODEL, POOL, options_of, write_json
from torch import Tensor, nn
from workloads import inputs_of, sharpen, with_random_weights

from egl_fast import Scorer, ScoreRecord
from egl_fast.compute.precision import Precision
from egl_fast.data.manifest import read_manifest


@dataclass(frozen=True)
class Workload:
    """Model, pool, and how much of everything.

    Attributes:
        model: a file.
        pool: a manifest.
        device: "cuda", or "cpu" to rehearse.
        k: hypotheses.
        compared: recordings that are scored on CPU and GPU in float32.
        compared_double: likewise in float64.
        batch: recordings in a batch of the operators that are timed.
        repeats: of the pool, for throughput of the model.
        deep: preset used as the model of seven layers of 512.
        deep_repeats: of the pool, for throughput of that.
        rounds: of whatever is short.
        matrix: rows and columns of the products that show the machine's rate.
    """

    model: Path = MODEL
    pool: Path = POOL
    device: str = "cuda"
    k: int = 100
    compared: int = 24
    compared_double: int = 6
    batch: int = 32
    repeats: int = 10
    deep: str = "paper"
    deep_repeats: int = 1
    rounds: int = 10
    matrix: int = 8192

    @staticmethod
    def small(model: Path, pool: Path, **sizes: Any) -> Workload:
        """For a CPU, to show that everything works."""
        few: dict[str, Any] = {
            "k": 5,
            "compared": 3,
            "compared_double": 1,
            "batch": 2,
            "repeats": 1,
            "matrix": 256,
        }
        return replace(Workload(model, pool, "cpu", deep="tiny"), **{**few, **sizes})

    def scorer(
        self, *, device: str | None = None, deep: bool = False, precision: Precision = "float32"
    ) -> Scorer:
        """Of the model or, if ``deep``, of that preset with random weights."""
        trained = Scorer.from_checkpoint(
            self.model, device=device or self.device, precision=precision
        )
        return with_random_weights(trained, self.deep, sharp=True) if deep else trained

    def score(
        self, scorer: Scorer, *, recordings: int | None = None, repeats: int = 1, **options: Any
    ) -> tuple[list[ScoreRecord], float]:
        """Records of the pool, from its audio files on, and the seconds they took.

        Args:
            scorer: of any model.
            recordings: at most, from the first on.
            repeats: of these, under different ids.
            options: of scoring.
        """
        lines = [
            {
                "audio_filepath": str(utterance.audio_path.resolve()),
                "id": f"{utterance.id}/{number}",
                "duration": utterance.duration_seconds,
            }
            for number in range(repeats)
            for utterance in read_manifest(self.pool)[:recordings]
        ]
        with tempfile.TemporaryDirectory() as folder:
            manifest = Path(folder, "pool.jsonl")
            manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
            started = time.perf_counter()
            records = list(scorer.score_manifest(manifest, k=self.k, **options))
            return records, time.perf_counter() - started

    def logits(self, scorer: Scorer, recordings: int) -> tuple[Tensor, Tensor]:
        """Logits [N, T, C] of real speech and their lengths [N], where the model is."""
        features, lengths = inputs_of(scorer, *read_manifest(self.pool)[:recordings])
        with torch.inference_mode():
            logits, lengths = scorer.model.eval()(
                features.to(scorer.device), lengths.to(scorer.device)
            )
        return logits.clone(), lengths.clone()


Parts = Mapping[str, Callable[[], Any]]
Measured = dict[str, Any]


def run(
    doc: str | None, parts_of: Callable[[Workload], Parts], failed: Callable[[Measured], bool]
) -> int:
    """A step's command line: measures its parts, on a CPU small ones; status 1 if they failed."""
    parser = options_of(doc, repeats=Workload.repeats)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--parts", nargs="*", help="only these")
    options = parser.parse_args()
    if torch.cuda.is_available():
        work = Workload(options.model, options.pool, repeats=options.repeats)
    else:
        work = Workload.small(options.model, options.pool)
    parts = {"machine": machine_with_gpu, **parts_of(work)}
    chosen = {name: parts[name] for name in options.parts or parts}
    return int(failed(measure(chosen, options.out)))


def measure(parts: Parts, out: Path) -> Measured:
    """Every part's result by name, written after each; a part that fails leaves its error."""
    measured: Measured = {}
    for name, part in parts.items():
        started = time.perf_counter()
        print(f"{name} ...", flush=True)
        try:
            found = part()
            measured[name] = [*found] if isinstance(found, Iterator) else found
        except Exception as error:
            traceback.print_exc()
            measured[name] = {"error": f"{type(error).__name__}: {error}"}
        print(f"  {time.perf_counter() - started:.1f} s", flush=True)
        write_json(out, measured)
    return measured


def has_errors(measured: Measured) -> bool:
    """Whether a part failed."""
    return any(isinstance(part, dict) and "error" in part for part in measured.values())


class Wav2Vec2Shape(nn.Module):
    """transformers' Wav2Vec2ForCTC with random weights: waveforms [N, samples] to logits."""

    def __init__(self, attention: str, *, small: bool = False) -> None:
        super().__init__()
        from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

        shape = {"num_hidden_layers": 1, "hidden_size": 48} if small else {}
        config = Wav2Vec2Config(attn_implementation=attention, layerdrop=0.0, **shape)
        self.ctc = Wav2Vec2ForCTC(config).eval()
        sharpen(self.ctc)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        logits = self.ctc(waveforms).logits
        return logits, self.ctc._get_feat_extract_output_lengths(lengths)
