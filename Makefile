# Everything a person does with this tree. `make help` lists it.
# VENV= chooses the virtual environment; it is made and filled on first use.

SHELL := /bin/bash
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
# Where PyTorch comes from on a machine without a GPU one may set, for example,
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu to get the small CPU build.
STAMP := $(VENV)/.installed

# Tests run in this many processes: unit tests compute, others wait for processes of their own as well.
UNIT_PROCESSES ?= 2
TEST_PROCESSES ?= 3
# Tests start hundreds of Python processes: without compiled files on the disk each would compile the project again.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help setup demo test tests unit lint format up openapi api-fuzz chaos bench clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## make the virtual environment and install the project into it

$(STAMP): pyproject.toml mmaudio_client/pyproject.toml hatch_build.py constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "python3 (3.11 or newer) is needed"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[worker,demo,dev]'
	@touch $@

demo: $(STAMP) ## run one real video through the whole platform; prints the files' paths
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m demo

up: $(STAMP) ## start everything on this machine (Ctrl-C stops it)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/mmaudio up

test: $(STAMP) browser ## run every check and every test
	$(MAKE) --no-print-directory -j2 lint tests

tests: $(STAMP) ## run every test, without the checks of `make lint`
	$(PYTEST) -n $(TEST_PROCESSES)

unit: $(STAMP) ## run only the fast tests: no server, no child process, no training
	$(PYTEST) -n $(UNIT_PROCESSES) tests/unit

lint: $(STAMP) ## formatting, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python deploy/check.py

format: $(STAMP) ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

openapi: $(STAMP) ## write docs/openapi.json from the code
	$(BIN)/python -m api.openapi_document > docs/openapi.json

browser: ## a Chromium for the browser tests, where there is none
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || \
	{ echo "installing chromium for the browser tests"; apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; }

chaos: $(STAMP) ## break everything while 300 jobs run; says what became of each (CHAOS="--parts embedded --seed 2")
	$(BIN)/python -m chaos $(CHAOS)

bench: $(STAMP) ## run the benchmarks (see benchmarks/README.md)
	$(BIN)/python -m benchmarks

api-fuzz: $(STAMP) ## send more than 10,000 generated requests to a real server (API_FUZZ="--max-examples 200")
	$(BIN)/python -m tests.api_conformance $(API_FUZZ)

clean: ## remove what the build and the tests left
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis demo-output
