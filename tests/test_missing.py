"""Missing entries through the public face: what they do not change, and what fills them."""

import copy
import pickle
import random
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from scipy.special import xlog1py, xlogy
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.metrics.pairwise import nan_euclidean_distances
from sklearn.model_selection import GridSearchCV, ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from torch import nn

from skae import AutoencoderTransformer
from skae._mixed import Layout, MixedLoss, ObservedLoss
from skae.losses import AbsoluteError, BinaryCrossEntropy, Huber, Loss, SquaredError
from skae.modules import Filled

TEXTBOOK = {
    "linear_skip": False,
    "init": "random",
    "activation": "relu",
    "output_activation": "logistic",
}


def small(**parameters):
    """Return a transformer that trains a few epochs and keeps the last one."""
    defaults = {
        "hidden_layer_sizes": (16,),
        "max_iter": 5,
        "early_stopping": False,
        "random_state": 0,
    }
    return AutoencoderTransformer(**{**defaults, **parameters})


def with_gaps(X, share=0.2, seed=0):
    """Return a copy of which a share of the entries is missing, but no row or column as a whole."""
    gone = np.random.RandomState(seed).uniform(size=X.shape) < share
    gone[np.arange(len(X)), np.arange(len(X)) % X.shape[1]] = False
    return np.where(gone, np.nan, X)


def unit(X):
    return (X - X.min(axis=0)) / np.ptp(X, axis=0)


def answers(fitted, X):
    """Return all that a fitted transformer says of rows."""
    return [
        fitted.transform(X),
        fitted.reconstruct(X),
        fitted.score_samples(X),
        fitted.score(X),
        fitted.score_features(X).to_numpy(),
        fitted.reconstruction_errors(X).to_numpy(),
        np.asarray(fitted.impute(X), dtype=np.float64),
        np.array(fitted.loss_curve_),
        fitted.mean_,
        fitted.scale_,
        fitted.explained_variance_ratio_,
    ]


def assert_same_bits(some, others):
    for one, other in zip(some, others, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


@pytest.fixture(scope="module")
def holey(curve):
    return with_gaps(curve)


# ------------------------------------------------------------------------------ what is masked

CONFIGURATIONS = {
    "default": {},
    "folds": {"early_stopping": True, "max_iter": 3},
    "held out": {"early_stopping": True, "validation_fraction": 0.2, "max_iter": 3},
    "masking": {"corruption": "masking", "corruption_level": 0.3},
    "absolute error": {"loss": "absolute_error"},
    "contractive": {"penalty": "contractive", "alpha": 0.01},
    "start": {"max_iter": 0},
}


def nullable(values, mask):
    columns = [pd.arrays.FloatingArray(*both) for both in zip(values.T.copy(), mask.T, strict=True)]
    return pd.DataFrame({f"x{j}": column for j, column in enumerate(columns)})


@pytest.mark.parametrize("parameters", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_values_under_the_mask_change_no_bit(curve, holey, parameters):
    mask = np.isnan(holey)
    tables = [
        nullable(np.where(mask, hidden, curve), mask)
        for hidden in (curve, 0.0, 1e300, np.random.RandomState(1).normal(size=curve.shape))
    ]
    assert not np.array_equal(tables[0]["x0"].array._data, tables[1]["x0"].array._data)
    first, *others = [answers(small(**parameters).fit(X), X) for X in tables]
    for other in others:
        assert_same_bits(first, other)
    # what is compared is not all NaN, nor a constant
    assert np.unique(first[0]).size > 300


def test_masked_arrays_are_refused_where_something_is_masked(curve, holey):
    table = np.ma.masked_invalid(holey)
    with pytest.raises(ValueError, match="X must have NaN where entries are missing, got a masked"):
        small().fit(table)
    fitted = small().fit(table.filled(np.nan))
    with pytest.raises(ValueError, match="got a masked array"):
        fitted.impute(table)
    whole = np.ma.array(curve)
    np.testing.assert_array_equal(fitted.transform(whole), fitted.transform(curve))


@pytest.mark.parametrize(
    ("dtype", "bits", "patterns"),
    [
        (np.float64, np.uint64, [0x7FF8000000000000, 0x7FF80000DEADBEEF, 0xFFF8000000000001]),
        (np.float32, np.uint32, [0x7FC00000, 0x7FC0BEEF, 0xFFC00001]),
    ],
)
@pytest.mark.parametrize("sparse", [False, True])
def test_all_patterns_of_nan_are_alike(holey, dtype, bits, patterns, sparse):
    def table(pattern):
        X = holey.astype(dtype)
        X.view(bits)[np.isnan(X)] = pattern
        assert np.count_nonzero(X.view(bits) == pattern) == np.isnan(holey).sum()
        return X

    def said(X):
        fitted = small().fit(scipy.sparse.csr_array(X) if sparse else X)
        return answers(fitted, X)

    first, *others = [said(table(pattern)) for pattern in patterns]
    for other in others:
        assert_same_bits(first, other)


def need_pyarrow_for(dtype):
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")


@pytest.mark.parametrize("parameters", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
@pytest.mark.parametrize("table", ["Float64", "float64[pyarrow]", "polars"])
def test_where_nothing_is_missing_a_nullable_table_is_the_array(curve, parameters, table):
    names = [f"x{j}" for j in range(5)]
    if table == "polars":
        X = pytest.importorskip("polars").DataFrame(curve, schema=names)
    else:
        need_pyarrow_for(table)
        X = pd.DataFrame(curve, columns=names).astype(table)
    # the order in which a frame is read, on which the rounding of sums depends
    array = np.asfortranarray(curve)
    fitted = small(**parameters).fit(X)
    plain = small(**parameters).fit(array)
    assert type(fitted.net_.criterion_) is type(plain.net_.criterion_)
    assert not isinstance(plain.net_.criterion_, MixedLoss)  # it is the plain path
    assert_same_bits(answers(fitted, X), answers(plain, array))


@pytest.mark.parametrize("table", ["Float64", "float64[pyarrow]", "polars", "object", "NaN"])
def test_all_ways_to_say_missing_are_alike(holey, table):
    names = [f"x{j}" for j in range(5)]
    parameters = {}
    if table == "polars":
        values = [[None if np.isnan(v) else v for v in column] for column in holey.T]
        X = pytest.importorskip("polars").DataFrame(dict(zip(names, values, strict=True)))
    elif table == "object":
        X = pd.DataFrame(holey, columns=names).astype(object)
        X = X.where(X.notna(), None)
        parameters["categorical_features"] = None
    else:
        need_pyarrow_for(table)
        X = pd.DataFrame(holey, columns=names)
        X = X if table == "NaN" else X.astype(table)
    # as such frames are read; the rounding of sums depends on it
    if table == "NaN":
        array = X.to_numpy()
    else:
        array = holey if table == "object" else np.asfortranarray(holey)
    assert_same_bits(
        answers(small(**parameters).fit(X), X), answers(small(**parameters).fit(array), array)
    )


# --------------------------------------------------------------------------------- units and PCA


def test_mean_and_scale_are_those_of_the_observed_entries(holey):
    fitted = small(max_iter=0).fit(holey)
    mean = np.nanmean(holey, axis=0)
    # float64 throughout, but sums in another order
    np.testing.assert_allclose(fitted.mean_, mean, rtol=1e-12, atol=1e-15)
    assert fitted.scale_ == pytest.approx(np.sqrt(np.nanmean((holey - mean) ** 2)), rel=1e-12)


@pytest.mark.parametrize("loc", [0.0, 1e6])
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_units_of_tables_with_gaps_do_not_depend_on_where_they_are(holey, loc, scale):
    shifted = scale * (holey + loc)
    one, other = (small(max_iter=0).fit(X) for X in (holey, shifted))
    # the shift costs six of sixteen digits, and units are float32 from then on
    np.testing.assert_allclose(
        other.transform(shifted) / scale, one.transform(holey), rtol=1e-4, atol=1e-4
    )


def pca_of_gaps(X, k, n_completions=20, n_steps=10):
    """Return the codes and reconstructions of regularised iterative PCA, by numpy's SVD alone."""
    mean = np.nanmean(X, axis=0)
    scale = np.sqrt(np.nanmean((X - mean) ** 2))
    rows = (X - mean) / scale
    missing = np.isnan(rows)

    def shrunk(filled):
        """Return components and what noise leaves of codes."""
        centred = filled - filled.mean(axis=0)
        _, singular, components = np.linalg.svd(centred, full_matrices=False)
        variances = singular**2 / (len(X) - 1)
        return components[:k], 1 - variances[k:].mean() / variances[:k]

    filled = np.where(missing, 0, rows)
    for _ in range(n_completions):
        components, kept = shrunk(filled)
        centre = filled.mean(axis=0)
        fit = centre + ((filled - centre) @ components.T * kept) @ components
        filled = np.where(missing, fit, rows)
    components, kept = shrunk(filled)
    filled = np.where(missing, 0, rows)
    for _ in range(n_steps):
        filled = np.where(missing, (filled @ components.T * kept) @ components, rows)
    codes = filled @ components.T
    return codes * scale, codes @ components * scale + mean


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("share", [0.05, 0.3])
def test_without_training_it_is_regularised_iterative_pca(curve, k, share):
    X = with_gaps(curve, share)
    fitted = small(n_components=k, max_iter=0).fit(X)
    codes, reconstructed = pca_of_gaps(X, k)
    # Weights and training rows are float32, which the completions carry into the components: of
    # nearly equal variances they turn by more than a rounding.
    signs = np.sign((codes * fitted.transform(X)).sum(axis=0))
    np.testing.assert_allclose(fitted.transform(X), codes * signs, atol=1e-4)
    np.testing.assert_allclose(fitted.reconstruct(X), reconstructed, atol=1e-4)
    # and not what the mean in the place of gaps would give
    plain = np.where(np.isnan(X), fitted.mean_, X)
    assert np.abs(fitted.reconstruct(X) - fitted.reconstruct(plain)).max() > 0.05


def test_without_gaps_it_is_pca(curve):
    X = pd.DataFrame(curve).astype("Float64")
    X.columns = [f"x{j}" for j in range(5)]
    fitted = small(max_iter=0).fit(X)
    # weights are float32
    np.testing.assert_allclose(fitted.transform(X), PCA(2).fit_transform(curve), atol=1e-6)


def test_the_share_of_variance_that_sets_the_size_is_that_of_the_completed_rows(holey):
    fitted = small(n_components=0.8, max_iter=0).fit(holey)
    kept = [small(n_components=k, max_iter=0).fit(holey).score(holey) for k in (1, 2, 3, 4)]
    assert fitted.n_components_ == fitted.transform(holey).shape[1]
    assert fitted.score(holey) == pytest.approx(kept[fitted.n_components_ - 1], abs=1e-3)
    assert 1 < fitted.n_components_ < 5


@pytest.mark.parametrize("max_iter", [0, 5])
def test_explained_variance_ratios_sum_to_the_score_of_the_observed_entries(holey, max_iter):
    fitted = small(max_iter=max_iter).fit(holey)
    # summed in float32, of 1500 entries
    assert fitted.explained_variance_ratio_.sum() == pytest.approx(fitted.score(holey), abs=1e-5)


# ------------------------------------------------------------------------------- what L leaves out

MEAN, SCALE = torch.tensor([0.5, 0.4, 0.6, 0.5]), 0.25


def bent(x_hat, x):
    return torch.where((x_hat - x).abs() < 1, (x_hat - x).square() / 2, (x_hat - x).abs() - 0.5)


def cross_entropy(logits, x):
    x = x * SCALE + MEAN
    p = logits.sigmoid()
    return -(x * p.log() + (1 - x) * (1 - p).log())


def bent_slope(x_hat, x):
    return (x_hat - x).clamp(-1, 1)


def cross_entropy_slope(logits, x):
    return logits.sigmoid() - (x * SCALE + MEAN)


NAMED = {
    "squared_error": (
        SquaredError(),
        lambda x_hat, x: (x_hat - x).square(),
        lambda x_hat, x: 2 * (x_hat - x),
    ),
    "absolute_error": (
        AbsoluteError(),
        lambda x_hat, x: (x_hat - x).abs(),
        lambda x_hat, x: (x_hat - x).sign(),
    ),
    "huber": (Huber(), bent, bent_slope),
    "binary_cross_entropy": (BinaryCrossEntropy(MEAN, SCALE), cross_entropy, cross_entropy_slope),
}


@pytest.fixture
def pairs():
    """Reconstructions and rows in units, and the same rows with gaps."""
    generator = torch.Generator().manual_seed(0)
    x_hat = 2 * torch.randn(50, 4, generator=generator)
    x = (torch.rand(50, 4, generator=generator) - MEAN) / SCALE
    missing = torch.rand(50, 4, generator=generator) < 0.3
    return x_hat.requires_grad_(), x, x.masked_fill(missing, torch.nan)


def masked(loss, x):
    """Return the loss of entries that are there, and that of whole rows that is made of a loss."""
    return MixedLoss(loss, Layout([0] * x.shape[1]), []).weigh([x[:20], x[20:]])


@pytest.mark.parametrize("name", NAMED)
def test_the_loss_of_whole_rows_is_the_plain_one(pairs, name):
    x_hat, x, _ = pairs
    loss, _, _ = NAMED[name]
    losses = masked(loss, x)(x_hat, x)
    # a mean over four features, by weights or not
    torch.testing.assert_close(losses, loss(x_hat, x), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", NAMED)
def test_the_mean_loss_is_that_of_the_entries_that_are_there(pairs, name):
    x_hat, _, x = pairs
    loss, by_hand, slope = NAMED[name]
    there = ~x.isnan()
    mean = masked(loss, x)(x_hat, x).mean()
    # float32 sums of 200 entries
    torch.testing.assert_close(mean, by_hand(x_hat, x)[there].mean(), rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad(mean, x_hat)
    expected = slope(x_hat.detach(), x) / there.sum()
    torch.testing.assert_close(gradient[there], expected[there], rtol=1e-5, atol=1e-7)
    assert bool((gradient[~there] == 0).all())
    assert bool((gradient[there] != 0).all())


@pytest.mark.parametrize("name", NAMED)
def test_what_a_gap_is_reconstructed_by_does_not_matter(pairs, name):
    x_hat, _, x = pairs
    loss = masked(NAMED[name][0], x)
    other = torch.where(x.isnan(), x_hat + 3, x_hat)
    torch.testing.assert_close(loss(other, x), loss(x_hat, x), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["squared_error", "absolute_error", "huber"])
def test_a_loss_of_ones_own_leaves_gaps_out_as_a_named_one_does(pairs, name):
    x_hat, _, x = pairs
    loss, by_hand, slope = NAMED[name]
    there = ~x.isnan()
    own = ObservedLoss(Loss(lambda *both: by_hand(*both).mean(dim=1)), there.float().mean().item())
    # which share is there is float32
    torch.testing.assert_close(own(x_hat, x), masked(loss, x)(x_hat, x), rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad(own(x_hat, x).mean(), x_hat)
    expected = slope(x_hat.detach(), x) / there.sum()
    torch.testing.assert_close(gradient[there], expected[there], rtol=1e-5, atol=1e-7)
    assert bool((gradient[~there] == 0).all())


class OfLogits(Loss):
    from_logits = True


def test_a_loss_of_logits_in_whole_rows_is_refused_where_entries_are_missing(curve, holey):
    loss = OfLogits(lambda logits, x: (logits - x).square().mean(dim=1))
    assert small(loss=loss, max_iter=1).fit(curve).best_iter_ == 1
    with pytest.raises(ValueError, match=r"EntrywiseLoss where .* missing.*got OfLogits; impute"):
        small(loss=loss, max_iter=1).fit(holey)


class LargestError:
    def __call__(self, x_hat, x):
        return (x_hat - x).abs().amax(dim=1)


LOSSES = {
    "squared_error": ({}, lambda x_hat, x: (x_hat - x) ** 2),
    "absolute_error": ({}, lambda x_hat, x: np.abs(x_hat - x)),
    "huber": (
        {},
        lambda x_hat, x: np.where(
            np.abs(x_hat - x) < 1, (x_hat - x) ** 2 / 2, np.abs(x_hat - x) - 0.5
        ),
    ),
    "binary_cross_entropy": (TEXTBOOK, lambda p, x: -(xlogy(x, p) + xlog1py(1 - x, -p))),
}


def in_loss_units(fitted, X):
    """Return rows as the loss sees them: in units, or in [0, 1]."""
    return X if fitted.loss == "binary_cross_entropy" else (X - fitted.mean_) / fitted.scale_


@pytest.mark.parametrize("loss", LOSSES)
def test_the_training_loss_is_the_mean_over_observed_entries(holey, loss):
    X = (holey - np.nanmin(holey, axis=0)) / np.nanmax(holey - np.nanmin(holey, axis=0), axis=0)
    structure, by_hand = LOSSES[loss]
    parameters = {"loss": loss, "alpha": 0, "learning_rate_init": 1e-12, **structure}
    fitted = small(max_iter=1, **parameters).fit(X)
    x_hat = in_loss_units(fitted, fitted.reconstruct(X))
    expected = np.nanmean(by_hand(x_hat, in_loss_units(fitted, X)))
    # float32 losses; the steps are too small to see
    assert fitted.loss_curve_ == [pytest.approx(expected, rel=1e-5)]


@pytest.mark.parametrize("loss", LOSSES)
def test_the_validation_score_is_that_of_observed_held_out_entries(holey, loss):
    X = (holey - np.nanmin(holey, axis=0)) / np.nanmax(holey - np.nanmin(holey, axis=0), axis=0)
    structure, by_hand = LOSSES[loss]
    fitted = small(
        max_iter=0, early_stopping=True, validation_fraction=0.2, loss=loss, **structure
    ).fit(X)
    seed = check_random_state(0).randint(np.iinfo(np.int32).max)
    ((_, valid),) = ShuffleSplit(1, test_size=60, random_state=seed).split(X)
    x_hat = in_loss_units(fitted, fitted.reconstruct(X))[valid]
    x = in_loss_units(fitted, X)[valid]
    mean = in_loss_units(fitted, np.broadcast_to(fitted.mean_, x.shape))
    expected = 1 - np.nanmean(by_hand(x_hat, x)) / np.nanmean(by_hand(mean, x))
    # float32 losses
    assert fitted.validation_scores_ == [pytest.approx(expected, abs=1e-5)]


def test_the_loss_of_ones_own_sees_what_is_there(holey):
    fitted = small(
        loss=LargestError(), alpha=0, max_iter=1, learning_rate_init=1e-12, batch_size=300
    ).fit(holey)
    errors = np.abs(fitted.reconstruct(holey) - holey) / fitted.scale_
    expected = np.nanmax(errors, axis=1).mean() / (~np.isnan(holey)).mean()
    assert fitted.loss_curve_ == [pytest.approx(expected, rel=1e-5)]


# ------------------------------------------------------------------------------ what fills inputs


@pytest.fixture
def gaps():
    """Two orthonormal components of five inputs, and rows with gaps."""
    generator = torch.Generator().manual_seed(0)
    components = torch.linalg.qr(torch.randn(5, 2, generator=generator).double()).Q.T
    x = torch.randn(40, 5, generator=generator).double()
    missing = torch.rand(40, 5, generator=generator) < 0.4
    missing[:5] = False
    missing[:, :2] &= (~missing[:, 2:]).sum(dim=1, keepdim=True) >= 2
    return components.contiguous(), x.masked_fill(missing, torch.nan)


@pytest.mark.parametrize("kept", [[1.0, 1.0], [0.9, 0.5]])
def test_after_many_steps_gaps_are_what_a_ridge_regression_on_the_rest_says(
    gaps, kept, monkeypatch
):
    components, x = gaps
    kept = torch.tensor(kept).double()
    monkeypatch.setattr(Filled, "N_STEPS", 20_000)
    found = Filled(components, kept)(x)
    for row, full in zip(x, found, strict=True):
        there = ~row.isnan()
        if int(there.sum()) < 2:
            continue  # two codes of one number: without shrinking there is no one answer
        seen = components[:, there]
        # of codes z: |x - Cᵀz|² + Σ (1 - k) / k z²
        code = torch.linalg.solve(seen @ seen.T + ((1 - kept) / kept).diag(), seen @ row[there])
        # the slowest rows come nearer by a hundredth a step
        torch.testing.assert_close(
            full, torch.where(there, row, code @ components), atol=1e-6, rtol=0
        )


def test_more_steps_come_nearer(gaps, monkeypatch):
    components, x = gaps
    kept = torch.tensor([0.9, 0.5]).double()

    def after(n_steps):
        monkeypatch.setattr(Filled, "N_STEPS", n_steps)
        return Filled(components, kept)(x)

    limit = after(2000)
    distances = [(after(n) - limit).norm().item() for n in (0, 1, 3, 10, 30)]
    assert bool((np.diff(distances) < 0).all())
    assert Filled.N_STEPS == 30  # the one above
    monkeypatch.undo()
    assert Filled.N_STEPS == 10
    # what ten steps leave to do
    assert distances[3] < 0.2 * distances[0]


def test_many_inputs_are_filled_as_few_are(gaps, monkeypatch):
    components, x = gaps
    fill = Filled(components, torch.tensor([0.9, 0.5]).double())
    square = fill(x)
    monkeypatch.setattr(Filled, "N_SQUARE", 4)  # the inputs are five
    # two products in place of one round differently, ten times
    torch.testing.assert_close(fill(x), square, rtol=0, atol=1e-12)
    assert not torch.equal(fill(x), square)


def test_what_is_there_stays_and_whole_rows_are_returned_as_they_are(gaps):
    components, x = gaps
    fill = Filled(components, torch.tensor([0.9, 0.5]).double())
    found = fill(x)
    there = ~x.isnan()
    assert torch.equal(found[there], x[there])
    assert not found.isnan().any()
    assert fill(found) is found
    assert torch.equal(fill(x[:5]), x[:5])


def test_a_row_is_filled_by_itself(gaps):
    components, x = gaps
    fill = Filled(components, torch.tensor([0.9, 0.5]).double())
    alone = torch.cat([fill(row[None]) for row in x])
    # sums over five inputs in another order
    torch.testing.assert_close(alone, fill(x), rtol=1e-12, atol=1e-12)


def test_a_row_of_nothing_is_the_mean(gaps):
    components, x = gaps
    nothing = torch.full_like(x[:1], torch.nan)
    fill = Filled(components, torch.tensor([0.9, 0.5]).double())
    assert torch.equal(fill(torch.cat([x, nothing]))[-1], torch.zeros(5).double())


def test_gradients_pass_through_what_is_there_alone(gaps):
    components, x = gaps
    x = x.requires_grad_()
    weights = torch.arange(1.0, 6.0).double()
    (Filled(components, torch.tensor([0.9, 0.5]).double())(x) @ weights).sum().backward()
    assert torch.equal(x.grad, torch.where(x.isnan(), 0, weights.expand_as(x)))


def test_where_nothing_can_be_missing_in_training_nobody_looks(gaps):
    components, x = gaps
    fill = Filled(components, torch.tensor([0.9, 0.5]).double(), in_training=False)
    assert fill(x) is x
    assert not fill.eval()(x).isnan().any()


# ----------------------------------------------------------------------------- all that can be set


class Encoder(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_in, 8), nn.BatchNorm1d(8), nn.Linear(8, n_out))

    def forward(self, x):
        assert not x.isnan().any()
        return self.layers(x)


class Decoder(Encoder):
    pass


STRUCTURES = {
    "skip": {},
    "tied": {"tied_weights": True},
    "random": {"init": "random"},
    "no skip": {"linear_skip": False, "init": "he_normal", "hidden_layer_sizes": (8, 4)},
    "own": {"encoder": Encoder, "decoder": Decoder},
    "own, no skip": {
        "encoder": Encoder,
        "decoder": Decoder,
        "linear_skip": False,
        "init": "random",
    },
    "textbook": TEXTBOOK,
    "tied textbook": {"tied_weights": True, **TEXTBOOK},
}
EACH_LOSS = ["squared_error", "absolute_error", "huber", "binary_cross_entropy", LargestError()]
EACH_PENALTY = [None, "l2", "l1", "activity_l1", "contractive", "kl"]
EACH_CORRUPTION = [None, "gaussian", "masking", "swap"]


def fit_together(structure, loss, penalty):
    if loss == "binary_cross_entropy" and "output_activation" not in structure:
        return False
    return not (penalty == "kl" and "tied_weights" in structure)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("penalty", EACH_PENALTY)
@pytest.mark.filterwarnings("ignore:Nothing is known of")
def test_everything_trains_on_gaps_and_codes_have_none(curve, structure, penalty):
    X = with_gaps(unit(curve[:60]), 0.3)
    X[3] = np.nan
    at = list(STRUCTURES).index(structure) + EACH_PENALTY.index(penalty)
    for i, loss in enumerate(EACH_LOSS):
        if not fit_together(STRUCTURES[structure], loss, penalty):
            continue
        parameters = {
            "hidden_layer_sizes": (8,),
            "loss": loss,
            "penalty": penalty,
            "alpha": 0.01,
            "corruption": EACH_CORRUPTION[(at + i) % 4],  # each beside each of all others
            "corruption_level": 0.3,
            **STRUCTURES[structure],
        }
        fitted = small(max_iter=2, **parameters).fit(X)
        codes = fitted.transform(X)
        assert np.isfinite(fitted.loss_curve_).all(), parameters
        assert fitted.best_iter_ == 2, parameters  # it has not diverged
        assert np.isfinite(codes).all(), parameters
        assert np.isfinite(fitted.inverse_transform(codes)).all(), parameters
        assert np.isfinite(fitted.explained_variance_ratio_).all(), parameters


@pytest.mark.parametrize("structure", STRUCTURES)
def test_training_on_gaps_raises_the_score(curve, structure):
    X = with_gaps(unit(curve), 0.3)
    start, fitted = (
        small(max_iter=n, learning_rate_init=0.02, **STRUCTURES[structure]).fit(X) for n in (0, 20)
    )
    assert fitted.score(X) > start.score(X) + 1e-3  # one's own starts behind a gate, and slowly
    assert fitted.loss_curve_[-1] < fitted.loss_curve_[0]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_what_is_decoded_is_complete_and_keeps_the_precision(holey, dtype):
    X = holey.astype(dtype)
    fitted = small().fit(X)
    for rows in (
        fitted.transform(X),
        fitted.reconstruct(X),
        fitted.inverse_transform(fitted.transform(X)),
        fitted.impute(X),
    ):
        assert np.isfinite(rows).all()
        assert rows.dtype == dtype
    # one pass or two, of which the codes between are rounded
    np.testing.assert_allclose(
        fitted.inverse_transform(fitted.transform(X)), fitted.reconstruct(X), atol=1e-5
    )


@pytest.mark.parametrize(
    "judging", [{}, {"validation_fraction": 0.2}], ids=["in folds", "held out"]
)
@pytest.mark.parametrize("corruption", [None, "masking"])
def test_early_stopping_judges_tables_with_gaps(curve, judging, corruption):
    X, X_test = with_gaps(curve[:200], 0.1), curve[200:]
    parameters = {"early_stopping": True, "corruption": corruption, **judging}
    parameters["learning_rate_init"] = 0.02
    fitted = small(max_iter=25, n_iter_no_change=25, **parameters).fit(X)
    assert np.isfinite(fitted.validation_scores_).all()
    assert fitted.best_iter_ > 0
    assert fitted.best_validation_score_ > fitted.validation_scores_[0] + 0.02
    start = small(max_iter=0, **parameters).fit(X)
    assert fitted.score(X_test) > start.score(X_test) + 0.02


def test_large_tables_with_gaps_hold_out_a_tenth(curve):
    X = with_gaps(np.tile(curve, (4, 1)), 0.2)
    fitted = small(early_stopping=True, max_iter=2).fit(X)
    assert len(fitted.validation_scores_) == 3
    assert np.isfinite(fitted.validation_scores_).all()


# --------------------------------------------------------------------------------- row by row


def test_rows_are_mapped_one_by_one_as_all_together(holey):
    fitted = small().fit(holey)
    order = np.random.RandomState(0).permutation(len(holey))
    for method in (fitted.transform, fitted.reconstruct, fitted.score_samples, fitted.impute):
        whole = method(holey)
        alone = np.concatenate([method(holey[i : i + 1]) for i in range(20)])
        # float64 products of different heights
        np.testing.assert_allclose(method(holey[order]), whole[order], rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(alone, whole[:20], rtol=1e-10, atol=1e-12)


def test_a_row_without_gaps_is_mapped_as_by_pca_whatever_is_beside_it(curve, holey):
    fitted = small(max_iter=0).fit(holey)
    together = fitted.transform(np.concatenate([curve, holey]))[: len(curve)]
    np.testing.assert_allclose(together, fitted.transform(curve), rtol=1e-10, atol=1e-12)


# ---------------------------------------------------------------------------------------- scores


@pytest.mark.parametrize("parameters", [{"max_iter": 0}, {}, {"loss": "huber"}])
def test_scores_are_of_the_entries_that_are_there(holey, parameters):
    fitted = small(**parameters).fit(holey)
    there = ~np.isnan(holey)
    errors = np.where(there, fitted.reconstruct(holey) - holey, 0) ** 2
    deviations = np.where(there, holey - fitted.mean_, 0) ** 2
    # the same sums in float64 by another way
    assert fitted.score(holey) == pytest.approx(1 - errors.sum() / deviations.sum(), rel=1e-6)
    by_feature = fitted.score_features(holey)
    np.testing.assert_allclose(by_feature, 1 - errors.sum(0) / deviations.sum(0), rtol=1e-6)
    assert by_feature.index.tolist() == ["x0", "x1", "x2", "x3", "x4"]
    # R² of all is that of features, by their share of the variance
    shares = deviations.sum(0) / deviations.sum()
    assert fitted.score(holey) == pytest.approx((by_feature * shares).sum(), rel=1e-6)
    distances = nan_euclidean_distances(holey, fitted.reconstruct(holey)).diagonal()
    np.testing.assert_allclose(fitted.score_samples(holey), -distances, rtol=1e-6)


def test_reconstruction_errors_are_shares_of_the_features_variance(holey):
    X = pd.DataFrame(holey, columns=list("abcde"), index=[f"row {i}" for i in range(len(holey))])
    fitted = small().fit(X)
    errors = fitted.reconstruction_errors(X)
    pd.testing.assert_index_equal(errors.index, X.index)
    pd.testing.assert_index_equal(errors.columns, X.columns)
    np.testing.assert_array_equal(errors.isna(), np.isnan(holey))
    expected = (fitted.reconstruct(X) - holey) ** 2 / np.nanvar(holey, axis=0)
    # the variances are float32 sums
    np.testing.assert_allclose(errors, expected, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(errors.mean(), 1 - fitted.score_features(X), atol=1e-5)


def test_of_a_feature_of_which_nothing_is_there_no_score_is_known(curve):
    fitted = small(max_iter=0).fit(curve)
    X = curve.copy()
    X[:, 2] = np.nan
    scores = fitted.score_features(X)
    assert np.isnan(scores["x2"])
    assert scores.drop("x2").notna().all()
    assert np.isfinite(fitted.score(X))
    assert fitted.reconstruction_errors(X)["x2"].isna().all()


def test_an_odd_cell_is_the_worst_reconstructed_of_its_row(curve):
    X = with_gaps(curve, 0.1)
    # of which one component says less than half
    fitted = small(n_components=1, max_iter=0).fit(X)
    X[7, 3] = fitted.mean_[3] + 10 * np.nanstd(X[:, 3])
    assert fitted.reconstruction_errors(X).stack().idxmax() == (7, "x3")


# ---------------------------------------------------------------------------------------- impute


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_impute_fills_gaps_in_two_passes_and_leaves_all_else(holey, dtype):
    X = holey.astype(dtype)
    before = X.copy()
    fitted = small().fit(X)
    imputed = fitted.impute(X)
    np.testing.assert_array_equal(X, before)
    missing = np.isnan(X)
    assert imputed.dtype == dtype
    assert np.array_equal(imputed[~missing], X[~missing])
    first = fitted.reconstruct(X)
    second = fitted.reconstruct(np.where(missing, first, X.astype(first.dtype)))
    np.testing.assert_array_equal(imputed[missing], second[missing].astype(dtype))
    assert np.abs(second - first)[missing].max() > 1e-3


def test_what_has_no_gaps_is_returned_as_a_copy(curve):
    fitted = small(max_iter=0).fit(curve)
    imputed = fitted.impute(curve)
    assert imputed is not curve
    assert not np.shares_memory(imputed, curve)
    np.testing.assert_array_equal(imputed, curve)


def test_integers_are_returned_to_the_last_digit():
    X = np.random.RandomState(0).randint(0, 9, size=(30, 3)) + 2**60
    X[:, 0] = np.arange(30) + 2**62 + 1  # which no float64 holds
    fitted = small(max_iter=0).fit(np.random.RandomState(1).normal(size=(30, 3)))
    imputed = fitted.impute(X)
    assert imputed.dtype == X.dtype
    np.testing.assert_array_equal(imputed, X)


FRAMES = {
    "float64": lambda column: column,
    "float32": lambda column: column.astype("float32"),
    "Float64": lambda column: column.astype("Float64"),
    "float[pyarrow]": lambda column: column.astype("float[pyarrow]"),
    "Int64": lambda column: (100 * column).round().astype("Int64"),
    "Int8": lambda column: (10 * column).round().astype("Int8"),
    "int64[pyarrow]": lambda column: (
        (100 * column).round().astype("Int64").astype("int64[pyarrow]")
    ),
    "int64": lambda column: (100 * column.fillna(0.5)).round().astype("int64"),
}


@pytest.fixture
def frame(holey):
    pytest.importorskip("pyarrow")
    columns = {
        name: make(pd.Series(holey[:, i % 5])) for i, (name, make) in enumerate(FRAMES.items())
    }
    return pd.DataFrame(columns).set_axis([f"row {i // 2}" for i in range(len(holey))])


def test_a_frame_is_filled_in_its_own_types_and_keeps_its_index(frame):
    before = frame.copy()
    fitted = small(n_components=3).fit(frame)
    imputed = fitted.impute(frame)
    pd.testing.assert_frame_equal(frame, before)
    assert imputed.dtypes.to_dict() == frame.dtypes.to_dict()
    pd.testing.assert_index_equal(imputed.index, frame.index)
    assert not imputed.isna().any(axis=None)
    first = fitted.reconstruct(frame)
    rows = frame.astype("Float64").to_numpy(dtype=float, na_value=np.nan)
    whole = pd.DataFrame(np.where(np.isnan(rows), first, rows), columns=frame.columns)
    second = fitted.reconstruct(whole)
    for j, name in enumerate(frame):
        missing = frame[name].isna().to_numpy()
        assert missing.any() == (name != "int64")
        assert imputed[name][~missing].tolist() == frame[name][~missing].tolist()
        found = imputed[name].to_numpy(dtype=float)[missing]
        expected = np.rint(second[:, j]) if "nt" in name else second[:, j]
        # float32 columns are rounded
        np.testing.assert_allclose(found, expected[missing], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["category", "str", "string", "object"])
def test_numbers_that_are_held_otherwise_are_filled_as_they_are_held(holey, dtype):
    X = pd.DataFrame(holey[:, :5], columns=list("abcde"))
    numbers = X["a"].round(1)
    fitted = small(n_components=3).fit(X.assign(a=numbers))
    expected = fitted.impute(X.assign(a=numbers))["a"]
    held = numbers if dtype == "category" else numbers.astype(str)
    table = X.assign(a=held.astype(dtype).where(X["a"].notna(), None))
    before = table.copy()
    filled = fitted.impute(table)["a"]
    pd.testing.assert_frame_equal(table, before)
    if dtype == "category":
        assert isinstance(filled.dtype, pd.CategoricalDtype)
        assert set(table["a"].dtype.categories) < set(filled.dtype.categories)
    else:
        assert filled.dtype == table["a"].dtype
        assert all(isinstance(value, str) for value in filled)
    np.testing.assert_allclose(filled.astype(float), expected, rtol=1e-12)


def test_truth_that_was_read_as_numbers_is_filled_as_truth(holey):
    X = pd.DataFrame(holey[:, :5], columns=list("abcde"))
    table = X.assign(a=(X["a"] > 0).astype(object).where(X["a"].notna(), None))
    fitted = small(n_components=3, categorical_features=None).fit(table)
    numbers = fitted.impute(table.assign(a=table["a"].astype(float)))["a"]
    filled = fitted.impute(table)["a"]
    assert filled.tolist() == (numbers > 0.5).tolist()
    assert all(isinstance(value, bool) for value in filled)


def test_a_polars_frame_is_filled_in_its_own_types(frame):
    pl = pytest.importorskip("polars")
    table = pl.from_pandas(frame.reset_index(drop=True))
    fitted = small(n_components=3).fit(table)
    imputed = fitted.impute(table)
    assert type(imputed) is pl.DataFrame
    assert imputed.schema == table.schema
    assert imputed.null_count().sum_horizontal().item() == 0
    for name in table.columns:
        there = table[name].is_not_null()
        assert imputed[name].filter(there).equals(table[name].filter(there))


def test_a_list_is_filled_as_an_array(holey):
    fitted = small().fit(holey)
    np.testing.assert_array_equal(fitted.impute(holey.tolist()), fitted.impute(holey))


def test_it_fills_digits_far_better_than_their_means(digits):
    X = with_gaps(digits, 0.2)
    missing = np.isnan(X)

    def error(filled):
        return np.sqrt(np.mean((filled - digits)[missing] ** 2))

    fitted = AutoencoderTransformer(
        16, max_iter=20, corruption="masking", corruption_level=0.3, random_state=0
    ).fit(X)
    means = error(SimpleImputer().fit_transform(X))
    start = error(AutoencoderTransformer(16, max_iter=0).fit(X).impute(X))
    assert error(fitted.impute(X)) < 0.6 * means
    assert error(fitted.impute(X)) < start < 0.7 * means


# ------------------------------------------------------------------------------ nothing observed


def recorded(call, *arguments):
    """Return what a call returns, and the warnings that it gives."""
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        result = call(*arguments)
    return result, [str(one.message) for one in given]


def nothing_of(what):
    return f"Nothing is known of {what} of X: the mean takes their place."


CALLS = ["fit", "partial_fit", "fit_transform"]
LATER = ["transform", "reconstruct", "impute", "score", "score_samples", "score_features"]
LATER += ["reconstruction_errors"]


def as_array(X):
    return X


def as_frame(X):
    return pd.DataFrame(X, columns=[f"x{j}" for j in range(X.shape[1])])


@pytest.mark.parametrize("table", [as_array, as_frame, scipy.sparse.csr_array])
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("max_iter", [0, 3])
def test_a_column_of_nothing_is_its_mean_with_one_warning(holey, table, early_stopping, max_iter):
    X = holey.copy()
    X[:, [1, 3]] = np.nan
    X[np.isnan(X).all(axis=1), 0] = 0.0
    fitted, given = recorded(small(early_stopping=early_stopping, max_iter=max_iter).fit, table(X))
    assert given == [nothing_of("the columns ['x1', 'x3']")]
    assert fitted.mean_[[1, 3]].tolist() == [0, 0]
    assert fitted.scale_ == pytest.approx(
        np.sqrt(np.nanmean((X - fitted.mean_)[:, [0, 2, 4]] ** 2)), rel=1e-6
    )
    codes, given = recorded(fitted.transform, X if table is scipy.sparse.csr_array else table(X))
    assert given == []  # rows have other entries
    assert np.isfinite(codes).all()
    assert np.isfinite(fitted.explained_variance_ratio_).all()
    if max_iter == 0:
        reconstructed, _ = recorded(fitted.reconstruct, X)
        # of a column without variance PCA reconstructs its mean
        np.testing.assert_allclose(reconstructed[:, [1, 3]], 0, atol=1e-6)


@pytest.mark.parametrize("table", [as_array, as_frame])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_row_of_nothing_is_the_mean_row_with_one_warning(holey, table, early_stopping):
    X = holey.copy()
    X[[5, 6]] = np.nan
    fitted, given = recorded(small(early_stopping=early_stopping).fit, table(X))
    assert given == [nothing_of("2 rows")]
    for name in LATER:
        _, given = recorded(getattr(fitted, name), table(X))
        assert given == [nothing_of("2 rows")], name
    start, _ = recorded(small(max_iter=0).fit, table(X))
    codes, _ = recorded(start.transform, table(X))
    # the mean row's code is zero but for the rounding of float64
    np.testing.assert_allclose(codes[5:7], 0, atol=1e-12)
    filled, _ = recorded(start.impute, table(X))
    np.testing.assert_allclose(np.asarray(filled)[5:7], np.tile(start.mean_, (2, 1)), atol=1e-12)
    scores, _ = recorded(start.score_samples, table(X))
    np.testing.assert_array_equal(np.isnan(scores), np.isin(np.arange(len(X)), [5, 6]))
    score, _ = recorded(start.score, table(X[5:7]))
    assert np.isnan(score)


@pytest.mark.parametrize("call", CALLS)
def test_rows_and_columns_of_nothing_are_said_in_one_sentence(holey, call):
    X = as_frame(holey.copy())
    X["x4"] = np.nan
    X.loc[X.isna().all(axis=1), "x0"] = 0.0
    X.iloc[0] = np.nan
    _, given = recorded(getattr(small(), call), X)
    sentence = nothing_of("1 rows and the columns ['x4']")
    later = [nothing_of("1 rows")] if call == "fit_transform" else []
    assert given == [sentence, *later]


def test_a_table_of_nothing_is_the_mean_too():
    X = np.full((10, 3), np.nan)
    fitted, given = recorded(small().fit, X)
    assert given == [nothing_of("10 rows and the columns ['x0', 'x1', 'x2']")]
    codes, _ = recorded(fitted.transform, X)
    assert np.isfinite(codes).all()


# ------------------------------------------------------------------------------------------- inf


@pytest.mark.parametrize("table", [as_array, as_frame, scipy.sparse.csr_array])
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinity_is_refused_everywhere(holey, table, value):
    fitted = small(max_iter=0).fit(table(holey))
    X = holey.copy()
    X[2, 3] = value
    X = table(X)
    for name in ("fit", "partial_fit", *LATER):
        if scipy.sparse.issparse(X) and name in ("impute", "reconstruction_errors"):
            continue
        with pytest.raises(ValueError, match="infinity"):
            getattr(fitted, name)(X)
    np.testing.assert_array_equal(fitted.n_iter_, 0)  # it is as it was


def test_its_tags_say_so():
    tags = AutoencoderTransformer().__sklearn_tags__()
    assert tags.input_tags.allow_nan
    assert tags.input_tags.sparse
    beside_categories = AutoencoderTransformer(categorical_features=["colour"])
    assert beside_categories.__sklearn_tags__().input_tags.allow_nan
    assert not beside_categories.__sklearn_tags__().input_tags.sparse


# ------------------------------------------------------------------------------------- in company


@pytest.mark.parametrize("first", ["whole", "holey"])
def test_training_goes_on_with_gaps(curve, holey, first):
    start = small(max_iter=3).fit(curve if first == "whole" else holey)
    further = small(max_iter=3, init=FrozenEstimator(start)).fit(holey)
    warm = copy.deepcopy(start).set_params(warm_start=True).fit(holey)
    for fitted in (further, warm):
        assert fitted.best_iter_ == 3
        assert np.isfinite(fitted.loss_curve_).all()
        assert fitted.score(holey) > start.score(holey)
        np.testing.assert_array_equal(fitted.mean_, start.mean_)


@pytest.mark.parametrize("corruption", ["masking"])
def test_training_goes_on_with_masking(curve, corruption):
    start = small(max_iter=3).fit(curve)
    fitted = small(init=start, corruption=corruption, corruption_level=0.3).fit(curve)
    assert fitted.best_iter_ == 5
    assert np.isfinite(fitted.loss_curve_).all()


def test_a_warm_start_without_epochs_changes_nothing(holey):
    fitted = small(warm_start=True).fit(holey)
    codes = fitted.transform(holey)
    again = fitted.set_params(max_iter=0).fit(holey)
    # axes are folded in anew
    np.testing.assert_allclose(again.transform(holey), codes, atol=1e-5)


def test_the_same_seed_gives_the_same_bits_and_so_does_a_pickle(holey):
    one, other = (small(early_stopping=True).fit(holey) for _ in range(2))
    assert_same_bits(answers(one, holey), answers(other, holey))
    assert_same_bits(answers(one, holey), answers(pickle.loads(pickle.dumps(one)), holey))


def test_searches_and_pipelines_take_tables_with_gaps(holey):
    X = as_frame(holey)
    pipeline = make_pipeline(StandardScaler(), small(), LinearRegression())
    search = GridSearchCV(
        pipeline,
        {"autoencodertransformer__n_components": [1, 3]},
        cv=3,
        error_score="raise",
    ).fit(X, np.arange(len(X)) % 7)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    own = GridSearchCV(small(), {"n_components": [1, 3]}, cv=3, error_score="raise").fit(X)
    assert own.best_params_ == {"n_components": 3}
    pickled = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(pickled.predict(X), search.predict(X))


def test_a_clone_of_one_that_was_fitted_with_gaps_is_new(holey):
    assert not hasattr(clone(small().fit(holey)), "net_")


def test_global_random_states_and_warning_filters_are_left(holey):
    X = holey.copy()
    X[0] = np.nan
    before = np.random.get_state()[1].copy(), torch.get_rng_state(), random.getstate()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        filters = list(warnings.filters)
        fitted = small(early_stopping=True, corruption="masking", random_state=None).fit(X)
        fitted.impute(X)
        fitted.partial_fit(X)
        assert warnings.filters == filters
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.get_rng_state(), before[1])
    assert random.getstate() == before[2]


@pytest.mark.parametrize("fill", [np.nan, 3.0], ids=["empty", "constant"])
def test_columns_without_variance_do_not_change_how_much_is_taken_for_noise(fill):
    rng = np.random.RandomState(0)
    X = rng.normal(size=(60, 6)) + rng.normal(size=(60, 1))
    X[rng.uniform(size=X.shape) < 0.2] = np.nan
    wider = np.column_stack([X, np.full((60, 2), fill)])
    start = AutoencoderTransformer(max_iter=0, random_state=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Nothing is known of the columns")
        one, other = (clone(start).fit(some) for some in (X, wider))
    kept, kept_wider = (model.net_.module_.input.kept.numpy() for model in (one, other))
    assert 0.05 < kept.min() <= kept.max() < 0.95
    # float32
    np.testing.assert_allclose(kept_wider, kept, rtol=1e-4)
    np.testing.assert_allclose(other.impute(wider)[:, :6], one.impute(X), atol=1e-4)


def test_branches_are_bent_beyond_the_entries_that_are_there():
    rng = np.random.RandomState(0)
    X = rng.normal(size=(400, 4))
    X[:, 3] = X[:, 2] + rng.normal(size=400)
    X[rng.uniform(size=400) < 0.7, 0] = np.nan
    bound = AutoencoderTransformer(max_iter=0).fit(X).encoder_[0].clip.bound.numpy()
    expected = np.nanmax(np.abs(X - np.nanmean(X, axis=0)), axis=0)
    np.testing.assert_allclose(bound / bound[1], expected / expected[1], rtol=1e-4)
