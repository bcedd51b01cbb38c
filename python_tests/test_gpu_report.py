"""benchmarks/gpu_report.py and its steps, as far as they run without a GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))

import gpu_agreement  # noqa: E402
import gpu_report  # noqa: E402
import gpu_report_page  # noqa: E402
import gpu_timings  # noqa: E402
from gpu_workloads import Workload, has_errors, measure  # noqa: E402

from egl_fast import ScoreRecord  # noqa: E402
from egl_fast.records import Hypothesis  # noqa: E402

STEPS = list(gpu_report.STEPS)


def refusal(tmp_path, nvidia_smi):
    """What is printed if nvidia-smi is this script, or missing if None."""
    if nvidia_smi is not None:
        script = tmp_path / "nvidia-smi"
        script.write_text(f"#!/bin/sh\n{nvidia_smi}\n")
        script.chmod(0o755)
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "gpu_report.py", "--out", tmp_path / "report"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert not (tmp_path / "report").exists()
    return done.stderr


def test_without_a_gpu_it_stops_with_one_line(tmp_path):
    assert refusal(tmp_path, None) == (
        "gpu_report: nvidia-smi: not found; this needs a GPU and NVIDIA's driver\n"
    )
    said = "echo 'NVIDIA-SMI has failed:\n no driver'; exit 9"
    assert refusal(tmp_path, said) == (
        "gpu_report: nvidia-smi lists no GPU: NVIDIA-SMI has failed: no driver\n"
    )
    assert refusal(tmp_path, "true").endswith("lists no GPU: it prints nothing\n")


def test_an_unknown_step_is_refused(capsys):
    with pytest.raises(SystemExit) as caught:
        gpu_report.main(["tets"])
    assert caught.value.code == 2
    assert "tets: no such step; there are build, tests" in capsys.readouterr().err


@pytest.fixture
def report(tmp_path):
    return gpu_report.Report(tmp_path, sys.executable, jobs=2, limit=60.0, repeats=1)


def test_a_step_that_fails_leaves_the_others_runnable(tmp_path, monkeypatch):
    def fail(report):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(
        gpu_report, "STEPS", {**gpu_report.STEPS, "build": fail, "tests": lambda r: {"ok": True}}
    )
    arguments = ["build", "tests", "--out", str(tmp_path), "--without-gpu"]
    assert gpu_report.main(arguments) == 1
    page = (tmp_path / "report.md").read_text()
    assert "| build | failed: RuntimeError: no compiler |" in page
    assert "| tests | passed |" in page
    assert "| timings | not run |" in page


def test_each_file_has_processes_of_its_own():
    names = [f"python_tests/test_a.py::x[{n}]" for n in range(5)] + ["python_tests/test_b.py::y"]
    processes = gpu_report.processes_of(names, 2)
    assert {name: len(chosen) for name, chosen in processes.items()} == {
        "test_a-0": 2,
        "test_a-1": 2,
        "test_a-2": 1,
        "test_b-0": 1,
    }
    assert sorted(name for chosen in processes.values() for name in chosen) == sorted(names)


def test_a_process_that_dies_puts_its_tests_under_suspicion(report, tmp_path):
    test = tmp_path / "test_made_up.py"
    test.write_text(
        "import os\ndef test_good(): pass\ndef test_bad(): assert 0\n"
        "def test_dies(): os._exit(11)\n"
    )
    survives = {"a": [f"{test}::test_good", f"{test}::test_bad"]}
    result = gpu_report.run_tests(report, survives, "tests", [])
    assert (result["ok"], result["tests"]) == (False, 2)
    assert [name.rpartition("::")[2] for name in result["failed"]] == ["test_bad"]
    dies = gpu_report.run_tests(report, {"b": [f"{test}::test_dies"]}, "tests", [])
    assert dies["failed"] == [f"{test}::test_dies"]
    assert dies["processes"][0]["status"] == 11
    assert not json.loads((tmp_path / "tests.json").read_text())["ok"]  # written as it goes


def test_a_process_that_takes_too_long_is_ended(tmp_path):
    report = gpu_report.Report(tmp_path, sys.executable, jobs=1, limit=0.5, repeats=1)
    # A shell's background jobs, as this may run in, ignore SIGINT unless they ask for it.
    script = (
        "import signal, time; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "print('begun', flush=True); time.sleep(60)"
    )
    sleeping = [sys.executable, "-c", script]
    done = report.run("slow", sleeping)
    assert done["status"] == -9
    assert "KeyboardInterrupt" in (tmp_path / "slow.log").read_text()


def record(egl=2.0, sq_grad_norm=4.0, labels=(1, 2)):
    return ScoreRecord(
        *("a", 1.0, 10, "ab", 1, 0.5, egl, 0.0, 2 * egl, None, None, None, 0.1, 0.2, 0.3),
        hypotheses=(Hypothesis("ab", labels, -0.7, sq_grad_norm),),
    )


def test_records_are_compared_by_their_norms():
    agreement = gpu_agreement.agreement
    same = agreement([record()], [record()], 2e-4)
    assert same["holds"] is True
    assert same["labelings_in_common"] == 1
    assert same["sq_grad_norm"] == same["egl"] == 0
    off = agreement([record(egl=2.2, sq_grad_norm=4.001)], [record()], 2e-4)
    assert off["holds"] is False
    assert off["sq_grad_norm"] == pytest.approx(2.5e-4)
    assert off["egl"] == pytest.approx(0.1)
    assert agreement([record(egl=9)], [record()], None)["holds"] is None
    assert agreement([record(labels=(3,))], [record()], 2e-4)["labelings_in_common"] == 0


AGREED = {
    "operators": [{"what": "search", "holds": True}],
    "repeatable": {"holds": True},
    "records": [{"what": "float32", "holds": True}],
}


def test_what_fails_or_differs_is_no_pass():
    assert not gpu_agreement.failed(AGREED)
    assert gpu_agreement.failed({**AGREED, "gpu": {"error": "RuntimeError: no"}})
    assert gpu_agreement.failed({**AGREED, "repeatable": {"holds": False}})
    assert gpu_agreement.failed({**AGREED, "records": [{"holds": False}]})


def test_a_part_that_fails_leaves_its_error_and_the_others(tmp_path):
    out = tmp_path / "parts.json"
    measured = measure({"bad": lambda: 1 / 0, "good": lambda: iter([{"x": 1}])}, out)
    assert measured == {
        "bad": {"error": "ZeroDivisionError: division by zero"},
        "good": [{"x": 1}],
    }
    assert json.loads(out.read_text()) == measured
    assert has_errors(measured)


@pytest.mark.slow
def test_all_is_compared_if_the_cpu_stands_for_the_gpu(tiny_model, recordings, tmp_path):
    parts = gpu_agreement.parts(Workload.small(tiny_model, recordings))
    measured = measure(parts, tmp_path / "parts.json")
    assert not gpu_agreement.failed(measured)
    assert [part["what"] for part in measured["records"]] == ["float64", "float32"]
    assert all(part["sq_grad_norm"] == 0 for part in measured["records"])
    assert measured["repeatable"] == {"utterances": 3, "different": 0, "holds": True}
    assert all(part["largest_difference"] == 0 for part in measured["operators"])


@pytest.mark.slow
def test_all_is_timed_if_the_cpu_stands_for_the_gpu(tiny_model, recordings, tmp_path):
    parts = gpu_timings.parts(Workload.small(tiny_model, recordings, rounds=1, matrix=32))
    del parts["wav2vec 2.0 base"]  # transformers is not among our packages
    measured = measure(parts, tmp_path / "parts.json")
    assert not has_errors(measured)
    assert len(measured["throughput"]) == 2 * 4
    assert all(part["utterances_per_second"] > 0 for part in measured["throughput"])


def page(folder, **results):
    for step, result in results.items():
        (folder / f"{step}.json").write_text(json.dumps(result))
    (folder / "gpu.json").write_text(json.dumps({"commit": "abc", "nvidia_smi": "Wonder\n"}))
    return gpu_report_page.render(folder, STEPS)


def test_the_page_shows_whatever_there_is(tmp_path):
    text = page(
        tmp_path,
        tests={
            "ok": False,
            "tests": 9,
            "failed": ["a::b", "c::d"],
            "failed_alone": ["a::b"],
            "skipped": 1,
            "processes": [{}],
        },
        sanitizer={
            "ok": True,
            "memcheck": {
                "tests": 3,
                "failed": [],
                "skipped": 0,
                "processes": [],
                "summaries": ["ERROR SUMMARY: 0 errors"],
            },
        },
        timings={
            "ok": True,
            "steps": [],
            "parts": {"operators": [{"what": "search", "median_s": 0.012345}], "x": {"error": "E"}},
        },
    )
    assert "# egl-fast abc on a GPU" in text
    assert "| build | not run |" in text
    assert "9 tests, 2 failed, 1 skipped" in text
    assert "- failed: `a::b`\n" in text
    assert "- failed: `c::d` (passes alone)" in text
    assert "- summaries: ERROR SUMMARY: 0 errors" in text
    assert "| search | 0.01235 |" in text
    assert "Failed: `E`" in text
    assert "Wonder" in text


def test_tests_are_counted(tmp_path):
    junit = tmp_path / "tests.xml"
    assert gpu_report.test_counts(junit) is None
    junit.write_text(
        "<testsuites><testsuite>"
        '<testcase classname="python_tests.test_a" name="test_x[cuda]"/>'
        '<testcase classname="python_tests.test_a" name="y[cuda]"><skipped/></testcase>'
        '<testcase classname="python_tests.test_a" name="test_z"><failure/></testcase>'
        "</testsuite></testsuites>"
    )
    assert gpu_report.test_counts(junit) == {
        "tests": 3,
        "failed": ["python_tests/test_a.py::test_z"],
        "skipped": 1,
    }


def test_other_output_around_json_does_not_matter():
    assert gpu_report.parsed('warning\n{"usable": true}\n') == {"usable": True}
    assert gpu_report.parsed("") is None
