# make demo: install and run the main job on simulated machines.  make test: install and run the tests but the slow ones.
# make docs: build the documentation into site/.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
DOCS_INSTALLED := $(VENV)/docs-installed

.PHONY: demo test test-slow check docs docs-serve pictures clean

demo: $(INSTALLED)
	$(BIN)/asd demo

test: $(INSTALLED)
	$(BIN)/python -m pytest -m "not slow" --numprocesses auto --dist loadfile --no-loadscope-reorder

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow --numprocesses auto --dist loadfile --no-loadscope-reorder \
		|| test $$? -eq 5 # no test is marked so slow

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# Strict: a link to something that is not there is an error. The variable silences an advertisement of the theme.
docs: $(DOCS_INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: $(DOCS_INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --dev-addr 127.0.0.1:8000

$(DOCS_INSTALLED): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,docs]'
	touch $@

# The pictures of the README and the docs: those that the demo has just made.
pictures: demo
	mkdir -p docs/pictures
	latest=$$(ls -td .asd/demo/runs/evaluations/*/ | head -1); \
	for name in caught scores roc; do cp "$$latest$$name.png" docs/pictures/; done
	$(BIN)/asd score --explain --home .asd/demo .asd/demo/simulated/simValve/test/section_00_source_test_anomaly_0004_*.wav \
		|| test $$? -eq 4  # suspect: 60 recordings support no verdict at 1 %
	latest=$$(ls -td .asd/demo/scores/score-*/ | head -1); cp "$$latest"01-*.png docs/pictures/explanation.png

# constraints.txt pins the whole set that is known to work together; pyproject.toml says what is needed.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "asd needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "this Python can make no virtual environment; on Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .asd site
