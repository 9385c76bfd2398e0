# Needs python3 (3.11 or newer, with venv) and make, nothing else. `make help` lists the targets.
PYTHON ?= python3
BIN := .venv/bin
IMAGE ?= carafe:dev

.DEFAULT_GOAL := help
.PHONY: help dev test test-cluster lint docs screenshots bench chaos soak image deploy lock clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

dev: .venv/stamp ## Web :8080, dashboard, worker, Postgres and Valkey, all in one process; Ctrl-C stops everything
	@$(BIN)/carafe dev

test: lint ## Lint, then every test, against real Postgres and Valkey (ARGS= goes to pytest)
	@.ci/prometheus
	@.ci/chromium $(BIN)/python
	@$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder $(ARGS)

test-cluster: .venv/stamp ## The product on the cluster of KUBECONFIG: everything that can happen to it there (ARGS= goes to pytest)
	@$(BIN)/python -m pytest -m cluster tests/cluster $(ARGS)

lint: .venv/stamp ## Ruff, formatting, strict types, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

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

lock: ## Resolve the dependencies anew (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --custom-compile-command "make lock" \
		--upgrade --quiet -o requirements.lock
	uv pip compile pyproject.toml --extra kubernetes --extra tracing --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --custom-compile-command "make lock" \
		--constraint requirements.lock --quiet -o requirements-runtime.lock

clean: ## Remove the environment, caches and builds; the data in .carafe stays
	rm -rf .venv site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment, made anew whenever the lock changes, so that nothing of an older one stays behind.
.venv/stamp: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "carafe needs Python 3.11 or newer and '$(PYTHON)' is not: make PYTHON=/path/to/python3.11 …" >&2; exit 1; }
	@$(PYTHON) -m venv --clear .venv || \
		{ echo "python3 cannot make a virtual environment here; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing into .venv …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
