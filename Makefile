# Everything below makes its own virtual environment in .venv: a machine with Python 3.11 (or 3.12), make and a
# package index is enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Every test process takes one thread; more processes than two were not tried.
TEST_PROCESSES ?= 2

.PHONY: demo test test-all lint bench clean
.DEFAULT_GOAL := test

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@start=$$(date +%s); \
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' && \
	echo "installation took $$(( $$(date +%s) - start )) s"
	@touch $@

demo: $(STAMP)
	$(BIN)/mmssl demo --out demo

test: $(STAMP)
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --durations=15 $(PYTEST_ARGS)

test-all: $(STAMP)
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --durations=30 -m 'not gpu' $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python benchmarks/one_decode.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache dist build
