# Everything is installed into .venv. Nothing else on the machine is touched, except by
# `make browser`, which says what it installs and where.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-quick browser check lint types install install-dev requirements bench rad clean

demo: $(VENV)/.installed  ## extract regions of sample photographs and make a gallery page
	@$(BIN)/python -m vlray.demo

# Number of processes that run tests in parallel. Two keep two cores busy; each needs about 4 GB of
# memory. `make test TEST_WORKERS=0` runs all tests in one process, for a debugger.
TEST_WORKERS ?= 2

test: $(VENV)/.installed-dev  ## all tests, 18 minutes on two cores
	$(BIN)/pytest -n $(TEST_WORKERS)

test-quick: $(VENV)/.installed-dev  ## the tests without Ray, processes and large networks: two minutes on two cores
	$(BIN)/pytest -n $(TEST_WORKERS) -m quick

check: lint types test  ## run all checks of continuous integration

lint: $(VENV)/.installed-dev  ## check style, format and import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: $(VENV)/.installed-dev  ## check static types
	$(BIN)/mypy

install: $(VENV)/.installed  ## install vlray and its demo
install-dev: $(VENV)/.installed-dev  ## also install the tools for tests and checks

bench: $(VENV)/.installed-dev  ## run the benchmarks of the README
	$(BIN)/python -m tests.benchmarks

# The container images and the jobs with UV=1 install these versions.
requirements: | $(BIN)/uv  ## resolve pyproject.toml to docker/requirements.txt
	$(BIN)/uv pip compile --quiet --no-emit-index-url --no-emit-find-links --no-annotate \
	  --python-version 3.11 --python-platform x86_64-manylinux_2_28 --custom-compile-command "make requirements" \
	  --extra detectron2 --extra minilm --extra cluster pyproject.toml -o docker/requirements.txt

$(BIN)/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

# Compile bytecode at installation: otherwise each Ray process compiles torch again if the folder is
# read-only. Use uv, because pip cannot build Detectron2 without a compiler (see pyproject.toml).
$(VENV)/.installed: pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -e '.[detectron2,minilm]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -e '.[detectron2,minilm,dev]'
	@touch $@ $(VENV)/.installed

# The tests of pages need Chromium, from the PATH or from Playwright; without it, pytest skips them.
# As root on Debian, this target installs the distribution's package for the whole machine;
# otherwise it installs Playwright's build into the user's cache.
browser: $(VENV)/.installed-dev  ## install Chromium for the tests of pages, if there is none
	@command -v chromium chromium-browser google-chrome || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	  echo "installing the package chromium with apt-get, for the whole machine"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; \
	else \
	  echo "installing Playwright's chromium into this user's cache"; \
	  $(BIN)/playwright install chromium; \
	fi

# Folder of VQA-RAD, with images/, trainset.json and testset.json.
RAD ?= ../shared/fixtures/vqa_rad

rad: $(VENV)/.installed-dev  ## train and test LXMERT on VQA-RAD
	$(BIN)/python -m tests.benchmarks.rad --data $(RAD)

clean:  ## remove the installation and the demo, but no other outputs
	rm -rf $(VENV) demo
