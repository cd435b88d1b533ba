# Everything a person runs. The first run sets up .venv; later runs find it ready.
#
#   make demo        compile the shipped network, simulate it in RTL, check every bit
#   make test        lint and the test suite
#   make test-slow   the long tests: hundreds of random networks, every file flipped
#   make bench       measure, write benchmarks/results/*.json and the figures in README.md
#   make ablation    the papers' claims on digits; goes on where it was stopped (docs/ablations.md)
#   make clean       remove what was built (not .venv); make distclean removes that too
#
# PIP_ARGS goes to pip; a smaller torch on Linux without a GPU:
#   make demo PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PIP_ARGS ?=
PYTEST_ARGS ?=
JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet $(PIP_ARGS)

.PHONY: demo test test-slow lint bench ablation clean distclean

demo: $(VENV)/demo.stamp
	$(BIN)/bivit demo

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not slow" $(PYTEST_ARGS)

test-slow: $(VENV)/test.stamp
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m slow $(PYTEST_ARGS)

lint: $(VENV)/test.stamp
	$(BIN)/ruff check .

bench: $(VENV)/test.stamp
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/readme.py

ablation: $(VENV)/test.stamp
	$(BIN)/python benchmarks/ablation.py --jobs $(JOBS)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "bivit needs Python 3.11 or later; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: pyproject.toml | $(VENV)/bin/python
	$(PIP) -e '.[train]'
	@touch $@

$(VENV)/test.stamp: pyproject.toml | $(VENV)/bin/python
	$(PIP) -e '.[test]'
	$(PIP) --no-deps 'timm>=1.0.20,<1.1'  # its definitions only: torchvision would bring GPU libraries
	@touch $@ $(VENV)/demo.stamp

clean:
	rm -rf build dist .cache .pytest_cache .hypothesis .ruff_cache
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) bivit.egg-info
