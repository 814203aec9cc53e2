"""Losses."""

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_squared_error, r2_score

from skae.losses import SquaredError


@pytest.fixture
def pairs():
    rng = np.random.RandomState(0)
    return rng.normal(size=(7, 3)), rng.normal(size=(7, 3))


def test_squared_error_of_a_row_is_the_mean_over_its_features(pairs):
    x_hat, x = pairs
    losses = SquaredError()(torch.tensor(x_hat), torch.tensor(x))
    expected = [mean_squared_error(a, b) for a, b in zip(x_hat, x, strict=True)]
    assert losses.shape == (7,)
    # float64 against float64
    np.testing.assert_allclose(losses.numpy(), expected, rtol=1e-14)


def test_the_mean_squared_error_is_one_minus_r2_in_the_networks_units(pairs):
    x_hat, X = pairs
    mean, scale = X.mean(axis=0), np.sqrt(X.var(axis=0).mean())
    losses = SquaredError()(*(torch.tensor((rows - mean) / scale) for rows in (x_hat, X)))
    expected = 1 - r2_score(X, x_hat, multioutput="variance_weighted")
    assert losses.mean().item() == pytest.approx(expected, rel=1e-14)  # float64


def test_the_gradient_of_the_squared_error_is_twice_the_mean_difference(pairs):
    x_hat, x = (torch.tensor(rows) for rows in pairs)
    x_hat.requires_grad_()
    (gradient,) = torch.autograd.grad(SquaredError()(x_hat, x).sum(), x_hat)
    torch.testing.assert_close(gradient, 2 * (x_hat - x).detach() / 3)


def test_the_squared_error_of_equal_rows_is_exactly_zero(pairs):
    x = torch.tensor(pairs[0])
    assert not SquaredError()(x, x).any()
