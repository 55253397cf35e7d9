# Every target that needs .venv creates it first.
PYTHON ?= python3
RUN := .venv/bin/python
QUICKSTART := saved_models/quickstart

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

setup: .venv/installed  ## create .venv with the versions in requirements.lock

# make touches the marker last, so an interrupted installation starts again.
.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("keras_arch requires Python 3.11 to 3.13. Received: $(PYTHON), version " + sys.version.split()[0] + ". Choose another one, for example: make setup PYTHON=python3.12" if not (3, 11) <= sys.version_info[:2] <= (3, 13) else 0)'
	@echo "Installing into .venv (3 GB on disk; about two minutes) ..."
	@$(PYTHON) -m venv --clear .venv
	@PIP_CONSTRAINT=requirements.lock $(RUN) -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	@$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

mine: ; @$(PYTHON) make_mine.py "$$NAME"  ## rename the project, for example: make mine NAME=flower_app
.PHONY: mine  # make_mine.py removes this target

quickstart: .venv/installed  ## train a small ResNet on digits, export it and verify the files
	@$(RUN) scripts/train.py quickstart --output $(QUICKSTART) --overwrite
	@$(RUN) scripts/export.py $(QUICKSTART)
	@printf '\nRun saved to %s. Open %s/report.html in a browser for a summary.\n' $(QUICKSTART) $(QUICKSTART)
	@printf 'Next steps (first activate the environment: . .venv/bin/activate):\n'
	@echo "  keras-arch demo $(QUICKSTART)"
	@echo "  keras-arch predict $(QUICKSTART)/export/model_int8.tflite examples/digit.png"
	@echo "  keras-arch evaluate $(QUICKSTART)/model.keras $(QUICKSTART)/export/model_int8.tflite"
	@echo "  keras-arch train --help"

demo: .venv/installed  ## write a page that classifies digits in a browser, after make quickstart
	@test -f $(QUICKSTART)/export/export.json || $(MAKE) --no-print-directory quickstart
	@$(RUN) scripts/demo.py $(QUICKSTART)

test: .venv/installed  ## run the tests
	@$(RUN) -m pytest

slowtest: .venv/installed  ## run all tests, including those that make test skips
	@$(RUN) -m pytest -m 'slow or not slow'

check: .venv/installed  ## check lint, formatting and types
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

format: .venv/installed  ## fix lint and formatting
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

generate: .venv/installed  ## write the type stub, the tables in README.md and docs/training.md, and new goldens
	@$(RUN) docs/generate.py

docs: .venv/installed  ## build the documentation into site/; open site/index.html
	@NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

ENVIRONMENTS := jax torch predict all

package: .venv/installed  ## build the wheel and try it in new environments
	@bash .ci/package $(ENVIRONMENTS)

COMPILE := uv pip compile --universal --python-version 3.11 --upgrade --no-header --quiet
LOCK := $(COMPILE) pyproject.toml --extra dev
LOCK_BEAM := $(COMPILE) pyproject.toml --extra predict examples/beam/requirements.in

lock:  ## update requirements.lock to the newest allowed versions
	@test -x .venv/bin/uv || $(MAKE) setup
	@.venv/bin/$(LOCK) --output-file requirements.new
	@{ echo "# Written by: make lock ($(LOCK))"; cat requirements.new; } > requirements.lock
	@.venv/bin/$(LOCK_BEAM) --output-file requirements.new
	@{ echo "# Written by: make lock ($(LOCK_BEAM))"; cat requirements.new; } > examples/beam/requirements.lock
	@rm requirements.new

clean:  ## remove .venv, builds and caches, but not saved_models/
	@rm -rf .venv dist site .mypy_cache .pytest_cache .ruff_cache *.egg-info

.PHONY: help setup quickstart demo test slowtest check format generate docs package lock clean
