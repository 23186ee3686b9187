# One command per need; `make help` lists them. PYTHON chooses the interpreter of .venv.
PYTHON ?= python3.11
UV_VERSION := 0.13.9
BIN := .venv/bin
SOURCES := farm workers hardware_profiles tests $(wildcard benchmarks demo)
MYPY_SOURCES := farm workers hardware_profiles $(wildcard benchmarks demo)
export ORT_DISABLE_TELEMETRY := 1
export TORCH_FORCE_WEIGHTS_ONLY_LOAD := 1
.DEFAULT_GOAL := help
.PHONY: help setup main environments test test-unit test-slow lint format demo demo-stop bench bench-quality arm-root matrix locks clean

help: ## list these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: main environments ## install the farm into .venv and every stage environment into .envs, from their locks

main: $(BIN)/uv-$(UV_VERSION)
	@$(BIN)/python -m workers.environments own

environments: main ## install the stage environments that are missing or of another lock
	@$(BIN)/python -m workers.environments install

$(BIN)/uv-$(UV_VERSION):
	@command -v $(PYTHON) >/dev/null || { \
	  echo "There is no $(PYTHON) here. Install Python 3.11 (Debian 12: apt install python3.11 python3.11-venv)," \
	       "or name another one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
	  echo "$(PYTHON) is not Python 3.11, which the locks are made for." >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) has no venv module. Debian 12: apt install python3.11-venv" >&2; exit 2; }
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps uv==$(UV_VERSION)
	@touch $@

test: setup lint ## set up, check, and run all tests but those of the slow tier
	$(BIN)/python -m pytest -q -n 2 --dist loadfile tests/unit tests/contract
	$(BIN)/python -m pytest -q -n 2 --dist loadfile tests/integration
	$(BIN)/python -m pytest -q tests/acceptance

test-unit: main ## run the unit tests: no services, no toolchains
	$(BIN)/python -m pytest -q tests/unit

test-slow: setup ## run the tests that take too long for every change
	$(BIN)/python -m pytest -q -m slow

lint: main ## check format, style and types
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy $(MYPY_SOURCES)

format: main ## format, and mend what can be mended
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

demo: setup ## convert and measure three real models on a farm of this machine; leaves it up
	@$(BIN)/python -m demo

demo-stop: ## stop the farm that `make demo` left up
	@$(BIN)/python -m demo stop

bench: setup ## measure the farm against its limits; writes build/bench.json
	@$(BIN)/python -m benchmarks

bench-quality: setup ## the answer beside every recipe, Olive and a hand's best; writes build/quality.json
	@$(BIN)/python -m workers.environments install olive
	@$(BIN)/python -m benchmarks quality

arm-root: main ## make the aarch64 root that an emulated worker runs in (as root; build/roots/aarch64)
	@$(BIN)/python -m workers.environments root build/roots/aarch64

matrix: setup ## run every source format to every artifact format and recipe; writes docs/matrix.md
	@$(BIN)/python -m tests.matrix

locks: main ## make every lock anew from workers/environments/*.in
	@$(BIN)/python -m workers.environments lock

clean: ## remove the environments and what tests leave (.farm stays)
	rm -rf .venv .envs build .mypy_cache .pytest_cache .ruff_cache .hypothesis
