"""Turning codes to their principal axes."""

import numpy as np
import pytest
import torch
from scipy.stats import ortho_group
from sklearn.decomposition import PCA
from torch import nn

from skae._axes import CodeMoments, ordered_axes, principal_axes, turned, unturned
from skae.modules import Autoencoder


def table(n_rows=60, seed=0):
    """Return rows with five features of clearly different variance, in a general position."""
    rng = np.random.RandomState(seed)
    X = rng.normal(size=(n_rows, 5)) * [5, 4, 3, 2, 1]
    return X @ ortho_group.rvs(5, random_state=seed) + [100, 0, 0, -7, 0]


def some_codes(X, n_components=3):
    """Return codes of rows that are correlated, off centre and no linear map of the rows."""
    rng = np.random.RandomState(1)
    return np.tanh(0.1 * X @ rng.normal(size=(5, n_components))) + 3


@pytest.mark.parametrize("n_components", [1, 3])
def test_on_its_axes_a_code_is_centred_uncorrelated_and_of_falling_variance(n_components):
    X = table()
    codes = some_codes(X, n_components)
    axes, mean = principal_axes(
        CodeMoments(torch.tensor(codes), torch.tensor(PCA(3).fit_transform(X)))
    )
    on_axes = (codes - mean.numpy()) @ axes.numpy().T
    covariance = on_axes.T @ on_axes / len(X)
    variances = np.diag(covariance)
    # float64 rounding of sums over 60 rows of numbers of size 1
    np.testing.assert_allclose(on_axes.mean(axis=0), 0, atol=1e-14)
    np.testing.assert_allclose(covariance - np.diag(variances), 0, atol=1e-14)
    np.testing.assert_allclose(axes @ axes.T, np.eye(n_components), atol=1e-14)
    assert bool((np.diff(variances) < 0).all())
    # a rotation keeps the total
    assert variances.sum() == pytest.approx(codes.var(axis=0).sum(), rel=1e-13)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_principal_component_that_covaries_most_with_a_code_covaries_positively(seed, sign):
    X = table(seed=seed)
    codes = sign * some_codes(X)
    scores = PCA(4).fit_transform(X)  # as many as there are, not only as many as codes
    axes, mean = principal_axes(CodeMoments(torch.tensor(codes), torch.tensor(scores)))
    covariances = ((codes - mean.numpy()) @ axes.numpy().T).T @ scores
    assert bool((covariances[range(3), np.abs(covariances).argmax(axis=1)] > 0).all())


@pytest.mark.parametrize("seed", range(4))
def test_pcas_codes_turned_and_shifted_at_will_are_brought_back_signs_included(seed):
    X = table(seed=seed)
    expected = PCA(3).fit_transform(X)
    codes = expected @ ortho_group.rvs(3, random_state=seed) + [1, 2, 3]
    axes, mean = principal_axes(CodeMoments(torch.tensor(codes), torch.tensor(expected)))
    on_axes = (codes - mean.numpy()) @ axes.numpy().T
    # rounding of float64 values of size 10, magnified by gaps between variances of the same size
    np.testing.assert_allclose(on_axes, expected, atol=1e-11)


def autoencoder():
    torch.manual_seed(0)
    return Autoencoder(nn.Linear(5, 3), nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 5)))


# A rotation that is not its own transpose, and a shift.
AXES = torch.tensor(ortho_group.rvs(3, random_state=0))
MEAN = torch.tensor([1.0, -2.0, 0.5]).double()


def test_a_turned_encoder_gives_the_code_on_the_axes():
    module = autoencoder()
    x = torch.randn(7, 5)
    with torch.no_grad():
        expected = (module.encoder(x).double() - MEAN) @ AXES.T
        codes = turned(module, AXES, MEAN).encoder(x)
    assert codes.dtype == torch.float32
    # float32 rounding of values of size 1
    torch.testing.assert_close(codes.double(), expected, rtol=0, atol=2e-6)


def test_turning_leaves_reconstructions_as_they_are():
    module = autoencoder()
    x = torch.randn(7, 5)
    # float32 rounding of a map and its inverse on values of size 1
    torch.testing.assert_close(turned(module, AXES, MEAN)(x), module(x), rtol=0, atol=2e-6)


def test_turning_by_nothing_changes_no_bit():
    module = autoencoder()
    x = torch.randn(7, 5)
    same = turned(module, torch.eye(3).double(), torch.zeros(3).double())
    assert torch.equal(same.encoder(x), module.encoder(x))
    assert torch.equal(same(x), module(x))


def test_fewer_axes_keep_the_part_of_codes_along_them():
    module = autoencoder()
    x = torch.randn(7, 5)
    part = turned(module, AXES[:2], MEAN)
    axes, mean = AXES[:2].float(), MEAN.float()
    code = (module.encoder(x) - mean) @ axes.T
    torch.testing.assert_close(part.encoder(x), code, rtol=0, atol=2e-6)
    torch.testing.assert_close(part(x), module.decoder(code @ axes + mean), rtol=0, atol=2e-6)


def test_the_axes_are_fixed_and_the_networks_are_not():
    module = autoencoder()
    trainable = [id(p) for p in turned(module, AXES, MEAN).parameters() if p.requires_grad]
    assert trainable == [id(p) for p in module.parameters()]


def test_unturned_is_the_autoencoder_before():
    module = autoencoder()
    before = unturned(turned(module, AXES, MEAN))
    assert before.encoder is module.encoder
    assert before.decoder is module.decoder


def test_axes_are_float32_and_on_the_cpu_whatever_torchs_defaults_are():
    module = autoencoder()
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            axes = turned(module, AXES, MEAN)
    finally:
        torch.set_default_dtype(before)
    for parameter in axes.parameters():
        assert (parameter.dtype, parameter.device.type) == (torch.float32, "cpu")


def test_turning_draws_nothing_from_the_global_generator():
    module = autoencoder()
    before = torch.get_rng_state()
    turned(module, AXES, MEAN)
    assert torch.equal(torch.get_rng_state(), before)


# --------------------------------------------------------------------- axes that codes have


def spread_codes(X, order):
    """Return codes of rows that are off centre, with deviations 1, 4, 9 in some order."""
    codes = some_codes(X)
    return (codes - 3) / codes.std(axis=0) * (1 + np.array(order)) ** 2 + [1, -2, 3]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("seed", range(3))
def test_ordered_axes_are_those_of_the_code_by_falling_variance_with_pcas_signs(order, seed):
    X = table(seed=seed)
    codes, scores = spread_codes(X, order), PCA(4).fit_transform(X)
    axes, mean = ordered_axes(CodeMoments(torch.tensor(codes), torch.tensor(scores)))
    assert axes.dtype == torch.float64
    # a signed permutation: nothing but one 1 or -1 in each row and column
    matrix = axes.numpy()
    assert np.isin(matrix, [-1, 0, 1]).all()
    assert np.array_equal(np.abs(matrix).sum(axis=0), np.ones(3))
    assert np.array_equal(np.abs(matrix).argmax(axis=1), np.argsort(order)[::-1])
    on_axes = (codes - mean.numpy()) @ matrix.T
    assert bool((np.diff(on_axes.var(axis=0)) < 0).all())
    covariances = (on_axes - on_axes.mean(axis=0)).T @ scores
    assert bool((covariances[range(3), np.abs(covariances).argmax(axis=1)] > 0).all())


def test_signs_of_ordered_axes_do_not_depend_on_those_of_the_code():
    X = table()
    codes, scores = spread_codes(X, (1, 2, 0)), PCA(4).fit_transform(X)
    expected, _ = ordered_axes(CodeMoments(torch.tensor(codes), torch.tensor(scores)))
    signs = np.array([-1, 1, -1])
    axes, _ = ordered_axes(CodeMoments(torch.tensor(codes * signs), torch.tensor(scores)))
    assert np.array_equal(codes * signs @ axes.numpy().T, codes @ expected.numpy().T)


def test_the_signs_of_ordered_axes_are_those_of_covariances_wherever_zero_is():
    X = table()
    scores = PCA(3).fit_transform(X)
    # scores as given need not be centred; codes far off must not decide by their mean
    far = torch.tensor(scores + 1e3)
    axes, _ = ordered_axes(CodeMoments(torch.tensor(-scores - 1e3), far))
    assert torch.equal(axes, -torch.eye(3).double())


def test_squares_along_axes_are_from_the_origin_that_is_asked_for():
    codes = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    axes = torch.linalg.qr(torch.arange(9.0, dtype=torch.float64).reshape(3, 3).cos())[0]
    origin = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    squares = CodeMoments(codes, codes).squares_along(axes, origin)
    # the codes are float32
    expected = ((codes.double() - origin) @ axes.T).square().mean(dim=0)
    torch.testing.assert_close(squares, expected, rtol=1e-5, atol=0)


def test_on_ordered_axes_zero_stays_where_it_is():
    X = table()
    codes = spread_codes(X, (2, 0, 1))
    codes[::3, 1] = 0
    axes, mean = ordered_axes(
        CodeMoments(torch.tensor(codes), torch.tensor(PCA(3).fit_transform(X)))
    )
    assert torch.equal(mean, torch.zeros(3).double())
    on_axes = (codes - mean.numpy()) @ axes.numpy().T
    assert (on_axes == 0).sum() == (codes == 0).sum() == len(X) / 3
    # and every value is there with its sign changed at most
    assert np.array_equal(np.sort(np.abs(on_axes), axis=1), np.sort(np.abs(codes), axis=1))


def test_ordered_axes_of_equal_variance_keep_their_order():
    X = table()
    codes = np.repeat(X[:, :1], 20, axis=1)
    codes[:, 7] *= 2
    scores = torch.tensor(PCA(3).fit_transform(X))
    axes, _ = ordered_axes(CodeMoments(torch.tensor(codes), scores))
    assert axes.abs().argmax(dim=1).tolist() == [7, *range(7), *range(8, 20)]


def test_ordered_axes_of_codes_without_variance_are_the_identity():
    scores = torch.tensor(PCA(3).fit_transform(table()))
    axes, mean = ordered_axes(CodeMoments(torch.full((60, 2), 3.0).double(), scores))
    assert torch.equal(axes, torch.eye(2).double())
    assert torch.equal(mean, torch.zeros(2).double())


def with_output():
    module = autoencoder()
    return Autoencoder(module.encoder, module.decoder, nn.Tanh())


def test_turning_keeps_what_follows_the_decoder():
    module = with_output()
    there = turned(module, AXES, MEAN)
    assert there.output is module.output
    assert unturned(there).output is module.output
    x = torch.randn(7, 5)
    assert not torch.allclose(autoencoder()(x), module(x), atol=0.01)
    # float32 rounding of a map and its inverse on values of size 1
    torch.testing.assert_close(there(x), module(x), rtol=0, atol=2e-6)


def test_turning_to_ordered_axes_changes_no_bit_of_reconstructions_from_codes_of_its_own():
    module = with_output()
    axes = torch.tensor([[0.0, -1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]).double()
    x = torch.randn(7, 5)
    there = turned(module, axes, torch.zeros(3).double())
    # sums of one value and zeros are exact, and so are two changes of a sign
    assert torch.equal(there.encoder(x), module.encoder(x) @ axes.T.float())
    assert torch.equal(there(x), module(x))


def test_moments_of_chunks_are_those_of_all_rows():
    rng = np.random.RandomState(0)
    codes, scores = rng.normal(size=(2, 40, 3))
    codes[20:] += 5
    scores[20:] -= 3
    moments = CodeMoments(torch.tensor(codes[:20]), torch.tensor(scores[:20]))
    moments.add(torch.tensor(codes[20:]), torch.tensor(scores[20:]))
    expected = np.cov(codes.T, scores.T, bias=True)[:3]
    np.testing.assert_allclose(moments.covariance, expected[:, :3], rtol=1e-12)
    np.testing.assert_allclose(moments.covariance_with_scores, expected[:, 3:], rtol=1e-12)
