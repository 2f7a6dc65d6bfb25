# make demo and make test are all that a fresh machine needs. Each installs what it needs itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Empty files that are newer than the lock files they were installed from.
STAMP := .setup-done
DEV_STAMP := .setup-dev-done

.PHONY: setup setup-dev demo test lint lock test-slow endurance release notebooks clean playground-clip playground-student playground-table pictures zss-table paper-tables paper-tables-short

setup: $(STAMP)

setup-dev: $(DEV_STAMP)

$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with make PYTHON=python3.11"; exit 2; }
	@echo "setup: installing into $(VENV), one to two minutes"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) -r requirements.txt
	@$(PIP) --no-deps -e .
	@touch $@

$(DEV_STAMP): $(STAMP) requirements-dev.txt
	@$(PIP) -r requirements-dev.txt
	@touch $@

# Timed from before the installation, so that summary.json reports the total.
demo:
	@begin=$$(date +%s); $(MAKE) --no-print-directory setup && \
	  $(BIN)/python -m zeroseg_jax demo --workdir=runs/demo --began=$$begin

# The parity tests need torch, which is installed on Python 3.11 only; elsewhere they skip.
test: setup-dev
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && \
	  { $(BIN)/python -c 'import torch' 2>/dev/null || \
	    $(PIP) torch==2.13.0 && \
	    $(PIP) --no-deps torchmetrics==1.9.0 lightning-utilities==0.15.3 || \
	    echo "torch could not be installed: the parity tests will skip"; } || true
	@JAX_PLATFORMS=cpu $(BIN)/python -m pytest -n 2 --dist=loadfile --no-loadscope-reorder

lint: setup-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/shellcheck launch/*.sh $$(grep -lI "^#!.*bash" .ci/*)

# Hashes of every file of the pinned versions, for all platforms, and the table of licences.
lock: setup-dev
	@$(PIP) uv
	@{ echo "# All packages of requirements-dev.txt with the hashes of their files; written by make lock."; \
	  $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-deps \
	  --python-version 3.11 requirements-dev.txt; } > .ci/requirements-hashed.txt
	@$(BIN)/python -m bench.licences > docs/licences.md

# Everything that takes minutes: tests marked slow, the site, sdist and wheel in clean environments,
# notebooks.
test-slow: setup-dev
	@PYTHON=$(BIN)/python .ci/slow

# Builds sdist and wheel into dist/ and tries both in fresh environments; docs/releasing.md.
release:
	@PYTHONS=$(PYTHON) .ci/release

# Runs the notebooks and stores their outputs in them.
notebooks: setup-dev
	@$(PIP) -r docs/requirements.txt
	@$(BIN)/python notebooks/execute.py

# Kills of all commands, damaged files, an attacked page: at most 20 minutes on two idle cores.
endurance: setup-dev
	@JAX_PLATFORMS=cpu $(BIN)/python -m bench.endurance.everything

PRETRAIN := $(BIN)/python -m zeroseg_jax pretrain_clip
LATER := --rate=1e-3 --easy_share=0

# How the shipped CLIP (hours on two cores) and the shipped student (minutes) were made.
playground-clip: setup
	$(PRETRAIN) --output=runs/clip-1 --stop=2375
	$(PRETRAIN) --output=runs/clip-2 --init=runs/clip-1 --steps=2600 --stream=8 $(LATER)
	$(PRETRAIN) --output=runs/clip-3 --init=runs/clip-2 --steps=3200 --stream=9 $(LATER)
	$(PRETRAIN) --output=runs/clip --init=runs/clip-3 --steps=2800 --stream=10 $(LATER)

playground-student: setup
	$(BIN)/python -m zeroseg_jax prepare --config=playground:long --workdir=runs/long
	$(BIN)/python -m zeroseg_jax train --config=playground:long --workdir=runs/long
	$(BIN)/python -m zeroseg_jax export --workdir=runs/long --output=runs/long/student

# Raw results behind the tables of README.md and docs/.
playground-table: setup demo
	cp runs/demo/summary.json docs/results/demo.json
	$(BIN)/python -m bench.experiments.playground_clip
	$(BIN)/python -m bench.experiments.playground_terms --output=docs/results/playground_terms.json

# The pictures of README.md and docs/; plots are drawn from docs/results/.
pictures: setup
	$(PIP) matplotlib
	$(BIN)/python -m bench.pictures
	$(BIN)/python -m bench.experiments.collapse --write_only
	$(BIN)/python -m bench.experiments.reproduction --write_only
	$(BIN)/python -m bench.experiments.photographs --plot_only

# Tables 3 to 6 and the collapse curves: every run (about an hour on two idle cores) with their page,
# and one seed of the decisive ones (ten minutes).
paper-tables: setup
	$(PIP) matplotlib
	$(BIN)/python -m bench.experiments.collapse
	$(BIN)/python -m bench.experiments.paper_tables
	$(BIN)/python -m bench.experiments.grid_views
	$(BIN)/python -m bench.experiments.reproduction --write_only

paper-tables-short: setup
	$(PIP) matplotlib
	$(BIN)/python -m bench.experiments.collapse --workdir=runs/collapse --short
	$(BIN)/python -m bench.experiments.paper_tables --workdir=runs/tables --short

zss-table: setup
	$(BIN)/python -m bench.experiments.clip_zss

clean:
	rm -rf $(VENV) $(STAMP) $(DEV_STAMP) runs segmented build dist *.egg-info
