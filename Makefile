# One command each: `make demo` runs the main job, `make test` passes the tests. Both set up everything they need.
SHELL := bash
PYTHON ?= python3
VENV := .venv
PARTNERS := .venv-integrations
BIN := $(VENV)/bin
PACKAGES := core nas lowlevel diffusion perception3d video segmentation
PYPROJECTS := pyproject.toml $(PACKAGES:%=packages/%/pyproject.toml)
STAMP := $(VENV)/.stamp-$(shell cat constraints.txt $(PYPROJECTS) Makefile | sha256sum | cut -c1-16)
PARTNERS_STAMP := $(PARTNERS)/.stamp-$(shell cat constraints.txt $(PYPROJECTS) Makefile tools/integrations/*.sh 2>/dev/null | sha256sum | cut -c1-16)

# The constraints are an environment variable so that isolated build environments obey them too.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export OMP_NUM_THREADS ?= 1
export HF_HUB_OFFLINE ?= 1
ifneq ($(wildcard ../shared/data),)
export WITHIN_DATA ?= $(abspath ../shared/data)
endif

NAME ?= all
ARGS ?=

.PHONY: help setup setup-integrations demo test test-integrations lint bench docs clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

$(STAMP):
	@echo "Setting up $(VENV) (once; about two minutes)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is too old: Within needs Python 3.11 or later; try make PYTHON=python3.11"; exit 1; }
	@rm -f $(VENV)/.stamp-*
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PACKAGES:%=-e packages/%) -e ".[dev,docs]"
	@$(BIN)/python -c 'import yapf'  # it stores its grammar on first use: two test workers doing so at once would collide
	@touch $@

$(PARTNERS_STAMP): $(STAMP)
	@echo "Setting up $(PARTNERS): the optional partners, layered over $(VENV)"
	@rm -f $(PARTNERS)/.stamp-*
	@PYTHON=$(PYTHON) VENV=$(VENV) PARTNERS=$(PARTNERS) bash tools/integrations/install.sh
	@touch $@

setup: $(STAMP)  ## install everything into a virtual environment

setup-integrations: $(PARTNERS_STAMP)  ## install the optional partners beside it

demo: $(STAMP)  ## fit a denoising network into half its memory, on real photographs
	$(BIN)/within demo $(ARGS)

test: $(STAMP)  ## run the tests
	$(BIN)/python -m pytest -n 2 $(ARGS)

test-integrations: $(PARTNERS_STAMP)  ## run the tests against optional partners (timm, basicsr, ...)
	$(PARTNERS)/bin/python -m pytest -o addopts="" -q --import-mode=importlib tests/integrations $(ARGS)

lint: $(STAMP)  ## ruff, mypy on core, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(PARTNERS_STAMP)  ## run a benchmark: make bench NAME=solver
	$(PARTNERS)/bin/python -m within.core.cli bench $(NAME) $(ARGS)

docs: $(STAMP)  ## build the documentation
	$(BIN)/mkdocs build --strict

clean:  ## remove the environments and caches
	rm -rf $(VENV) $(PARTNERS) site .pytest_cache .mypy_cache .ruff_cache
