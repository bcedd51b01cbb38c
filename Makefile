# Everything a developer runs. A bare machine needs python3 (3.10 or later, with venv) and g++; all
# other tools come from PyPI into .venv, at the versions of requirements.lock.
#
#   PYTHON=python3.12           another interpreter for .venv
#   SECONDS=3600                CPU time of each target under `make fuzz`, in all
#   BENCH_JSON=FILE             where `make bench` writes; benchmarks/results/performance.json is what
#                               docs/performance.md is made from
#   CUDA_TORCH=2.14.1           which torch `make test-cuda-link` installs
#   PIP_OPTIONS="..."           more options for pip, such as an index (see requirements.lock)

PYTHON ?= python3
CXX ?= g++
CLANGXX ?= clang++-19
SECONDS ?= 3600
PIP_OPTIONS ?=
CUDA_TORCH ?= 2.14.1
BENCH_JSON ?= build/bench.json
export PIP_DISABLE_PIP_VERSION_CHECK := 1

comma := ,
ENTER := . .venv/bin/activate &&
# Where torch is installed, for a shell in which .venv is active.
TORCH := $$(python -c 'import torch; print(torch.__path__[0])')
# One process per core. In each, one thread: tests compute little at a time, and threads would wait
# for each other longer than they work.
PYTEST := OMP_NUM_THREADS=1 python -m pytest python_tests egl_fast --doctest-modules \
	--numprocesses auto --dist worksteal
PYTEST_BENCH := python -m pytest benchmarks -v
NATIVE_SOURCES := $(wildcard csrc/*.cpp csrc/*/*.cpp csrc/*/*.h csrc/*/*.inc) \
	$(wildcard csrc/*/*/*.cpp csrc/*/*/*.cu csrc/*/*/*.h)
# Those for certain instruction sets only need flags of their own.
TIDY_SOURCES := $(filter-out %_avx2.cpp %_avx512.cpp,$(wildcard csrc/core/*.cpp csrc/ops/*.cpp))
PACKAGES_INSTALLED := .venv/.packages-installed
EXTENSION_BUILT := build/.extension-built
EMULATED := build/emulated
CUDA_LINK := build/cuda-link

.DEFAULT_GOAL := help
.PHONY: help venv build demo simulate-demo test test-all lint format types test-cpp test-cpp-threads \
	test-cpp-aarch64 audit fuzz sbom test-wheel check-label-studio test-cuda test-cuda-link kernels kernels-quick kernels-report emulated \
	test-python bench bench-quick gpu-report performance-page commands-page clean

help: ## List all targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-18s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(PACKAGES_INSTALLED) ## Make .venv with the pinned packages

build: $(EXTENSION_BUILT) ## Build the native extension and install egl-fast into .venv

demo: build ## Score the sample pool with the shipped model, show the 20% worth transcribing
	@mkdir -p build/demo
	$(ENTER) egl-fast score --model examples/base.pt --pool examples/pool.jsonl --k 100 \
		--out build/demo/scores.jsonl --overwrite
	@$(ENTER) egl-fast select build/demo/scores.jsonl --budget 20% --strategy egl --table

simulate-demo: build ## The active-learning evaluation in small, on the sample recordings
	$(ENTER) egl-fast simulate --config examples/simulate.toml --run-dir build/simulate-demo \
		--jobs 2 --threads 1
	@cat build/simulate-demo/results.csv

test: lint types test-cpp kernels-quick test-python ## All checks a change must pass, in minutes

test-all: lint types test-cuda ## The same, with slow tests, thread sanitizer, all architectures
test-all: build emulated
	$(ENTER) $(PYTEST)
test-all: test-wheel

lint: venv ## Style of Python and C++
	$(ENTER) ruff check .
	$(ENTER) ruff format --check .
	$(ENTER) clang-format --dry-run -Werror $(NATIVE_SOURCES)
	$(ENTER) torch="$(TORCH)" && \
		printf '%s\n' $(TIDY_SOURCES) | xargs -P 2 -I FILE clang-tidy --quiet FILE -- \
		-std=c++20 -I. -isystem "$$torch/include" -DTORCH_TARGET_VERSION=0x020a000000000000

format: venv ## Rewrite Python and C++ in the project's style
	$(ENTER) ruff check --fix .
	$(ENTER) ruff format .
	$(ENTER) clang-format -i $(NATIVE_SOURCES)

types: venv ## Types, by mypy
	$(ENTER) mypy

test-cpp: venv ## C++ tests, CUDA kernels in emulation among them, under the address and undefined-behavior sanitizers
	$(call run_ctest,build/cpp,address$(comma)undefined,-DEGL_TORCH="$(TORCH)")

test-cpp-threads: venv ## C++ tests, under the thread sanitizer
	$(call run_ctest,build/cpp-threads,thread)

test-cpp-aarch64: venv ## C++ tests of aarch64, emulated: apt install g++-aarch64-linux-gnu qemu-user
	@command -v qemu-aarch64 aarch64-linux-gnu-g++ >/dev/null || { \
		echo "on Debian and Ubuntu: apt install g++-aarch64-linux-gnu qemu-user"; exit 1; }
	$(ENTER) cmake -S . -B build/cpp-aarch64 -G Ninja -DCMAKE_SYSTEM_NAME=Linux \
		-DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ \
		-DCMAKE_CROSSCOMPILING_EMULATOR="qemu-aarch64;-L;/usr/aarch64-linux-gnu"
	$(ENTER) cmake --build build/cpp-aarch64
	$(ENTER) ctest --test-dir build/cpp-aarch64 --output-on-failure --parallel 2

fuzz: venv ## Fuzz native operators and the reader of model files; SECONDS= of CPU time each, in all
	@command -v $(CLANGXX) >/dev/null || { \
		echo "$(CLANGXX): not found; on Debian: apt install clang-19 libclang-rt-19-dev"; exit 1; }
	$(ENTER) cmake -S . -B build/fuzz -G Ninja -DCMAKE_CXX_COMPILER=$(CLANGXX) -DEGL_FUZZ=ON \
		-DEGL_SANITIZE=address$(comma)undefined -DEGL_TORCH="$(TORCH)"
	$(ENTER) cmake --build build/fuzz --target fuzz_search fuzz_occupancy \
		fuzz_cotangents fuzz_labelings
	$(ENTER) pip install --quiet --require-hashes --no-deps $(PIP_OPTIONS) -r fuzz/requirements.txt
	$(ENTER) python fuzz/run.py --seconds $(SECONDS)

audit: venv ## Look up known vulnerabilities of the pins by pip-audit; needs the internet
	$(PYTHON) -m venv build/audit
	build/audit/bin/python -m pip install --quiet $(PIP_OPTIONS) pip-audit
	build/audit/bin/pip-audit --strict --require-hashes --disable-pip \
		--requirement requirements.lock --requirement requirements-cuda.lock

sbom: venv ## Write build/sbom.cdx.json: all pins of the locks, as CycloneDX
	$(ENTER) python python_tests/sbom.py build/sbom.cdx.json

test-wheel: venv ## Build the wheel, install it in an empty environment outside the tree, test it there
	$(ENTER) python python_tests/check_wheel.py

check-label-studio: build ## Run docs/tutorial.md with a real Label Studio, installed into build/label-studio
	$(ENTER) python python_tests/check_label_studio.py

test-cuda: test-cpp test-cpp-threads kernels ## All that shows CUDA kernels right without a GPU

kernels: venv ## Compile CUDA kernels for all architectures, compare with docs/cuda-resources.txt
	$(ENTER) python csrc/tools/kernel_resources.py

kernels-quick: venv ## The same for one architecture
	$(ENTER) python csrc/tools/kernel_resources.py --architectures 90

kernels-report: venv ## Rewrite docs/cuda-resources.txt
	$(ENTER) python csrc/tools/kernel_resources.py --write

test-cuda-link: ## Build against a CUDA build of torch (6 GB of disk), load it; needs nvcc, no GPU
	$(PYTHON) -m venv $(CUDA_LINK)
	$(CUDA_LINK)/bin/python -m pip install --quiet $(PIP_OPTIONS) torch==$(CUDA_TORCH) \
		setuptools wheel ninja pybind11 numpy soundfile soxr jiwer click rich
	EGL_CUDA=on PATH="$$PWD/$(CUDA_LINK)/bin:$$PATH" \
		$(CUDA_LINK)/bin/python -m pip install --quiet --no-build-isolation --no-deps .
	cd $(CUDA_LINK) && bin/python "$(CURDIR)/csrc/tools/check_cuda_link.py"
	cd $(CUDA_LINK) && bin/egl-fast doctor

emulated: build ## The operators' CUDA halves on the host, which the Python tests load
	$(ENTER) cmake -S . -B $(EMULATED) -G Ninja -DCMAKE_CXX_COMPILER=$(CXX) -DEGL_TORCH="$(TORCH)"
	$(ENTER) cmake --build $(EMULATED) --target egl_emulated

test-python: build emulated ## Python tests but the slow ones
	$(ENTER) $(PYTEST) -m "not slow"

bench: build ## All benchmarks, about 12 minutes on a quiet machine; fails if a goal is missed
	$(ENTER) $(PYTEST_BENCH) --enforce --results $(BENCH_JSON)

bench-quick: build ## The same with small sizes, under two minutes: that it works, without verdicts
	$(ENTER) $(PYTEST_BENCH) --quick --results build/bench-quick.json

gpu-report: ## On a machine with a GPU: build, test, compare, measure; build/gpu-report is to be sent back
	$(PYTHON) benchmarks/gpu_report.py

performance-page: build ## docs/performance.md and its plots, from benchmarks/results
	$(ENTER) python benchmarks/performance_page.py

commands-page: build ## docs/commands.md, from the commands themselves
	$(ENTER) python docs/write_commands.py

clean: ## Remove what was built; .venv stays
	rm -rf build egl_fast/*.so *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find egl_fast python_tests benchmarks examples -name __pycache__ -prune -exec rm -rf {} +

define require_compiler
@command -v $(CXX) >/dev/null || { \
	echo "$(CXX): not found; install g++ 11 or later, or name another: make CXX=..."; exit 1; }
endef

# $(1): build folder; $(2): sanitizers; $(3): more options
define run_ctest
$(require_compiler)
$(ENTER) cmake -S . -B $(1) -G Ninja -DCMAKE_CXX_COMPILER=$(CXX) -DEGL_SANITIZE=$(2) $(3)
$(ENTER) cmake --build $(1)
$(ENTER) ctest --test-dir $(1) --output-on-failure
endef

# Only files whose hashes a lock lists, and only packages that it lists.
PIP_INSTALL := .venv/bin/python -m pip install --quiet --require-hashes --no-deps $(PIP_OPTIONS)

$(PACKAGES_INSTALLED): requirements.lock requirements-cpu.lock requirements-cuda.lock
	@command -v $(PYTHON) >/dev/null || { \
		echo "$(PYTHON): not found; install Python 3.10 or later"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "$(PYTHON) is older than 3.10; name a newer one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) lacks venv; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv
	@$(PIP_INSTALL) -r requirements-cpu.lock 2>/dev/null || \
		echo "no CPU build of torch to be had: taking the registry's (see requirements.lock)"
	$(PIP_INSTALL) -r requirements.lock
	@.venv/bin/python -c 'import importlib.metadata as m, sys; \
		sys.exit(sys.platform == "linux" and any("nvidia-" in r for r in m.requires("torch")))' || \
		$(PIP_INSTALL) -r requirements-cuda.lock
	.venv/bin/python -m pip check
	@touch $@

$(EXTENSION_BUILT): $(PACKAGES_INSTALLED) setup.py csrc/tools/nvcc.py pyproject.toml \
		$(NATIVE_SOURCES)
	$(require_compiler)
	@include=$$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("include"))'); \
	test -f "$$include/Python.h" || { \
		echo "$$include/Python.h: not found; on Debian and Ubuntu: apt install python3-dev"; exit 1; }
	$(ENTER) EGL_STRICT=1 pip install --quiet --no-build-isolation --no-deps --editable .
	@mkdir -p $(@D)
	@touch $@
