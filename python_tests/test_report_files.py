"""What a report reads: scores files and run folders, and how it refuses what is neither."""

import gzip
import json
import os

import numpy as np
import polars as pl
import pytest
from synthetic_run import synthetic_scores, write_run

from egl_fast.errors import ManifestError, ReportError
from egl_fast.evaluation.reporting.run_folder import read_run_folder
from egl_fast.evaluation.reporting.scores_file import read_scores_file
from egl_fast.evaluation.simulation.tables import scores_table


@pytest.fixture(scope="module")
def records(examples):
    return synthetic_scores(examples / "pool.jsonl")


@pytest.fixture
def write(tmp_path):
    def writer(lines):
        path = tmp_path / "scores.jsonl"
        path.write_text("".join(f"{x if isinstance(x, str) else json.dumps(x)}\n" for x in lines))
        return path

    return writer


def without_labels(record):
    """The records as Parquet keeps them."""
    kept = ("text", "log_prob", "sq_grad_norm")
    slim = [{key: one[key] for key in kept} for one in record["hypotheses"]]
    return {**{k: v for k, v in record.items() if v is not None}, "hypotheses": slim}


class TestScoresFile:
    def test_numbers_are_columns(self, write, records):
        pool = read_scores_file(write(records), keep_ids=True)
        assert len(pool) == len(records)
        assert list(pool.strategies) == [
            "egl", "egl_normalized", "egl_full", "entropy", "pctc", "random"
        ]  # fmt: skip
        for name, column in pool.strategies.items():
            assert column.tolist() == [record[name] for record in records]
        assert pool.durations.tolist() == [record["duration"] for record in records]
        assert pool.beam_mass.tolist() == [record["beam_mass"] for record in records]
        assert pool.ids == tuple(record["id"] for record in records)
        assert read_scores_file(pool.path).ids == ()

    def test_groups_follow_the_manifest(self, write, records):
        pool = read_scores_file(write(records))
        kinds = pool.groups["kind"]
        assert [kinds.names[code] for code in kinds.codes] == [r.get("kind", "") for r in records]
        plain = [{k: v for k, v in record.items() if k != "kind"} for record in records]
        assert set(read_scores_file(write(plain)).groups) == {"corpus", "speaker"}

    def test_whole_records_are_read_again(self, write, records):
        # Blank lines, and line separators of Unicode, do not shift the positions.
        odd = [{**records[0], "text": "a\u2028b ü"}, "", *records[1:]]
        path = write(odd)
        path.write_text(path.read_text().replace("\\u2028", "\u2028"), encoding="utf-8")
        pool = read_scores_file(path)
        found = pool.records([2, 0])
        assert [record["id"] for record in found] == [records[2]["id"], records[0]["id"]]
        assert found[1]["text"] == "a\u2028b ü"

    def test_a_file_that_changes_is_noticed(self, write, records):
        pool = read_scores_file(write(records))
        pool.path.write_text("something else\n" * 1000)
        with pytest.raises(ManifestError, match="changed while"):
            pool.records([3])

    def test_a_strategy_that_some_records_lack_cannot_rank(self, write, records):
        pool = read_scores_file(write([{**records[0], "egl_full": None}, *records[1:]]))
        assert "egl_full" not in pool.strategies
        assert pool.incomplete == ("egl_full",)

    def test_estimates_have_standard_errors(self, write, records):
        estimated = [{**r, "egl_stderr": 2.0, "beam_mass": 0.5} for r in records[1:]]
        pool = read_scores_file(write([{**records[0], "egl_stderr": None}, *estimated]))
        assert list(pool.stderrs) == ["egl", "egl_full", "egl_normalized"]
        assert pool.stderrs["egl"].tolist() == [0.0] + [2.0] * len(estimated)
        assert pool.stderrs["egl_normalized"].tolist() == [0.0] + [4.0] * len(estimated)
        assert set(read_scores_file(write(records)).stderrs) == {"egl_full"}

    def test_groups_that_are_lists_are_none(self, write, records):
        deep = json.loads("[" * 50 + "]" * 50)
        pool = read_scores_file(write([{**record, "kind": deep} for record in records]))
        assert "kind" not in pool.groups

    def test_controls_of_an_evaluation_rank_too(self, write, records):
        pool = read_scores_file(write([{**r, "longest": r["duration"]} for r in records]))
        assert pool.strategies["longest"].tolist() == pool.durations.tolist()

    def test_an_empty_recording_and_speakers_that_are_numbers(self, write, records):
        first = {**records[0], "duration": 0, "speaker": 7}
        pool = read_scores_file(write([first, *records[1:]]))
        assert pool.durations[0] == 0
        assert pool.groups["speaker"].names[pool.groups["speaker"].codes[0]] == "7"

    def test_progress_adds_up_to_the_file(self, write, records):
        path = write(records)
        steps = []
        read_scores_file(path, advance=steps.append)
        assert sum(steps) == path.stat().st_size

    def test_parquet_is_read_like_json_lines(self, write, records):
        odd = [{**records[0], "speaker": 7, "egl_stderr": 2.0, "beam_mass": None}, *records[1:]]
        path = write(odd)
        lines = read_scores_file(path, keep_ids=True)
        expected = [without_labels(record) for record in lines.records([9, 0])]
        everyone = {record["id"] for record in records}
        scores_table(odd, everyone).write_parquet(path)  # the content counts, not the name
        steps = []
        table = read_scores_file(path, keep_ids=True, advance=steps.append)
        for name in ("strategies", "stderrs"):
            ours, theirs = getattr(table, name), getattr(lines, name)
            assert {k: v.tolist() for k, v in ours.items()} == {
                k: v.tolist() for k, v in theirs.items()
            }
        np.testing.assert_array_equal(table.beam_mass, lines.beam_mass)
        assert table.durations.tolist() == lines.durations.tolist()
        assert (table.ids, table.incomplete) == (lines.ids, lines.incomplete)
        for key, groups in lines.groups.items():
            assert table.groups[key].names == groups.names
            assert table.groups[key].codes.tolist() == groups.codes.tolist()
        found = table.records([9, 0])
        assert [{k: v for k, v in r.items() if v is not None} for r in found] == [
            {**record, "speaker": str(record["speaker"])} for record in expected
        ]
        assert sum(steps) == path.stat().st_size

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"id": [1, 2]}, "row 1: holds no score"),
            ({"egl": ["7", "x"]}, "row 1: 'egl' is '7', not a number"),
            ({"egl": [1.0, float("nan")]}, "row 2: 'egl' is nan, beyond any score"),
            ({"egl": [[1.0], [2.0]]}, "row 1: 'egl' is \\[1.0\\], not a number"),
            ({"duration": [1.0, None]}, "row 2: 'duration' is None"),
            ({"id": [], "egl": [], "duration": []}, "holds no record"),
        ],
    )
    def test_a_row_that_is_no_record_is_named(self, tmp_path, changed, message):
        path = tmp_path / "scores.parquet"
        fine = {"id": ["a", "b"], "duration": [1.0, 2.0], "egl": [1.0, 2.0]}
        pl.DataFrame({**fine, **changed}).write_parquet(path)
        with pytest.raises(ManifestError, match=message):
            read_scores_file(path)

    def test_parquet_that_is_damaged_or_changes(self, tmp_path, records):
        path = tmp_path / "scores.parquet"
        scores_table(records, set()).write_parquet(path)
        pool = read_scores_file(path)
        assert pool.records([3])[0]["hypotheses"] is None
        scores_table(records[:5], set()).write_parquet(path)
        with pytest.raises(ManifestError, match="changed while"):
            pool.records([3])
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(ManifestError, match="cannot be read"):
            read_scores_file(path)

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("{", "line 2: not JSON"),
            ('{"id": "x", "duration": 1, "egl": NaN}', "line 2: NaN is not a number"),
            ("[1]", "line 2: expected a JSON object"),
            ({"audio_filepath": "a.wav", "duration": 1.0}, "line 2: holds no score"),
            ({"id": "a", "duration": 1.0, "text": "a manifest"}, "line 2: holds no score"),
            ({"id": "a", "duration": 1.0, "egl": "7"}, "'egl' is '7', not a number"),
            ({"id": "a", "duration": 1.0, "egl": True}, "'egl' is True, not a number"),
            ('{"id": "a", "duration": 1.0, "egl": 1e308}', "'egl' is 1e\\+308, beyond"),
            ({"id": "a", "egl": 1.0}, "'duration' is None"),
            ({"id": "a", "duration": -1.0, "egl": 1.0}, "'duration' is -1.0"),
            ({"id": "a", "duration": 1e12, "egl": 1.0}, "'duration' is 1000000000000.0, not"),
            (
                {"id": "a", "duration": 1.0, "egl": "x" * 9999},
                "'egl' is 'x{47}[.]{3}x{48}', not a number",
            ),
            ({"id": "a", "duration": 1.0, "egl": 1.0, "egl_stderr": []}, "'egl_stderr' is"),
        ],
    )
    def test_a_line_that_is_no_record_is_named(self, write, records, line, message):
        with pytest.raises(ManifestError, match=message):
            read_scores_file(write([records[0], line]))

    def test_files_that_are_none(self, tmp_path, write, records):
        with pytest.raises(ManifestError, match="no such file"):
            read_scores_file(tmp_path / "none.jsonl")
        with pytest.raises(ManifestError, match="is a folder"):
            read_scores_file(tmp_path)
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ManifestError, match="cannot be read twice"):
            read_scores_file(tmp_path / "pipe")
        (tmp_path / "packed").write_bytes(gzip.compress(b"{}"))
        with pytest.raises(ManifestError, match="line 1: holds no score"):
            read_scores_file(tmp_path / "packed")
        with pytest.raises(ManifestError, match="holds no record"):
            read_scores_file(write([""]))
        with pytest.raises(ManifestError, match="no strategy has a score in every record"):
            read_scores_file(write([{"id": "a", "duration": 1.0, "egl": None}]))


class TestRunFolder:
    @pytest.fixture
    def run_dir(self, tmp_path, records):
        return write_run(tmp_path / "run", records, num_test=6, seeds=(3, 10))

    def test_tables_are_read_from_parquet_or_csv_alike(self, run_dir):
        parquet = read_run_folder(run_dir)
        assert sorted(parquet.scores) == [3, 10]
        assert parquet.config.startswith("[data]")
        (run_dir / "results.parquet").unlink()
        csv = read_run_folder(run_dir)
        assert csv.results["strategy"].to_list() == parquet.results["strategy"].to_list()
        assert csv.results["strategy"].null_count() == 0
        np.testing.assert_allclose(csv.results["cer"], parquet.results["cer"], rtol=1e-12)

    def test_picks_and_scores_may_be_absent(self, run_dir):
        (run_dir / "picks.parquet").unlink()
        for file in (run_dir / "scores").iterdir():
            file.unlink()
        run = read_run_folder(run_dir)
        assert run.picks is None
        assert run.scores == {}

    def test_without_results_the_command_that_makes_them_is_named(self, tmp_path, run_dir):
        with pytest.raises(ReportError, match="no such folder"):
            read_run_folder(tmp_path / "none")
        empty = tmp_path / "empty"
        empty.mkdir()
        with pytest.raises(ReportError, match="egl-fast simulate --config FILE --run-dir"):
            read_run_folder(empty)
        pl.read_parquet(run_dir / "results.parquet").head(0).write_parquet(
            empty / "results.parquet"
        )
        with pytest.raises(ReportError, match="holds no results"):
            read_run_folder(empty)
        (run_dir / "test_utterances.parquet").unlink()
        with pytest.raises(ReportError, match=r"no test_utterances\.parquet"):
            read_run_folder(run_dir)

    def test_a_file_is_taken_for_scores(self, write, records):
        with pytest.raises(ReportError, match="--scores FILE"):
            read_run_folder(write(records))

    @pytest.mark.parametrize(
        ("table", "column", "value", "message"),
        [
            ("results", "seed", None, "results.parquet, row 2: 'seed' is 'None', not a whole"),
            ("results", "round", "x\x00", r"'round' is 'x\\x00', not a whole number"),
            ("results", "fraction", float("nan"), "'fraction' is 'nan', not a number of 0"),
            ("results", "labeled_seconds", -1.0, "'labeled_seconds' is '-1.0', not a number of 0"),
            ("results", "mode", None, "row 2: 'mode' is 'None', not text"),
            ("test_utterances", "ctc_loss", float("inf"), "'ctc_loss' is 'inf', not a number"),
            ("test_utterances", "unit", [1], "'unit' holds lists, not text"),
            ("picks", "seed", "y", "picks.parquet, row 2: 'seed' is 'y', not a whole number"),
            ("picks", "id", [], "'id' holds lists, not text"),
        ],
    )
    def test_what_does_not_belong_in_a_table_is_named(self, run_dir, table, column, value, message):
        path = run_dir / f"{table}.parquet"
        whole = pl.read_parquet(path)
        values = whole[column].to_list()
        if isinstance(value, list):
            values = [value] * len(values)
        elif isinstance(value, str):
            values = ["0"] + [value] * (len(values) - 1)
        else:
            values[1] = value
        whole.with_columns(pl.Series(column, values)).write_parquet(path)
        with pytest.raises(ReportError, match=message):
            read_run_folder(run_dir)

    def test_a_run_that_has_only_begun_and_odd_configurations(self, run_dir):
        (run_dir / "config.toml").write_bytes(b"# caf\xe9\n" + b"# x\n" * 100_000)
        config = read_run_folder(run_dir).config
        assert config.startswith("# caf\ufffd\n")
        assert len(config) < 250_000
        path = run_dir / "results.parquet"
        table = pl.read_parquet(path)
        table.filter(pl.col("strategy") == "").write_parquet(path)
        with pytest.raises(ReportError, match="no results of any strategy yet"):
            read_run_folder(run_dir)

    def test_foreign_and_damaged_tables(self, run_dir):
        path = run_dir / "results.parquet"
        table = pl.read_parquet(path)
        table.drop("fraction").write_parquet(path)
        with pytest.raises(ReportError, match="lacks the column 'fraction'"):
            read_run_folder(run_dir)
        path.write_bytes(b"PAR1 no table")
        with pytest.raises(ReportError, match="cannot be read"):
            read_run_folder(run_dir)
