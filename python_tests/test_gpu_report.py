"""benchmarks/gpu_report.py, as far as it can be run without a GPU."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))

import gpu_measurements  # noqa: E402
import gpu_report  # noqa: E402

from egl_fast import ScoreRecord  # noqa: E402
from egl_fast.records import Hypothesis  # noqa: E402


def refusal(tmp_path, nvidia_smi):
    """What is printed where nvidia-smi is this script; None: there is none."""
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
        "gpu_report: nvidia-smi: not found; this needs a GPU, and NVIDIA's driver\n"
    )
    said = "echo 'NVIDIA-SMI has failed:\n no driver'; exit 9"
    assert refusal(tmp_path, said) == (
        "gpu_report: nvidia-smi lists no GPU: NVIDIA-SMI has failed: no driver\n"
    )
    assert refusal(tmp_path, "true").endswith("lists no GPU: it prints nothing\n")


def record(egl=2.0, sq_grad_norm=4.0, labels=(1, 2)):
    return ScoreRecord(
        *("a", 1.0, 10, "ab", 1, 0.5, egl, 0.0, 2 * egl, None, None, None, 0.1, 0.2, 0.3),
        hypotheses=(Hypothesis("ab", labels, -0.7, sq_grad_norm),),
    )


def test_records_are_compared_by_their_norms():
    agreement = gpu_measurements.agreement
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


MEASURED = {
    "agreement": [{"what": "float32", "holds": True}],
    "repeatable": {"holds": True},
    "graph": {"holds": None},
    "operators": [{"what": "search", "holds": True, "times": 12.3456}],
}


def test_what_fails_or_differs_is_no_pass():
    assert gpu_measurements.passed(MEASURED)
    assert not gpu_measurements.passed({**MEASURED, "profile": {"error": "RuntimeError: no"}})
    assert not gpu_measurements.passed({**MEASURED, "repeatable": {"holds": False}})
    assert not gpu_measurements.passed({**MEASURED, "agreement": [{"holds": False}]})


@pytest.mark.slow
def test_all_is_measured_if_the_cpu_stands_for_the_gpu(tiny_model, clips):
    sizes = gpu_measurements.Sizes(
        device="cpu", k=5, clips=3, deep="tiny", deep_clips=1, repeats=2, rounds=1
    )
    measured = gpu_measurements.measure(tiny_model, clips, sizes)
    assert gpu_measurements.passed(measured)
    assert [part["what"] for part in measured["agreement"]] == ["float64", "float32"]
    assert all(part["sq_grad_norm"] == 0 for part in measured["agreement"])
    assert measured["repeatable"] == {"utterances": 3, "different": 0, "holds": True}
    assert all(part["largest_difference"] == 0 for part in measured["operators"])
    assert [part["utterances"] for part in measured["throughput"]] == [8] * 4 + [4] * 4
    assert all(part["times"] > 0 for part in measured["throughput"])
    text = gpu_report.render(report(measurements=measured))
    assert "Not measured" not in text


def report(**changes):
    return {
        "commit": "abc",
        "nvidia_smi": "NVIDIA Wonder\n",
        "steps": [{"name": "build", "status": 0, "seconds": 1.5}],
        "doctor": {},
        "tests": {"tests": 9, "failed": [], "skipped": 1, "on_gpu": 4},
        "measurements": MEASURED,
        **changes,
    }


def test_the_report_has_every_part():
    text = gpu_report.render(report())
    assert "Everything passed." in text
    assert "9 tests, 4 of them on the GPU" in text
    assert "| search |  |  | True |  |  | 12.35 |" in text
    assert "## From audio files to records\n\nNot measured." in text
    assert "NVIDIA Wonder" in text


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": [{"name": "tests", "status": 1, "seconds": 1.0}]},
        {"tests": {"tests": 9, "failed": [], "skipped": 9, "on_gpu": 0}},
        {"tests": None},
    ],
)
def test_a_failed_step_or_no_test_on_the_gpu_is_a_failure(changes):
    assert not gpu_report.succeeded(report(**changes))
    assert "**Something failed, see below.**" in gpu_report.render(report(**changes))


def test_a_part_that_failed_is_told(tmp_path):
    text = gpu_report.render(
        report(
            measurements={"operators": {"error": "OutOfMemoryError: much"}},
            tests={"tests": 2, "failed": ["a::b"], "skipped": 0, "on_gpu": 1},
        )
    )
    assert "Failed: `OutOfMemoryError: much`" in text
    assert "- failed: `a::b`" in text
    assert "Not measured." in gpu_report.render(report(measurements=None))


def test_tests_are_counted(tmp_path):
    junit = tmp_path / "tests.xml"
    assert gpu_report.test_counts(junit) is None
    junit.write_text(
        "<testsuites><testsuite>"
        '<testcase classname="test_a" name="test_x[cuda]"/>'
        '<testcase classname="test_cuda_halves" name="y[cuda]"><skipped/></testcase>'
        '<testcase classname="test_a" name="test_z"><failure/></testcase>'
        "</testsuite></testsuites>"
    )
    assert gpu_report.test_counts(junit) == {
        "tests": 3,
        "failed": ["test_a::test_z"],
        "skipped": 1,
        "on_gpu": 1,
    }


def test_other_output_around_json_does_not_matter():
    assert gpu_report.parsed('warning\n{"usable": true}\n') == {"usable": True}
    assert gpu_report.parsed("") is None
