# Every target works as the first command on a machine that has Python 3.11 and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed
BASELINES := .venv-baselines

.PHONY: help up test lint bench soak screenshots lock clean
.DEFAULT_GOAL := help

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(READY) ## Set up what is missing and run everything in the foreground
	@exec $(BIN)/python -m shared.instance.up

test: $(READY) ## Run the whole suite, on SQLite and on PostgreSQL, with a real Redis
	@$(BIN)/python -m pytest $(ARGS)

lint: $(READY) ## Check format, style, types and the layers' contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/mypy

bench: $(READY) ## Measure speed and memory, compared with baselines; needs a clean tree (ONLY=knn, jobs, web or musicgen for a part)
	@$(BIN)/python -m tests.bench $(ONLY)

# The baselines have an environment of their own; MINDJOBS_BENCH_BASELINE_PYTHON names another interpreter for them.
ifeq ($(filter jobs web,$(ONLY))$(MINDJOBS_BENCH_BASELINE_PYTHON),)
bench: $(BASELINES)/.installed
endif

soak: $(READY) ## Run 500 mixed jobs with random cancels and kills, and see that nothing is lost
	@$(BIN)/python -m tests.soak $(ARGS)

screenshots: $(READY) ## Take pictures of every page into docs/screenshots, light and dark, desktop and phone
	@$(BIN)/python -m tests.browser.screenshots

lock: $(READY) ## Resolve the dependencies anew into the lock files
	@for group in dev web worker; do \
	  $(BIN)/uv pip compile -q pyproject.toml --group $$group --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-header --no-annotate $$( [ $$group = dev ] || echo -c dev.lock ) \
	    -o $$group.lock || exit 1; \
	done

clean: ## Remove the environments and the state folder
	rm -rf $(VENV) $(BASELINES) var

# The stamp is written last: an install that was cut off starts again.
$(READY): dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
	  || { echo "mindjobs needs Python 3.11: install it, or name it with 'make PYTHON=/path/to/python3.11 …'" >&2; exit 1; }
	@echo "Setting up $(VENV) (a few minutes, once) …" >&2
	@$(PYTHON) -m venv --clear $(VENV) \
	  || { echo "This Python cannot make environments: install its venv module (Debian: apt install python3.11-venv)" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
	  --no-deps --require-hashes -r dev.lock
	@touch $@

# PyTorch's build for the CPU is enough, and gigabytes smaller: pip's own settings (PIP_INDEX_URL) can name its index.
$(BASELINES)/.installed: tests/bench/baselines.txt
	@echo "Setting up $(BASELINES) (a few minutes, once) …" >&2
	@$(PYTHON) -m venv --clear $(BASELINES)
	@$(BASELINES)/bin/python -m pip install --quiet --disable-pip-version-check --root-user-action=ignore -r $<
	@touch $@
