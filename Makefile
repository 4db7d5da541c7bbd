PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# -qq hides pip's notices; errors are still printed.
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input -c constraints.txt
# HASHES=1 installs what locks/ has, to the hash of each wheel and over what was there, and then selfloop by itself.
INSTALLED := $(VENV)/.installed$(if $(HASHES),-by-hash)
locked = $(PIP) --force-reinstall --require-hashes --no-deps -r locks/$(1).txt && $(PIP) --no-deps --no-build-isolation -e .
# --quiet would hide the warnings from --strict too; this hides an advertisement.
export NO_MKDOCS_2_WARNING := 1
# One thread in each of two processes: with more, what waits for the others takes the time of what works.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help demo test test-fast check lint site bench gpu-check tutorials docs clean
.DEFAULT_GOAL := help

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

demo: $(INSTALLED)  ## install, run the main job on the handwritten digits into runs/demo, print where its report is
	$(BIN)/selfloop run demo --out runs/demo

test: lint site  ## install with the test extras, check all, run all tests: the types beside the tests
	@log=$$(mktemp); $(BIN)/mypy >$$log 2>&1 & types=$$!; \
	$(PYTEST) --basetemp=$$(mktemp -d); tests=$$?; \
	wait $$types || { cat $$log; exit 1; }; exit $$tests

test-fast: lint  ## lint, and the tests that take little time: while you work
	$(PYTEST) --basetemp=$$(mktemp -d) -m "not slow"

check: lint site  ## lint, formatting, types, and the documentation built strictly
	$(BIN)/mypy

lint: $(INSTALLED)-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check

site: $(INSTALLED)-test
	$(BIN)/mkdocs build --strict

bench: $(INSTALLED)-test  ## time every part beside what a user would run instead: leave the machine alone meanwhile
	@$(PIP) -e ".[bench]"
	$(BIN)/python -m benchmarks

gpu-check:  ## on a machine with a GPU: agreement, throughput, memory and a recipe on it, by .venv or else PYTHON as it is
	@$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) -m benchmarks.gpu

tutorials: $(INSTALLED)-test  ## run the tutorials whose code has changed, and keep what comes of them: up to ten minutes for all
	$(BIN)/python -m docs.executed

docs: tutorials site  ## run the tutorials that have changed, and build the documentation into site/

clean:  ## remove .venv, the built documentation and caches; runs/ stays
	rm -rf $(VENV) site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "selfloop needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) -V 2>/dev/null || echo missing); try: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(INSTALLED): pyproject.toml constraints.txt $(if $(HASHES),locks/demo.txt) | $(BIN)/python
	@echo "Installing selfloop into $(VENV) (the first time takes a few minutes) …"
	@$(if $(HASHES),$(call locked,demo),$(PIP) -e .)
	@touch $@

$(INSTALLED)-test: pyproject.toml constraints.txt $(if $(HASHES),locks/test.txt) | $(BIN)/python
	@echo "Installing selfloop and what its tests need into $(VENV) (the first time takes a few minutes) …"
	@$(if $(HASHES),$(call locked,test),$(PIP) -e ".[test,check]")
	@touch $@ $(INSTALLED)
