"""What setup.py and `make test-cuda` go by: which nvcc, which architectures, what kernels take."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import check_wheel
import kernel_resources
import nvcc
import pytest
from kernel_resources import Resources

ROOT = Path(__file__).parents[1]


@pytest.fixture
def fake_nvcc(tmp_path, monkeypatch):
    """Puts an nvcc of a given version, which knows given architectures, where CUDA_HOME points."""

    def make(version="13.0, V13.0.88", architectures=(75, 80, 90, 120)):
        script = tmp_path / "bin/nvcc"
        script.parent.mkdir(exist_ok=True)
        known = " ".join(f"compute_{a}" for a in architectures)
        script.write_text(
            "#!/bin/sh\n"
            'case "$1" in\n'
            f'--version) echo "Cuda compilation tools, release {version}";;\n'
            f"--list-gpu-arch) printf '%s\\n' {known};;\n"
            """--dryrun) echo '#$ LIBRARIES=  "-L/cuda/lib/stubs" "-L/cuda/lib"' >&2;;\n"""
            "esac\n"
        )
        script.chmod(0o755)
        monkeypatch.setenv("CUDA_HOME", str(tmp_path))
        return script

    return make


def test_nvcc_is_found_where_cuda_home_points(fake_nvcc):
    script = fake_nvcc()
    found = nvcc.find()
    assert found == nvcc.Nvcc(
        str(script), "13.0.88", frozenset({75, 80, 90, 120}), ("/cuda/lib/stubs", "/cuda/lib")
    )


def test_a_missing_or_old_nvcc_is_one_line(fake_nvcc, monkeypatch, tmp_path):
    fake_nvcc(version="11.8, V11.8.89")
    with pytest.raises(nvcc.NvccError, match=r"bin/nvcc: expected CUDA 12\.0 or later, got 11\.8$"):
        nvcc.find()
    fake_nvcc(version="unknown")
    with pytest.raises(nvcc.NvccError, match=r"printed no version$"):
        nvcc.find()
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "elsewhere"))
    with pytest.raises(nvcc.NvccError, match=r"^nvcc: not found in .*elsewhere/bin"):
        nvcc.find()


def test_architectures_are_chosen_among_those_that_nvcc_knows(fake_nvcc):
    fake_nvcc(architectures=(50, 75, 80, 90, 87))
    found = nvcc.find()
    assert nvcc.chosen_architectures(found, None) == (75, 80, 90)
    assert nvcc.chosen_architectures(found, "90") == (90,)
    assert nvcc.chosen_architectures(found, " 90;80, 87;80") == (80, 87, 90)
    message = r"^nvcc 13\.0\.88 does not support 120; choose from 75;80;87;90$"
    with pytest.raises(nvcc.NvccError, match=message):
        nvcc.chosen_architectures(found, "80;120")
    with pytest.raises(nvcc.NvccError, match="does not support 50"):
        nvcc.chosen_architectures(found, "50")
    for option in ("sm_90", "9.0", ";", ""):
        with pytest.raises(nvcc.NvccError, match=r"expected numbers such as 80;90, got"):
            nvcc.chosen_architectures(found, option)


def test_each_architecture_has_machine_code_and_the_last_one_ptx():
    assert nvcc.code_for((80, 90)) == [
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_90,code=sm_90",
        "-gencode=arch=compute_90,code=compute_90",
    ]


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"EGL_CUDA": "maybe"}, "EGL_CUDA: expected auto, on or off, got 'maybe'"),
        ({"EGL_STRICT": "yes"}, "EGL_STRICT: expected 0 or 1, got 'yes'"),
        (
            {"EGL_CUDA": "on", "CUDA_HOME": "/nowhere"},
            "EGL_CUDA=on: nvcc: not found in /nowhere/bin",
        ),
    ],
)
def test_setup_stops_with_one_line(environment, message):
    done = subprocess.run(
        [sys.executable, "setup.py", "--name"],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(message)


def test_setup_refuses_architectures_that_nvcc_does_not_know(fake_nvcc, monkeypatch):
    fake_nvcc(architectures=(75, 80))
    done = subprocess.run(
        [sys.executable, "setup.py", "--name"],
        cwd=ROOT,
        env={**os.environ, "EGL_CUDA": "on", "EGL_CUDA_ARCHS": "90"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == "EGL_CUDA_ARCHS: nvcc 13.0.88 does not support 90; choose from 75;80\n"


LOG = """\
ptxas info    : 28 bytes gmem
ptxas info    : Compiling entry function '_ZN3egl4cuda1aEv' for 'sm_90'
ptxas info    : Function properties for _ZN3egl4cuda1aEv
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 64 registers, used 0 barriers
ptxas info    : Compile time = 2.413 ms
ptxas info    : Compiling entry function '_ZN3egl4cuda1bIfEEvNS0_5BatchIT_EE' for 'sm_90'
ptxas info    : Function properties for _ZN3egl4cuda1bIfEEvNS0_5BatchIT_EE
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 16 bytes cumulative stack size, 512 bytes smem
ptxas info    : Function properties for _ZN3egl4cuda6calledEv
    8 bytes stack frame, 4 bytes spill stores, 0 bytes spill loads
"""


def test_resources_are_read_from_what_ptxas_prints():
    assert kernel_resources.parse_log(LOG) == [
        ("_ZN3egl4cuda1aEv", 90, Resources(64, 0, 0, 0, 0)),
        ("_ZN3egl4cuda1bIfEEvNS0_5BatchIT_EE", 90, Resources(255, 24, 12, 12, 512)),
    ]
    assert str(Resources(64, 0, 0, 0, 0)) == "64"
    assert str(Resources(255, 24, 12, 8, 512)) == "255+24!8/12~512"


@pytest.mark.parametrize(
    ("demangled", "name"),
    [
        ("egl::cuda::find_bad_label(egl::cuda::Batch<float>, long, long*)", "find_bad_label"),
        ("void egl::cuda::search<egl::LogMass, float>(egl::cuda::Batch<float>)",
         "search<LogMass, float>"),
        ("void egl::cuda::step<(egl::Cell)1, true>(void (*)(int), long)", "step<(Cell)1, true>"),
        ("egl::cuda::(anonymous namespace)::rank(long)", "rank"),
    ],
)  # fmt: skip
def test_kernels_have_short_names(demangled, name):
    assert kernel_resources.short(demangled) == name


def report(version="13.0.88", architectures=(80, 90), registers=40):
    kernels = {
        "rank": {80: Resources(registers, 0, 0, 0, 0), 90: Resources(56, 8, 0, 0, 0)},
        "search<LogMass, float>": {80: Resources(9, 0, 0, 0, 0), 90: Resources(128, 0, 0, 0, 0)},
    }
    return kernel_resources.render(kernels, version, architectures)


@pytest.fixture
def committed(tmp_path, monkeypatch):
    monkeypatch.setattr(nvcc, "ROOT", tmp_path)
    monkeypatch.setattr(kernel_resources, "REPORT", Path("resources.txt"))
    (tmp_path / "resources.txt").write_text(report())


@pytest.mark.usefixtures("committed")
def test_equal_reports_pass_on_all_or_few_architectures(capsys):
    assert kernel_resources.compare(report(), "2 kernels") == 0
    assert kernel_resources.compare(report(architectures=(90,)), "2 kernels") == 0
    assert capsys.readouterr().out == "2 kernels compile and match resources.txt\n" * 2


@pytest.mark.usefixtures("committed")
def test_a_kernel_that_takes_something_else_fails(capsys):
    assert kernel_resources.compare(report(registers=41), "2 kernels") == 1
    shown = capsys.readouterr().err
    assert "-rank                    40     56+8" in shown
    assert "+rank                    41     56+8" in shown
    # sm_80 alone differs
    assert kernel_resources.compare(report(registers=41, architectures=(90,)), "2 kernels") == 0


@pytest.mark.usefixtures("committed")
def test_a_kernel_or_an_architecture_that_is_new_fails():
    more = report() + "another                 1      1\n"
    assert kernel_resources.compare(more, "3 kernels") == 1
    assert kernel_resources.compare(report(architectures=(80, 90, 100)), "2 kernels") == 1


@pytest.mark.usefixtures("committed")
def test_reports_of_two_compilers_are_not_compared(capsys):
    assert kernel_resources.compare(report(version="12.8.93", registers=99), "2 kernels") == 0
    assert (
        "not compared, because resources.txt was made by nvcc 13.0.88 and this is nvcc 12.8.93"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(("registers_spilled", "status"), [(0, 0), (4, 1)])
def test_a_kernel_that_spills_fails_whatever_the_report_says(
    fake_nvcc, monkeypatch, capsys, tmp_path, registers_spilled, status
):
    fake_nvcc()
    spilling = Resources(255, 0, registers_spilled, 0, 0)
    monkeypatch.setattr(nvcc, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(
        kernel_resources, "compile_and_measure", lambda nvcc, archs: {"search": {90: spilling}}
    )
    monkeypatch.setattr(sys, "argv", ["kernel_resources.py", "--write"])
    assert kernel_resources.main() == status
    assert ("kernels that spill at sm_90: search" in capsys.readouterr().err) == bool(status)


def test_without_nvcc_that_is_said(monkeypatch, capsys):
    monkeypatch.setenv("CUDA_HOME", "/nowhere")
    monkeypatch.setattr(sys, "argv", ["kernel_resources.py"])
    assert kernel_resources.main() == 0
    assert capsys.readouterr().out == (
        "nvcc: not found in /nowhere/bin, where CUDA_HOME points: skipping the kernels\n"
    )


@pytest.mark.parametrize(
    ("tag", "left_out", "added", "message"),
    [
        (check_wheel.TAG, None, None, None),
        ("cp39", None, None, rf"is not tagged {check_wheel.TAG}-{check_wheel.TAG}$"),
        (check_wheel.TAG, "egl_fast/py.typed", None, r"lacks \['egl_fast/py.typed'\]"),
        (check_wheel.TAG, check_wheel.OPERATORS, None, r"lacks \['egl_fast/_operators.abi3.so'\]"),
        (check_wheel.TAG, check_wheel.MODULE, None, r"lacks \['egl_fast/_C\."),
        (check_wheel.TAG, None, "csrc/module.cpp", r"has too much: \['csrc/module.cpp'\]$"),
    ],
)
def test_a_wheel_holds_the_package_and_nothing_else(tmp_path, tag, left_out, added, message):
    native = [check_wheel.OPERATORS, check_wheel.MODULE]
    package = [*check_wheel.tracked_files("egl_fast"), *native]
    assert any(name.startswith("egl_fast/evaluation/reporting/page/") for name in package)
    wheel = tmp_path / f"egl_fast-0.1.0-{tag}-{tag}-linux_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in [*package, "egl_fast-0.1.0.dist-info/METADATA", *([added] if added else [])]:
            if name != left_out:
                archive.writestr(name, "")
    if message is None:
        check_wheel.check_contents(wheel)
    else:
        with pytest.raises(check_wheel.BrokenError, match=message):
            check_wheel.check_contents(wheel)
