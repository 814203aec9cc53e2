"""Folds that are trained as a stack, against the same folds one by one."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold
from torch import nn

from skae import AutoencoderTransformer, _autoencoder, penalties
from skae._backpropagation import Evaluated, Stack, WrittenOut
from skae._batches import StackedBatches
from skae._folds import Folds, StackedFolds, cross_fitted, folds_of
from skae._net import ReconstructionNet
from skae._soap import Soap
from skae.corruptions import gaussian
from skae.losses import SquaredError
from skae.modules import MLP, Autoencoder, Filled, LinearSkip, SoftClip

N_FEATURES, N_COMPONENTS = 5, 2


def autoencoder(seed, hidden=(40,), skip=True, n_components=N_COMPONENTS):
    torch.manual_seed(seed)
    widths = [N_FEATURES, *hidden, n_components]
    encoder, decoder = MLP(widths, "gelu"), MLP(widths[::-1], "gelu")
    if skip:
        to_code = nn.Linear(N_FEATURES, n_components, bias=False)
        to_row = nn.Linear(n_components, N_FEATURES, bias=False)
        encoder = LinearSkip(to_code, encoder, SoftClip(torch.rand(N_FEATURES), at=1.0))
        decoder = LinearSkip(to_row, decoder, SoftClip(torch.rand(n_components), at=1.0))
    return Autoencoder(encoder, decoder)


def rows(n=60):
    return torch.randn(n, N_FEATURES, generator=torch.Generator().manual_seed(0))


def folds_on(X, kind, modules, n_folds=5, **parameters):
    """Return folds of a kind, of the same modules and with the same random numbers."""
    splits = list(KFold(n_folds, shuffle=True, random_state=0).split(X))
    defaults = {"optimizer": torch.optim.SGD, "lr": 0.3, "batch_size": 20, "train_split": None}
    defaults |= {"iterator_train__shuffle": True, "verbose": 0, "criterion": SquaredError()}

    def net_of(module, **own):
        return ReconstructionNet(module, **{**defaults, **parameters, **own})

    modules = copy.deepcopy(modules)
    if kind is StackedFolds:
        assert net_of(modules[0]).can_be_stacked()
        net = net_of(Stack(modules), iterator_train=StackedBatches)
        return StackedFolds(net.initialize(), splits, X)
    return Folds([net_of(module).initialize() for module in modules], splits, X)


def course(folds, n_epochs=4):
    """Return the losses of rows at first and after each epoch, and each epoch's training loss."""
    torch.manual_seed(3)
    losses, train_losses = [folds.losses()], []
    for _ in range(n_epochs):
        train_losses.append(folds.train())
        losses.append(folds.losses())
    return torch.stack(losses), torch.tensor(train_losses)


@pytest.mark.parametrize("n_components", [1, 2, 12])  # 12 columns are too many to be thin
@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("hidden", [(), (40,), (7, 6)])
def test_stacked_folds_are_trained_as_folds_are(hidden, skip, n_components):
    modules = [autoencoder(seed, hidden, skip, n_components) for seed in range(5)]
    one, other = (course(folds_on(rows(), kind, modules)) for kind in (Folds, StackedFolds))
    for expected, found in zip(one, other, strict=True):
        # float32 sums in another order, over four epochs of three steps
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert (one[0][0] - one[0][-1]).abs().mean() > 0.01  # there was something to compare


@pytest.mark.parametrize(
    "parameters",
    [
        {"penalty": penalties.L2(), "alpha": 0.5},
        {"penalty": penalties.L1(), "alpha": 0.5},
        {"average_decay": 0.0},
        {"average_warm_up": 5.0},
        {"batch_size": 1000},
        {"optimizer": torch.optim.Adam, "lr": 1e-3},
        {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9},
        # of the first steps; later ones amplify rounding where gradients hardly have an axis
        {"optimizer": Soap, "lr": 1e-3, "batch_size": 1000},
    ],
    ids=lambda parameters: " ".join(map(str, parameters.values())),
)
def test_whatever_trains_them(parameters):
    modules = [autoencoder(seed) for seed in range(5)]
    one, other = (
        course(folds_on(rows(), kind, modules, **parameters)) for kind in (Folds, StackedFolds)
    )
    for expected, found in zip(one, other, strict=True):
        # float32 sums in another order, of which Adam makes more: it divides by gradients
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    plain, _ = course(folds_on(rows(), StackedFolds, modules))
    if "average_decay" not in parameters:
        assert (plain[1:] - other[0][1:]).abs().max() > 1e-3  # so it makes a difference


def test_gradients_of_a_stack_are_those_of_its_modules():
    modules = [autoencoder(seed) for seed in range(3)]
    stack = Stack(modules)
    for weight in stack.parameters():
        weight.grad = torch.empty_like(weight)
    x, target = rows(24).view(3, 8, -1), rows(48)[24:].view(3, 8, -1)
    loss = WrittenOut(stack, SquaredError())(x.clone(), target.clone())
    losses = []
    for i, module in enumerate(modules):
        expected = (module(x[i]) - target[i]).square().mean()
        gradients = torch.autograd.grad(expected, list(module.parameters()))
        for weight, gradient in zip(stack.parameters(), gradients, strict=True):
            found = weight.grad[i].reshape(gradient.shape)
            scale = gradient.abs().max().item()  # sums of a few dozen float32 products
            torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-5 * scale)
        losses.append(expected.detach())
    torch.testing.assert_close(loss, torch.stack(losses).mean(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("n_components", [1, 2])  # with 1 matrices of codes look like vectors
def test_a_stack_penalizes_what_its_modules_do(n_components):
    modules = [autoencoder(seed, n_components=n_components) for seed in range(3)]
    for i, weight in enumerate(Stack(modules).penalized_weights()):
        expected = [module.penalized_weights()[i] for module in modules]
        assert torch.equal(weight, torch.stack(expected))
    assert i == 3


def test_a_stack_leaves_its_modules_alone():
    modules = [autoencoder(seed) for seed in range(3)]
    before = copy.deepcopy(modules)
    for weight in Stack(modules).parameters():
        weight.data.fill_(7.0)
    for one, other in zip(modules, before, strict=True):
        for weight, expected in zip(one.parameters(), other.parameters(), strict=True):
            assert torch.equal(weight, expected)


@pytest.mark.parametrize("n", [57, 61, 64])
def test_folds_of_unequal_size_are_judged_by_all_rows(n):
    modules = [autoencoder(seed) for seed in range(5)]
    X = rows(n)
    one, other = (folds_on(X, kind, modules) for kind in (Folds, StackedFolds))
    torch.testing.assert_close(other.losses(), one.losses(), rtol=1e-5, atol=1e-6)
    torch.manual_seed(3)
    for found, (train, _) in zip(batches_of(other), other.splits, strict=True):
        assert set(found) <= set(train)
        assert len(set(found)) == len(found) == min(len(train) for train, _ in other.splits)


def batches_of(folds):
    """Return the numbers of the rows that each fold of a stack has in one pass."""
    (net,) = folds.nets
    (sets,) = folds._train()
    sets.dataset.X = torch.arange(len(sets.dataset.X)).float()[:, None]
    batches = [x for x, _ in net.get_iterator(sets, training=True)]
    assert {x.shape[1] for x in batches} <= {batches[0].shape[1], batches[-1].shape[1]}
    return torch.cat(batches, dim=1)[..., 0].int().tolist()


def test_rows_that_a_pass_leaves_out_change():
    X = rows(57)
    folds = folds_on(X, StackedFolds, [autoencoder(0)] * 5)
    longest = max(range(5), key=lambda i: len(folds.splits[i][0]))
    assert len({frozenset(batches_of(folds)[longest]) for _ in range(20)}) > 1


def kind_of_folds(monkeypatch, X, **parameters):
    kinds = []

    def seen(*args):
        folds = folds_of(*args)
        kinds.append(type(folds))
        return folds

    monkeypatch.setattr("skae._autoencoder.folds_of", seen)
    defaults = {"hidden_layer_sizes": 8, "max_iter": 1, "random_state": 0}
    AutoencoderTransformer(2, **{**defaults, **parameters}).fit(X)
    (kind,) = kinds
    return kind


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"optimizer": "adam"},
        {"optimizer": "sgd"},
        {"penalty": "l1"},
        {"init": "random"},
        {"linear_skip": False, "init": "random"},
        {"hidden_layer_sizes": (9, 8)},
    ],
    ids=str,
)
def test_default_networks_are_stacked(monkeypatch, curve, parameters):
    assert kind_of_folds(monkeypatch, curve, **parameters) is StackedFolds


class OwnPenalty(penalties.Penalty):
    def __call__(self, weights):
        return sum(weight.abs().amax() for weight in weights)


@pytest.mark.parametrize(
    "parameters",
    [
        {"dropout": 0.2},
        {"corruption": "gaussian", "corruption_level": 0.1},
        {"loss": "huber"},
        {"penalty": OwnPenalty()},
        {"penalty": "kl"},
        {"tied_weights": True},
        {"encoder": nn.Linear},
        {"optimizer": torch.optim.Rprop},
    ],
    ids=str,
)
def test_others_are_trained_one_by_one(monkeypatch, curve, parameters):
    assert kind_of_folds(monkeypatch, curve, **parameters) is Folds


def test_sparse_tables_are_trained_one_by_one(monkeypatch, curve):
    assert kind_of_folds(monkeypatch, csr_array(curve)) is Folds


def holey(X):
    return np.where(np.random.RandomState(0).uniform(size=X.shape) < 0.1, np.nan, X)


def mixed(X):
    frame = pd.DataFrame(X, columns=list("abcde"))
    low, high = frame["a"].quantile([0.3, 0.8])
    frame["size"] = np.select([frame["a"] < low, frame["a"] < high], ["S", "M"], "L")
    frame["sign"] = pd.Series(frame["b"] > 0).map({True: "plus", False: "minus"})
    return frame


TABLES = {
    "numbers": lambda X: X,
    "gaps": holey,
    "categories": mixed,
    "both": lambda X: mixed(X).mask(np.random.RandomState(1).uniform(size=(len(X), 7)) < 0.1),
}


@pytest.mark.parametrize("kind", TABLES)
def test_scores_are_those_of_folds_one_by_one(monkeypatch, curve, kind):
    X = TABLES[kind](curve)
    # small steps of the first epochs: Adam makes more of rounding later on
    parameters = {"max_iter": 5, "n_iter_no_change": 5, "optimizer": "adam"}
    parameters |= {"learning_rate_init": 2e-3, "hidden_layer_sizes": 20, "random_state": 0}
    assert kind_of_folds(monkeypatch, X, **parameters) is StackedFolds
    scores = []
    for n_values in (np.inf, 0):
        monkeypatch.setattr("skae._folds._MANY_VALUES", n_values)
        scores.append(AutoencoderTransformer(2, **parameters).fit(X).validation_scores_)
    assert len(scores[0]) == 6
    assert abs(scores[0][5] - scores[0][0]) > 0.01
    # float32 sums in another order, over 25 steps of Adam
    np.testing.assert_allclose(*scores, rtol=0, atol=1e-5)


def test_wide_tables_are_trained_one_by_one(monkeypatch, curve):
    monkeypatch.setattr("skae._folds._MANY_VALUES", curve.size)
    assert kind_of_folds(monkeypatch, curve) is StackedFolds
    monkeypatch.setattr("skae._folds._MANY_VALUES", curve.size - 1)
    assert kind_of_folds(monkeypatch, curve) is Folds


def test_rows_that_are_whole_need_no_filling_in_a_stack():
    modules = [autoencoder(seed) for seed in range(3)]
    for module in modules:
        module.input = Filled(torch.eye(N_FEATURES)[:2], torch.ones(2), in_training=False)
    assert type(Stack(modules).input) is nn.Identity


def test_each_module_of_a_stack_fills_gaps_of_its_own():
    modules = [autoencoder(seed) for seed in range(3)]
    x = rows(24).view(3, 8, -1)
    x[:, ::3, 1] = torch.nan
    for module in modules:
        module.input = Filled(torch.randn(2, N_FEATURES) / 3, torch.ones(2))
    codes = Evaluated(Stack(modules)).encode(x)
    for found, module, own in zip(codes, modules, x, strict=True):
        # sums of float32 products in another order
        torch.testing.assert_close(found, module.encode(own), rtol=1e-5, atol=1e-6)


def test_the_floor_meets_the_random_terms_that_the_nets_meet():
    X, module = rows(22), autoencoder(0, skip=False)
    folds = folds_on(X, Folds, [module] * 4, 4, corruption=gaussian, corruption_level=0.5)
    assert torch.equal(folds.losses_of(copy.deepcopy(folds.nets[0])), folds.losses())


def test_a_course_knows_on_how_many_rows_each_net_is_trained():
    X = rows(22)
    folds = folds_on(X, Folds, [autoencoder(seed) for seed in range(4)], 4)
    assert cross_fitted(folds, 1, n_iter_no_change=9, tol=0.0).n_train == 16


def test_an_infinite_training_loss_ends_folds(monkeypatch):
    folds = folds_on(rows(22), Folds, [autoencoder(seed) for seed in range(4)], 4)
    monkeypatch.setattr(folds, "train", lambda: float("inf"))
    with pytest.warns(ConvergenceWarning, match="not finite in epoch 1, so"):
        found = cross_fitted(folds, 5, n_iter_no_change=9, tol=0.0)
    assert len(found.scores) == 2


class Explosive(penalties.Penalty):
    now = False

    def __call__(self, weights):
        return sum(weight.square().sum() for weight in weights) * (np.inf if self.now else 1.0)


def test_where_training_on_all_rows_diverges_the_start_is_kept(curve, monkeypatch):
    def judged(*args, **kwargs):
        course = cross_fitted(*args, **kwargs)
        monkeypatch.setattr(Explosive, "now", True)  # the folds' training was finite
        return course

    monkeypatch.setattr(_autoencoder, "cross_fitted", judged)
    small = AutoencoderTransformer(2, hidden_layer_sizes=16, max_iter=20, random_state=0)
    with pytest.warns(ConvergenceWarning, match="not finite"):
        fitted = clone(small).set_params(penalty=Explosive(), alpha=1e-6).fit(curve)
    assert max(fitted.validation_scores_) > fitted.validation_scores_[0]
    assert fitted.best_iter_ == 0
    assert fitted.best_validation_score_ == fitted.validation_scores_[0]
    start = clone(small).set_params(max_iter=0).fit(curve)
    np.testing.assert_allclose(fitted.transform(curve), start.transform(curve), atol=1e-5)


def test_the_bar_of_folds_shows_both_losses(monkeypatch, capsys):
    folds = folds_on(rows(22), Folds, [autoencoder(seed) for seed in range(4)], 4)
    monkeypatch.setattr(folds, "train", lambda: 0.5)
    monkeypatch.setattr(folds, "losses", lambda: torch.full((22,), 0.25))
    cross_fitted(folds, 3, n_iter_no_change=9, tol=0.0, verbose=True)
    assert "train_loss=0.5, valid_loss=0.25" in capsys.readouterr().err


def test_folds_of_sparse_tables_with_gaps_start_at_the_pca_of_their_own_rows(curve):
    rng = np.random.RandomState(0)
    X = np.where(rng.uniform(size=curve.shape) < 0.3, 0.0, curve)
    X[rng.uniform(size=X.shape) < 0.1] = np.nan
    sparse, dense = (
        AutoencoderTransformer(hidden_layer_sizes=8, max_iter=1, random_state=0).fit(table)
        for table in (csr_array(X), X)
    )
    assert sparse.validation_scores_[0] == pytest.approx(dense.validation_scores_[0], abs=1e-5)
