# Every target does its own set-up: a virtual environment in .venv with the locked dependencies.
# A second run finds the stamp newer than the lock and starts at once.

PYTHON   ?= python3
PORT     ?= 8000
DATA_DIR ?= .greenpoints
ARGS     ?=

BIN   := .venv/bin
STAMP := .venv/.installed
# Each has servers of its own, which take as much of a core as the tests do.
TEST_PROCESSES ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup run demo test test-long check audit bench faults guards fraud-eval lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  variables: PORT=$(PORT) DATA_DIR=$(DATA_DIR) ARGS='…' (passed on), PYTHON=$(PYTHON)"

$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $(PYTHON) is older than 3.11; say PYTHON=/path/to/python3.11" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing the locked dependencies into .venv …"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.txt
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

setup: $(STAMP) ## make .venv
	@:

run: $(STAMP) ## the whole system on this machine: PostgreSQL, Valkey, API, workers
	@exec $(BIN)/greenpoints up --port $(PORT) --data-dir "$(DATA_DIR)" $(ARGS)

demo: $(STAMP) ## a finite, narrated story on a temporary system
	@exec $(BIN)/greenpoints demo $(ARGS)

test: $(STAMP) ## the test suite
	@exec $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist worksteal $(ARGS)

test-long: $(STAMP) ## the state machines, the permutations, requests by the description and damaged input, for long
	@exec env HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest tests/flows/test_state_machine.py tests/flows/test_packaging_machine.py tests/flows/test_ledger_machine.py tests/probes/test_schema.py tests/probes/test_fuzz.py $(ARGS)

audit: $(STAMP) ## ask about known vulnerabilities of all locked packages (ARGS=--required: not being able to ask is a failure)
	@exec $(BIN)/python -m tests.audit $(ARGS)

check: $(STAMP) ## format, lint, types, import contract, known vulnerabilities, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m tests.audit
	@$(MAKE) --no-print-directory test

bench: $(STAMP) ## the benchmarks of loadtests/
	@exec $(BIN)/greenpoints bench $(ARGS)

faults: $(STAMP) ## kill, pause and empty what can be, under load, and compare with a journal (ARGS='--seconds 60'; default 600)
	@exec $(BIN)/python -m loadtests.faults $(ARGS)

guards: $(STAMP) ## take out one guard of the ledger at a time and see which test goes red (ARGS='--only NAME')
	@exec $(BIN)/python -m tests.guards $(ARGS)

fraud-eval: $(STAMP) ## judge simulated traffic with fraud in it, and say what was found (ARGS='--seed 1002 --without'); exit code 1: a bar was missed
	@exec $(BIN)/python -m loadtests.fraud --events 1000000 --seed 1000 --model loadtests/fraud/model.json $(ARGS)

lock: $(STAMP) ## compile requirements.txt anew from the .in files (ARGS=--upgrade for newer versions)
	$(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url --no-emit-trusted-host \
		--no-emit-find-links --no-emit-options --no-header --annotation-style=line --output-file requirements.txt requirements-dev.in $(ARGS)

clean: ## remove .venv and caches (not the data)
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis *.egg-info
