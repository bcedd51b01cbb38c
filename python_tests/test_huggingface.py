"""``hf:DIR`` end to end, on tiny models with random weights that are saved on the spot."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Run
from recordings import load

import egl_fast
from egl_fast.data.manifest import read_manifest
from egl_fast.errors import EglError
from egl_fast.recognizers.spec import load_recognizer

if sys.version_info < (3, 11):
    pytest.skip("the pinned transformers needs Python 3.11", allow_module_level=True)

transformers: Any = pytest.importorskip("transformers")

CPU = torch.device("cpu")
NAMES = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ABNO"]
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
ENCODER = {
    "vocab_size": len(NAMES),
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    **SPECIAL,
}
CONVOLUTIONS = {
    "conv_dim": (8, 8),
    "conv_kernel": (10, 8),
    "conv_stride": (20, 16),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}


def waveforms(*, masks: bool) -> Any:
    return transformers.Wav2Vec2FeatureExtractor(
        1, 16000, 0.0, do_normalize=True, return_attention_mask=masks
    )


def mel_filters() -> Any:
    return transformers.SeamlessM4TFeatureExtractor(
        feature_size=8, num_mel_bins=8, stride=2, padding_value=0.0
    )


def model(name: str, **config: Any) -> Callable[[], Any]:
    def make() -> Any:
        return getattr(transformers, f"{name}ForCTC")(
            getattr(transformers, f"{name}Config")(**ENCODER, **config)
        )

    return make


MODELS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "wav2vec2, group norm": (
        model("Wav2Vec2", **CONVOLUTIONS, feat_extract_norm="group"),
        lambda: waveforms(masks=False),
    ),
    "wav2vec2, layer norm": (
        model("Wav2Vec2", **CONVOLUTIONS, feat_extract_norm="layer", do_stable_layer_norm=True),
        lambda: waveforms(masks=True),
    ),
    "hubert": (model("Hubert", **CONVOLUTIONS), lambda: waveforms(masks=False)),
    "wavlm": (model("WavLM", **CONVOLUTIONS), lambda: waveforms(masks=False)),
    "wav2vec2-conformer": (
        model("Wav2Vec2Conformer", **CONVOLUTIONS, position_embeddings_type="relative"),
        lambda: waveforms(masks=True),
    ),
    "wav2vec2-bert": (
        model("Wav2Vec2Bert", feature_projection_input_dim=16, conv_depthwise_kernel_size=5),
        mel_filters,
    ),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a model, as ``save_pretrained`` writes it."""
    root = tmp_path_factory.mktemp("models")
    vocabulary = root / "vocab.json"
    vocabulary.write_text(json.dumps({name: index for index, name in enumerate(NAMES)}))
    transformers.utils.logging.disable_progress_bar()

    def folder(name: str) -> Path:
        path = root / name
        if not path.exists():
            make, extractor = MODELS[name]
            with torch.random.fork_rng():
                torch.manual_seed(0)
                built = make()
            with torch.no_grad():
                built.lm_head.weight.mul_(10)
            built.save_pretrained(path)
            tokenizer = transformers.Wav2Vec2CTCTokenizer(
                str(vocabulary), unk_token="<unk>", pad_token="<pad>", word_delimiter_token="|"
            )
            transformers.Wav2Vec2Processor(extractor(), tokenizer).save_pretrained(path)
        return path

    return folder


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_those_of_the_processors_own_inputs(
    name: str, folders: Callable[[str], Path], recordings: Path
) -> None:
    folder = folders(name)
    scorer = egl_fast.Scorer.from_pretrained(f"hf:{folder}", params="all")
    utterances = read_manifest(recordings)[:2]
    found = list(scorer.score_manifest(recordings, k=4, per_hypothesis=True))[:2]
    own = transformers.AutoModelForCTC.from_pretrained(folder)
    processor = transformers.AutoProcessor.from_pretrained(folder)
    plain = egl_fast.Scorer(own, processor.tokenizer.get_vocab(), 0)
    for utterance, record in zip(utterances, found, strict=True):
        inputs = processor(load(utterance.audio_path), sampling_rate=16000, return_tensors="pt")
        [expected] = plain.score_batch(
            **inputs, ids=[record.id], durations=[record.duration], k=4, per_hypothesis=True
        )
        assert record == expected
        labels = list(record.hypotheses[0].labels)
        # Gaps, as the tokenizer merges repeats; and it writes out what is no text.
        with_gaps = [index for label in labels if label > 3 for index in (label, 0)]
        assert record.pred_text == processor.tokenizer.decode(with_gaps)


def test_the_feature_encoder_does_not_count_unless_asked_for(
    folders: Callable[[str], Path], run: Run, recordings: Path, tmp_path: Path
) -> None:
    folder = folders("wav2vec2, group norm")
    recognizer = load_recognizer(f"hf:{folder}", device=CPU)
    assert recognizer.params == "encoder"
    assert all(p.requires_grad for p in recognizer.module.parameters())
    out = tmp_path / "s.jsonl"
    scores: dict[str | None, float] = {}
    for params in (None, "encoder", "all", "head", "wav2vec2.encoder.*"):
        chosen = () if params is None else ("--params", params)
        status, _, said = run(
            "score", "--model", f"hf:{folder}", "--pool", recordings, "--k", 3, "--out", out,
            "--overwrite", *chosen,
        )  # fmt: skip
        assert status == 0
        assert ("--params all" in said) == (params is None)
        metadata = json.loads((tmp_path / "s.jsonl.meta.json").read_text())
        assert metadata["params"] == (params or "encoder")
        scores[params] = json.loads(out.read_text().splitlines()[0])["egl"]
    assert scores[None] == scores["encoder"]
    assert scores["head"] < scores["encoder"] < scores["all"]
    assert scores["wav2vec2.encoder.*"] < scores["encoder"]


def test_a_run_is_stopped_and_resumed(
    folders: Callable[[str], Path], run: Run, recordings: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(folders("hubert"), folder)
    arguments = ["--model", f"hf:{folder}", "--pool", recordings, "--k", 3]
    arguments += ["--out", tmp_path / "s.jsonl", "--resume"]
    assert run("score", *arguments)[0] == 0
    metadata = json.loads((tmp_path / "s.jsonl.meta.json").read_text())
    assert metadata["frame_seconds"] == 0.02
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 1e-3}))
    status, _, said = run("score", *arguments)
    assert status == 2
    assert "another model" in said


def test_texts_are_compared_in_the_models_case(
    folders: Callable[[str], Path], run: Run, recordings: Path
) -> None:
    status, text, _ = run(
        "evaluate", "--model", f"hf:{folders('hubert')}", "--data", recordings, "--json"
    )
    assert status == 0
    assert json.loads(text)["loss"] > 0


def without(folder: Path, to: Path, *names: str) -> Path:
    shutil.copytree(folder, to, ignore=lambda _, found: [f for f in found if f in names])
    return to


def refusal(spec: str) -> str:
    with pytest.raises(EglError) as caught:
        load_recognizer(spec, device=CPU)
    message = str(caught.value)
    assert message.startswith(f"model {spec}: ")
    assert "\n" not in message
    return message


def test_what_is_missing_is_named(folders: Callable[[str], Path], tmp_path: Path) -> None:
    whole = folders("hubert")
    alone = without(whole, tmp_path / "alone", "processor_config.json")
    assert "no feature extractor" in refusal(f"hf:{alone}")
    mute = without(whole, tmp_path / "mute", "tokenizer_config.json", "vocab.json")
    assert "no tokenizer" in refusal(f"hf:{mute}")
    empty = without(whole, tmp_path / "empty", "model.safetensors")
    assert "no weights" in refusal(f"hf:{empty}")
    (empty / "onnx").mkdir()
    (empty / "onnx" / "model.onnx").write_bytes(b"")
    assert "an ONNX model" in refusal(f"hf:{empty}")
    assert "no such folder" in refusal(f"hf:{tmp_path}/none")
    assert "is a file" in refusal(f"hf:{whole}/config.json")
    other = tmp_path / "other"
    other.mkdir()
    assert "no config.json" in refusal(f"hf:{other}")
    (other / "adapter_config.json").write_text("{}")
    assert "merge_and_unload" in refusal(f"hf:{other}")


def test_other_kinds_of_models_are_refused(folders: Callable[[str], Path], tmp_path: Path) -> None:
    whole = folders("hubert")
    headless = without(whole, tmp_path / "headless", "model.safetensors", "config.json")
    transformers.HubertModel.from_pretrained(whole).save_pretrained(headless)
    message = refusal(f"hf:{headless}")
    assert "lacks the weights lm_head.bias, lm_head.weight" in message
    assert "HubertModel" in message

    config = json.loads((whole / "config.json").read_text())
    for name, more, expected in (
        ("whisper", {"model_type": "whisper"}, "a sequence-to-sequence model (whisper)"),
        ("bert", {"model_type": "bert"}, "type bert, for which transformers"),
        ("small", {"quantization_config": {"quant_method": "gptq", "bits": 4}}, "is quantized"),
        ("own", {"model_type": "x", "auto_map": {"AutoConfig": "c.C"}}, "hf+trust_remote_code:"),
    ):
        other = without(whole, tmp_path / name)
        (other / "config.json").write_text(json.dumps({**config, **more}))
        assert expected in refusal(f"hf:{other}")


def test_a_pickle_is_read_only_if_it_is_asked_for(
    folders: Callable[[str], Path], tmp_path: Path
) -> None:
    whole = folders("hubert")
    old = without(whole, tmp_path / "old", "model.safetensors")
    expected = load_recognizer(f"hf:{whole}", device=CPU)
    torch.save(expected.module.state_dict(), old / "pytorch_model.bin")
    assert f"hf+pickle:{old}" in refusal(f"hf:{old}")
    assert load_recognizer(f"hf+pickle:{old}", device=CPU).sha256 == expected.sha256


def test_without_transformers_the_extra_is_named(
    folders: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folders("hubert")
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert "pip install 'egl-fast[hf]'" in refusal(f"hf:{folder}")


def test_half_precision_in_the_file_is_float32_here(
    folders: Callable[[str], Path], tmp_path: Path
) -> None:
    half = without(folders("hubert"), tmp_path / "half")
    own = transformers.AutoModelForCTC.from_pretrained(half, dtype=torch.bfloat16)
    own.save_pretrained(half)
    assert load_recognizer(f"hf:{half}", device=CPU).dtype == torch.float32
