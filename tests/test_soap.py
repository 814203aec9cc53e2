"""The optimiser SOAP against NumPy, torch's Adam and what it is for."""

import copy
import io

import numpy as np
import pytest
import torch
from torch import nn

from skae import AutoencoderTransformer
from skae._soap import Soap, hidden_sides
from skae.modules import MLP, LinearSkip, SoftClip, TiedLinear

SHAPE = 6, 6  # products of one gradient have full rank: axes of the others are rounding
OPTIONS = {"lr": 0.03, "betas": (0.8, 0.97), "eps": 1e-3, "memory": 0.7, "period": 8}


def gradients(n_steps=21, shape=SHAPE):
    return np.random.RandomState(1).normal(size=(n_steps, *shape)).cumsum(axis=1)


def start(shape=SHAPE):
    return nn.Parameter(torch.tensor(np.random.RandomState(0).normal(size=shape)))


def stepped(optimizer, weight, steps):
    """Return a weight's values after each of some steps, whose gradients are given."""
    values = []
    for gradient in steps:
        weight.grad = torch.tensor(gradient).to(weight)
        optimizer.step()
        values.append(weight.detach().clone())
    return values


def by_numpy(sides, steps, lr, betas, eps, memory, period):
    weight = start().detach().numpy()
    mean, square = np.zeros((2, *SHAPE))
    products = [np.zeros((n, n)) for n in SHAPE]
    axes = [np.eye(n) for n in SHAPE]
    values = []
    for t, gradient in enumerate(steps, start=1):
        units = gradient, gradient.T
        for side in sides:
            product = units[side] @ units[side].T
            products[side] = memory * products[side] + (1 - memory) * product
        if (t - 1) % period == 0 or (t <= period and (t - 1) % (period // 4) == 0):
            whole = axes[0] @ mean @ axes[1].T
            for side in sides:
                axes[side] = np.linalg.qr(products[side] @ axes[side])[0]
            mean = axes[0].T @ whole @ axes[1]
        turned = axes[0].T @ gradient @ axes[1]
        mean = betas[0] * mean + (1 - betas[0]) * turned
        square = betas[1] * square + (1 - betas[1]) * turned**2
        adam = mean / (1 - betas[0] ** t) / (np.sqrt(square / (1 - betas[1] ** t)) + eps)
        weight = weight - lr * axes[0] @ adam @ axes[1].T
        values.append(weight)
    return values


@pytest.mark.parametrize("sides", [(), (0,), (1,), (0, 1)], ids=str)
def test_steps_are_those_of_the_method_written_out_in_numpy(sides):
    weight = start()
    optimizer = Soap([weight], **OPTIONS)
    optimizer.turn(weight, sides)
    expected = by_numpy(sides, gradients(), **OPTIONS)
    for value, other in zip(stepped(optimizer, weight, gradients()), expected, strict=True):
        torch.testing.assert_close(value, torch.tensor(other), rtol=1e-9, atol=1e-11)


def test_without_sides_it_is_adam():
    ours, theirs = start(), start()
    options = {"lr": 0.03, "betas": (0.8, 0.97), "eps": 1e-3}
    values = stepped(Soap([ours], **options), ours, gradients())
    others = stepped(torch.optim.Adam([theirs], **options), theirs, gradients())
    for value, other in zip(values, others, strict=True):
        torch.testing.assert_close(value, other, rtol=1e-12, atol=1e-13)


def test_axes_become_eigenvectors_of_the_products_of_gradients():
    rng = np.random.RandomState(0)
    vectors, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    spread = vectors * 3.0 ** -np.arange(6)
    weight = start()
    optimizer = Soap([weight], memory=0.99)
    optimizer.turn(weight, (0,))
    stepped(optimizer, weight, [spread @ rng.normal(size=SHAPE) for _ in range(400)])
    product, axes = (optimizer.state[weight][name][0].numpy() for name in ("products", "axes"))
    np.testing.assert_allclose(axes.T @ axes, np.eye(6), atol=1e-12)
    turned = axes.T @ product @ axes
    sizes = np.sqrt(np.diag(turned))
    correlations = turned / sizes / sizes[:, np.newaxis]
    assert (np.diff(sizes) < 0).all()
    # the gradients of the last steps, since axes were found, are in the products too
    np.testing.assert_allclose(correlations, np.eye(6), atol=0.1)


def valley(weight, turn):
    """Return a loss that is steep along some directions, which are not those of single weights."""
    return (torch.logspace(0, -4, SHAPE[0]).unsqueeze(1) * (turn @ weight).square()).sum()


def test_it_is_far_ahead_of_adam_in_a_valley_that_no_weight_goes_along():
    turn = torch.linalg.qr(torch.tensor(np.random.RandomState(3).normal(size=(6, 6)))).Q
    ends = []
    for turned in (True, False):
        weight = start()
        optimizer = Soap([weight], lr=0.02)
        if turned:
            optimizer.turn(weight, (0,))
        for _ in range(300):
            optimizer.zero_grad()
            valley(weight, turn).backward()
            optimizer.step()
        ends.append(valley(weight, turn).item())
    assert ends[0] < 0.01 * ends[1]


# ------------------------------------------------------------------------- as other optimisers


def pair(**options):
    """Return an optimiser of two weights, of which one is turned, and these."""
    weights = [start(), start((5,))]
    optimizer = Soap(weights, **options)
    optimizer.turn(weights[0], (0, 1))
    return optimizer, weights


def go_on(optimizer, weights, steps):
    for gradient in steps:
        weights[0].grad, weights[1].grad = (
            torch.tensor(g) for g in (gradient, gradient[0, 0] * np.ones(5))
        )
        optimizer.step()
    return torch.cat([weight.detach().flatten() for weight in weights])


@pytest.mark.parametrize("n_before", [0, 1, 11])
def test_a_stored_state_goes_on_as_if_nothing_had_happened(n_before):
    steps = gradients()
    optimizer, weights = pair()
    go_on(optimizer, weights, steps[:n_before])
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    other, copies = pair(lr=0.5)
    other.load_state_dict(torch.load(file))
    for weight, own in zip(copies, weights, strict=True):
        weight.data.copy_(own.data)
    expected = go_on(optimizer, weights, steps[n_before:])
    assert torch.equal(go_on(other, copies, steps[n_before:]), expected)


def test_a_copy_goes_on_by_itself():
    steps = gradients()
    optimizer, weights = pair()
    go_on(optimizer, weights, steps[:9])
    other, copies = copy.deepcopy((optimizer, weights))
    there = go_on(other, copies, steps[9:])
    assert torch.equal(go_on(optimizer, weights, steps[9:]), there)


def test_a_weight_without_a_gradient_stays_and_the_others_do_not():
    optimizer, weights = pair()
    go_on(optimizer, weights, gradients()[:3])
    for still, moving in (weights, weights[::-1]):
        before, other = still.detach().clone(), moving.detach().clone()
        still.grad, moving.grad = None, torch.ones_like(moving)
        optimizer.step()
        assert torch.equal(still, before)
        assert not torch.equal(moving, other)


def test_groups_have_rates_and_weights_types_of_their_own():
    first, second, third = (
        nn.Parameter(torch.ones(3, dtype=t)) for t in (torch.float64,) * 2 + (torch.float32,)
    )
    optimizer = Soap([{"params": [first]}, {"params": [second, third], "lr": 0.5}], lr=0.25)
    for weight in (first, second, third):
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    # the first step is the rate, less the share of eps
    for weight, rate in ((first, 0.25), (second, 0.5), (third, 0.5)):
        torch.testing.assert_close(
            weight.detach(), torch.full_like(weight, 1 - rate), rtol=0, atol=1e-6
        )


def test_a_closure_computes_the_gradients_and_its_loss_is_returned():
    weight = start()
    optimizer = Soap([weight])

    def closure():
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(5)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


# ---------------------------------------------------------------------------------- hidden sides


def sides_by_shape(module):
    return [(tuple(weight.shape), sides) for weight, sides in hidden_sides(module)]


def test_sides_at_hidden_layers_are_found():
    assert sides_by_shape(MLP([5, 3])) == []
    assert sides_by_shape(MLP([5, 7, 3])) == [((7, 5), (0,)), ((3, 7), (1,))]
    assert sides_by_shape(MLP([5, 7, 8, 3], dropout=0.5)) == [
        ((7, 5), (0,)),
        ((8, 7), (0, 1)),
        ((3, 8), (1,)),
    ]
    skip = LinearSkip(nn.Linear(5, 3), MLP([5, 7, 3]), SoftClip(torch.ones(5)))
    assert sides_by_shape(nn.Sequential(skip, nn.Linear(3, 3))) == sides_by_shape(MLP([5, 7, 3]))
    own = nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.ReLU(), nn.Linear(7, 3))
    assert sides_by_shape(own) == sides_by_shape(MLP([5, 7, 3]))


def test_weights_of_other_kinds_are_left_alone():
    images = nn.Sequential(nn.Conv1d(1, 4, 3), nn.Flatten(), nn.Linear(12, 7), nn.Linear(7, 2))
    assert sides_by_shape(images) == [((7, 12), (0,)), ((2, 7), (1,))]
    encoder = MLP([5, 7, 3])
    first, last = encoder[0], encoder[2]
    decoder = nn.Sequential(TiedLinear(last), nn.ReLU(), TiedLinear(first))
    assert sides_by_shape(nn.Sequential(encoder, decoder)) == sides_by_shape(encoder)
    assert sides_by_shape(MLP([5, 513, 512, 3])) == [((512, 513), (0,)), ((3, 512), (1,))]


def test_fits_turn_the_hidden_sides_of_their_networks(curve):
    fitted = AutoencoderTransformer(hidden_layer_sizes=(16, 8), random_state=0)
    fitted.partial_fit(curve)
    net = fitted.net_
    turned = {id(weight): set(sides) for weight, sides in hidden_sides(net.module_)}
    assert len(turned) == 6
    for weight, state in net.optimizer_.state.items():
        assert set(state.get("axes", {})) == turned.get(id(weight), set())
        for side, axes in state.get("axes", {}).items():
            assert axes.shape == (weight.shape[side],) * 2
            assert not torch.equal(axes, torch.eye(len(axes)))


def test_fits_come_further_in_as_many_steps_as_adam(digits):
    X = digits[:500]
    options = {"max_iter": 5, "early_stopping": False, "random_state": 0}
    turned, plain = (
        AutoencoderTransformer(8, optimizer=name, **options).fit(X) for name in ("soap", "adam")
    )
    start = AutoencoderTransformer(8, max_iter=0).fit(X).score(X)
    assert turned.score(X) - start > 1.2 * (plain.score(X) - start)
