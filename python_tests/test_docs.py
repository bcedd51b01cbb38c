"""The documentation's links lead somewhere, and its tables list what there is."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from commands import script
from documentation import PAGES, ROOT, anchors, blocks, name_of, table_under
from recordings import random_checkpoint, write_manifest

from egl_fast.checkpoint import checkpoint_content
from egl_fast.cli.main import COMMANDS, cli
from egl_fast.features import FeatureConfig
from egl_fast.model import PRESETS, DeepSpeech2, ModelConfig, preset
from egl_fast.records import Hypothesis, ScoreRecord, to_json
from egl_fast.training.loop import EpochMetrics

FORMATS = ROOT / "docs" / "file-formats.md"
MODEL = ROOT / "docs" / "model.md"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)]+)", page.read_text(encoding="utf-8"))
    missing = []
    for link in (link for link in links if "://" not in link):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            missing.append(link)
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_nothing_is_left_to_fill_in(page: Path) -> None:
    assert "<!--" not in page.read_text(encoding="utf-8")


def test_the_readme_names_every_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in COMMANDS if not re.search(rf"(`|egl-fast ){name}\b", text)] == []


def test_every_option_is_documented() -> None:
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## ([a-z]+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert list(sections) == list(COMMANDS)
    context = click.Context(cli, info_name="egl-fast")
    for name, section in sections.items():
        command = cli.get_command(context, name)
        assert command is not None
        assert command.help
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert parameter.help, f"{name} {parameter.opts}"
                for name_of_it in parameter.opts:
                    assert re.search(rf"(`|, ){name_of_it}(`| |, )", section), name_of_it
        # Arguments have no help text: a sentence of the command's help begins with their name.
        assert re.findall(r"^\|.*\|\s+\|$", section, re.MULTILINE) == []


def test_the_commands_page_shows_any_command() -> None:
    spec = importlib.util.spec_from_file_location("w", ROOT / "docs" / "write_commands.py")
    assert spec is not None
    assert spec.loader is not None
    writer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(writer)

    @click.command("brew", epilog="\b\nBeans:\n  robusta  strong, *dark*\n  arabica  mild")
    @click.argument("cup", type=click.Choice(["small", "large"]))
    @click.option("--milk/--no-milk", default=True, help="White, see docs/model.md.")
    @click.option("-s", "--sugar", type=click.FloatRange(0, 3, min_open=True), default=1.0,
                  show_default=True, help="Spoons, beside --milk.")  # fmt: skip
    @click.option("--beans", required=True, metavar="FILE", help="Where they are.")
    @click.option("--time", help="When [default: now].")
    @click.option("--secret", hidden=True)
    def brew() -> None:
        """Make coffee.

        CUP is its size. No more is known.

        \b
        Examples:
          egl-fast brew --beans b large | cat
        """

    text = "\n".join(writer.section("brew", brew, click.Context(brew, info_name="brew")))
    assert "brew --beans FILE [OPTIONS] {small|large}" in text
    for row in (
        "| `{small\\|large}` | required | CUP is its size. |",
        "| `--milk / --no-milk` | on | White, see [docs/model.md](model.md). |",
        "| `-s, --sugar FLOAT` | `1.0` | Spoons, beside `--milk`; above 0, at most 3. |",
        "| `--beans FILE` | required | Where they are. |",
        "| `--time TEXT` | now | When. |",
        "| beans | meaning |",
        "| `robusta` | strong, \\*dark\\* |",
        "```sh\negl-fast brew --beans b large | cat\n```",
    ):
        assert row in text
    assert "secret" not in text


def run_script(path: str, *arguments: object) -> None:
    done = script(ROOT / path, *arguments)
    assert done.returncode == 0, done.stderr


def test_commands_page_is_what_the_script_writes(tmp_path: Path) -> None:
    page = ROOT / "docs" / "commands.md"
    run_script("docs/write_commands.py", "--out", tmp_path / "page.md")
    assert (tmp_path / "page.md").read_text("utf-8") == page.read_text("utf-8"), (
        "a command has changed: make commands-page"
    )


def test_findings_are_what_the_script_writes(tmp_path: Path) -> None:
    page = ROOT / "docs" / "findings.md"
    run_script("experiments/write_findings.py", "--out", tmp_path / "findings.md")
    assert (tmp_path / "findings.md").read_text("utf-8") == page.read_text("utf-8")


def test_performance_page_is_what_the_script_writes(tmp_path: Path) -> None:
    page = ROOT / "docs" / "performance.md"
    run_script("benchmarks/performance_page.py", "--docs", tmp_path)
    assert (tmp_path / "performance.md").read_text("utf-8") == page.read_text("utf-8")


@pytest.mark.slow
def test_the_python_of_the_readme_runs() -> None:
    [code] = [b.content for b in blocks(ROOT / "README.md") if b.language == "python"]
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 13  # 20% of 64


LAYERS = "dict[str, float] | None"


def test_fields_of_a_score() -> None:
    values: dict[str, Any] = {
        field.name: {"str": "a", "int": 1, LAYERS: {"a": 1.0}}.get(str(field.type), 1.0)
        for field in fields(ScoreRecord)
        if field.name not in ("hypotheses", "manifest")
    }
    names = [*values, "hypotheses"]
    assert table_under(FORMATS, "Scores") == names
    hypothesis = Hypothesis("a", (1,), -1.0, 2.0, 0.5)
    record = ScoreRecord(**values, hypotheses=(hypothesis,))
    line = to_json(record)
    assert list(line) == names
    assert table_under(FORMATS, "Scores", nth=1) == list(line["hypotheses"][0])


def test_fields_of_a_model_file() -> None:
    checkpoint = random_checkpoint()
    checkpoint.trusted = torch.ones(1, 96)  # optional
    content = checkpoint_content(checkpoint)
    assert table_under(MODEL, "The model file") == list(content)
    assert table_under(MODEL, "The model file", nth=1) == [f.name for f in fields(ModelConfig)]
    assert table_under(MODEL, "The model file", nth=2) == [f.name for f in fields(FeatureConfig)]
    text = MODEL.read_text(encoding="utf-8")
    for name, value in {**content["features"], **asdict(PRESETS["small"])}.items():
        shown = json.dumps(value)
        assert re.search(
            rf"^\| `{name}` \|[^|]*\| `?{re.escape(shown)}`? \|".replace('"', ""), text, re.M
        )


def test_presets_are_as_large_as_the_page_says() -> None:
    text = MODEL.read_text(encoding="utf-8")
    assert table_under(MODEL, "Presets") == sorted(PRESETS, key=lambda name: size(PRESETS[name]))
    for name, config in PRESETS.items():
        sizes = f"{config.conv_channels} | {config.num_layers} | {config.hidden_size}"
        assert f"| `{name}` | {sizes} | `{config.cell}` | {size(config):,} |" in text
    for cell in ("rnn_tanh", "rnn_clipped_relu", "lstm"):
        assert f"{size(preset('small', cell=cell)):,}" in text


def size(config: ModelConfig) -> int:
    return sum(parameter.numel() for parameter in DeepSpeech2(config).parameters())


def command(*arguments: object, status: int = 0) -> None:
    """Runs a command in this process."""
    ended = cli.main([*map(str, arguments)], prog_name="egl-fast", standalone_mode=False)
    assert (ended or 0) == status


def keys_of_lines(path: Path) -> list[list[str]]:
    return [list(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def test_keys_of_what_commands_write(
    tiny_model: Path, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = [json.loads(line) for line in recordings.read_text().splitlines()]
    bad = write_manifest(tmp_path / "bad.jsonl", [*pool[:1], {"audio_filepath": "gone.wav"}])
    scores = tmp_path / "scores.jsonl"
    command("score", "--model", tiny_model, "--pool", bad, "--k", 3, "--out", scores, status=3)
    meta: dict[str, Any] = json.loads(Path(f"{scores}.meta.json").read_text(encoding="utf-8"))
    assert sorted(table_under(FORMATS, "Metadata")) == sorted(meta)
    [errors] = keys_of_lines(Path(f"{scores}.errors.jsonl"))
    assert table_under(FORMATS, "Errors") == errors
    capsys.readouterr()
    command("select", scores, "--budget", 1)
    [chosen] = capsys.readouterr().out.splitlines()
    assert table_under(FORMATS, "Selection") == [
        key for key in json.loads(chosen) if key not in json.loads(scores.read_text("utf-8"))
    ]

    of_manifest = set(pool[0]) - {"id", "duration"}
    out = tmp_path / "out.jsonl"
    command("transcribe", "--model", tiny_model, "--data", recordings, "--out", out)
    transcript = {key for key in keys_of_lines(out)[0] if key not in of_manifest}
    assert set(table_under(FORMATS, "Transcripts")) == transcript
    capsys.readouterr()
    command(
        *("evaluate", "--model", tiny_model, "--data", recordings, "--out", out, "--overwrite"),
        *("--json", "--by", "nr"),
    )
    evaluated = {key for key in keys_of_lines(out)[0] if key not in of_manifest}
    assert set(table_under(FORMATS, "Evaluation")) == evaluated - transcript
    assert table_under(FORMATS, "Evaluation", nth=1) == list(json.loads(capsys.readouterr().out))


def test_what_a_training_run_keeps(recordings: Path, tmp_path: Path) -> None:
    command(
        *("train", "--train", recordings, "--valid", recordings, "--run-dir", tmp_path / "run"),
        *("--preset", "tiny", "--max-epochs", 2),
    )
    files = sorted(path.name for path in (tmp_path / "run").iterdir())
    # Those that cannot be used are listed only if there are any.
    assert (
        sorted({*table_under(FORMATS, "Training run")} - {"errors.jsonl", "reports.json"}) == files
    )
    metrics, _ = keys_of_lines(tmp_path / "run" / "metrics.jsonl")
    assert table_under(FORMATS, "Training run", nth=1) == metrics
    assert metrics == [field.name for field in fields(EpochMetrics)]
