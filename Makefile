# Everything a contributor runs; `.ci/run` runs the same targets.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Two workers a core: tests wait for a lease, a restart, another process for three fifths of their time.
WORKERS ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1))))
TESTS ?= tests

.PHONY: help install lint types test test-fast bench soak verify format lock clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## make a virtual environment with everything pinned

$(INSTALLED): pyproject.toml .ci/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r .ci/requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

lint: $(INSTALLED) ## style, common mistakes, layer contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(INSTALLED) ## strict types
	$(BIN)/mypy

# Tests start interpreters by the hundred: each module is compiled once, also where PYTHONDONTWRITEBYTECODE
# is set, and what comes of it goes with the environment.
test: export PYTHONDONTWRITEBYTECODE =
test: export PYTHONPYCACHEPREFIX = $(abspath $(VENV))/bytecode

test: $(INSTALLED) ## install, then all tests on real servers
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(TESTS)

test-fast: $(INSTALLED) ## the pure tests, in seconds
	$(BIN)/python -m pytest -q tests/unit tests/property tests/architecture

bench: $(INSTALLED) ## the measurements behind the figures in the documents
	$(BIN)/python -m tests.benchmarks.topology_10k
	$(BIN)/python -m tests.benchmarks.delivery
	$(BIN)/python -m tests.benchmarks.starting
	$(BIN)/python -m tests.benchmarks.requests
	$(BIN)/python -m tests.benchmarks.latency
	$(BIN)/python -m tests.benchmarks.crowd
	$(BIN)/python -m tests.benchmarks.sizes
	@if $(BIN)/python -c 'import leanmq' 2>/dev/null; then $(BIN)/python -m tests.benchmarks.against_leanmq; \
	else echo "left out: tests.benchmarks.against_leanmq needs leanmq 0.2.0 beside this package, in an environment of its own"; fi

soak: $(INSTALLED) ## all faults at length, 20 to 30 minutes; the table of docs/reliability.md
	$(BIN)/python -m tests.faults.report --long --write

verify: lint types test ## what CI runs

format: $(INSTALLED) ## rewrite the code in house style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: ## pin the dependencies anew (needs uv on PATH)
	uv export --quiet --all-extras --group dev --no-emit-project --no-header --no-annotate -o .ci/requirements.txt
	@rm -f uv.lock
	@sed -i '1i # Every dependency of the package, its extras and its tests, pinned by hash. Made by `make lock`.' .ci/requirements.txt

clean: ## remove what the targets made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
