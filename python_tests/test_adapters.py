"""``hf:DIR`` of adapters, as peft saves them beside their base model."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_folders import MODELS, save, tokenizer, transformers
from torch import nn

import egl_fast
from egl_fast.data.manifest import read_manifest
from egl_fast.errors import EglError
from egl_fast.recognizers.spec import load_recognizer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peft: Any = pytest.importorskip("peft")

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("wav2vec2, layer norm", tmp_path_factory.mktemp("models") / "base")


def adapted(module: nn.Module, **options: Any) -> Any:
    """With adapters that have been trained: at first, theirs are products of zero."""
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], lora_dropout=0.5, **options)
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(1)
        made = peft.get_peft_model(module, config)
        for name, parameter in made.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter)
    return made


def saved(made: Any, folder: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made.save_pretrained(folder, save_embedding_layers=False)  # there are none
    return folder


def first(scorer: egl_fast.Scorer, recordings: Path) -> egl_fast.ScoreRecord:
    return next(scorer.score_manifest(recordings, k=4, per_hypothesis=True))


def test_only_what_was_trained_counts(base: Path, recordings: Path, tmp_path: Path) -> None:
    made = adapted(transformers.Wav2Vec2ForCTC.from_pretrained(base))
    folder = saved(made, tmp_path / "lora")
    scorer = egl_fast.Scorer.from_pretrained(f"hf:{folder}")
    counted = [name for name, p in scorer.model.named_parameters() if p.requires_grad]
    assert len(counted) == 4
    assert all("lora_" in name for name in counted)
    found = first(scorer, recordings)
    by_name = egl_fast.Scorer.from_pretrained(f"hf:{folder}", params="adapters")
    assert first(by_name, recordings) == found

    # The model as it was in memory.
    inputs = scorer.recognizer.load(read_manifest(recordings)[0]).inputs.named
    own = egl_fast.Scorer(made.get_base_model(), scorer.classes.vocabulary, 0)
    names = {"ids": [found.id], "durations": [found.duration]}
    assert own.score_batch(**inputs, **names, k=4, per_hypothesis=True) == [found]

    # Merged, it says the same, but other weights count.
    made.merge_and_unload().save_pretrained(tmp_path / "merged")
    processor = transformers.AutoProcessor.from_pretrained(base)
    processor.save_pretrained(tmp_path / "merged")
    merged = first(egl_fast.Scorer.from_pretrained(f"hf:{tmp_path / 'merged'}"), recordings)
    assert merged.pred_text == found.pred_text
    # Float32, and sums of at most 24 products in another order: well below a part in 10^4.
    assert merged.entropy == pytest.approx(found.entropy, rel=1e-4)
    assert merged.egl > found.egl


def test_adapters_may_bring_an_output_layer_and_a_vocabulary(base: Path, tmp_path: Path) -> None:
    headless = tmp_path / "headless"
    transformers.Wav2Vec2Model.from_pretrained(base).save_pretrained(headless)
    names = ["<unk>", "|", "X", "Y", "<pad>"]
    own = transformers.Wav2Vec2ForCTC.from_pretrained(
        headless, vocab_size=len(names), pad_token_id=4
    )
    folder = saved(adapted(own, modules_to_save=["lm_head"]), tmp_path / "lora")
    assert "no feature extractor" in refusal(f"hf:{folder}")
    transformers.Wav2Vec2Processor(
        MODELS["wav2vec2, layer norm"][1](), tokenizer(folder, names)
    ).save_pretrained(folder)
    found = load_recognizer(f"hf:{folder}", device=CPU)
    assert found.classes.vocabulary == tuple(names)
    assert found.classes.blank == 4
    head = {name for name, p in found.module.named_parameters() if p.requires_grad}
    assert "lm_head.modules_to_save.default.weight" in head
    samples = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.module(samples).logits, own.eval()(samples).logits)


def refusal(spec: str) -> str:
    with pytest.raises(EglError) as caught:
        load_recognizer(spec, device=CPU)
    message = str(caught.value)
    assert message.startswith(f"model {spec}: ")
    assert "\n" not in message
    return message


def test_what_is_missing_is_named(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = adapted(transformers.Wav2Vec2ForCTC.from_pretrained(base))
    folder = saved(made, tmp_path / "lora")
    path = folder / "adapter_config.json"
    settings = json.loads(path.read_text())

    path.write_text(json.dumps({**settings, "base_model_name_or_path": None}))
    assert "does not name the model" in refusal(f"hf:{folder}")
    path.write_text(json.dumps({**settings, "base_model_name_or_path": f"{tmp_path}/none"}))
    assert f"its base model {tmp_path}/none: no such folder" in refusal(f"hf:{folder}")
    path.write_text("{")
    assert "adapter_config.json cannot be used" in refusal(f"hf:{folder}")

    other = save("hubert", tmp_path / "other")
    path.write_text(json.dumps({**settings, "target_modules": ["nothing_like_it"]}))
    assert "the adapters do not fit" in refusal(f"hf:{folder}")
    path.write_text(json.dumps({**settings, "base_model_name_or_path": str(other)}))
    monkeypatch.setitem(sys.modules, "peft", None)
    assert "pip install peft" in refusal(f"hf:{folder}")

    weights = folder / "adapter_model.safetensors"
    torch.save({}, folder / "adapter_model.bin")
    weights.unlink()
    assert f"hf+pickle:{folder}" in refusal(f"hf:{folder}")
