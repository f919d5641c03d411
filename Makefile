# The two commands: `make quickstart` and `make test`. Each sets up what it needs.
# Where the default torch is a GPU build of several gigabytes, install the CPU build first
# (`make venv`, then `.venv/bin/pip install torch==2.13.0 …` as pytorch.org says).

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP = $(BIN)/pip install --quiet --disable-pip-version-check
OUT ?= out/quickstart
# A file at a time to each process: what its tests share is made once.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# As many processes as processors: threads of torch on top of that make everything slower.
export OMP_NUM_THREADS ?= 1
# The tests start hundreds of processes: what one of them compiled serves the others.
unexport PYTHONDONTWRITEBYTECODE

# Tools that look at the project from outside, and those of the manual, in environments of their own.
TOOLS := .venv-tools

DOCS := .venv-docs

.PHONY: quickstart test fast venv setup lint format type pytest test-all fuzz native wheel bundle \
    bench docs lock audit clean

quickstart: setup
	$(BIN)/python scripts/quickstart.py --out $(OUT)

# Types are checked beside the tests: that takes one processor for a minute.
test: setup lint
	$(MAKE) --no-print-directory -j2 type pytest

venv: $(BIN)/python

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

setup: $(VENV)/.installed

# torch first and pinned, so that no other package chooses its build; then the lock, to the hash of
# each file; then the project itself.
$(VENV)/.installed: pyproject.toml requirements.lock tools/js/package-lock.json | $(BIN)/python
	$(PIP) torch==2.13.0
	$(PIP) --no-deps --require-hashes -r requirements.lock
	$(PIP) --no-deps --no-build-isolation -e .
	$(BIN)/python scripts/install_litertjs.py
	$(BIN)/python scripts/check_js.py --install
	touch $@

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python scripts/check_js.py

format:
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

type:
	$(BIN)/mypy

# The tests of a few minutes' work: all but those marked slow.
fast: setup
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL)

pytest:
	PANOKIT_INSTALL_TESTS=1 $(BIN)/python -m pytest $(PARALLEL)

# The tests with every kind of network, layer and build, not some of them; half an hour and more.
test-all: setup
	PANOKIT_ALL_KINDS=1 PANOKIT_INSTALL_TESTS=1 $(BIN)/python -m pytest $(PARALLEL)

# The fuzzers' long rounds: hostile files, kills, crowds; the tests run a short round of each.
fuzz: setup
	PANOKIT_FUZZ=1 $(BIN)/python -m pytest tests/fuzz tests/validation/test_history.py $(PARALLEL)

# Build the native core with every compiler that is there, and prove each build by the vectors.
native: setup
	$(BIN)/python scripts/native.py
	$(BIN)/python scripts/native_kotlin.py
	$(BIN)/python scripts/native_swift.py

# Build the sdist and the wheel into dist/, check them, and try the wheel in a fresh environment.
wheel: setup
	$(BIN)/python scripts/check_wheel.py --out dist

# Rebuild the bundle that ships inside the SDK from the committed weights.
bundle: setup
	$(BIN)/python scripts/build_shipped_bundle.py

bench: setup
	$(BIN)/python -m benchmarks

# The manual, into out/site: a broken link or reference fails it.
docs: $(DOCS)/.installed
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --quiet
	@echo "the manual: out/site/index.html"

$(DOCS)/.installed: requirements-docs.lock
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	touch $@

# Choose versions anew and write the locks and sbom.cdx.json.
lock: $(TOOLS)/.installed
	$(TOOLS)/bin/python scripts/lock.py

# Known holes in what the lock installs, by the advisories of PyPI.
audit: $(TOOLS)/.installed
	$(TOOLS)/bin/pip-audit --strict --disable-pip --require-hashes --requirement requirements.lock

$(TOOLS)/.installed: Makefile
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet --disable-pip-version-check \
	    uv==0.13.9 cyclonedx-bom==7.5.0 pip-audit==2.10.1
	touch $@

clean:
	rm -rf $(VENV) out dist tools/js/node_modules .mypy_cache .ruff_cache .pytest_cache
