# `make quickstart` and `make test` each work as the first command in a fresh clone.
PYTHON ?= python3
RUN := .venv/bin/python
QUICKSTART := saved_models/quickstart

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

setup: .venv/installed  ## make .venv and install exactly what requirements.lock pins

# The marker is written last, so that an interrupted installation starts over instead of half working.
.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("keras_arch needs Python 3.11 to 3.13, and $(PYTHON) is " + sys.version.split()[0] + "; name another: make PYTHON=python3.12" if not (3, 11) <= sys.version_info[:2] <= (3, 13) else 0)'
	@echo "Installing into .venv (3 GB on disk; about two minutes) ..."
	@$(PYTHON) -m venv --clear .venv
	@PIP_CONSTRAINT=requirements.lock $(RUN) -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	@$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

quickstart: .venv/installed  ## train a small ResNet on real digits, export it, and prove that every file answers alike
	@$(RUN) scripts/train.py quickstart --output $(QUICKSTART) --overwrite
	@$(RUN) scripts/export.py $(QUICKSTART)
	@printf '\nEverything is in %s, report.html for your browser. What to type next (activate first: . .venv/bin/activate):\n' $(QUICKSTART)
	@echo "  python scripts/predict.py $(QUICKSTART)/export/model_int8.tflite examples/digit.png"
	@echo "  python scripts/evaluate.py $(QUICKSTART)/model.keras $(QUICKSTART)/export/model_int8.tflite"
	@echo "  python scripts/train.py --help"

test: .venv/installed  ## run the tests
	@$(RUN) -m pytest

slowtest: .venv/installed  ## run the tests that `make test` leaves out, too
	@$(RUN) -m pytest -m 'slow or not slow'

check: .venv/installed  ## lint, formatting and types
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

format: .venv/installed  ## rewrite the code as `make check` wants it
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

docs: .venv/installed  ## build the documentation into site/; open site/index.html
	@NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

COMPILE := uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade --no-header --quiet

lock:  ## write requirements.lock anew, with the newest versions that pyproject.toml allows
	@test -x .venv/bin/uv || $(MAKE) setup
	@.venv/bin/$(COMPILE) --output-file requirements.new
	@{ echo "# Written by: make lock ($(COMPILE))"; cat requirements.new; } > requirements.lock
	@rm requirements.new

clean:  ## remove .venv, site and caches; runs in saved_models/ stay
	@rm -rf .venv site .mypy_cache .pytest_cache .ruff_cache *.egg-info

.PHONY: help setup quickstart test slowtest check format docs lock clean
