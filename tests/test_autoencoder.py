"""The estimator: what it promises, as equalities."""

import copy
import functools
import gc
import inspect
import itertools
import math
import os
import pickle
import subprocess
import sys
import types
import warnings

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed
from scipy.sparse import csr_array
from sklearn import datasets
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EpochScoring,
    EpochTimer,
    LoadInitState,
    LRScheduler,
)
from torch import nn

from skae import AutoencoderTransformer, _autoencoder, _batches
from skae._backpropagation import Evaluated
from skae._folds import cross_fitted
from skae.modules import MLP, ConvDecoder, ConvEncoder, LinearSkip
from skae.penalties import L2, Penalty

TEXTBOOK = {
    "linear_skip": False,
    "init": "random",
    "activation": "relu",
    "output_activation": "logistic",
}


def small(**parameters):
    return AutoencoderTransformer(
        **{"hidden_layer_sizes": (16,), "max_iter": 20, "random_state": 0, **parameters}
    )


def weights(estimator):
    return torch.cat([value.flatten() for value in estimator.net_.module_.state_dict().values()])


# ------------------------------------------------------------------------- the start is PCA


def degenerate_data():
    rng = np.random.RandomState(0)
    X = rng.normal(size=(40, 6)) * [1, 2, 3, 4, 5, 6]
    return {
        "n < d": rng.normal(size=(5, 12)),
        "n = 2": rng.normal(size=(2, 4)),
        "constant column": np.column_stack([X, np.full(40, 7.3)]),
        "duplicated columns": np.column_stack([X, X]),
        "rank deficient": X[:, :2] @ rng.normal(size=(2, 6)),
        "wide": rng.normal(size=(60, 600)),
        "tall": rng.normal(size=(6000, 5)),
    }


DATA = {
    "iris": datasets.load_iris().data,
    "digits": datasets.load_digits().data,
    "wine": datasets.load_wine().data,
    "breast cancer": datasets.load_breast_cancer().data,
    "diabetes": datasets.load_diabetes().data,
    "linnerud": datasets.load_linnerud().data,
    "swiss roll": datasets.make_swiss_roll(300, random_state=0)[0],
    "blobs": datasets.make_blobs(200, 30, random_state=0)[0],
    **degenerate_data(),
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n_components", [1, 2, "all", 0.8])
@pytest.mark.parametrize("name", DATA)
def test_without_training_it_is_pca(name, n_components, dtype):
    X = DATA[name].astype(dtype)
    if n_components == "all":
        n_components = min(X.shape)
    if n_components == 0.8 and min(X.shape) <= 2:
        n_components = 1
    pca = PCA(n_components, random_state=0).fit(X)
    autoencoder = AutoencoderTransformer(n_components, max_iter=0, random_state=0).fit(X)

    assert autoencoder.n_components_ == pca.n_components_
    codes = pca.transform(X)
    rows = pca.inverse_transform(codes)
    # Weights are float32: errors are some of its epsilons, relative to the largest deviation (of
    # float32 input to the largest value, from which PCA subtracts the mean after projecting).
    size = np.abs(X).max() if dtype is np.float32 else np.abs(X - X.mean(axis=0)).max()
    tolerance = 30 * np.finfo(np.float32).eps * size * np.sqrt(X.shape[1])
    np.testing.assert_allclose(autoencoder.transform(X), codes, rtol=0, atol=tolerance)
    np.testing.assert_allclose(autoencoder.inverse_transform(codes), rows, rtol=0, atol=tolerance)
    np.testing.assert_allclose(autoencoder.reconstruct(X), rows, rtol=0, atol=tolerance)
    # PCA of float32 input computes X'X - n mean mean' in float32, so loses as many digits as the
    # mean square exceeds the variance; ours are those of float32 weights alone
    lost = np.square(X, dtype=np.float64).mean() / X.var(axis=0, dtype=np.float64).mean()
    atol = 2e-6 if dtype is np.float64 else np.finfo(np.float32).eps * (16 + 4 * lost)
    np.testing.assert_allclose(
        autoencoder.explained_variance_ratio_, pca.explained_variance_ratio_, rtol=0, atol=atol
    )
    np.testing.assert_allclose(
        autoencoder.explained_variance_,
        pca.explained_variance_,
        rtol=1e-5,
        atol=atol * pca.explained_variance_[0],
    )
    np.testing.assert_allclose(autoencoder.mean_, pca.mean_, rtol=1e-5, atol=1e-6 * size)


@pytest.mark.parametrize("unit", [1e-30, 1e-12, 1e12, 1e30])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_units_do_not_matter(unit, dtype):
    X = DATA["wine"]
    plain = small(max_iter=0).fit(X)
    other = small(max_iter=0).fit((X * unit).astype(dtype))
    np.testing.assert_allclose(
        other.transform((X * unit).astype(dtype)) / unit, plain.transform(X), rtol=0, atol=1e-3
    )  # proline is up to 1680, known to float32's 6e-8 of that times some operations
    assert other.score((X * unit).astype(dtype)) == pytest.approx(plain.score(X), abs=1e-6)


def test_a_mean_far_off_does_not_hide_the_components():
    # X'X - n mean mean' cancels at an offset of 1e8, where float64 has nothing left of it
    X = DATA["blobs"]
    near, far = small(max_iter=0).fit(X), small(max_iter=0).fit(X + 1e8)
    np.testing.assert_allclose(far.transform(X + 1e8), near.transform(X), rtol=0, atol=1e-4)


def test_own_modules_start_at_pca_too(curve):
    autoencoder = small(
        encoder=lambda n_in, n_out: nn.Linear(n_in, n_out),
        decoder=lambda n_in, n_out: nn.Linear(n_in, n_out),
        max_iter=0,
    ).fit(curve)
    np.testing.assert_allclose(autoencoder.transform(curve), PCA(2).fit_transform(curve), atol=1e-5)


# ------------------------------------------------------------------------------- training


def test_training_beats_pca_on_a_curved_sheet(curve):
    train, test = curve[:200], curve[200:]
    start = small(max_iter=0).fit(train).score(test)
    assert small(max_iter=200).fit(train).score(test) > start + 0.05


def test_a_huge_penalty_is_pca(curve):
    pca = PCA(2).fit(curve)
    autoencoder = small(alpha=1e6, early_stopping=False).fit(curve)
    assert autoencoder.n_iter_ == autoencoder.best_iter_ == 20
    # the branches are gone, and the linear paths have no better place to be than PCA's plane,
    # about which a constant learning rate leaves them jittering
    assert autoencoder.score(curve) == pytest.approx(pca.explained_variance_ratio_.sum(), abs=2e-3)
    held_out = small(alpha=1e6).fit(curve)
    assert held_out.best_iter_ == 0
    np.testing.assert_allclose(held_out.transform(curve), pca.transform(curve), atol=1e-5)


def test_the_penalty_leads_monotonically_from_the_free_model_to_pca(curve):
    # without kinks and at a rate at which training comes to the minimum that it is led to
    smooth = {"activation": "gelu", "learning_rate_init": 4e-3}
    scores = [
        small(alpha=alpha, early_stopping=False, max_iter=100, **smooth).fit(curve).score(curve)
        for alpha in np.logspace(-6, 6, 7)
    ]
    # where the penalty is negligible, or all there is, scores differ by the jitter of training
    assert all(np.diff(scores) < 2e-3), scores
    assert scores[0] > scores[-1] + 0.05
    assert scores[-1] == pytest.approx(PCA(2).fit(curve).explained_variance_ratio_.sum(), abs=2e-3)


def test_a_linear_autoencoder_finds_pca_by_itself(curve):
    autoencoder = small(
        hidden_layer_sizes=(),
        linear_skip=False,
        init="random",
        penalty=None,
        early_stopping=False,
        max_iter=200,
    ).fit(curve)
    # a theorem (Baldi and Hornik, doi:10.1016/0893-6080(89)90014-2); what is left is jitter
    best = PCA(2).fit(curve).explained_variance_ratio_.sum()
    assert best - 2e-3 < autoencoder.score(curve) <= best + 1e-6


def test_the_textbook_autoencoder_reconstructs_images(digits):
    X = digits / 16
    autoencoder = AutoencoderTransformer(
        16, **TEXTBOOK, learning_rate_init=1e-3, max_iter=60, random_state=0
    ).fit(X)
    reconstruction = autoencoder.reconstruct(X)
    assert autoencoder.score(X) > 0.7
    # a logistic output, but for the rounding of the units in which the networks work
    assert reconstruction.min() > -1e-6
    assert reconstruction.max() < 1 + 1e-6


def test_a_random_start_is_left_also_where_few_rows_are_held_out():
    X = DATA["wine"][:40]
    plain = {"linear_skip": False, "init": "random", "max_iter": 200}
    start = small(**{**plain, "max_iter": 0}).fit(X).score(X)
    assert start < 0.5 < small(**plain).fit(X).score(X)


def test_the_best_epoch_is_what_training_that_long_gives(curve):
    # latest weights, whose scores rise and fall
    patience = {"n_iter_no_change": 5, "learning_rate_init": 0.1, "average": False}
    stopped = small(max_iter=200, **patience).fit(curve)
    assert 0 < stopped.best_iter_ < stopped.n_iter_
    short = small(max_iter=stopped.best_iter_, **patience).fit(curve)
    assert short.best_iter_ == stopped.best_iter_
    assert torch.equal(weights(short), weights(stopped))
    assert stopped.best_validation_score_ == stopped.validation_scores_[stopped.best_iter_]


def test_the_scores_of_epochs_are_r2_on_the_rows_held_out(curve):
    seen = []

    class Watch(Callback):
        def on_epoch_begin(self, net, dataset_valid=None, **kwargs):
            seen.append(dataset_valid.indices)

    autoencoder = small(callbacks=[Watch()]).fit(curve)
    held_out = curve[seen[0]]
    assert len(held_out) == 30
    assert len(autoencoder.validation_scores_) == autoencoder.n_iter_ + 1
    # float32 losses
    assert autoencoder.score(held_out) == pytest.approx(
        autoencoder.best_validation_score_, abs=1e-5
    )
    start = small(max_iter=0, validation_fraction=0.1).fit(curve)
    assert start.score(held_out) == pytest.approx(autoencoder.validation_scores_[0], abs=1e-5)
    assert start.validation_scores_ == pytest.approx(autoencoder.validation_scores_[:1])


def test_without_early_stopping_all_rows_and_epochs_are_used(curve):
    autoencoder = small(early_stopping=False).fit(curve)
    assert autoencoder.validation_scores_ is None
    assert autoencoder.best_validation_score_ is None
    assert autoencoder.n_iter_ == autoencoder.best_iter_ == len(autoencoder.loss_curve_) == 20
    # of three rows none can be held out, so nothing can be known to be better than PCA
    few = small(n_components=1).fit(curve[:3])
    assert few.validation_scores_ is None
    assert few.n_iter_ == 0
    np.testing.assert_allclose(
        few.transform(curve), PCA(1).fit(curve[:3]).transform(curve), atol=1e-5
    )
    assert small(n_components=1).fit(curve[:4]).n_iter_ > 0
    assert small(validation_fraction=0.999).fit(curve).validation_scores_ is not None


def test_the_training_loss_is_one_minus_r2(curve):
    # at a learning rate that moves nothing the loss of an epoch is that of its start
    autoencoder = small(learning_rate_init=1e-12, max_iter=1, early_stopping=False).fit(curve)
    assert autoencoder.loss_curve_ == pytest.approx([1 - autoencoder.score(curve)], abs=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"alpha": 0.1},
        {"penalty": None},
        {"dropout": 0.5},
        {"average": False},
        {"activation": "tanh"},
        {"hidden_layer_sizes": (8, 4)},
        {"optimizer": "adamw"},
        {"optimizer": "sgd"},
        {"optimizer": "rmsprop"},
        {"optimizer": torch.optim.NAdam},
        {"learning_rate_init": 1e-3},
        {"batch_size": 10},
        {"linear_skip": False, "init": "random"},
        {"init": "random"},
        {"random_state": 1},
        {"validation_fraction": 0.5},
        {"encoder": nn.Linear},
        {"decoder": nn.Linear},
    ],
    ids=str,
)
def test_each_parameter_makes_a_difference(curve, change):
    others = {"early_stopping": "validation_fraction" in change, "max_iter": 10}
    before, after = (small(**{**others, **some}).fit(curve) for some in ({}, change))
    assert np.abs(before.reconstruct(curve) - after.reconstruct(curve)).max() > 1e-4


@pytest.mark.parametrize(
    ("n_rows", "batch_size"), [(20, 32), (150, 64), (1000, 128), (1797, 128), (3000, 256)]
)
def test_batches_are_of_four_times_the_root_of_the_number_of_rows(n_rows, batch_size):
    X = np.random.RandomState(0).normal(size=(n_rows, 3))
    fitted = small(n_components=1, max_iter=1, early_stopping=False).fit(X)
    assert fitted.net_.batch_size == batch_size


@pytest.mark.filterwarnings("error")
def test_narrow_integers_are_integers(digits):
    X = digits[:250]
    numbers = {"batch_size": 64, "n_components": 30, "hidden_layer_sizes": (100, 64)}
    narrow = {
        "batch_size": np.uint8(64),
        "n_components": np.int8(30),
        "hidden_layer_sizes": np.array([100, 64], np.uint8),
    }
    expected, found = (small(max_iter=2, **some).fit(X) for some in (numbers, narrow))
    assert np.array_equal(found.transform(X), expected.transform(X))
    assert type(found.n_components_) is int


@pytest.mark.parametrize("network", [ConvEncoder, ConvDecoder])
def test_narrow_integers_are_integers_to_convolutional_networks_too(digits, network):
    role = network.__name__.removeprefix("Conv").lower()
    expected, found = (
        small(max_iter=1, early_stopping=False, **{role: network(*numbers)}).fit(digits[:100])
        for numbers in (
            ((1, 8, 8), (3, 4), 3, 2),
            (np.array([1, 8, 8], np.int8), [np.int64(3), np.uint8(4)], np.int16(3), np.int64(2)),
        )
    )
    assert np.array_equal(found.transform(digits), expected.transform(digits))


def test_patience_and_tolerance_end_training(curve):
    patient = small(max_iter=60, n_iter_no_change=30).fit(curve)
    hasty = small(max_iter=60, tol=1.0, n_iter_no_change=3).fit(curve)
    assert hasty.n_iter_ == 3
    assert patient.n_iter_ > 30


def test_the_penalty_shrinks_the_branches_and_only_them(curve):
    def norms(alpha):
        module = small(alpha=alpha, early_stopping=False, max_iter=100).fit(curve).encoder_[0]
        assert isinstance(module, LinearSkip)
        return [float(m.weight.detach().norm()) for m in (module.branch[0], module.linear)]

    branch, linear = zip(norms(1e-4), norms(1.0), strict=True)
    assert branch[1] < 0.1 * branch[0]
    assert linear[1] > 0.9 * linear[0]


def test_a_penalty_of_ones_own_is_minimised(curve):
    class Ridge(Penalty):
        def __call__(self, weights):
            return L2()(weights)

    adam = {"optimizer": "adam", "learning_rate_init": 4e-3}
    own, builtin = (small(penalty=p, alpha=0.01, **adam) for p in (Ridge(), "l2"))
    # The same gradient by autograd and in closed form, summed in another order, of which SOAP makes
    # more than Adam: where gradients vanish, rounding says where its axes are.
    np.testing.assert_allclose(
        own.fit(curve).reconstruct(curve), builtin.fit(curve).reconstruct(curve), atol=1e-3
    )


def test_dropout_is_off_when_rows_are_mapped_and_on_in_warm_starts(curve):
    autoencoder = small(dropout=0.5, early_stopping=False, warm_start=True, max_iter=1).fit(curve)
    assert np.array_equal(autoencoder.transform(curve), autoencoder.transform(curve))
    with_dropout = copy.deepcopy(autoencoder).fit(curve).loss_curve_
    for module in autoencoder.net_.module_.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    assert autoencoder.fit(curve).loss_curve_[0] < with_dropout[0]


def test_warm_start_goes_on_where_training_ended(curve):
    once = small(early_stopping=False, average=False, optimizer="sgd", warm_start=True)
    start = clone(once).fit(curve)
    again = copy.deepcopy(start).fit(curve)
    assert again.loss_curve_[0] < start.loss_curve_[0]
    assert again.loss_curve_[0] == pytest.approx(start.loss_curve_[-1], rel=0.1)
    # nothing is trained: the same reconstructions, in the same axes
    idle = copy.deepcopy(start).set_params(max_iter=0).fit(curve)
    np.testing.assert_allclose(idle.transform(curve), start.transform(curve), atol=1e-5)
    np.testing.assert_allclose(idle.reconstruct(curve), start.reconstruct(curve), atol=1e-5)
    cold = copy.deepcopy(start).set_params(warm_start=False).fit(curve)
    assert torch.equal(weights(cold), weights(start))


# ---------------------------------------------------------------------------- what codes are


@pytest.mark.parametrize("extra", [{}, TEXTBOOK, {"init": "random"}], ids=str)
def test_codes_are_centred_uncorrelated_ordered_and_of_one_sign(digits, extra):
    X = digits[:400] / 16
    autoencoder = small(n_components=4, early_stopping=False, **extra).fit(X)
    codes = autoencoder.transform(X)
    covariance = np.cov(codes.T)
    largest = covariance[0, 0]
    # axes and codes come from float32 networks
    np.testing.assert_allclose(codes.mean(axis=0), 0, atol=1e-5 * np.sqrt(largest))
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-5 * largest)
    assert all(np.diff(np.diag(covariance)) < 0)
    np.testing.assert_allclose(autoencoder.explained_variance_, np.diag(covariance), rtol=1e-4)
    covariances = codes.T @ PCA(4).fit_transform(X)
    extremes = np.abs(covariances).argmax(axis=1)
    assert all(covariances[np.arange(4), extremes] > 0)


def test_signs_do_not_depend_on_the_seed():
    X = StandardScaler().fit_transform(DATA["breast cancer"])
    first, *others = (
        small(n_components=4, early_stopping=False, random_state=seed).fit_transform(X)
        for seed in range(5)
    )
    # where two fits find the same component it has the same sign
    correlations = [
        np.corrcoef(a, b)[0, 1] for other in others for a, b in zip(first.T, other.T, strict=True)
    ]
    assert sum(correlation > 0.6 for correlation in correlations) >= 8
    assert min(correlations) > -0.6


def test_explained_variance_ratios_are_gains_in_training_r2(curve):
    autoencoder = small(n_components=3, early_stopping=False).fit(curve)
    codes = autoencoder.transform(curve)
    total = np.square(curve - curve.mean(axis=0)).sum()
    r2 = [0.0]
    for n_kept in (1, 2, 3):
        kept = codes * (np.arange(3) < n_kept)
        error = np.square(curve - autoencoder.inverse_transform(kept)).sum()
        r2.append(1 - error / total)
    np.testing.assert_allclose(autoencoder.explained_variance_ratio_, np.diff(r2), atol=1e-5)
    assert autoencoder.explained_variance_ratio_.sum() == pytest.approx(
        autoencoder.score(curve), abs=1e-6
    )


def test_scores_are_what_their_formulas_say(curve):
    autoencoder = small().fit(curve[:200])
    X = curve[200:]
    error = X - autoencoder.inverse_transform(autoencoder.transform(X))
    np.testing.assert_allclose(autoencoder.reconstruct(X), X - error, atol=1e-12)
    np.testing.assert_allclose(
        autoencoder.score_samples(X), -np.linalg.norm(error, axis=1), rtol=1e-9
    )
    deviation = X - curve[:200].mean(axis=0)
    assert autoencoder.score(X) == pytest.approx(
        1 - np.square(error).sum() / np.square(deviation).sum(), abs=1e-9
    )


def test_far_outside_the_data_the_model_is_linear(curve):
    autoencoder = small(early_stopping=False).fit(curve)
    far = curve.mean(axis=0) + 1e6 * np.eye(5)
    # the branches have saturated: a step as far again changes codes by the linear path alone
    linear = autoencoder.encoder_[1].weight @ autoencoder.encoder_[0].linear.weight
    step = autoencoder.transform(far + 1e6 * np.eye(5)) - autoencoder.transform(far)
    np.testing.assert_allclose(step / 1e6, linear.detach().cpu().numpy().T, atol=1e-6)


@pytest.mark.parametrize("extra", [{}, TEXTBOOK, {"encoder": nn.Linear}], ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_codes_of_finite_rows_are_finite(curve, extra, dtype):
    autoencoder = small(**extra).fit(curve.astype(dtype))
    largest = np.finfo(dtype).max
    for row in ([largest] * 5, [-largest] * 5, [largest, -largest, 0, 1, 1e30]):
        X = np.array([row], dtype=dtype)
        assert np.isfinite(autoencoder.transform(X)).all()
        assert np.isfinite(autoencoder.score_samples(X)).all()
        assert np.isfinite(autoencoder.reconstruct(X)).all()


def test_constant_rows_are_met_exactly():
    X = np.full((20, 3), 0.1)
    autoencoder = small(n_components=1).fit(X)
    np.testing.assert_allclose(autoencoder.reconstruct(X), X, rtol=1e-12)
    assert autoencoder.scale_ == 1.0
    np.testing.assert_allclose(autoencoder.transform(X), 0, atol=1e-12)


# ---------------------------------------------------------------------------------- input


def test_rows_are_mapped_in_their_own_precision(curve):
    autoencoder = small().fit(curve)
    exact, single = autoencoder.transform(curve), autoencoder.transform(curve.astype(np.float32))
    assert exact.dtype == np.float64
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, exact, atol=1e-5)
    assert autoencoder.inverse_transform(exact).dtype == np.float64
    assert autoencoder.inverse_transform(single).dtype == np.float32
    assert autoencoder.reconstruct(curve.astype(np.float32)).dtype == np.float32
    assert autoencoder.score_samples(curve.astype(np.float32)).dtype == np.float32
    assert autoencoder.transform((10 * curve).astype(int)).dtype == np.float64
    # in float64 a row's code does not depend on its company beyond float64's rounding
    alone = np.vstack([autoencoder.transform(row[None]) for row in curve[:10]])
    np.testing.assert_allclose(alone, exact[:10], rtol=0, atol=1e-14)
    assert all(p.dtype == torch.float32 for p in autoencoder.net_.module_.parameters())


def test_order_batches_and_y_do_not_change_codes(curve):
    autoencoder = small().fit(curve)
    codes = autoencoder.transform(curve)
    order = np.random.RandomState(0).permutation(len(curve))
    np.testing.assert_allclose(autoencoder.transform(curve[order]), codes[order], atol=1e-14)
    many = np.tile(curve, (20, 1))  # 6000 rows are mapped in two parts
    np.testing.assert_allclose(autoencoder.transform(many)[-300:], codes, atol=1e-14)
    assert np.array_equal(small().fit(curve, np.arange(300)).transform(curve), codes)
    assert np.array_equal(small().fit_transform(curve, ["y"] * 300), codes)


def test_read_only_fortran_and_integer_input(curve, tmp_path):
    X = np.round(10 * curve)
    codes = small().fit_transform(X)
    frozen = X.copy()
    frozen.setflags(write=False)
    path = tmp_path / "X.npy"
    np.save(path, X)
    mapped = np.load(path, mmap_mode="r")
    for same in (frozen, mapped, np.asfortranarray(X), X.astype(int), X.tolist()):
        np.testing.assert_allclose(small().fit_transform(same), codes, atol=1e-6)
    assert np.array_equal(X, np.round(10 * curve))


# ------------------------------------------------------------------------------ randomness


@pytest.mark.parametrize(
    "random_state", [0, None, np.random.RandomState(0)], ids=["int", "None", "RandomState"]
)
def test_global_generators_are_left_alone(curve, random_state):
    autoencoder = small(random_state=random_state, dropout=0.1, init="random")
    numpy_before, torch_before = np.random.get_state(), torch.get_rng_state()
    threads, filters = torch.get_num_threads(), list(warnings.filters)
    autoencoder.fit(curve).transform(curve)
    assert all(
        np.array_equal(a, b) for a, b in zip(numpy_before, np.random.get_state(), strict=True)
    )
    assert torch.equal(torch_before, torch.get_rng_state())
    assert torch.get_num_threads() == threads
    assert warnings.filters == filters


def test_fits_in_threads_are_those_in_line(curve):
    def fit(seed):
        trained = {"early_stopping": False, "dropout": 0.1, "max_iter": 5}
        return small(random_state=seed, **trained).fit(curve).score(curve)

    before = torch.get_rng_state()
    in_line = [fit(seed) for seed in range(4)]
    assert len(set(in_line)) == 4
    in_threads = Parallel(n_jobs=2, backend="threading")(delayed(fit)(seed) for seed in range(4))
    assert in_threads == in_line
    assert torch.equal(torch.get_rng_state(), before)


def test_results_come_from_random_state_alone(curve):
    trained = {"early_stopping": False, "dropout": 0.1, "max_iter": 5}
    first = small(**trained).fit(curve)
    torch.rand(3)
    second = small(**trained).fit(curve)
    assert torch.equal(weights(first), weights(second))
    trained["random_state"] = np.random.RandomState(0)
    one, two = (small(**trained).fit(curve) for _ in range(2))
    assert not torch.equal(weights(one), weights(two))


def test_importing_changes_nothing():
    code = """
import logging, random, warnings, time
import numpy as np, torch, skorch, sklearn.decomposition
before = [torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate(),
          torch.get_num_threads(), logging.root.handlers[:], list(warnings.filters)]
import skae
after = [torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate(),
         torch.get_num_threads(), logging.root.handlers[:], list(warnings.filters)]
assert before == after
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ})


# --------------------------------------------------------------------------------- silence


def test_nothing_is_printed_unless_asked(curve, capfd):
    small().fit(curve).transform(curve)
    assert capfd.readouterr() == ("", "")
    small(verbose=1, max_iter=3).fit(curve)
    out, err = capfd.readouterr()
    assert out == ""
    assert "3/3" in err


# ------------------------------------------------------------------- a user's own networks


class Encoder(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_in, 16), nn.Tanh(), nn.Linear(16, n_out))

    def forward(self, x):
        return self.layers(x)


@pytest.mark.parametrize("skip", [{}, {"linear_skip": False, "init": "random"}], ids=str)
@pytest.mark.parametrize("kind", ["class", "callable", "instance"])
def test_own_networks_are_trained(curve, kind, skip):
    encoder = {
        "class": Encoder,
        "callable": lambda n_in, n_out: Encoder(n_in, n_out),
        "instance": Encoder(5, 2),
    }[kind]
    before = copy.deepcopy(encoder)
    own = small(encoder=encoder, max_iter=60, early_stopping=False, **skip)
    autoencoder = clone(own).fit(curve)
    core = autoencoder.encoder_[0]
    trained = core.branch.module if not skip else core
    assert isinstance(trained, Encoder)
    assert autoencoder.score(curve) > PCA(2).fit(curve).explained_variance_ratio_.sum() + 0.02
    if kind == "instance":
        assert trained is not encoder
        for name, value in before.state_dict().items():
            assert torch.equal(value, encoder.state_dict()[name])


@pytest.mark.parametrize("linear_skip", [True, False])
def test_perceptrons_without_biases_may_be_ones_own(curve, linear_skip):
    def perceptron(n_in, n_out):
        return MLP([n_in, 16, n_out], "tanh", linear=functools.partial(nn.Linear, bias=False))

    skip = {} if linear_skip else {"linear_skip": False, "init": "random"}
    own = small(encoder=perceptron, decoder=perceptron, early_stopping=False, **skip)
    before, after = (clone(own).set_params(max_iter=n).fit(curve).score(curve) for n in (0, 100))
    assert after > before + 0.02


class Counting(nn.Linear):
    """A layer that stores more than tensors."""

    n_passes = 0

    def forward(self, x):
        self.n_passes += self.training
        return super().forward(x)

    def get_extra_state(self):
        return {"n_passes": self.n_passes}

    def set_extra_state(self, state):
        self.n_passes = state["n_passes"]


@pytest.mark.parametrize("validation_fraction", ["auto", 0.2])
def test_own_networks_may_store_more_than_tensors(curve, validation_fraction):
    counting, plain = (
        small(encoder=layer, max_iter=10, validation_fraction=validation_fraction).fit(curve)
        for layer in (Counting, nn.Linear)
    )
    found, expected = (one.encoder_[0].branch.module for one in (counting, plain))
    assert torch.equal(found.weight, expected.weight)
    n_trained = len(curve) - (0 if validation_fraction == "auto" else len(curve) // 5)
    n_batches = math.ceil(n_trained / counting.net_.batch_size)
    assert found.n_passes == counting.best_iter_ * n_batches > 0


class Residual(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.first, self.last = nn.Linear(n_in, 64), nn.Linear(64, n_out)
        self.between = nn.Sequential(nn.GELU(), nn.Linear(64, 64), nn.GELU())

    def forward(self, x):
        h = self.first(x)
        return self.last(h + self.between(h))


def test_the_penalty_leads_deep_own_networks_from_the_free_model_to_pca(digits):
    X, pca = digits[:500], small(n_components=4, max_iter=0).fit(digits[:500])
    scores = []
    for alpha in (0, 1e-4, 1e-2, 10):
        model = small(
            n_components=4,
            encoder=Residual,
            decoder=Residual,
            alpha=alpha,
            max_iter=30,
            early_stopping=False,
        ).fit(X)
        scores.append(model.score(X))
    assert scores[0] > pca.score(X) + 0.2
    # weights by themselves would be at zero before their gates are open
    assert scores[1] > scores[0] - 0.05
    assert scores[1] > scores[2] > scores[3]
    assert scores[3] == pytest.approx(pca.score(X), abs=1e-3)


def test_an_instance_starts_from_its_weights(curve):
    encoder = Encoder(5, 2)
    autoencoder = small(encoder=encoder, linear_skip=False, init="random", max_iter=0).fit(curve)
    assert torch.equal(autoencoder.encoder_[0].layers[0].weight.cpu(), encoder.layers[0].weight)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"encoder": lambda n_in, n_out: Encoder(n_in, 3)},
            r"encoder Encoder .*\(2, 2\).*\(2, 3\)",
        ),
        (
            {"decoder": lambda n_in, n_out: Encoder(n_in, 4)},
            r"decoder Encoder .*\(2, 5\).*\(2, 4\)",
        ),
        ({"encoder": lambda n_in, n_out: Encoder(7, n_out)}, r"encoder Encoder .*raised Runtime"),
        ({"encoder": lambda n_in, n_out: nn.LSTM(n_in, n_out)}, "encoder LSTM .*gave a tuple"),
        ({"encoder": MLP}, "return one, got .*MLP'>, which raised"),
        ({"encoder": lambda n_in, n_out: "network"}, "return one, got 'network'"),
    ],
)
def test_a_network_of_the_wrong_shape_is_one_sentence(curve, parameters, message):
    autoencoder = small(**parameters)
    with pytest.raises((ValueError, TypeError), match=message):
        autoencoder.fit(curve)
    assert not hasattr(autoencoder, "n_features_in_")


def test_a_network_that_changes_its_input_is_refused(curve):
    def encoder(n_in, n_out):
        return nn.Sequential(nn.ReLU(inplace=True), nn.Linear(n_in, n_out))

    with pytest.raises(ValueError, match=r"encoder Sequential .*changed its input"):
        small(encoder=encoder, linear_skip=False, init="random").fit(curve)


def test_a_network_for_one_precision_alone_is_refused_for_the_other(curve):
    class Single(Encoder):
        def forward(self, x):
            return super().forward(x.float())

    with pytest.raises(ValueError, match=r"encoder Single .*raised RuntimeError"):
        small(encoder=Single).fit(curve)
    assert small(encoder=Single).fit(curve.astype(np.float32)).score(curve.astype(np.float32)) > 0


def test_a_network_that_a_callable_returns_again_and_again_is_copied(curve):
    shared = Encoder(5, 2)
    before = copy.deepcopy(shared.state_dict())
    small(encoder=lambda n_in, n_out: shared, early_stopping=False).fit(curve)
    assert all(torch.equal(value, before[name]) for name, value in shared.state_dict().items())


def test_infinities_that_a_network_holds_on_purpose_are_no_divergence(curve):
    class Masked(Encoder):
        def __init__(self, n_in, n_out):
            super().__init__(n_in, n_out)
            self.register_buffer("mask", torch.full((n_out, n_out), -torch.inf).triu(1))

    assert small(encoder=Masked, early_stopping=False).fit(curve).n_iter_ == 20


def test_torchs_default_dtype_is_the_users(curve):
    expected = small().fit(curve).transform(curve)
    torch.set_default_dtype(torch.float64)
    try:
        autoencoder = small(init="random").fit(curve)
        assert all(p.dtype == torch.float32 for p in autoencoder.net_.module_.parameters())
        # initial weights of the branches were drawn in float64
        autoencoder = small().fit(curve)
        assert small(max_iter=0).fit(curve).score(curve) < autoencoder.score(curve)
        again = copy.deepcopy(autoencoder)
        np.testing.assert_array_equal(again.transform(curve), autoencoder.transform(curve))
        with torch.inference_mode():
            assert small(encoder=nn.Linear).fit(curve).n_iter_ > 0
    finally:
        torch.set_default_dtype(torch.float32)
    assert np.array_equal(small().fit(curve).transform(curve), expected)


class Transposed(nn.Module):
    """A decoder whose weights are those of an encoder."""

    def __init__(self, encoder):
        super().__init__()
        self.weight = encoder.weight

    def forward(self, code):
        return code @ self.weight


TIED = nn.Linear(5, 2)


@pytest.mark.parametrize("alpha", [0, 0.01])
@pytest.mark.parametrize(
    ("encoder", "decoder"),
    [(TIED, Transposed(TIED)), (lambda n_in, n_out: TIED, lambda n_in, n_out: Transposed(TIED))],
    ids=["modules", "callables"],
)
def test_weights_that_are_tied_in_ones_own_code_stay_tied(curve, encoder, decoder, alpha):
    before = TIED.weight.detach().clone()
    model = small(
        encoder=encoder, decoder=decoder, linear_skip=False, init="random", alpha=alpha
    ).fit(curve)
    models = [model]
    if isinstance(encoder, nn.Module):
        models += [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    for one in models:
        for _ in range(2):
            rows = [p for p in one.net_.module_.parameters() if p.shape == (2, 5)]
            assert len(rows) == 1
            one.partial_fit(curve)
    assert torch.equal(TIED.weight, before)


def tensors_of(what, seen):
    """Yield all tensors that can be reached."""
    if id(what) in seen or isinstance(what, type | types.ModuleType | types.FunctionType):
        return
    seen[id(what)] = what
    if isinstance(what, torch.Tensor):
        yield what
    for one in gc.get_referents(what):
        yield from tensors_of(one, seen)


@pytest.mark.parametrize(
    "parameters", [{}, {"validation_fraction": 0.2}, {"dropout": 0.1}], ids=str
)
def test_after_a_fit_nothing_of_training_is_kept(curve, parameters):
    model = small(hidden_layer_sizes=(200,), **parameters).fit(curve)
    weights = {id(value): value for value in model.net_.module_.state_dict(keep_vars=True).values()}
    sizes = [one.numel() for one in tensors_of(vars(model), {}) if id(one) not in weights]
    assert max(sizes) <= len(curve) < 200 * curve.shape[1]  # a loss per row that judged
    assert all(weight.grad is None for weight in weights.values())


def test_the_largest_weight_of_a_penalty_leads_to_pca_with_any_optimizer(curve):
    expected = small(max_iter=0).fit(curve)
    for optimizer in ("soap", "adam", "adamw"):
        model = small(alpha=1e15, optimizer=optimizer, early_stopping=False).fit(curve)
        assert model.score(curve) == pytest.approx(expected.score(curve), abs=1e-3)
    with pytest.raises(ValueError, match=r"range \[0\.0, 1000000000000000\.0\]"):
        small(alpha=2e15).fit(curve)


def test_a_network_that_gives_nan_is_refused(curve):
    class Broken(Encoder):
        def forward(self, x):
            return super().forward(x) * float("nan")

    with pytest.raises(ValueError, match=r"encoder Broken .*finite.*gave NaN"):
        small(encoder=Broken).fit(curve)


# -------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_components": 6}, r"at most min\(n_samples, n_features\)=5 .* got 6"),
        ({"n_components": 0}, "'n_components' parameter"),
        ({"n_components": 1.5}, "'n_components' parameter"),
        ({"n_components": "2"}, "'n_components' parameter"),
        ({"hidden_layer_sizes": (16, 0)}, "hidden_layer_sizes must hold integers"),
        ({"hidden_layer_sizes": (1.5,)}, "hidden_layer_sizes must hold integers"),
        ({"hidden_layer_sizes": ["a"]}, "hidden_layer_sizes must hold integers"),
        ({"activation": "rely"}, "'activation' parameter"),
        ({"output_activation": "softmax"}, "'output_activation' parameter"),
        ({"init": "zeros"}, "'init' parameter"),
        ({"penalty": "l3"}, "'penalty' parameter"),
        ({"alpha": -1}, "'alpha' parameter"),
        ({"alpha": "big"}, "'alpha' parameter"),
        ({"optimizer": "newton"}, "'optimizer' parameter"),
        ({"optimizer": nn.Linear}, "subclass of torch.optim.Optimizer .* got Linear"),
        ({"learning_rate_init": 0}, "'learning_rate_init' parameter"),
        ({"batch_size": 0}, "'batch_size' parameter"),
        ({"max_iter": -1}, "'max_iter' parameter"),
        ({"dropout": 1.0}, "'dropout' parameter"),
        ({"encoder": "mlp"}, "'encoder' parameter"),
        ({"linear_skip": False}, "init='pca' must come with linear_skip=True"),
        ({"output_activation": "logistic"}, "output_activation='logistic' must come with"),
        ({"device": "gpu"}, "device must be one that torch can use .* got 'gpu'"),
        ({"device": "meta"}, "device must be one that torch can use .* got 'meta'"),
        ({"device": "cuda:99"}, "device must be one that torch can use .* got 'cuda:99'"),
    ],
    ids=str,
)
def test_a_wrong_parameter_is_one_sentence_and_changes_nothing(curve, parameters, message):
    autoencoder = small(**parameters)
    with pytest.raises(ValueError, match=message) as caught:
        autoencoder.fit(curve)
    assert "\n" not in str(caught.value)
    with pytest.raises(NotFittedError):
        autoencoder.transform(curve)
    fitted = small().fit(curve)
    before = pickle.dumps(fitted.transform(curve))
    fitted.set_params(**parameters)
    with pytest.raises(ValueError, match=message):
        fitted.fit(curve[:, ::-1])
    assert pickle.dumps(fitted.transform(curve)) == before


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.array([[1.0, np.inf], [0, 1]]), "infinity"),
        (np.arange(5.0), "Expected 2D array, got 1D"),
        (np.zeros((0, 3)), "0 sample"),
        (np.zeros((1, 3)), "1 sample"),
        (np.zeros((3, 0)), "0 feature"),
        (np.array([["a", "b"], ["c", "d"]]), "could not convert|Unable to convert"),
        (np.array([[1e308, -1e308], [-1e308, 1e308]] * 3), "variance that is finite in float64"),
    ],
    ids=["inf", "1-D", "no rows", "one row", "no columns", "strings", "overflow"],
)
def test_wrong_data_is_one_sentence(X, message):
    autoencoder = small(n_components=1)
    with pytest.raises(ValueError, match=message):
        autoencoder.fit(X)
    assert not hasattr(autoencoder, "n_features_in_")
    with pytest.raises(NotFittedError):
        autoencoder.score(np.zeros((2, 2)))


def test_wrong_widths_after_fit(curve):
    autoencoder = small().fit(curve)
    for method in (autoencoder.transform, autoencoder.reconstruct, autoencoder.score_samples):
        with pytest.raises(ValueError, match=r"X has 4 features, but .* is expecting 5"):
            method(curve[:, :4])
    with pytest.raises(ValueError, match=r"n_components_=2, got 3; pass what transform"):
        autoencoder.inverse_transform(np.zeros((3, 3)))
    with pytest.raises(ValueError, match="X has 4 features"):
        autoencoder.set_params(warm_start=True).fit(curve[:, :4])
    with pytest.raises(ValueError, match=r"n_components must stay as it was, 2, .* got 3"):
        autoencoder.set_params(n_components=3).fit(curve)


def test_wide_codes_are_allowed_without_pca(curve):
    autoencoder = small(n_components=9, linear_skip=False, init="random").fit(curve)
    assert autoencoder.transform(curve).shape == (300, 9)


# ---------------------------------------------------------------- when training goes wrong


class AtEpoch(Callback):
    def __init__(self, epoch, act):
        self.epoch = epoch
        self.act = act

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == self.epoch:
            self.act(net)


def interrupt(net):
    raise KeyboardInterrupt


def spoil(net):
    with torch.no_grad():
        next(net.module_.parameters()).fill_(float("nan"))
        net.average_.average[0].fill_(float("nan"))


def test_an_interrupt_is_raised_and_nothing_is_lost(curve):
    autoencoder = small(callbacks=[AtEpoch(2, interrupt)])
    with pytest.raises(KeyboardInterrupt):
        autoencoder.fit(curve)
    assert not hasattr(autoencoder, "net_")
    fitted = small(warm_start=True).fit(curve)
    before, attributes = weights(fitted).clone(), set(vars(fitted))
    with pytest.raises(KeyboardInterrupt):
        fitted.set_params(callbacks=[AtEpoch(2, interrupt)]).fit(curve)
    assert torch.equal(weights(fitted), before)
    assert set(vars(fitted)) == attributes


@pytest.mark.parametrize("early_stopping", [True, False])
def test_a_loss_that_is_not_finite_ends_training_with_the_last_good_weights(curve, early_stopping):
    parameters = {"early_stopping": early_stopping, "validation_fraction": 0.1, "max_iter": 30}
    with pytest.warns(ConvergenceWarning, match=r"epoch 8.*lower learning_rate_init=0.012"):
        spoiled = small(callbacks=[AtEpoch(8, spoil)], **parameters).fit(curve)
    assert spoiled.n_iter_ == 8
    good = small(**{**parameters, "max_iter": 7}).fit(curve)
    assert spoiled.best_iter_ == good.best_iter_
    assert torch.equal(weights(spoiled), weights(good))


def test_a_learning_rate_that_is_far_too_high_is_survived(curve):
    autoencoder = small(optimizer="sgd", learning_rate_init=1e6, early_stopping=False)
    with pytest.warns(ConvergenceWarning):
        autoencoder.fit(curve)
    assert np.isfinite(autoencoder.transform(curve)).all()


@pytest.mark.parametrize(
    ("n_rows", "batch_size", "warm_up"),
    [(100, 32, 1.5), (500, 64, 5.0), (1200, 128, 10.0), (9000, 256, 10.0)],
)
def test_batches_and_the_average_go_by_the_number_of_rows(n_rows, batch_size, warm_up):
    X = np.random.RandomState(0).normal(size=(n_rows, 3))
    net = small(early_stopping=False, max_iter=1).fit(X).net_
    assert (net.batch_size, net.average_decay, net.average_warm_up) == (batch_size, 0.99, warm_up)
    assert small(early_stopping=False, max_iter=1, average=False).fit(X).net_.average_decay == 0


# ----------------------------------------------------------------------------- cross-fitting


def fold_splits(X, n_folds=5):
    seed = np.random.RandomState(0).randint(np.iinfo(np.int32).max)  # as of random_state=0
    return list(KFold(n_folds, shuffle=True, random_state=seed).split(X))


def fold_start(start, rows, X):
    """Return the fitted start of all rows X, but at the PCA of some."""
    start = copy.deepcopy(start)
    encoder, decoder = start.net_.module_.encoder[0], start.net_.module_.decoder[1]
    components = PCA(2).fit(rows).components_
    codes = (X - start.mean_) / start.scale_ @ components.T
    with torch.no_grad():
        encoder.linear.weight.copy_(torch.tensor(components))
        decoder.linear.weight.copy_(torch.tensor(components.T))
        decoder.clip.bound.copy_(torch.tensor(4 * np.abs(codes).max(axis=0)))
    return start


def row_squares(X):
    return np.square(X).sum(axis=1)


@pytest.mark.parametrize("init", ["pca", "random"])
@pytest.mark.parametrize("n_epochs", [0, 1, 6])
def test_scores_are_those_of_folds_that_are_refitted_by_hand(curve, init, n_epochs):
    # one batch holds all rows, so that their order makes no difference
    parameters = {"init": init, "batch_size": 1000, "average": False, "alpha": 1e-4}
    # SOAP would make more of rounding: where gradients vanish that says where its axes are
    parameters |= {"optimizer": "adam", "learning_rate_init": 4e-3}
    # and the side of a kink on which rows are may be a matter of rounding too
    parameters |= {"activation": "gelu"}
    score = small(**parameters, max_iter=n_epochs).fit(curve).validation_scores_[n_epochs]
    start = small(**parameters, max_iter=0, early_stopping=False).fit(curve)
    errors = np.empty(len(curve))
    for train, valid in fold_splits(curve):
        fold = start if init == "random" else fold_start(start, curve[train], curve)
        trained = small(**{**parameters, "init": fold}, max_iter=n_epochs, early_stopping=False)
        reconstructions = trained.fit(curve[train]).reconstruct(curve[valid])
        errors[valid] = row_squares(curve[valid] - reconstructions)
    expected = 1 - errors.sum() / row_squares(curve - start.mean_).sum()
    # float32, of which Adam makes more: its steps have the size of the rate at any gradient
    assert score == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"init": "random"},
        TEXTBOOK,
        {"dropout": 0.2},
        {"penalty": "kl"},
        {"corruption": "swap"},
        {"encoder": nn.Linear},
        {"average": False, "batch_size": 16},
        {"random_state": np.random.RandomState(3)},
    ],
    ids=lambda parameters: " ".join(parameters) or "defaults",
)
def test_all_rows_are_trained_for_the_best_number_of_epochs(curve, parameters):
    X = (curve[:150] - curve.min()) / np.ptp(curve)
    crossed = small(**{"learning_rate_init": 0.01, **copy.deepcopy(parameters)}).fit(X)
    assert 0 < crossed.best_iter_ <= crossed.n_iter_ == len(crossed.validation_scores_) - 1
    plain = clone(crossed).set_params(early_stopping=False, max_iter=crossed.best_iter_)
    plain.set_params(**copy.deepcopy(parameters)).fit(X)
    assert torch.equal(weights(crossed), weights(plain))
    assert crossed.loss_curve_ == plain.loss_curve_
    assert crossed.best_validation_score_ == crossed.validation_scores_[crossed.best_iter_]


def is_held_out(estimator, X):
    """Return whether a fit is that of a hold-out, and not of folds."""
    held_out = clone(estimator).set_params(validation_fraction=0.1)
    fits = [copy.deepcopy(estimator).fit(X), held_out.fit(X)]
    scores, expected = (fit.validation_scores_ for fit in fits)
    assert (scores == expected) == torch.equal(*map(weights, fits))
    return scores == expected


def test_tables_of_a_thousand_rows_are_not_judged_in_folds():
    X = datasets.make_swiss_roll(1000, random_state=0)[0]
    assert not is_held_out(small(max_iter=12, learning_rate_init=0.01), X[:999])
    assert is_held_out(small(max_iter=12, learning_rate_init=0.01), X)


def test_callbacks_and_earlier_fits_are_not_judged_in_folds(curve):
    assert not is_held_out(small(), curve)
    assert is_held_out(small(callbacks=[EpochTimer]), curve)
    assert is_held_out(small(init=FrozenEstimator(small(max_iter=5).fit(curve))), curve)
    again = [
        small(warm_start=True).fit(curve).set_params(validation_fraction=f) for f in ("auto", 0.1)
    ]
    scores = [fitted.fit(curve).validation_scores_ for fitted in again]
    assert scores[0] == scores[1]


def test_mapped_files_are_not_judged_in_folds(curve, tmp_path, monkeypatch):
    mapped = np.memmap(tmp_path / "rows", np.float64, "w+", shape=curve.shape)
    mapped[:] = curve
    assert not is_held_out(small(), mapped)
    monkeypatch.setattr("skae._autoencoder._MAX_READ", 0)
    assert is_held_out(small(), mapped)


@pytest.mark.parametrize("n_rows", [4, 5, 6, 11])
def test_few_rows_are_judged_in_as_many_folds_as_there_can_be(curve, n_rows):
    X = curve[:n_rows]
    score = small(n_components=1).fit(X).validation_scores_[0]
    errors = np.empty(n_rows)
    for train, valid in fold_splits(X, min(n_rows, 5)):
        deviations = X - X.mean(axis=0)
        component = PCA(1).fit(X[train]).components_
        errors[valid] = row_squares(deviations - deviations @ component.T @ component)[valid]
    assert score == pytest.approx(1 - errors.sum() / row_squares(deviations).sum(), abs=1e-6)


def test_wide_tables_are_not_compared_with_a_pca_that_has_seen_the_rows_that_judge():
    rng = np.random.RandomState(0)
    t = rng.uniform(-1, 1, size=(180, 2))
    bent = np.column_stack([t, t**2, np.sin(4 * t), t[:, 0] * t[:, 1]])
    X = bent @ rng.normal(size=(7, 50)) + 0.9 * rng.normal(size=(180, 50))
    X, X_test = X[:90], X[90:]
    autoencoder = AutoencoderTransformer(4, random_state=0).fit(X)
    pca = AutoencoderTransformer(4, max_iter=0).fit(X)
    # PCA knows the noise of its own rows, which no model of other rows can
    assert autoencoder.best_validation_score_ < pca.score(X)
    assert autoencoder.score(X_test) > pca.score(X_test) + 0.02


def test_of_starts_that_are_judged_in_folds_the_best_is_kept(curve):
    starts = small(init="random", n_init=3).fit(curve)
    assert len(set(starts.init_scores_)) == 3
    assert max(starts.init_scores_) == starts.best_validation_score_
    assert starts.best_validation_score_ == starts.validation_scores_[starts.best_iter_]
    one = small(init="random").fit(curve)
    assert one.best_validation_score_ == starts.init_scores_[0]


@pytest.mark.parametrize("init", ["pca", "random"])
def test_folds_that_diverge_leave_the_start(curve, init):
    parameters = {"init": init, "optimizer": "sgd", "learning_rate_init": 1e6}
    with pytest.warns(ConvergenceWarning, match="epoch 1.*best epoch before") as caught:
        autoencoder = small(**parameters).fit(curve)
    assert len(caught) == 1
    assert autoencoder.best_iter_ == 0
    start = small(init=init, max_iter=0).fit(curve)
    assert torch.equal(weights(autoencoder), weights(start))


def test_a_refit_that_diverges_is_given_up_for_pca(curve):
    steps = itertools.count(1)

    def breaks_in_the_fourth_step_with_all_rows(x_hat, x):
        losses = (x_hat - x).square().mean(dim=1)
        is_step = len(x) == len(curve) and losses.requires_grad
        return losses * torch.nan if is_step and next(steps) == 4 else losses

    parameters = {"loss": breaks_in_the_fourth_step_with_all_rows, "batch_size": 1000}
    with pytest.warns(ConvergenceWarning, match="epoch 4"):
        autoencoder = small(**parameters, learning_rate_init=0.02, average=False).fit(curve)
    assert autoencoder.best_iter_ == 0
    assert autoencoder.best_validation_score_ == autoencoder.validation_scores_[0]
    np.testing.assert_allclose(autoencoder.transform(curve), PCA(2).fit_transform(curve), atol=1e-5)


def test_a_refit_must_gain_on_the_training_rows(curve, monkeypatch):
    def accepting_the_last_epoch(*args, **kwargs):
        course = cross_fitted(*args, **kwargs)
        course.best_iter = len(course.scores) - 1
        return course

    monkeypatch.setattr("skae._autoencoder.cross_fitted", accepting_the_last_epoch)
    X = np.random.RandomState(0).normal(size=(40, 5))
    # steps that are too large to gain anything
    worse = small(optimizer="sgd", learning_rate_init=1.0, average=False, max_iter=3).fit(X)
    assert worse.loss_curve_[-1] > worse.loss_curve_[0]
    assert worse.best_iter_ == 0
    np.testing.assert_allclose(worse.transform(X), PCA(2).fit_transform(X), atol=1e-5)
    assert small().fit(curve).best_iter_ == 20  # which is no rule against all refits


# ------------------------------------------------------------------------------- callbacks


def test_callbacks_see_the_fit_and_stay_as_they_were(curve):
    class Recorder(Callback):
        def __init__(self):
            self.n_epochs = 0

        def on_train_begin(self, net, **kwargs):
            self.net_ = net

        def on_epoch_end(self, net, **kwargs):
            self.n_epochs += 1

    recorder, schedule = Recorder(), LRScheduler("ExponentialLR", gamma=0.5, event_name="lr")
    autoencoder = small(callbacks=[("recorder", recorder), schedule, EpochTimer]).fit(curve)
    assert recorder.n_epochs == autoencoder.n_iter_
    assert vars(recorder) == {"n_epochs": autoencoder.n_iter_}
    assert not hasattr(schedule, "lr_scheduler_")
    rates = autoencoder.net_.history[:, "lr"]
    np.testing.assert_allclose(rates, 0.012 * 0.5 ** np.arange(len(rates)))
    fitted = dict(autoencoder.net_.callbacks_)
    assert fitted["recorder"].net_ is autoencoder.net_
    assert isinstance(fitted["LRScheduler"].lr_scheduler_, torch.optim.lr_scheduler.ExponentialLR)
    # parameters alone are stored, not the optimiser behind the schedule
    assert len(pickle.dumps(autoencoder.callbacks[1])) < 500
    assert b"ExponentialLR" not in pickle.dumps(autoencoder.net_)


def test_the_best_epoch_is_the_fits_whatever_a_callback_loads(curve, tmp_path):
    callback = Checkpoint(monitor="train_loss_best", dirname=tmp_path / "a", load_best=True)
    autoencoder = small(callbacks=[callback]).fit(curve)
    plain = small(validation_fraction=0.1).fit(curve)
    assert torch.equal(weights(autoencoder), weights(plain))
    assert autoencoder.loss_curve_ == pytest.approx(plain.loss_curve_)
    assert autoencoder.best_iter_ == plain.best_iter_
    # without early stopping there is no best epoch, and the callback's choice stands
    callback = Checkpoint(monitor=lambda net: len(net.history) == 1, dirname=tmp_path / "b")
    callback.load_best = True
    loaded = small(callbacks=[callback], early_stopping=False).fit(curve)
    assert loaded.score(curve) == pytest.approx(
        small(max_iter=1, early_stopping=False).fit(curve).score(curve), abs=1e-6
    )


@pytest.mark.parametrize("average", [True, False])
def test_weights_that_a_callback_loads_at_the_beginning_are_trained_on(curve, tmp_path, average):
    # not the optimiser, whose learning rate would be loaded too
    checkpoint = Checkpoint(monitor=None, f_optimizer=None, dirname=tmp_path)
    parameters = {"early_stopping": False, "average": average}
    trained = small(callbacks=[checkpoint], **parameters).fit(curve)
    again = small(
        callbacks=[LoadInitState(checkpoint)], max_iter=1, learning_rate_init=1e-12, **parameters
    ).fit(curve)
    assert again.score(curve) == pytest.approx(trained.score(curve), abs=1e-5)


@pytest.mark.parametrize("use_caching", [True, False])
def test_scoring_callbacks_know_the_target(curve, use_caching):
    scoring = EpochScoring("r2", lower_is_better=False, use_caching=use_caching)
    history = small(callbacks=[scoring]).fit(curve).net_.history
    # the mean over features of R², in float32, of the same held-out rows
    assert np.corrcoef(history[:, "r2"], history[:, "valid_loss"])[0, 1] < -0.9


@pytest.mark.parametrize("callbacks", [[3], [dict], [("name", None)], ["EpochTimer"]], ids=str)
def test_what_is_no_callback_is_refused(curve, callbacks):
    with pytest.raises(ValueError, match="callbacks must hold skorch callbacks"):
        small(callbacks=callbacks).fit(curve)


# ------------------------------------------------------------------------------ persistence


def test_a_pickle_holds_the_weights_and_little_else(digits):
    autoencoder = AutoencoderTransformer(8, max_iter=10, random_state=0).fit(digits)
    size = len(pickle.dumps(autoencoder))
    n_bytes = 4 * weights(autoencoder).numel()
    # what judges entries, and what fills missing ones
    n_entrywise = len(pickle.dumps(autoencoder._judge))
    n_entrywise += len(pickle.dumps(autoencoder.net_.module_.input))
    # 15 kB for parameters, history and the names of classes
    n_bytes += len(pickle.dumps(autoencoder.density_)) + n_entrywise
    assert n_bytes < size < n_bytes + 15_000
    assert n_entrywise < 10_000
    assert size - n_entrywise < digits.astype(np.float32).nbytes / 4
    loaded = pickle.loads(pickle.dumps(autoencoder))
    assert np.array_equal(loaded.transform(digits), autoencoder.transform(digits))
    assert loaded.net_.history == autoencoder.net_.history
    again = loaded.set_params(warm_start=True).fit(digits)
    assert again.score(digits) > autoencoder.score(digits) - 0.01


def as_they_are(X):
    return X


def read_only(X):
    X.setflags(write=False)
    return X


@pytest.mark.parametrize("form", [as_they_are, np.asfortranarray, read_only])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("method", ["transform", "reconstruct", "score_samples"])
def test_rows_are_checked_in_one_pass_as_scikit_learn_checks_them(curve, form, dtype, method):
    method = getattr(small(early_stopping=False, max_iter=1).fit(curve), method)
    X = np.full((3, 5), 0.6 * np.finfo(dtype).max, dtype)
    assert torch.from_numpy(X).sum().isinf()  # which says nothing of a single entry
    assert np.isfinite(method(form(X.copy()))).all()
    X[1, 2] = np.inf
    with pytest.raises(ValueError, match="Input X contains infinity"):
        method(form(X.copy()))
    X = np.zeros((3, 5), dtype)
    X[1] = np.nan
    with pytest.warns(UserWarning, match="Nothing is known of 1 rows"):
        method(form(X.copy()))


def test_a_model_fitted_on_a_device_that_is_not_here_loads_on_the_cpu(curve):
    autoencoder = small(device="cpu").fit(curve)
    codes = autoencoder.transform(curve)
    autoencoder.net_.device = "cuda:99"
    stored = pickle.dumps(autoencoder)
    with pytest.warns(UserWarning, match="was on device 'cuda:99'"):
        loaded = pickle.loads(stored)
    assert loaded.device_ == torch.device("cpu")
    assert np.array_equal(loaded.transform(curve), codes)


def test_parameters_are_documented_and_tested_for_their_range():
    signature = inspect.signature(AutoencoderTransformer)
    constraints = AutoencoderTransformer._parameter_constraints
    assert list(signature.parameters) == list(constraints)
    documented = AutoencoderTransformer.__doc__
    assert all(f"{name}" in documented for name in signature.parameters)


def test_features_of_different_units_are_the_users_to_scale():
    X = DATA["wine"]
    raw = small(max_iter=0).fit(X)
    assert raw.score(X) > 0.99  # proline is nearly all of the variance, as to PCA
    assert small(max_iter=0).fit(StandardScaler().fit_transform(X)).score(
        StandardScaler().fit_transform(X)
    ) == pytest.approx(0.554, abs=1e-3)


def test_an_mlp_class_can_be_given_as_a_callable(curve):
    encoder = MLP([5, 16, 2], "gelu")
    autoencoder = small(encoder=encoder).fit(curve)
    assert isinstance(autoencoder.encoder_[0].branch, MLP)


# ------------------------------------------------------------------------------- rows in chunks


@pytest.mark.parametrize("writeable", [True, False])
def test_views_that_run_backwards_are_as_copies(curve, writeable):
    fitted = small(max_iter=2).fit(curve)
    codes = fitted.transform(curve)
    # a view of one row is contiguous for NumPy, whatever its stride
    for X, some in ((curve[::-1], codes[::-1]), (curve[:1][::-1], codes[:1][::-1])):
        X.flags.writeable = some.flags.writeable = writeable
        for method, rows in (
            (fitted.transform, X),
            (fitted.score_samples, X),
            (fitted.inverse_transform, some),
        ):
            assert np.array_equal(method(rows), method(rows.copy()))
    column = np.ascontiguousarray(curve[:, :1])[:, ::-1]
    assert column.strides[1] < 0
    column.flags.writeable = writeable
    one, other = (small(n_components=1, max_iter=2).fit(x) for x in (column, column.copy()))
    assert np.array_equal(one.transform(column), other.transform(column))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
@pytest.mark.parametrize("parameters", [{}, TEXTBOOK, {"dropout": 0.3}, {"encoder": Encoder}])
def test_rows_in_chunks_are_mapped_as_all_at_once(curve, monkeypatch, parameters, gaps, dtype):
    X = ((curve - curve.min(axis=0)) / np.ptp(curve, axis=0)).astype(dtype)
    if gaps:
        X[::7, 1] = np.nan
    fitted = small(**{"early_stopping": False, **parameters}).fit(X)
    codes = fitted.transform(X)

    def answers():
        return (
            fitted.transform(X),
            fitted.inverse_transform(codes),
            fitted.reconstruct(X),
            fitted.score_samples(X),
            fitted.score_features(X),
        )

    at_once, made = answers(), []
    monkeypatch.setattr(
        _autoencoder, "Evaluated", lambda module: made.append(module) or Evaluated(module)
    )
    monkeypatch.setattr(_batches, "_CHUNK_ROWS", 64)  # four of them, and a shorter one
    # the same sums in another order, in the precision of X
    close = {"rtol": 1e-4, "atol": 1e-5} if dtype == np.float32 else {"rtol": 1e-9, "atol": 1e-12}
    for some, expected in zip(answers(), at_once, strict=True):
        np.testing.assert_allclose(some, expected, **close)
    assert len(made) == (0 if "encoder" in parameters else 5)


def test_a_constant_column_has_its_value_for_a_mean_to_the_bit(curve):
    X = np.column_stack([np.tile(curve, (10, 1)), np.full(3000, 0.1)])
    for table in (X, csr_array(X)):
        assert small(max_iter=0).fit(table).mean_[-1] == 0.1


def test_codes_of_rows_far_out_are_those_of_pca(curve):
    far = 1e7 * curve
    # float32 weights, and an offset of up to 1e7 standard deviations
    np.testing.assert_allclose(
        small(max_iter=0).fit(curve).transform(far),
        PCA(2).fit(curve).transform(far),
        rtol=1e-4,
        atol=1e2,
    )


def test_a_change_of_what_was_constant_is_seen(curve):
    X = np.column_stack([curve, np.full(300, 2.0)])
    fitted, odd = small().fit(X), X.copy()
    odd[0, -1] = 5
    assert fitted.score_samples(odd)[0] < fitted.score_samples(X)[0] - 1
    assert fitted.reconstruction_errors(odd).iloc[0, -1] > 1
