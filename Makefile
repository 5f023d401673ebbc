# Everything here needs Python 3.11 or newer with venv, and make. The network is used by pip alone.

VENV ?= .venv
STATE ?= .ce-run
BIN := $(VENV)/bin
CE_RUN := $(BIN)/ce-run
# Where runs live, unless it is where ce-run looks anyway: what it tells to run next then says so, too.
unexport CE_RUN_STATE
IN_STATE := $(if $(filter .ce-run,$(STATE)),,--state $(STATE))
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Tests whose lab has users and thresholds: beside others on the same cores it would be too slow for them.
ALONE := tests/crash tests/lab tests/rollback tests/runbooks

.DEFAULT_GOAL := help
.PHONY: help deploy rollback test test-all check bench lab lab-down clean

help: ## show what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Stamps: an install is done once, and again when what is to be installed has changed.
$(BIN)/python:
	@for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "making $(VENV) with $$($$python --version)"; \
	    exec $$python -m venv $(VENV); \
	  fi; \
	done; \
	echo 'Python 3.11 or newer is needed; name one: make PYTHON=/path/to/python3.11' >&2; exit 1

$(VENV)/.with-lab: pyproject.toml | $(BIN)/python
	@echo 'installing ce-run and the servers of its lab'
	@$(PIP) install -e '.[lab]'
	@$(BIN)/python -m compileall -q engine modules
	@touch $@

$(VENV)/.with-tests: pyproject.toml | $(BIN)/python
	@echo 'installing ce-run, its lab and what the tests need'
	@$(PIP) install -e '.[lab,test]'
	@$(BIN)/python -m compileall -q engine modules
	@touch $@ $(VENV)/.with-lab

deploy: lab ## start a fresh lab and deploy 5.1 to it
	@$(CE_RUN) runbooks/deploy-5.1.yml -i inventories/lab.yml --yes $(IN_STATE) || \
	  { status=$$?; $(BIN)/python -m engine.lab.busy; exit $$status; }

rollback: $(VENV)/.with-lab ## take the lab back to 5.0, at once
	@$(CE_RUN) runbooks/emergency-rollback.yml -i inventories/lab.yml --force --reason tried_out $(IN_STATE)

lab: $(VENV)/.with-lab ## start a fresh lab: 5.0 serves, users are there
	@$(CE_RUN) lab up $(IN_STATE)

lab-down: $(VENV)/.with-lab ## stop the lab
	@$(CE_RUN) lab down $(IN_STATE)

check: $(VENV)/.with-tests ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

test: check ## ruff, mypy, and the tests that take minutes
	@$(BIN)/pytest -m 'not slow' -n auto --dist loadfile $(addprefix --ignore=,$(ALONE))
	@$(BIN)/pytest -m 'not slow' $(ALONE)

test-all: check ## all tests, the long matrices too
	@$(BIN)/pytest -n auto --dist loadfile $(addprefix --ignore=,$(ALONE))
	@$(BIN)/pytest $(ALONE)

bench: $(VENV)/.with-tests ## measure, each figure against a floor measured in the same run
	@$(BIN)/python -m benchmarks

clean: ## stop the lab; remove the venv, runs and caches
	@if [ -x $(BIN)/ce-run ] && [ -d $(STATE)/lab ]; then $(CE_RUN) lab down $(IN_STATE); fi
	rm -rf $(VENV) $(STATE) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find engine modules tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
