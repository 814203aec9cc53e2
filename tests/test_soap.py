"""The optimiser SOAP against NumPy, torch's Adam and what it is for."""

import copy
import io
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from skae import AutoencoderTransformer, _autoencoder
from skae._soap import Soap, hidden_sides
from skae.modules import MLP, LinearSkip, SoftClip, TiedLinear

SHAPE = 6, 6  # the product of one gradient has all axes: those of few would be rounding
OPTIONS = {"lr": 0.03, "betas": (0.8, 0.97), "eps": 1e-3, "memory": 0.7}


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


def by_numpy(side, steps, lr, betas, eps, memory, rank):
    """Return the weights after each step, a side of which has axes, one step at a time."""
    weight, steps = start().detach().numpy(), np.array(steps)
    if side == 1:
        weight, steps = weight.T, steps.swapaxes(1, 2)
    axes = np.eye(len(weight))[:, :rank]
    product, mean = np.zeros(axes.shape), np.zeros(weight.shape)
    squares = [np.zeros(weight.shape), np.zeros((axes.shape[1], weight.shape[1]))]
    has_rest = axes.shape[1] < len(weight)
    # means of squares are no smaller, as a share of the square of the mean
    least = (1 - betas[1]) / (1 - betas[0]) ** 2 * (1 - betas[0] ** 2 / betas[1])
    values = []
    for t, gradient in enumerate(steps):
        period = 5 if t < 10 else 10 if t < 100 else 20
        if t % (period // 5) == 0:
            product = memory * product + (1 - memory) * gradient @ gradient.T @ axes
        if t % period == 0:
            old, axes = axes, np.linalg.qr(product)[0]
            product = product @ old.T @ axes

        def split(x, axes=axes):
            return x - axes @ axes.T @ x, axes.T @ x

        if t % period == 0:
            squares = [
                np.maximum(a, least * b**2) for a, b in zip(squares, split(mean), strict=True)
            ]
        mean = betas[0] * mean + (1 - betas[0]) * gradient  # it is linear: along any axes the same
        squares = [
            betas[1] * square + (1 - betas[1]) * part**2
            for square, part in zip(squares, split(gradient), strict=True)
        ]
        rest, leading = (
            part / (1 - betas[0] ** (t + 1)) / (np.sqrt(square / (1 - betas[1] ** (t + 1))) + eps)
            for part, square in zip(split(mean), squares, strict=True)
        )
        weight = weight - lr * (has_rest * rest + axes @ leading)
        values.append(weight if side == 0 else weight.T)
    return values


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("rank", [2, 4, 32])
@pytest.mark.parametrize("side", [0, 1])
def test_steps_are_those_of_the_method_written_out_in_numpy(side, rank, in_place):
    weight = start()
    optimizer = Soap([weight], **OPTIONS, rank=rank, in_place=in_place)
    optimizer.turn(weight, side)
    steps = gradients(141)  # with all periods
    expected = by_numpy(side, steps, **OPTIONS, rank=rank)
    for value, other in zip(stepped(optimizer, weight, steps), expected, strict=True):
        torch.testing.assert_close(value, torch.tensor(other), rtol=1e-8, atol=1e-10)


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
    optimizer = Soap([weight], rank=3)
    optimizer.turn(weight, 0)
    stepped(optimizer, weight, [spread @ rng.normal(size=SHAPE) for _ in range(100)])
    axes = optimizer.state[weight]["axes"].numpy()
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-12)
    # to the noise of the few gradients that are remembered, in a ratio of three from axis to axis
    assert (np.abs(np.diag(axes.T @ vectors)) > 0.9).all()


@pytest.mark.parametrize("seed", [0, 1, 10, 15])
@pytest.mark.parametrize("side", [0, 1])
def test_no_entry_makes_longer_steps_than_with_adam_whatever_new_axes_drop(side, seed):
    lr, (beta1, beta2) = 0.01, (0.9, 0.99)
    steps = np.random.RandomState(seed).standard_t(0.5, size=(30, *SHAPE))
    weight = nn.Parameter(torch.zeros(SHAPE, dtype=torch.float64))
    optimizer = Soap([weight], lr=lr, betas=(beta1, beta2), rank=2)
    optimizer.turn(weight, side)
    lengths = torch.stack(stepped(optimizer, weight, steps)).diff(dim=0).flatten(1).norm(dim=1)
    # by the inequality of Cauchy and Schwarz, of 36 entries of the rest and 12 along axes
    n_steps = torch.arange(2, 31)
    longest = lr * (1 - beta2**n_steps).sqrt() / (1 - beta1**n_steps)
    longest *= (1 - beta1) / math.sqrt((1 - beta2) * (1 - beta1**2 / beta2))
    assert (lengths <= (math.sqrt(36) + math.sqrt(12)) * longest).all()


def test_steps_are_counted_in_float32_whatever_the_default_is():
    # torch's kernel for CUDA reads them as such
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        optimizer, weights = pair()
        go_on(optimizer, weights, gradients(2))
    finally:
        torch.set_default_dtype(before)
    (count,) = optimizer._counts.values()
    assert count.dtype == torch.float32
    assert count == 2


# ------------------------------------------------------------------------- as other optimisers


def pair(**options):
    """Return an optimiser of two weights, of which one is turned, and these."""
    weights = [start(), start((5,))]
    optimizer = Soap(weights, **options)
    optimizer.turn(weights[0], 0)
    return optimizer, weights


def go_on(optimizer, weights, steps):
    for gradient in steps:
        weights[0].grad, weights[1].grad = (
            torch.tensor(g) for g in (gradient, gradient[0, 0] * np.ones(5))
        )
        optimizer.step()
    return torch.cat([weight.detach().flatten() for weight in weights])


@pytest.mark.parametrize("n_before", [0, 1, 11])
@pytest.mark.parametrize("clip", [math.inf, 1.1])
def test_a_stored_state_goes_on_as_if_nothing_had_happened(n_before, clip):
    steps = gradients()
    optimizer, weights = pair(clip=clip)
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


@pytest.mark.parametrize("in_place", [False, True])
def test_gradients_are_overwritten_where_that_is_allowed(in_place):
    weight = start()
    optimizer = Soap([weight], rank=2, in_place=in_place)
    optimizer.turn(weight, 0)
    (step,) = gradients(1)
    stepped(optimizer, weight, [step])
    assert torch.equal(weight.grad, torch.tensor(step)) != in_place


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


# --------------------------------------------------------------------------- gradients too long


def shortened(steps, clip, decay):
    """Return gradients as they are shortened, one after the other."""
    kept, squares, weights = [], 0.0, 0.0
    for t, step in enumerate(steps, start=1):
        square = np.square(step).sum()
        if t > 5:
            square = min(square, clip**2 * squares / weights)
        kept.append(step * np.sqrt(square / np.square(step).sum()))
        squares, weights = decay * squares + (1 - decay) * square, decay * weights + 1 - decay
    return kept


def long_ones(n_steps=30):
    rng = np.random.RandomState(0)
    return rng.normal(size=(n_steps, 2, 3)) * rng.standard_t(1.5, size=(n_steps, 1, 1))


@pytest.mark.parametrize("as_one", [False, True])
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("clip", [0.5, 2.0])
def test_gradients_are_as_long_together_as_some_times_the_usual_length(clip, in_place, as_one):
    steps = long_ones()
    expected = np.array(shortened(steps, clip, 0.97))
    assert 3 < (expected != steps).any(axis=(1, 2)).sum() < 29
    moved = []
    for some, limit in ((steps, clip), (expected, math.inf)):
        weights = [start((1, 3)), start((3,))]
        vector = torch.zeros(6, dtype=torch.float64)
        weights[0].grad, weights[1].grad = vector[:3].view(1, 3), vector[3:]
        optimizer = Soap(weights, lr=0.03, betas=(0.8, 0.97), clip=limit, in_place=in_place)
        optimizer.turn(weights[0], 0)
        optimizer.gradient = vector if as_one else None
        for step in some:
            vector.copy_(torch.tensor(step.ravel()))
            optimizer.step()
        moved.append(torch.cat([weight.detach().flatten() for weight in weights]))
    torch.testing.assert_close(*moved, rtol=1e-10, atol=1e-12)


def test_gradients_of_zero_stay_zero_and_are_no_measure_of_those_that_follow():
    ways = []
    for clip in (1.5, math.inf):
        weight = start()
        before = weight.detach().clone()
        steps = np.concatenate([np.zeros((9, *SHAPE)), gradients()])
        moved = stepped(Soap([weight], clip=clip), weight, steps)
        assert all(torch.equal(value, before) for value in moved[:9])
        ways.append([(value - before).norm().item() for value in moved[9:]])
    # they begin as long as the eps of Adam, whose steps are a part of their length then
    limited, free = np.array(ways)
    assert (limited > 0.25 * free).all()


def test_what_is_left_when_the_first_weight_is_frozen_is_measured_anew():
    moved = []
    for clip in (1e6, math.inf):  # of which neither shortens anything
        optimizer, weights = pair(clip=clip)
        go_on(optimizer, weights, gradients(9))
        weights[0].grad = None
        for _ in range(9):
            weights[1].grad = torch.ones(5, dtype=torch.float64)
            optimizer.step()
        moved.append(weights[1].detach())
    assert torch.equal(*moved)


def test_each_group_has_its_own_usual_length():
    steps, values = 100 * gradients(9), []
    for others in ([], [{"params": [start()]}]):
        weight = start()
        for group in others:
            group["params"][0].grad = torch.ones(SHAPE, dtype=torch.float64)
        optimizer = Soap([{"params": [weight]}, *others], clip=2.0)
        values.append(stepped(optimizer, weight, steps)[-1])
    assert torch.equal(*values)


def test_weights_of_any_shape_are_limited():
    moved = []
    for shape, clip in (((2, 3), 1.5), ((2, 1, 3), 1.5), ((1, 2, 3, 1), 1.5), ((2, 3), math.inf)):
        weight = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
        steps = long_ones().reshape(-1, *shape)
        moved.append(stepped(Soap([weight], clip=clip), weight, steps)[-1].reshape(2, 3))
    matrix, *others, unlimited = moved
    for one in others:
        torch.testing.assert_close(one, matrix, rtol=1e-10, atol=1e-12)
    assert not torch.allclose(unlimited, matrix, rtol=0.01)


def heavy_tails(n_rows, degrees):
    rng = np.random.RandomState(0)
    latent = rng.standard_t(degrees, size=(n_rows, 2))
    return np.column_stack([latent, np.abs(latent @ rng.normal(size=(2, 4)))])


@pytest.mark.parametrize(
    ("n_rows", "degrees", "differs"), [(1000, 1.5, True), (1000, 1e6, False), (999, 1.5, False)]
)
def test_fits_of_many_rows_with_heavy_tails_are_limited(monkeypatch, n_rows, degrees, differs):
    X = heavy_tails(n_rows, degrees)
    autoencoder = AutoencoderTransformer(2, max_iter=6, early_stopping=False, random_state=0)
    limited = autoencoder.fit(X).transform(X)
    monkeypatch.setitem(_autoencoder._OPTIMIZERS, "soap", (Soap, {}))
    assert np.array_equal(autoencoder.fit(X).transform(X), limited) != differs


# ---------------------------------------------------------------------------------- hidden sides


def sides_by_shape(module):
    return [(tuple(weight.shape), side) for weight, side in hidden_sides(module)]


def test_sides_at_hidden_layers_are_found():
    assert sides_by_shape(MLP([5, 3])) == []
    assert sides_by_shape(MLP([5, 7, 3])) == [((7, 5), 0), ((3, 7), 1)]
    assert sides_by_shape(MLP([5, 7, 8, 3], dropout=0.5)) == [
        ((7, 5), 0),
        ((8, 7), 1),
        ((3, 8), 1),
    ]
    skip = LinearSkip(nn.Linear(5, 3), MLP([5, 7, 3]), SoftClip(torch.ones(5)))
    assert sides_by_shape(nn.Sequential(skip, nn.Linear(3, 3))) == sides_by_shape(MLP([5, 7, 3]))
    own = nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.ReLU(), nn.Linear(7, 3))
    assert sides_by_shape(own) == sides_by_shape(MLP([5, 7, 3]))


def test_weights_of_other_kinds_are_left_alone():
    images = nn.Sequential(nn.Conv1d(1, 4, 3), nn.Flatten(), nn.Linear(12, 7), nn.Linear(7, 2))
    assert sides_by_shape(images) == [((7, 12), 0), ((2, 7), 1)]
    encoder = MLP([5, 7, 3])
    first, last = encoder[0], encoder[2]
    decoder = nn.Sequential(TiedLinear(last), nn.ReLU(), TiedLinear(first))
    assert sides_by_shape(nn.Sequential(encoder, decoder)) == sides_by_shape(encoder)


class Half(nn.Module):
    weight = 0.5

    def forward(self, x):
        return x * self.weight


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_weights_that_are_no_parameters_are_left_alone(curve, norm):
    def network(n_in, n_out):
        return nn.Sequential(
            nn.Linear(n_in, 9), Half(), norm(nn.Linear(9, 8)), nn.Tanh(), nn.Linear(8, n_out)
        )

    assert sides_by_shape(network(5, 2)) == [((9, 5), 0), ((2, 8), 1)]
    fitted = AutoencoderTransformer(2, encoder=network, decoder=network, random_state=0)
    fitted.partial_fit(curve)
    # it has numbers for its weights, and would meet others
    assert fitted.net_.optimizer_.state_dict()["state"]


def test_fits_turn_the_hidden_sides_of_their_networks(curve):
    fitted = AutoencoderTransformer(hidden_layer_sizes=(40, 8), random_state=0)
    fitted.partial_fit(curve)
    net = fitted.net_
    turned = {id(weight): side for weight, side in hidden_sides(net.module_)}
    assert len(turned) == 6
    for weight, state in net.optimizer_.state.items():
        assert ("axes" in state) == (id(weight) in turned)
        if "axes" in state:
            n_units = weight.shape[turned[id(weight)]]
            assert state["axes"].shape == (n_units, min(n_units, 32))
            assert not torch.equal(state["axes"].cpu(), torch.eye(*state["axes"].shape))


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_fits_have_gradients_overwritten_where_steps_are_written_out(curve, dropout):
    net = AutoencoderTransformer(dropout=dropout, random_state=0).partial_fit(curve).net_
    (group,) = net.optimizer_.param_groups
    assert group["in_place"] == (net.written_out_ is not None) == (dropout == 0)


def test_memory_in_another_order_makes_no_difference():
    steps, values = gradients(), []
    for ours in (start(), nn.Parameter(start().detach().t().contiguous().t())):
        optimizer = Soap([ours], rank=2)
        optimizer.turn(ours, 1)
        for step in steps:
            (ours * torch.tensor(step)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        values.append(ours.detach())
    assert values[0].stride() != values[1].stride()
    torch.testing.assert_close(values[0], values[1], rtol=1e-10, atol=1e-12)


def test_fits_come_further_than_with_adam_in_half_the_epochs(digits):
    X = digits[:500]
    scores = {
        name: AutoencoderTransformer(
            2, optimizer=name, max_iter=max_iter, early_stopping=False, random_state=0
        )
        .fit(X)
        .score(X)
        for name, max_iter in (("soap", 10), ("adam", 20))
    }
    assert scores["soap"] > scores["adam"] + 0.02


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("rank", [2, 6])
def test_matrices_of_a_stack_move_as_each_by_itself(side, rank, in_place):
    shape = 3, *SHAPE
    options = {**OPTIONS, "rank": rank, "in_place": in_place}
    stack = start(shape)
    matrices = [nn.Parameter(matrix.detach().clone()) for matrix in stack]
    optimizer, others = Soap([stack], **options), Soap(matrices, **options)
    optimizer.turn(stack, side)
    for matrix in matrices:
        others.turn(matrix, side)
    for gradient in np.random.RandomState(1).normal(size=(21, *shape)).cumsum(axis=2):
        stack.grad = torch.tensor(gradient)
        for matrix, own in zip(matrices, gradient, strict=True):
            matrix.grad = torch.tensor(own)
        optimizer.step()
        others.step()
    # float64 sums in another order
    torch.testing.assert_close(stack, torch.stack(list(matrices)), rtol=1e-10, atol=1e-12)


def test_defaults_are_those_that_are_documented():
    options = Soap([start()]).defaults
    documented = {"lr": 12e-3, "betas": (0.9, 0.99), "eps": 1e-8, "rank": 32, "memory": 0.8}
    assert options == {**documented, "period": 10, "clip": math.inf, "in_place": False}


def test_a_matrix_in_a_layer_of_ones_own_makes_the_next_layer_hidden():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3, 4))

    linear = nn.Linear(3, 2)
    ((weight, side),) = hidden_sides(nn.Sequential(Own(), nn.Tanh(), linear))
    assert weight is linear.weight
    assert side == 1


def test_what_rounding_leaves_of_a_side_that_has_axes_alone_makes_no_steps():
    steps, values = 1e3 * np.random.RandomState(0).normal(size=(60, 8, 40)), []
    for dtype in (torch.float32, torch.float64):
        weight = nn.Parameter(torch.zeros(8, 40, dtype=dtype))
        optimizer = Soap([weight], rank=8)
        optimizer.turn(weight, 0)
        values.append(stepped(optimizer, weight, steps)[-1].double().numpy())
    # Adam's steps are as long for rounding as for gradients: 60 of 12e-3
    np.testing.assert_allclose(*values, atol=1e-3)
