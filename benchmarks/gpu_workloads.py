"""Models, pools and parts that the GPU steps share."""

from __future__ import annotations

import json
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from egl_fast import Scorer, ScoreRecord
from egl_fast.data.loading import load_spectrogram, pad_features
from egl_fast.data.manifest import read_manifest
from egl_fast.model import DeepSpeech2, preset

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def measure(parts: Mapping[str, Callable[[], Any]], out: Path) -> dict[str, Any]:
    """Every part's result, by name, written after each; a part that fails leaves its error."""
    measured: dict[str, Any] = {}
    for name, part in parts.items():
        start = time.perf_counter()
        print(f"{name} ...", flush=True)
        try:
            found = part()
            measured[name] = [*found] if isinstance(found, Iterator) else found
        except Exception as error:
            traceback.print_exc()
            measured[name] = {"error": f"{type(error).__name__}: {error}"}
        print(f"  {time.perf_counter() - start:.1f} s", flush=True)
        out.write_text(json.dumps(measured, indent=2) + "\n")
    return measured


def has_errors(measured: Mapping[str, Any]) -> bool:
    """Whether a part failed."""
    return any(isinstance(part, dict) and "error" in part for part in measured.values())


def scorer_on(
    device: str, model: Path, *, deep: str | None = None, precision: str = "float32"
) -> Scorer:
    """Of a model file, or of a preset with random weights over its classes."""
    trained = Scorer.from_checkpoint(model, device=device, precision=precision)
    if deep is None:
        return trained
    torch.manual_seed(0)
    model = DeepSpeech2(preset(deep)).eval().to(device)
    sharpen(model)
    return Scorer(
        model,
        trained.classes.vocabulary,
        features=trained.features,
        precision=precision,
    )


def written_pool(pool: Path, folder: str, *, clips: int | None = None, repeats: int = 1) -> Path:
    """A manifest of the first ``clips`` utterances, over and over under names of their own."""
    utterances = read_manifest(pool)[:clips]
    path = Path(folder) / "pool.jsonl"
    with path.open("w") as lines:
        for number in range(repeats):
            for utterance in utterances:
                line = {
                    "audio_filepath": str(utterance.audio_path.resolve()),
                    "id": f"{utterance.id}/{number}",
                    "duration": utterance.duration_seconds,
                }
                lines.write(json.dumps(line) + "\n")
    return path


def scored(
    scorer: Scorer, pool: Path, *, clips: int | None = None, repeats: int = 1, **options: Any
) -> tuple[list[ScoreRecord], float]:
    """Records of a pool, from its audio files on, and the seconds they took."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = written_pool(pool, folder, clips=clips, repeats=repeats)
        start = time.perf_counter()
        records = list(scorer.score_manifest(manifest, **options))
        return records, time.perf_counter() - start


def batch_of_logits(scorer: Scorer, pool: Path, clips: int) -> tuple[Tensor, Tensor]:
    """Logits [N, T, C] of real speech, where the model is."""
    assert scorer.features is not None
    features = [load_spectrogram(u, scorer.features).features for u in read_manifest(pool)[:clips]]
    padded, lengths = pad_features(features)
    with torch.inference_mode():
        logits, lengths = scorer.model.eval()(padded.to(scorer.device), lengths.to(scorer.device))
    return logits.clone(), lengths.clone()


def sharpen(model: nn.Module) -> None:
    """Scale the output layer of random weights, whose logits are flat as a trained model's are not.

    A search in flat logits is the hardest there is, and would be all that is timed.
    """
    *_, output = (module for module in model.modules() if isinstance(module, nn.Linear))
    with torch.no_grad():
        output.weight.mul_(30)


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
