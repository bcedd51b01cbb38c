"""``egl-fast select`` as a user runs it: in its own process, with files and pipes."""

import gzip
import json
import os
import subprocess

import pytest
from click.testing import CliRunner
from commands import egl_fast, lines_of, refused, start

from egl_fast.cli.main import cli
from egl_fast.data.manifest import read_manifest
from egl_fast.records import ScoreRecord, to_json


def run(*arguments, status=0, stdin="", **environment):
    """The finished process; its exit status must be ``status``."""
    done = egl_fast("select", *arguments, given=stdin, **environment)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


def refusal(*arguments, **options):
    """The one line of a refused command."""
    return refused("select", *arguments, **options)


def a_line(number, *, egl, beam_mass=0.9, **manifest):
    record = ScoreRecord(
        id=f"rec{number}",
        duration=2.0,
        num_frames=100,
        pred_text=f"heard {number}",
        num_hypotheses=100,
        beam_mass=beam_mass,
        egl=egl,
        egl_stderr=0.0,
        egl_normalized=egl / beam_mass,
        egl_unsquared=None,
        egl_full=None,
        egl_full_stderr=None,
        entropy=float(number),
        pctc=egl / 10,
        random=0.5,
    )
    return to_json(record, {"audio_filepath": f"wav/{number}.wav", "speaker": "x", **manifest})


def as_text(lines):
    return "".join(json.dumps(line) + "\n" for line in lines)


#: Ranked by EGL: 1, 3, 2 (a tie, in the file's order), 0.
LINES = [a_line(number, egl=egl) for number, egl in enumerate([1.0, 8.0, 4.0, 4.0])]
LINES[2], LINES[3] = LINES[3], LINES[2]


@pytest.fixture
def scores(tmp_path):
    """A scores file of four lines, in its own folder."""
    path = tmp_path / "run" / "scores.jsonl"
    path.parent.mkdir()
    path.write_text(as_text(LINES))
    return path


def test_standard_output_holds_whole_lines_in_rank_order_and_nothing_else(scores):
    done = run(scores, "--budget", "100%", "--strategy", "egl")
    expected = [LINES[1], LINES[2], LINES[3], LINES[0]]
    assert lines_of(done.stdout) == [
        {**line, "audio_filepath": str(scores.parent / line["audio_filepath"]), "rank": rank}
        for rank, line in enumerate(expected, start=1)
    ]
    assert done.stderr.splitlines()[1:] == [
        "selected 4 of 4 utterances by egl: 0.13 of 0.13 min, 2.0 s on average"
    ]


@pytest.mark.parametrize("budget", ["50%", "2", "5s"])
def test_a_budget_is_a_share_a_count_or_a_time(scores, budget):
    chosen = lines_of(run(scores, "--budget", budget).stdout)
    assert [line["id"] for line in chosen] == ["rec1", "rec3"]


def test_the_strategy_decides_the_ranking(scores):
    chosen = lines_of(run(scores, "--budget", "1", "--strategy", "entropy").stdout)
    assert [line["id"] for line in chosen] == ["rec3"]


def test_a_dash_reads_standard_input(scores):
    pool = scores.with_name("pool.jsonl")
    pool.touch()
    piped = run("-", "--budget", "50%", "--pool", pool, stdin=scores.read_text())
    assert piped.stdout == run(scores, "--budget", "50%").stdout


def test_transcripts_of_any_script_survive_any_locale(tmp_path):
    # U+2028 ends a line for str.splitlines; a lone surrogate has no UTF-8.
    line = a_line(0, egl=1.0, text="größe \u2028 日本 \ud800")
    for text in (json.dumps(line), json.dumps(line, ensure_ascii=False).replace("\ud800", "")):
        # An interpreter reads this variable as it starts.
        process = start(
            *("select", "-", "--budget", "1"),
            environment={"PYTHONIOENCODING": "ascii"},
            stdin=subprocess.PIPE,
            encoding="utf-8",
            errors="surrogatepass",
        )
        out, err = process.communicate(text)
        assert process.returncode == 0, err
        assert lines_of(out)[0]["text"] == json.loads(text)["text"]


def test_out_is_a_manifest_and_leaves_no_partial_file(scores):
    out = scores.parent / "chosen.jsonl"
    done = run(scores, "--budget", "50%", "--out", out)
    assert done.stdout == ""
    assert [line["rank"] for line in lines_of(out.read_text())] == [1, 2]
    assert [u.id for u in read_manifest(out)] == ["rec1", "rec3"]
    assert read_manifest(out)[0].audio_path == scores.parent / "wav/1.wav"
    names = ["chosen.jsonl", "chosen.jsonl.meta.json", "scores.jsonl"]
    assert sorted(os.listdir(scores.parent)) == names


def test_a_selection_can_be_selected_from_again(scores):
    first = run(scores, "--budget", "100%").stdout
    again = lines_of(run("-", "--budget", "1", "--strategy", "entropy", stdin=first).stdout)
    audio = str(scores.parent / LINES[2]["audio_filepath"])
    assert again == [{**LINES[2], "audio_filepath": audio, "rank": 1}]


class TestAudioPaths:
    """Wherever a selection is written, its relative audio paths lead to the pool's audio."""

    @staticmethod
    def selected_audio(out):
        paths = [u.audio_path for u in read_manifest(out)]
        written = [line["audio_filepath"] for line in lines_of(out.read_text())]
        return written[0], os.path.realpath(paths[0])

    def test_without_metadata_they_are_resolved_against_the_scores(self, scores):
        out = scores.parent.parent / "elsewhere" / "chosen.jsonl"
        out.parent.mkdir()
        run(scores, "--budget", "1", "--out", out)
        written, audio = self.selected_audio(out)
        assert written == "../run/wav/1.wav"
        assert audio == os.path.realpath(scores.parent / "wav/1.wav")

    @pytest.mark.parametrize("absolute", [False, True])
    def test_they_are_resolved_against_the_pool_in_the_metadata(self, scores, absolute):
        pool = scores.parent.parent / "corpus" / "pool.jsonl"
        named = str(pool) if absolute else "../corpus/pool.jsonl"
        scores.with_name("scores.jsonl.meta.json").write_text(json.dumps({"pool": named}))
        out = scores.parent / "chosen.jsonl"
        assert "give the manifest with --pool" in refusal(scores, "--budget", "1", "--out", out)
        pool.parent.mkdir()
        pool.write_text("")
        run(scores, "--budget", "1", "--out", out)
        assert self.selected_audio(out) == (
            "../corpus/wav/1.wav",
            os.path.realpath(pool.parent / "wav/1.wav"),
        )

    def test_they_are_resolved_against_a_pool_given_as_option(self, scores):
        pool = scores.parent.parent / "corpus" / "pool.jsonl"
        pool.parent.mkdir()
        pool.write_text("")
        scores.with_name("scores.jsonl.meta.json").write_text('{"pool": "/nowhere/pool.jsonl"}')
        out = scores.parent / "chosen.jsonl"
        run(scores, "--budget", "1", "--out", out, "--pool", pool)
        assert self.selected_audio(out)[0] == "../corpus/wav/1.wav"
        run("-", "--budget", "1", "--out", out, "--overwrite", "--pool", pool,
            stdin=scores.read_text())  # fmt: skip
        assert self.selected_audio(out)[0] == "../corpus/wav/1.wav"
        missing = pool.with_name("missing.jsonl")
        assert "no such file" in refusal(
            scores, "--budget", "1", "--out", out, "--overwrite", "--pool", missing
        )

    def test_they_hold_through_symbolic_links(self, scores):
        deep = scores.parent.parent / "a" / "b" / "c"
        deep.mkdir(parents=True)
        link = scores.parent / "link"
        link.symlink_to(deep)
        (scores.parent / "wav").mkdir()
        (scores.parent / "wav" / "1.wav").touch()
        run(scores, "--budget", "1", "--out", link / "chosen.jsonl")
        assert (link / self.selected_audio(link / "chosen.jsonl")[0]).exists()

    @pytest.mark.parametrize("meta", ["not JSON", "[]", '{"pool": 7}'])
    def test_metadata_that_tells_nothing_is_passed_over(self, scores, meta):
        scores.with_name("scores.jsonl.meta.json").write_text(meta)
        out = scores.parent / "chosen.jsonl"
        run(scores, "--budget", "1", "--out", out)
        assert self.selected_audio(out)[0] == "wav/1.wav"

    @pytest.mark.parametrize("where", ["beside", "elsewhere"])
    def test_on_standard_output_they_lead_to_the_audio_from_any_folder(self, scores, where):
        folder = scores.parent.parent / where
        folder.mkdir()
        pool = folder / "pool.jsonl"
        pool.touch()
        scores.with_name("scores.jsonl.meta.json").write_text(json.dumps({"pool": str(pool)}))
        [line] = lines_of(run(scores, "--budget", "1").stdout)
        assert line["audio_filepath"] == str(folder / "wav/1.wav")

    def test_they_stay_as_they_are_if_absolute_or_from_standard_input(self, tmp_path):
        out = tmp_path / "elsewhere" / "chosen.jsonl"
        out.parent.mkdir()
        for to in (("--out", out), ()):
            done = run("-", "--budget", "1", *to, stdin=as_text(LINES))
            assert "warning: relative audio paths are written as they are" in done.stderr
        assert lines_of(done.stdout)[0]["audio_filepath"] == "wav/1.wav"
        assert self.selected_audio(out)[0] == "wav/1.wav"
        path = tmp_path / "scores.jsonl"
        path.write_text(as_text([a_line(0, egl=1.0, audio_filepath="/corpus/1.wav")]))
        run(path, "--budget", "1", "--out", out, "--overwrite")
        assert self.selected_audio(out)[0] == "/corpus/1.wav"


class TestNothingIsLost:
    """What is there stays there, unless the user says otherwise."""

    def test_an_output_is_replaced_only_with_overwrite(self, scores):
        out = scores.parent / "chosen.jsonl"
        out.write_text("precious")
        assert "--overwrite" in refusal(scores, "--budget", "1", "--out", out)
        assert out.read_text() == "precious"
        run(scores, "--budget", "1", "--out", out, "--overwrite")
        assert len(lines_of(out.read_text())) == 1

    def test_a_failure_leaves_the_old_output(self, scores):
        out = scores.parent / "chosen.jsonl"
        out.write_text("precious")
        refusal(scores, "--budget", "99", "--out", out, "--overwrite")
        assert out.read_text() == "precious"
        assert sorted(os.listdir(scores.parent)) == ["chosen.jsonl", "scores.jsonl"]

    def test_the_scores_file_is_never_the_output(self, scores):
        before = scores.read_bytes()
        link = scores.parent / "same"
        link.symlink_to(scores)
        for out in (scores, link):
            assert "is a file that this command reads" in refusal(
                scores, "--budget", "1", "--out", out, "--overwrite"
            )
        assert scores.read_bytes() == before

    def test_a_folder_is_refused_as_output(self, scores):
        assert "is a folder" in refusal(scores, "--budget", "1", "--out", scores.parent)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{", "line 3: not JSON"),
        ("[]", "line 3: expected a JSON object, got list"),
        ('{"audio_filepath": "a.wav", "duration": 1}', "line 3: has no 'id'"),
        ('{"id": "x"}', "line 3: 'duration' is None"),
        ('{"id": "x", "duration": "1"}', "line 3: 'duration' is '1'"),
        ('{"id": "x", "duration": -1}', "line 3: 'duration' is -1"),
        (json.dumps(LINES[0]), "line 3: id 'rec0' is already that of line 1"),
    ],
)
def test_a_malformed_line_is_named_by_its_number(scores, bad, message):
    scores.write_text(f"{json.dumps(LINES[0])}\n\n{bad}\n")
    line = refusal(scores, "--budget", "1")
    assert line.startswith(f"egl-fast: scores {scores}, ")
    assert message in line


def test_files_without_scores_are_refused(tmp_path):
    path = tmp_path / "scores.jsonl"
    assert "no such file" in refusal(path, "--budget", "1")
    assert "is a folder" in refusal(tmp_path, "--budget", "1")
    path.write_text("\n\n")
    assert "contains no records" in refusal(path, "--budget", "1")


@pytest.mark.parametrize(
    ("strategy", "warned"),
    [("egl", True), ("egl_unsquared", True), ("egl_normalized", False), ("entropy", False)],
)
def test_low_mass_is_warned_of_where_it_matters(strategy, warned):
    lines = [{**a_line(i, egl=1.0, beam_mass=0.01), "egl_unsquared": 1.0} for i in range(3)]
    done = run("-", "--budget", "1", "--strategy", strategy, stdin=as_text(lines))
    assert ("warning: the K best labelings hold little" in done.stderr) == warned
    assert len(lines_of(done.stdout)) == 1


def test_a_reader_that_goes_away_early_is_no_failure(scores):
    scores.write_text(as_text([a_line(i, egl=1.0, text="x" * 1000) for i in range(500)]))
    process = start("select", scores, "--budget", "100%")
    process.stdout.readline()
    process.stdout.close()
    stderr = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 0
    assert stderr == ""


class TestTable:
    """The table is for people: aligned, bounded in width, without control characters."""

    def test_a_pipe_gets_100_columns(self, scores):
        done = run(scores, "--budget", "3", "--table", "--strategy", "egl")
        header, rule, *rows = done.stdout.splitlines()
        assert header.split() == ["rank", "id", "EGL", "entropy", "seconds", "model", "heard"]
        assert rule == "─" * 100
        assert [row.split() for row in rows] == [
            ["1", "rec1", "8", "1", "2.0", "heard", "1"],
            ["2", "rec3", "4", "3", "2.0", "heard", "3"],
            ["3", "rec2", "4", "2", "2.0", "heard", "2"],
        ]
        assert "selected 3 of 4" in done.stderr

    def test_the_strategy_has_a_column_and_show_cuts_the_rows(self, scores):
        done = run(scores, "--budget", "3", "--show", "1", "--strategy", "pctc")
        header, _, *rows = done.stdout.splitlines()
        assert header.split()[:5] == ["rank", "id", "pctc", "EGL", "entropy"]
        assert [row.split()[:5] for row in rows] == [["1", "rec1", "0.8", "8", "1"]]
        assert "selected 3 of 4" in done.stderr

    @pytest.mark.parametrize("columns", [100, 80])
    def test_long_texts_are_cut_at_the_width(self, columns):
        line = {
            **a_line(0, egl=123456.0, text="said " * 50),
            "id": "corpus/deep/folder/speaker/one.flac",
            "pred_text": "heard " * 50,
        }
        done = run(
            *("-", "--budget", "1", "--table", "--strategy", "egl"),
            stdin=as_text([line]),
            COLUMNS=str(columns),
        )
        lines = done.stdout.splitlines()
        assert len(lines) == 3
        assert all(len(text) <= columns for text in lines)
        assert lines[0].split()[-2:] == ["really", "said"]
        assert lines[2].count("…") == 3
        for cell in ("123,456", "speaker/one.flac", "heard hear", "said said"):
            assert cell in lines[2]

    def test_transcripts_are_neither_markup_nor_control_characters(self):
        line = {**a_line(0, egl=1.0, text="[bold]a[/x]"), "pred_text": "\x1b[31mred\nline\x07"}
        done = run("-", "--budget", "1", "--table", stdin=as_text([line]), FORCE_COLOR="")
        assert "\x1b" not in done.stdout
        assert "\x07" not in done.stdout
        assert "[bold]a[/x]" in done.stdout
        assert len(done.stdout.splitlines()) == 3

    def test_table_and_out_go_together(self, scores):
        out = scores.parent / "chosen.jsonl"
        done = run(scores, "--budget", "2", "--table", "--out", out)
        assert len(done.stdout.splitlines()) == 4
        assert len(lines_of(out.read_text())) == 2


def test_help_describes_every_strategy():
    from egl_fast.records import STRATEGIES

    text = run("--help").stdout
    for name, description in STRATEGIES.items():
        assert f"{name} " in text
        assert description in text


@pytest.mark.parametrize(
    ("budget", "num_chosen", "warned"),
    [("3h", 4, True), ("9s", 4, True), ("8s", 4, False), ("7s", 3, False), ("100%", 4, False)],
)
def test_a_budget_of_more_than_there_is_says_so(scores, budget, num_chosen, warned):
    result = CliRunner().invoke(cli, ["select", str(scores), "--budget", budget])
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == num_chosen
    line = f"warning: budget {budget}: exceeds all 4 utterances; selected all"
    assert (line in result.stderr) == warned


def test_compressed_scores_are_read_and_other_formats_refused(scores):
    packed = scores.with_name("packed")
    packed.write_bytes(gzip.compress(scores.read_bytes()))
    arguments = ["select", str(packed), "--budget", "1"]
    assert CliRunner().invoke(cli, arguments).stdout.count("\n") == 1
    out = scores.with_name("x.xlsx")
    result = CliRunner().invoke(cli, [*arguments, "--out", str(out)])
    assert "is named like a spreadsheet" in str(result.exception)
    assert not out.exists()


def test_a_pipe_has_no_gate_and_says_so():
    """Nor embeddings: both are kept beside a scores file."""
    lines = as_text({**line, "typicality": 0.0} for line in LINES)
    done = run("-", "--budget", "1", stdin=lines)
    said = "warning: noise, music, and other languages were not left out; to leave them out, score"
    assert f"{said} with --typicality and --out, and select from that file" in done.stderr
    again = run("-", "--budget", "1", "--batch", "clusters", stdin=lines, status=2)
    assert "batch clusters: needs the embeddings" in again.stderr
    assert "a pipe or a list of records cannot replace" in again.stderr


@pytest.mark.parametrize("ending", [".meta.json", ".errors.jsonl", ".embeddings.npy"])
def test_what_is_beside_the_scores_is_told_from_them(scores, ending):
    message = refusal(f"{scores}{ending}", "--budget", "1")
    assert f"holds none; give {scores}" in message
