"""Model files: they come back as saved, damaged ones are refused, and no code in them is run."""

from __future__ import annotations

import hashlib
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from recordings import random_checkpoint
from torch_archives import Attack, refusal

from egl_fast.checkpoint import (
    Checkpoint,
    checkpoint_content,
    load_checkpoint,
    read_torch,
    save_checkpoint,
    write_torch,
)
from egl_fast.embeddings.spectrum import SIZE
from egl_fast.errors import CheckpointError, ModelError, OutputError
from egl_fast.model import CELLS, ConvShape, preset

#: Of embeddings by ``random_checkpoint``: twice 48 hidden numbers, and the spectrum.
WIDTH = 96 + SIZE


@pytest.mark.parametrize("cell", CELLS)
def test_a_model_comes_back_as_it_was(tmp_path: Path, cell: str) -> None:
    saved = random_checkpoint(cell=cell, dropout=0.25)
    saved.training = {"epoch": 3, "note": "x"}
    save_checkpoint(tmp_path / "m.pt", saved)
    loaded = load_checkpoint(tmp_path / "m.pt")
    assert loaded.model.config == saved.model.config == preset("tiny", cell=cell, dropout=0.25)
    assert loaded.features == saved.features
    assert loaded.vocabulary == saved.vocabulary
    assert loaded.training == saved.training
    assert not loaded.model.training
    expected = saved.model.state_dict()
    for name, tensor in loaded.model.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, expected[name])
    assert list(tmp_path.iterdir()) == [tmp_path / "m.pt"]


def test_the_hash_is_that_of_the_file(tmp_path: Path) -> None:
    hashes = []
    for name, seed in (("a.pt", 0), ("b.pt", 0), ("c.pt", 1)):
        save_checkpoint(tmp_path / name, random_checkpoint(seed=seed))
        hashes.append(load_checkpoint(tmp_path / name).sha256)
    assert all(len(digest) == 64 for digest in hashes)
    assert hashes[0] != hashes[2]


def test_half_precision_halves_the_file_and_rounds_the_weights(tmp_path: Path) -> None:
    saved = random_checkpoint()
    save_checkpoint(tmp_path / "full.pt", saved)
    save_checkpoint(tmp_path / "half.pt", saved, half=True)
    sizes = [(tmp_path / name).stat().st_size for name in ("full.pt", "half.pt")]
    num_weights = sum(p.numel() for p in saved.model.parameters())
    assert sizes[0] - sizes[1] >= 2 * num_weights
    loaded = load_checkpoint(tmp_path / "half.pt").model.state_dict()
    eps, tiny = torch.finfo(torch.float16).eps, torch.finfo(torch.float16).smallest_normal
    for name, tensor in saved.model.state_dict().items():
        assert loaded[name].dtype == torch.float32
        # Half a unit in the last place; below the smallest normal number that unit is fixed.
        bound = 0.5 * eps * tensor.abs().clamp_min(tiny)
        assert ((loaded[name] - tensor).abs() <= bound).all()
    assert saved.model.output.weight.dtype == torch.float32


def test_weights_that_could_not_be_read_back_are_not_written(tmp_path: Path) -> None:
    """torch silently rounds a variance of 70,000 to infinity."""
    loud = random_checkpoint()
    loud.model.state_dict()["convs.0.norm.running_var"][1] = 70_000
    with pytest.raises(ModelError, match=r"norm\.running_var: reach 70000, but half .*65504"):
        save_checkpoint(tmp_path / "half.pt", loud, half=True)
    nameless = random_checkpoint()
    nameless.vocabulary = (*nameless.vocabulary[:-1], "")
    with pytest.raises(ValueError, match="expected a string, got ''"):
        save_checkpoint(tmp_path / "full.pt", nameless)
    assert not list(tmp_path.iterdir())
    save_checkpoint(tmp_path / "full.pt", loud)
    loaded = load_checkpoint(tmp_path / "full.pt").model.state_dict()
    assert loaded["convs.0.norm.running_var"][1] == 70_000


def assert_equal(ours: Any, theirs: Any) -> None:
    """The same values of the same types, tensors to the last bit."""
    assert type(ours) is type(theirs)
    if isinstance(ours, torch.Tensor):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)
    elif isinstance(ours, dict):
        assert list(ours) == list(theirs)
        for name in ours:
            assert_equal(ours[name], theirs[name])
    elif isinstance(ours, (list, tuple)):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_equal(one, other)
    else:
        assert ours == theirs


def training_state(optimizer: str) -> dict[str, Any]:
    """What a training run would save."""
    model = random_checkpoint().model
    made = {
        "SGD": torch.optim.SGD(model.parameters(), momentum=0.9),
        "AdamW": torch.optim.AdamW(model.parameters()),
    }[optimizer]
    logits, _ = model(torch.ones(1, 20, 161), torch.tensor([20]))
    logits.sum().backward()
    made.step()
    history = [{"epoch": n, "train_loss": 1.5 * n, "valid_cer": 0.1} for n in range(1, 300)]
    return {
        "checkpoint": checkpoint_content(random_checkpoint()),
        "optimizer": made.state_dict(),
        "history": history,
        "unfinished": {"random_state": torch.get_rng_state(), "cuda_random_state": None},
        "settings": {"seed": 2**64 - 1, "offset": -(2**40), "path": "a\udcff"},
    }


@pytest.mark.parametrize("what", ["base.pt", "full", "half", "trusted", "AdamW", "SGD"])
def test_what_is_read_is_what_torch_reads(tmp_path: Path, examples: Path, what: str) -> None:
    path = tmp_path / "m.pt"
    if what == "base.pt":
        path = examples / "base.pt"
    elif what in ("full", "half", "trusted"):
        checkpoint = random_checkpoint(cell="lstm")
        checkpoint.trusted = torch.rand(4, WIDTH) if what == "trusted" else None
        save_checkpoint(path, checkpoint, half=what == "half")
    else:
        write_torch(path, training_state(what))
    theirs = torch.load(path, weights_only=True)
    assert_equal(read_torch(path), theirs)
    if "state_dict" in theirs:
        loaded = load_checkpoint(path)
        assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        for name, tensor in loaded.model.state_dict().items():
            assert torch.equal(tensor, theirs["state_dict"][name].float())


def test_facts_with_named_tuples_are_stored_as_lists(tmp_path: Path) -> None:
    saved = random_checkpoint()
    saved.training = {"shapes": (ConvShape((41, 11), (2, 2)),), "nested": {"t": (1, 2)}}
    save_checkpoint(tmp_path / "m.pt", saved)
    facts = load_checkpoint(tmp_path / "m.pt").training
    assert facts == {"shapes": [[[41, 11], [2, 2]]], "nested": {"t": [1, 2]}}


@pytest.mark.parametrize("place", ["alone", "in the training facts"])
def test_code_in_a_file_is_not_run(tmp_path: Path, place: str) -> None:
    target = tmp_path / "attacked"
    content: Any = Attack(target)
    if place != "alone":
        content = {**checkpoint_content(random_checkpoint()), "training": {"x": content}}
    for number, save in enumerate((torch.save, lambda c, p: p.write_bytes(pickle.dumps(c)))):
        path = tmp_path / f"attack{number}.pt"
        save(content, path)
        assert "is not an egl-fast checkpoint" in refusal(path)
        assert not target.exists()
    # The attack is a real one.
    pickle.loads(path.read_bytes())
    assert target.exists()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, tiny_model: Path, share: float) -> None:
    content = tiny_model.read_bytes()
    path = tmp_path / "cut.pt"
    path.write_bytes(content[: int(share * len(content))])
    assert "is not an egl-fast checkpoint, or is cut short" in refusal(path)


def test_a_damaged_index_is_refused_or_harmless(tmp_path: Path, tiny_model: Path) -> None:
    with zipfile.ZipFile(tiny_model) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (index,) = (name for name in members if name.endswith("data.pkl"))
    path = tmp_path / "damaged.pt"
    messages = []
    for position in range(0, len(members[index]), len(members[index]) // 40):
        damaged = bytearray(members[index])
        damaged[position] ^= 0x15
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in {**members, index: bytes(damaged)}.items():
                archive.writestr(name, content)
        try:
            load_checkpoint(path)
        except CheckpointError as error:
            messages.append(str(error))
    assert len(messages) > 20
    assert not any("\n" in message for message in messages)


def saved_with(tmp_path: Path, **changes: Any) -> Path:
    """A model file with other values for some of its keys; None removes one."""
    content = {**checkpoint_content(random_checkpoint()), **changes}
    path = tmp_path / "changed.pt"
    torch.save({key: value for key, value in content.items() if value is not None}, path)
    return path


def test_another_format_version_is_named(tmp_path: Path) -> None:
    message = refusal(saved_with(tmp_path, format_version=2), remedy="the egl-fast that wrote it")
    assert "has format version 2, but this egl-fast reads version 1" in message
    assert "version None" in refusal(
        saved_with(tmp_path, format_version=None), remedy="that wrote it"
    )


@pytest.mark.parametrize("key", ["model", "features", "vocabulary", "state_dict", "training"])
def test_a_missing_or_invalid_part_is_damage(tmp_path: Path, key: str) -> None:
    assert "is damaged" in refusal(saved_with(tmp_path, **{key: None}))
    assert "is damaged" in refusal(saved_with(tmp_path, **{key: 7}))


@pytest.mark.parametrize(
    "value",
    [
        7,
        torch.ones(WIDTH),
        torch.ones(3, WIDTH - 1),
        torch.ones(3, WIDTH).int(),
        torch.full((3, WIDTH), torch.nan),
    ],
    ids=["number", "one row", "too narrow", "integers", "NaN"],
)
def test_embeddings_that_are_not_by_this_model_are_damage(tmp_path: Path, value: Any) -> None:
    load_checkpoint(saved_with(tmp_path, trusted=torch.ones(3, WIDTH)))
    assert "is damaged (trusted: " in refusal(saved_with(tmp_path, trusted=value))


def test_embeddings_without_spectra_are_dropped(tmp_path: Path) -> None:
    """Early versions wrote them; `train --resume` makes new ones."""
    assert load_checkpoint(saved_with(tmp_path, trusted=torch.ones(3, 96))).trusted is None


def test_parts_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    content = checkpoint_content(random_checkpoint())
    for model in (
        {**content["model"], "hidden_size": 25},
        {**content["model"], "cell": "qrnn"},
        {**content["model"], "unknown": 1},
        {**content["model"], "conv_shapes": [[[3]]]},
    ):
        assert "is damaged" in refusal(saved_with(tmp_path, model=model))
    incomplete = dict(content["state_dict"])
    del incomplete["output.bias"]
    assert "is damaged" in refusal(saved_with(tmp_path, state_dict=incomplete))
    message = refusal(saved_with(tmp_path, vocabulary=["<blank>", "a"]))
    assert "do not fit together" in message
    features = {**content["features"], "window_seconds": 0.025}
    assert "do not fit together" in refusal(saved_with(tmp_path, features=features))


def test_a_failed_write_keeps_the_old_file(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(tiny_model.read_bytes())

    def fail(_: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match=r"cannot be written .*No space left"):
        write_torch(path, {"x": 1})
    assert path.read_bytes() == tiny_model.read_bytes()
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    checkpoint: Checkpoint = random_checkpoint()
    with pytest.raises(OutputError, match="cannot be written") as caught:
        save_checkpoint(tmp_path / "none" / "m.pt", checkpoint)
    assert "\n" not in str(caught.value)
