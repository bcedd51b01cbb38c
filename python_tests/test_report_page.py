"""The page of a run whose manifest is hostile: one file, which asks nothing of the network."""

import base64
import hashlib
import re
from pathlib import Path

from report_pages import HOSTILE, Page, headings

from egl_fast.display import printable


def test_it_is_where_it_is_said_to_be(report):
    _, run_dir, said = report
    assert f"report: {printable(str(run_dir / 'report.html'))} (" in said
    assert sorted(p.name for p in run_dir.iterdir() if p.name.startswith("report")) == [
        "report.html"
    ]


def test_it_asks_nothing_of_the_network(page):
    for tag, attributes in page.tags:
        for name in ("src", "href", "data", "action", "poster", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, value[:80])
    [style] = re.findall(r"<style>(.*?)</style>", page.html, re.DOTALL)
    assert "@import" not in style
    assert "url(" not in style


def test_its_policy_admits_only_its_own_code_by_hash(page):
    [policy] = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert "unsafe" not in policy
    hashes = [
        "'sha256-" + base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() + "'"
        for code in page.scripts[1:]
    ]
    assert rules["script-src"].split() == hashes
    assert len(hashes) == 2
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]
    assert not [tag for tag, attributes in page.tags if "style" in attributes]


def test_ids_labels_and_anchors_are_consistent(page):
    assert len(page.ids) == len(set(page.ids))
    inputs = [a for t, a in page.tags if t in ("input", "select", "audio")]
    labeled = {a["for"] for a in page.all("label") if "for" in a}
    for one in inputs:
        named = "aria-label" in one or one.get("id") in labeled
        assert named or one.get("type") in ("radio", "checkbox"), one
    anchors = [a["href"][1:] for a in page.all("a") if a["href"].startswith("#")]
    assert set(anchors) <= set(page.ids)
    assert all("alt" in image for image in page.all("img"))
    assert all(a.get("scope") for a in page.all("th"))


def test_nothing_of_a_manifest_becomes_markup(page):
    assert "window.pwned=1" in page.html, "the hostile text must be on the page at all"
    assert [a for a in page.all("img") if a.get("src") == "x"] == []
    assert len(page.scripts) == 3
    assert page.text.count("<script>window.pwned=1</script>") >= 4
    # In the data it is a string like any other.
    utterances = page.data["ranking"]["utterances"]
    assert [u["t"] for u in utterances if u["id"] == HOSTILE] == [HOSTILE]
    assert "<" not in page.scripts[0]


def test_the_tables_hold_the_numbers(page):
    assert "Character error rate (CER), %" in page.text
    assert "CER, % on each kind of test speech" in page.text
    assert "mean of these" in page.text
    assert page.data["queries"] == ["10%", "20%", "30%", "40%"]
    labels = [look["label"] for look in page.data["looks"]]
    assert labels[:6] == [
        "random", "entropy", "pCTC", "EGL", "EGL normalized", "EGL (sequential)"
    ]  # fmt: skip
    assert "the paper's Table 1 and this run" in page.text
    assert "12.70" in page.text
    points = [p for p in page.data["points"] if labels[p["s"]] == "EGL"]
    assert [p["recordings"] for p in points] == [0.0, 9.375, 20.312, 29.688, 40.625, 100.0]
    assert all(len(p["seeds"][0]) == 2 for p in points)


def test_picks_are_those_of_the_budget(page):
    assert "What was picked at 20" in page.text
    for name in ("random", "EGL normalized", "EGL (sequential)"):
        # 13 of 64 recordings, of the 26 that the picks hold for 40%.
        assert re.search(re.escape(name) + r" 13 [0-9.]+ (min|s)", page.text), name


def test_the_listening_table_can_be_heard(page, records):
    players = page.all("audio")
    # Two picks of each of six series, those in common once.
    assert 5 <= len(players) <= 12
    assert all(p["src"].startswith("data:audio/mpeg;base64,") for p in players)
    assert all("controls" in p and p["preload"] == "none" for p in players)
    assert len(page.all("img")) == len(players)
    assert "No sound" not in page.text
    assert "Warning:" not in page.text
    assert "1,234" in page.text
    assert "3.08\u00a0×\u00a010⁻⁴³⁵" in page.html, (
        "the probability of a hypothesis below the range of floats"
    )


def test_figures_are_numbered_in_the_order_they_appear(page):
    assert headings(page) == ["Figure 1", "Figure 2"]
    assert "Figure 3" not in page.text


def test_the_shipped_page_can_be_heard():
    results = Path(__file__).resolve().parent.parent / "experiments" / "results"
    page = Page(results / "speechocean.html")
    assert len(page.all("audio")) == 9
    assert "No sound" not in page.text
    assert "Warning:" not in page.text
