"""Weights in a model file are refused unless types, shapes, names, and values are the model's."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch_archives as made
from torch_archives import refusal

from egl_fast import checkpoint as checkpoint_module
from egl_fast.checkpoint import load_checkpoint
from egl_fast.model import DeepSpeech2, ModelConfig


def sparse(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_sparse()


def quantized(tensor: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)


def with_one(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.clone()
        tensor[3] = value
        return tensor

    return change


WEIGHTS: dict[str, tuple[Callable[[torch.Tensor], Any], str]] = {
    "NaN": (with_one(float("nan")), "output.bias: contains NaN or infinity"),
    "infinity": (with_one(float("-inf")), "output.bias: contains NaN or infinity"),
    "too large for float32": (
        lambda t: t.double().fill_(1e300), "output.bias: contains NaN or infinity"),
    "int8": (lambda t: t.to(torch.int8), "expected floating-point numbers, got torch.int8"),
    "int64": (lambda t: t.to(torch.int64), "expected floating-point numbers, got torch.int64"),
    "bool": (lambda t: t > 0, "a type ('torch.BoolStorage') that no model file has"),
    "complex": (
        lambda t: t.to(torch.complex64), "a type ('torch.ComplexFloatStorage') that no model"),
    "float8": (lambda t: t.to(torch.float8_e4m3fn), "is not dense"),
    "quantized": (quantized, "a tensor that is not dense ('torch._utils._rebuild_qtensor')"),
    "sparse": (sparse, "a tensor that is not dense ('torch._utils._rebuild_sparse_tensor')"),
    "meta": (lambda t: t.to("meta"), "a tensor that is not dense"),
    "expanded": (
        lambda t: t[:1].expand(10**6, 10**6), "of shape [1000000, 1000000] in a part of"),
    "expanded to its size": (lambda t: t[:1].clone().expand(29), "of shape [29] in a part of 1"),
    "transposed": (lambda t: t.expand(1, 29).T, "the model has shape [29], the file [29, 1]"),
    "too short": (lambda t: t[:28].clone(), "the model has shape [29], the file [28]"),
    "empty": (lambda t: t[:0].clone(), "no numbers in its part"),
    "a list": (lambda t: t.tolist(), "output.bias: expected a tensor, got ["),
    "a number": (lambda t: 7.0, "output.bias: expected a tensor, got 7.0"),
    "nothing": (lambda t: None, "output.bias: expected a tensor, got None"),
}  # fmt: skip


@pytest.mark.parametrize("what", WEIGHTS)
def test_weights_that_are_not_the_models_are_refused(
    tmp_path: Path, model_content: dict[str, Any], what: str
) -> None:
    change, cause = WEIGHTS[what]
    state = model_content["state_dict"]
    state["output.bias"] = change(state["output.bias"])
    assert cause in refusal(made.changed(tmp_path, made.saved(model_content)))


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda state: state | {7: state["output.bias"].clone()}, "7 is not a weight of this"),
        (lambda state: state | {"x\ny": torch.zeros(1)}, "'x\\ny' is not a weight of this model"),
        (lambda state: list(state.values()), "expected tensors by name, got ["),
        (lambda state: {n: t for n, t in state.items() if n != "output.bias"}, "bias is missing"),
        (lambda state: state | {(1, 2): 3}, "keys are not strings or integers"),
        (
            lambda state: state | {"recurrent.0.norm.bias": state["recurrent.0.norm.weight"]},
            "weights that share their numbers",
        ),
        (
            lambda state: state | {"recurrent.0.norm.bias": state["recurrent.0.norm.weight"][:]},
            "tensors that share their numbers",
        ),
        (
            lambda state: state | {"convs.0.norm.running_var": torch.full((4,), -1.0)},
            "running_var: contains a variance below 0",
        ),
    ],
    ids=range(8),
)
def test_state_dicts_that_are_not_the_models_are_refused(
    tmp_path: Path, model_content: dict[str, Any], change: Callable[[Any], Any], cause: str
) -> None:
    model_content["state_dict"] = change(model_content["state_dict"])
    assert cause in refusal(made.changed(tmp_path, made.saved(model_content)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_floating_point_weights_of_any_precision_are_rounded_to_float32(
    tmp_path: Path, model_content: dict[str, Any], dtype: torch.dtype
) -> None:
    state = model_content["state_dict"]
    model_content["state_dict"] = {
        name: torch.nn.Parameter(tensor.to(dtype)) for name, tensor in state.items()
    }
    loaded = load_checkpoint(made.changed(tmp_path, made.saved(model_content))).model.state_dict()
    for name, tensor in loaded.items():
        assert torch.equal(tensor, state[name].to(dtype).float())


def test_a_model_is_built_from_shapes_alone(
    tmp_path: Path, model_content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A configuration within bounds, but with more weights than the file has."""
    model_content["model"] |= {"hidden_size": 3000, "num_layers": 6}
    path = made.changed(tmp_path, made.saved(model_content))
    assert ModelConfig(**model_content["model"]).num_weights > 10**8
    built: list[DeepSpeech2] = []

    def build(config: ModelConfig) -> DeepSpeech2:
        built.append(DeepSpeech2(config))
        return built[-1]

    monkeypatch.setattr(checkpoint_module, "DeepSpeech2", build)
    assert "recurrent.2.rnn.weight_ih_l0 is missing" in refusal(path)
    (model,) = built
    assert all(tensor.is_meta for tensor in model.state_dict().values())


def test_loading_leaves_the_random_state_alone(
    tmp_path: Path, model_content: dict[str, Any]
) -> None:
    path = made.changed(tmp_path, made.saved(model_content))
    before = torch.get_rng_state()
    model = load_checkpoint(path).model
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.requires_grad and p.is_contiguous() for p in model.parameters())
