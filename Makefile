# make demo     install into .venv and run the example pipeline
# make test     install into .venv and run everything that CI runs, in parallel: WORKERS=0 for one process
# make test-backendai  the tests against real Backend.AI managers: 23.09, and 26.8 where there is a Python 3.13
# make test-container  the tests against a real container engine: Podman, or TRACKBOOK_CONTAINER=docker
# make check    format, lint, types and import directions, in seconds
# make bench    workloads W1-W5 beside their floors (PEERS=DIR adds rivals)

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# One worker more than cores: a third of the time is waited for others. Groups stay together (tests/conftest.py).
WORKERS ?= $(shell expr $$(nproc) + 1)
PARALLEL = $(if $(filter-out 0,$(WORKERS)),-n $(WORKERS) --dist loadgroup --no-loadscope-reorder)

# Each of the some thousand processes of a run would compile the whole of Trackbook again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo test test-backendai test-container check bench lock clean

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml tools/install.sh
	@sh tools/install.sh $(VENV)
	@touch $@

demo: install
	@$(BIN)/trackbook run examples/demo.yaml --data .demo

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: check
	$(BIN)/pytest $(PARALLEL) $(PYTEST)

# Boots them (tests/backendai/stack): needs root, and installs PostgreSQL, Redis and etcd with apt-get. The "?": may be missing.
test-backendai: install
	TRACKBOOK_BACKENDAI="$${TRACKBOOK_BACKENDAI:-23.09,26.8?}" $(BIN)/pytest tests/backendai $(PARALLEL) $(PYTEST)

# Boots it (tests/container/engine.py): needs root, and installs it with apt-get. TRACKBOOK_CONTAINER_SOCKET names one that runs.
test-container: install
	TRACKBOOK_CONTAINER="$${TRACKBOOK_CONTAINER:-podman}" $(BIN)/pytest -m container $(PYTEST)

bench: install
	$(BIN)/python -m bench $(if $(PEERS),--peers $(PEERS)) $(BENCH)

# Needs uv; run after a change of the dependencies in pyproject.toml.
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --group dev --no-header \
	  --no-emit-find-links --upgrade pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) .demo .stack .mypy_cache .ruff_cache .pytest_cache .hypothesis
