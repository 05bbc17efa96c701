# SPDX-License-Identifier: GPL-2.0
# Each target sets up what it needs first (setup.sh; a blink when all is there).

PLAN ?= quick
ARGS ?=
PYTEST = .venv/bin/pytest $(ARGS)

help:
	@echo 'make run         set up, run the plan $(PLAN) (PLAN=name, ARGS="-k stock --trials 20")'
	@echo 'make test        set up, run all tests, unit and vm (ARGS="-k name")'
	@echo 'make test-unit   only those that boot no kernel'
	@echo 'make faults      whatever can go wrong with a guest, made to go wrong'
	@echo 'make fortnight  fourteen nights on trees that break, about an hour'
	@echo 'make bench       what a boot costs beside other tools, and a fault beside stock'
	@echo 'make lint        ruff and mypy'
	@echo 'make clean       remove .venv and what tools left here; keeps results/ and the cache'

setup:
	@./setup.sh

setup-tests:
	@./setup.sh --tests

run: setup
	@.venv/bin/harness run $(PLAN) $(ARGS)

test: setup-tests
	@$(PYTEST)

test-unit: setup-tests
	@$(PYTEST) -m 'not vm and not bench and not slow and not nightly'

faults: setup
	@$(PYTEST) -m 'slow or not slow' --reliability docs/reliability.md tests/faults

fortnight: setup
	@$(PYTEST) -m nightly tests/nightly/test_fortnight.py

bench: setup
	@$(PYTEST) -m bench tests/bench

lint: setup
	@.venv/bin/ruff check
	@.venv/bin/mypy

clean:
	rm -rf .venv *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache workloads/out
	find harness tests -name __pycache__ -type d -exec rm -rf {} +

.PHONY: help setup setup-tests run test test-unit faults fortnight bench lint clean
