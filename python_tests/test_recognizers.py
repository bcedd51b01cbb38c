"""One notion of a recognizer: every command and every method takes any, by the same path."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import small_factory
import torch
from conftest import Run
from recordings import load, random_checkpoint

import egl_fast
from egl_fast.data.manifest import read_manifest
from egl_fast.errors import EglError, ModelError
from egl_fast.gradients.model_call import ModelInputs
from egl_fast.recognizers.checkpoint import recognizer_of
from egl_fast.recognizers.recognizer import Recognizer
from egl_fast.recognizers.spec import Spec, load_recognizer, parse

SMALL = f"{small_factory.__file__}:recognizer"
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("base.pt", Spec("checkpoint", "base.pt")),
        ("dir/a:b.pt", Spec("checkpoint", "dir/a:b.pt")),
        ("hf:dir/x", Spec("hf", "dir/x")),
        ("hf+pickle:x", Spec("hf", "x", requests=frozenset({"pickle"}))),
        ("nemo:a.nemo", Spec("nemo", "a.nemo")),
        ("hf:~/x", Spec("hf", f"{Path.home()}/x")),
        ("~/f.py:make", Spec("factory", f"{Path.home()}/f.py", "make")),
        ("my/file.py:make", Spec("factory", "my/file.py", "make")),
        ("C:/f.py:make", Spec("factory", "C:/f.py", "make")),
        ("pack.age:make", Spec("factory", "pack.age", "make")),
    ],
)
def test_a_spec_says_what_loads_it(text: str, spec: Spec) -> None:
    assert parse(text) == spec


def test_a_file_with_the_name_of_a_factory_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model:v2").write_bytes(b"")
    assert parse("model:v2").kind == "checkpoint"


def fail_with(spec: str) -> str:
    with pytest.raises(EglError) as caught:
        load_recognizer(spec, device=CPU)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("module_alone", r"returned a Small; return \(module, vocabulary, front_end\)"),
        ("failing", r"failed with KeyError: 'weights' \(small_factory.py, line \d+\)"),
        ("misspelled", "unexpected keyword argument 'font_end'; return"),
        ("not_a_function", "has no function 'not_a_function'"),
        ("missing", "has no function 'missing'"),
    ],
)
def test_a_factory_that_does_something_else_is_told_what_is_expected(
    name: str, message: str
) -> None:
    spec = f"{small_factory.__file__}:{name}"
    assert re.search(message, found := fail_with(spec)), found
    assert found.startswith(f"model {spec}: ")


def test_what_a_spec_names_must_be_there(tmp_path: Path) -> None:
    assert "no such file" in fail_with(f"{tmp_path}/none.py:make")
    assert "No module named 'no_such_package'" in fail_with("no_such_package.models:make")
    assert "no such file" in fail_with("nemo:none.nemo")
    assert "'pikle' is unknown" in fail_with("hf+pikle:x")
    assert "names nothing" in fail_with("hf:")
    (tmp_path / "broken.py").write_text("import torch\nnonsense here\n")
    assert "SyntaxError" in fail_with(f"{tmp_path}/broken.py:make")


def test_nemo_without_nemo_names_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "x.nemo").write_bytes(b"")
    assert "pip install 'nemo_toolkit[asr]'" in fail_with(f"nemo:{tmp_path}/x.nemo")


def test_a_module_of_a_package_and_its_file_are_the_same_model() -> None:
    of_file = load_recognizer(SMALL, device=CPU)
    of_module = load_recognizer("small_factory:recognizer", device=CPU)
    assert of_file.sha256 == of_module.sha256 != ""
    assert not of_file.module.training


def test_identity_follows_weights_and_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_recognizer(SMALL, device=CPU).sha256
    assert load_recognizer(SMALL, device=CPU).sha256 == first
    monkeypatch.setenv("SMALL_SEED", "1")
    assert load_recognizer(SMALL, device=CPU).sha256 != first
    monkeypatch.delenv("SMALL_SEED")
    other = small_factory.recognizer()
    monkeypatch.setattr(small_factory, "recognizer", lambda: other)
    assert load_recognizer("small_factory:recognizer", device=CPU).sha256 == first
    other["vocabulary"] = ["b", "a", *small_factory.NAMES[2:]]
    assert load_recognizer("small_factory:recognizer", device=CPU).sha256 != first


def test_all_ways_to_score_agree(recordings: Path) -> None:
    scorer = egl_fast.Scorer.from_pretrained(SMALL)
    utterances = read_manifest(recordings)
    of_manifest = list(scorer.score_manifest(recordings, k=5, per_hypothesis=True))
    waves = [load(one.audio_path) for one in utterances]
    ids = [one.id for one in utterances]
    of_waves = scorer.score_waveforms(
        waves, sample_rate_hz=16000, ids=ids, k=5, per_hypothesis=True
    )
    assert of_waves == of_manifest
    for record, wave in zip(of_manifest, waves, strict=True):
        [own] = scorer.score_batch(
            *small_factory.front_end(torch.from_numpy(wave)),
            ids=[record.id],
            durations=[record.duration],
            k=5,
            per_hypothesis=True,
        )
        assert own == record
        assert set(own.pred_text) <= set("abno")


class Named(torch.nn.Module):
    """Takes its inputs by name, and returns an object with logits, as models of transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.small = small_factory.built()

    def forward(self, *, input_values: torch.Tensor, attention_mask: Any = None) -> dict[str, Any]:
        return {"logits": self.small(input_values, torch.zeros(1))[0]}

    def _get_feat_extract_output_lengths(self, lengths: torch.Tensor) -> torch.Tensor:
        return lengths // small_factory.WINDOW


def test_inputs_by_name_and_outputs_with_logits_need_no_wrapper() -> None:
    plain = egl_fast.Scorer(small_factory.built(), small_factory.NAMES, 4)
    named = egl_fast.Scorer(Named(), small_factory.NAMES, 4)
    samples = torch.randn(2, 4000, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 4000, dtype=torch.int64)
    mask[1, 2000:] = 0
    expected = plain.score_batch(samples, torch.tensor([4000, 2000]), k=4)
    assert named.score_batch(input_values=samples, attention_mask=mask, k=4) == expected
    everything = plain.score_batch(samples, torch.tensor([4000, 4000]), k=4)
    assert named.score_batch(input_values=samples, k=4) == everything


def test_a_mask_that_says_nothing_about_frames_is_refused() -> None:
    class Silent(Named):
        _get_feat_extract_output_lengths = None  # type: ignore[assignment]

    model = Silent()
    scorer = egl_fast.Scorer(model, small_factory.NAMES, 4)
    with pytest.raises(ModelError, match="10 frames for a mask of 4000"):
        scorer.score_batch(
            input_values=torch.randn(1, 4000), attention_mask=torch.ones(1, 4000), k=2
        )


def test_commands_take_any_recognizer(run: Run, recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.jsonl"
    arguments = ["--model", SMALL, "--pool", recordings, "--k", 5, "--device", "cpu"]
    assert run("score", *arguments, "--out", out)[0] == 0
    records = [json.loads(line) for line in out.read_text().splitlines()]
    metadata = json.loads((tmp_path / "scores.jsonl.meta.json").read_text())
    assert metadata["model"] == SMALL
    assert metadata["model_sha256"] == load_recognizer(SMALL, device=CPU).sha256
    assert metadata["frame_seconds"] == 0.025
    assert metadata["vocabulary"] == small_factory.NAMES

    status, text, _ = run("transcribe", "--model", SMALL, "--data", recordings)
    assert status == 0
    heard = [json.loads(line)["pred_text"] for line in text.splitlines()]
    # The most probable alignment, not the most probable labeling.
    assert [len(one) > 0 for one in heard] == [len(r["pred_text"]) > 0 for r in records]

    status, text, _ = run("evaluate", "--model", SMALL, "--data", recordings, "--json")
    assert status == 0
    assert json.loads(text)["loss"] > 0

    status, text, _ = run("check", "--model", SMALL, "--pool", recordings, "--k", 3, "--json")
    assert status == 0
    assert json.loads(text)["passed"] is True


def test_a_run_is_resumed_with_the_same_model_alone(
    run: Run, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--model", SMALL, "--pool", recordings, "--k", 3, "--out", tmp_path / "s.jsonl"]
    assert run("score", *arguments, "--resume")[0] == 0
    assert "already complete" in run("score", *arguments, "--resume")[2]
    monkeypatch.setenv("SMALL_SEED", "1")
    status, _, text = run("score", *arguments, "--resume")
    assert status == 2
    assert "was started with another model" in text


def test_what_a_front_end_refuses_is_an_error_of_that_recording(
    run: Run, recordings: Path, tmp_path: Path
) -> None:
    spec = f"{small_factory.__file__}:deaf"
    out = tmp_path / "s.jsonl"
    assert run("score", "--model", spec, "--pool", recordings, "--k", 3, "--out", out)[0] == 3
    errors = (tmp_path / "s.jsonl.errors.jsonl").read_text().splitlines()
    assert len(errors) == 2
    assert "front end failed with ValueError: too long for me" in json.loads(errors[0])["error"]


def test_without_a_front_end_recordings_are_refused_in_a_line(run: Run, recordings: Path) -> None:
    spec = f"{small_factory.__file__}:without_front_end"
    for command, option in (("score", "--pool"), ("transcribe", "--data"), ("bench", "--pool")):
        status, _, text = run(command, "--model", spec, option, recordings)
        assert status == 2
        assert "has no front end" in text


def test_the_code_of_a_factory_is_never_overwritten(run: Run, recordings: Path) -> None:
    status, _, text = run(
        "score", "--model", SMALL, "--pool", recordings, "--out", small_factory.__file__,
        "--overwrite",
    )  # fmt: skip
    assert status == 2
    assert "is a file that this command reads" in text


def test_the_built_in_model_is_a_recognizer_like_any_other() -> None:
    recognizer = recognizer_of(random_checkpoint())
    assert recognizer.shares_batches
    assert recognizer.frame_seconds == 0.02
    recordings = [recognizer.prepare(torch.randn(n).numpy(), name="x") for n in (8000, 9000)]
    features, lengths = recognizer.inputs(recordings, dtype=torch.float64).positional
    assert features.dtype == torch.float64
    assert lengths.tolist() == [49, 55]
    assert recordings[0].inputs == ModelInputs(recordings[0].inputs.positional)


def test_torchscript_as_saved_is_exact(tmp_path: Path) -> None:
    path = tmp_path / "scripted.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.trace(
            small_factory.built().eval(), (torch.randn(1, 4000), torch.tensor([4000]))
        ).save(path)
        loaded = torch.jit.load(path)
    assert "builds the original model" in fail_with(str(path))
    samples, lengths = torch.randn(1, 8000), torch.tensor([8000])
    scripted, plain = (
        egl_fast.Scorer(model, small_factory.NAMES, 4).score_batch(
            samples, lengths, k=3, per_hypothesis=True
        )[0]
        for model in (loaded, small_factory.built())
    )
    for one, other in zip(scripted.hypotheses, plain.hypotheses, strict=True):
        assert one.labels == other.labels
        # Float32 norms of the same gradients, by other sums.
        assert one.sq_grad_norm == pytest.approx(other.sq_grad_norm, rel=1e-4)


def test_quantized_and_half_models_are_refused_in_a_line() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated
        small = torch.ao.quantization.quantize_dynamic(
            small_factory.built(), {torch.nn.Linear}, dtype=torch.qint8
        )
    for model, message in (
        (small, "is quantized, so its weights have no gradient; score the original model"),
        (small_factory.built().half(), "expected float32 or float64, got torch.float16"),
    ):
        recognizer = Recognizer.of(model, small_factory.NAMES, small_factory.front_end, blank=4)
        with pytest.raises(ModelError, match=message):
            egl_fast.Scorer(recognizer).score_waveforms(
                [0.1 * torch.randn(4000)], sample_rate_hz=16000, k=2
            )


class HalfInside(small_factory.Small):
    """As after ``model.inner.bfloat16()``, with casts around it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner.bfloat16()
        self.inner.register_forward_pre_hook(lambda _, args: (args[0].bfloat16(),))
        self.inner.register_forward_hook(lambda *call: call[-1].float())


def test_parts_in_16_bits_are_said_in_a_line() -> None:
    recognizer = Recognizer.of(HalfInside(), small_factory.NAMES, small_factory.front_end, blank=4)
    scorer = egl_fast.Scorer(recognizer)
    samples = [0.1 * torch.randn(4000)]
    said = r"^[\d,]+ of [\d,]+ parameters, such as inner.weight, are in 16 bits, .* float32"
    with pytest.warns(egl_fast.EglWarning, match=said):
        scorer.score_waveforms(samples, sample_rate_hz=16000, k=2)
    scorer.score_waveforms(samples, sample_rate_hz=16000, k=2)  # said once


class Leaky(torch.nn.Module):
    """Divides by the deviation of all samples it gets, padding included, as group norm does."""

    def __init__(self) -> None:
        super().__init__()
        self.small = small_factory.built()

    def forward(self, samples: torch.Tensor, lengths: torch.Tensor) -> Any:
        return self.small(samples / samples.std(dim=1, keepdim=True), lengths)


def test_padding_never_changes_a_score_in_silence() -> None:
    leaky = egl_fast.Scorer(Leaky(), small_factory.NAMES, 4)
    samples = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
    samples[1, 3200:] = 0.0
    ids = ["long", "short"]
    with pytest.warns(egl_fast.EglWarning) as said:
        found = leaky.score_batch(samples, torch.tensor([8000, 3200]), ids=ids, k=4)
    [one] = said
    assert "'short' has different logits alone than in its batch" in str(one.message)
    assert one.filename == __file__  # the line that called
    [alone] = leaky.score_batch(samples[1:, :3200], torch.tensor([3200]), ids=ids[1:], k=4)
    assert found[1] == alone


def test_a_model_that_insists_on_a_size_gets_its_padding() -> None:
    class Fixed(small_factory.Small):
        def forward(self, samples: torch.Tensor, lengths: torch.Tensor) -> Any:
            if samples.shape[1] != 8000:
                raise ValueError("8000 samples, please")
            return super().forward(samples, lengths)

    torch.manual_seed(0)
    scorer = egl_fast.Scorer(Fixed(), small_factory.NAMES, 4)
    samples, lengths = torch.randn(2, 8000), torch.tensor([8000, 3200])
    assert [r.num_frames for r in scorer.score_batch(samples, lengths, k=2)] == [20, 8]


def test_zeros_at_the_end_without_a_mask_are_pointed_out() -> None:
    named = egl_fast.Scorer(Named(), small_factory.NAMES, 4)
    samples = torch.randn(2, 4000)
    named.score_batch(input_values=samples, k=2)
    samples[0, 2000:] = 0.0
    with pytest.warns(egl_fast.EglWarning, match="1 of 2 utterances end in zeros"):
        named.score_batch(input_values=samples, k=2)
