# agentflow: `make help` lists what there is. Needs a POSIX make and sh, and Python 3.11 or later with pip.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
EXAMPLE = examples/market_report/agentflow.toml
RUN = $(BIN)/agentflow run $(EXAMPLE)
ARGS =

.PHONY: help setup run test proof coverage check format-check lint types layers dependencies audit format bench docs lock clean

help:  ## list these targets
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/  \1|\2/p' Makefile | awk -F '|' '{ printf "%-16s %s\n", $$1, $$2 }'

setup:  ## make .venv from the lock; done by every target that needs it
	@PYTHON='$(PYTHON)' VENV='$(VENV)' .ci/setup

run: setup  ## run the main example: a report from real data
	$(RUN) $(ARGS)

test: setup  ## run all tests; ARGS="-k name" for some
	$(BIN)/python -m pytest -rs $(ARGS)

proof: setup  ## run the tests of durability with their full counts, e.g. 500 kills; each prints what it did
	AGENTFLOW_PROOF=1 $(BIN)/python -m pytest -rs -s tests/durability tests/stores $(ARGS)

coverage: setup  ## run all tests and measure: 95 % over all, 100 % of agentflow/core
	$(BIN)/coverage run -m pytest -q $(ARGS)
	$(BIN)/coverage report
	$(BIN)/coverage report --include='agentflow/core/*' --fail-under=100

check: format-check lint types layers dependencies audit  ## everything but the tests; `make -k check` goes on after a failure

format-check: setup
	$(BIN)/ruff format --check .

lint: setup
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy agentflow $$(ls -d tests/typing 2>/dev/null)

layers: setup
	$(BIN)/lint-imports --no-logo

dependencies: setup
	$(BIN)/deptry agentflow

audit: setup
	$(BIN)/python .ci/audit.py

format: setup  ## rewrite the code in the house format
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

bench: setup  ## run the benchmarks; prints a Markdown table
	$(BIN)/python -m benchmarks $(ARGS)

docs: setup  ## write the generated pages again
	$(BIN)/python docs/generate.py $(ARGS)

lock:  ## resolve the dependencies again; UPGRADE=1 takes newer versions
	@PYTHON='$(PYTHON)' UPGRADE='$(UPGRADE)' .ci/setup lock

clean:  ## remove what make and the tools made
	rm -rf $(VENV) .uv build dist htmlcov .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
