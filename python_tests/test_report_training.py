"""Curves of a run's trainings, from what its folder still holds."""

import json

import polars as pl
import pytest
from report_browser import needs_chromium
from report_pages import Page, run
from synthetic_run import write_run

from egl_fast.evaluation.reporting import training_curves

pytest_plugins = ["report_browser"]


def metrics(num_epochs):
    return "".join(
        json.dumps(
            {
                "epoch": epoch, "train_loss": None if epoch == 1 else 60 / epoch,
                "valid_loss": 50 / epoch, "valid_cer": 0.5 / epoch, "valid_wer": 0.5,
                "learning_rate": 0.1, "seconds": 1.0,
            }
        ) + "\n"
        for epoch in range(1, num_epochs + 1)
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory, records):
    folder = write_run(
        tmp_path_factory.mktemp("trained") / "run",
        records, strategies=("random", "egl"), queries=(10, 20), seeds=(0, 1), num_test=20,
    )  # fmt: skip
    for at, unit in enumerate(pl.read_parquet(folder / "results.parquet")["unit"].unique().sort()):
        (folder / "units" / unit).mkdir(parents=True)
        (folder / "units" / unit / "metrics.jsonl").write_text(metrics(4 + at % 3))
    run(folder, "--no-audio")
    return folder


@pytest.fixture(scope="module")
def files(trained):
    return {"run": trained / "report.html"}


def test_every_training_has_its_epochs(trained):
    page = Page(trained / "report.html")
    data = page.data["training"]
    assert data["queries"] == ["0%", "10%", "20%", "100%"]
    assert len(data["runs"]) == 2 * (2 * 2 + 2)
    for one in data["runs"]:
        validation, training, cer = data["curves"][one["of"]]
        assert 4 <= len(validation) == len(training) == len(cer) <= 6
        assert training[:2] == [None, 30.0]
        assert validation[3] == 12.5
        assert cer[1] == 25.0
    assert "Figure 2. Training, by epoch" in page.text


def test_what_the_folder_does_not_hold_is_left_out(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(training_curves, "MAX_EPOCHS", 12)
    run(trained, "--no-audio", "--out", tmp_path / "r.html")
    page = Page(tmp_path / "r.html")
    assert sum(len(curve[0]) for curve in page.data["training"]["curves"]) <= 12
    assert "trainings are left out, for size" in page.text


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff", b"[]\n", b'{"valid_loss": "x"}\n', b'{"valid_loss": 1e999}\n'],
)
def test_a_damaged_file_is_no_curve(tmp_path, content):
    folder = tmp_path / "units" / "train-0123456789abcdef"
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_bytes(content)
    read = training_curves._read(tmp_path, folder.name)
    assert read in ([], [[None]] * 3)


def test_a_unit_s_name_leads_nowhere_else(tmp_path):
    (tmp_path / "units").mkdir()
    (tmp_path / "metrics.jsonl").write_text(metrics(3))
    for name in ("..", "../units/..", str(tmp_path), "train-..", ""):
        assert training_curves._read(tmp_path, name) == []


@needs_chromium
def test_curves_are_drawn_and_the_table_is_copied(visit):
    page = visit("run")
    labels = page.locator("#training-chart [aria-label]").evaluate_all(
        "(all) => all.map((one) => one.getAttribute('aria-label'))"
    )
    assert any("EGL, 10%, seed 1" in label and "epoch 4: 12.5" in label for label in labels)
    page.select_option("#training-of", label="100%")
    page.get_by_label("validation CER").check(force=True)
    page.wait_for_function(
        "() => document.querySelector('#training-chart').innerHTML.includes('other trainings')"
    )
    page.locator(".latex summary").click()
    page.get_by_role("button", name="Copy").click()
    page.wait_for_function("() => document.querySelector('#copied').textContent !== ''")
