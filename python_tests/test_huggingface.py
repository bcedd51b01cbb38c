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
from huggingface_folders import MODELS, save, transformers
from recordings import load

import egl_fast
from egl_fast.data.manifest import read_manifest
from egl_fast.errors import EglError
from egl_fast.recognizers.spec import load_recognizer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a model, as ``save_pretrained`` writes it."""
    root = tmp_path_factory.mktemp("models")

    def folder(name: str) -> Path:
        path = root / name
        return path if path.exists() else save(name, path)

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
        # Gaps, as the tokenizer merges repeats; and it writes out what is not text.
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


def test_a_mistyped_folder_is_not_blamed_on_the_hub_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unreachable(*_: Any, **__: Any) -> Any:
        raise OSError("We couldn't connect")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", unreachable)
    message = refusal("hf:wav2vec")
    assert "there is no folder wav2vec, and no hub gave a model of that name (We" in message


def test_other_kinds_of_models_are_refused(folders: Callable[[str], Path], tmp_path: Path) -> None:
    whole = folders("hubert")
    headless = without(whole, tmp_path / "headless", "model.safetensors", "config.json")
    transformers.HubertModel.from_pretrained(whole).save_pretrained(headless)
    message = refusal(f"hf:{headless}")
    assert "lacks the weights lm_head.bias, lm_head.weight" in message
    assert "HubertModel" in message

    small = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 9}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "pad_token_id": 0}
    for kind in ("Whisper", "Speech2Text"):
        other = without(whole, tmp_path / kind, "model.safetensors", "config.json")
        settings = getattr(transformers, f"{kind}Config")(
            **small, **heads, encoder_ffn_dim=8, decoder_ffn_dim=8
        )
        getattr(transformers, f"{kind}ForConditionalGeneration")(settings).save_pretrained(other)
        assert f"a sequence-to-sequence model ({settings.model_type})" in refusal(f"hf:{other}")

    config = json.loads((whole / "config.json").read_text())
    for name, more, expected in (
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


def test_weights_that_name_code_are_never_run(
    folders: Callable[[str], Path], tmp_path: Path
) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "exploded",)

    hostile = without(folders("hubert"), tmp_path / "hostile", "model.safetensors")
    torch.save({"lm_head.bias": Bomb()}, hostile / "pytorch_model.bin")
    refusal(f"hf:{hostile}")
    assert "cannot load it" in refusal(f"hf+pickle:{hostile}")
    assert not (tmp_path / "exploded").exists()


def test_code_of_a_model_is_run_only_if_it_is_asked_for(
    folders: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "cache")
    )
    own = without(folders("hubert"), tmp_path / "own")
    (own / "own_code.py").write_text(
        "from pathlib import Path\n"
        "from transformers import HubertConfig, HubertForCTC\n"
        f"Path({str(tmp_path / 'ran')!r}).touch()\n"
        "class OwnConfig(HubertConfig):\n    model_type = 'own'\n"
        "class OwnForCTC(HubertForCTC):\n    config_class = OwnConfig\n"
    )
    config = json.loads((own / "config.json").read_text())
    code = {"AutoConfig": "own_code.OwnConfig", "AutoModelForCTC": "own_code.OwnForCTC"}
    config |= {"model_type": "own", "auto_map": code}
    (own / "config.json").write_text(json.dumps(config))
    assert "hf+trust_remote_code:DIR" in refusal(f"hf:{own}")
    assert not (tmp_path / "ran").exists()
    found = load_recognizer(f"hf+trust_remote_code:{own}", device=CPU)
    assert type(found.module).__name__ == "OwnForCTC"


def test_a_vocabulary_of_word_pieces(
    folders: Callable[[str], Path], recordings: Path, tmp_path: Path
) -> None:
    tokenizers: Any = pytest.importorskip("tokenizers")
    names = ["<pad>", "<unk>", "\u2581", "\u2581a", "\u2581no", "a", "b", "n", "o"]
    pieces = tokenizers.Tokenizer(
        tokenizers.models.Unigram([(name, -float(len(names))) for name in names], unk_id=1)
    )
    pieces.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    pieces.decoder = tokenizers.decoders.Metaspace()
    own = transformers.PreTrainedTokenizerFast(
        tokenizer_object=pieces, pad_token="<pad>", unk_token="<unk>"
    )
    folder = without(folders("hubert"), tmp_path / "m", "tokenizer_config.json", "vocab.json")
    transformers.Wav2Vec2Processor(
        transformers.AutoFeatureExtractor.from_pretrained(folder), own
    ).save_pretrained(folder)
    scorer = egl_fast.Scorer.from_pretrained(f"hf:{folder}")
    for text in ("no ab", "a no bo"):
        labels = own(text, add_special_tokens=False).input_ids
        assert scorer.classes.labels(text) == labels
        assert scorer.classes.text(labels) == own.decode(labels) == text
    with pytest.raises(KeyError, match="x"):
        scorer.classes.labels("no x")
    for record in scorer.score_manifest(recordings, k=3, per_hypothesis=True):
        best = list(record.hypotheses[0].labels)
        assert record.pred_text == own.decode(best, skip_special_tokens=True).strip()


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
