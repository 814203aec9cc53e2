"""Shared by the tests and the examples of docstrings."""

import importlib.util
import os
import sys

import pytest

os.environ.setdefault("MPLBACKEND", "agg")

# What the examples in the docstrings of a module need beside the package's own requirements.
NEEDED_BY_EXAMPLES = {"skae.onnx": "onnx", "skae.plotting": "matplotlib"}


def pytest_collection_modifyitems(items):
    for item in items:
        if isinstance(item, pytest.DoctestItem):
            module = item.dtest.globs["__name__"]
            package = NEEDED_BY_EXAMPLES.get(module)
            if package is not None and importlib.util.find_spec(package) is None:
                item.add_marker(pytest.mark.skip(reason=f"{package} is not installed"))


@pytest.fixture(autouse=True)
def _figures_are_closed():
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
