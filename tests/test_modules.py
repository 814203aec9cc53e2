"""The networks."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy import special
from torch import nn

from skae.modules import ACTIVATIONS, MLP, Autoencoder, Gate, LinearSkip, Logistic, SoftClip

# A few roundings of float32, whose unit is 6e-8, in sums of a handful of terms of size 1.
ROUNDING = 1e-6


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def parameters(module):
    return [parameter.detach().numpy() for parameter in module.parameters()]


# ---------------------------------------------------------------------------------- activations

CLOSED_FORMS = {
    "relu": lambda u: np.maximum(u, 0),
    "gelu": lambda u: u * special.ndtr(u),
    "silu": lambda u: u * special.expit(u),
    "tanh": np.tanh,
    "logistic": special.expit,
    "identity": lambda u: u,
}


def test_every_activation_has_a_closed_form_here():
    assert set(ACTIVATIONS) == set(CLOSED_FORMS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_the_function_of_its_name(name):
    u = np.linspace(-5, 5, 101)
    # float64 against float64: a few units in the last place of values up to 5
    np.testing.assert_allclose(
        ACTIVATIONS[name]()(torch.tensor(u)).numpy(), CLOSED_FORMS[name](u), rtol=0, atol=1e-14
    )


# ------------------------------------------------------------------------------------------ MLP


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("widths", [[3, 2], [3, 5, 2], [3, 5, 4, 2]])
def test_an_mlp_is_affine_maps_with_the_activation_between_them(widths, name):
    mlp = MLP(widths, name)
    x = np.random.RandomState(0).normal(size=(6, 3)).astype(np.float32)
    weights = parameters(mlp)
    assert [w.shape for w in weights[::2]] == list(zip(widths[1:], widths[:-1], strict=True))
    expected = x
    for i in range(0, len(weights), 2):
        expected = expected @ weights[i].T + weights[i + 1]
        if i < len(weights) - 2:  # nothing follows the last
            expected = CLOSED_FORMS[name](expected)
    np.testing.assert_allclose(
        mlp(torch.tensor(x)).detach().numpy(), expected, rtol=ROUNDING, atol=ROUNDING
    )


def test_an_mlp_has_relu_unless_told():
    assert isinstance(MLP([3, 4, 2])[1], nn.ReLU)


def test_dropout_follows_each_hidden_layer_and_only_them():
    layers = MLP([3, 5, 4, 2], "tanh", dropout=0.25)
    assert [type(layer) for layer in layers] == [
        *[nn.Linear, nn.Tanh, nn.Dropout],
        *[nn.Linear, nn.Tanh, nn.Dropout],
        nn.Linear,
    ]
    assert [layer.p for layer in layers if isinstance(layer, nn.Dropout)] == [0.25, 0.25]


def test_without_dropout_there_is_no_dropout_layer():
    assert [type(layer) for layer in MLP([3, 5, 2], "relu", 0.0)] == [
        nn.Linear,
        nn.ReLU,
        nn.Linear,
    ]


def test_dropout_leaves_out_hidden_units_in_training_only():
    mlp = MLP([1, 1000, 1], "identity", dropout=0.3)
    for layer in (mlp[0], mlp[-1]):
        nn.init.constant_(layer.weight, 1.0)
        nn.init.zeros_(layer.bias)
    x = torch.ones(1, 1)
    mlp.eval()
    assert mlp(x).item() == 1000
    mlp.train()
    # what is kept is scaled up by 1 / 0.7; its number is binomial, here within 4 deviations
    kept = mlp(x).item() * 0.7
    assert abs(kept - 700) < 4 * math.sqrt(1000 * 0.3 * 0.7)
    assert mlp(x).item() != mlp(x).item()


def test_linear_layers_come_from_the_factory():
    made = []

    def factory(n_in, n_out):
        made.append((n_in, n_out))
        return nn.Linear(n_in, n_out, bias=False)

    mlp = MLP([3, 5, 4, 2], linear=factory)
    assert made == [(3, 5), (5, 4), (4, 2)]
    assert [p.ndim for p in mlp.parameters()] == [2, 2, 2]


@pytest.mark.parametrize("widths", [[3, 2], [3, 5, 2]])
def test_zero_last_layer_makes_the_output_exactly_zero_and_leaves_the_rest(widths):
    mlp = MLP(widths, "logistic")
    before = copy.deepcopy(mlp)
    assert mlp.zero_last_layer() is mlp
    assert torch.equal(mlp(1e3 * torch.randn(4, 3)), torch.zeros(4, 2))
    for now, then in zip(list(mlp.parameters())[:-2], list(before.parameters())[:-2], strict=True):
        assert torch.equal(now, then)


def test_an_mlp_is_sliced_like_any_sequential():
    mlp = MLP([3, 5, 4, 2])
    x = torch.randn(6, 3)
    assert torch.equal(mlp[-1](mlp[:-1](x)), mlp(x))


def test_a_zeroed_last_layer_has_a_gradient_to_leave_zero_by():
    mlp = MLP([3, 5, 2], "tanh").zero_last_layer()
    mlp(torch.randn(4, 3)).sum().backward()
    assert mlp[-1].weight.grad.abs().min() > 0


# ------------------------------------------------------------------------------------- SoftClip


@pytest.mark.parametrize("at", [None, 4.0, 1.5])
def test_soft_clip_is_its_formula(at):
    sigma = np.array([0.5, 1.0, 20.0])
    u = np.random.RandomState(0).normal(size=(50, 3)) * np.array([1.0, 10.0, 1000.0])
    clip = SoftClip(torch.tensor(sigma)) if at is None else SoftClip(torch.tensor(sigma), at)
    expected = u / np.sqrt(1 + (u / ((at or 4.0) * sigma)) ** 2)
    # float64 against float64
    np.testing.assert_allclose(clip(torch.tensor(u)).numpy(), expected, rtol=1e-14)


def test_soft_clip_keeps_the_scale_near_zero():
    clip = SoftClip(torch.tensor([2.0], dtype=torch.float64))
    u = torch.tensor([[1e-4]], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(clip(u), u)
    # 1 - 1.5 * (u / 4 sigma)**2 in the first order, and (1e-4 / 8)**2 is 1.6e-10
    assert slope.item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("u", [1e6, 1e15, 1e30])
def test_soft_clip_saturates_at_its_bound_however_large_the_input(u):
    clip = SoftClip(torch.tensor([0.5, 1.0, 3.0]))
    bent = clip(torch.tensor([[u, -u, u]]))
    # one rounding: 1e6 is beyond the last digit that the 1 under the root can change
    torch.testing.assert_close(bent, torch.tensor([[2.0, -4.0, 12.0]]), rtol=2e-7, atol=0)


def test_soft_clip_never_passes_its_bound():
    clip = SoftClip(torch.tensor([1.0]))
    u = torch.logspace(-5, 30, 2000)[:, None]
    bent = clip(u)
    # one rounding of the quotient
    assert bent.max() <= 4 * (1 + 1.2e-7)
    assert bool((bent <= u).all())


@pytest.mark.parametrize("u", [0.0, 1.0, -1e15])
def test_soft_clip_of_a_coordinate_without_variance_has_a_finite_gradient(u):
    clip = SoftClip(torch.tensor([0.0]))
    x = torch.tensor([[u]], requires_grad=True)
    bent = clip(x)
    (slope,) = torch.autograd.grad(bent, x)
    assert abs(bent.item()) <= 4e-6 * (1 + 1.2e-7)  # its bound, with one rounding
    assert 0 <= slope.item() <= 1


def test_soft_clips_floor_leaves_small_deviations_alone():
    sigma = torch.tensor([2e-6, 1.0])
    assert torch.equal(SoftClip(sigma).bound, 4 * sigma)


# ------------------------------------------------------------------------------------ gate, skip


def test_a_gate_is_the_module_times_its_factor():
    module = nn.Linear(3, 2)
    gate = Gate(module)
    x = torch.randn(5, 3)
    assert torch.equal(gate(x), torch.zeros(5, 2))
    nn.init.constant_(gate.factor, -2.0)  # a power of two: exact
    assert torch.equal(gate(x), -2 * module(x))


def test_a_closed_gate_has_a_gradient_to_open_by():
    module = nn.Linear(3, 2)
    gate = Gate(module)
    x = torch.randn(5, 3)
    gate(x).sum().backward()
    torch.testing.assert_close(
        gate.factor.grad, module(x).sum().detach(), rtol=ROUNDING, atol=ROUNDING
    )
    assert not module.weight.grad.any()


def test_a_skip_is_the_linear_map_of_the_row_plus_the_branch_of_the_clipped_row():
    linear, branch, clip = nn.Linear(3, 2), MLP([3, 4, 2]), SoftClip(torch.full((3,), 0.1))
    x = torch.randn(5, 3)
    assert torch.equal(LinearSkip(linear, branch, clip)(x), linear(x) + branch(clip(x)))
    # at this bend the clip matters, and to the branch alone
    assert not torch.allclose(branch(clip(x)), branch(x), atol=0.01)


def test_far_from_the_data_a_skip_is_linear():
    skip = LinearSkip(nn.Linear(1, 1), MLP([1, 4, 1]), SoftClip(torch.ones(1)))
    near, far = (skip(torch.tensor([[u]])) - skip.linear(torch.tensor([[u]])) for u in (1e5, 1e7))
    # rounding of values of size 1e7
    torch.testing.assert_close(near, far, rtol=0, atol=1.0)
    assert torch.equal(skip.clip(torch.tensor([[1e5]])), skip.clip(torch.tensor([[1e7]])))


# ------------------------------------------------------------------------------------- Logistic


def test_logistic_gives_values_in_the_unit_interval_in_the_units_of_the_networks():
    mean, scale = np.array([0.2, 0.7]), 0.3
    u = np.random.RandomState(0).normal(size=(20, 2)) * 5
    output = Logistic(torch.tensor(mean), scale)(torch.tensor(u)).numpy()
    # scale is a float32 buffer
    np.testing.assert_allclose(output, (special.expit(u) - mean) / scale, rtol=1e-6)


def test_logistics_units_are_saved_with_it():
    state = Logistic(torch.tensor([0.25, 0.5]), 0.5).state_dict()
    other = Logistic(torch.zeros(2), 1.0)
    other.load_state_dict(state)
    assert torch.equal(other(torch.zeros(1, 2)), torch.tensor([[0.5, 0.0]]))


def test_the_bound_of_a_soft_clip_is_saved_with_it():
    clip = SoftClip(torch.ones(1))
    clip.load_state_dict(SoftClip(torch.tensor([3.0])).state_dict())
    assert clip.bound.item() == 12


@pytest.mark.parametrize(
    "module",
    [
        LinearSkip(nn.Linear(2, 2), Gate(MLP([2, 3, 2])), SoftClip(torch.ones(2))),
        Logistic(torch.tensor([0.25, 0.5]), 0.5),
    ],
)
def test_modules_change_precision_as_a_whole(module):
    x = torch.randn(3, 2)
    double = copy.deepcopy(module).double()(x.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), module(x), rtol=ROUNDING, atol=ROUNDING)


def test_what_is_not_the_users_is_float32_whatever_torchs_default_is():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        gate, logistic = Gate(nn.Identity()), Logistic(torch.zeros(2), 0.5)
    finally:
        torch.set_default_dtype(before)
    assert gate.factor.dtype == logistic.scale.dtype == torch.float32


# ---------------------------------------------------------------------------------- Autoencoder


def test_an_autoencoder_decodes_what_it_encodes():
    encoder, decoder = MLP([4, 3, 2]), MLP([2, 3, 4])
    x = torch.randn(5, 4)
    assert torch.equal(Autoencoder(encoder, decoder)(x), decoder(encoder(x)))


def same(tensors, expected):
    return [id(t) for t in tensors] == [id(t) for t in expected]


def test_penalized_are_the_matrices_of_plain_networks():
    encoder = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2))
    decoder = MLP([2, 4])
    weights = Autoencoder(encoder, decoder).penalized_weights()
    assert same(weights, [encoder[0].weight, encoder[3].weight, decoder[0].weight])


def test_penalized_are_the_branches_alone_where_there_is_a_skip():
    branch = MLP([4, 3, 2])
    encoder = LinearSkip(nn.Linear(4, 2), branch, SoftClip(torch.ones(4)))
    decoder = MLP([2, 4])
    weights = Autoencoder(encoder, decoder).penalized_weights()
    assert same(weights, [branch[0].weight, branch[-1].weight, decoder[0].weight])


def test_penalized_are_a_gate_and_the_matrices_behind_it():
    encoder = MLP([4, 2])
    gate = Gate(nn.Sequential(nn.Linear(2, 3), nn.Conv1d(1, 1, 1)))
    decoder = LinearSkip(nn.Linear(2, 4), gate, SoftClip(torch.ones(2)))
    weights = Autoencoder(encoder, decoder).penalized_weights()
    expected = [encoder[0].weight, gate.factor, gate.module[0].weight, gate.module[1].weight]
    assert same(weights, expected)


def test_frozen_weights_are_not_penalized():
    encoder, decoder = MLP([4, 3, 2]), MLP([2, 4])
    encoder[0].requires_grad_(False)
    weights = Autoencoder(encoder, decoder).penalized_weights()
    assert same(weights, [encoder[-1].weight, decoder[0].weight])


class Residual(nn.Module):
    """A user's own network, in which one layer happens to have this name."""

    def __init__(self):
        super().__init__()
        self.stem, self.branch = nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x):
        return self.stem(x) + self.branch(x)


def test_all_of_a_users_network_is_penalized_whatever_its_layers_are_called():
    encoder, decoder = Residual(), MLP([2, 4])
    weights = Autoencoder(encoder, decoder).penalized_weights()
    assert same(weights, [encoder.stem.weight, encoder.branch.weight, decoder[0].weight])
