# Everything here works on a fresh machine with Python 3.10 to 3.13 and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PEERS := .venv-peers
STORAGE ?= storage
DEMO := datasets/emoji/dataset.yaml

.PHONY: install demo demo-data dev test lint bench peers constraints clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

install: $(VENV)/.installed ## make the virtual environment, with versions from constraints.txt

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 13) else "Python %d.%d found, 3.10 to 3.13 expected: make PYTHON=python3.12 ..." % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable '.[demo,dev]'
	touch $@

demo-data: install ## write the emoji source data: pictures and names in 14 languages
	$(BIN)/python datasets/emoji/make_source.py

demo: demo-data ## build the demo dataset end to end and verify the release
	$(BIN)/dataset-pipeline build $(DEMO) --storage $(STORAGE)
	$(BIN)/dataset-pipeline verify $(STORAGE)/emoji/releases/1.0.0

dev: demo-data ## open the Dagster UI on the demo dataset
	$(BIN)/dataset-pipeline dev $(DEMO) --storage $(STORAGE)

lint: install ## ruff, mypy and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint ## lint, then all tests
	$(BIN)/python -m pytest

bench: demo-data ## every benchmark; prints its tables
	for benchmark in benchmarks/*.py; do $(BIN)/python $$benchmark || exit 1; done

peers: $(PEERS)/.installed ## install what the benchmarks measure beside this pipeline, into an environment of its own

$(PEERS)/.installed: benchmarks/peers/requirements.txt | install
	$(BIN)/uv venv --quiet --clear --python 3.11 $(PEERS)
	$(BIN)/uv pip install --quiet --python $(PEERS)/bin/python --requirement benchmarks/peers/requirements.txt
	touch $@

constraints: ## resolve the newest versions that pyproject.toml allows into constraints.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.10 --all-extras --no-header --no-annotate \
	  --output-file constraints.txt pyproject.toml

clean: ## remove the virtual environment and everything built
	rm -rf $(VENV) $(PEERS) $(STORAGE) datasets/emoji/source .mypy_cache .ruff_cache .pytest_cache
