"""Modules and library models at reduced size: every hypothesis against looped float64 autograd.

Beside those here, test_rules.py holds every module with a rule to the same, in each of its options,
and test_engine.py the models of foreign_models.py.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import library_models
import pytest
import torch
from foreign_models import batch
from plain_models import PLAIN_MODELS, WITHOUT_RULE
from test_engine import PROMISED
from torch import Tensor, nn

from egl_fast import ops
from egl_fast.gradients.engine import GradientEngine
from egl_fast.gradients.model_call import ModelInputs, call_model
from egl_fast.reference.gradients import looped_sq_norms

NUM_LABELINGS = 3


def state_of(model: nn.Module) -> list[Any]:
    """Everything that running a model must leave as it is."""
    modules = [
        (module.training, sorted(vars(module)), len(module._forward_hooks), len(module._buffers))
        for module in model.modules()
    ]
    parameters = [
        (name, id(p), p.requires_grad, p.grad is None, p._version, bits(p))
        for name, p in model.named_parameters()
    ]
    buffers = [(name, id(b), bits(b)) for name, b in model.named_buffers()]
    return [modules, parameters, buffers, bits(torch.get_rng_state())]


def bits(x: Tensor) -> bytes:
    return x.detach().numpy().tobytes()


def wide(inputs: ModelInputs, dtype: torch.dtype) -> ModelInputs:
    def cast(x: Tensor) -> Tensor:
        return x.to(dtype) if x.is_floating_point() else x

    named = {name: cast(x) for name, x in inputs.named.items()}
    return ModelInputs(tuple(map(cast, inputs.positional)), named)


def assert_conforms(
    model: nn.Module,
    inputs: ModelInputs,
    dtype: torch.dtype,
    *,
    without_rule: set[str] | frozenset[str] = frozenset(),
    blank: int = 0,
) -> None:
    double = copy.deepcopy(model).double().eval()
    model = model.to(dtype).train()
    before = state_of(model)
    engine = GradientEngine(model)
    own = wide(inputs, dtype)
    tape = engine.run(*own.positional, **own.named)
    logits, lengths = tape.outputs
    found = ops.ctc_beam_search(
        logits.detach().log_softmax(2), lengths, num_hypotheses=NUM_LABELINGS, blank=blank
    )
    labelings = found.labelings(0)
    hypotheses = ops.Hypotheses.of([labelings])
    _, cotangents = ops.ctc_logits_cotangents(logits.detach(), lengths, hypotheses, blank=blank)
    norms = engine.sq_norms(tape, cotangents)
    assert engine.coverage is not None
    assert set(engine.coverage.without_rule) == set(without_rule)
    counted = {name: p for name, p in double.named_parameters() if name in engine.parameters}
    truth = looped_sq_norms(
        partial(call_model, double), (wide(inputs, torch.float64),), labelings,
        parameters=counted, blank=blank,
    )  # fmt: skip
    for k, expected in enumerate(truth):
        got = {name: float(norms[name][0, k]) if name in norms else 0.0 for name in counted}
        total = sum(expected.values())
        assert sum(got.values()) == pytest.approx(total, rel=PROMISED[dtype])
        for name, value in expected.items():
            # A parameter with a tiny share is held to the same absolute error.
            limit = PROMISED[dtype] * max(value, 1e-3 * total)
            assert got[name] == pytest.approx(value, rel=0, abs=limit), name
    assert state_of(model) == before
    last = list(model.modules())[-1]

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    hook = last.register_forward_pre_hook(fail)
    with pytest.raises(ZeroDivisionError):
        engine.run(*own.positional, **own.named)
    hook.remove()
    assert state_of(model) == before


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("dtype", PROMISED, ids=str)
@pytest.mark.parametrize("name", PLAIN_MODELS)
def test_plain_models(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = PLAIN_MODELS[name]()
    x, lengths = batch()
    inputs = ModelInputs((x[:1, :9], lengths[:1]))
    assert_conforms(model, inputs, dtype, without_rule=WITHOUT_RULE.get(name, set()))


def test_the_blank_may_be_the_last_class() -> None:
    torch.manual_seed(0)
    x, lengths = batch()
    inputs = ModelInputs((x[:1, :9], lengths[:1]))
    assert_conforms(PLAIN_MODELS["conformer"](), inputs, torch.float64, blank=3)


@pytest.fixture(scope="module")
def transformers() -> Any:
    if sys.version_info < (3, 11):
        pytest.skip("the pinned transformers needs Python 3.11")
    return pytest.importorskip("transformers")


@pytest.mark.parametrize("dtype", PROMISED, ids=str)
@pytest.mark.parametrize("name", library_models.CASES)
def test_library_models(name: str, dtype: torch.dtype, transformers: Any) -> None:
    case = library_models.CASES[name]
    model = library_models.build(transformers, name, torch.float64)
    inputs = ModelInputs((), case.inputs())
    assert_conforms(model, inputs, dtype)


#: Adapters of peft, whose base is frozen.
ADAPTERS: dict[str, Callable[[Any], Any]] = {
    "lora": lambda peft: peft.LoraConfig(
        r=2, target_modules=["q_proj", "v_proj", "output_dense"], init_lora_weights=False
    ),
    "lora with the head": lambda peft: peft.LoraConfig(
        r=2, target_modules=["k_proj"], modules_to_save=["lm_head"], init_lora_weights=False
    ),
    "lora of two names": lambda peft: peft.LoraConfig(
        r=2, target_modules=["q_proj"], lora_bias=True, use_rslora=True, init_lora_weights=False
    ),
}


@pytest.mark.parametrize("dtype", PROMISED, ids=str)
@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
def test_adapters_of_peft(name: str, dtype: torch.dtype, transformers: Any) -> None:
    peft = pytest.importorskip("peft")
    base = library_models.build(transformers, "wav2vec2", torch.float64)
    model = peft.get_peft_model(base, ADAPTERS[name](peft))
    inputs = ModelInputs((), library_models.samples())
    assert_conforms(model, inputs, dtype)


def test_there_are_enough() -> None:
    models: Mapping[str, object] = {**PLAIN_MODELS, **library_models.CASES, **ADAPTERS}
    assert len(models) + 1 >= 50
