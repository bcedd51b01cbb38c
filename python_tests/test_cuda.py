"""What emulation cannot show, on a GPU; skipped where there is none.

The operators' own tests run on a GPU too: see test_cuda_halves.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pytest
import torch
from foreign_models import FOREIGN_MODELS, VOCABULARY, batch, build
from random_ctc import as_hypotheses, random_logits
from recordings import random_checkpoint, scorer_of, waveform
from test_devices import assert_close, scorer_on
from torch import Tensor, nn

import egl_fast
from egl_fast import ops
from egl_fast.checkpoint import load_checkpoint
from egl_fast.data.audio import load_audio
from egl_fast.data.manifest import read_manifest

pytestmark = pytest.mark.cuda

CUDA = torch.device("cuda", 0)
METHODS: list[dict[str, Any]] = [
    {"method": "exact", "per_hypothesis": True},
    {"method": "lowrank", "tolerance": 0.1, "full": True},
    {"method": "probe", "full": True},
]


@pytest.fixture(scope="module")
def recordings(examples: Path) -> list[npt.NDArray[Any]]:
    """Eight recordings of the sample."""
    utterances = read_manifest(examples / "pool.jsonl")[::8]
    return [load_audio(utterance, sample_rate_hz=16000) for utterance in utterances]


def double_scorer(examples: Path, device: torch.device | str) -> egl_fast.Scorer:
    checkpoint = load_checkpoint(examples / "base.pt", device=device)
    checkpoint.model.double()
    return scorer_of(checkpoint)


@pytest.mark.parametrize("options", METHODS, ids=lambda options: options["method"])
def test_scores_in_double_are_those_of_the_cpu(
    examples: Path, recordings: list[npt.NDArray[Any]], options: dict[str, Any]
) -> None:
    arguments: dict[str, Any] = {"sample_rate_hz": 16000, "k": 30, "beam_width": 100, **options}
    expected = double_scorer(examples, "cpu").score_waveforms(recordings, **arguments)
    found = double_scorer(examples, CUDA).score_waveforms(recordings, **arguments)
    assert_close(found, expected)


def test_scores_in_float32_are_those_in_double(
    examples: Path, recordings: list[npt.NDArray[Any]]
) -> None:
    """So no product was rounded to TF32, which errs by 1e-3 and more (docs/cuda.md)."""
    arguments: dict[str, Any] = {"sample_rate_hz": 16000, "k": 30, "beam_width": 100}
    exact = double_scorer(examples, CUDA).score_waveforms(recordings, **arguments)
    scorer = egl_fast.Scorer.from_checkpoint(examples / "base.pt", device="cuda")
    for ours, theirs in zip(scorer.score_waveforms(recordings, **arguments), exact, strict=True):
        assert ours.egl == pytest.approx(theirs.egl, rel=3e-4)


def test_the_same_call_gives_the_same_bits(
    examples: Path, recordings: list[npt.NDArray[Any]]
) -> None:
    scorer = egl_fast.Scorer.from_checkpoint(examples / "base.pt", device="cuda")
    runs = [scorer.score_waveforms(recordings, sample_rate_hz=16000, k=50) for _ in range(3)]
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_shorter_products_err_by_little(
    examples: Path, recordings: list[npt.NDArray[Any]], precision: str
) -> None:
    arguments: dict[str, Any] = {"sample_rate_hz": 16000, "k": 30}
    scores = []
    for name in ("float32", precision):
        scorer = egl_fast.Scorer.from_checkpoint(
            examples / "base.pt", device="cuda", precision=name
        )
        scores.append([r.egl_normalized for r in scorer.score_waveforms(recordings, **arguments)])
    exact, rounded = torch.tensor(scores)
    errors = (rounded / exact - 1).abs()
    assert errors.max() > 0
    assert errors.median() < (0.005 if precision == "tf32" else 0.05)


@pytest.mark.parametrize("name", FOREIGN_MODELS)
def test_foreign_models_score_as_on_the_cpu(name: str) -> None:
    model, (x, lengths) = build(name), batch()
    options: dict[str, Any] = {"k": 6, "per_hypothesis": True}
    expected = egl_fast.Scorer(model, VOCABULARY).score_batch(x, lengths, **options)
    scorer = egl_fast.Scorer(model.to(CUDA), VOCABULARY)
    assert_close(scorer.score_batch(x.to(CUDA), lengths.to(CUDA), **options), expected)


def problem(device: torch.device, *, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    logits = random_logits(3, 4, 30, 12, scale=4.0).to(device, dtype)
    inputs = torch.randn(4, 30, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return {
        "logits": logits,
        "lengths": torch.tensor([30, 17, 1, 25], device=device),
        "keys": torch.tensor([1, -5, 2**60, 9], device=device),
        "frame_gram": (inputs @ inputs.transpose(1, 2)).to(device),
    }


def tensors_of(found: ops.NbestCotangents) -> list[Tensor]:
    h = found.hypotheses
    return [h.labels, h.label_lengths, h.log_prob, h.search_log_prob, h.counts, found.cotangents,
            found.combinations, found.num_directions, found.num_probes, found.cotangent_sq_norms,
            *([] if found.output_sq_norms is None else [found.output_sq_norms])]  # fmt: skip


def fused(
    arguments: dict[str, Any], *, tolerance: float = 0.0, probes: int = 0, span: float = 0.0
) -> tuple[Tensor, ...]:
    """The operator itself, without what the Python function waits for."""
    found: tuple[Tensor, ...] = torch.ops.egl_fast.ctc_nbest_cotangents.default(
        arguments["logits"], arguments["lengths"], 20, 64, tolerance, probes, span,
        arguments["keys"], arguments["frame_gram"], 0,
    )  # fmt: skip
    return found


OPTIONS: list[dict[str, Any]] = [{}, {"tolerance": 0.1}, {"probes": 4}, {"span": 2.0**-20}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_fused_operator_in_a_cuda_graph(options: dict[str, Any]) -> None:
    """Capture shows that it waits for nothing; a replay computes with the new values."""
    arguments = problem(CUDA)
    fused(arguments, **options)  # sets up what is set up only once
    other = {**arguments, "logits": arguments["logits"].flip(0).clone()}
    expected = [fused(a, **options) for a in (arguments, other)]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = fused(arguments, **options)
    graph.replay()
    for ours, theirs in zip(captured, expected[0], strict=True):
        assert torch.equal(ours, theirs)
    arguments["logits"].copy_(other["logits"])
    graph.replay()
    for ours, theirs in zip(captured, expected[1], strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_the_recurrent_operators_in_a_cuda_graph(cell: ops.RecurrentCell) -> None:
    gates, parts = {"rnn": (1, 1), "gru": (3, 5), "lstm": (4, 6)}[cell]
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return (torch.randn(shape, generator=generator) / 4).to(CUDA)

    scan = ops.RecurrentScan(
        normal(6, 3, gates * 16), normal(gates * 16, 16), normal(gates * 16), normal(3, 16),
        normal(3, 16) if cell == "lstm" else None,
    )  # fmt: skip
    cotangents, coefficients = normal(6, 5, 3, 16), normal(6, 3, parts, 16)

    def both() -> list[Tensor]:
        [forward] = ops.recurrent_forward(cell, [scan], precise=True)
        backward = ops.recurrent_backward(
            cell, cotangents, coefficients, scan.weight_hh, reverse=True
        )
        return [forward.states, forward.coefficients, backward.gates, backward.state]

    both()
    expected = both()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = both()
    graph.replay()
    for ours, theirs in zip(captured, expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_the_fused_operator_waits_for_nothing() -> None:
    arguments = problem(CUDA)
    expected = fused(arguments, span=2.0**-20)
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with pytest.raises(RuntimeError, match="synchronizing CUDA operation"):
            expected[0].cpu()  # the mode notices a wait
        found = fused(arguments, span=2.0**-20)
    finally:
        torch.cuda.set_sync_debug_mode(mode)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)


def test_work_is_queued_on_the_current_stream() -> None:
    arguments = problem(CUDA)
    expected = fused(arguments, tolerance=0.1)
    logits = arguments["logits"].clone()
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        # On any other stream, the search would finish on zeros before the copy.
        late = torch.zeros_like(logits)
        torch.cuda._sleep(200_000_000)
        late.copy_(logits)
        found = fused({**arguments, "logits": late}, tolerance=0.1)
    assert not stream.query()
    stream.synchronize()
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is no second GPU")
def test_a_second_device_while_the_first_is_current() -> None:
    second = torch.device("cuda", 1)
    with torch.cuda.device(0):
        found = ops.ctc_nbest_cotangents(**problem(second), num_hypotheses=20, beam_width=64)
        assert {x.device for x in tensors_of(found)} == {second}
        first = ops.ctc_nbest_cotangents(**problem(CUDA), num_hypotheses=20, beam_width=64)
        for ours, theirs in zip(tensors_of(found), tensors_of(first), strict=True):
            assert torch.equal(ours.cpu(), theirs.cpu())
        arguments: dict[str, Any] = {"sample_rate_hz": 16000, "k": 6}
        records = scorer_on(second).score_waveforms([waveform(0.5)], **arguments)
    assert_close(records, scorer_on(CUDA).score_waveforms([waveform(0.5)], **arguments))


def test_tensors_on_different_devices_are_named() -> None:
    arguments = problem(CUDA)
    for name in ("lengths", "keys", "frame_gram"):
        wrong = {**arguments, name: arguments[name].cpu()}
        with pytest.raises(ValueError, match=f"{name}: expected on cuda:0 as logits, got on cpu"):
            ops.ctc_nbest_cotangents(**wrong, num_hypotheses=4)
    hypotheses = as_hypotheses([[(1,), (2,)]] * 4)
    with pytest.raises(ValueError, match="labels: expected on cuda:0 as logits, got on cpu"):
        ops.ctc_logits_cotangents(arguments["logits"], arguments["lengths"], hypotheses)


def test_what_does_not_fit_a_gpu_is_refused() -> None:
    arguments = problem(CUDA)
    with pytest.raises(ValueError, match="beam_width: expected at most 1024 on cuda, got 1025"):
        ops.ctc_nbest_cotangents(**arguments, num_hypotheses=5, beam_width=1025)
    with pytest.raises(ValueError, match="beam_width: expected at most 1024 on cuda, got 2000"):
        ops.ctc_nbest_cotangents(**arguments, num_hypotheses=2000)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_layers_that_run_as_they_are_have_gradients(kind: type[nn.RNNBase]) -> None:
    """cuDNN refuses a backward pass in evaluation mode; torch's own kernels take its place."""

    class Foreign(kind):  # type: ignore[misc, valid-type]
        def forward(self, *args: Any) -> Any:
            return super().forward(*args)

    model, (x, lengths) = build("packed_gru", dtype=torch.float32), batch(dtype=torch.float32)
    model.rnn = Foreign(5, 7, batch_first=True, bidirectional=True)
    expected = egl_fast.Scorer(model, VOCABULARY).score_batch(x, lengths, k=5)
    scorer = egl_fast.Scorer(model.to(CUDA), VOCABULARY)
    found = scorer.score_batch(x.to(CUDA), lengths.to(CUDA), k=5)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.egl == pytest.approx(theirs.egl, rel=1e-4)


def test_random_state_is_as_it_was() -> None:
    scorer = scorer_on(CUDA)
    torch.cuda.manual_seed(5)
    before = torch.cuda.get_rng_state()
    scorer.score_waveforms([waveform(0.4)], sample_rate_hz=16000, k=4, method="probe", full=True)
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_commands_take_a_device(examples: Path, tmp_path: Path) -> None:
    pool = tmp_path / "pool.jsonl"
    lines = (examples / "pool.jsonl").read_text(encoding="utf-8").splitlines()[:4]
    records = [json.loads(line) for line in lines]
    for record in records:
        record["audio_filepath"] = str(examples / record["audio_filepath"])
    pool.write_text("".join(json.dumps(record) + "\n" for record in records))
    for device in ("cuda", "cuda:0", "auto"):
        out = tmp_path / f"{device}.jsonl"
        subprocess.run(
            [sys.executable, "-m", "egl_fast", "score", "--model", examples / "base.pt", "--pool",
             pool, "--k", "10", "--device", device, "--out", out],
            check=True,
        )  # fmt: skip
        meta = json.loads(Path(f"{out}.meta.json").read_text())
        assert meta["device"].startswith("cuda")
        assert meta["gpu"] == torch.cuda.get_device_name(0)
        assert meta["precision"] == "float32"
    done = subprocess.run(
        [sys.executable, "-m", "egl_fast", "check", "--model", examples / "base.pt", "--pool",
         pool, "--device", "cuda", "--utterances", "2"],
    )  # fmt: skip
    assert done.returncode == 0


def test_a_training_step_on_the_gpu_is_one_on_the_cpu() -> None:
    from egl_fast.recurrent import scanned_recurrence

    losses = []
    for device in ("cpu", "cuda"):
        model = random_checkpoint().model.to(device, torch.float64).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        features = torch.randn(
            2, 60, 161, generator=torch.Generator().manual_seed(0), dtype=torch.float64
        ).to(device)
        for _ in range(3):
            with scanned_recurrence(model):
                logits, num_frames = model(features, torch.tensor([60, 41]))
                loss = nn.functional.ctc_loss(
                    logits.log_softmax(2).transpose(0, 1), torch.tensor([[3, 4], [5, 5]]),
                    num_frames, torch.tensor([2, 2]), reduction="sum",
                )  # fmt: skip
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        losses.append(loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
