"""What keeps a GPU from being used, on made-up machines."""

import ctypes

import pytest
import torch

from egl_fast.compute import cuda_diagnosis
from egl_fast.compute.cuda_diagnosis import cuda_obstacle, driver_cuda_version, has_code_for

BUILT = {"built_with_cuda": True, "cuda_version": "13.0.88", "cuda_architectures": [75, 80, 90]}
NOT_BUILT = {"built_with_cuda": False, "cuda_version": None, "cuda_architectures": []}


@pytest.fixture
def machine(monkeypatch):
    """A machine where everything works except for what a test changes."""

    def make(*, torch_cuda="13.0", hip=None, driver=(13, 0), capabilities=((9, 0),), warning=None):
        def is_available():
            if warning is not None:
                import warnings

                warnings.warn(warning, stacklevel=2)
            return bool(capabilities) and warning is None

        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr(torch, "__version__", "2.99.0")
        monkeypatch.setattr(torch.version, "cuda", torch_cuda)
        monkeypatch.setattr(torch.version, "hip", hip)
        monkeypatch.setattr(cuda_diagnosis, "driver_cuda_version", lambda: driver)
        monkeypatch.setattr(torch.cuda, "is_available", is_available)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: f"GPU {i}")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda i: capabilities[i])

    return make


def obstacle(build=BUILT, index=None):
    found = cuda_obstacle(build, index)
    assert found is not None
    return found.what, found.remedy


def test_nothing_is_in_the_way(machine):
    machine()
    assert cuda_obstacle(BUILT) is None
    assert cuda_obstacle(BUILT, 0) is None
    assert cuda_diagnosis.device_names() == ["GPU 0 (sm_90)"]


def test_a_torch_without_cuda_is_named(machine):
    machine(torch_cuda=None)
    assert obstacle() == ("torch 2.99.0 is a CPU build", "install a CUDA build of torch")
    what, remedy = obstacle(NOT_BUILT)
    assert what == "torch 2.99.0 is a CPU build"
    assert remedy.startswith("install a CUDA build of torch, then rebuild egl-fast: `EGL_CUDA=on ")
    machine(torch_cuda=None, hip="6.4")
    assert obstacle()[0] == "torch 2.99.0 is built for ROCm"


def test_a_driver_that_is_missing_or_too_old_is_named(machine):
    machine(driver=None)
    assert obstacle() == (
        "there is no NVIDIA driver (libcuda.so.1)",
        "install NVIDIA's driver",
    )
    machine(driver=(12, 4))
    assert obstacle() == (
        "the driver is too old: it supports CUDA 12.4, and torch 2.99.0 was built with 13.0",
        "update NVIDIA's driver, or install a torch built with CUDA 12",
    )
    machine(driver=(12, 4), torch_cuda="12.8")
    what, remedy = obstacle()
    assert what == (
        "the driver is too old: it supports CUDA 12.4, and egl-fast was built with 13.0"
    )
    assert remedy.startswith("update NVIDIA's driver, or with nvcc of CUDA 12: `EGL_CUDA=on ")
    machine(driver=(12, 4), torch_cuda="12.8")
    assert cuda_obstacle({**BUILT, "cuda_version": "12.8.93"}) is None


def test_gpus_that_are_missing_are_named(machine, monkeypatch):
    machine(capabilities=())
    assert obstacle() == (
        "torch 2.99.0 finds no GPU",
        "check that `nvidia-smi` finds one; in a container, pass it on",
    )
    machine(warning="CUDA initialization:\n no")
    assert obstacle()[0] == "torch 2.99.0 finds no GPU: CUDA initialization: no"
    machine(capabilities=())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert obstacle()[0] == "torch finds no GPU among CUDA_VISIBLE_DEVICES=''"
    machine(capabilities=((9, 0), (9, 0)))
    assert obstacle(index=2) == ("torch finds 2 GPUs, numbered from 0", "choose one of those")


def test_an_egl_fast_without_cuda(machine):
    machine()
    what, remedy = obstacle(NOT_BUILT)
    assert what == "this egl-fast was built without CUDA"
    assert remedy.startswith("install nvcc of CUDA 12 or later, then `EGL_CUDA=on pip install ")


def test_an_architecture_that_was_not_built(machine):
    machine(capabilities=((7, 0),))
    what, remedy = obstacle()
    assert what == "GPU 0 is sm_70, and egl-fast was built for sm_75, sm_80, sm_90"
    assert remedy.startswith("rebuild: `EGL_CUDA_ARCHS=70 EGL_CUDA=on pip install ")


def test_one_usable_device_is_enough_unless_another_is_asked_for(machine):
    machine(capabilities=((7, 0), (9, 0)))
    assert cuda_obstacle(BUILT) is None
    assert cuda_obstacle(BUILT, 1) is None
    assert obstacle(index=0)[0].startswith("GPU 0 is sm_70")


def test_newer_devices_take_ptx_from_a_driver_that_can_read_it(machine):
    machine(capabilities=((12, 0),))
    assert cuda_obstacle(BUILT) is None
    machine(capabilities=((12, 0),), driver=(12, 9), torch_cuda="12.8")
    what, remedy = obstacle({**BUILT, "cuda_version": "12.10.1"})
    assert what == (
        "GPU 0 is sm_120, for which the driver has to compile PTX of CUDA 12.10, "
        "and it supports 12.9"
    )
    assert "`EGL_CUDA_ARCHS=120 EGL_CUDA=on pip install" in remedy


def test_machine_code_serves_its_major_version_from_its_minor_on():
    assert has_code_for(80, [80])
    assert has_code_for(86, [80])
    assert not has_code_for(80, [86])
    assert not has_code_for(90, [80, 89])
    assert not has_code_for(120, [100, 110])
    assert has_code_for(103, [100])


def test_the_driver_is_asked_for_its_version(monkeypatch):
    class Driver:
        def __init__(self, version, status=0):
            self.version, self.status = version, status

        def cuDriverGetVersion(self, pointer):  # noqa: N802
            pointer._obj.value = self.version
            return self.status

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(12040))
    assert driver_cuda_version() == (12, 4)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(0, status=3))
    assert driver_cuda_version() is None

    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert driver_cuda_version() is None
