"""``egl-fast labels``: what comes back from transcription, matched with what was sent."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from recordings import random_checkpoint, write_recordings
from test_picks_formats import OUTPUTS, expected, pool, select, written

from egl_fast.checkpoint import save_checkpoint
from egl_fast.cli.main import cli
from egl_fast.data.manifest import read_manifest
from egl_fast.gradients.engine import GradientEngine
from egl_fast.labeling.audit import audit
from egl_fast.labeling.formats import FORMATS, Delivered, read_back
from egl_fast.labeling.returned import match
from egl_fast.recognizers.checkpoint import recognizer_of

__all__ = ["pool"]  # a fixture


def labels(*arguments: object, status: int = 0) -> Result:
    given = ["labels", *map(str, arguments)]
    done = CliRunner().invoke(cli, given, standalone_mode=False)
    assert done.return_value == status, (done.output, done.exception)
    return done


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def said(line: dict[str, Any]) -> str:
    return f"said {line['take']} größe"


def annotation(text: str | None, **more: Any) -> dict[str, Any]:
    value = {"text": [text]}
    area = {"from_name": "transcription", "to_name": "audio", "type": "textarea", "value": value}
    return {"id": 7, "result": [] if text is None else [area], "was_cancelled": False, **more}


def exported(tasks: Path, annotations: dict[str, list[dict[str, Any]]]) -> Path:
    """Label Studio's JSON export of tasks, with annotations by id; other tasks have none."""
    items = []
    for number, task in enumerate(json.loads(tasks.read_text(encoding="utf-8"))):
        own = annotations.get(task["data"]["utterance_id"], [])
        items.append({"id": 100 + number, **task, "annotations": own})
    path = tasks.with_name("export.json")
    path.write_text(json.dumps(items), encoding="utf-8")
    return path


def converted(export: Path, name: str) -> Path:
    """Another export of the same, by Label Studio's own converter."""
    sdk = pytest.importorskip("label_studio_sdk.converter")
    config = next(export.parent.glob("*.labeling.xml")).read_text(encoding="utf-8")
    converter = sdk.Converter(config, str(export.parent))
    folder = export.parent / name
    if name == "CSV":
        converter.convert_to_csv(str(export), str(folder), is_dir=False, sep=",")
    else:
        converter.convert_to_json_min(str(export), str(folder), is_dir=False)
    [found] = folder.iterdir()
    return found


def transcribed(pool: Path, folder: Path, name: str) -> tuple[Path, Path]:
    """Picks in a format, and the same with a transcript for each."""
    picks = written(pool, folder, name)
    by_id = {line["id"]: said(line) for line in expected(pool)}
    if name == "label-studio":
        return picks, exported(picks, {key: [annotation(text)] for key, text in by_id.items()})
    back = picks.with_name(f"back_{picks.name}")
    if name == "csv":
        with picks.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        with back.open("w", newline="", encoding="utf-8") as file:
            # As a spreadsheet of a country where the comma is for decimals saves it.
            table = csv.DictWriter(file, list(rows[0]), delimiter=";")
            table.writeheader()
            for row, line in zip(rows, expected(pool), strict=True):
                table.writerow({**row, "text": said(line)})
    elif name == "hf":
        datasets = pytest.importorskip("datasets")
        dataset = datasets.load_from_disk(str(picks)).remove_columns("audio")
        dataset.add_column("text", [by_id[x] for x in dataset["id"]]).save_to_disk(str(back))
    else:
        lines = lines_of(picks)
        for line in lines:
            if name == "lhotse":
                segment = {"id": "s", "recording_id": line["recording"]["id"], "start": 0.0}
                segment |= {"duration": 0.1, "channel": 0, "text": by_id[line["id"]]}
                line["supervisions"] = [segment]
            else:
                line["text"] = by_id[line["id"]]
        back.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return picks, back


@pytest.mark.parametrize("name", [*FORMATS, "JSON-MIN", "CSV"])
def test_every_format_makes_the_round_trip(pool: Path, tmp_path: Path, name: str) -> None:
    form = name if name in OUTPUTS else "label-studio"
    picks, back = transcribed(pool, tmp_path, form)
    if name != form:
        back = converted(back, name)
    (tmp_path / "elsewhere").mkdir()
    out = tmp_path / "elsewhere" / "labeled.jsonl"
    done = labels(picks, back, "--out", out)
    assert "64 of 64 recordings have a transcript" in done.stderr
    found = read_manifest(out)
    for utterance, line in zip(found, expected(pool), strict=True):
        assert (utterance.id, utterance.text) == (line["id"], said(line))
        assert utterance.audio_path.resolve() == (pool / line["audio_filepath"]).resolve()
        assert utterance.duration_seconds == pytest.approx(0.1)
        assert utterance.record["speaker"] == line["speaker"]
        assert not {"egl", "rank", "score", "pred_text", "hypotheses"} & utterance.record.keys()
    assert not Path(f"{out}.errors.jsonl").exists()


def test_all_that_can_be_wrong_is_told_apart(pool: Path, tmp_path: Path) -> None:
    picks = written(pool, tmp_path, "label-studio")
    ids = [line["id"] for line in expected(pool)]
    heard = expected(pool)[7]["pred_text"]
    export = exported(
        picks,
        {
            ids[0]: [annotation("yes")],
            ids[1]: [annotation(None, was_cancelled=True)],
            ids[2]: [annotation("  ")],
            ids[3]: [annotation("one"), annotation("two")],
            ids[4]: [annotation("same"), annotation(" same\n"), annotation(None, skipped=True)],
            ids[5]: [annotation("moved")],
            ids[6]: [annotation("cut")],
            ids[7]: [annotation(heard)],
        },
    )
    items = json.loads(export.read_text())
    # What was listened to counts.
    items[5]["data"]["audio"] = "/data/local-files/?d=wav/other.wav"
    items[6]["data"]["duration"] = 3.0
    stranger = {**items[0], "data": {**items[0]["data"], "utterance_id": "stranger"}}
    export.write_text(json.dumps([*items[:-1], stranger]))
    out, rest = tmp_path / "labeled.jsonl", tmp_path / "rest.jsonl"
    done = labels(picks, export, "--out", out, "--rest", rest, status=3)
    assert {line["id"]: line["text"] for line in lines_of(out)} == {
        ids[0]: "yes",
        ids[4]: "same",
        ids[7]: heard,
    }
    kinds = {line["id"]: line["kind"] for line in lines_of(tmp_path / "labeled.jsonl.errors.jsonl")}
    named = [kinds[identity] for identity in (*ids[1:4], *ids[5:7], ids[8], ids[-1], "stranger")]
    assert named == [
        *("skipped", "empty", "conflict", "changed", "changed", "missing", "missing", "unknown"),
    ]
    # What somebody has looked at is not sent again.
    assert [line["id"] for line in lines_of(rest)] == [ids[3], *ids[5:7], *ids[8:]]
    for text in ("1 are word for word", "1 came back more than once", "1 skipped", "59 recordings"):
        assert text in done.stderr
    labels(picks, export, "--out", out, "--overwrite", "--latest", "--keep-empty", status=3)
    texts = {line["id"]: line["text"] for line in lines_of(out)}
    assert (texts[ids[2]], texts[ids[3]]) == ("", "two")


def test_what_nobody_typed_is_counted() -> None:
    sent = Delivered("a", "old  text", {"id": "a"}, "here")
    answer = Delivered("a", "old text", {"id": "a"}, "there")
    assert match({"a": sent}, [answer]).num_as_sent == 1


def test_spaces_of_what_was_heard_do_not_count() -> None:
    sent = Delivered("a", None, {"id": "a", "pred_text": " two  words"}, "here")
    answer = Delivered("a", "two words", {"id": "a"}, "there", is_answer=True)
    assert match({"a": sent}, [answer]).num_unchanged == 1


def test_a_choice_counts_unless_the_text_was_edited(pool: Path, tmp_path: Path) -> None:
    picks = written(pool, tmp_path, "label-studio")
    line = expected(pool)[0]
    chosen = {"from_name": "nbest", "type": "choices", "value": {"choices": ["second"]}}
    for typed, wanted in (
        (line["pred_text"], "second"), ("typed", "typed"), (None, "second"),
    ):  # fmt: skip
        answer = annotation(typed)
        answer["result"].append(chosen)
        out = tmp_path / "labeled.jsonl"
        export = exported(picks, {line["id"]: [answer]})
        labels(picks, export, "--out", out, "--overwrite", status=3)
        assert [line["text"] for line in lines_of(out)] == [wanted]


def test_the_rest_of_the_pool_is_a_pool(pool: Path, tmp_path: Path) -> None:
    picks = tmp_path / "picks.csv"
    assert select(pool, "--out", picks).exit_code == 0
    text = picks.read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(text.splitlines(keepends=True)))
    some = tmp_path / "some.csv"
    some.write_text("id,text\n" + "".join(f"plain/{n},hello\n" for n in range(5)))
    out, rest = tmp_path / "labeled.jsonl", tmp_path / "rest.jsonl"
    arguments = ("--out", out, "--rest", rest, "--pool", pool / "scores.jsonl")
    labels(picks, some, *arguments, status=3)
    left = read_manifest(rest)
    assert len(left) == len(rows) - 5 == 59
    assert all(utterance.audio_path.is_file() for utterance in left)
    before = (out.read_bytes(), rest.read_bytes())
    of_folder = tmp_path / "of_folder.jsonl"
    labels(picks, some, "--out", tmp_path / "x.jsonl", "--rest", of_folder, "--pool", pool,
           status=3)  # fmt: skip
    assert all(utterance.audio_path.is_file() for utterance in read_manifest(of_folder))
    assert "already exists" in str(
        CliRunner().invoke(cli, ["labels", *map(str, (picks, some, *arguments))]).exception
    )
    assert (out.read_bytes(), rest.read_bytes()) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"data": {"text": "x"}}]', "item 1: has no 'utterance_id', so it was not made from"),
        ("[1]", "is one JSON array, but not of objects"),
        ("[{", "not JSON"),
        ("a,b\n1,2\n", "line 2: has no 'id'"),
        ("id,txt\nx,2\n", "line 2: has no column 'text'"),
        ("id,text\nx,1,2,3\n", "line 2: has more cells than the header"),
        ('id,text\n"x,1\n', "is not CSV"),
        ('{"id": "a", "text": 5}', "'text' is 5, not a string"),
        ('{"type": "MonoCut", "recording": {}, "id": "a"}', "line 1: is not what its tool writes"),
        (None, "no such file"),
    ],
)
def test_what_is_no_export_is_said(
    pool: Path, tmp_path: Path, content: str | None, message: str
) -> None:
    export = tmp_path / "export"
    if content is not None:
        export.write_text(content)
    given = ["labels", str(pool / "scores.jsonl"), str(export), "--out", str(tmp_path / "o.jsonl")]
    assert message in str(CliRunner().invoke(cli, given).exception)
    assert not (tmp_path / "o.jsonl").exists()


@pytest.mark.parametrize(
    "more",
    [
        {"id": "a", "annotator": "b", "data": {"x": 1}},
        {"id": "a", "audio_filepath": "a.wav", "annotations": []},
        {"audio_filepath": "a", "utterance_id": "c", "annotation_id": 7},
    ],
)
def test_lines_of_a_manifest_may_have_the_keys_of_a_task(
    tmp_path: Path, more: dict[str, Any]
) -> None:
    path = tmp_path / "vendor.jsonl"
    path.write_text(json.dumps({"text": "hello", **more}))
    [found] = read_back(str(path), from_name="transcription")
    assert (found.id, found.text) == ("a", "hello")


def test_another_name_of_the_text_area_is_named(pool: Path, tmp_path: Path) -> None:
    picks = written(pool, tmp_path, "label-studio")
    answer = annotation("x")
    answer["result"][0]["from_name"] = "words"
    export = exported(picks, {expected(pool)[0]["id"]: [answer]})
    given = ["labels", str(picks), str(export), "--out", str(tmp_path / "o.jsonl")]
    assert "is called 'words', not 'transcription'" in str(CliRunner().invoke(cli, given).exception)
    labels(*given[1:], "--from-name", "words", status=3)


def test_an_audit_ranks_transcripts_and_keeps_what_it_cannot_rank(tmp_path: Path) -> None:
    model = tmp_path / "model.pt"
    save_checkpoint(model, random_checkpoint())
    picks = write_recordings(tmp_path, ["ab", "c", "d ö", "e" * 60], [0.5, 0.6, 0.7, 0.4])
    out = tmp_path / "labeled.jsonl"
    arguments = (picks, picks, "--out", out, "--audit", model, "--draws", 8)
    done = labels(*arguments, status=3)
    found = {line["text"]: line for line in lines_of(out)}
    assert [line["text"] for line in lines_of(out)] == ["ab", "c", "d ö", "e" * 60]
    assert found["e" * 60]["audit_rank"] == 1  # more letters than frames
    assert found["e" * 60]["audit_nll"] is None
    assert found["e" * 60]["audit_percentile"] == found["e" * 60]["audit_norm_percentile"] == 100
    assert {found[text]["audit_rank"] for text in ("ab", "c")} == {2, 3}
    assert found["ab"]["audit_nll"] > 0
    assert "audit_rank" not in found["d ö"]
    [error] = lines_of(tmp_path / "labeled.jsonl.errors.jsonl")
    assert error["kind"] == "unwritable"
    assert "'ö' is not in the model's vocabulary" in error["error"]
    assert "too long" in done.stdout
    first = out.read_bytes()
    labels(*arguments, "--overwrite", status=3)
    assert out.read_bytes() == first
    labels(*arguments[:-1], 0, "--overwrite", status=3)
    for line in lines_of(out):
        assert "audit_percentile" not in line
        assert line.get("audit_rank") == found[line["text"]].get("audit_rank")
        assert line.get("audit_nll") == pytest.approx(found[line["text"]].get("audit_nll"))


def test_transcripts_that_a_model_cannot_write_are_counted_by_character(tmp_path: Path) -> None:
    model = tmp_path / "model.pt"
    save_checkpoint(model, random_checkpoint())
    picks = write_recordings(tmp_path, ["ab", "7 ö", "ö", "e" * 60], [0.5, 0.6, 0.7, 0.4])
    out = tmp_path / "labeled.jsonl"
    done = labels(picks, picks, "--out", out, "--model", model, status=3)
    assert (
        "warning: characters that the model lacks, by transcripts: 'ö' in 2 (such as 'rec1.wav', "
        "line 2), '7' in 1 (such as 'rec1.wav', line 2)\n"
    ) in done.stderr
    assert "2 with characters that the model cannot write: see" in done.stderr
    assert [line["text"] for line in lines_of(out)] == ["ab", "7 ö", "ö", "e" * 60]
    assert not any("audit_rank" in line for line in lines_of(out))
    kinds = [error["kind"] for error in lines_of(tmp_path / "labeled.jsonl.errors.jsonl")]
    assert kinds == ["unwritable"] * 2


def test_an_audit_is_exact(tmp_path: Path) -> None:
    checkpoint = random_checkpoint()
    manifest = write_recordings(tmp_path, ["ab"], [0.5])
    [utterance] = read_manifest(manifest)
    recognizer = recognizer_of(checkpoint)
    engine = GradientEngine(recognizer.module)
    [found, other] = audit(recognizer, engine, utterance, [[2, 3], []], num_draws=40, seed=1)
    model = recognizer.module
    logits, lengths = model(*recognizer.inputs([recognizer.load(utterance)]).positional)
    for one, labels in ((found, [2, 3]), (other, [])):
        loss = torch.nn.functional.ctc_loss(
            logits.double().log_softmax(2).transpose(0, 1),
            torch.tensor([labels], dtype=torch.int64),
            lengths,
            torch.tensor([len(labels)]),
            reduction="sum",
        )
        gradients = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
        norm = float(sum(gradient.double().square().sum() for gradient in gradients))
        # Both run the model in float32, whose rounding (6e-8) some hundred sums and layers add up;
        # the squared norm has it twice, from cotangents that nearly cancel.
        assert one.nll == pytest.approx(loss.item(), rel=1e-5)
        assert one.sq_grad_norm == pytest.approx(norm, rel=1e-3)
    # The same draws of the same seed and id, whatever they are compared with.
    assert found.drawn_nlls == other.drawn_nlls
    below = sum(one < found.nll for one in found.drawn_nlls)
    assert found.nll_percentile == pytest.approx(100 * below / 40)
