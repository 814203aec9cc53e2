# Each target makes what it needs: a virtual environment in .venv with the versions of
# constraints.txt. PYTHON names the interpreter to make it from, 3.11 or later.
PYTHON ?= python3
BIN := .venv/bin
# What is compiled is what is imported, when it first is: a small part of torch.
PIP := -m pip install --quiet --disable-pip-version-check --no-compile
INSTALL := PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(BIN)/python $(PIP)
# The networks of the tests are too small for two threads, so two processes have one each.
ONE_THREAD := OMP_NUM_THREADS=1

.PHONY: demo docs test test-min test-latest test-bare lint format quality recipe unseen crossfit penalties loop calls cores memory impute sparse hostile stream textbook real clean

demo: .venv/demo ## the digits, with PCA beside
	$(BIN)/python examples/quickstart.py

docs: .venv/docs ## the documentation with the gallery, in docs/_build/html; warnings are errors
	$(ONE_THREAD) $(BIN)/python -m sphinx -q -W --keep-going -n docs docs/_build/html

# Tracing makes tests of small fits take 1.7 times as long. These fit the most, and reach hardly a
# branch that others do not.
UNTRACED := $(patsubst %,tests/test_%.py,autoencoder common docs ecosystem folds memory objective \
	partial_fit readme torch)

test: .venv/test ## the whole suite, of which the traced tests must reach 95 % of the branches
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 -q $(UNTRACED)
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 -q $(addprefix --ignore ,$(UNTRACED)) --cov --cov-report=
	$(BIN)/python -m coverage report --show-missing --skip-covered
	@$(BIN)/python -m coverage json --quiet -o - | $(BIN)/python -c "import json, sys; \
		share = json.load(sys.stdin)['totals']['percent_branches_covered']; \
		print(f'{share:.1f} % of the branches are tested.'); \
		assert share >= 95, 'They must be 95 %.'"

# Of torch, and of what nothing but torch computes, the versions are those of make test; what the
# documentation shows is of these too.
OF_TORCH := $(patsubst %,tests/test_%.py,axes backpropagation batches capture corruptions docs \
	losses memory modules objective penalties soap)

test-min: .venv-min/test ## the suite on the oldest supported versions
	$(ONE_THREAD) .venv-min/bin/python -m pytest -n 2 -q -rs $(addprefix --ignore ,$(OF_TORCH))

# Prints the versions of all that is required, by the project or by its tests.
VERSIONS := -c "import importlib.metadata as m, re; \
	names = {re.split(r'[^\w.-]', r)[0] for r in m.requires('skae') if 'docs' not in r}; \
	print(sorted((name, m.version(name)) for name in names))"

test-latest: .venv/test .venv-latest/bin/python ## the suite on the newest versions, but for torch
	grep '^torch==' constraints.txt > .venv-latest/constraints.txt
	PIP_CONSTRAINT=$(CURDIR)/.venv-latest/constraints.txt .venv-latest/bin/python $(PIP) \
		--upgrade --upgrade-strategy=eager --editable ".[test]"
	@if [ "$$($(BIN)/python $(VERSIONS))" = "$$(.venv-latest/bin/python $(VERSIONS))" ]; then \
		echo "Nothing that is required is newer than in constraints.txt: make test is the same."; \
	else \
		$(ONE_THREAD) .venv-latest/bin/python -m pytest -n 2 -q -rs; \
	fi

# Of the tests, those of what works without a package that some of them need; not files of which
# a few tests need one to go with.
GOES_WITH := $(patsubst %,tests/test_%.py,docs ecosystem missing)

test-bare: .venv-bare/test ## the tests of optional packages, without these
	$(ONE_THREAD) .venv-bare/bin/python -m pytest -n 2 -q -rs skae tests/test_public_api.py \
		$(filter-out $(GOES_WITH),$(shell grep -l importorskip tests/*.py))

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

unseen: .venv/test ## the same on data sets by which no default was chosen
	$(ONE_THREAD) $(BIN)/python benchmarks/unseen.py

crossfit: .venv/test ## small tables judged in folds, and by a hold-out
	$(ONE_THREAD) $(BIN)/python benchmarks/crossfit.py

penalties: .venv/test ## what a training step costs with each variant
	$(ONE_THREAD) $(BIN)/python benchmarks/penalties.py

loop: .venv/test ## a training step against a hand-written loop
	$(BIN)/python benchmarks/loop.py

calls: .venv/test ## what a call costs on few rows, beside PCA
	$(ONE_THREAD) $(BIN)/python benchmarks/calls.py

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

real: .venv/real ## quality on 550 real tables, beside PCA and two other autoencoders
	$(ONE_THREAD) $(BIN)/python benchmarks/real.py

clean:
	rm -rf .venv .venv-* .pytest_cache .ruff_cache .coverage output \
		docs/_build docs/auto_examples docs/generated

.venv/bin/python .venv-min/bin/python .venv-latest/bin/python .venv-bare/bin/python:
	$(PYTHON) -c "import sys; assert sys.version_info >= (3, 11), 'Python 3.11 or later is needed'"
	$(PYTHON) -m venv $(@:/bin/python=)

.venv/demo: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) --editable ".[plot]"
	touch $@

.venv/docs: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) --editable ".[docs]"
	touch $@

.venv/test: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) --editable ".[test]"
	touch $@

# array-api-compat: later versions of scikit-learn have one of their own.
.venv-min/test: .venv-min/bin/python pyproject.toml constraints-min.txt
	PIP_CONSTRAINT=$(CURDIR)/constraints-min.txt .venv-min/bin/python $(PIP) \
		--editable ".[test]" array-api-compat
	touch $@

.venv-bare/test: .venv-bare/bin/python pyproject.toml constraints.txt
	PIP_CONSTRAINT=$(CURDIR)/constraints.txt .venv-bare/bin/python $(PIP) \
		--editable . numpydoc pytest pytest-xdist
	touch $@

.venv/textbook: .venv/bin/python pyproject.toml constraints.txt benchmarks/requirements-textbook.txt
	$(INSTALL) --editable . --requirement benchmarks/requirements-textbook.txt
	touch $@

.venv/real: .venv/bin/python pyproject.toml constraints.txt benchmarks/requirements-real.txt
	$(INSTALL) --editable . --requirement benchmarks/requirements-real.txt
	touch $@
