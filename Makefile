# What people and machines run. Needs Python >= 3.11 with pip; everything else goes into .venv.

VENV    ?= .venv
WORKERS ?= 2
PYTEST_ARGS ?=

BIN := $(VENV)/bin
# Twice quiet: errors only.
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check --no-input

.PHONY: help test test-oldest lint format demo docs bench soak clean
.DELETE_ON_ERROR:

help:
	@echo "make test    the test suite (PYTEST_ARGS=... is passed on, WORKERS=$(WORKERS) processes)"
	@echo "make test-oldest    what ids rest on, with the oldest pyarrow that is supported"
	@echo "make lint    ruff and mypy"
	@echo "make format  ruff puts the code into its form"
	@echo "make demo    the whole story on a small real run"
	@echo "make docs    write docs/cli.md anew from the help of every command"
	@echo "make bench   the benchmarks (BENCH_ARGS=... is passed on)"
	@echo "make soak    the suite in its long forms: hours, not minutes"
	@echo "make clean   remove $(VENV) and caches"

test: $(VENV)/.dev
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

# Ids may not depend on the version of a library: golden vectors, the frozen repository, schemas.
test-oldest: $(BIN)/python
	@if [ ! -e $(VENV)-oldest/pyvenv.cfg ]; then $(BIN)/python -m venv $(VENV)-oldest; fi
	@$(VENV)-oldest/bin/python -m pip --quiet --quiet --disable-pip-version-check --no-input install -e '.[dev]' 'pyarrow==25.0.*'
	@$(VENV)-oldest/bin/python -m pytest tests/test_golden.py tests/test_frozen.py tests/test_schema.py

soak: $(VENV)/.dev
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "" --timeout 0 --hypothesis-profile soak $(PYTEST_ARGS)

lint: $(VENV)/.dev
	@$(BIN)/ruff check fsvc tests docs $(wildcard benchmarks)
	@$(BIN)/ruff format --check --quiet --diff fsvc tests docs $(wildcard benchmarks)
	@$(BIN)/mypy fsvc docs $(wildcard benchmarks)

format: $(VENV)/.dev
	@$(BIN)/ruff check --fix-only --quiet fsvc tests docs $(wildcard benchmarks)
	@$(BIN)/ruff format --quiet fsvc tests docs $(wildcard benchmarks)

demo: $(VENV)/.demo
	@$(BIN)/fsvc demo

docs: $(VENV)/.dev
	@$(BIN)/python docs/generate_cli.py

bench: $(VENV)/.dev
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

clean:
	@if [ -e $(VENV)/pyvenv.cfg ]; then rm -rf $(VENV); fi
	@rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@$(PIP) install -e '.[dev]'
	@touch $@

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	@$(PIP) install -e '.[demo]'
	@touch $@

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
