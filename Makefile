# make demo: install and run the main job on simulated machines.  make test: install and run the tests but the slow ones.
# make docs: build the documentation into site/.  make fuzz: ten minutes of odd names, folders and files.
# make audit: bandit on the code, and known vulnerabilities of the packages in constraints.txt.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
DOCS_INSTALLED := $(VENV)/docs-installed

AUDIT := $(VENV)/audit
FUZZ_SECONDS ?= 600

.PHONY: demo test test-slow fuzz audit check docs docs-serve pictures clean

demo: $(INSTALLED)
	$(BIN)/asd demo

test: $(INSTALLED)
	$(BIN)/python -m pytest -m "not slow" --numprocesses auto --dist loadfile --no-loadscope-reorder

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow --numprocesses auto --dist loadfile --no-loadscope-reorder \
		|| test $$? -eq 5 # no test is marked so slow

# What is found is kept in .hypothesis, and tried first the next time; what was found and mended is an @example of its test.
fuzz: $(INSTALLED)
	ASD_FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m pytest tests/fuzz --timeout 0

# In an environment of its own: the tools need packages that asd does not. pip-audit asks a vulnerability service; where
# there is none, or it knows nothing of a package, the target fails instead of passing unseen.
audit: $(AUDIT)
	$(AUDIT)/bin/bandit --quiet --recursive --configfile pyproject.toml asdcore tasks flows
	$(AUDIT)/bin/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip --progress-spinner off || \
		{ echo "audit: vulnerable packages, or no vulnerability service that knows them all; see above"; exit 1; }

$(AUDIT): pyproject.toml
	$(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet 'bandit[toml]>=1.8,<2' 'pip-audit>=2.9,<3'
	touch $@

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
