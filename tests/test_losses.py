"""Losses."""

import numpy as np
import pytest
import torch
from scipy import special
from sklearn.metrics import log_loss, mean_absolute_error, mean_squared_error, r2_score

from skae.losses import AbsoluteError, BinaryCrossEntropy, Huber, Loss, SquaredError


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


# --------------------------------------------------------------------------------- other losses


def test_absolute_error_of_a_row_is_the_mean_over_its_features(pairs):
    x_hat, x = pairs
    losses = AbsoluteError()(torch.tensor(x_hat), torch.tensor(x))
    expected = [mean_absolute_error(a, b) for a, b in zip(x_hat, x, strict=True)]
    np.testing.assert_allclose(losses.numpy(), expected, rtol=1e-14)  # float64


def test_huber_is_half_the_square_near_zero_and_linear_far_out(pairs):
    x_hat, x = pairs
    differences = np.abs(2 * x_hat - x)
    assert (differences < 1).any()
    assert (differences > 1).any()
    expected = np.where(differences < 1, differences**2 / 2, differences - 0.5).mean(axis=1)
    losses = Huber()(torch.tensor(2 * x_hat), torch.tensor(x))
    np.testing.assert_allclose(losses.numpy(), expected, rtol=1e-14)  # float64


@pytest.fixture
def unit_rows():
    """Rows in [0, 1] with exact zeros and ones, their mean and scale, and logits of as many."""
    rng = np.random.RandomState(0)
    rows = rng.uniform(size=(7, 3)).round(1)
    rows[0], rows[1] = 0, 1
    mean, scale = rows.mean(axis=0), np.sqrt(rows.var(axis=0).mean())
    return rows, mean, scale, rng.normal(size=(7, 3))


def cross_entropy(mean, scale):
    return BinaryCrossEntropy(torch.tensor(mean), scale).double()


def test_cross_entropy_is_that_of_scipy(unit_rows):
    rows, mean, scale, logits = unit_rows
    losses = cross_entropy(mean, scale)(torch.tensor(logits), torch.tensor((rows - mean) / scale))
    p = special.expit(logits)
    expected = -(special.xlogy(rows, p) + special.xlogy(1 - rows, 1 - p)).mean(axis=1)
    # the scale is kept in float32
    np.testing.assert_allclose(losses.numpy(), expected, rtol=1e-6)


def test_cross_entropy_of_one_logistic_output_is_sklearns_log_loss():
    y = np.array([0.0, 1.0, 1.0, 0.0])
    logits = np.array([-2.0, 0.5, 3.0, 1.0])
    losses = cross_entropy(np.zeros(1), 1.0)(
        torch.tensor(logits[:, None]), torch.tensor(y[:, None])
    )
    expected = log_loss(y, special.expit(logits))
    assert losses.mean().item() == pytest.approx(expected, rel=1e-12)  # float64


def test_cross_entropy_of_outputs_that_are_very_sure_is_finite_and_has_a_gradient():
    logits = torch.tensor([[1000.0], [-1000.0]], requires_grad=True)
    losses = BinaryCrossEntropy(torch.zeros(1), 1.0)(logits, torch.tensor([[0.0], [1.0]]))
    assert losses.tolist() == [1000.0, 1000.0]
    losses.sum().backward()
    assert logits.grad.tolist() == [[1.0], [-1.0]]


def test_a_target_that_rounding_took_out_of_the_unit_interval_is_taken_back():
    loss = BinaryCrossEntropy(torch.zeros(1), 1.0)
    logits = torch.tensor([[-50.0]])
    for off, on in [(-1e-3, 0.0), (1 + 1e-3, 1.0)]:
        assert torch.equal(loss(logits, torch.tensor([[off]])), loss(logits, torch.tensor([[on]])))


@pytest.mark.parametrize("loss", [SquaredError(), AbsoluteError(), Huber()])
def test_the_loss_of_the_mean_row_is_that_of_a_reconstruction_by_zero(loss, pairs):
    x = torch.tensor(pairs[1])
    assert not loss.from_logits
    assert torch.equal(loss.of_mean(x), loss(torch.zeros_like(x), x))
    assert loss.of_mean(x).all()


def test_the_cross_entropy_of_the_mean_row_is_the_least_that_a_constant_row_has(unit_rows):
    rows, mean, scale, _ = unit_rows
    loss, x = cross_entropy(mean, scale), torch.tensor((rows - mean) / scale)
    assert loss.from_logits
    least = loss.of_mean(x).mean().item()
    p = rows.mean(axis=0)
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p)).mean()
    assert least == pytest.approx(entropy, rel=1e-6)  # the scale is kept in float32
    for shift in (-0.1, 0.1):
        logits = torch.tensor(special.logit(p) + shift).expand_as(x)
        assert loss(logits, x).mean().item() > least


def test_the_cross_entropy_of_rare_ones_is_the_entropy_of_their_share():
    # of so few that their mean would be clipped by less than where there is no logit
    x = torch.zeros(4000, 1).double()
    x[:2] = 1
    p = x.mean().item()
    entropy = -(p * np.log(p) + (1 - p) * np.log1p(-p))
    loss = BinaryCrossEntropy(x.mean(dim=0), 1.0)
    assert loss.of_mean(x - p).mean().item() == pytest.approx(entropy, rel=1e-12)


def test_the_cross_entropy_of_a_mean_row_of_zeros_and_ones_is_finite():
    loss = BinaryCrossEntropy(torch.tensor([0.0, 1.0]), 1.0)
    assert loss.of_mean(torch.zeros(3, 2)).isfinite().all()


def test_a_function_is_a_loss(pairs):
    x_hat, x = (torch.tensor(rows) for rows in pairs)
    loss = Loss(lambda x_hat, x: (x_hat - x).abs().amax(dim=1))
    assert torch.equal(loss(x_hat, x), (x_hat - x).abs().max(dim=1).values)
    assert torch.equal(loss.of_mean(x), x.abs().max(dim=1).values)


def test_a_function_is_given_the_reconstruction_and_then_the_rows():
    x_hat, x = torch.tensor([[1.0]]), torch.tensor([[3.0]])
    assert Loss(lambda x_hat, x: (2 * x_hat - x).sum(dim=1))(x_hat, x).item() == -1
