# One command each: `make demo` runs the main job, `make test` passes the tests. Both set up everything they need.
SHELL := bash
PYTHON ?= python3
VENV := .venv
PARTNERS := .venv-integrations
MMDET3D := .venv-mmdet3d
BIN := $(VENV)/bin
PACKAGES := core nas lowlevel diffusion perception3d video segmentation
PYPROJECTS := pyproject.toml $(PACKAGES:%=packages/%/pyproject.toml)
STAMP := $(VENV)/.stamp-$(shell cat constraints.txt $(PYPROJECTS) Makefile | sha256sum | cut -c1-16)
PARTNERS_STAMP := $(PARTNERS)/.stamp-$(shell cat constraints.txt $(PYPROJECTS) Makefile tools/integrations/install.sh 2>/dev/null | sha256sum | cut -c1-16)
MMDET3D_STAMP := $(MMDET3D)/.stamp-$(shell cat constraints.txt tools/integrations/mmdet3d.sh 2>/dev/null | sha256sum | cut -c1-16)

# The constraints are an environment variable so that isolated build environments obey them too.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export OMP_NUM_THREADS ?= 1
export HF_HUB_OFFLINE ?= 1
ifneq ($(wildcard ../shared/data),)
export WITHIN_DATA ?= $(abspath ../shared/data)
endif

MMDET3D_TESTS := -m pytest -o addopts="" -q -W ignore --import-mode=importlib tests/integrations/test_mmdet3d*.py
NAME ?= all
ARGS ?=

.PHONY: help setup setup-integrations setup-mmdet3d demo test test-integrations test-mmdet3d lint bench docs clean

help:  ## list the targets
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

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

$(MMDET3D_STAMP): $(STAMP)
	@echo "Setting up $(MMDET3D): MMDetection3D, layered over $(VENV) (once; its operators are compiled for about ten minutes)"
	@rm -f $(MMDET3D)/.stamp-*
	@PYTHON=$(PYTHON) VENV=$(VENV) MMDET3D_ENV=$(MMDET3D) bash tools/integrations/mmdet3d.sh
	@touch $@

setup: $(STAMP)  ## install everything into a virtual environment

setup-integrations: $(PARTNERS_STAMP)  ## install the optional partners beside it

setup-mmdet3d: $(MMDET3D_STAMP)  ## install MMDetection3D beside it, its operators compiled for the CPU

demo: $(STAMP)  ## fit a denoising network into half its memory, on real photographs
	$(BIN)/within demo $(ARGS)

test: $(STAMP)  ## run the tests
	$(BIN)/python -m pytest -n 2 $(ARGS)

test-integrations: $(PARTNERS_STAMP)  ## run the tests against optional partners (timm, basicsr, ...)
	$(PARTNERS)/bin/python -m pytest -o addopts="" -q --import-mode=importlib tests/integrations $(ARGS)
	@if test -n "$(wildcard $(MMDET3D)/.stamp-*)"; \
		then $(MMDET3D)/bin/python $(MMDET3D_TESTS) $(ARGS); \
		else echo "The tests against MMDetection3D were left out: run 'make test-mmdet3d' to set it up and run them."; fi

test-mmdet3d: $(MMDET3D_STAMP)  ## set up MMDetection3D and run the tests against it
	$(MMDET3D)/bin/python $(MMDET3D_TESTS) $(ARGS)

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
	rm -rf $(VENV) $(PARTNERS) $(MMDET3D) site .pytest_cache .mypy_cache .ruff_cache
