# Everything runs in .venv, made here with nothing but python3 and its venv module.
#
#   make demo     see it work
#   make test     the tests
#   make check    what CI asks before it tests: format, lint, types, imports
#   make format   put the code in the form that `make check` asks for
#   make bench    measurements, printed as ratios (one alone: make bench BENCHMARKS=benchmarks/bench_....py)
#   make soak     the same tests with larger numbers
#   make clean    remove what the above made
#
# ARGS is handed on: make test ARGS="tests/unit -k tree"

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
ARGS ?=

# What an installed environment is made from: an edit of any of these installs again, and compiles the kernel again.
SOURCES := pyproject.toml hatch_build.py $(wildcard src/moorage/native/kernel.c)
PIP = $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
BENCHMARKS ?= $(sort $(wildcard benchmarks/bench_*.py))
CHECKED = src tests hatch_build.py $(wildcard benchmarks)

.DEFAULT_GOAL := test
.PHONY: demo test check format bench soak clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	@$(BIN)/moorage demo $(ARGS)

test: $(VENV)/.test
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/mypy $(CHECKED)
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.dev
	$(BIN)/ruff check --fix-only $(CHECKED)
	$(BIN)/ruff format $(CHECKED)

bench: $(VENV)/.test
	@for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python $$script $(ARGS) || exit 1; done

soak: $(VENV)/.test
	@MOORAGE_SOAK=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --timeout 14400 $(ARGS)

clean:
	rm -rf $(VENV) dist build .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	rm -f src/moorage/native/_kernel.so src/moorage/native/_kernel.so.*.tmp
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# -- environments ----------------------------------------------------------------------------------
# A stamp says which extras .venv has. What the tests need includes what the demo needs.

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "moorage needs python3 (3.11 or later); say which with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "moorage needs Python 3.11 or later; say which with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
		|| { echo "python3 has no working venv module (on Debian: apt install python3-venv)" >&2; rm -rf $(VENV); exit 1; }

$(VENV)/.demo: $(SOURCES) | $(BIN)/python
	@echo "Installing moorage and the libraries of the demo into $(VENV) ..."
	@$(PIP) install -e '.[demo]' 2>$(VENV)/.demo.log \
		|| { echo "... without the optional libraries ($(VENV)/.demo.log says why)"; $(PIP) install -e .; }
	@touch $@

$(VENV)/.test: $(SOURCES) | $(BIN)/python
	@echo "Installing moorage and what its tests need into $(VENV) ..."
	@$(PIP) install -e '.[test,libraries]' 2>$(VENV)/.test.log \
		|| { echo "... without the optional libraries ($(VENV)/.test.log says why)"; $(PIP) install -e '.[test]'; }
	@touch $(VENV)/.demo $@

$(VENV)/.dev: $(VENV)/.test
	@echo "Installing the linters into $(VENV) ..."
	@$(PIP) install -e '.[test,dev]'
	@touch $@
