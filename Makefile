# Needs python3 (3.11 or newer, with venv) and make, nothing else. `make help` lists the targets.
PYTHON ?= python3
BIN := .venv/bin
# Processes that test side by side: more than two cores, since tests wait for half of their time.
PROCESSES ?= 4
IMAGE ?= carafe:dev
# By another name than MAKE, whose lines a dry run would run.
MAKE_LINT := $(MAKE)

# Each of hundreds of processes would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help dev test servers test-cluster lint docs screenshots bench chaos soak image deploy release lock clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

dev: .venv/dev-stamp ## Web :8080, dashboard, worker, Postgres and Valkey, until Ctrl-C (ARGS= goes to it, such as --reload)
	@$(BIN)/carafe dev $(ARGS)

test: .venv/stamp ## Every test, against real Postgres and Valkey, and lint beside them (ARGS= goes to pytest)
	@.ci/prometheus
	@.ci/chromium $(BIN)/python
	@# In a clean clone every process would compile all tests; so one does before.
	@{ said=$$(nice $(MAKE_LINT) --no-print-directory lint 2>&1) || { echo "$$said"; false; }; } & lint=$$!; \
	[ -d tests/__pycache__ ] || $(BIN)/python -m pytest --collect-only -q >/dev/null; \
	$(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder $(ARGS); tests=$$?; \
	wait $$lint || { echo "make lint failed: its words are above" >&2; exit 1; }; \
	exit $$tests

servers: .venv/stamp ## A Postgres and a Valkey for single tests to run on, until Ctrl-C (CONTRIBUTING.md)
	@$(BIN)/python -m tests.servers

test-cluster: .venv/stamp ## The product on the cluster of KUBECONFIG: everything that can happen to it there (ARGS= goes to pytest)
	@$(BIN)/python -m pytest -m cluster tests/cluster $(ARGS)

lint: .venv/stamp ## Ruff, formatting, strict types, import contracts, spelling and the word list
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@git ls-files -z | xargs -0 $(BIN)/codespell
	@$(BIN)/python .ci/words.py

docs: .venv/stamp ## The documentation as a site, in site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

screenshots: .venv/stamp ## Pictures of the dashboard's pages, in docs/screenshots/ (ONLY= names pages): look at them
	@.ci/chromium $(BIN)/python
	@$(BIN)/python -m tests.browser.screenshots $(ONLY)

bench: .venv/stamp ## Benchmarks against plain Celery and others; ONLY=drain runs a part (ARGS= goes to it)
	@$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY)) $(ARGS)

chaos: .venv/stamp ## Break everything at random for MINUTES (10): nothing may be spilled; SEED= repeats a run (ARGS= goes to it)
	@$(BIN)/python -m chaos --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED)) $(ARGS)

soak: .venv/stamp ## A steady load for MINUTES (30): nothing may grow, no memory, files, threads, connections, keys (ARGS= goes to it)
	@$(BIN)/python -m chaos.soak --minutes $(or $(MINUTES),30) $(ARGS)

image: ## The image carafe:dev, or IMAGE=; LOAD= is a command that gives it to the cluster, such as "kind load docker-image"
	docker build --tag $(IMAGE) --build-arg REVISION=$(shell git rev-parse --short HEAD 2>/dev/null) .
	$(if $(LOAD),$(LOAD) $(IMAGE))

deploy: ## Onto the cluster of KUBECONFIG: OVERLAY=dev or production, then KEDA's part once Redis is ready (docs/deploy.md)
	@deploy/apply $(or $(OVERLAY),dev)

release: .venv/stamp ## Wheel and source distribution in dist/, where all that names the version agrees (VERSION= to compare)
	@.ci/release $(BIN)/python $(VERSION)

# Each lock has the versions of the first, and no address of an index.
LOCK := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	--custom-compile-command "make lock" --quiet

lock: .venv/stamp ## Resolve the dependencies again
	@$(BIN)/uv pip compile pyproject.toml --extra dev --group install $(LOCK) --upgrade -o requirements.lock
	@$(BIN)/uv pip compile pyproject.toml --extra embedded --extra reload --group install $(LOCK) --constraint requirements.lock \
		-o requirements-embedded.lock
	@$(BIN)/uv pip compile pyproject.toml --extra kubernetes --extra tracing $(LOCK) --constraint requirements.lock \
		-o requirements-runtime.lock

clean: ## Remove the environment, caches and builds; the data in .carafe stays
	rm -rf .venv site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Two installs into one environment: what the processes run on, so that `make dev` starts soon, and on top of it the tools of
# tests, docs and lint. It is made from nothing when a lock has changed, so that nothing of an older one stays behind.
.venv/dev-stamp: requirements-embedded.lock pyproject.toml
	@.ci/install $(PYTHON) requirements-embedded.lock --new
	@touch $@

.venv/stamp: requirements.lock .venv/dev-stamp
	@.ci/install $(PYTHON) requirements.lock $$([ ! -e $@ ] || echo --new)
	@$(BIN)/python -c 'import pip' 2>/dev/null || $(BIN)/python -m ensurepip --default-pip >/dev/null
	@touch .venv/dev-stamp $@
