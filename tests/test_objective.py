"""J = L + λR through the public face: losses, penalties, corruptions, and what goes with them."""

import copy
import itertools
import pickle
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import optimize, special
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback
from torch import nn

from skae import AutoencoderTransformer, corruptions
from skae._net import eased
from skae.losses import BinaryCrossEntropy, Loss, SquaredError
from skae.modules import MLP, ConvDecoder, ConvEncoder, TiedLinear
from skae.penalties import KL, ActivityL1, Contractive, Penalty

PENALTIES = ["l2", "l1", "activity_l1", "contractive", "kl"]
CORRUPTIONS = ["gaussian", "masking", "swap"]
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
        "max_iter": 30,
        "early_stopping": False,
        "random_state": 0,
    }
    return AutoencoderTransformer(**{**defaults, **parameters})


def unit(X):
    return (X - X.min(axis=0)) / np.ptp(X, axis=0)


def same_models(one, other, X):
    return np.array_equal(one.transform(X), other.transform(X)) and np.array_equal(
        one.reconstruct(X), other.reconstruct(X)
    )


class Weights(Penalty):
    def __call__(self, weights):
        return sum(weight.square().sum() for weight in weights)


class Rows(Penalty):
    needs = ("code",)

    def __call__(self, code):
        return code.square().sum(dim=1)


# --------------------------------------------------------------------------------- how much of it


@pytest.mark.parametrize("penalty", [*PENALTIES, Weights(), Rows()], ids=repr)
def test_the_automatic_weight_falls_with_the_rows_if_the_penalty_is_on_weights(digits, penalty):
    on_weights = penalty in ("l2", "l1") or isinstance(penalty, Weights)
    for X in (digits[:100, 10::8], digits[:1500, 10::8]):
        expected = 0.2 / max(len(X), 1000) if on_weights else 1e-4
        automatic = small(penalty=penalty, max_iter=2).fit(X)
        given, free = (clone(automatic).set_params(alpha=a).fit(X) for a in (expected, 0))
        assert automatic.alpha_ == given.alpha_ == automatic.net_.alpha == expected
        assert automatic.alpha == "auto"
        assert same_models(automatic, given, X)
        assert not same_models(automatic, free, X)


class Easing(Callback):
    """Does by hand what the automatic weight does."""

    def __init__(self, alpha):
        self.alpha = alpha

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) > 1:
            net.alpha = self.alpha * eased(net.history[-2, "train_loss"])


@pytest.mark.parametrize("parameters", [{}, {"dropout": 0.1}, {"penalty": "l1"}], ids=str)
def test_the_automatic_weight_is_halved_with_the_loss(curve, parameters):
    parameters = {"max_iter": 10, **parameters}
    X = np.tile(curve, (4, 1))[:1000]
    automatic = small(**parameters).fit(X)
    n_halvings = np.log2(automatic.alpha_ / automatic.net_.alpha_)
    assert n_halvings == np.ceil(np.log2(0.1 / automatic.loss_curve_[-2])) >= 1
    by_hand = small(alpha=2e-4, callbacks=[Easing(2e-4)], **parameters).fit(X)
    assert same_models(automatic, by_hand, X)
    fixed = small(alpha=2e-4, **parameters).fit(X)
    assert not same_models(automatic, fixed, X)
    # of fewer rows the training loss says less, and the weight is the same in all epochs
    few = [small(alpha=alpha, **parameters).fit(X[:999]) for alpha in ("auto", 2e-4)]
    assert same_models(*few, X)


def test_the_automatic_weight_falls_with_the_loss_of_a_stream(curve):
    streaming, given = small(), small(alpha=1e-4)
    for _ in range(12):
        streaming.partial_fit(curve)
        given.partial_fit(curve)
    assert streaming.alpha_ == 0.2 / 3600
    n_halvings = np.log2(streaming.alpha_ / streaming.net_.alpha_)
    assert n_halvings == np.ceil(np.log2(0.1 / streaming.loss_curve_[-2])) >= 1
    assert given.net_.alpha_ == 1e-4


@pytest.mark.parametrize(
    ("loss", "weight"),
    [(0.2, 1), (0.1, 1), (0.099, 0.5), (0.05, 0.5), (0.049, 0.25), (0, 2**-20), (np.nan, 1)],
)
def test_weights_are_halved_each_time_that_the_loss_is(loss, weight):
    assert eased(loss) == weight


@pytest.mark.parametrize(
    "parameters",
    [{"alpha": 2e-4}, {"loss": "huber"}, {"loss": "absolute_error"}, {"categorical_features": [0]}],
    ids=str,
)
def test_other_weights_stay_as_they_are(curve, parameters):
    X = np.tile(curve, (4, 1))[:1000]
    X[:, 0] = X[:, 0] > 0
    fitted = small(n_components=4, max_iter=20, **parameters).fit(X)
    assert fitted.loss_curve_[-1] < 0.1
    assert fitted.net_.alpha_ == fitted.alpha_ == 2e-4


class ElasticNet(Penalty):
    def __call__(self, weights):
        return sum(weight.square().sum() + weight.abs().sum() for weight in weights)


class SeparableElasticNet(ElasticNet):
    separable = True


@pytest.mark.parametrize("optimizer", ["soap", "adam"])
def test_a_penalty_of_ones_own_may_be_separable(curve, optimizer):
    parameters = {"alpha": 0.01, "max_iter": 5, "optimizer": optimizer}
    whole, apart = (
        small(penalty=kind(), **parameters).fit(curve) for kind in (SeparableElasticNet, ElasticNet)
    )
    # sums in another order, of which the optimisers make more where gradients are small
    np.testing.assert_allclose(whole.reconstruct(curve), apart.reconstruct(curve), atol=1e-3)
    free = small(penalty=None, **parameters).fit(curve)
    assert np.abs(whole.reconstruct(curve) - free.reconstruct(curve)).max() > 0.01


class Barrier(nn.Module):
    """A loss that is not finite where a reconstruction is long."""

    def forward(self, x_hat, x):
        return (x_hat - x).square().mean(1) - 0.01 * torch.log(6 - x_hat.square().sum(1))


def test_a_start_without_a_score_is_no_best_one(curve):
    parameters = {"loss": Barrier(), "init": "random", "alpha": 0, "max_iter": 3}
    parameters |= {"early_stopping": True, "validation_fraction": 0.2, "n_init": 6}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = small(**{**parameters, "random_state": 5}).fit(10 * curve)
    scores = fitted.init_scores_
    assert np.isnan(scores)[[0, -1]].all()
    assert fitted.best_validation_score_ == np.nanmax(scores)


def test_a_search_may_have_the_automatic_weight_beside_others(curve):
    search = GridSearchCV(small(), {"alpha": ["auto", 0.0, 1.0]}, cv=2).fit(curve)
    assert search.best_params_["alpha"] != 1.0
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_another_word_than_auto_is_refused(curve):
    with pytest.raises(ValueError, match=r"alpha.*'auto'.*'scale'"):
        small(alpha="scale").fit(curve)


def test_without_a_penalty_the_automatic_weight_changes_nothing(curve):
    automatic, zero = (small(penalty=None, alpha=a).fit(curve) for a in ("auto", 0))
    assert same_models(automatic, zero, curve)


class Scaled(nn.Module):
    """Copies columns, each times a factor: no matrix is trained."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.n_in, self.factors = n_in, nn.Parameter(torch.ones(n_out))

    def forward(self, x):
        return x[:, torch.arange(len(self.factors)) % self.n_in] * self.factors


def test_networks_without_matrices_have_no_weights_to_penalise(curve):
    networks = {"encoder": Scaled, "decoder": Scaled, "linear_skip": False, "init": "random"}
    penalised, free = (small(penalty=some, **networks).fit(curve) for some in (Weights(), None))
    assert same_models(penalised, free, curve)
    assert free.loss_curve_[-1] < free.loss_curve_[0]


# -------------------------------------------------------------------- no strength is no presence


@pytest.mark.parametrize("structure", [{}, TEXTBOOK], ids=["skip", "textbook"])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_penalty_of_weight_zero_is_exactly_none(curve, structure, early_stopping):
    X = unit(curve)
    # with as many epochs as it takes to beat PCA where early stopping judges
    parameters = {
        **structure,
        "early_stopping": early_stopping,
        "validation_fraction": 0.3,
        "max_iter": 30 if early_stopping else 10,
        "n_iter_no_change": 30,
    }
    without = small(penalty=None, **parameters).fit(X)
    for penalty in PENALTIES:
        none, some = (small(penalty=penalty, alpha=a, **parameters).fit(X) for a in (0, 0.1))
        assert same_models(none, without, X), penalty
        assert not same_models(some, without, X), penalty


@pytest.mark.parametrize("early_stopping", [False, True])
def test_corruption_of_level_zero_is_exactly_none(curve, early_stopping):
    # rows that are held out, as folds take five times as long and show no more of it
    judging = {"early_stopping": early_stopping, "validation_fraction": 0.3}
    parameters = {**judging, "max_iter": 20}
    without = small(**parameters).fit(curve)
    for corruption in CORRUPTIONS:
        parameters["corruption"] = corruption
        none, some = (small(corruption_level=n, **parameters).fit(curve) for n in (0, 0.2))
        assert same_models(none, without, curve), corruption
        assert not same_models(some, without, curve), corruption


# ---------------------------------------------------------------- more of it does what it says


def over_alphas(X, penalty, alphas, measure, **parameters):
    fits = [small(penalty=penalty, alpha=a, **parameters).fit(X) for a in alphas]
    return np.array([measure(fitted) for fitted in fits])


def branch_weights(fitted):
    return torch.cat([w.detach().flatten() for w in fitted.net_.module_.penalized_weights()])


@pytest.mark.parametrize(("penalty", "norm"), [("l2", 2), ("l1", 1)])
@pytest.mark.parametrize("structure", [{}, {"linear_skip": False, "init": "random"}])
def test_more_of_a_penalty_on_weights_makes_them_smaller(curve, penalty, norm, structure):
    norms = over_alphas(
        curve, penalty, [0, 1e-2, 1], lambda m: branch_weights(m).norm(norm), **structure
    )
    assert bool((np.diff(norms) < -0.02 * norms[0]).all())


@pytest.mark.parametrize("penalty", ["l2", "l1"])
def test_with_the_linear_skip_their_limit_is_pca(curve, penalty):
    fitted = small(penalty=penalty, alpha=1e3, average=False, max_iter=100).fit(curve)
    pca = PCA(2).fit(curve)
    # steps of 4e-3 are as near as Adam comes
    assert fitted.score(curve) == pytest.approx(pca.explained_variance_ratio_.sum(), abs=2e-3)
    free = small(penalty=penalty, alpha=0, max_iter=100).fit(curve)
    assert free.score(curve) > fitted.score(curve) + 0.03


@pytest.mark.parametrize("structure", [{}, {"linear_skip": False, "init": "random"}])
def test_more_activity_l1_makes_more_entries_of_the_code_zero(digits, structure):
    def exact_zeros(fitted):
        codes = fitted.transform(digits[:500])
        small_ones = np.abs(codes) <= 1e-3 * np.sqrt(np.square(codes).mean(axis=0))
        # codes in training are float32: at most one entry of 2000 is at the edge
        assert fitted.code_sparsity_ == pytest.approx(np.mean(small_ones), abs=1 / 2000)
        return np.mean(codes == 0)

    shares = over_alphas(
        digits[:500], "activity_l1", [0, 0.1, 1], exact_zeros, n_components=4, **structure
    )
    assert shares[0] == 0
    assert bool((np.diff(shares) > 0.02).all())


def relative_contraction(fitted, X):
    """Return the mean of ``tr(Jᵀ C⁻¹ J)``, in the units of the networks, by autograd."""
    x = torch.tensor((X - fitted.mean_) / fitted.scale_, dtype=torch.float32)
    code = fitted.encoder_(x).detach().numpy()
    inverse = np.linalg.inv(np.cov(code.T, bias=True))
    encoder = fitted.encoder_
    jacobians = torch.func.vmap(torch.func.jacrev(lambda row: encoder(row[None])[0]))(x)
    jacobians = jacobians.detach().numpy()
    return np.einsum("nij,ik,nkj->n", jacobians, inverse, jacobians).mean()


@pytest.mark.parametrize("structure", [{}, {"linear_skip": False, "init": "random"}])
def test_more_contraction_makes_the_encoders_relative_jacobian_smaller(digits, structure):
    X = digits[:500]
    sizes = over_alphas(
        X,
        "contractive",
        [0, 1e-2, 1],
        lambda fitted: relative_contraction(fitted, X),
        n_components=3,
        activation="tanh",
        **structure,
    )
    assert bool((sizes[1:] < 0.9 * sizes[:-1]).all())


def divergence(fitted, X):
    """Return the mean divergence of the codes' distributions from N(0, I), by torch."""
    x = torch.tensor((X - fitted.mean_) / fitted.scale_, dtype=torch.float32)
    mean, log_variance = fitted.encoder_[0].distribution(x)
    posterior = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    prior = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    return torch.distributions.kl_divergence(posterior, prior).sum(dim=1).mean().item()


@pytest.mark.parametrize("structure", [{}, {"linear_skip": False, "init": "random"}])
def test_more_kl_brings_the_codes_distributions_nearer_to_the_prior(curve, structure):
    divergences = over_alphas(
        curve, "kl", [1e-3, 1e-1, 10], lambda fitted: divergence(fitted, curve), **structure
    )
    assert bool((np.diff(divergences) < -0.3 * divergences[1:]).all())
    assert divergences[-1] < 0.1  # nothing is worth telling at that price
    assert bool((divergences > 0).all())


@pytest.mark.parametrize(
    ("early_stopping", "names"), [(False, CORRUPTIONS), (True, ["swap"])], ids=["all", "judged"]
)
def test_corruption_in_training_restores_corrupted_rows_better(digits, early_stopping, names):
    train, test = digits[:1200], digits[1200:]
    rng = np.random.default_rng(0)
    deviation = np.sqrt(train.var(axis=0).mean())
    hit = rng.uniform(size=test.shape) < 0.3
    corruptions = {
        "gaussian": (1.0, test + deviation * rng.normal(size=test.shape)),
        "masking": (0.3, np.where(hit, np.nan, test)),
        "swap": (0.3, np.where(hit, rng.permuted(test, axis=0), test)),
    }

    def fitted(**parameters):
        return small(
            n_components=12, hidden_layer_sizes=(64,), early_stopping=early_stopping, **parameters
        ).fit(train)

    def error(restored):
        return np.square(restored - test).mean()

    clean, pca = fitted(), PCA(12).fit(train)
    for corruption in names:
        level, corrupted = corruptions[corruption]
        # without a way to see that entries are missing
        complete = np.where(np.isnan(corrupted), train.mean(axis=0), corrupted)
        denoising = fitted(corruption=corruption, corruption_level=level)
        restored = error(denoising.reconstruct(corrupted))
        assert restored < 0.9 * error(clean.reconstruct(complete)), corruption
        # of missing entries any autoencoder knows what principal components make of the others
        assert restored < error(clean.reconstruct(corrupted)), corruption
        assert restored < 0.9 * error(pca.inverse_transform(pca.transform(complete))), corruption


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_a_corruption_may_be_given_by_its_function(curve, corruption):
    parameters = {"corruption_level": 0.9, "max_iter": 3}  # so that masking hides some of any rows
    named = small(corruption=corruption, **parameters).fit(curve)
    given = small(corruption=getattr(corruptions, corruption), **parameters).fit(curve)
    assert same_models(named, given, curve)


# ------------------------------------------------------------------------------ what is compared


@pytest.mark.parametrize("penalty", ["l2", "l1", "activity_l1", "contractive"])
def test_the_start_is_pca_whatever_the_penalty(curve, penalty):
    fitted = small(penalty=penalty, alpha=0.1, max_iter=0).fit(curve)
    np.testing.assert_allclose(fitted.transform(curve), PCA(2).fit_transform(curve), atol=1e-6)


def test_the_start_of_kl_is_whitened_pca_with_the_best_linear_variances(curve):
    alpha = 0.01
    fitted = small(penalty="kl", alpha=alpha, max_iter=0).fit(curve)
    pca = PCA(2, whiten=True).fit(curve)
    # float32 weights
    np.testing.assert_allclose(fitted.transform(curve), pca.transform(curve), atol=1e-5)
    assert fitted.score(curve) == pytest.approx(pca.explained_variance_ratio_.sum(), abs=1e-6)
    assert fitted.code_scale_ == 1
    np.testing.assert_allclose(fitted.explained_variance_, 1, rtol=1e-5)
    # a variance v costs alpha / 2 * (v - log(v)) and, by noise in x̂, v * eigenvalue / n_features
    eigenvalues = pca.explained_variance_ / fitted.scale_**2
    variances = fitted.encoder_[0].log_variance.detach().exp().numpy()
    np.testing.assert_allclose(variances, alpha * 5 / (2 * eigenvalues), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "penalty"), [("activity_l1", ActivityL1()), ("contractive", Contractive())]
)
def test_epochs_are_judged_by_loss_plus_penalty(curve, name, penalty):
    alpha = 0.5
    # held-out rows are as many as there are in training, so that both are large enough
    parameters = {"early_stopping": True, "validation_fraction": 0.5, "max_iter": 3}
    without = small(penalty=None, **parameters).fit(curve)
    fitted = small(penalty=name, alpha=alpha, **parameters).fit(curve)
    split = fitted.net_.get_split_datasets(torch.zeros(len(curve), 5))[1].indices
    x = torch.tensor((curve - fitted.mean_) / fitted.scale_)[split].requires_grad_()
    code = x @ torch.tensor(PCA(2).fit(curve).components_).T
    pieces = (x, code) if name == "contractive" else (code,)
    penalized = alpha * penalty(*pieces).mean().item()
    baseline = x.square().mean().item()
    difference = without.validation_scores_[0] - fitted.validation_scores_[0]
    assert penalized / baseline > 0.1
    # float32 codes
    assert difference == pytest.approx(penalized / baseline, rel=1e-4)


def test_kl_is_judged_by_the_loss_of_drawn_codes(curve):
    alpha = 0.05
    parameters = {"penalty": "kl", "alpha": alpha, "validation_fraction": 0.1, "max_iter": 0}
    fitted = small(early_stopping=True, **parameters).fit(curve)
    start = fitted.validation_scores_[0]
    indices = fitted.net_.get_split_datasets(torch.zeros(len(curve), 5))[1].indices
    x = torch.tensor((curve - fitted.mean_) / fitted.scale_, dtype=torch.float32)[indices]
    mean, log_variance = fitted.encoder_[0].distribution(x)
    torch.manual_seed(0)
    losses = []
    for _ in range(300):
        code = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        x_hat = fitted.decoder_[1](code)
        losses.append((x_hat - x).square().mean().item())
    penalized = alpha * KL()(mean, log_variance).mean().item()
    baseline = x.square().mean().item()
    draws = 1 - (np.array(losses) + penalized) / baseline
    assert abs(start - draws.mean()) < 3 * draws.std()
    of_mean = 1 - ((fitted.decoder_[1](mean) - x).square().mean().item() + penalized) / baseline
    assert of_mean > draws.mean() + 4 * draws.std()  # it is another thing


@pytest.mark.parametrize(
    "parameters", [{"penalty": "kl"}, {"corruption": "gaussian"}, {"corruption": "swap"}]
)
def test_epochs_are_judged_by_the_same_draws(curve, parameters):
    # with steps too small to change a weight, epochs differ by draws alone
    fitted = small(**parameters, early_stopping=True, learning_rate_init=1e-20, max_iter=4)
    scores = fitted.fit(curve).validation_scores_
    assert len(scores) == 5
    assert len(set(scores)) == 1


def test_a_fit_with_kl_gives_means_and_is_repeatable(curve):
    fitted = small(penalty="kl", alpha=1e-2).fit(curve)
    assert np.array_equal(fitted.transform(curve), fitted.transform(curve))
    x = torch.tensor((curve - fitted.mean_) / fitted.scale_)
    mean, _ = copy.deepcopy(fitted.encoder_[0]).double().distribution(x)
    axes = fitted.encoder_[1].weight.double()
    np.testing.assert_allclose(fitted.transform(curve), (mean @ axes.T).detach(), atol=1e-12)
    # a signed permutation: N(0, I) stays what it is
    assert torch.equal(axes.abs() @ torch.ones(2).double(), torch.ones(2).double())
    assert bool(np.all(np.diff(fitted.explained_variance_) <= 0))
    assert same_models(small(penalty="kl", alpha=1e-2).fit(curve), fitted, curve)


def test_corruption_sees_clean_rows_in_fit_alone_and_the_target_is_clean(curve):
    seen, targets = [], []

    def corruption(x, level):
        seen.append(x.clone())
        return torch.full_like(x, level)

    def loss(x_hat, x):
        targets.append(x.clone())
        return (x_hat - x).square().mean(dim=1)

    fitted = small(
        corruption=corruption, corruption_level=7.0, loss=loss, max_iter=1, batch_size=300
    ).fit(curve)
    x = torch.tensor((curve - fitted.mean_) / fitted.scale_, dtype=torch.float32)
    n_calls = len(seen)
    for rows in (seen[-1], targets[-1]):
        torch.testing.assert_close(rows.sort(dim=0).values, x.sort(dim=0).values)
    fitted.transform(curve)
    fitted.score(curve)
    assert len(seen) == n_calls
    # what is encoded is the corrupted row: of a constant nothing is learned but the mean
    assert fitted.reconstruct(np.full((1, 5), 7.0)).shape == (1, 5)
    plain = small(loss=loss, max_iter=1, batch_size=300).fit(curve)
    assert not same_models(plain, fitted, curve)


# ---------------------------------------------------------------------------------------- losses


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "huber"])
def test_the_best_constant_row_is_the_mean_the_median_or_between(loss):
    # An encoder that sees nothing leaves the decoder one row to choose.
    X = np.random.RandomState(0).exponential(size=(600, 2))
    fitted = small(
        loss=loss,
        corruption=lambda x, level: torch.zeros_like(x),
        n_components=1,
        alpha=0,
        max_iter=150,
        linear_skip=False,
        init="random",
    ).fit(X)
    bend = fitted.scale_
    expected = {
        "squared_error": X.mean(axis=0),
        "absolute_error": np.median(X, axis=0),
        "huber": [
            optimize.minimize_scalar(lambda m, x=x: special.huber(bend, x - m).sum()).x for x in X.T
        ],
    }
    constant = fitted.reconstruct(fitted.mean_[None])[0]
    # batches of 32 are noisy; the mean, the median and the one between are .1 or more apart
    np.testing.assert_allclose(constant, expected[loss], atol=0.04)


def test_squared_error_by_name_is_the_same_as_ones_own(curve):
    def squared(x_hat, x):
        return (x_hat - x).square().mean(dim=1)

    parameters = {"early_stopping": True, "optimizer": "adam", "learning_rate_init": 4e-3}
    parameters["max_iter"] = 10
    parameters["alpha"] = 1e-4  # of one's own loss nobody knows what share of the variance it is
    named = small(**parameters).fit(curve).reconstruct(curve)
    for loss in (squared, SquaredError()):
        own = small(**parameters, loss=loss).fit(curve).reconstruct(curve)
        # One's own is differentiated by autograd, with the rounding of another order of sums, of
        # which SOAP makes more: where gradients vanish, rounding says where its axes are.
        np.testing.assert_allclose(own, named, rtol=0, atol=1e-4)


def test_cross_entropy_learns_binary_data():
    rng = np.random.RandomState(0)
    X = (rng.uniform(size=(400, 1)) < np.linspace(0.1, 0.9, 12)).astype(float)
    fitted = small(loss="binary_cross_entropy", n_components=1, max_iter=200, **TEXTBOOK).fit(X)
    X_hat = fitted.reconstruct(X)
    assert bool(((X_hat >= 0) & (X_hat <= 1)).all())
    assert fitted.score(X) > PCA(1).fit(X).explained_variance_ratio_[0] - 0.01
    assert fitted.loss_curve_[-1] < 0.5 * fitted.loss_curve_[0]
    # the held-out score is one minus the cross-entropy as a share of the mean row's
    judging = {"early_stopping": True, "validation_fraction": 0.2}
    judged = small(loss="binary_cross_entropy", **judging, **TEXTBOOK).fit(X)
    assert judged.best_validation_score_ == max(judged.validation_scores_)
    assert judged.best_validation_score_ > 0.5


def test_logistic_outputs_never_leave_the_unit_interval(digits):
    X = digits[:300] / 16
    fitted = small(n_components=8, max_iter=240, learning_rate_init=0.02, **TEXTBOOK).fit(X)
    for rows in (X, X.astype(np.float32)):
        X_hat = fitted.reconstruct(rows)
        assert X_hat.min() >= 0
        assert X_hat.max() <= 1
        assert (X_hat < 1e-6).any()  # outputs that are all but zero, where rounding could go wrong


# -------------------------------------------------------------------------------- tied weights


def linear_weights(module):
    kinds = nn.Linear | TiedLinear
    return [layer.weight for layer in module.modules() if isinstance(layer, kinds)]


@pytest.mark.parametrize("structure", [{}, {"linear_skip": False, "init": "he_normal"}, TEXTBOOK])
@pytest.mark.parametrize("hidden", [(), (16,), (16, 8)])
def test_tied_weights_are_the_same_parameters_also_after_pickling(curve, structure, hidden):
    X = unit(curve)
    fitted = small(tied_weights=True, hidden_layer_sizes=hidden, max_iter=5, **structure).fit(X)
    loaded = pickle.loads(pickle.dumps(fitted))
    for model in (fitted, copy.deepcopy(fitted), loaded):
        encoder, decoder = model.encoder_[0], model.decoder_
        encoding = [w for w in linear_weights(encoder) if w.requires_grad]
        decoding = [w for w in linear_weights(decoder) if w.requires_grad]
        assert len(encoding) == len(decoding) == len(hidden) + 1 + (not structure)
        assert {id(w) for w in encoding} == {id(w) for w in decoding}
    assert same_models(loaded, fitted, X)
    again = loaded.set_params(warm_start=True, learning_rate_init=1e-3).fit(X)
    assert {id(w) for w in linear_weights(again.encoder_[0])} <= {
        id(w) for w in linear_weights(again.decoder_)
    }


def test_a_tied_linear_autoencoder_without_the_skip_finds_pca(curve):
    fitted = small(
        tied_weights=True,
        hidden_layer_sizes=(),
        linear_skip=False,
        init="orthogonal",
        alpha=0,
        max_iter=300,
        learning_rate_init=1e-2,
    ).fit(curve)
    pca = PCA(2).fit(curve)
    # the optimum is flat: a thousandth of R² is what 300 epochs come near
    assert fitted.score(curve) == pytest.approx(pca.explained_variance_ratio_.sum(), abs=1e-3)


def test_tied_weights_with_the_skip_start_at_pca_and_learn(digits):
    start = small(tied_weights=True, n_components=4, max_iter=0).fit(digits)
    pca = PCA(4).fit(digits)
    np.testing.assert_allclose(start.transform(digits), pca.transform(digits), atol=1e-4)
    trained = small(tied_weights=True, n_components=4, early_stopping=True).fit(digits)
    assert trained.score(digits) > pca.explained_variance_ratio_.sum() + 0.05


# ---------------------------------------------------------------------------------------- starts


def standard_deviation(init, n_in, n_out):
    return {
        "glorot_uniform": np.sqrt(2 / (n_in + n_out)),
        "glorot_normal": np.sqrt(2 / (n_in + n_out)),
        "he_uniform": np.sqrt(2 / n_in),
        "he_normal": np.sqrt(2 / n_in),
        "orthogonal": np.sqrt(1 / max(n_in, n_out)),
    }[init]


@pytest.mark.parametrize(
    "init", ["glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "orthogonal"]
)
@pytest.mark.parametrize("linear_skip", [False, True])
def test_a_named_start_has_the_variance_of_its_paper_and_zero_biases(digits, init, linear_skip):
    fitted = small(
        init=init, linear_skip=linear_skip, hidden_layer_sizes=(200, 150), max_iter=0
    ).fit(digits)
    layers = [m for m in fitted.encoder_[0].modules() if isinstance(m, nn.Linear)]
    assert len(layers) == 3 + linear_skip
    for layer in layers:
        n_out, n_in = layer.weight.shape
        deviation = standard_deviation(init, n_in, n_out)
        # 128 weights in the smallest layer: standard error 6 % of the deviation
        assert layer.weight.std().item() == pytest.approx(deviation, rel=0.25)
        bounded = layer.weight.abs().max().item() <= np.sqrt(3) * deviation * (1 + 1e-6)
        if init != "orthogonal":
            assert bounded == init.endswith("uniform")
        assert layer.bias is None or not layer.bias.any()
    if init == "orthogonal":
        weight = layers[-1].weight.double()
        np.testing.assert_allclose((weight @ weight.T).detach(), np.eye(2), atol=1e-6)


def test_networks_of_ones_own_start_as_they_are(curve):
    encoder = MLP([5, 4, 2])
    fitted = small(
        encoder=encoder, decoder=MLP([2, 4, 5]), init="he_normal", linear_skip=False, max_iter=0
    ).fit(curve)
    assert torch.equal(fitted.encoder_[0][0].weight, encoder[0].weight)


@pytest.mark.parametrize("parameters", [{}, TEXTBOOK, {"penalty": "kl"}, {"tied_weights": True}])
def test_a_fitted_transformer_is_a_start(curve, parameters):
    X = unit(curve)
    pretrained = small(**parameters).fit(X)
    before = pickle.dumps(pretrained.net_.module_.state_dict())
    other = X[:200] + 0.01
    parameters = {name: value for name, value in parameters.items() if name != "init"}
    start = small(init=pretrained, max_iter=0, **parameters).fit(other)
    assert (start.mean_ == pretrained.mean_).all()
    np.testing.assert_allclose(start.reconstruct(X), pretrained.reconstruct(X), atol=1e-6)
    trained = small(init=pretrained, max_iter=20, **parameters).fit(other)
    assert trained.score(other) > start.score(other)
    assert pickle.dumps(pretrained.net_.module_.state_dict()) == before
    assert trained.init is pretrained


def test_where_estimators_are_cloned_a_frozen_one_is_a_start(curve):
    pretrained = small().fit(curve)
    frozen = small(init=FrozenEstimator(pretrained), max_iter=0)
    search = GridSearchCV(frozen, {"alpha": [0, 1e-4]}, cv=2).fit(curve)
    np.testing.assert_allclose(
        search.best_estimator_.reconstruct(curve), pretrained.reconstruct(curve), atol=1e-6
    )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"hidden_layer_sizes": (8,)}, r"hidden_layer_sizes must be such .*, \(16,\), got \(8,\);"),
        ({"activation": "gelu"}, r"activation must be such .*, relu, got gelu;"),
        ({"linear_skip": False}, r"linear_skip must be such .*, True, got False;"),
        ({"tied_weights": True}, r"tied_weights must be such .*, False, got True;"),
        ({"penalty": "kl"}, r"penalty must be such .*, got KL; .*alpha=0 is no"),
        ({"penalty": "activity_l1"}, "penalty must be such .*, got ActivityL1"),
        ({"encoder": MLP([5, 16, 2])}, r"encoder must be such .*, None, got MLP;"),
        ({"n_components": 3}, "n_components must stay as it was, 2"),
        (
            {"linear_skip": False, "output_activation": "logistic"},
            r"output_activation must be such .*, identity, got logistic;",
        ),
    ],
)
def test_a_start_of_another_structure_is_one_sentence(curve, parameters, message):
    autoencoder = small(init=small().fit(curve), **parameters)
    with pytest.raises(ValueError, match=message):
        autoencoder.fit(curve)
    assert not hasattr(autoencoder, "net_")


def test_a_start_that_is_no_fit_of_these_features_is_one_sentence(curve):
    for init in (small(), PCA().fit(curve), clone(small().fit(curve))):
        with pytest.raises(ValueError, match="init must be a fitted AutoencoderTransformer"):
            small(init=init).fit(curve)
    with pytest.raises(
        ValueError, match="X has 4 features, but AutoencoderTransformer is expecting 5"
    ):
        small(init=small().fit(curve)).fit(curve[:, :4])


@pytest.mark.parametrize("early_stopping", [True, False])
@pytest.mark.parametrize("init", ["pca", "glorot_normal"])
def test_the_best_of_several_starts_is_kept(curve, early_stopping, init):
    parameters = {"early_stopping": early_stopping, "init": init, "max_iter": 10}
    one = small(**parameters).fit(curve)
    three = small(n_init=3, **parameters).fit(curve)
    assert len(set(three.init_scores_)) == 3
    assert three.init_scores_[0] == one.init_scores_[0]
    if early_stopping:
        assert three.best_validation_score_ == max(three.init_scores_)
        assert one.init_scores_ == [one.best_validation_score_]
    else:
        assert three.best_validation_score_ is None
        # float32 losses
        assert three.score(curve) == pytest.approx(max(three.init_scores_), abs=1e-5)
    best_is_first = np.argmax(three.init_scores_) == 0
    assert same_models(three, one, curve) == best_is_first


# ------------------------------------------------------------------------------------ generation


@pytest.mark.parametrize(
    "parameters",
    [{}, TEXTBOOK, {"penalty": "kl", "alpha": 0.01}, {"penalty": "activity_l1", "alpha": 0.1}],
)
def test_samples_are_like_the_training_data(curve, parameters):
    X = unit(curve)
    fitted = small(**{"max_iter": 100, **parameters}).fit(X)
    new = fitted.sample(2000, random_state=0)
    assert new.shape == (2000, 5)
    X_hat = fitted.reconstruct(X)
    # 2000 draws from a mixture that is near to the codes' distribution, not equal to it
    np.testing.assert_allclose(new.mean(axis=0), X_hat.mean(axis=0), atol=0.05)
    np.testing.assert_allclose(np.cov(new.T), np.cov(X_hat.T), atol=0.02)
    assert np.array_equal(fitted.sample(7, random_state=3), fitted.sample(7, random_state=3))
    assert not np.array_equal(fitted.sample(7), fitted.sample(7))


def test_samples_have_the_type_of_the_training_data(curve):
    frame = pd.DataFrame(curve.astype(np.float32), columns=list("abcde"))
    frame["e"] = (10 * frame["e"]).round().astype("Int64")
    new = small().fit(frame).sample(4, random_state=0)
    assert list(new.columns) == list("abcde")
    assert (new.dtypes == frame.dtypes).all()
    for dtype in (np.float32, np.float64):
        assert small().fit(curve.astype(dtype)).sample(2).dtype == dtype
    assert small().fit(np.rint(10 * curve).astype(int)).sample(2).dtype == int


def test_sampling_leaves_the_global_generators(curve):
    fitted = small().fit(curve)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    fitted.sample(3)
    fitted.sample(3, random_state=0)
    assert np.array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.get_rng_state(), before[1])


@pytest.mark.parametrize("n_samples", [0, -1, 1.5, "2"])
def test_the_number_of_samples_is_checked(curve, n_samples):
    with pytest.raises(ValueError, match="n_samples must be an integer of at least 1, got"):
        small(max_iter=0).fit(curve).sample(n_samples)


# ------------------------------------------------------------------------------- convolutions


def test_convolutional_networks_learn_and_are_searched(digits):
    shape = (1, 8, 8)
    pipeline = make_pipeline(
        small(
            n_components=4,
            encoder=ConvEncoder(shape, (4,)),
            decoder=ConvDecoder(shape, (4,)),
            max_iter=5,
        )
    )
    grid = {
        "autoencodertransformer__encoder__channels": [(4,), (4, 8)],
        "autoencodertransformer__decoder__channels": [(4,), (4, 8)],
    }
    search = GridSearchCV(pipeline, grid, cv=2).fit(digits[:400])
    scores = search.cv_results_["mean_test_score"]
    assert len(set(scores)) == 4
    assert scores.max() > PCA(4).fit(digits).explained_variance_ratio_.sum()
    best = search.best_estimator_[-1]
    loaded = pickle.loads(pickle.dumps(best))
    assert np.array_equal(loaded.transform(digits), best.transform(digits))


@pytest.mark.parametrize("linear_skip", [True, False])
def test_convolutional_networks_go_with_every_penalty(digits, linear_skip):
    shape = (1, 8, 8)
    for penalty in PENALTIES:
        fitted = small(
            encoder=ConvEncoder(shape, (2,)),
            decoder=ConvDecoder(shape, (2,)),
            penalty=penalty,
            alpha=1e-3,
            linear_skip=linear_skip,
            init="pca" if linear_skip else "random",
            max_iter=2,
        ).fit(digits[:200])
        assert np.isfinite(fitted.sample(2)).all()


# --------------------------------------------------------------------------- all go with searches


def test_a_search_goes_over_all_variants(curve):
    grid = [
        {"autoencodertransformer__penalty": PENALTIES},
        {"autoencodertransformer__corruption": CORRUPTIONS},
        {"autoencodertransformer__loss": ["absolute_error", "huber"]},
        {"autoencodertransformer__tied_weights": [True]},
    ]
    pipeline = make_pipeline(small(max_iter=3), LogisticRegression())
    search = GridSearchCV(pipeline, grid, cv=2).fit(curve, curve[:, 0] > 0)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


# all pairs are trained elsewhere, on tables with gaps
@pytest.mark.parametrize(
    ("penalty", "corruption"), [*zip(PENALTIES, itertools.cycle(CORRUPTIONS), strict=False)]
)
def test_a_fit_can_be_repeated_pickled_and_continued(curve, penalty, corruption):
    curve = curve[:100]

    def fit():
        return small(
            penalty=penalty, alpha=0.01, corruption=corruption, max_iter=3, early_stopping=True
        ).fit(curve)

    fitted = fit()
    assert same_models(fit(), fitted, curve)
    loaded = pickle.loads(pickle.dumps(fitted))
    assert same_models(loaded, fitted, curve)
    assert np.isfinite(loaded.set_params(warm_start=True).fit(curve).transform(curve)).all()


# ------------------------------------------------------------------------------- what is refused


class Needy(Penalty):
    needs = ("gradient",)


class Floating(Penalty):
    needs = ("code",)

    def __call__(self, code):
        return 1.0


class Detached(Penalty):
    needs = ("code",)

    def __call__(self, code):
        return code.detach().square().mean()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"loss": "binary_cross_entropy"}, "must come with output_activation='logistic'"),
        (
            {"loss": lambda x_hat, x: (x_hat - x).square()},
            r"loss <lambda> .*\(3,\).*shape \(3, 5\)",
        ),
        ({"loss": lambda x_hat, x: 0.0}, "loss <lambda> .*gave a float"),
        ({"loss": lambda x_hat, x: x.sum(dim=1)}, "loss must .*differentiate"),
        ({"corruption": lambda x, level: x[:1]}, "corruption <lambda> .*shape .1, 5."),
        ({"corruption": lambda x, level: x.zero_()}, "corruption <lambda> .*changed its input"),
        ({"corruption": "masking", "corruption_level": 1.5}, "a share of at most 1 .*got 1.5"),
        ({"corruption": "swap", "corruption_level": 2}, "a share of at most 1 .*got 2"),
        (
            {"corruption": corruptions.masking, "corruption_level": 2.0},
            "a share of at most 1 .*got 2",
        ),
        ({"penalty": "kl", "encoder": MLP([5, 4, 2])}, r"variational.*\(2, 4\).*shape \(2, 2\)"),
        ({"penalty": "kl", "tied_weights": True}, "tied_weights=True must come without a varia"),
        ({"tied_weights": True, "encoder": MLP([5, 2])}, "tied_weights=True must come without an"),
        ({"tied_weights": True, "decoder": MLP([2, 5])}, "tied_weights=True must come without an"),
        ({"penalty": Needy()}, "penalty must say in needs, .*Needy with needs=.'gradient',."),
        ({"penalty": Floating()}, "penalty Floating .*gave a float"),
        ({"penalty": Detached()}, "penalty must .*differentiate"),
        ({"init": "pca", "linear_skip": False}, "init='pca' must come with linear_skip=True"),
    ],
)
def test_what_does_not_fit_together_is_one_sentence_before_training(curve, parameters, message):
    autoencoder = small(**parameters)
    with pytest.raises(ValueError, match=message) as info:
        autoencoder.fit(curve)
    assert "\n" not in str(info.value)
    assert not [name for name in vars(autoencoder) if name.endswith("_")]


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "instance"])
@pytest.mark.parametrize("value", [-1e-4, 1 + 1e-4])
def test_cross_entropy_refuses_values_outside_the_unit_interval(curve, value, loss):
    X = unit(curve)
    X[3, 2] = value
    if loss == "instance":
        loss = BinaryCrossEntropy(torch.tensor(X.mean(axis=0), dtype=torch.float32), 1.0)
    autoencoder = small(loss=loss, **TEXTBOOK)
    message = f"X must lie in [0, 1] with loss='binary_cross_entropy', got values from {X.min()} to"
    with pytest.raises(ValueError, match=re.escape(f"{message} {X.max()};")):
        autoencoder.fit(X)
    assert same_models(*[small(**TEXTBOOK).fit(X) for _ in range(2)], X)  # other losses do not mind


def test_cross_entropy_of_identity_outputs_is_refused_as_an_instance_too(curve):
    loss = BinaryCrossEntropy(torch.zeros(5), 1.0)
    with pytest.raises(ValueError, match="must come with output_activation='logistic'"):
        small(loss=loss).fit(unit(curve))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cross_entropy_takes_what_rounding_has_left_outside_of_the_unit_interval(curve, dtype):
    X = unit(curve).astype(dtype)
    off = X.copy()
    off[3, 2], off[4, 1] = -np.finfo(dtype).eps, 1 + np.finfo(dtype).eps
    X[3, 2], X[4, 1] = 0, 1
    one, other = (
        small(loss="binary_cross_entropy", max_iter=1, **TEXTBOOK).fit(some) for some in (X, off)
    )
    # an epsilon in two entries, and what an epoch in float32 makes of it
    np.testing.assert_allclose(other.transform(X), one.transform(X), rtol=0, atol=1e-4)


@pytest.mark.parametrize("loss", [nn.MSELoss(), nn.SmoothL1Loss(reduction="none")])
def test_a_loss_of_another_shape_is_refused_with_the_way_out(curve, loss):
    message = "give one for each row, or put one for each entry into an EntrywiseLoss."
    with pytest.raises(ValueError, match=re.escape(message)):
        small(loss=loss).fit(curve)


class Counted:
    """A corruption that counts its calls, and draws from a generator of its own."""

    def __init__(self):
        self.n_calls = 0
        self.rng = np.random.RandomState(0)

    def __call__(self, x, level):
        self.n_calls += 1
        return x + level * torch.from_numpy(self.rng.normal(size=x.shape)).to(x.dtype)


def test_a_corruption_of_ones_own_is_left_as_it_was(curve):
    corruption = Counted()
    autoencoder = small(corruption=corruption, corruption_level=0.3, max_iter=3)
    codes = autoencoder.fit(curve).transform(curve)
    assert corruption.n_calls == 0
    np.testing.assert_array_equal(autoencoder.fit(curve).transform(curve), codes)
    assert autoencoder.net_.corruption.n_calls > 0


@pytest.mark.parametrize("alpha", [0, 1e-3])
def test_kl_takes_an_encoder_that_gives_means_beside_log_variances(curve, alpha):
    for encoder in (MLP([5, 8, 4]), lambda n_in, n_out: MLP([n_in, 8, n_out])):
        fitted = small(penalty="kl", encoder=encoder, alpha=alpha).fit(curve)
        assert fitted.transform(curve).shape == (300, 2)
        assert fitted.score(curve) > 0.5
        # without a weight there is no prior to draw for: training sees the mean
        training = fitted.encoder_[0].train()
        x = torch.zeros(3, 5)
        assert torch.equal(training(x), training.distribution(x)[0]) == (alpha == 0)


# ----------------------------------------------------------------------------- what once went wrong


def test_a_fit_that_diverges_at_once_keeps_its_start_and_warns(curve):
    for n_init in (1, 2):
        autoencoder = small(optimizer="sgd", learning_rate_init=1e6, n_init=n_init)
        with pytest.warns(ConvergenceWarning):
            autoencoder.fit(curve)
        assert len(autoencoder.init_scores_) == n_init
        assert np.isfinite(autoencoder.transform(curve)).all()


def test_a_fit_whose_average_went_too_far_keeps_its_start_and_warns():
    # at the end of an epoch in which the steps' losses and all weights were finite still
    X, steps = load_wine().data, {"optimizer": "sgd", "alpha": 100, "early_stopping": False}
    with pytest.warns(ConvergenceWarning, match="not finite"):
        autoencoder = AutoencoderTransformer(max_iter=5, random_state=0, **steps).fit(X)
    assert autoencoder.best_iter_ == 0
    start = AutoencoderTransformer(max_iter=0, random_state=0).fit(X)
    np.testing.assert_array_equal(autoencoder.transform(X), start.transform(X))


def test_rows_and_columns_may_be_reversed_views(curve):
    fitted = small(max_iter=2).fit(curve[::-1])
    codes = fitted.transform(curve)
    # float64: sums over features may be taken in another order at another place in a batch
    np.testing.assert_allclose(fitted.transform(curve[::-1]), codes[::-1], rtol=0, atol=1e-14)
    flipped = small(max_iter=2).fit(curve[:, ::-1])
    codes = flipped.transform(curve[:, ::-1])
    X_hat = flipped.reconstruct(curve[:, ::-1])
    # float64, but codes go through the data's units
    np.testing.assert_allclose(flipped.inverse_transform(codes[::-1]), X_hat[::-1], atol=1e-12)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({}, {"penalty": "kl"}),
        ({"penalty": "kl", "alpha": 0}, {"alpha": 0.1}),
        ({"penalty": "kl"}, {"penalty": "l2"}),
        ({"penalty": "activity_l1"}, {"penalty": "l2"}),
        (
            {"linear_skip": False, "init": "random"},
            {"loss": "binary_cross_entropy", "output_activation": "logistic"},
        ),
    ],
)
def test_a_warm_start_refuses_what_networks_would_have_to_change_for(curve, first, then):
    X = unit(curve)
    fitted = small(**first, warm_start=True).fit(X)
    before = fitted.transform(X)
    with pytest.raises(ValueError, match="networks are as in the earlier fit"):
        fitted.set_params(**then).fit(X)
    assert np.array_equal(fitted.transform(X), before)


def test_ones_own_is_tried_before_a_warm_start_too(curve):
    fitted = small(warm_start=True).fit(curve)
    with pytest.raises(ValueError, match=r"loss <lambda> .*ZeroDivisionError"):
        fitted.set_params(loss=lambda x_hat, x: 1 / 0).fit(curve)


def test_a_start_knows_what_it_was_fitted_with_not_what_was_set_since(curve):
    start = small(max_iter=3).fit(curve).set_params(activation="gelu")
    with pytest.raises(ValueError, match="activation must be such"):
        small(init=start, activation="gelu").fit(curve)
    same = small(init=start, max_iter=0).fit(curve)
    # the mean code is float32, and so are the axes by which it is found again
    assert same.score(curve) == pytest.approx(start.score(curve), rel=1e-7)


def test_a_start_wants_its_columns_in_their_order(curve):
    frame = pd.DataFrame(curve, columns=list("abcde"))
    start = small(max_iter=3).fit(frame)
    with pytest.raises(ValueError, match="feature names should match"):
        small(init=start).fit(frame[list("bacde")])


@pytest.mark.parametrize("penalty", ["l2", "kl"])
def test_a_start_that_is_not_left_keeps_its_codes(curve, penalty):
    start = small(penalty=penalty, alpha=0.01, max_iter=5).fit(curve)
    same = small(penalty=penalty, alpha=0.01, init=start, max_iter=0).fit(curve[:50])
    np.testing.assert_allclose(same.transform(curve), start.transform(curve), atol=1e-6)


def test_a_corruption_may_compute_in_another_precision(curve):
    def noise(x, level):
        return x + level * torch.from_numpy(np.random.RandomState(0).normal(size=x.shape))

    assert small(corruption=noise, max_iter=2).fit(curve).score(curve) > 0.5


def test_a_corruption_in_place_is_found_whatever_it_draws(curve):
    def lost(x, level):
        x[torch.rand(len(x)) < 0] = 0
        return x

    with pytest.raises(ValueError, match=r"corruption lost .*changed its input"):
        small(corruption=lost).fit(curve)


def test_what_a_fit_trains_in_a_loss_or_remembers_in_a_penalty_is_its_own(curve):
    class Weighted(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(5))

        def forward(self, x_hat, x):
            return ((x_hat - x).square() * self.weight).mean(dim=1)

    class Counting(Penalty):
        needs = ("code",)
        n_calls = 0

        def __call__(self, code):
            self.n_calls += 1
            return code.square().mean(dim=1)

    loss, penalty = Weighted(), Counting()
    small(loss=loss, penalty=penalty, max_iter=2).fit(curve)
    assert torch.equal(loss.weight, torch.ones(5))
    assert penalty.n_calls == 0


def test_torchs_default_precision_does_not_matter(curve):
    torch.set_default_dtype(torch.float64)
    try:
        for penalty in PENALTIES:
            for init in ("pca", "glorot_normal"):
                fitted = small(penalty=penalty, init=init, max_iter=2).fit(curve)
                dtypes = {value.dtype for value in fitted.net_.module_.state_dict().values()}
                assert dtypes == {torch.float32}
    finally:
        torch.set_default_dtype(torch.float32)


def test_needs_may_be_a_list_and_mean_the_same(curve):
    class Squares(Penalty):
        def __call__(self, weights):
            return sum(weight.square().sum() for weight in weights)

    class Listed(Squares):
        needs = ["weights"]

    own = [
        small(penalty=penalty, early_stopping=True, validation_fraction=0.3).fit(curve)
        for penalty in (Squares(), Listed())
    ]
    assert own[0].best_iter_ > 0
    assert same_models(*own, curve)
    for needs in ("code", (), None, (3,), (["x"],)):
        penalty = Squares()
        penalty.needs = needs
        with pytest.raises(ValueError, match="penalty must say in needs"):
            small(penalty=penalty).fit(curve)


def test_hooks_of_a_penalty_are_tried_too(curve):
    class Estimated(Penalty):
        needs = ("code",)

        def __call__(self, code):
            return code.square().mean(dim=1)

        def estimate(self, code):
            return code.square()

    class Ended(Estimated):
        estimate = Estimated.__call__

        def code_layer(self, n_components):
            return "a layer"

    with pytest.raises(ValueError, match=r"penalty Estimated .*gave shape .3, 2."):
        small(penalty=Estimated()).fit(curve)
    with pytest.raises(ValueError, match=r"penalty must have a code_layer that is an nn.Module"):
        small(penalty=Ended()).fit(curve)


class Rotated(Penalty):
    needs = ("code",)

    def __call__(self, code):
        return code.square().mean(dim=1)

    def code_layer(self, n_components):
        return nn.Linear(n_components, n_components)


class Grouped(Rotated):
    def code_layer(self, n_components):
        return nn.GroupNorm(n_components // 4, n_components)


def test_a_layer_of_a_penalty_is_asked_for_with_as_many_components_as_there_are(curve):
    fitted = small(n_components=4, penalty=Grouped(), alpha=0.1, max_iter=2).fit(curve)
    assert isinstance(fitted.encoder_[0][-1], nn.GroupNorm)
    again = small(n_components=4, penalty=Grouped(), alpha=0.1, max_iter=0, init=fitted).fit(curve)
    assert same_models(again, fitted, curve)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_layers_of_a_penalty_are_not_drawn_from_the_users_generator(curve, method):
    before = torch.get_rng_state()
    getattr(small(penalty=Rotated(), alpha=0.1, warm_start=True).fit(curve), method)(curve)
    assert torch.equal(torch.get_rng_state(), before)


def test_kl_of_the_smallest_weight_is_finite(curve):
    assert small(penalty="kl", alpha=1e-50, max_iter=2).fit(curve).score(curve) > 0.5


def test_samples_of_numbers_that_were_categories_are_numbers():
    rng = np.random.RandomState(0)
    frame = pd.DataFrame({"a": pd.Categorical(rng.randint(0, 3, 60)), "b": rng.normal(size=60)})
    new = small(max_iter=2).fit(frame).sample(5, random_state=0)
    assert list(new.columns) == ["a", "b"]
    assert np.isfinite(new.to_numpy(dtype=float)).all()


# ----------------------------------------------------------------------------- what terms are given


class CountedLoss(Loss):
    def __init__(self):
        super().__init__(lambda x_hat, x: (x_hat - x).square().mean(dim=1))
        self.register_buffer("n_calls", torch.zeros(()))

    def forward(self, x_hat, x):
        self.n_calls += 1
        return super().forward(x_hat, x)


def test_a_module_that_is_a_loss_is_copied_before_it_is_called(curve):
    loss = CountedLoss()
    fitted = small(loss=loss, max_iter=1).fit(curve)
    assert fitted.net_.criterion_.n_calls > 0
    assert loss.n_calls == 0


def test_a_loss_of_ones_own_is_of_the_reconstruction_and_the_rows(curve):
    def ninth_decile(x_hat, x):  # the pinball loss of that
        return torch.where(x > x_hat, 0.9 * (x - x_hat), 0.1 * (x_hat - x)).mean(dim=1)

    fitted = small(loss=ninth_decile).fit(curve)
    assert (curve < fitted.reconstruct(curve)).mean() > 0.8


def test_the_weight_of_a_penalty_on_codes_stays_as_the_loss_falls(curve):
    X = np.tile(curve, (4, 1))[:1000]
    parameters = {"penalty": "contractive", "n_components": 4, "max_iter": 8}
    automatic, given = (small(alpha=alpha, **parameters).fit(X) for alpha in ("auto", 1e-4))
    assert automatic.loss_curve_[0] < 0.1
    assert same_models(automatic, given, X)


def test_a_corruption_of_ones_own_sees_zeros_where_entries_are_missing(curve):
    X, seen = curve.copy(), []
    X[::3, 1] = np.nan

    def noise(x, level):
        seen.append(bool(x.isnan().any()))
        return x + level * torch.randn_like(x)

    small(corruption=noise, max_iter=2).fit(X)
    assert set(seen) == {False}


class Nothing(Penalty):
    needs = ("code",)

    def __call__(self, code):
        return 0 * code.square().sum(dim=1)


class EstimatedAsNothing(Nothing):
    estimate = Nothing.__call__

    def __call__(self, code):
        return code.square().sum(dim=1)


def test_training_steps_take_the_estimate_of_a_penalty(curve):
    one, other = (
        small(penalty=penalty, alpha=1.0).fit(curve)
        for penalty in (Nothing(), EstimatedAsNothing())
    )
    assert same_models(one, other, curve)


def test_a_penalty_on_codes_and_weights_sees_the_matrices_of_branches(curve):
    shapes = []

    class Both(Penalty):
        needs = ("weights", "code")

        def __call__(self, weights, code):
            shapes.append([tuple(weight.shape) for weight in weights])
            return sum(weight.square().sum() for weight in weights) * code.square().sum(dim=1)

    fitted = small(penalty=Both(), alpha=1e-4, max_iter=3).fit(curve)
    expected = [tuple(weight.shape) for weight in fitted.net_.module_.penalized_weights()]
    assert len(shapes) > 3
    assert all(some == expected for some in shapes)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_kl_starts_at_pca_of_rows_that_vary_in_one_direction(early_stopping, constant):
    x = np.random.RandomState(0).normal(size=60)
    X = np.column_stack([x, np.zeros(60)]) if constant else np.outer(x, [1.0, 2.0, -1.0])
    start = small(penalty="kl", max_iter=0, early_stopping=early_stopping).fit(X)
    assert np.isfinite(start.transform(X)).all()
    assert start.score(X) > 0.999


def test_variances_of_codes_start_at_those_of_the_prior_at_most(curve):
    start = small(penalty="kl", alpha=10.0, n_components=4, max_iter=0).fit(curve)
    named = start.net_.module_.named_parameters()
    log_variances = [value for name, value in named if name.endswith("log_variance")]
    assert len(log_variances) == 1
    assert (log_variances[0] <= 0).all()
    assert (log_variances[0] == 0).any()


def test_tied_branches_start_with_weights_that_are_drawn(curve):
    branch = small(tied_weights=True, max_iter=0).fit(curve).encoder_[0].branch
    matrices = [value for name, value in branch.named_parameters() if name.endswith("weight")]
    assert matrices
    assert all((matrix != 0).any() for matrix in matrices)


@pytest.mark.parametrize("going_on", ["warm_start", "init"])
def test_a_share_of_the_variance_keeps_the_size_that_the_fit_before_had(curve, going_on):
    fitted = small(n_components=0.8, max_iter=2).fit(curve)
    k = fitted.n_components_
    narrow = curve[:, :1] @ np.ones((1, 5)) + 1e-3 * curve  # one direction has it all
    if going_on == "warm_start":
        again = fitted.set_params(warm_start=True).fit(narrow)
    else:
        again = small(n_components=0.8, max_iter=2, init=fitted).fit(narrow)
    assert again.n_components_ == k > 1
    assert again.transform(narrow).shape == (300, k)


def test_another_dropout_is_another_structure(curve):
    with pytest.raises(ValueError, match="dropout must be such"):
        small(init=small(max_iter=1).fit(curve), dropout=0.2).fit(curve)


def test_the_automatic_weight_is_halved_whoever_gives_the_squared_error(curve):
    X = np.tile(curve, (4, 1))[:1000]
    named, given = (
        small(n_components=4, loss=loss, max_iter=8).fit(X)
        for loss in ("squared_error", SquaredError())
    )
    assert named.net_.alpha_ == given.net_.alpha_ < named.alpha_


def test_batches_go_by_the_rows_that_are_trained_on():
    X = np.random.RandomState(0).normal(size=(2060, 4))
    model = small(max_iter=1, early_stopping=True, validation_fraction=0.1).fit(X[:540])
    assert model.net_.batch_size == 64  # 4 * sqrt(486) is nearer to that than to 128
    stream = small(max_iter=1).partial_fit(X[:60]).partial_fit(X[60:])
    assert stream.net_.batch_size == 128


def test_densities_go_by_the_random_state(curve):
    seeds = {small(max_iter=0, random_state=i).fit(curve).density_.random_state for i in range(3)}
    assert len(seeds) == 3
