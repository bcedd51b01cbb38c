"""What to label at a budget, in a real browser: as `select` has it, by mouse, key, and in files."""

import csv
import io
import json
import os

import numpy as np
import pytest
from commands import in_this_process
from report_browser import HOSTILE_TEXTS, needs_chromium
from report_pages import run
from synthetic_run import synthetic_scores
from test_report_picks import write_pool

from egl_fast.data.json_reading import json_lines
from egl_fast.embeddings.file import embeddings_path
from egl_fast.embeddings.spectrum import without_spectrum
from egl_fast.labeling.formats import read_back
from egl_fast.selection.candidates import Candidates
from egl_fast.selection.cost import Cost
from egl_fast.selection.gate import Gate
from egl_fast.selection.ranking import Selection

pytest_plugins = ["report_browser"]
pytestmark = needs_chromium

#: What the page adds to a record, or shortens.
_ADDED = ("why", "hypotheses", "nbest")


@pytest.fixture(scope="module")
def scored(tmp_path_factory, examples):
    """A scored pool that can be heard; hostile texts are picked first."""
    records = synthetic_scores(examples / "pool.jsonl")
    for at, text in enumerate(HOSTILE_TEXTS):
        records[2 * at] |= {"id": text, "pred_text": text, "pctc": 100.0 - at}
        del records[2 * at]["hypotheses"]
    heard = [
        {**record, "audio_filepath": str(examples / record["audio_filepath"])} for record in records
    ]
    path = write_pool(tmp_path_factory.mktemp("pool"), heard)
    run("--scores", path, "--audio", "2")
    lines = [{**record, "id": str(at)} for at, record in enumerate(records)]
    plain = path.with_name("plain.jsonl")
    plain.write_text(
        "".join(
            json.dumps({**line, "pred_text": "=a", "audio_filepath": own["audio_filepath"]}) + "\n"
            for line, own in zip(lines, heard, strict=True)
        )
    )
    run("--scores", plain, "--no-audio", "--format", "label-studio", "--format", "lhotse")
    relative = path.with_name("relative.jsonl")
    relative.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run("--scores", relative, "--pool", examples / "pool.jsonl", "--no-audio")
    return path


@pytest.fixture(scope="module")
def files(scored):
    return {
        "plain": scored.with_name("plain.jsonl.html"),
        "pool": scored.with_name("scores.jsonl.html"),
        "relative": scored.with_name("relative.jsonl.html"),
    }


@pytest.fixture
def chosen(scored):
    """The records that `select` picks, by its defaults."""
    records = [record for _, _, record in json_lines(scored.read_bytes().splitlines(), "")]
    candidates = Candidates(records, without_spectrum(np.load(embeddings_path(scored))))

    def choose(budget, cost=None):
        price = None if cost is None else Cost.parse(cost)
        selection = Selection(budget, gate=Gate(minimum=-0.5), cost=price)
        return [records[index] for index in selection.choose(candidates).picks]

    return choose


def listed(page, label):
    """What "Save as" gives."""
    with page.expect_download() as caught:
        page.get_by_role("button", name=f"Save as {label}").click()
    return caught.value.path().read_bytes()


def ids_saved(page):
    return [json.loads(line)["id"] for line in listed(page, "JSONL").splitlines()]


def test_every_kind_of_budget_is_spent_as_by_select(visit, chosen):
    page = visit("pool")
    status, command = page.locator("#budget-status"), page.locator("#budget-command")
    assert status.text_content().startswith("13 of ")
    for count in ("1", "7", "40"):
        page.fill("#budget-count", count)
        assert ids_saved(page) == [record["id"] for record in chosen(count)]
        assert f"--budget {count} --out" in command.text_content()
    for minutes in ("0.3", "1.25"):
        page.fill("#budget-audio", minutes)
        assert ids_saved(page) == [record["id"] for record in chosen(f"{minutes}m")]
        assert f"--budget {minutes}m --out" in command.text_content()
    for name, value in (("each", "0.5"), ("second", "0.02"), ("word", "0.01")):
        page.fill(f"#budget [name={name}]", value)
    page.fill("#budget-money", "8.5")
    cost = "0.5 + 0.02*seconds + 0.01*words"
    assert ids_saved(page) == [record["id"] for record in chosen("8.5", cost)]
    assert f'--budget 8.5 --cost "{cost}" --out' in command.text_content()
    assert "cost 8." in status.text_content()
    page.fill("#budget-money", "0.01")
    assert "give a larger budget" in status.text_content()
    assert page.get_by_role("button", name="Save as CSV").is_disabled()


def test_the_keyboard_is_enough(visit):
    page = visit("pool")
    page.focus("#budget-slider")
    page.keyboard.press("Home")
    rows = page.locator("#budget-list > tbody > tr")
    assert rows.count() == 1
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert rows.count() == 4
    assert page.locator("#budget-slider").get_attribute("aria-valuetext").startswith("4 of ")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "budget-count"
    play = rows.first.get_by_role("button", name="Play rank 1")
    number = play.get_attribute("data-plays")
    play.focus()
    page.keyboard.press("Space")
    page.wait_for_function(
        "(n) => document.querySelector(`#pick-${n} audio`).currentTime > 0.05", arg=number
    )
    assert play.text_content() == "Stop"
    page.keyboard.press("Space")
    page.wait_for_function("(n) => document.querySelector(`#pick-${n} audio`).paused", arg=number)
    said = "(n) => document.querySelector(`[data-plays='${n}']`).textContent === 'Play'"
    page.wait_for_function(said, arg=number)  # the event comes after the state


def test_tables_run_no_formula(visit, chosen):
    page = visit("pool")
    page.fill("#budget-count", "24")
    table = list(csv.DictReader(io.StringIO(listed(page, "CSV").decode("utf-8-sig"), newline="")))
    assert [int(row["rank"]) for row in table] == list(range(1, 25))
    assert [float(row["score"]) for row in table] == [record["pctc"] for record in chosen("24")]
    assert [row["id"][0] for row in table if "cmd|" in row["id"]] == ["'"]
    assert all(row["why"] for row in table)


@pytest.mark.parametrize(
    ("label", "file"),
    [("CSV", "a.csv"), ("JSONL", "a.jsonl"), ("Label Studio", "a.json"),
     ("Lhotse", "a.cuts.jsonl")],
)  # fmt: skip
def test_what_is_saved_is_what_select_writes(visit, scored, tmp_path, label, file):
    """But for the reasons that the page adds, and readings beyond the first five."""
    plain = scored.with_name("plain.jsonl")
    assert in_this_process("select", plain, "--budget", "9", "--out", tmp_path / file, "-q") == 0
    page = visit("plain")
    page.fill("#budget-count", "9")
    saved = tmp_path / f"saved-{file}"
    saved.write_bytes(listed(page, label))

    def delivered(path):
        return [
            (one.id, one.text, {key: of for key, of in one.record.items() if key not in _ADDED})
            for one in read_back(str(path), from_name="transcription")
        ]

    assert len(delivered(saved)) == 9
    assert delivered(saved) == delivered(tmp_path / file)


def test_saved_paths_hold_wherever_they_are_saved(visit, scored):
    page = visit("relative")
    records = [json.loads(line) for line in listed(page, "JSONL").splitlines()]
    assert all(os.path.isabs(record["audio_filepath"]) for record in records)
    assert all(os.path.isfile(record["audio_filepath"]) for record in records)
    assert "full paths on the machine" in page.locator("#label").text_content()


def test_numbers_that_cannot_be_are_said(visit):
    page = visit("pool")
    status, save = page.locator("#budget-status"), page.get_by_role("button", name="Save as CSV")
    page.fill("#budget-count", "999")
    assert "Recordings: there are only " in status.text_content()
    assert save.is_disabled()
    assert page.locator("#budget-count").get_attribute("aria-invalid") == "true"
    page.fill("#budget-count", "5")
    assert status.text_content().startswith("5 of ")
    page.fill("#budget [name=second]", "-0.5")
    assert status.text_content() == "+ a second: give a number that is not below zero."
    assert save.is_disabled()
    page.fill("#budget [name=second]", "0.5")
    assert "cost" in status.text_content()
    page.fill("#budget-audio", "9999")
    assert status.text_content().endswith("Part of the budget is left over.")
    page.fill("#rank-controls [name=x1]", "7")
    page.locator("#rank-controls [name=x1]").blur()
    assert page.locator("#rank-controls [name=x1]").input_value() == "1"


def test_hostile_texts_are_listed_and_do_nothing(visit):
    page = visit("pool")
    page.fill("#budget-count", "24")
    body = page.locator("#budget-list > tbody")
    assert body.locator("img, script, a[href^=javascript]").count() == 0
    shown = body.locator(".id bdi").all_text_contents()
    assert HOSTILE_TEXTS[1] in shown
    assert "a\\ud800b" in shown
    assert "(blank)" in shown
    assert max(map(len, shown)) <= 300
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("document.documentElement.scrollWidth") == 1200


def test_more_rows_come_at_a_press(visit):
    page = visit("pool")
    page.focus("#budget-slider")
    page.keyboard.press("End")
    rows = page.locator("#budget-list > tbody > tr")
    assert rows.count() == 50
    page.get_by_role("button", name="Show").click()
    assert rows.count() == int(page.locator("#budget-slider").get_attribute("max"))
    readings = page.locator("#budget-list details").last
    readings.locator("summary").click()
    assert readings.locator("del, ins").count() > 0


@pytest.mark.parametrize("width", [390, 80])
def test_it_fits_a_phone_and_a_strip_in_the_dark(visit, width):
    page = visit("pool", width=width, has_touch=True, color_scheme="dark")
    page.evaluate("() => document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    box = page.locator("#budget-slider").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    assert page.locator("#budget-list .heard").nth(3).is_visible()
