"""The networks."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from scipy import special
from sklearn.base import clone
from torch import nn
from torch.nn import functional

from skae import AutoencoderTransformer
from skae.modules import (
    ACTIVATIONS,
    MLP,
    Autoencoder,
    ConvDecoder,
    ConvEncoder,
    Gate,
    LinearSkip,
    Logistic,
    SoftClip,
    SoftThreshold,
    TiedLinear,
    Variational,
)

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
    largest = np.array([0.5, 1.0, 20.0])
    u = np.random.RandomState(0).normal(size=(50, 3)) * np.array([1.0, 10.0, 1000.0])
    clip = SoftClip(torch.tensor(largest), *([] if at is None else [at]))
    expected = u / np.sqrt(1 + (u / ((at or 4.0) * largest)) ** 2)
    # float64 against float64
    np.testing.assert_allclose(clip(torch.tensor(u)).numpy(), expected, rtol=1e-14)


def test_soft_clip_keeps_the_scale_near_zero():
    clip = SoftClip(torch.tensor([2.0], dtype=torch.float64))
    u = torch.tensor([[1e-4]], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(clip(u), u)
    # 1 - 1.5 * (u / bound)**2 in the first order, and (1e-4 / 8)**2 is 1.6e-10
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
    largest = torch.tensor([2e-6, 1.0])
    assert torch.equal(SoftClip(largest).bound, 4 * largest)


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


def test_penalized_are_the_matrices_behind_a_gate_times_its_factor():
    encoder = MLP([4, 2])
    gate = Gate(nn.Sequential(nn.Linear(2, 3), nn.Conv1d(1, 1, 1)))
    nn.init.constant_(gate.factor, 0.3)
    decoder = LinearSkip(nn.Linear(2, 4), gate, SoftClip(torch.ones(2)))
    plain, *products = Autoencoder(encoder, decoder).penalized_weights()
    assert plain is encoder[0].weight
    assert len(products) == 2
    for product, layer in zip(products, gate.module, strict=True):
        assert torch.equal(product, 0.3 * layer.weight)
    # both have gradients
    sum(p.square().sum() for p in products).backward()
    squares = sum(layer.weight.detach().square().sum() for layer in gate.module)
    torch.testing.assert_close(gate.factor.grad, 2 * 0.3 * squares)
    for layer in gate.module:
        torch.testing.assert_close(layer.weight.grad, 2 * 0.3**2 * layer.weight.detach())


def test_penalized_are_matrices_behind_several_gates_times_all_their_factors():
    inner = Gate(nn.Linear(3, 4))
    outer = Gate(nn.Sequential(nn.Linear(2, 3), inner))
    nn.init.constant_(inner.factor, 0.5)  # powers of two: exact
    nn.init.constant_(outer.factor, -2.0)
    first, second = Autoencoder(nn.Linear(4, 2), outer).penalized_weights()[1:]
    assert torch.equal(first, -2 * outer.module[0].weight)
    assert torch.equal(second, -inner.module.weight)


def test_penalized_is_a_gate_itself_before_a_network_without_trained_matrices():
    for module in (nn.LayerNorm(4), nn.Linear(4, 4).requires_grad_(False)):
        encoder = Gate(module)
        weights = Autoencoder(encoder, nn.LayerNorm(4)).penalized_weights()
        assert same(weights, [encoder.factor])


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


class Tempered(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.temperature = nn.Linear(4, 2), nn.Parameter(torch.tensor(5.0))


@pytest.mark.parametrize("wrap", [lambda network: network, Gate])
def test_vectors_and_single_numbers_are_not_penalized(wrap):
    encoder = Tempered()
    penalized = Autoencoder(wrap(encoder), nn.Linear(2, 4, bias=False)).penalized_weights()
    assert [tuple(weight.shape) for weight in penalized] == [(2, 4), (4, 2)]


def test_all_of_a_users_network_is_penalized_whatever_its_layers_are_called():
    encoder, decoder = Residual(), MLP([2, 4])
    weights = Autoencoder(encoder, decoder).penalized_weights()
    assert same(weights, [encoder.stem.weight, encoder.branch.weight, decoder[0].weight])


def test_a_decoder_is_followed_by_the_output():
    encoder, decoder = MLP([4, 3, 2]), MLP([2, 3, 4])
    autoencoder = Autoencoder(encoder, decoder, nn.Tanh())
    x, code = torch.randn(5, 4), torch.randn(5, 2)
    assert torch.equal(autoencoder.decode(code), decoder(code).tanh())
    assert torch.equal(autoencoder(x), decoder(encoder(x)).tanh())


def test_without_an_output_decoding_is_the_decoder_alone():
    decoder = MLP([2, 3, 4])
    code = torch.randn(5, 2)
    assert torch.equal(Autoencoder(MLP([4, 2]), decoder).decode(code), decoder(code))


@pytest.mark.parametrize("training", [False, True])
def test_of_a_plain_encoder_penalties_see_the_rows_and_the_codes(training):
    encoder = MLP([4, 3, 2])
    autoencoder = Autoencoder(encoder, MLP([2, 4])).train(training)
    x = torch.randn(5, 4)
    pieces = autoencoder.encoded(x)
    assert set(pieces) == {"x", "code"}
    assert pieces["x"] is x
    assert torch.equal(pieces["code"], encoder(x))


def mirrored(mlp, bias=True):
    """Return an MLP of the reverse widths with the transposed weights of another one."""
    sources = [layer for layer in mlp if isinstance(layer, nn.Linear)]
    widths = [sources[0].in_features, *(source.out_features for source in sources)]
    return MLP(widths[::-1], "tanh", linear=lambda n_in, n_out: TiedLinear(sources.pop(), bias))


def test_tied_weights_are_penalized_once():
    encoder = MLP([4, 3, 2])
    weights = Autoencoder(encoder, mirrored(encoder)).penalized_weights()
    assert same(weights, [encoder[0].weight, encoder[-1].weight])


def test_a_tied_linear_path_is_free_on_both_sides():
    to_code, branch = nn.Linear(4, 2, bias=False), MLP([4, 3, 2])
    encoder = LinearSkip(to_code, branch, SoftClip(torch.ones(4)))
    gate = Gate(mirrored(branch))
    decoder = LinearSkip(TiedLinear(to_code, bias=False), gate, SoftClip(torch.ones(2)))
    weights = Autoencoder(encoder, decoder).penalized_weights()
    assert same(weights, [branch[0].weight, branch[-1].weight, gate.factor])


def test_a_linear_path_is_free_also_where_its_weight_is_first_met_elsewhere():
    to_row = nn.Linear(2, 4, bias=False)
    decoder = LinearSkip(to_row, MLP([2, 3, 4]), SoftClip(torch.ones(2)))
    weights = Autoencoder(TiedLinear(to_row), decoder).penalized_weights()
    assert same(weights, [decoder.branch[0].weight, decoder.branch[-1].weight])


def test_a_linear_path_is_free_also_padded_and_deep_inside():
    branch = MLP([4, 3, 4])
    padded = nn.Sequential(nn.Linear(4, 2, bias=False), nn.ConstantPad1d((0, 2), 0.0))
    skip = LinearSkip(padded, branch, SoftClip(torch.ones(4)))
    encoder = nn.Sequential(Variational(skip, torch.zeros(2)), SoftThreshold(2))
    decoder = MLP([2, 4])
    weights = Autoencoder(encoder, decoder).penalized_weights()
    # the learned constants are vectors, and not penalized as no vector is
    assert same(weights, [branch[0].weight, branch[-1].weight, decoder[0].weight])


# ----------------------------------------------------------------------------------- TiedLinear


@pytest.mark.parametrize("bias", [True, False])
def test_a_tied_layer_is_the_transpose_of_its_source(bias):
    source = nn.Linear(3, 2)
    tied = TiedLinear(source, bias)
    x = torch.randn(5, 2)
    expected = x.numpy() @ source.weight.detach().numpy()
    if bias:
        assert torch.equal(tied.bias, torch.zeros(3))  # its own, not the source's
        nn.init.normal_(tied.bias)
        expected = expected + tied.bias.detach().numpy()
    else:
        assert tied.bias is None
    np.testing.assert_allclose(tied(x).detach().numpy(), expected, rtol=ROUNDING, atol=ROUNDING)


def test_a_tied_layer_has_the_parameter_of_its_source():
    source = nn.Linear(3, 2)
    tied = TiedLinear(source)
    assert tied.weight is source.weight
    assert len(list(nn.Sequential(source, tied).parameters())) == 3


def test_gradients_of_both_uses_of_a_tied_weight_add_up():
    source = nn.Linear(3, 2).double()
    tied = TiedLinear(source, bias=False)
    x = torch.randn(5, 3).double()
    tied(source(x)).square().sum().backward()
    # the same map with two matrices that do not know of each other
    down, up = (source.weight.detach().clone().requires_grad_() for _ in range(2))
    ((x @ down.T + source.bias.detach()) @ up).square().sum().backward()
    assert down.grad.abs().min() > 0
    assert up.grad.abs().min() > 0
    torch.testing.assert_close(source.weight.grad, down.grad + up.grad)  # float64


def pickled(module):
    return pickle.loads(pickle.dumps(module))


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled, lambda module: module.double()])
def test_a_tie_outlives_copies_and_changes_of_precision(copied):
    encoder = MLP([4, 3, 2], "tanh")
    module = Autoencoder(encoder, mirrored(encoder))
    x = torch.randn(5, 4)
    expected = module(x).detach()
    n_parameters = len(list(module.parameters()))
    copied_module = copied(module)
    assert len(list(copied_module.parameters())) == n_parameters == 2 + 4
    for source, tied in ((0, 2), (2, 0)):
        assert copied_module.decoder[tied].weight is copied_module.encoder[source].weight
    dtype = copied_module.decoder[0].weight.dtype
    output = copied_module(x.to(dtype)).float()
    torch.testing.assert_close(output, expected, rtol=ROUNDING, atol=ROUNDING)


def test_the_state_of_tied_layers_is_loaded_into_others():
    def tied_pair():
        encoder = MLP([4, 3, 2], "tanh")
        decoder = mirrored(encoder)
        nn.init.normal_(decoder[0].bias)
        return Autoencoder(encoder, decoder)

    module, other = tied_pair(), tied_pair()
    x = torch.randn(5, 4)
    assert not torch.equal(other(x), module(x))
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(x), module(x))
    assert other.decoder[-1].weight is other.encoder[0].weight


def test_a_mirrored_mlp_is_the_transposed_maps_in_reverse():
    encoder = MLP([4, 3, 2], "tanh")
    decoder = mirrored(encoder)
    assert [type(layer) for layer in decoder] == [TiedLinear, nn.Tanh, TiedLinear]
    code = torch.randn(5, 2)
    expected = (code @ encoder[-1].weight).tanh() @ encoder[0].weight
    torch.testing.assert_close(decoder(code), expected, rtol=ROUNDING, atol=ROUNDING)


# -------------------------------------------------------------------------------- SoftThreshold


def thresholded(*thresholds):
    layer = SoftThreshold(len(thresholds)).double()
    with torch.no_grad():
        layer.threshold.copy_(torch.tensor(thresholds))
    return layer


def test_a_soft_threshold_is_the_identity_at_first():
    u = torch.cat([torch.randn(20, 3), torch.zeros(1, 3)])
    assert torch.equal(SoftThreshold(3)(u), u)


@pytest.mark.parametrize("threshold", [0.25, 1.0, 7.5])
def test_a_soft_threshold_is_its_formula(threshold):
    u = 3 * torch.randn(50, 2, dtype=torch.float64)
    expected = torch.cat(
        [functional.softshrink(u[:, :1], threshold), functional.softshrink(u[:, 1:], 0.5)], dim=1
    )
    # float64 against float64: one rounding of values up to 10
    torch.testing.assert_close(thresholded(threshold, 0.5)(u), expected, rtol=0, atol=1e-14)


def test_what_is_below_a_soft_threshold_is_exactly_zero_and_nothing_else():
    u = torch.tensor([[0.99], [-0.99], [1.0], [0.0], [1.01], [-1.01]]).double()
    assert (thresholded(1.0)(u) != 0).flatten().tolist() == [False] * 4 + [True] * 2


def test_gradients_of_a_soft_threshold_are_those_of_its_formula():
    layer = thresholded(1.0, 0.5)
    u = 2 * torch.randn(30, 2, dtype=torch.float64)
    factors = torch.randn(30, 2, dtype=torch.float64)
    assert 0 < (u.abs() > torch.tensor([1.0, 0.5])).sum() < 60
    u.requires_grad_()
    (factors * layer(u)).sum().backward()
    passes = u.detach().abs() > torch.tensor([1.0, 0.5])
    assert torch.equal(u.grad, factors * passes)
    expected = -(factors * passes * u.detach().sign()).sum(dim=0)
    torch.testing.assert_close(layer.threshold.grad, expected)  # float64


@pytest.mark.parametrize("threshold", [0.0, -0.5])
def test_a_threshold_that_is_not_positive_can_only_be_moved_upwards(threshold):
    layer = thresholded(threshold, threshold)
    u = torch.tensor([[1.0, 1.0], [-2.0, -2.0]]).double().requires_grad_()
    # such a threshold draws nothing, nor away from zero
    assert torch.equal(layer(u), u)
    # Of each of the codes 1 and -2 a threshold takes one: a larger first one lowers this loss by 2,
    # as would a smaller second one, but that is not to be had.
    output = layer(u).abs().sum(dim=0)
    (output[0] - output[1]).backward()
    assert layer.threshold.grad.tolist() == [-2.0, 0.0]
    assert u.grad.tolist() == [[1.0, -1.0], [-1.0, 1.0]]


def test_descent_never_takes_a_threshold_below_zero_for_long():
    layer = thresholded(0.1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.3)
    u = torch.tensor([[1.0]]).double()
    for sign in [-1, -1, -1, 1]:  # down from 0.1 by 0.3 once, and then no further; up by 0.3
        optimizer.zero_grad()
        (sign * layer(u)).sum().backward()
        optimizer.step()
    assert layer.threshold.item() == pytest.approx(0.1, abs=1e-7)  # 0.1 is a float32 at first


# ---------------------------------------------------------------------------------- Variational


def variational(mean, log_variance, constant, **parameters):
    """Return an encoder whose codes have the same distribution whatever the row."""
    network = nn.Linear(3, 2 * len(mean))
    nn.init.zeros_(network.weight)
    with torch.no_grad():
        network.bias.copy_(torch.tensor([*mean, *log_variance]))
    return Variational(network, torch.tensor(constant), **parameters)


def test_a_variational_encoders_distribution_is_the_halves_and_the_constant():
    network, constant = MLP([3, 5, 4], "tanh"), torch.tensor([-1.0, 0.5])
    x = torch.randn(6, 3)
    mean, log_variance = Variational(network, constant.clone()).distribution(x)
    assert torch.equal(mean, network(x)[:, :2])
    assert torch.equal(log_variance, network(x)[:, 2:] + constant)


def test_outside_of_training_a_variational_code_is_the_mean():
    network = MLP([3, 5, 4], "tanh")
    x = torch.randn(6, 3)
    encoder = Variational(network, torch.zeros(2)).eval()
    assert torch.equal(encoder(x), network(x)[:, :2])


N_DRAWS = 20_000


@pytest.mark.parametrize("drawn", ["in training", "for a loss"])
def test_variational_codes_are_normal_with_the_mean_and_variance_that_are_given(drawn):
    encoder = variational([1.0, -2.0], [0.5, -0.5], [-1.0, 1.5])
    rows = torch.zeros(N_DRAWS, 3)
    with torch.no_grad():
        if drawn == "in training":
            codes = encoder.train()(rows)
        else:
            codes = Autoencoder(encoder.eval(), nn.Identity()).encoded(rows)["code"]
    u = (codes.double().numpy() - [1.0, -2.0]) / np.exp([-0.25, 0.5])
    # Standard normal: five standard errors of the first four moments, whose variances in one draw
    # are 1, 2, 15 and 96, and of the correlation
    for power, moment, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        tolerance = 5 * math.sqrt(variance / N_DRAWS)
        np.testing.assert_allclose((u**power).mean(axis=0), moment, atol=tolerance)
    assert abs((u[:, 0] * u[:, 1]).mean()) < 5 / math.sqrt(N_DRAWS)


def test_a_variational_encoder_that_does_not_draw_gives_the_mean_everywhere():
    encoder = Variational(MLP([3, 5, 4], "tanh"), torch.zeros(2), draws=False)
    x = torch.randn(6, 3)
    mean = encoder.network(x)[:, :2]
    assert torch.equal(encoder.train()(x), mean)
    assert torch.equal(encoder.eval()(x), mean)
    assert torch.equal(Autoencoder(encoder, MLP([2, 3])).encoded(x)["code"], mean)


def test_gradients_of_drawn_codes_reach_means_variances_and_the_constant():
    encoder = variational([0.0, 0.0], [0.0, 0.0], [1.0, -1.0]).train()
    codes = encoder(torch.zeros(6, 3))
    codes.sum().backward()
    # of code = mean + exp(l / 2) * noise the derivatives are 1 and half of the code less its mean
    by_variance = codes.detach().sum(dim=0) / 2
    expected = torch.cat([torch.full((2,), 6.0), by_variance])
    torch.testing.assert_close(encoder.network.bias.grad, expected, rtol=ROUNDING, atol=ROUNDING)
    torch.testing.assert_close(encoder.log_variance.grad, by_variance, rtol=ROUNDING, atol=ROUNDING)
    assert by_variance.abs().min() > 0


@pytest.mark.parametrize("training", [False, True])
def test_of_a_variational_encoder_penalties_see_drawn_codes_and_their_distribution(training):
    encoder = Variational(MLP([4, 3, 4], "tanh"), torch.tensor([0.5, -0.5]))
    autoencoder = Autoencoder(encoder, MLP([2, 4])).train(training)
    x = torch.randn(5, 4)
    first, second = autoencoder.encoded(x), autoencoder.encoded(x)
    assert set(first) == {"x", "code", "mean", "log_variance"}
    assert first["x"] is x
    for name, expected in zip(["mean", "log_variance"], encoder.distribution(x), strict=True):
        assert torch.equal(first[name], expected)
    assert not torch.eq(first["code"], first["mean"]).any()
    assert not torch.eq(first["code"], second["code"]).any()
    assert torch.equal(autoencoder.eval()(x), autoencoder.decode(first["mean"]))


# --------------------------------------------------------------------- convolutional networks

SHAPES = [(1, 1), (1, 2), (2, 5), (1, 17), (1, 1, 1), (1, 9, 7), (2, 8, 8), (3, 1, 6), (3, 4, 5)]


@pytest.mark.parametrize("channels", [(), (4,), (4, 3, 2)])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_convolutional_networks_take_images_of_any_size(shape, kernel_size, stride, channels):
    n_features = math.prod(shape)
    kind = channels, kernel_size, stride, "tanh"
    encoder = ConvEncoder(shape, *kind)(n_features, 2)
    decoder = ConvDecoder(shape, *kind)(2, n_features)
    code = encoder(torch.randn(6, n_features))
    assert code.shape == (6, 2)
    assert decoder(code).shape == (6, n_features)
    decoder(code).square().sum().backward()
    for parameter in [*encoder.parameters(), *decoder.parameters()]:
        assert parameter.grad.any()


def convolution(x, layer, **kind):
    """Return a convolution as the sum over shifts of the image, padded with zeros on each side."""
    function = functional.conv1d if x.ndim == 3 else functional.conv2d
    margin = layer.weight.shape[-1] // 2
    x = functional.pad(x, [margin] * 2 * (x.ndim - 2))
    return function(x, layer.weight, layer.bias, **kind)


@pytest.mark.parametrize("shape", [(2, 17), (3, 9, 7), (1, 8, 8)], ids=str)
@pytest.mark.parametrize(("kernel_size", "stride"), [(3, 2), (5, 3), (1, 1)])
def test_a_convolutional_encoder_is_convolutions_of_the_reshaped_row(shape, kernel_size, stride):
    n_features = math.prod(shape)
    network = ConvEncoder(shape, (4, 3), kernel_size, stride, "gelu")(n_features, 2)
    x = torch.randn(5, n_features)
    convolutions = [m for m in network if isinstance(m, nn.Conv1d | nn.Conv2d)]
    image = x.reshape(5, *shape)
    for layer in convolutions:
        image = functional.gelu(convolution(image, layer, stride=stride))
    assert image.shape[1] == 3
    expected = image.reshape(5, -1) @ network[-1].weight.T + network[-1].bias
    torch.testing.assert_close(network(x), expected, rtol=ROUNDING, atol=ROUNDING)


def enlarged(image, size):
    """Return an image whose values are repeated along each axis, as evenly as may be."""
    for axis, length in enumerate(size, start=2):
        image = image.index_select(axis, torch.arange(length) * image.shape[axis] // length)
    return image


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [((2, 17), [(9,), (5,)]), ((3, 9, 7), [(5, 4), (3, 2)]), ((1, 8, 8), [(4, 4), (2, 2)])],
    ids=str,
)
def test_a_convolutional_decoder_repeats_values_and_convolves_them(shape, sizes):
    n_features = math.prod(shape)
    network = ConvDecoder(shape, (4, 3), activation="tanh")(2, n_features)
    code = torch.randn(5, 2)
    first, second = (m for m in network if isinstance(m, nn.Conv1d | nn.Conv2d))
    image = (code @ network[0].weight.T + network[0].bias).reshape(5, 3, *sizes[1])
    image = convolution(enlarged(image.tanh(), sizes[0]), first)
    assert image.shape == (5, 4, *sizes[0])
    image = convolution(enlarged(image.tanh(), shape[1:]), second)
    assert image.shape == (5, *shape)
    torch.testing.assert_close(network(code), image.reshape(5, -1), rtol=ROUNDING, atol=ROUNDING)


def test_a_pixel_is_seen_by_the_code_values_around_it_alone():
    network = ConvEncoder((1, 8, 8), (1,), stride=1, activation="identity")(64, 2)
    image = torch.zeros(1, 1, 8, 8)
    image[0, 0, 3, 5] = 1.0
    convolved = network[:-2](image.reshape(1, 64)) - network[:-2](torch.zeros(1, 64))
    seen = torch.zeros(8, 8, dtype=torch.bool)
    seen[2:5, 4:7] = True
    assert torch.equal(convolved[0, 0] != 0, seen)


@pytest.mark.parametrize("kind", [ConvEncoder, ConvDecoder])
def test_without_channels_a_convolutional_network_is_a_linear_map(kind):
    n_in, n_out = (12, 2) if kind is ConvEncoder else (2, 12)
    network = kind((1, 3, 4), channels=())(n_in, n_out)
    weight, bias = network.parameters()
    assert weight.shape == (n_out, n_in)
    x = torch.randn(5, n_in)
    torch.testing.assert_close(network(x), x @ weight.T + bias, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("channels", [(), (4, 3)])
@pytest.mark.parametrize("kind", [ConvEncoder, ConvDecoder])
def test_zero_last_layer_silences_a_convolutional_network_and_leaves_the_rest(kind, channels):
    n_in, n_out = (27, 2) if kind is ConvEncoder else (2, 27)
    network = kind((3, 9), channels, activation="logistic")(n_in, n_out)
    before = copy.deepcopy(network)
    assert before(torch.randn(4, n_in)).any()
    assert network.zero_last_layer() is network
    assert torch.equal(network(1e3 * torch.randn(4, n_in)), torch.zeros(4, n_out))
    parameters = list(network.parameters())
    assert len(parameters) == 2 * (len(channels) + 1)
    for now, then in zip(parameters[:-2], list(before.parameters())[:-2], strict=True):
        assert torch.equal(now, then)
    network(torch.randn(4, n_in)).sum().backward()
    assert parameters[-2].grad.any()


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("kind", [ConvEncoder, ConvDecoder])
def test_a_convolutional_network_has_the_activation_of_its_name_once_in_each_stage(kind, name):
    n_in, n_out = (18, 2) if kind is ConvEncoder else (2, 18)
    layers = list(kind((2, 9), (4, 3), activation=name)(n_in, n_out))
    assert sum(type(layer) is ACTIVATIONS[name] for layer in layers) == 2


@pytest.mark.parametrize(
    ("shape", "kernel_size", "message"),
    [
        ((1, 8, 8), 3, r"^shape must be .* have n_features=63 values, got \(1, 8, 8\)\.$"),
        ((63,), 3, r"^shape must be \(channels, length\) or .*, got \(63,\)\.$"),
        ((1, 1, 9, 7), 3, r"^shape must be .*, got \(1, 1, 9, 7\)\.$"),
        ((), 3, r"^shape must be .*, got \(\)\.$"),
        ((1, 9, 7), 2, r"^kernel_size must be odd, got 2\.$"),
    ],
)
@pytest.mark.parametrize("kind", [ConvEncoder, ConvDecoder])
def test_what_no_convolutional_network_can_be_made_of_is_said(kind, shape, kernel_size, message):
    widths = (63, 4) if kind is ConvEncoder else (4, 63)
    with pytest.raises(ValueError, match=message):
        kind(shape, kernel_size=kernel_size)(*widths)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"channels": (4, 0)}, r"^channels must be integers of at least 1, got \(4, 0\)\.$"),
        ({"channels": (4, 2.5)}, r"^channels must be integers .*, got \(4, 2\.5\)\.$"),
        ({"kernel_size": 3.0}, r"^kernel_size must be an integer of at least 1, got 3\.0\.$"),
        ({"stride": 0}, r"^stride must be an integer of at least 1, got 0\.$"),
        ({"activation": "sine"}, r"^activation must be one of .*'relu'.*, got 'sine'\.$"),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [ConvEncoder, ConvDecoder])
def test_what_no_stage_can_be_made_of_is_said(kind, parameters, message):
    widths = (63, 4) if kind is ConvEncoder else (4, 63)
    with pytest.raises(ValueError, match=message):
        kind((1, 9, 7), **parameters)(*widths)


PARAMETERS = {
    "shape": (1, 9, 7),
    "channels": (4, 2),
    "kernel_size": 5,
    "stride": 3,
    "activation": "silu",
}


@pytest.mark.parametrize("kind", [ConvEncoder, ConvDecoder])
def test_parameters_of_a_convolutional_network_are_got_and_set_as_scikit_learns(kind):
    made = kind(**PARAMETERS)
    assert made.get_params() == made.get_params(deep=False) == PARAMETERS
    assert made.set_params(channels=(7,), stride=2) is made
    assert made.get_params() == {**PARAMETERS, "channels": (7,), "stride": 2}
    # what was returned before is no way in
    made.get_params()["stride"] = 9
    assert made.stride == 2


@pytest.mark.parametrize("kind", [ConvEncoder, ConvDecoder])
def test_an_unknown_parameter_of_a_convolutional_network_is_refused_and_nothing_is_set(kind):
    made = kind(**PARAMETERS)
    message = rf"^{kind.__name__} must be given its own parameters, \[.*'channels'.*'widths'\]\.$"
    with pytest.raises(ValueError, match=message):
        made.set_params(stride=1, widths=3)
    assert made.get_params() == PARAMETERS


@pytest.mark.parametrize("copied", [clone, copy.deepcopy, pickled, lambda kind: eval(repr(kind))])
@pytest.mark.parametrize("kind", [ConvEncoder, ConvDecoder])
def test_a_convolutional_network_is_cloned_copied_pickled_and_written(kind, copied):
    made = kind(**PARAMETERS)
    other = copied(made)
    assert type(other) is kind
    assert other is not made
    assert other.get_params() == PARAMETERS
    other.set_params(stride=1)
    assert made.stride == 3


@pytest.mark.parametrize("kind", [ConvEncoder, ConvDecoder])
def test_what_else_a_convolutional_network_has_is_no_parameter(kind):
    class Counted(kind):
        n_calls_ = 0

        def __call__(self, n_in, n_out):
            self.n_calls_ += 1
            return super().__call__(n_in, n_out)

    made = Counted(**PARAMETERS)
    made(*((63, 4) if kind is ConvEncoder else (4, 63)))
    assert made.n_calls_ == 1
    assert made.get_params() == clone(made).get_params() == PARAMETERS
    assert repr(made) == repr(Counted(**PARAMETERS))
    with pytest.raises(ValueError, match=r"got \['n_calls_'\]"):
        made.set_params(n_calls_=3)


def test_a_search_reaches_the_parameters_of_convolutional_networks():
    encoder, decoder = ConvEncoder((1, 9, 7)), ConvDecoder((1, 9, 7))
    estimator = AutoencoderTransformer(encoder=encoder, decoder=decoder)
    assert estimator.get_params()["encoder__channels"] == (16, 32)
    cloned = clone(estimator).set_params(encoder__channels=(4,), decoder__stride=3)
    assert (cloned.encoder.channels, cloned.decoder.channels) == ((4,), (16, 32))
    assert (cloned.encoder.stride, cloned.decoder.stride) == (2, 3)
    assert (encoder.channels, decoder.stride) == ((16, 32), 2)
    with pytest.raises(ValueError, match=r"^ConvEncoder must be .*, got \['widths'\]\.$"):
        cloned.set_params(encoder__widths=3)


@pytest.mark.parametrize("kind", [ConvEncoder, ConvDecoder])
def test_made_convolutional_networks_are_pickled_and_change_precision(kind):
    widths = (63, 4) if kind is ConvEncoder else (4, 63)
    network = kind(**PARAMETERS)(*widths)
    x = torch.randn(5, widths[0])
    assert torch.equal(pickled(network)(x), network(x))
    double = copy.deepcopy(network).double()(x.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), network(x), rtol=ROUNDING, atol=ROUNDING)


def test_each_call_makes_a_network_of_its_own():
    encoder = ConvEncoder((1, 9, 7))
    one, other = encoder(63, 4), encoder(63, 4)
    assert not {id(p) for p in one.parameters()} & {id(p) for p in other.parameters()}
    assert not torch.equal(one[-1].weight, other[-1].weight)
