"""The density of the codes and draws from it."""

import copy
import pickle
from functools import partial

import numpy as np
import pytest
from sklearn import config_context
from sklearn.mixture import GaussianMixture

from skae import AutoencoderTransformer, _density
from skae._density import code_density, density_rows, draw


def normal(n_rows, n_components=2, seed=0):
    return np.random.RandomState(seed).normal(size=(n_rows, n_components))


def three_groups(n_rows=600):
    """Return codes around three points far from each other, half of them around the first."""
    means = np.array([[0.0, 0.0], [40.0, 0.0], [0.0, 60.0]])
    groups = np.array([0, 0, 1, 2])[np.arange(n_rows) % 4]
    return means[groups] + normal(n_rows) * [1.0, 3.0]


def parameters(mixture):
    return [mixture.weights_, mixture.means_, mixture.covariances_]


def assert_same(mixture, other):
    for one, two in zip(parameters(mixture), parameters(other), strict=True):
        np.testing.assert_array_equal(one, two)


# ------------------------------------------------------------------------ number of components


@pytest.mark.parametrize(
    ("n_rows", "n_components", "expected"),
    [
        *[(2, 2, 1), (14, 2, 1), (29, 2, 1), (30, 2, 2), (44, 2, 2), (45, 2, 3)],
        *[(149, 2, 9), (150, 2, 10), (165, 2, 10), (3000, 2, 10)],
        *[(19, 1, 1), (20, 1, 2), (89, 8, 1), (90, 8, 2)],
    ],
)
def test_there_are_five_rows_for_each_direction_of_a_component_and_ten_components_at_most(
    n_rows, n_components, expected
):
    assert code_density(normal(n_rows, n_components), 0).n_components == expected


@pytest.mark.parametrize("exponent", [20, 60, 120])
def test_codes_of_any_size_have_the_same_density_in_their_units(exponent):
    codes, unit = three_groups(), 2.0**exponent
    mixture, far = code_density(codes, 0), code_density(unit * codes, 0)
    # 1e-6 is added to variances of 1 and more, and to larger ones what is less beside them
    np.testing.assert_allclose(far.weights_, mixture.weights_, rtol=1e-5)
    np.testing.assert_allclose(far.means_ / unit, mixture.means_, atol=1e-5)
    np.testing.assert_allclose(far.covariances_ / unit**2, mixture.covariances_, atol=1e-5)


@pytest.mark.parametrize("n_distinct", [1, 2, 3, 9, 12])
def test_there_are_no_more_components_than_distinct_codes(n_distinct):
    codes = np.repeat(100 * normal(n_distinct), 30, axis=0)
    mixture = code_density(codes, 0)
    assert mixture.n_components == min(n_distinct, 10)
    if n_distinct < 10:  # then one is at each
        np.testing.assert_allclose(
            np.sort(mixture.means_, axis=0), np.sort(codes[::30], axis=0), rtol=0, atol=1e-9
        )


def test_codes_that_differ_in_one_component_are_distinct():
    codes = np.zeros((300, 2))
    codes[:, 1] = np.arange(300) % 5
    assert code_density(codes, 0).n_components == 5


def test_constant_codes_are_drawn_as_they_are_but_for_the_floor_of_the_variance():
    drawn = draw(code_density(np.tile([1.0, -2.0], (100, 1)), 0), 500, 0)
    # scikit-learn adds 1e-6 to variances; six deviations
    np.testing.assert_allclose(drawn, np.tile([1.0, -2.0], (500, 1)), rtol=0, atol=6e-3)


# ----------------------------------------------------------------------------------------- fit


@pytest.mark.parametrize("codes", [normal(40), three_groups(), normal(2000, 3)], ids=len)
def test_the_mixture_has_the_mean_and_covariance_of_the_codes(codes):
    # which is so after each step of expectation maximisation
    mixture = code_density(codes, 0)
    weights, means, covariances = parameters(mixture)
    mean = weights @ means
    deviations = means - mean
    covariance = np.einsum("k,kij->ij", weights, covariances)
    covariance += (weights[:, np.newaxis] * deviations).T @ deviations
    # float64 rounding, in sums over up to 2000 rows of squares up to 3600
    np.testing.assert_allclose(mean, codes.mean(axis=0), rtol=0, atol=1e-10)
    floor = 1e-6 * np.eye(codes.shape[1])
    expected = np.cov(codes.T, ddof=0) + floor
    np.testing.assert_allclose(covariance, expected, rtol=0, atol=1e-9)


def test_the_seed_decides():
    codes = normal(300)
    mixture = code_density(codes, 3)
    assert_same(mixture, code_density(codes, 3))
    assert not np.array_equal(mixture.means_, code_density(codes, 4).means_)


def test_a_fit_leaves_the_global_generator_and_the_codes_as_they_are():
    codes = normal(3000)
    kept, (_, before, place, *_) = codes.copy(), np.random.get_state()
    code_density(codes, 0)
    _, after, new_place, *_ = np.random.get_state()
    assert np.array_equal(after, before)
    assert new_place == place
    assert np.array_equal(codes, kept)


def test_up_to_2000_rows_count_all():
    assert np.array_equal(density_rows(2000, 0), np.arange(2000))


def test_of_more_rows_a_random_sample_counts_each_row_once():
    codes = np.arange(5000.0)[:, np.newaxis]
    one, same, other = (codes[density_rows(5000, seed), 0] for seed in (0, 0, 1))
    assert len(np.unique(one)) == len(one) == 2000
    assert np.array_equal(one, same)
    assert not np.array_equal(np.sort(one), np.sort(other))
    assert np.isin(one, codes).all()
    # of any range a share of 0.4: five standard errors of draws without replacement
    share = (one < 2500).mean()
    assert abs(share - 0.5) < 5 * np.sqrt(0.25 / 2000 * 0.6)


def test_that_a_mixture_could_still_be_better_is_not_warned_about(monkeypatch):
    monkeypatch.setattr(_density, "GaussianMixture", partial(GaussianMixture, max_iter=1))
    # a warning would be an error here
    assert not code_density(normal(300), 0).converged_


def test_scikit_learns_array_api_dispatch_changes_nothing():
    codes = normal(300)
    expected = code_density(codes, 0)
    with config_context(array_api_dispatch=True):
        mixture = code_density(codes, 0)
        drawn = draw(mixture, 7, 0)
    assert_same(mixture, expected)
    np.testing.assert_array_equal(drawn, draw(expected, 7, 0))


# ---------------------------------------------------------------------------------------- draw


@pytest.fixture(scope="module")
def mixture():
    return code_density(three_groups(), 0)


@pytest.mark.parametrize("n_samples", [1, 7])
def test_as_many_codes_are_drawn_as_are_asked_for(mixture, n_samples):
    drawn = draw(mixture, n_samples, 0)
    assert drawn.shape == (n_samples, 2)
    assert drawn.dtype == np.float64


def test_an_integer_draws_the_same_again_and_another_does_not(mixture):
    drawn = draw(mixture, 50, 5)
    np.testing.assert_array_equal(draw(mixture, 50, 5), drawn)
    np.testing.assert_array_equal(draw(mixture, 50, np.random.RandomState(5)), drawn)
    assert not np.isin(draw(mixture, 50, 6), drawn).any()


def test_a_generator_goes_on_from_draw_to_draw(mixture):
    random_state = np.random.RandomState(5)
    one, other = (draw(mixture, 50, random_state) for _ in range(2))
    assert not np.isin(one, other).any()


def test_none_is_a_new_seed_and_not_numpys_global_generator(mixture):
    before = np.random.get_state()
    try:
        np.random.seed(0)
        one = draw(mixture, 50, None)
        _, keys, place, *_ = np.random.get_state()
        np.random.seed(0)
        _, fresh_keys, fresh_place, *_ = np.random.get_state()
        other = draw(mixture, 50, None)
    finally:
        np.random.set_state(before)
    assert not np.isin(one, other).any()
    assert np.array_equal(keys, fresh_keys)
    assert place == fresh_place


def test_the_order_of_draws_is_random_and_not_by_component(mixture):
    drawn = draw(mixture, 4000, 0)
    around_first = np.abs(drawn - [0, 0]).max(axis=1) < 20
    share = around_first.mean()
    # Rows in random order change between the first group and others with probability 2 p (1 - p);
    # five deviations of a binomial, and one change or two if the rows were grouped.
    p = 2 * share * (1 - share)
    n_changes = np.count_nonzero(np.diff(around_first))
    assert abs(n_changes - 3999 * p) < 5 * np.sqrt(3999 * p * (1 - p))


def test_draws_have_the_moments_of_the_mixture(mixture):
    n = 20_000
    drawn = draw(mixture, n, 0)
    weights, means, covariances = parameters(mixture)
    mean = weights @ means
    products = covariances + np.einsum("ki,kj->kij", means - mean, means - mean)
    covariance = np.einsum("k,kij->ij", weights, products)
    centred = drawn - mean
    # five standard errors, those of products as estimated from the draws
    tolerance = 5 * np.sqrt(np.diag(covariance) / n)
    assert bool((np.abs(centred.mean(axis=0)) < tolerance).all())
    squares = centred[:, :, np.newaxis] * centred[:, np.newaxis]
    tolerance = 5 * squares.std(axis=0) / np.sqrt(n)
    assert bool((np.abs(squares.mean(axis=0) - covariance) < tolerance).all())


def test_each_group_is_drawn_as_often_and_as_wide_as_it_is(mixture):
    n = 20_000
    drawn = draw(mixture, n, 0)
    for centre, share in [((0, 0), 0.5), ((40, 0), 0.25), ((0, 60), 0.25)]:
        group = drawn[np.abs(drawn - centre).max(axis=1) < 20]
        assert abs(len(group) / n - share) < 5 * np.sqrt(share * (1 - share) / n)
        # The mixture has seen 150 codes of a group, whose standard deviations are within
        # 1 / sqrt(2 * 150) = 6%: four of those, which also cover the draws'.
        np.testing.assert_allclose(group.std(axis=0), [1.0, 3.0], rtol=0.24)


@pytest.mark.parametrize("random_state", [0, None])
def test_drawing_leaves_the_mixture_as_it_is(mixture, random_state):
    before = copy.deepcopy(vars(mixture))
    draw(mixture, 50, random_state)
    assert vars(mixture).keys() == before.keys()
    for name, value in vars(mixture).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_it_is_fitted_when_it_is_first_asked_for(curve, monkeypatch):
    def fit(self, X, y=None):
        raise AssertionError("asked for too early")

    model = AutoencoderTransformer(max_iter=1, random_state=0)
    assert not hasattr(model, "density_")
    with monkeypatch.context() as patch:
        patch.setattr(GaussianMixture, "fit", fit)
        model.fit(curve).partial_fit(curve[:100]).transform(curve)
        with pytest.raises(AssertionError, match="too early"):
            model.sample()
    codes = model.transform(curve[:100]) / model.code_scale_
    expected = code_density(codes, model.density_.random_state)
    # codes in training are float32
    np.testing.assert_allclose(model.density_.means_, expected.means_, atol=1e-4)
    assert model.density_ is model.density_
    for loaded in (pickle.loads(pickle.dumps(model)), copy.copy(model)):
        assert np.array_equal(loaded.density_.means_, model.density_.means_)
    before = model.density_
    assert model.fit(curve).density_ is not before
