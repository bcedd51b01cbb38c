"""CTC models of transformers, reduced to a few hundred weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

NUM_CLASSES = 7


class Case(NamedTuple):
    """A model with an input for it."""

    make: Callable[[Any], nn.Module]  # given the package
    inputs: Callable[[], Mapping[str, Tensor]]


ENCODER = {
    "vocab_size": NUM_CLASSES,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 10,
    "pad_token_id": 0,
}
CONVOLUTIONS = {
    "conv_dim": (6, 6),
    "conv_kernel": (8, 4),
    "conv_stride": (6, 4),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}
#: Only the second layer of a WavLM uses the gate alone; the first makes the positions' biases.
GATED = {"num_hidden_layers": 2, "num_buckets": 8}
STABLE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}


def samples() -> dict[str, Tensor]:
    return {"input_values": torch.randn(1, 256, generator=torch.Generator().manual_seed(1))}


def filters(width: int = 8, frames: int = 12) -> Callable[[], dict[str, Tensor]]:
    random = torch.Generator().manual_seed(1)
    return lambda: {"input_features": torch.randn(1, frames, width, generator=random)}


def on_samples(name: str, **config: Any) -> Case:
    def make(package: Any) -> nn.Module:
        options = {**ENCODER, **CONVOLUTIONS, **config}
        kind = getattr(package, f"{name}Config")(**options)
        model: nn.Module = getattr(package, f"{name}ForCTC")(kind)
        return model

    return Case(make, samples)


def on_filters(**config: Any) -> Case:
    def make(package: Any) -> nn.Module:
        options = {
            **ENCODER, "feature_projection_input_dim": 8, "conv_depthwise_kernel_size": 3,
            "max_source_positions": 32, **config,
        }  # fmt: skip
        model: nn.Module = package.Wav2Vec2BertForCTC(package.Wav2Vec2BertConfig(**options))
        return model

    return Case(make, filters())


def of_encoder(name: str, width: int, frames: int, **config: Any) -> Case:
    """Whose configuration holds that of an encoder."""

    def make(package: Any) -> nn.Module:
        encoder = {
            "vocab_size": NUM_CLASSES, "hidden_size": 8, "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 2, "intermediate_size": 10, "num_mel_bins": width,
            "conv_kernel_size": 3, "subsampling_conv_channels": 4, **config,
        }  # fmt: skip
        kind = getattr(package, f"{name}CTCConfig")
        model: nn.Module = getattr(package, f"{name}ForCTC")(
            kind(vocab_size=NUM_CLASSES, pad_token_id=0, encoder_config=encoder)
        )
        return model

    # Granite speech takes four frames with their derivatives as one.
    inputs = 4 * width if name == "GraniteSpeech5" else width
    return Case(make, filters(inputs, frames))


CASES: dict[str, Case] = {
    "wav2vec2": on_samples("Wav2Vec2"),
    "wav2vec2 layer norm": on_samples("Wav2Vec2", feat_extract_norm="layer", conv_bias=True),
    "wav2vec2 stable": on_samples("Wav2Vec2", **STABLE),
    "wav2vec2 adapter": on_samples(
        "Wav2Vec2", add_adapter=True, num_adapter_layers=1, output_hidden_size=8
    ),
    "wav2vec2 mms": on_samples("Wav2Vec2", adapter_attn_dim=4, **STABLE),
    "hubert": on_samples("Hubert"),
    "hubert batch norm": on_samples("Hubert", conv_pos_batch_norm=True),
    "hubert stable": on_samples("Hubert", feat_proj_layer_norm=False, **STABLE),
    "wavlm": on_samples("WavLM", **GATED),
    "wavlm stable": on_samples("WavLM", **GATED, **STABLE),
    "unispeech": on_samples("UniSpeech"),
    "unispeech-sat": on_samples("UniSpeechSat"),
    "data2vec": on_samples("Data2VecAudio", num_conv_pos_embeddings=2, conv_pos_kernel_size=3),
    "sew": on_samples("SEW", squeeze_factor=2),
    "sew-d": on_samples(
        "SEWD", squeeze_factor=2, max_position_embeddings=16, position_buckets=8,
        pos_att_type=("p2c", "c2p"),
    ),
    "conformer relative": on_samples(
        "Wav2Vec2Conformer", position_embeddings_type="relative", conv_depthwise_kernel_size=3
    ),
    "conformer rotary": on_samples(
        "Wav2Vec2Conformer", position_embeddings_type="rotary", conv_depthwise_kernel_size=3
    ),
    "conformer without positions": on_samples(
        "Wav2Vec2Conformer", position_embeddings_type=None, conv_depthwise_kernel_size=3
    ),
    "bert relative key": on_filters(position_embeddings_type="relative_key"),
    "bert relative": on_filters(position_embeddings_type="relative"),
    "bert rotary": on_filters(position_embeddings_type="rotary"),
    "bert without positions": on_filters(position_embeddings_type=None),
    "bert adapter": on_filters(add_adapter=True, num_adapter_layers=1, output_hidden_size=8),
    "parakeet": of_encoder("Parakeet", 16, 40, subsampling_factor=4),
    "lasr": of_encoder("Lasr", 8, 40),
    "granite speech": of_encoder("GraniteSpeech5", 8, 16, head_dim=4, context_size=8),
}  # fmt: skip


def build(package: Any, name: str, dtype: torch.dtype) -> nn.Module:
    """A model with random weights, norms and running statistics included."""
    torch.manual_seed(0)
    model = CASES[name].make(package)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
        for buffer_name, buffer in model.named_buffers():
            if buffer_name.endswith("running_mean"):
                buffer.normal_()
            elif buffer_name.endswith("running_var"):
                buffer.uniform_(0.5, 2.0)
    return model.to(dtype)
