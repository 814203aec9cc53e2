"""The README and the other texts say what is so."""

import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
(EXAMPLE,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)  # all there is


def test_it_is_short():
    assert len(README.splitlines()) <= 120
    assert len(EXAMPLE.splitlines()) <= 10


def test_the_example_runs_and_says_what_comes_out(capsys):
    names = {}
    exec(EXAMPLE, names)
    score = float(capsys.readouterr().out)
    assert names["codes"].shape == (450, 8)
    assert names["X_hat"].shape == (450, 64)
    X_train, X_test = names["X_train"], names["X_test"]
    pca = names["PCA"](8).fit(X_train)
    error = X_test - pca.inverse_transform(pca.transform(X_test))
    pca_score = 1 - np.square(error).sum() / np.square(X_test - pca.mean_).sum()
    assert f"PCA(8) has {pca_score:.2f}" in EXAMPLE
    assert score > pca_score + 0.1


@pytest.mark.parametrize("target", re.findall(r"make (\w+)", README))
def test_the_commands_exist(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", re.findall(r"\]\(([^)#]+)\)", README))
def test_the_links_lead_somewhere(path):
    assert (ROOT / path).exists()


def test_the_requirements_are_those_of_the_package():
    project = (ROOT / "pyproject.toml").read_text()
    for name, version in re.findall(r"(\S+) ≥ ([\d.]+)", README):
        key = 'requires-python = "' if name == "Python" else f'"{name}'
        assert f'{key}>={version}"' in project
