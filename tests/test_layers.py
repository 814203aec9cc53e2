"""Imports inside the package go downwards only."""

import ast
import graphlib
import sys
from pathlib import Path

import pytest

import skae

PACKAGE = Path(skae.__file__).parent

# A new module gets a layer here: it may import from lower layers, and from its own if no circle
# comes of it.
LAYERS = {
    # devices, precision, seeds; private names of other packages
    "_compat": 0,
    "_threads": 0,
    "_torch": 0,
    # pure torch
    "_axes": 1,
    "_backpropagation": 1,
    "corruptions": 1,
    "_batches": 1,
    "_capture": 1,
    "_mixed": 1,
    "_soap": 1,
    "losses": 1,
    "modules": 1,
    "penalties": 1,
    # training: skorch and torch, no estimators
    "_callbacks": 2,
    "_density": 2,
    "_folds": 2,
    "_frames": 2,
    "_initialization": 2,
    "_model_file": 2,
    "_net": 2,
    "_onnx": 2,
    "_persistence": 2,
    "_progress": 2,
    "_templates": 2,
    # scikit-learn's face
    "_autoencoder": 3,
    # what takes fitted estimators
    "onnx": 4,
    "plotting": 4,
    # the public door
    "__init__": 5,
}
NOT_TORCH = {"_compat", "_threads"}  # other packages' private names; other packages' threads
PURE_TORCH = [name for name, layer in LAYERS.items() if layer <= 1 and name not in NOT_TORCH]
OPTIONAL = {"matplotlib", "onnx", "onnxscript", "polars", "pyarrow", "skl2onnx"}


def module_names(package=PACKAGE):
    return {path.relative_to(package).with_suffix("").as_posix() for path in package.rglob("*.py")}


def tree(name):
    return ast.parse((PACKAGE / f"{name}.py").read_text())


def imported(tree):
    """Yield ``(module, name)`` of each import, name being None for ``import module``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:  # the package has no packages inside, so that one level is all there is
                module = f"skae.{module}".rstrip(".")
            yield from ((module, alias.name) for alias in node.names)


def inner_imports(tree, names=frozenset(LAYERS)):
    """Return the modules of the package that a module imports."""
    targets = set()
    for module, name in imported(tree):
        top, _, inner = module.partition(".")
        if top == "skae":
            targets.add(inner or (name if name in names else "__init__"))
    return targets


def foreign(tree):
    """Yield ``(module, name)`` of each import from another package that is not Python's own."""
    for module, name in imported(tree):
        top = module.partition(".")[0]
        if top != "skae" and top not in sys.stdlib_module_names:
            yield module, name


def foreign_packages(tree):
    return {module.partition(".")[0] for module, _ in foreign(tree)}


class _WithoutFunctions(ast.NodeTransformer):
    def visit_FunctionDef(self, node):
        return ast.copy_location(ast.Pass(), node)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815
    visit_Lambda = visit_FunctionDef  # noqa: N815


def packages_at_import(tree):
    """Return the foreign packages that importing a module imports."""
    return foreign_packages(_WithoutFunctions().visit(tree))


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def private_imports(tree):
    """Return the private names of other packages that a module imports."""
    return {
        f"{module}.{name}" if name else module
        for module, name in foreign(tree)
        if any(map(is_private, [*module.split("."), name or ""]))
    }


def private_attributes(tree):
    """Return the private names that a module looks up in modules of other packages."""
    roots = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            path = ast.unparse(node)
            if path.partition(".")[0] in roots:
                found.add(path)
    return found


# ------------------------------------------------------------------------------------ the rules


def test_every_module_has_a_layer():
    assert module_names() == set(LAYERS)


@pytest.mark.parametrize("name", LAYERS)
def test_imports_go_downwards_or_stay_in_their_layer(name):
    upwards = {other for other in inner_imports(tree(name)) if LAYERS[other] > LAYERS[name]}
    assert upwards == set()


def test_no_imports_go_in_a_circle():
    graph = {name: inner_imports(tree(name)) for name in LAYERS}
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert order[-1] == "__init__"


@pytest.mark.parametrize("name", PURE_TORCH)
def test_the_lowest_layers_need_torch_alone(name):
    assert foreign_packages(tree(name)) <= {"torch"}


@pytest.mark.parametrize("name", LAYERS)
def test_optional_dependencies_are_imported_inside_functions(name):
    assert packages_at_import(tree(name)) & OPTIONAL == set()


@pytest.mark.parametrize("name", sorted(set(LAYERS) - {"_compat"}))
def test_private_names_of_other_packages_are_imported_in_one_file(name):
    assert private_imports(tree(name)) == set()


@pytest.mark.parametrize("name", LAYERS)
def test_private_names_of_other_packages_are_not_reached_through_their_modules(name):
    # torch's operators on lists of tensors have no public name; torch.optim is built on them
    allowed = ("torch._foreach_", "torch._fused_")
    found = private_attributes(tree(name))
    assert {path for path in found if not path.startswith(allowed)} == set()


# --------------------------------------------------------------- what the rules would not let by


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from skae._net import ReconstructionNet", {"_net"}),
        ("from ._net import ReconstructionNet", {"_net"}),
        ("from . import _net", {"_net"}),
        ("from skae import _net, AutoencoderTransformer", {"_net", "__init__"}),
        ("import skae._net as net", {"_net"}),
        ("import skae", {"__init__"}),
        ("def f():\n    from skae import _net", {"_net"}),
        ("import torch", set()),
    ],
)
def test_an_import_inside_the_package_is_seen_however_it_is_written(source, expected):
    assert inner_imports(ast.parse(source)) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import matplotlib.pyplot as plt", {"matplotlib"}),
        ("try:\n    import polars\nexcept ImportError:\n    polars = None", {"polars"}),
        ("if True:\n    from matplotlib import pyplot", {"matplotlib"}),
        ("class A:\n    import polars", {"polars"}),
        ("def f():\n    import matplotlib", set()),
        ("class A:\n    def f(self):\n        import matplotlib", set()),
        ("import math", set()),
    ],
)
def test_an_import_at_module_level_is_told_from_one_inside_a_function(source, expected):
    assert packages_at_import(ast.parse(source)) == expected


@pytest.mark.parametrize(
    ("source", "imports", "attributes"),
    [
        ("from sklearn.utils._mask import f", {"sklearn.utils._mask.f"}, set()),
        ("from sklearn.base import _f", {"sklearn.base._f"}, set()),
        ("import sklearn._config", {"sklearn._config"}, set()),
        ("import torch\ntorch._foreach_add_(a, b)", set(), {"torch._foreach_add_"}),
        ("import sklearn.utils as u\nu._mask.f", set(), {"u._mask"}),
        ("from skae._net import _f\nself._x\n__name__", set(), set()),
        ("from __future__ import annotations\nimport numpy\nnumpy.__version__", set(), set()),
    ],
)
def test_a_private_name_is_seen_however_it_is_reached(source, imports, attributes):
    assert private_imports(ast.parse(source)) == imports
    assert private_attributes(ast.parse(source)) == attributes
