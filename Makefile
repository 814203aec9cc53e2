# Each target makes what it needs: a virtual environment in .venv with the versions of
# constraints.txt. PYTHON names the interpreter to make it from, 3.11 or later.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(BIN)/python -m pip install --quiet \
	--disable-pip-version-check
# The networks of the tests are too small for two threads, so two processes have one each.
ONE_THREAD := OMP_NUM_THREADS=1

.PHONY: demo docs test lint format quality recipe crossfit penalties loop cores memory impute sparse hostile stream textbook clean

demo: .venv/demo ## the digits, with PCA beside
	$(BIN)/python examples/quickstart.py

docs: .venv/docs ## the documentation with the gallery, in docs/_build/html; warnings are errors
	$(ONE_THREAD) $(BIN)/python -m sphinx -q -W --keep-going -n docs docs/_build/html

test: .venv/test ## the whole suite
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 -q

lint: .venv/test ## what must be clean before a commit
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: .venv/test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

quality: .venv/test ## held-out R² against PCA
	$(BIN)/python benchmarks/quality.py

recipe: .venv/test ## quality and time to it, beside PCA and three other autoencoders
	$(ONE_THREAD) $(BIN)/python benchmarks/recipe.py

crossfit: .venv/test ## small tables judged in folds, and by a hold-out
	$(ONE_THREAD) $(BIN)/python benchmarks/crossfit.py

penalties: .venv/test ## what a training step costs with each variant
	$(ONE_THREAD) $(BIN)/python benchmarks/penalties.py

loop: .venv/test ## a training step against a hand-written loop
	$(BIN)/python benchmarks/loop.py

cores: .venv/test ## what a busy core costs, and what a second process gains
	$(BIN)/python benchmarks/cores.py

memory: .venv/test ## peak memory of a fit, and the throughput of mapping rows
	$(BIN)/python benchmarks/memory.py

impute: .venv/test ## missing entries filled, beside scikit-learn's imputers
	$(ONE_THREAD) $(BIN)/python benchmarks/impute.py

sparse: .venv/test ## memory and time of a sparse table of 200 000 by 20 000
	$(ONE_THREAD) $(BIN)/python benchmarks/sparse.py

stream: .venv/test ## one pass in chunks against one over the whole table
	$(ONE_THREAD) $(BIN)/python benchmarks/stream.py

hostile: .venv/test ## a thousand fits of hostile tables
	$(BIN)/python benchmarks/hostile.py

textbook: .venv/textbook ## held-out error against the same network in Keras
	$(ONE_THREAD) $(BIN)/python benchmarks/textbook.py

clean:
	rm -rf .venv .pytest_cache .ruff_cache output docs/_build docs/auto_examples docs/generated

.venv/bin/python:
	$(PYTHON) -c "import sys; assert sys.version_info >= (3, 11), 'Python 3.11 or later is needed'"
	$(PYTHON) -m venv .venv

.venv/demo: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) --editable ".[plot]"
	touch $@

.venv/docs: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) --editable ".[docs]"
	touch $@

.venv/test: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) --editable ".[test]"
	touch $@

.venv/textbook: .venv/bin/python pyproject.toml constraints.txt benchmarks/requirements-textbook.txt
	$(INSTALL) --editable . --requirement benchmarks/requirements-textbook.txt
	touch $@
