"""Shared by all tests."""

import os

# Before anything imports scipy: else scikit-learn skips its check of array API input.
os.environ["SCIPY_ARRAY_API"] = "1"

import numpy as np
import pytest
import torch
from sklearn import datasets


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    # The networks here are too small for two threads, which would wait for each other.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def digits():
    return datasets.load_digits().data


@pytest.fixture(scope="session")
def curve():
    """300 rows on a curved sheet in five dimensions: two numbers say where, and PCA needs more."""
    rng = np.random.RandomState(0)
    u, v = rng.uniform(-1, 1, size=(2, 300))
    X = np.column_stack([u, v, u**2, u * v, np.sin(3 * v)])
    return X + 0.01 * rng.normal(size=X.shape)
