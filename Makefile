# Every target works as the first command on a machine with Linux, make and Python 3.8 or newer. If that is not Python 3.11
# or 3.12, which mindjobs needs, uv looks for one of those or downloads it.
PYTHON  ?= $(shell for python in python3.11 python3.12 python3 python; do \
  $$python -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null && echo $$python && break; done)
VENV    := .venv
BIN     := $(VENV)/bin
RUN     := $(VENV)/.run-installed
DEV     := $(VENV)/.dev-installed
BASELINES := .venv-baselines
DATASETS := .venv-datasets
INSTALL  = $(or $(PYTHON),$(error mindjobs needs Python: install Python 3.11 or 3.12)) -m shared.installer
# Only from the main index: an extra index that has only some files of a version would keep the others out of the locks.
COMPILE  = UV_INDEX= UV_FIND_LINKS= $(INSTALL) uv pip compile --quiet --generate-hashes --only-binary :all: \
  --no-emit-index-url --no-header --no-annotate $(ARGS)

# The oldest systems for which all packages have wheels, by their version of glibc; OpenVINO needs the newer one.
PLATFORMS := x86_64-manylinux_2_28 aarch64-manylinux_2_35
# The packages are resolved with their dependencies, and nothing is installed.
RESOLVE  = UV_INDEX= UV_FIND_LINKS= $(INSTALL) uv pip install --dry-run --quiet --require-hashes --only-binary :all: \
  --target .uv/nothing

.PHONY: help up check quick test test-long lint tables bench soak faults screenshots lock check-locks clean
.DEFAULT_GOAL := help

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The first start keeps compiled modules even if Python is configured not to; otherwise every process of every start
# would compile what it imports again: 57 s of processor time instead of 20 s.
# If make is killed, the kernel kills the process that make has started, and with it the instance.
up: $(RUN) ## Set up what is missing and run everything in the foreground
	@exec env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m shared.instance.up --parent $$PPID

check: $(DEV) ## Lint, and run the tests that need no server, framework or browser: seconds
	@$(MAKE) --no-print-directory -j2 lint quick

# Loading these plugins would take a quarter of the time, and no quick test uses them.
quick: $(DEV)
	@$(BIN)/python -m pytest -q -m quick -p no:schemathesis -p no:hypothesispytest -p no:anyio tests/unit $(ARGS)

test: $(DEV) ## Run the suite, on SQLite and on PostgreSQL, with a real Redis
	@$(BIN)/python -m pytest -m "not long" $(ARGS)

test-long: $(DEV) ## Run the rest of the references on every backend, a small soak, and a small campaign of faults
	@$(BIN)/python -m pytest -m long $(ARGS)
	@$(BIN)/python -m tests.soak --jobs 40
	@$(BIN)/python -m tests.faults --small

lint: $(DEV) ## Check format, style, types and the layers' contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/mypy

tables: $(DEV) $(DATASETS)/.installed ## Compare the scores of real tables with those of scikit-learn, into docs/tables.md
	@$(BIN)/python -m tests.real_tables $(DATASETS)/bin/python $(ARGS)

bench: $(DEV) ## Measure speed and memory, compared with baselines; needs a clean tree (ONLY=knn, jobs, web or musicgen for a part)
	@$(BIN)/python -m tests.bench $(ONLY)

# The baselines have an environment of their own; MINDJOBS_BENCH_BASELINE_PYTHON names another interpreter for them.
ifeq ($(filter jobs web,$(ONLY))$(MINDJOBS_BENCH_BASELINE_PYTHON),)
bench: $(BASELINES)/.installed
endif

soak: $(DEV) ## Run 500 mixed jobs with random cancels and kills, and see that nothing is lost
	@$(BIN)/python -m tests.soak $(ARGS)

faults: $(DEV) ## Run 10,000 jobs under 200 faults, in parts of 30 minutes; needs a clean tree, and root for some faults
	@$(BIN)/python -m tests.faults $(ARGS)

screenshots: $(DEV) ## Take pictures of every page into docs/screenshots, light and dark, desktop and phone
	@$(BIN)/python -m tests.browser.screenshots

lock: ## Resolve the dependencies again into the lock files (ARGS=--upgrade for newer versions)
	@for group in dev run web worker; do \
	  $(COMPILE) pyproject.toml --group $$group --universal --python-version 3.11 \
	    $$( [ $$group = dev ] || echo -c dev.lock ) -o $$group.lock > /dev/null || exit 1; \
	done
	@echo uv | $(COMPILE) - --python-version 3.8 -o shared/installer/bootstrap.lock > /dev/null
	@$(MAKE) --no-print-directory check-locks

check-locks: ## Check that each lock file is complete and that all its packages have wheels, for every Python and machine
	@for lock in dev run web worker; do for platform in $(PLATFORMS); do for python in 3.11 3.12; do \
	  $(RESOLVE) --python-platform $$platform --python-version $$python --requirement $$lock.lock || exit 1; \
	  echo "$$lock.lock can be installed on $$platform with Python $$python"; \
	done; done; done

clean: ## Remove the environments and the state folder
	rm -rf $(VENV) $(BASELINES) $(DATASETS) .uv var

# The stamps are written last, so that an interrupted installation continues at the next start. dev.lock contains all of
# run.lock: an environment with the packages of the tests keeps them.
$(RUN): run.lock
	@$(INSTALL) environment $(VENV) $(if $(wildcard $(DEV)),dev,run).lock
	@touch $@

$(DEV): dev.lock
	@$(INSTALL) environment --compile $(VENV) $<
	@touch $(RUN) $@

$(DATASETS)/.installed: tests/real_tables/packages.txt
	@$(INSTALL) environment $(DATASETS) $<
	@touch $@

# PyTorch's build for the CPU is enough, and gigabytes smaller: pip's settings (PIP_EXTRA_INDEX_URL) can name its index.
$(BASELINES)/.installed: tests/bench/baselines.txt
	@$(INSTALL) environment $(BASELINES) $<
	@touch $@
