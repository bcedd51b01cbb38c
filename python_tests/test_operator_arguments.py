"""Unusual tensors and numbers for every operator: the right result, or a one-line error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from egl_fast import ops
from egl_fast.compute.products import matrix_product

Arguments = dict[str, Any]
Call = Callable[[Arguments], Any]

_HYPOTHESES = ops.Hypotheses.of([[(1,), (2, 1)], [(2,)]])
_LABELINGS = _HYPOTHESES.by_name


def _random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape) + sum(shape)))


def _hypotheses(a: Arguments) -> ops.Hypotheses:
    return replace(_HYPOTHESES, **{name: a[name] for name in _LABELINGS})


def _scan(a: Arguments) -> ops.RecurrentScan:
    return ops.RecurrentScan(a["projected"], a["weight_hh"], a["bias_hh"], a["initial_state"])


_EMISSIONS = _random(2, 4, 3).log_softmax(2)
_LENGTHS = torch.tensor([4, 3])
_KEYS = torch.tensor([3, -4])

#: Every public operator: valid arguments, and the call.
OPERATORS: dict[str, tuple[Arguments, Call]] = {
    "ctc_beam_search": (
        {"log_probs": _EMISSIONS, "lengths": _LENGTHS},
        lambda a: ops.ctc_beam_search(a["log_probs"], a["lengths"], num_hypotheses=3),
    ),
    "ctc_occupancy": (
        {"log_probs": _EMISSIONS, "lengths": _LENGTHS, **_LABELINGS},
        lambda a: ops.ctc_occupancy(a["log_probs"], a["lengths"], _hypotheses(a)),
    ),
    "ctc_logits_cotangents": (
        {"logits": _EMISSIONS, "lengths": _LENGTHS, **_LABELINGS},
        lambda a: ops.ctc_logits_cotangents(a["logits"], a["lengths"], _hypotheses(a)),
    ),
    "ctc_nbest_cotangents": (
        {
            "logits": _EMISSIONS,
            "lengths": _LENGTHS,
            "keys": _KEYS,
            "frame_gram": torch.eye(4, dtype=torch.float64).expand(2, 4, 4),
        },
        lambda a: ops.ctc_nbest_cotangents(
            a["logits"],
            a["lengths"],
            num_hypotheses=5,
            probes=2,
            keys=a["keys"],
            frame_gram=a["frame_gram"],
        ),
    ),
    "ctc_hypothesis_normals": (
        {**_LABELINGS, "keys": _KEYS},
        lambda a: ops.ctc_hypothesis_normals(_hypotheses(a), a["keys"], num_normals=2),
    ),
    "recurrent_forward": (
        {
            "projected": _random(4, 2, 9),
            "weight_hh": _random(9, 3),
            "bias_hh": _random(9),
            "initial_state": _random(2, 3),
            "valid": torch.tensor([[True, True], [True, False], [True, False], [True, False]]),
        },
        lambda a: ops.recurrent_forward("gru", [_scan(a)], valid=a["valid"]),
    ),
    "recurrent_backward": (
        {
            "cotangents": _random(4, 5, 2, 3),
            "coefficients": _random(4, 2, 6, 3),
            "weight_hh": _random(12, 3),
            "final_cell_cotangents": _random(5, 2, 3),
        },
        lambda a: ops.recurrent_backward(
            "lstm",
            a["cotangents"],
            a["coefficients"],
            a["weight_hh"],
            reverse=True,
            final_cell_cotangents=a["final_cell_cotangents"],
        ),
    ),
    "row_sq_norms": ({"rows": _random(2, 3, 4)}, lambda a: ops.row_sq_norms(a["rows"])),
}
CASES = [(name, argument) for name, (given, _) in OPERATORS.items() for argument in given]


def _tensors(result: Any) -> list[Tensor]:
    if is_dataclass(result):
        return _tensors([getattr(result, field.name) for field in fields(result)])
    if isinstance(result, (list, tuple)):
        return [tensor for part in result for tensor in _tensors(part)]
    return [result] if isinstance(result, Tensor) else []


def _call(name: str, **changes: Any) -> list[Tensor]:
    given, call = OPERATORS[name]
    return _tensors(call({**given, **changes}))


def _strided(tensor: Tensor) -> Tensor:
    return torch.stack([tensor, tensor], dim=-1)[..., 1]


def _negative_view(tensor: Tensor) -> Tensor:
    view = torch.complex(torch.zeros_like(tensor), -tensor).conj().imag
    assert view.is_neg()
    return view


def _requires_grad(tensor: Tensor) -> Tensor:
    return tensor.clone().requires_grad_()


def _in_inference_mode(tensor: Tensor) -> Tensor:
    with torch.inference_mode():
        return tensor.clone()


def _cases_of(takes: Callable[[Tensor], bool]) -> list[tuple[str, str]]:
    return [case for case in CASES if takes(OPERATORS[case[0]][0][case[1]])]


#: The same values held differently, and which tensors can be held so.
ALIKE: list[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], bool]]] = [
    (_strided, lambda x: True),
    (_negative_view, Tensor.is_floating_point),
    (_requires_grad, Tensor.is_floating_point),
    (_in_inference_mode, lambda x: True),
    (Tensor.contiguous, lambda x: True),
]


@pytest.mark.parametrize(
    ("name", "argument", "kind"),
    [(*case, kind) for kind, takes in ALIKE for case in _cases_of(takes)],
)
def test_what_has_the_same_values_gives_the_same_results(
    name: str, argument: str, kind: Callable[[Tensor], Tensor]
) -> None:
    changed = kind(OPERATORS[name][0][argument])
    expected = _call(name)
    for inference in (False, True):
        with torch.inference_mode(inference):
            found = _call(name, **{argument: changed})
        assert not any(tensor.requires_grad for tensor in found)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(("name", "argument"), CASES)
def test_a_tensor_that_repeats_itself_is_what_it_would_be_in_full(name: str, argument: str) -> None:
    tensor = OPERATORS[name][0][argument]
    repeated = tensor[:1].expand(tensor.shape)  # a stride of 0
    found, expected = (_call(name, **{argument: x}) for x in (repeated, repeated.clone()))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


#: Kinds that are refused, and what of the message says why.
REFUSED: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "sparse": (Tensor.to_sparse, "expected a dense tensor, got one of layout sparse_coo"),
    "csr": (Tensor.to_sparse_csr, "expected a dense tensor, got one of layout sparse_csr"),
    "onednn": (Tensor.to_mkldnn, "expected a dense tensor, got one of layout mkldnn"),
    "quantized": (
        lambda x: torch.quantize_per_tensor(x.float(), 0.1, 0, torch.qint8),
        "expected plain numbers, got a quantized tensor",
    ),
    "nested": (
        lambda x: torch.nested.nested_tensor(list(x)),
        "expected a padded tensor, got a nested one",
    ),
    "half": (lambda x: x.half(), "expected .*, got (torch.)?float16"),
    "bfloat16": (lambda x: x.bfloat16(), "expected .*, got (torch.)?bfloat16"),
    "complex": (lambda x: x.to(torch.complex64), "expected .*, got (torch.)?complex64"),
    "number": (lambda x: x.flatten()[0], r"expected .*, got \w+ \[\]"),
    "one dimension more": (lambda x: x[None], r"expected .*, got \w+ \[1, "),
    "array": (Tensor.numpy, "expected a tensor, got ndarray"),
    "list": (Tensor.tolist, "expected a tensor, got list"),
}
#: Those that only some tensors can be turned into.
POSSIBLE: dict[str, Callable[[Tensor], bool]] = {
    "csr": lambda x: x.dim() == 2,
    "onednn": lambda x: x.dtype == torch.float32,
    "nested": lambda x: x.dim() > 1,
}


@pytest.mark.filterwarnings("ignore")  # by torch: sparse, quantized, and nested tensors are in beta
@pytest.mark.parametrize(
    ("name", "argument", "kind"),
    [(*case, kind) for kind in REFUSED for case in _cases_of(POSSIBLE.get(kind, lambda x: True))],
)
def test_other_kinds_are_refused_in_one_line(name: str, argument: str, kind: str) -> None:
    make, message = REFUSED[kind]
    changed = make(OPERATORS[name][0][argument])
    with pytest.raises((TypeError, ValueError), match=f"^{argument}: {message}") as caught:
        _call(name, **{argument: changed})
    assert "\n" not in str(caught.value)


OPTIONAL = ("keys", "frame_gram", "bias_hh", "valid", "final_cell_cotangents")


@pytest.mark.parametrize(("name", "argument"), [case for case in CASES if case[1] not in OPTIONAL])
def test_what_is_missing_is_named(name: str, argument: str) -> None:
    with pytest.raises(TypeError, match=f"^{argument}: expected a tensor, got NoneType$"):
        _call(name, **{argument: None})


@pytest.mark.parametrize(("name", "argument"), [case for case in CASES if case[1] != "rows"])
def test_tensors_of_two_devices_are_refused_in_one_line(name: str, argument: str) -> None:
    with pytest.raises(ValueError, match=r"^\w+: expected on (cpu|meta) as \w+, got on "):
        _call(name, **{argument: OPERATORS[name][0][argument].to("meta")})


def _on_meta(name: str) -> Arguments:
    return {argument: tensor.to("meta") for argument, tensor in OPERATORS[name][0].items()}


@pytest.mark.parametrize("name", sorted(OPERATORS.keys() - {"ctc_nbest_cotangents"}))
def test_on_the_meta_device_there_are_shapes(name: str) -> None:
    found, expected = _call(name, **_on_meta(name)), _call(name)
    assert [(x.shape[:2], x.dtype) for x in found if x.is_meta] == [
        (x.shape[:2], x.dtype) for x, there in zip(expected, found, strict=True) if there.is_meta
    ]


def test_the_fused_operators_shapes_depend_on_values() -> None:
    with pytest.raises(ValueError, match=r"^logits: expected values, which decide the number"):
        _call("ctc_nbest_cotangents", **_on_meta("ctc_nbest_cotangents"))


@pytest.mark.parametrize(("name", "argument"), CASES)
def test_empty_sizes_give_a_result_or_a_one_line_error(name: str, argument: str) -> None:
    tensor = OPERATORS[name][0][argument]
    for dim in range(tensor.dim()):
        without = {argument: tensor.narrow(dim, 0, 0)}
        if name == "row_sq_norms":
            assert not _call(name, **without)[0].any()
            continue
        with pytest.raises(ValueError, match=r"^\w+: expected [^\n]+$"):
            _call(name, **without)


LARGE = 2**70


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"num_hypotheses": LARGE}, ValueError, "num_hypotheses: expected an integer of 64 bits"),
        ({"num_hypotheses": -LARGE}, ValueError, "num_hypotheses: expected an integer of 64 bits"),
        ({"num_hypotheses": 2**62}, ValueError, "num_hypotheses: expected 1 to 2147483647"),
        ({"num_hypotheses": -(2**63)}, ValueError, "num_hypotheses: expected 1 to 2147483647"),
        ({"num_hypotheses": 2.0}, TypeError, "num_hypotheses: expected an integer, got 2.0"),
        ({"num_hypotheses": None}, TypeError, "num_hypotheses: expected an integer, got None"),
        ({"num_hypotheses": True}, TypeError, "num_hypotheses: expected an integer, got True"),
        ({"beam_width": "3"}, TypeError, "beam_width: expected an integer, got '3'"),
        ({"blank": 0.0}, TypeError, "blank: expected an integer, got 0.0"),
        ({"blank": None}, TypeError, "blank: expected an integer, got None"),
        ({"blank": -1}, ValueError, "blank: expected a class index"),
        ({"probes": 2.5}, TypeError, "probes: expected an integer, got 2.5"),
        ({"probes": LARGE}, ValueError, "probes: expected an integer of 64 bits"),
        ({"tolerance": torch.nan}, ValueError, "tolerance: expected a share between 0 and 1"),
        ({"span": torch.inf}, ValueError, "span: expected a share between 0 and 1"),
    ],
)
def test_absurd_numbers_are_named(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    arguments = {"num_hypotheses": 3, **changes}
    with pytest.raises(error, match=f"^{message}"):
        ops.ctc_nbest_cotangents(_EMISSIONS, _LENGTHS, **arguments)
    if not changes.keys() & {"probes", "tolerance", "span"}:
        with pytest.raises(error, match=f"^{message}"):
            ops.ctc_beam_search(_EMISSIONS, _LENGTHS, **arguments)
    if "blank" in changes:
        for operator in (ops.ctc_occupancy, ops.ctc_logits_cotangents):
            with pytest.raises(error, match=f"^{message}"):
                operator(_EMISSIONS, _LENGTHS, _HYPOTHESES, **changes)


@pytest.mark.parametrize("count", [LARGE, 2**62, -1, 1.5])
def test_absurd_numbers_of_normals_are_named(count: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^num_normals: expected "):
        ops.ctc_hypothesis_normals(_HYPOTHESES, _KEYS, num_normals=count)


def test_integers_of_other_libraries_are_integers() -> None:
    found = ops.ctc_beam_search(
        _EMISSIONS, _LENGTHS, num_hypotheses=np.int64(3), beam_width=np.int32(50), blank=np.int8(0)
    )
    expected = ops.ctc_beam_search(_EMISSIONS, _LENGTHS, num_hypotheses=3, beam_width=50)
    assert torch.equal(found.labels, expected.labels)


def test_wide_beams_and_many_probes_cost_no_more_than_is_there() -> None:
    found = ops.ctc_nbest_cotangents(
        _EMISSIONS, _LENGTHS, num_hypotheses=3, beam_width=2**63 - 1, probes=2**31 - 1
    )
    assert found.num_directions.tolist() == [3, 3]


def test_results_that_do_not_fit_into_memory_say_so() -> None:
    """In the words by which scoring knows to retry with less (scoring/schedule/batches.py)."""
    repeated = torch.zeros(1).expand(1, 2**40, 2**12)
    with pytest.raises(RuntimeError, match=r"DefaultCPUAllocator: .*memory|overflow") as caught:
        ops.ctc_logits_cotangents(repeated, torch.tensor([2]), ops.Hypotheses.of([[(1,)]]))
    assert "\n" not in str(caught.value)
    repeated = torch.zeros(1).expand(1, 2**34, 2**12)
    with pytest.raises(RuntimeError, match=r"DefaultCPUAllocator: .*memory"):
        ops.ctc_logits_cotangents(repeated, torch.tensor([2]), ops.Hypotheses.of([[(1,)]]))


def test_matrix_product_is_registered_correctly() -> None:
    torch.library.opcheck(
        torch.ops.egl_fast.matrix_product.default, (_random(2, 4, 3), _random(3, 5))
    )
    assert matrix_product(_random(2, 4, 3), _random(3, 5)).shape == (2, 4, 5)
