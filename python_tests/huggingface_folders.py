"""Tiny models of Hugging Face with random weights, saved as users have them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

if sys.version_info < (3, 11):
    pytest.skip("the pinned transformers needs Python 3.11", allow_module_level=True)

transformers: Any = pytest.importorskip("transformers")

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


def tokenizer(folder: Path, names: list[str] = NAMES) -> Any:
    """Of characters."""
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(json.dumps({name: index for index, name in enumerate(names)}))
    return transformers.Wav2Vec2CTCTokenizer(
        str(vocabulary), unk_token="<unk>", pad_token="<pad>", word_delimiter_token="|"
    )


def built(name: str) -> Any:
    """A model whose output is strong enough to transcribe something."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = MODELS[name][0]()
    with torch.no_grad():
        module.lm_head.weight.mul_(10)
    return module


def save(name: str, folder: Path) -> Path:
    """A model and its processor in a folder."""
    transformers.utils.logging.disable_progress_bar()
    built(name).save_pretrained(folder)
    transformers.Wav2Vec2Processor(MODELS[name][1](), tokenizer(folder)).save_pretrained(folder)
    return folder
