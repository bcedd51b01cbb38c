"""``nemo:FILE.nemo``: against NeMo where it is installed, and against a stand-in elsewhere.

The stand-in has what our code uses of NeMo 3.0: keyword arguments alone, as its type checks demand,
the blank as the last class, and a log on standard output.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import Run
from torch import Tensor, nn

import egl_fast
from egl_fast.data.manifest import read_manifest
from egl_fast.errors import ModelError
from egl_fast.recognizers.spec import load_recognizer

CPU = torch.device("cpu")
CHARACTERS = [" ", *"abno"]
PIECES = ["<unk>", "\u2581a", "b", "n", "\u2581no", "o"]


class Preprocessor(nn.Module):
    def forward(self, *, input_signal: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        assert not self.training  # or it would dither
        frames = input_signal.unfold(1, 160, 160)
        return frames.reshape(1, -1, 10, 16).square().mean(3).log().transpose(1, 2), length // 160


class Encoder(nn.Module):
    subsampling_factor = 2

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(10, 6, 3, stride=2, padding=1)

    def forward(self, *, audio_signal: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        return self.conv(audio_signal).tanh(), (length + 1) // 2


class Decoder(nn.Module):
    def __init__(self, vocabulary: list[str]) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.output = nn.Conv1d(6, len(vocabulary) + 1, 1)

    def forward(self, *, encoder_output: Tensor) -> Tensor:
        return (20 * self.output(encoder_output)).transpose(1, 2).log_softmax(2)


class Transducer(nn.Module):
    """The decoder of a model without CTC: it has no vocabulary."""

    def __init__(self) -> None:
        super().__init__()
        self.prediction = nn.Embedding(5, 6)


class Tokenizer:
    unk_id = 0

    def text_to_ids(self, text: str) -> list[int]:
        return [PIECES.index(word) if word in PIECES else 0 for word in text.split("+")]


class Model(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.preprocessor = Preprocessor()
        self.encoder = Encoder()
        if kind == "characters":
            self.decoder: nn.Module = Decoder(CHARACTERS)
        elif kind == "pieces":
            self.decoder, self.tokenizer = Decoder(PIECES), Tokenizer()
        else:
            self.decoder = Transducer()
        if kind == "hybrid":
            self.ctc_decoder, self.tokenizer = Decoder(PIECES), Tokenizer()
        self.cfg = SimpleNamespace(
            preprocessor=Settings(sample_rate=16000, window_stride=0.01), encoder=Settings()
        )


class Settings(dict[str, Any]):
    def __getattr__(self, name: str) -> Any:
        return self[name]


@pytest.fixture
def nemo(monkeypatch: pytest.MonkeyPatch) -> None:
    class ASRModel:
        @staticmethod
        def restore_from(path: str, *, map_location: str) -> Model:
            assert map_location == "cpu"
            print("[NeMo I] restored")
            return Model(Path(path).read_text())

    log = SimpleNamespace(setLevel=lambda level: None)
    for name, content in {
        "nemo": {},
        "nemo.collections": {},
        "nemo.collections.asr": {},
        "nemo.collections.asr.models": {"ASRModel": ASRModel},
        "nemo.utils": {"logging": log},
    }.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)


def saved(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.nemo"
    path.write_text(kind)
    return path


@pytest.mark.parametrize("kind", ["characters", "pieces", "hybrid"])
def test_scores_are_those_of_the_models_own_parts(
    nemo: None, kind: str, recordings: Path, tmp_path: Path
) -> None:
    spec = f"nemo:{saved(tmp_path, kind)}"
    scorer = egl_fast.Scorer.from_pretrained(spec)
    recognizer = scorer.recognizer
    assert recognizer.frame_seconds == 0.02
    assert recognizer.case == "lower"
    assert recognizer.sha256 == load_recognizer(spec, device=CPU).sha256
    assert len(scorer.classes.vocabulary) == scorer.classes.blank + 1
    # Nothing of a transducer, a loss or a metric.
    assert {name.split(".")[0] for name, _ in scorer.model.named_parameters()} == {
        "encoder", "decoder",
    }  # fmt: skip
    model = Model(kind).eval()
    [record, *_] = scorer.score_manifest(recordings, k=3)
    waveform = torch.as_tensor(recognizer.load(read_manifest(recordings)[0]).inputs.positional[0])
    encoded, frames = model.encoder(audio_signal=waveform, length=torch.tensor([50]))
    decoder = model.ctc_decoder if kind == "hybrid" else model.decoder
    log_probs = decoder(encoder_output=encoded)
    assert record.num_frames == int(frames) == 25
    entropy = -(log_probs.exp() * log_probs).sum(2).mean().detach()
    # Float32, sums of at most 32 products in the same order: a few roundings at most.
    assert record.entropy == pytest.approx(float(entropy), rel=1e-5)


def test_texts_become_labels_by_the_models_tokenizer(nemo: None, tmp_path: Path) -> None:
    classes = load_recognizer(f"nemo:{saved(tmp_path, 'pieces')}", device=CPU).classes
    assert classes.labels("\u2581a+b") == [1, 2]
    assert classes.text([4, 1, 2]) == "no ab"
    with pytest.raises(KeyError):
        classes.labels("x")
    characters = load_recognizer(f"nemo:{saved(tmp_path, 'characters')}", device=CPU).classes
    assert characters.labels("a no") == [1, 0, 3, 4]


def test_nothing_but_results_is_printed(
    nemo: None, run: Run, recordings: Path, tmp_path: Path
) -> None:
    status, out, err = run(
        "score", "--model", f"nemo:{saved(tmp_path, 'pieces')}", "--pool", recordings, "--k", 3
    )
    assert status == 0
    assert len([json.loads(line) for line in out.splitlines()]) == 4
    assert "[NeMo I] restored" in err


def test_a_transducer_alone_is_refused(nemo: None, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a Model, which has no CTC decoder"):
        load_recognizer(f"nemo:{saved(tmp_path, 'transducer')}", device=CPU)


@pytest.mark.filterwarnings("ignore")
def test_nemos_own_model(tmp_path: Path) -> None:
    models: Any = pytest.importorskip("nemo.collections.asr.models")
    modules = "nemo.collections.asr.modules"
    block = {"filters": 8, "repeat": 1, "kernel": [3], "stride": [2], "dilation": [1]}
    block |= {"dropout": 0.1, "residual": False, "separable": True}
    config = {
        "sample_rate": 16000,
        "preprocessor": {
            "_target_": f"{modules}.AudioToMelSpectrogramPreprocessor",
            "features": 8,
            "dither": 1e-5,
        },
        "encoder": {
            "_target_": f"{modules}.ConvASREncoder",
            "feat_in": 8,
            "activation": "relu",
            "conv_mask": True,
            "jasper": [block],
        },
        "decoder": {
            "_target_": f"{modules}.ConvASRDecoder",
            "feat_in": 8,
            "num_classes": len(CHARACTERS),
            "vocabulary": CHARACTERS,
        },
        "labels": CHARACTERS,
    }
    omegaconf: Any = pytest.importorskip("omegaconf")
    model = models.EncDecCTCModel(cfg=omegaconf.OmegaConf.create(config)).eval()
    model.save_to(str(tmp_path / "own.nemo"))
    found = load_recognizer(f"nemo:{tmp_path / 'own.nemo'}", device=CPU)
    samples = 0.1 * torch.randn(16000, generator=torch.Generator().manual_seed(0))
    length = torch.tensor([16000])
    expected, frames, _ = model(input_signal=samples[None], input_signal_length=length)
    logits, lengths = found.module(*found.prepare(samples.numpy(), name="x").inputs.positional)
    torch.testing.assert_close(logits, expected, rtol=0, atol=0)
    assert torch.equal(lengths, frames)
    [record] = egl_fast.Scorer(found).score_waveforms([samples], sample_rate_hz=16000, k=3)
    assert record.num_frames == int(frames)
