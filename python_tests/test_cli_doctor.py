"""``egl-fast doctor``: what it reports, and that it survives a broken installation."""

import importlib.metadata
import json
import platform
import subprocess
import sys

from commands import egl_fast

from egl_fast import _extension
from egl_fast.compute.cuda_diagnosis import cuda_obstacle

PACKAGES = ["torch", "numpy", "soundfile", "soxr"]


def without(module, *arguments):
    """The finished process, in its own interpreter that cannot import a module."""
    code = f"import sys; sys.modules[{module!r}] = None; from egl_fast.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "doctor", *arguments], capture_output=True, text=True
    )


def checks_of(report):
    return {check["name"]: check for check in report["checks"]}


def test_a_usable_installation_passes_every_check():
    done = egl_fast("doctor", "--json", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert report["usable"] is True
    assert report["versions"]["python"] == platform.python_version()
    assert report["versions"]["torch"] == importlib.metadata.version("torch")
    assert all(report["versions"][package] for package in [*PACKAGES, "libsndfile"])
    assert report["torch_threads"] == 1
    assert report["cpu_count"] >= 1
    assert report["extension"] == _extension.build_info()
    assert report["built_with_cuda"] is _extension.build_info()["built_with_cuda"]
    assert report["cuda_usable"] is (cuda_obstacle(_extension.build_info()) is None)
    assert (report["cuda_remedy"] is None) is report["cuda_usable"]
    checks = checks_of(report)
    assert all(check["ok"] and check["remedy"] is None for check in checks.values())
    assert set(checks) >= {
        *PACKAGES,
        "native extension",
        "self-test: beam search",
        "self-test: probabilities",
    }


def test_the_report_for_people_has_a_line_for_each_fact():
    done = egl_fast("doctor")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    starts = ["egl-fast ", "python ", "platform ", "processors ", "built with CUDA ",
              "CUDA usable ", *PACKAGES, "native extension ", "self-test: "]  # fmt: skip
    for start in starts:
        assert any(line.startswith(start) for line in lines), start
    assert lines[-1] == "egl-fast is usable"
    assert "NOT OK" not in done.stdout


def test_a_missing_extension_is_reported_with_the_remedy():
    done = without("egl_fast._C", "--json")
    assert done.returncode == 2, done.stderr
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert report["usable"] is False
    assert report["extension"] is None
    assert report["built_with_cuda"] is None
    check = checks_of(report)["native extension"]
    assert check["ok"] is False
    assert "pip install" in check["remedy"]
    assert "pip install" not in check["detail"]
    text = without("egl_fast._C")
    assert text.returncode == 2
    assert "native extension" in text.stdout
    assert "NOT OK" in text.stdout
    assert "pip install" in text.stdout


def test_a_package_that_does_not_load_is_reported_and_the_rest_still_checked():
    report = json.loads(without("soxr", "--json").stdout)
    checks = checks_of(report)
    assert [name for name, check in checks.items() if not check["ok"]] == ["soxr"]
    assert "pip install" in checks["soxr"]["remedy"]
    assert report["versions"]["soxr"] is None
    assert report["usable"] is False


def test_without_torch_there_is_still_a_report():
    done = without("torch", "--json")
    assert done.returncode == 2, done.stderr
    report = json.loads(done.stdout)
    assert not checks_of(report)["torch"]["ok"]
    assert report["versions"]["numpy"]


def test_operators_that_compute_something_else_fail_the_self_test():
    wrong_probability = """
import dataclasses
from egl_fast import ops
search = ops.ctc_beam_search
def wrong(*args, **options):
    found = search(*args, **options)
    return dataclasses.replace(found, log_prob=found.log_prob + 1e-6)
ops.ctc_beam_search = wrong
"""
    checks = checks_of(json.loads(egl_fast("doctor", "--json", before=wrong_probability).stdout))
    assert [name for name, check in checks.items() if not check["ok"]] == [
        "self-test: beam search",
        "self-test: probabilities",
    ]
    one_too_few = """
import dataclasses
from egl_fast import ops
search = ops.ctc_beam_search
def wrong(*args, **options):
    found = search(*args, **options)
    return dataclasses.replace(found, counts=found.counts - 1)
ops.ctc_beam_search = wrong
"""
    done = egl_fast("doctor", "--json", before=one_too_few)
    assert done.returncode == 2
    checks = checks_of(json.loads(done.stdout))
    assert "24 labelings, enumeration 25" in checks["self-test: beam search"]["detail"]
    assert checks["native extension"]["ok"]


GPU = """
import egl_fast._extension
import egl_fast.compute.cuda_diagnosis
import torch
torch.version.cuda = "13.0"
torch.cuda.is_available = lambda: True
torch.cuda.device_count = lambda: 1
torch.cuda.get_device_name = lambda i: "NVIDIA Wonder"
torch.cuda.get_device_capability = lambda i: (8, 6)
egl_fast.compute.cuda_diagnosis.driver_cuda_version = lambda: (13, 1)
facts = egl_fast._extension.build_info()
egl_fast._extension.build_info = lambda: {**facts, **BUILT}
"""
WITH_CUDA = "{'built_with_cuda': True, 'cuda_version': '13.0.88', 'cuda_architectures': [80, 90]}"
WITHOUT_CUDA = "{'built_with_cuda': False, 'cuda_version': None, 'cuda_architectures': []}"


def test_a_usable_gpu_is_named():
    done = egl_fast("doctor", before=GPU.replace("BUILT", WITH_CUDA))
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "built with CUDA yes: 13.0.88, for sm_80, sm_90, and PTX of the last" in lines
    assert "CUDA usable yes: NVIDIA Wonder (sm_86)" in lines


def test_a_gpu_that_this_build_cannot_use_is_reported_with_a_remedy():
    done = egl_fast("doctor", before=GPU.replace("BUILT", WITHOUT_CUDA))
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "built with CUDA no" in lines
    usable = lines.index("CUDA usable no: this egl-fast was built without CUDA")
    assert "EGL_CUDA=on pip install" in lines[usable + 1]
    done = egl_fast("doctor", "--json", before=GPU.replace("BUILT", WITHOUT_CUDA))
    report = json.loads(done.stdout)
    assert report["built_with_cuda"] is report["cuda_usable"] is False
    assert "EGL_CUDA=on pip install" in report["cuda_remedy"]
