# Everything runs in .venv, which each target sets up by itself. `make` alone lists the targets.
# PYTHON=python3.12 make lab    chooses the Python that .venv is made with
# make lab LAB="--port 9000"    hands options to JupyterLab
# make seeds OFFSETS=20 NB=notebooks/03_eigenvalues_and_explosion.ipynb    other draws, one notebook
# make lab FOLDER=notebooks     opens the chapters as they are stored, for those who edit them
# make notebooks NB=notebooks/01_gradient_descent.ipynb    stores one notebook only

unexport PYTHONHOME
unexport PYTHONPATH
export PIP_USER := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

PY := .venv/bin/python
SOURCES := pyproject.toml constraints.txt

# Folder that .venv was made in, empty where its Python does not run: a moved folder and a Python
# that was removed both set it up again.
HOME_OF_VENV := $(shell $(PY) -c "import os; os.write(1, open('.venv/.folder', 'rb').read())" 2>/dev/null)
ifneq ($(HOME_OF_VENV),$(CURDIR))
  SOURCES += again
endif

.PHONY: help lab test test-gpu types test-browser notebooks minutes seeds bench again
.DEFAULT_GOAL := help

help:
	@echo "make lab           open your own copy of the course, workbook/, in JupyterLab"
	@echo "make test          unit tests, docstring examples, every notebook, types, lint"
	@echo "make types         the types of the package, by mypy"
	@echo "make test-browser  every notebook in a real browser (needs Chromium)"
	@echo "make test-gpu      the course and the recorder on a GPU, without a network"
	@echo "make notebooks     run every notebook and store its outputs"
	@echo "make minutes       count how long the chapters take, and write it where it is said"
	@echo "make seeds         do the claims hold for other random numbers?"
	@echo "make bench         measure speed against the floors the course promises"
	@echo "make help          this list"
	@echo "Each one makes .venv and installs into it when that is not done yet."

lab: .venv/.installed-lab
	@FOLDER="$(FOLDER)" sh tools/lab.sh $(LAB)

test: export OMP_NUM_THREADS := 1
test: .venv/.installed-test
	$(PY) -m pytest -n 2 --dist loadscope --no-loadscope-reorder --cov --cov-report=term
	$(PY) -m mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: .venv/.installed-test
	$(PY) -m mypy

test-browser: export OMP_NUM_THREADS := 1
test-browser: .venv/.installed-test
	$(PY) -m pytest tests/browser

# Without .venv: on a machine with a GPU the torch that is there is the one to test.
test-gpu:
	@PYTHON="$(PYTHON)" sh tools/test_gpu.sh

notebooks: .venv/.installed-test
	$(PY) tools/store_notebooks.py $(NB)
	$(PY) tools/write_chapter_table.py

minutes: .venv/.installed-test
	$(PY) tools/count_minutes.py --write

seeds: .venv/.installed-test
	$(PY) tools/seeds.py $(if $(OFFSETS),--offsets $(OFFSETS)) $(NB)

bench: .venv/.installed-test
	$(PY) -m benchmarks $(BENCH)

.venv/.installed-lab: $(SOURCES)
	@sh tools/install.sh lab

.venv/.installed-test: $(SOURCES)
	@sh tools/install.sh test

again:
