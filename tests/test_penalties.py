"""Penalties."""

import numpy as np
import pytest
import torch
from torch import nn

from skae.penalties import L2, Penalty

ALPHA = 0.3


class L1(Penalty):
    def __call__(self, weights):
        return sum(weight.abs().sum() for weight in weights)


@pytest.fixture
def weights():
    """Two matrices and a gate, each with the gradient of some loss."""
    rng = np.random.RandomState(0)
    weights = [nn.Parameter(torch.tensor(rng.normal(size=shape))) for shape in [(3, 2), (2, 4), ()]]
    for weight in weights:
        weight.grad = torch.tensor(rng.normal(size=weight.shape))
    return weights


def gradients(weights):
    return [weight.grad.clone() for weight in weights]


def test_l2_is_the_sum_of_squares_of_all_weights(weights):
    expected = sum((weight.detach().numpy() ** 2).sum() for weight in weights)
    value = L2()(weights)
    assert value.shape == ()
    assert value.item() == pytest.approx(expected, rel=1e-14)  # float64


@pytest.mark.parametrize("penalty", [L2(), L1()], ids=["L2", "base"])
def test_backward_adds_the_gradient_of_alpha_times_the_penalty(weights, penalty):
    before = gradients(weights)
    added = torch.autograd.grad(ALPHA * penalty(weights), weights)
    values = [weight.detach().clone() for weight in weights]
    returned = penalty.backward(weights, ALPHA)
    assert returned.shape == ()
    assert returned.item() == pytest.approx(ALPHA * penalty(weights).item(), rel=1e-14)  # float64
    for weight, value, old, new in zip(weights, values, before, added, strict=True):
        assert new.any()
        torch.testing.assert_close(weight.grad, old + new)  # float64
        assert torch.equal(weight, value)


@pytest.mark.parametrize("penalty", [L2(), L1()], ids=["L2", "base"])
def test_backward_with_alpha_zero_leaves_the_gradients(weights, penalty):
    before = gradients(weights)
    penalty.backward(weights, 0.0)
    assert all(torch.equal(w.grad, old) for w, old in zip(weights, before, strict=True))


@pytest.mark.parametrize("penalty", [L2(), L1()], ids=["L2", "base"])
def test_gradients_carry_no_graph(weights, penalty):
    # a callback may look at them with .numpy(), as at any other gradient
    penalty.backward(weights, ALPHA)
    assert not any(weight.grad.requires_grad for weight in weights)


@pytest.mark.parametrize("penalty", [L2(), L1()], ids=["L2", "base"])
def test_what_backward_returns_carries_no_graph(weights, penalty):
    assert not penalty.backward(weights, ALPHA).requires_grad


@pytest.mark.parametrize("penalty", [L2(), L1()], ids=["L2", "base"])
def test_a_weight_that_serves_twice_is_penalized_twice(penalty):
    tied = nn.Parameter(torch.tensor([[1.0, -2.0]]))
    tied.grad = torch.zeros(1, 2)
    penalty.backward([tied, tied], ALPHA)
    (expected,) = torch.autograd.grad(ALPHA * penalty([tied, tied]), tied)
    torch.testing.assert_close(tied.grad, expected)


def test_a_penalty_must_say_what_it_is():
    with pytest.raises(NotImplementedError):
        Penalty()([])
