# Everything runs in the project's own environment, .venv, made from python3 and the locked versions.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements-dev.lock
READY := $(VENV)/.ready
PYTEST := $(BIN)/python -m pytest

.PHONY: help setup demo test test-fast test-deploy test-matrix bench lint format docs lock clean

help:  ## list what make can do
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: $(READY)  ## make .venv with the locked versions and this package in it

$(READY): $(LOCK) pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' $(LOCK))"
	$(BIN)/uv pip install --quiet --python $(BIN)/python --requirement $(LOCK)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

demo: $(READY)  ## run the example DAGs on a simulator and a real Airflow (KEEP=1 leaves the UI up)
	$(BIN)/python -m demo

test: $(READY)  ## run all tests
	$(PYTEST)

test-fast: $(READY)  ## run the tests that need no Airflow processes and no metadata database
	$(PYTEST) -m "not e2e and not deploy and not dag_test"

test-deploy: $(READY)  ## load and break a real deployment: PostgreSQL, Celery over Redis, two triggerers
	$(PYTEST) tests/deployment --deployment=long --capture=no

test-matrix: $(READY)  ## run the tests on each Airflow and Python that is supported (MATRIX=3.0 picks some)
	$(BIN)/python -m matrix $(MATRIX)

bench: $(READY)  ## measure the trigger beside others, into docs/benchmark.* (BENCH=--short for a minute of it)
	$(BIN)/python -m benchmarks $(or $(BENCH),--out docs)

lint: $(READY)  ## check style, types and layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)  ## format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(READY)  ## build the documentation into docs/_build
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs docs/_build/html

lock: $(READY)  ## resolve the newest versions into the lock file
	$(BIN)/uv pip compile --quiet --upgrade --no-header --no-annotate --no-emit-index-url \
		--python-version 3.11 --group dev --output-file $(LOCK) pyproject.toml
	$(BIN)/python -m matrix --lock

clean:  ## remove what was built, the environment too
	rm -rf $(VENV) .matrix build dist docs/_build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
