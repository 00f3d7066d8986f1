# What people and machines run. Needs Python >= 3.11 with pip; everything else goes into .venv.

VENV    ?= .venv
WORKERS ?= 2
PYTEST_ARGS ?=
# What is run beside MLflow: its own tests, and what ids rest on, with the pyarrow that it allows.
MLFLOW_TESTS := tests/models tests/test_golden.py tests/test_frozen.py tests/test_schema.py \
	tests/cli/test_demo_command.py \
	'tests/test_docs.py::test_examples_run_and_print_what_is_said[docs/mlflow.md]' \
	'tests/test_docs.py::test_examples_run_and_print_what_is_said[docs/scoring.md]'

BIN := $(VENV)/bin
# MLflow holds pyarrow back, so what needs it lives apart; and so ids are tested with both pyarrows.
MLFLOW_BIN := $(VENV)-mlflow/bin
# Twice quiet: errors only.
QUIET := python -m pip --quiet --quiet --disable-pip-version-check --no-input
PIP := $(BIN)/$(QUIET)

.PHONY: help test test-mlflow test-oldest test-oldest-mlflow lint format demo docs bench bench-models bench-peers soak planted clean
.DELETE_ON_ERROR:

help:
	@echo "make test    the test suite (PYTEST_ARGS=... is passed on, WORKERS=$(WORKERS) processes)"
	@echo "make test-mlflow    the part of the suite that needs MLflow"
	@echo "make test-oldest-mlflow    that part with the oldest MLflow that is supported"
	@echo "make test-oldest    what ids rest on, with the oldest pyarrow that is supported"
	@echo "make lint    ruff and mypy"
	@echo "make format  ruff puts the code into its form"
	@echo "make demo    the whole story on a small real run"
	@echo "make docs    write docs/cli.md anew from the help of every command"
	@echo "make bench   the benchmarks (BENCH_ARGS=... is passed on)"
	@echo "make bench-models    those that need MLflow"
	@echo "make bench-peers    the same changes in other stores, which are installed into .peers"
	@echo "make soak    the suite in its long forms: hours, not minutes"
	@echo "make planted    faults planted in a copy of the code, and whether the tests see them (PLANTED=words for some)"
	@echo "make clean   remove $(VENV) and caches"

test: $(VENV)/.dev test-mlflow
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

test-mlflow: $(VENV)-mlflow/.dev
	@$(MLFLOW_BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(MLFLOW_TESTS)

test-oldest-mlflow: $(VENV)-oldest-mlflow/bin/python
	@$(VENV)-oldest-mlflow/bin/$(QUIET) install -e '.[dev-mlflow]' 'mlflow==3.15.*'
	@$(VENV)-oldest-mlflow/bin/python -m pytest -n $(WORKERS) $(MLFLOW_TESTS)

# Ids may not depend on the version of a library: golden vectors, the frozen repository, schemas.
test-oldest: $(VENV)-oldest/bin/python
	@$(VENV)-oldest/bin/$(QUIET) install -e '.[dev]' 'pyarrow==25.0.*'
	@$(VENV)-oldest/bin/python -m pytest tests/test_golden.py tests/test_frozen.py tests/test_schema.py

soak: $(VENV)/.dev
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "" --timeout 0 --hypothesis-profile soak $(PYTEST_ARGS)

planted: $(VENV)/.dev
	@$(BIN)/python tests/planted.py $(PLANTED)

lint: $(VENV)-mlflow/.dev
	@$(MLFLOW_BIN)/ruff check fsvc tests docs $(wildcard benchmarks)
	@$(MLFLOW_BIN)/ruff format --check --quiet --diff fsvc tests docs $(wildcard benchmarks)
	@$(MLFLOW_BIN)/mypy fsvc docs $(wildcard benchmarks)

format: $(VENV)/.dev
	@$(BIN)/ruff check --fix-only --quiet fsvc tests docs $(wildcard benchmarks)
	@$(BIN)/ruff format --quiet fsvc tests docs $(wildcard benchmarks)

demo: $(VENV)-mlflow/.demo
	@$(MLFLOW_BIN)/fsvc demo

docs: $(VENV)/.dev
	@$(BIN)/python docs/generate_cli.py

bench: $(VENV)/.dev
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

bench-models: $(VENV)-mlflow/.dev
	@$(MLFLOW_BIN)/python -m benchmarks --models $(BENCH_ARGS)

bench-peers: $(VENV)/.dev
	@$(BIN)/python -m benchmarks.peers $(BENCH_ARGS)

clean:
	@for venv in $(VENV) $(VENV)-mlflow $(VENV)-oldest $(VENV)-oldest-mlflow; do \
		if [ -e $$venv/pyvenv.cfg ]; then rm -rf $$venv; fi; \
	done
	@rm -rf .peers .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@$(PIP) install -e '.[dev]'
	@touch $@

$(VENV)-mlflow/.dev: pyproject.toml | $(MLFLOW_BIN)/python
	@$(MLFLOW_BIN)/$(QUIET) install -e '.[dev-mlflow]'
	@touch $@

$(VENV)-mlflow/.demo: pyproject.toml | $(MLFLOW_BIN)/python
	@$(MLFLOW_BIN)/$(QUIET) install -e '.[demo]'
	@touch $@

# Environments beside the first one, made with its Python.
$(VENV)-%/bin/python: | $(BIN)/python
	@$(BIN)/python -m venv $(VENV)-$* 2>/dev/null || { \
		$(BIN)/python -m venv --without-pip $(VENV)-$*; \
		$(BIN)/python -m pip --quiet --quiet --disable-pip-version-check --python $@ install pip; \
	}

# The first Python that runs and is new enough; a name on the PATH alone says nothing (version managers put names
# there for versions that are not installed). Without ensurepip, which some distributions leave out, the outer pip
# installs one.
$(BIN)/python:
	@set -e; \
	for candidate in $(PYTHON) python3.11 python3 python3.12 python3.13 python3.14 python; do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
			python="$$candidate"; break; \
		fi; \
	done; \
	if [ -z "$${python:-}" ]; then echo "fsvc needs Python 3.11 or newer, and none was found" >&2; exit 1; fi; \
	if [ -e $(VENV)/pyvenv.cfg ]; then rm -rf $(VENV); fi; \
	if "$$python" -c 'import ensurepip' >/dev/null 2>&1; then \
		"$$python" -m venv $(VENV); \
	else \
		"$$python" -m venv --without-pip $(VENV); \
		"$$python" -m pip --quiet --quiet --disable-pip-version-check --python $(BIN)/python install pip; \
	fi
