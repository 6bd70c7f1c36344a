# Each target installs what it is missing (scripts/setup) and leaves `.venv/bin/orlop` ready for use.
PYTHON = .venv/bin/python

.PHONY: help demo test test-full bench lint format venv setup-demo setup-tests clean-machine clean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

demo: setup-demo ## the main job on real input: push, pull and run an image, each step with its time
	@scripts/demo

test: setup-tests lint ## all rules and tests but the long ones (what CI runs)
	$(PYTHON) -m pytest --ci

test-full: setup-tests lint ## the long tests too; writes a dated result file under tests/results
	$(PYTHON) -m pytest --ci --full --results tests/results

bench: setup-tests ## Orlop beside its peers on this machine, into docs/benchmarks.md
	$(PYTHON) bench/run.py

lint: setup-tests ## style, types, and which room may import which
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

format: setup-tests ## rewrite the sources in the house style
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

venv: setup-tests ## .venv with the package (editable) and the developer's tools

clean-machine: ## remove what killed test runs and benchmarks left: mounts, processes, cgroups, loop devices
	@scripts/clean-machine

clean: ## remove caches and build products
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
	find src tests bench scripts -name __pycache__ -prune -exec rm -rf {} +

setup-demo:
	@scripts/setup demo

setup-tests:
	@scripts/setup tests
