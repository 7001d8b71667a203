# Two commands do everything on a machine that has Python 3.11 or later, make and pip's registry:
# `make demo` and `make test`. Each makes the virtual environment that it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint coverage bench clean

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "headway needs Python 3.11 or later; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@

# A few hundred prompts through a rate-limited server: as people do it today, and with headway.
demo: $(VENV)/.demo
	$(BIN)/python benchmarks/demo.py

# Lint and types first: they are quick. Then everything, on both event loops.
test: lint
	$(BIN)/python -m pytest -n 2

# The same with coverage, which takes twice the time.
coverage: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --cov --cov-report=term:skip-covered

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

# About half an hour; prints a table each, with the peers measured in the same run.
bench: $(VENV)/.dev
	$(BIN)/python benchmarks/no_refusals.py
	$(BIN)/python benchmarks/control.py
	$(BIN)/python benchmarks/told_wrong.py
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/clients.py
	$(BIN)/python benchmarks/admission.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/bulk.py
	$(BIN)/python benchmarks/pacing.py

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
