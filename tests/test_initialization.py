"""Where training starts."""

import copy
import re

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

from skae._batches import InputRows
from skae._initialization import (
    StreamPCA,
    adding_nothing,
    checked_output,
    data_units,
    deviations_along,
    linear_paths,
    own_network,
    perceptron,
    principal_components,
    set_to_pca,
    with_linear_skip,
)
from skae.modules import MLP, Autoencoder, Gate, LinearSkip


def table(n_rows=50, n_features=6, seed=0):
    """Return rows whose features have clearly different variances, in a general position."""
    rng = np.random.RandomState(seed)
    spread = np.geomspace(4, 0.5, n_features)
    return (rng.normal(size=(n_rows, n_features)) * spread) @ rng.normal(
        size=(n_features, n_features)
    ) + rng.normal(size=n_features)


# ------------------------------------------------------------------------------------ data_units


def expected_units(X):
    X = X.astype(np.float64)
    return X.mean(axis=0), np.sqrt(X.var(axis=0).mean())


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n_rows", [2, 50, 5000])  # more than are taken at a time
def test_units_are_the_mean_row_and_the_root_of_the_mean_variance(dtype, n_rows):
    X = table(n_rows).astype(dtype)
    mean, scale = data_units(X)
    expected_mean, expected_scale = expected_units(X)
    assert mean.dtype == np.float64
    assert isinstance(scale, float)
    # float64 rounding for data in float32 too, of sums that numpy takes in another order
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-12)
    assert scale == pytest.approx(expected_scale, rel=1e-12)


@pytest.mark.parametrize("unit", [1e-300, 1e-200, 1e-30, 1e30, 1e150])
def test_units_go_with_the_units_of_the_data(unit):
    X = table()
    mean, scale = data_units(X)
    scaled_mean, scaled_scale = data_units(X * unit)
    # rounding of X * unit
    np.testing.assert_allclose(scaled_mean, mean * unit, rtol=1e-13)
    assert scaled_scale == pytest.approx(scale * unit, rel=1e-13)


@pytest.mark.parametrize("unit", [1e-30, 1e30])
def test_float32_data_whose_squares_would_overflow_have_units_too(unit):
    X = (table() * unit).astype(np.float32)
    mean, scale = data_units(X)
    expected_mean, expected_scale = expected_units(X)
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-12)
    assert scale == pytest.approx(expected_scale, rel=1e-12)


@pytest.mark.parametrize(("dtype", "offset"), [(np.float64, 1e9), (np.float32, 1e4)])
def test_an_offset_leaves_the_scale(dtype, offset):
    X = (table() + offset).astype(dtype)
    mean, scale = data_units(X)
    expected_mean, expected_scale = expected_units(X)
    # the mean has 16 digits, of which the offset takes 9 from its deviations
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-14)
    assert scale == pytest.approx(expected_scale, rel=1e-7)
    assert scale == pytest.approx(data_units(table())[1], rel=1e-3)  # float32 has 7 digits


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e30, 12345.678, 1e-30])
@pytest.mark.parametrize("n_rows", [2, 3, 1000])  # of the last the mean is off by some roundings
def test_rows_that_are_all_equal_have_scale_one(dtype, value, n_rows):
    X = np.full((n_rows, 3), value, dtype=dtype)
    mean, scale = data_units(X)
    assert scale == 1.0
    np.testing.assert_allclose(mean, X[0].astype(np.float64), rtol=1e-13)  # float64


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_one_feature_that_varies_is_enough_for_a_scale(dtype):
    X = np.zeros((4, 4), dtype=dtype)
    X[0, 0] = 1
    # variance 3 / 16 of one feature in four; the sum of squares is a dyadic number
    assert data_units(X)[1] == pytest.approx(np.sqrt(3 / 64), rel=1e-15)


def test_a_deviation_far_above_rounding_is_no_rounding():
    X = np.full((4, 2), 1.0)
    X[0, 0] += 1e-12
    assert data_units(X)[1] == pytest.approx(X.std(axis=0)[0] / np.sqrt(2), rel=1e-3)


@pytest.mark.parametrize(
    "X",
    [
        np.array([[1.7e308, 0.0], [1.7e308, 1.0], [-1.7e308, 3.0]]),  # finite sums
        np.array([[1.2e308, 0.0], [1.7e308, 1.0], [1.1e308, 3.0]]),  # of near values
        np.array([[1.7e308, 0.0], [-1.7e308, 1.0], [-1.7e308, 3.0]]),  # of infinite deviation
    ],
    ids=["sums", "offset", "deviations"],
)
def test_values_too_large_for_squares_are_refused_in_one_sentence_and_no_warning(X):
    with pytest.raises(ValueError, match=r"^X must have a variance that is finite in float64"):
        data_units(X)


def test_the_largest_values_whose_squares_are_finite_have_units():
    mean, scale = data_units(np.array([[-1.3e154, 0.0], [1.3e154, 1.0]]))
    np.testing.assert_array_equal(mean, [0, 0.5])
    assert scale == pytest.approx(1.3e154 / np.sqrt(2), rel=1e-15)


def test_units_leave_the_data_alone():
    X = table()
    before = X.copy()
    X.setflags(write=False)
    data_units(X)
    np.testing.assert_array_equal(X, before)


# -------------------------------------------------------------------------- principal_components


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n_components", [1, 2, 6, 0.8])
@pytest.mark.parametrize("unit", [1.0, 1e-5, 1e5])
def test_in_ordinary_units_the_components_are_scikit_learns_to_the_bit(dtype, n_components, unit):
    X = (table(100) * unit).astype(dtype)
    components = principal_components(X, *data_units(X), n_components, random_state=0).components_
    expected = PCA(n_components, random_state=0).fit(X).components_
    np.testing.assert_array_equal(components, expected)


@pytest.mark.parametrize(
    ("dtype", "unit", "offset"),
    [
        # float64 has the range and the digits for more
        (np.float64, 1e-50, 0),
        (np.float64, 1e50, 0),
        (np.float64, 1, 2e4),
        (np.float32, 1, 30),
    ],
)
def test_ordinary_units_are_those_in_which_a_gram_matrix_has_enough_digits(dtype, unit, offset):
    X = (table(100) * unit + offset).astype(dtype)
    mean, scale = data_units(X)
    assert 3 < scale / unit < 6
    components = principal_components(X, mean, scale, 2, random_state=0).components_
    np.testing.assert_array_equal(components, PCA(2).fit(X).components_)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_random_state_is_that_of_pcas_solver(seed):
    X = np.random.RandomState(0).normal(size=(60, 550))  # a shape that gets the randomized solver
    units = data_units(X)
    components = principal_components(X, *units, 2, random_state=seed).components_
    np.testing.assert_array_equal(components, PCA(2, random_state=seed).fit(X).components_)
    other = principal_components(X, *units, 2, random_state=seed + 10).components_
    assert not np.array_equal(components, other)


@pytest.mark.parametrize(
    ("unit", "offset"),
    [(1e-30, 0), (1e-7, 0), (1e7, 0), (1e30, 0), (1e150, 0), (1e-150, 0), (1, 1e6), (1e10, 1e15)],
)
@pytest.mark.parametrize("n_rows", [100, 20])  # the solver of tall tables, and that of others
def test_elsewhere_the_components_do_not_depend_on_units_and_offset(unit, offset, n_rows):
    X = table(n_rows)
    moved = X * unit + offset
    components = principal_components(moved, *data_units(moved), 3, random_state=0).components_
    expected = PCA(3).fit(X).components_
    # rounding of the data: an offset of 1e6 leaves 10 digits to deviations of size 1
    np.testing.assert_allclose(components, expected, atol=1e-7)


@pytest.mark.parametrize("offset", [0, 30, 100, 300, 1000, 3000, 1e4])
def test_far_off_float32_data_have_their_components(offset):
    X = (table(100) + offset).astype(np.float32)
    components = principal_components(X, *data_units(X), 3, random_state=0).components_
    # Those of the float32 values, in float64. At 30 float32's Gram matrix is right to 1e-4, by the
    # square of the mean, and the third variance is the fourth and 0.5.
    expected = PCA(3).fit(X.astype(np.float64)).components_
    np.testing.assert_allclose(components, expected, atol=1e-3)


@pytest.mark.parametrize("unit", [1e-30, 1e30])
def test_tiny_and_huge_float32_data_have_their_components(unit):
    X = (table(100) * unit).astype(np.float32)
    components = principal_components(X, *data_units(X), 3, random_state=0).components_
    # float32 rounding in the Gram matrix
    np.testing.assert_allclose(components, PCA(3).fit(table(100)).components_, atol=1e-4)


def test_constant_data_have_orthonormal_components():
    X = np.full((5, 3), 7.0)
    components = principal_components(X, *data_units(X), 2, random_state=0).components_
    np.testing.assert_allclose(components @ components.T, np.eye(2), atol=1e-15)  # float64


def test_a_fraction_is_that_of_the_variance_whatever_the_units():
    X = table(100)
    expected = len(PCA(0.8).fit(X).components_)
    assert 1 < expected < 6
    for unit in (1, 1e-30, 1e30):
        moved = X * unit
        pca = principal_components(moved, *data_units(moved), 0.8, 0)
        assert len(pca.components_) == expected


# -------------------------------------------------------------------------------------- networks


def with_skip(encoder, decoder, data, components=None, n_components=2):
    """Return an autoencoder with linear paths, at PCA where components are given."""
    n_components = n_components if components is None else len(components)
    paths = linear_paths(data.shape[1], n_components, "random", tied=False)
    if components is not None:
        set_to_pca(*paths, components, np.ones(n_components))
        encoder, decoder = (adding_nothing(branch, tied=False) for branch in (encoder, decoder))
    inputs = InputRows(data, nn.Identity())
    return Autoencoder(*with_linear_skip(encoder, decoder, *paths, inputs, inputs, n_more=0))


def test_our_network_is_a_perceptron():
    module = perceptron([4, 7, 3, 2], "tanh", 0.25, "random")
    assert isinstance(module, MLP)
    assert repr(module) == repr(MLP([4, 7, 3, 2], "tanh", 0.25))


class Net(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.layer = nn.Linear(n_in, n_out)

    def forward(self, x):
        return self.layer(x)


@pytest.mark.parametrize("own", [Net, lambda n_in, n_out: Net(n_in, n_out)])
def test_a_class_or_callable_is_called_with_the_outer_widths(own):
    module = own_network(own, 4, 2)
    assert type(module) is Net
    assert (module.layer.in_features, module.layer.out_features) == (4, 2)


def test_an_instance_is_copied():
    own = Net(4, 2)
    before = copy.deepcopy(own.state_dict())
    module = own_network(own, 4, 2)
    assert module is not own
    assert torch.equal(module.layer.weight, own.layer.weight)
    nn.init.zeros_(module.layer.weight)
    assert torch.equal(own.layer.weight, before["layer.weight"])


def test_a_module_that_a_callable_returns_each_time_is_copied():
    shared = Net(4, 2)
    module = own_network(lambda n_in, n_out: shared, 4, 2)
    nn.init.zeros_(module.layer.weight)
    assert shared.layer.weight.all()


@pytest.mark.parametrize("own", [None, Net])
def test_networks_are_float32_and_on_the_cpu_whatever_torchs_defaults_are(own):
    # drawn in the user's default precision, as any module, and only then converted
    data = torch.tensor(in_units(table())).float()
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        if own is None:
            networks = [perceptron(widths, "relu", 0.0, "random") for widths in ([6, 2], [2, 6])]
        else:
            networks = own_network(own, 6, 2), own_network(own, 2, 6)
        module = with_skip(*networks, data, PCA(2).fit(data.numpy()).components_)
        random = with_skip(*networks, data)
    finally:
        torch.set_default_dtype(before)
    for tensor in [*module.state_dict().values(), *random.state_dict().values()]:
        assert (tensor.dtype, tensor.device.type) == (torch.float32, "cpu")


def test_networks_are_float32_and_a_users_instance_stays_as_it_is():
    own = Net(4, 2).double()
    for given in (own, lambda n_in, n_out: Net(n_in, n_out).double()):
        assert own_network(given, 4, 2).layer.weight.dtype == torch.float32
    assert own.layer.weight.dtype == torch.float64


def give_a_number(n_in, n_out):
    return 3


def take_one(n_in):
    return nn.Linear(n_in, 2)


def give_a_lazy_one(n_in, n_out):
    return nn.LazyLinear(n_out)


@pytest.mark.parametrize(
    ("own", "got"),
    [
        (give_a_number, f", got 3 from {give_a_number!r}"),
        (
            take_one,
            f", got {take_one!r}, which raised take_one() takes 1 positional argument but 2 were"
            " given",
        ),
        (give_a_lazy_one, " whose weights have their shapes, got lazy ones"),
    ],
    ids=["a number", "an error", "a lazy one"],
)
def test_what_gives_no_module_with_weights_is_refused_in_one_sentence(own, got):
    with pytest.raises(TypeError) as info:
        own_network(own, 4, 2)
    assert str(info.value) == (
        "encoder and decoder must be an nn.Module or, called with (n_in, n_out), return one"
        f"{got}; return a module that maps (batch, 4) to (batch, 2)."
    )


# -------------------------------------------------------------------------------- checked_output


def test_checked_output_is_what_the_network_gives():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
    before = copy.deepcopy(module.state_dict())
    rows = torch.randn(2, 4)
    output = checked_output("encoder", module.eval(), (rows,), (2, 3))
    assert torch.equal(output, module(rows))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_checked_output_may_have_one_of_some_shapes_and_several_inputs():
    rows = torch.randn(2, 4)
    for function in (torch.dot, torch.mul):
        shapes = [(), (2, 4)] if function is torch.mul else [(), (3,)]
        inputs = (rows, rows) if function is torch.mul else (rows[0], rows[1])
        assert torch.equal(checked_output("loss", function, inputs, *shapes), function(*inputs))
    with pytest.raises(ValueError, match=re.escape("loss mul must map shape (2, 4) and (2, 4) to")):
        checked_output("loss", torch.mul, (rows, rows), (), (2,))


class Wrong(nn.Module):
    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, x):
        if isinstance(self.output, Exception):
            raise self.output
        return self.output


FAULTS = {
    "shape": (torch.zeros(2, 4), "but gave shape (2, 4)."),
    "dimension": (torch.zeros(2), "but gave shape (2,)."),
    "rows": (torch.zeros(1, 3), "but gave shape (1, 3)."),
    "tuple": ((torch.zeros(2, 3), torch.zeros(2, 3)), "but gave a tuple."),
    "nan": (torch.full((2, 3), torch.nan), "but gave NaN or infinity."),
    "inf": (torch.tensor([[0.0, 0.0, 0.0], [0.0, -torch.inf, 0.0]]), "but gave NaN or infinity."),
    "error": (RuntimeError("no way"), "but raised RuntimeError: no way"),
}


@pytest.mark.parametrize("role", ["encoder", "decoder"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_network_is_named_with_what_it_was_given_and_what_is_expected(role, fault):
    output, complaint = FAULTS[fault]
    with pytest.raises(ValueError, match="Wrong") as info:
        checked_output(role, Wrong(output), (torch.zeros(2, 5),), (2, 3))
    assert str(info.value) == (
        f"{role} Wrong must map shape (2, 5) to finite values of shape (2, 3), {complaint}"
    )
    if isinstance(output, Exception):
        assert info.value.__cause__ is output


def test_a_network_that_changes_its_input_is_refused_in_one_sentence():
    module = nn.ReLU(inplace=True)
    with pytest.raises(ValueError, match="changed its input") as info:
        checked_output("encoder", module, (torch.tensor([[-1.0, 1.0]]),), (1, 2))
    assert str(info.value) == (
        "encoder ReLU must map shape (1, 2) to finite values of shape (1, 2), but changed its"
        " input; do not work in place on that."
    )


def test_the_error_of_a_network_of_wrong_width_is_passed_on():
    with pytest.raises(ValueError, match=re.escape("must map shape (2, 5) to")) as info:
        checked_output("encoder", nn.Linear(4, 3), (torch.zeros(2, 5),), (2, 3))
    assert "mat1 and mat2 shapes cannot be multiplied" in str(info.value)


# ------------------------------------------------------------------------------ with_linear_skip


def in_units(X):
    mean, scale = data_units(X)
    return (X - mean) / scale


def skip_at_pca(n_components, encoder=None, decoder=None):
    X = in_units(table(100))
    pca = PCA(n_components).fit(X)
    encoder = MLP([6, 8, n_components]) if encoder is None else encoder
    decoder = MLP([n_components, 8, 6]) if decoder is None else decoder
    data = torch.tensor(X, dtype=torch.float32)
    return with_skip(encoder, decoder, data, pca.components_), pca, data


@pytest.mark.parametrize("n_components", [1, 3, 6])
@pytest.mark.parametrize("own", [False, True])
def test_with_components_the_start_is_pca(n_components, own):
    networks = (Net(6, n_components), Net(n_components, 6)) if own else (None, None)
    module, pca, data = skip_at_pca(n_components, *networks)
    with torch.no_grad():
        codes, x_hat = module.encoder(data), module(data)
    # X is centred, and float32 rounds values of size 5
    np.testing.assert_allclose(codes.numpy(), pca.transform(data.numpy()), atol=5e-6)
    np.testing.assert_allclose(
        x_hat.numpy(), pca.inverse_transform(pca.transform(data.numpy())), atol=5e-6
    )
    assert torch.equal(codes, module.encoder.linear(data))  # the branch adds nothing at all


def test_linear_paths_have_no_bias_and_are_the_components_and_their_transpose():
    module, pca, _ = skip_at_pca(2)
    components = torch.tensor(pca.components_, dtype=torch.float32)
    for part, weight in [(module.encoder, components), (module.decoder, components.T)]:
        assert isinstance(part, LinearSkip)
        assert part.linear.bias is None
        assert torch.equal(part.linear.weight, weight)
        assert part.linear.weight.requires_grad


def test_a_perceptron_adds_nothing_by_its_last_layer_and_a_users_network_by_a_gate():
    own = Net(6, 2)
    weight = own.layer.weight.detach().clone()
    module, _, _ = skip_at_pca(2, encoder=own)
    assert isinstance(module.encoder.branch, Gate)
    assert module.encoder.branch.module is own
    assert torch.equal(own.layer.weight, weight)
    assert isinstance(module.decoder.branch, MLP)
    assert not module.decoder.branch[-1].weight.any()
    assert module.decoder.branch[0].weight.all()


def test_branches_bend_at_four_times_the_largest_of_what_they_see():
    module, pca, data = skip_at_pca(3)
    codes = np.abs(pca.transform(data.numpy()))
    # float32: four times is exact, and codes are of size 1
    np.testing.assert_array_equal(module.encoder.clip.bound, 4 * data.abs().amax(dim=0))
    np.testing.assert_allclose(module.decoder.clip.bound, 4 * codes.max(axis=0), rtol=1e-5)


def test_what_is_missing_is_not_the_largest():
    data = torch.tensor([[0.0, np.nan], [np.nan, -7.0], [2.0, 1.0]])
    module = with_skip(MLP([2, 1]), MLP([1, 2]), data)
    assert module.encoder.clip.bound.tolist() == [8.0, 28.0]


def test_without_components_the_start_is_random_in_all_parts():
    def start():
        networks = MLP([6, 8, 2]), MLP([2, 8, 6])
        return with_skip(*networks, torch.tensor(in_units(table())).float())

    torch.manual_seed(0)
    first, second = start(), start()
    torch.manual_seed(0)
    again = start()
    for part, other, same in zip(
        first.parameters(), second.parameters(), again.parameters(), strict=True
    ):
        assert part.any()
        assert not torch.equal(part, other)
        assert torch.equal(part, same)


def test_without_components_the_decoder_bends_beyond_the_random_codes():
    data = torch.tensor(in_units(table())).float()
    module = with_skip(MLP([6, 8, 2]), MLP([2, 8, 6]), data)
    codes = module.encoder.linear(data).detach().numpy()
    # float32 rounding
    np.testing.assert_allclose(module.decoder.clip.bound, 4 * abs(codes).max(axis=0), rtol=1e-5)


def test_without_components_a_users_network_has_no_gate():
    own = Net(6, 2)
    data = torch.tensor(in_units(table())).float()
    module = with_skip(own, MLP([2, 6]), data)
    assert module.encoder.branch is own


def test_starting_needs_no_graph():
    module, _, _ = skip_at_pca(2)
    assert not module.decoder.clip.bound.requires_grad
    assert all(parameter.is_leaf for parameter in module.parameters())


def test_columns_whose_variance_is_rounding_have_finite_deviations():
    for value in np.random.RandomState(0).normal(size=50):
        rows = InputRows(torch.full((7, 1), float(value)), nn.Identity())
        assert np.isfinite(deviations_along(np.ones((1, 1)), rows)).all()


def test_of_a_part_of_a_stream_rows_from_all_over_it_count():
    rng = np.random.RandomState(0)
    first, part = rng.normal(size=(2, 4000, 3)) * [3.0, 1.0, 0.3]
    part[2000:] *= 10
    stream = StreamPCA(np.eye(3)[:2])
    for rows in (first, part):
        stream.add(InputRows(torch.tensor(rows).float(), nn.Identity()))
    # half of the rows of the second part have a hundredfold variance
    assert stream.pca.var_[0] > 9 * 10


def test_axes_of_a_stream_that_are_not_near_are_not_followed():
    angle = np.arccos(0.7)
    turned = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    X = np.random.RandomState(0).normal(size=(500, 2)) * [1.0, 0.01] @ turned
    rows = InputRows(torch.tensor(X).float(), nn.Identity())
    assert not StreamPCA(np.eye(2)[:1]).add(rows).any()
