# Two commands do everything on a machine that has Python 3.11 or later, make and pip's registry:
# `make demo` and `make test`. Each makes the virtual environment that it needs. `make help` names all.
PYTHON ?= python3
VENV ?= .venv
# What runs at the same time: one more than there are cores pays, for some of the tests wait.
JOBS ?= 3
# What is installed for the tests; CI adds engines and frameworks, which are large.
EXTRAS ?= dev
BIN := $(VENV)/bin
# Each process that starts would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-deep peers lint ruff mypy pyright coverage docs bench wheel try dist clean

help: ## These lines
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "headway needs Python 3.11 or later; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[$(EXTRAS)]'
	@touch $@

# A few hundred prompts through a rate-limited server: as people do it today, and with headway.
demo: $(VENV)/.demo ## The main job: prompts through a rate-limited server, killed and resumed
	$(BIN)/python benchmarks/demo.py

# A part of the tests is one process, so that a file is imported once. The longest come first, but
# for that which waits for terminals most of its time, and leaves a core to the others.
PARTS := cli bulk wire top core shared rest
bulk := tests/bulk
# These look into SDKs, whose import takes 8 s, and frameworks, which import SDKs.
wire := tests/_http tests/estimate tests/hints tests/hooks tests/peers tests/testing \
    $(patsubst %,tests/test_%.py,arguments exports framework_recipes real_server together)
top := $(filter-out $(wire),$(wildcard tests/test_*.py))
core := tests/_core tests/_runtime tests/kinds tests/rates tests/sync
shared := tests/shared
cli := tests/cli
# Each other folder, one that is made tomorrow too.
rest := $(filter-out tests/__pycache__ $(foreach part,$(PARTS),$($(part))),$(patsubst %/,%,$(wildcard tests/*/)))

# Where make can, each prints in one piece when it is done; what fails keeps no other from running.
SIDE_BY_SIDE := --no-print-directory --keep-going --jobs=$(JOBS) \
    $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

# Two of the linters check types and take 45 s of CPU each, and so they come first.
test: $(VENV)/.dev ## Lint, types and every test
	@$(MAKE) $(SIDE_BY_SIDE) pyright mypy ruff $(PARTS:%=test-%)

# The same tests, which search further: longer simulations, more examples, every step.
test-deep: $(VENV)/.dev ## Every test, searching further: half an hour
	@HEADWAY_TESTS=deep $(MAKE) $(SIDE_BY_SIDE) $(PARTS:%=test-%)

$(PARTS:%=test-%): export COVERAGE_FILE = .coverage.$*
$(PARTS:%=test-%): test-%: $(VENV)/.dev
	$(BIN)/python -m pytest $($*)

# Needs the registry: the sdists of the peers, into build/peers.
peers: $(VENV)/.dev ## The suites of peers and SDKs over headway: a quarter of an hour
	$(BIN)/python tests/peers/run.py

# The same with coverage, which takes twice the time.
coverage: $(VENV)/.dev ## The tests with coverage
	@PYTEST_ADDOPTS='--cov --cov-report=' $(MAKE) $(SIDE_BY_SIDE) $(PARTS:%=test-%)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered

lint: $(VENV)/.dev ## ruff, mypy, the layers of the imports, and pyright
	@$(MAKE) $(SIDE_BY_SIDE) pyright mypy ruff

ruff: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

mypy: $(VENV)/.dev
	$(BIN)/mypy

pyright: $(VENV)/.dev
	$(BIN)/pyright --pythonpath $(BIN)/python

# Everything anew, for pages that did not change keep their warnings to themselves.
docs: $(VENV)/.dev ## The manual, into build/docs: a warning is an error
	$(BIN)/python -m sphinx --quiet --fresh-env --fail-on-warning --keep-going docs build/docs
	@echo "build/docs/index.html"

# About half an hour; prints a table each, with the peers measured in the same run.
bench: $(VENV)/.dev ## The benchmarks: half an hour
	$(BIN)/python benchmarks/no_refusals.py
	$(BIN)/python benchmarks/classes.py
	$(BIN)/python benchmarks/control.py
	$(BIN)/python benchmarks/told_right.py
	$(BIN)/python benchmarks/told_wrong.py
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/hooks.py
	$(BIN)/python benchmarks/clients.py
	$(BIN)/python benchmarks/admission.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/bulk.py
	$(BIN)/python benchmarks/pacing.py
	$(BIN)/python benchmarks/sync.py

# What a user gets without an extra: the wheel, with anyio alone. CI does it each time.
wheel: $(VENV)/.dev ## Build the wheel, install it where nothing else is, and try it
	rm -rf dist build/wheel
	$(BIN)/python -m build --wheel
	$(MAKE) --no-print-directory try

try:
	$(PYTHON) -m venv --without-pip build/wheel
	$(BIN)/python -m pip --python build/wheel/bin/python install --quiet dist/*.whl
	build/wheel/bin/python -W error -c "import headway"
	build/wheel/bin/python -W error tests/smoke.py

# What goes to the registry, as its users get it.
dist: $(VENV)/.dev ## Build the sdist and the wheel, check both, install and try the wheel
	rm -rf dist build/wheel
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*
	$(MAKE) --no-print-directory try
	$(BIN)/python -m pip --python build/wheel/bin/python install --quiet "$$(echo dist/*.whl)[cli]"
	build/wheel/bin/headway --version

clean: ## Remove the environments and what was built
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
