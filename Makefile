# Every target is a line or two over the real tools; `make` alone lists them.
PYTHON ?= python3
BIN := .venv/bin
SOURCES := conftest.py src plugins migrations tests bench examples tools deploy docs/generate.py
PROJECTS := pyproject.toml $(wildcard plugins/*/pyproject.toml)

.DEFAULT_GOAL := help
.PHONY: help demo test lint format format-check types imports coverage bench docs lock check-lock clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

demo: .venv/run.stamp  ## Start gateway and GigaChat sandbox, print address, key and a curl line
	@$(BIN)/gatewaykit demo

test: .venv/dev.stamp  ## Run all tests
	$(BIN)/pytest -n auto $(PYTEST_ARGS)

lint: check-lock format-check types imports  ## Check format, rules, types and import contracts

format: .venv/dev.stamp  ## Format the code and mend what can be mended
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

format-check: .venv/dev.stamp
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)

types: .venv/dev.stamp
	$(BIN)/mypy src plugins/gigachat/src plugins/oauth/src plugins/openai/src

imports: .venv/dev.stamp
	$(BIN)/lint-imports

coverage: .venv/dev.stamp  ## Run all tests and report what they do not reach
	$(BIN)/pytest -n auto --cov --cov-report=term --cov-report=html

bench: .venv/dev.stamp  ## Measure the gateway against bare references (BENCH_ARGS=--quick for a minute)
	$(BIN)/python bench/run $(BENCH_ARGS)

docs: .venv/dev.stamp  ## Write the generated pages of docs/
	$(BIN)/python docs/generate.py

lock: .venv/dev.stamp  ## Resolve the dependencies anew
	$(BIN)/python tools/locks.py

check-lock: .venv/dev.stamp
	$(BIN)/python tools/locks.py --check
	@$(BIN)/python -m pip --disable-pip-version-check check

clean:  ## Remove everything that was installed or built here
	rm -rf .venv build dist bench/build .pytest_cache .mypy_cache .ruff_cache .hypothesis htmlcov .coverage*

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/run.stamp: .venv/bin/python requirements.lock $(PROJECTS)
	@echo "Installing into .venv …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . -e plugins/gigachat -e plugins/oauth -e plugins/openai
	@touch $@

.venv/dev.stamp: .venv/run.stamp requirements-dev.lock
	@echo "Installing the developers' tools into .venv …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.lock
	@touch $@
