# Everything runs in .venv, made from the lock file: nothing to activate, nothing is installed elsewhere.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# --use-pep517: the pip of Python 3.11 would build old source packages in a way that no longer works.
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input -q
UV_VERSION := >=0.5,<1
PEER := build/torchvision
# What mypy does not ask of scripts: they have few annotations. It still compares their calls with the library.
LOOSE := arg-type assignment attr-defined dict-item index method-assign misc return-value var-annotated
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
unexport PYTHONDONTWRITEBYTECODE # where an image of a container sets it, each program would compile all modules again
.PHONY: help install demo test test-slow test-faults test-growth lint format fuzz audit docs bench bench-gpu install-size lock clean

help: ## what make can do
	@awk 'BEGIN {FS = ":.*## "} /^[a-z][a-z-]*:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## .venv with what the lock file names, and the package

demo: $(INSTALLED) ## train both stages on handwritten digits (minutes)
	$(BIN)/detect train experiment=demo $(ARGS)

test: $(INSTALLED) ## the quick tests; DETECT_SHARED=DIR adds those on real data
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: $(INSTALLED) ## the tests that take minutes
	$(BIN)/python -m pytest -m slow $(ARGS)

lint: $(INSTALLED) ## ruff (rules and format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	MYPYPATH=.:scripts $(BIN)/mypy --explicit-package-bases $(LOOSE:%=--disable-error-code=%) scripts/*.py scripts/cluster/*.py

format: $(INSTALLED) ## let ruff rewrite what lint complains about
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

fuzz: $(INSTALLED) ## damaged files for every reader, and damaged command lines
	$(BIN)/python scripts/fuzz.py $(or $(CASES),120000) $(or $(SECONDS),1500)
	$(BIN)/python scripts/fuzz_overrides.py $(or $(CASES),20000) $(or $(SECONDS),1500)

test-faults: $(INSTALLED) ## kills, full disks, damaged files; FAULTS=n kills more
	$(BIN)/python scripts/faults.py $(FAULTS)

test-growth: $(INSTALLED) ## memory, open files and run folder over 5,000 steps
	$(BIN)/python scripts/growth.py

audit: $(INSTALLED) ## known weaknesses; ADVISORIES=DIR works offline
ifdef ADVISORIES
	$(BIN)/python scripts/audit.py $(ADVISORIES)
else
	@$(PYTHON) -m venv build/audit
	@build/audit/bin/python -m pip --disable-pip-version-check -q install 'pip-audit>=2.7,<3'
	build/audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements.lock
endif

docs: $(INSTALLED) ## the documentation site, in build/site: open index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: $(INSTALLED) $(PEER)/.installed ## speed and memory beside torchvision (which is 6 GB)
	@mkdir -p runs/bench
	$(BIN)/python scripts/bench_input.py runs/bench/input.json
	$(BIN)/python scripts/bench_training.py runs/bench/training.json
	$(BIN)/python scripts/bench_step.py runs/bench/step.json
	$(BIN)/python scripts/bench_evaluation.py --pycocotools --rounds 2 --output runs/bench/evaluation.json
	$(BIN)/python scripts/bench_data.py runs/bench/data.json
	$(BIN)/python scripts/bench_quantize.py runs/bench/quantize.json
	$(BIN)/python scripts/bench_peers.py $(PEER)/bin/python runs/bench/peers.json
	$(BIN)/python scripts/bench_inference.py $(PEER)/bin/python runs/bench/inference.json
	$(BIN)/python scripts/bench_detectors.py runs/bench/detectors.json
	$(BIN)/python scripts/bench_distribution.py runs/bench/distribution.json
	$(BIN)/python scripts/bench.py runs/bench

bench-gpu: $(INSTALLED) $(PEER)/.installed ## speed on a GPU by precision, XLA, batch, beside torchvision
	@mkdir -p runs/bench
	$(BIN)/python scripts/bench_gpu.py $(PEER)/bin/python runs/bench/gpu.json

$(PEER)/.installed:
	@$(PYTHON) -m venv $(PEER)
	@$(PEER)/bin/python -m pip --disable-pip-version-check -q install torch==2.14.1 torchvision==0.29.1
	@touch $@

install-size: ## packages, disk space and import times of a new installation
	@rm -rf build/plain && $(PYTHON) -m venv build/plain
	@build/plain/bin/python -m pip -q install --upgrade pip
	@build/plain/bin/python -m pip -q install .
	build/plain/bin/python scripts/install_size.py

lock: ## write requirements.lock anew from pyproject.toml
	@$(PYTHON) -m venv build/uv
	@build/uv/bin/python -m pip --disable-pip-version-check -q install 'uv$(UV_VERSION)'
	build/uv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --extra dev --extra docs \
	  --custom-compile-command 'make lock' -o requirements.lock pyproject.toml

clean: ## remove .venv and what tools leave behind; runs stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed: none found; or give PYTHON=PATH" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
	  { echo "Python 3.11, 3.12 or 3.13 is needed, $(PYTHON) is $$($(PYTHON) -V); give PYTHON=PATH" >&2; exit 1; }
	@echo "Setting up $(VENV) from requirements.lock (about 4 GB on the disk, minutes on the first time)"
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then $(PYTHON) -m venv --clear $(VENV); \
	  else $(PYTHON) -m venv --clear --without-pip $(VENV); $(PYTHON) -m pip -q --python $(BIN)/python install pip; fi; \
	fi
	@$(PIP) install --use-pep517 --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@
