"""What is public, and that it is documented."""

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from numpydoc.docscrape import ClassDoc, FunctionDoc
from sphinx.ext.autosummary.generate import find_autosummary_in_files

import skae

PUBLIC_MODULES = [
    "skae",
    "skae.corruptions",
    "skae.losses",
    "skae.modules",
    "skae.onnx",
    "skae.penalties",
    "skae.plotting",
]


def public_objects():
    return [
        pytest.param(getattr(importlib.import_module(module_name), name), id=name)
        for module_name in PUBLIC_MODULES
        for name in importlib.import_module(module_name).__all__
        if inspect.isclass(getattr(importlib.import_module(module_name), name))
    ]


def test_the_door_has_one_estimator_and_a_version():
    assert skae.__all__ == ["AutoencoderTransformer"]
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", skae.__version__)


USE = """
import pickle, sys
import numpy as np
from skae import AutoencoderTransformer
X = np.random.RandomState(0).normal(size=(40, 3))
fitted = AutoencoderTransformer(2, max_iter=2, random_state=0).fit(X)
AutoencoderTransformer(2, max_iter=2, dropout=0.1, early_stopping=False).fit(X)  # by autograd
pickle.loads(pickle.dumps(fitted)).inverse_transform(fitted.transform(X))
print([name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""


def test_a_process_that_fits_and_loads_does_not_import_the_compiler():
    # ten times as long as such a fit takes
    assert subprocess.check_output([sys.executable, "-c", USE], text=True).strip() == "[]"


@pytest.mark.parametrize("module_name", PUBLIC_MODULES)
def test_all_names_exist(module_name):
    module = importlib.import_module(module_name)
    assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize("cls", public_objects())
def test_every_parameter_of_a_class_is_documented(cls):
    documented = {
        name.strip()
        for parameter in ClassDoc(cls)["Parameters"]
        for name in parameter.name.split(",")
    }
    # a constructor inherited from torch is documented there
    parameters = set(inspect.signature(cls).parameters) if "__init__" in vars(cls) else set()
    assert parameters <= documented


@pytest.mark.parametrize("cls", public_objects())
def test_every_class_has_an_example(cls):
    assert ">>>" in inspect.getdoc(cls)


def public_methods(cls):
    return [
        (name, method)
        for name, method in vars(cls).items()
        if inspect.isfunction(method) and not name.startswith("_")
    ]


@pytest.mark.parametrize(
    "method",
    [pytest.param(m, id=name) for name, m in public_methods(skae.AutoencoderTransformer)],
)
def test_every_method_documents_what_it_takes_and_returns(method):
    doc = FunctionDoc(method)
    parameters = [name for name in inspect.signature(method).parameters if name != "self"]
    assert [parameter.name for parameter in doc["Parameters"]] == parameters
    assert doc["Returns"]


def test_every_fitted_attribute_is_documented(curve):
    fitted = skae.AutoencoderTransformer(max_iter=1).fit(curve)
    documented = {attribute.name for attribute in ClassDoc(type(fitted))["Attributes"]}
    attributes = {name for name in vars(fitted) if name.endswith("_") and name[0] != "_"}
    properties = {"encoder_", "decoder_", "device_"}
    assert attributes | properties | {"feature_names_in_"} == documented


@pytest.mark.parametrize("module_name", PUBLIC_MODULES)
def test_the_reference_has_every_public_class_and_function(module_name):
    page = Path(__file__).parent.parent / "docs" / "api.md"
    listed = {entry.name for entry in find_autosummary_in_files([str(page)])}
    module = importlib.import_module(module_name)
    public = {f"{module_name}.{n}" for n in module.__all__ if callable(getattr(module, n))}
    assert public <= listed
