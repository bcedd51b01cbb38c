"""``egl-fast doctor``."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, cast

import click

from egl_fast.cli.console import tell, tell_json
from egl_fast.errors import ExtensionError, one_line

_REBUILD = (
    "rebuild with `pip install --no-build-isolation .` in the egl-fast source folder; "
    "if that does not help, report it with the output of `egl-fast doctor --json`"
)
_PACKAGES = ("torch", "numpy", "soundfile", "soxr", "jiwer", "rich", "click")


class _CheckError(Exception):
    """A failed check, and what the user can do about it."""

    def __init__(self, message: str, remedy: str = _REBUILD) -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True)
class _Check:
    name: str
    ok: bool
    detail: str
    remedy: str | None = None


@dataclass
class _Report:
    """All that doctor knows; None if it could not be determined."""

    versions: dict[str, str | None] = field(default_factory=dict)
    platform: str = ""
    cpu_count: int = 0
    torch_threads: int | None = None
    extension: dict[str, Any] | None = None
    built_with_cuda: bool | None = None
    cuda_usable: bool | None = None
    cuda_detail: str = "torch cannot be loaded"
    cuda_remedy: str | None = None
    checks: list[_Check] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        return all(check.ok for check in self.checks)

    def check(self, name: str, run: Callable[[], str]) -> None:
        """Record what a check returns or raises; nothing that is broken may stop the doctor."""
        try:
            result = _Check(name, True, run())
        except _CheckError as problem:
            result = _Check(name, False, str(problem), problem.remedy)
        except Exception as error:
            result = _Check(name, False, f"{type(error).__name__}: {one_line(error)}", _REBUILD)
        self.checks.append(result)


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for a bug report.")
def command(as_json: bool) -> int:
    """Report what was built and what is usable, and run a small self-test.

    "Built with CUDA" is about this egl-fast alone; "CUDA usable" is also about torch, the driver,
    and the GPUs of this machine. Exit status: 0 if egl-fast is usable, 2 if it is not.
    """
    report = _examine()
    if as_json:
        tell_json({"usable": report.usable, **asdict(report)}, indent=2)
    else:
        _print(report)
    return 0 if report.usable else 2


def _examine() -> _Report:
    try:
        version = importlib.metadata.version("egl-fast")
    except importlib.metadata.PackageNotFoundError:
        version = None
    report = _Report(
        versions={"egl-fast": version, "python": platform.python_version()},
        platform=platform.platform(),
        # Those this process may use, which can be fewer than the machine has.
        cpu_count=len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
    )
    for package in _PACKAGES:
        report.check(package, partial(_load_package, report, package))
    if report.versions["torch"] is not None:
        import torch

        report.torch_threads = torch.get_num_threads()
        report.check("native extension", partial(_load_extension, report))
        report.cuda_usable, report.cuda_detail, report.cuda_remedy = _cuda(report.extension)
    if report.extension is not None:
        report.built_with_cuda = report.extension["built_with_cuda"]
        report.check("self-test: beam search", _beam_search_finds_every_labeling)
        report.check("self-test: probabilities", _probabilities_match_torch)
    return report


def _load_package(report: _Report, package: str) -> str:
    report.versions[package] = None
    try:
        module = importlib.import_module(package)
        version = importlib.metadata.version(package)
    # Packages fail to load in many ways: soundfile raises OSError if libsndfile is missing.
    except Exception as error:
        raise _CheckError(
            f"cannot be loaded ({one_line(error)})", f"`pip install --force-reinstall {package}`"
        ) from None
    report.versions[package] = version
    if package == "soundfile":
        report.versions["libsndfile"] = module.__libsndfile_version__
        return f"{version}, libsndfile {module.__libsndfile_version__}"
    return version


def _load_extension(report: _Report) -> str:
    try:
        from egl_fast import _extension
    except ExtensionError as error:
        message, _, remedy = str(error).rpartition("; ")
        raise _CheckError(message, remedy) from None
    facts = _extension.build_info()
    report.extension = dict(facts)
    return (
        f"{facts['compiler']}, built for torch {facts['minimum_torch_version']} and later "
        f"against {facts['torch_version']}{', with internal checks' if facts['debug'] else ''}"
    )


def _cuda(extension: dict[str, Any] | None) -> tuple[bool, str, str | None]:
    """Whether GPUs are usable; which there are, or what prevents it; and the remedy."""
    if extension is None:
        return False, "the native extension cannot be loaded", None
    from egl_fast._extension import BuildInfo
    from egl_fast.compute.cuda_diagnosis import cuda_obstacle, device_names

    obstacle = cuda_obstacle(cast(BuildInfo, extension))
    if obstacle is not None:
        return False, obstacle.what, obstacle.remedy
    return True, ", ".join(device_names()), None


# Float64 sums of a few hundred products of five factors are off by less than 1e-13.
_TOLERANCE = 1e-12


def _self_test_problem() -> tuple[Any, Any]:
    """The same log-softmax [1, 5, 3] and lengths [1] on each call, from its own generator."""
    import torch

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 5, 3, dtype=torch.float64, generator=generator)
    return logits.log_softmax(-1), torch.tensor([5])


def _beam_search_finds_every_labeling() -> str:
    from egl_fast import ops
    from egl_fast.reference.enumerate import enumerate_labelings

    log_probs, lengths = _self_test_problem()
    expected = enumerate_labelings(log_probs[0].exp().tolist())
    found = ops.ctc_beam_search(log_probs, lengths, num_hypotheses=len(expected) + 1)
    probs = dict(zip(found.labelings(0), found.log_prob[0].exp().tolist(), strict=False))
    if probs.keys() != expected.keys():
        raise _CheckError(
            f"found {len(probs)} labelings, enumeration {len(expected)}, "
            f"{len(probs.keys() & expected.keys())} in common"
        )
    error = max(abs(probs[labeling] / prob - 1) for labeling, prob in expected.items())
    if not error <= _TOLERANCE:
        raise _CheckError(f"probabilities differ from enumeration by {error:.1e}")
    return f"{len(expected)} labelings as by enumeration, probabilities within {error:.0e}"


def _probabilities_match_torch() -> str:
    import torch.nn.functional as F

    from egl_fast import ops

    log_probs, lengths = _self_test_problem()
    found = ops.ctc_beam_search(log_probs, lengths, num_hypotheses=10)
    num_found = int(found.counts[0])
    loss = F.ctc_loss(
        log_probs.expand(num_found, -1, -1).transpose(0, 1),
        found.labels[0, :num_found].clamp(min=0),
        lengths.expand(num_found),
        found.label_lengths[0, :num_found],
        reduction="none",
    )
    error = (found.log_prob[0, :num_found] + loss).abs().max().item()
    if not error <= _TOLERANCE:
        raise _CheckError(f"log-probabilities differ from F.ctc_loss by {error:.1e}")
    return f"as torch's ctc_loss, within {error:.0e}"


def _built_with_cuda(extension: dict[str, Any] | None) -> str:
    if extension is None:
        return "unknown"
    if not extension["built_with_cuda"]:
        return "no"
    architectures = ", ".join(f"sm_{a}" for a in extension["cuda_architectures"])
    return f"yes: {extension['cuda_version']}, for {architectures}, and PTX of the last"


def _print(report: _Report) -> None:
    rows = [
        ("egl-fast", report.versions["egl-fast"] or "not installed, run from its source folder"),
        ("python", report.versions["python"]),
        ("platform", report.platform),
        ("processors", f"{report.cpu_count}, torch threads: {report.torch_threads or 'unknown'}"),
        ("built with CUDA", _built_with_cuda(report.extension)),
        ("CUDA usable", f"{'yes' if report.cuda_usable else 'no'}: {report.cuda_detail}"),
        *([("", report.cuda_remedy)] if report.cuda_remedy is not None else []),
    ]
    for check in report.checks:
        rows.append((check.name, f"{'ok' if check.ok else 'NOT OK':<8}{check.detail}"))
        if check.remedy is not None:
            rows.append(("", f"{'':<8}{check.remedy}"))
    width = max(len(name) for name, _ in rows) + 2
    for name, value in rows:
        tell(f"{name:<{width}}{value}")
    tell("egl-fast is usable" if report.usable else "egl-fast is NOT usable: see above")
