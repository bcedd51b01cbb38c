"""The tables of an evaluation, against numbers worked by hand."""

import polars as pl
import pytest
from test_report_evaluation import POINTS, run_of

from egl_fast.evaluation.reporting.evaluation import Evaluation
from egl_fast.evaluation.reporting.measures import METRICS
from egl_fast.evaluation.reporting.metric_tables import add_metrics, paper_tables
from egl_fast.evaluation.reporting.page_model import Page
from egl_fast.evaluation.reporting.value_tables import value_tables
from egl_fast.evaluation.reporting.wording import MINUS

# Of two utterances there are three resamples: a a, a b, b b. EGL's CER at 40% is 10, 15 and 16.7%
# in these; all else is the same in each.


def page_of(points):
    page = Page("title", "lead", [], [])
    add_metrics(page, Evaluation(run_of(points), replicates=200))
    return page


@pytest.fixture(scope="module")
def page():
    return page_of(POINTS)


def rows(table):
    """Row header -> (text, note) of its cells, with the minus sign of keyboards."""
    return {
        row.header: [
            (cell.text.replace(MINUS, "-"), cell.note.replace(MINUS, "-")) for cell in row.cells
        ]
        for row in table.rows
    }


def test_table_1(page):
    table = page.metric_tables[0]
    assert table.columns == ("random", "EGL")
    assert rows(table) == {
        "20%": [("30.00", "30.0 to 30.0"), ("20.00", "20.0 to 20.0")],
        "40%": [("20.00", "20.0 to 20.0"), ("15.00", "10.0 to 16.7")],
    }
    for row in table.rows:
        assert [cell.best for cell in row.cells] == [False, True]
        assert [cell.verdict for cell in row.cells] == ["", "better"]
    assert table.more == (
        "nothing labeled: 40.00 (40.0 to 40.0); all of the pool labeled: 10.00 (10.0 to 10.0)"
    )


def test_the_points_of_the_curves(page):
    assert rows(page.curve_tables[0])["EGL, 40%"] == [
        ("15.00", ""), ("10.0 to 16.7", ""), ("0.600", ""), ("15.00, 15.00", "")
    ]  # fmt: skip
    own = [point for point in page.data["points"] if point["s"] == 1]
    assert [(p["q"], p["end"], p["recordings"], p["hours"], p["y"][0]) for p in own] == [
        ("0%", True, 0.0, 0.0, 40.0),
        ("20%", False, 20.0, 0.2, 20.0),
        ("40%", False, 40.0, 0.6, 15.0),
        ("100%", True, 100.0, 2.0, 10.0),
    ]
    assert own[2]["said"][0] == "CER 15.00% (10.0 to 16.7)"


def test_changes_against_random(page):
    assert rows(page.reduction_tables[0]) == {
        "EGL": [("-33.3%", "-33.3 to -33.3%"), ("-25.0%", "-50.0 to -16.7%")]
    }
    [drawn] = [r for r in page.data["reductions"] if (r["q"], r["m"]) == ("40%", 0)]
    assert (drawn["s"], drawn["y"], drawn["low"], drawn["high"]) == (1, 25.0, 16.667, 50.0)
    assert drawn["seeds"] == [25.0, 25.0]


def test_what_random_needs_to_do_as_well(page):
    assert rows(page.efficiency_tables[0]) == {"EGL": [("40%", "40 to 40%"), ("70%", "60 to 100%")]}
    for errors, said in (((0, 0), "> 100%"), ((9, 27), "< 0%")):
        points = [(*p[:7], errors) if p[0] == "egl" else p for p in POINTS]
        assert rows(page_of(points).efficiency_tables[0])["EGL"][0][0] == said


def test_equal_hours_and_the_whole_curve(page):
    table = page.equal_tables[0]
    assert table.columns[:2] == ("audio in 20% of the recordings", "CER at 24.0 min labeled")
    assert rows(table) == {
        "random": [
            ("24.0 min", ""), ("30.00", "30.0 to 30.0"), ("", ""), ("30.00", "30.0 to 30.0"),
            ("", ""),
        ],
        "EGL": [
            ("12.0 min", ""), ("17.50", "15.0 to 18.3"), ("-41.7%", "-50.0 to -38.9%"),
            ("23.75", "22.5 to 24.2"), ("-6.25", "-7.50 to -5.83"),
        ],
    }  # fmt: skip


def test_results_stand_beside_the_papers():
    [_, wer, loss] = METRICS
    tables = paper_tables(Evaluation(run_of(POINTS), replicates=200))
    assert [table.caption.split(":")[0] for table in tables] == ["CER", wer.label, loss.label]
    found = {header: [text for text, _ in cells] for header, cells in rows(tables[0]).items()}
    assert len(found) == 8
    assert found["random at 20%"] == ["10.84", "", "30.00", ""]
    assert found["EGL at 20%"] == ["9.59", "-11.5%", "20.00", "-33.3%"]
    assert found["entropy at 20%"] == ["10.20", "-5.9%", "", ""]


def test_errors_on_each_kind_of_speech():
    errors = [
        ("random", 0, "a", 0.3), ("random", 1, "a", 0.5),
        ("random", 0, "(mean)", 0.2), ("random", 1, "(mean)", 0.2),
        ("egl", 0, "a", 0.1), ("egl", 0, "(mean)", 0.25),
    ]  # fmt: skip
    table = pl.DataFrame(
        [
            {"strategy": s, "mode": "single", "round": 1, "seed": seed, "query": "20%", "value": v}
            | dict.fromkeys(("cer", "wer", "ctc_loss"), error)
            for s, seed, v, error in errors
        ]
    )
    cer, _, loss = value_tables(table, Evaluation(run_of(POINTS), replicates=2))
    assert cer.columns == ("a", "mean of these")
    assert rows(cer) == {
        "random, 20%": [("40.00", ""), ("20.00", "")],
        "EGL, 20%": [("10.00", ""), ("25.00", "")],
    }
    assert [[cell.best for cell in row.cells] for row in cer.rows] == [[False, True], [True, False]]
    assert rows(loss)["EGL, 20%"][0] == ("0.10", "")
