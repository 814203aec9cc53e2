"""What happens at the ends of epochs."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold
from skorch.callbacks import Callback
from skorch.dataset import ValidSplit
from torch import nn
from torch.utils.data import Dataset

from skae import AutoencoderTransformer
from skae._callbacks import (
    DivergenceGuard,
    EarlyStopping,
    left_as_they_are,
    significant,
)
from skae._folds import Folds, cross_fitted
from skae._net import ReconstructionNet
from skae.losses import AbsoluteError, SquaredError
from skae.modules import MLP, Autoencoder

N_ROWS, N_VALID = 40, 8  # skorch's split by 5 holds out the first fifth of the rows


@pytest.fixture(name="X")
def table():
    return torch.tensor(np.random.RandomState(0).normal(size=(N_ROWS, 4))).float()


def autoencoder(seed=0):
    torch.manual_seed(seed)
    return Autoencoder(
        nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)), MLP([2, 6, 4], "tanh")
    )


def make_net(module, **parameters):
    defaults = {
        "criterion": SquaredError,
        "optimizer": torch.optim.Adam,
        "lr": 0.02,
        "batch_size": 12,
        "max_epochs": 6,
        "train_split": ValidSplit(5),
        "iterator_train__shuffle": True,
        "verbose": 0,
    }
    return ReconstructionNet(module, **{**defaults, **parameters})


def fitted(X, **parameters):
    net = make_net(autoencoder(), **parameters)
    torch.manual_seed(1)
    return net.fit(X)


def weights(module):
    return copy.deepcopy(module.state_dict())


def assert_same_weights(module, expected):
    for name, value in module.state_dict().items():
        assert torch.equal(value, expected[name]), name


class AtEpoch(Callback):
    """Calls a function of the net at one event of one epoch."""

    def __init__(self, epoch, event, function):
        def call(net, **kwargs):
            if len(net.history) == epoch:
                function(net)

        self.epoch = epoch
        self.event = event
        self.function = function
        setattr(self, event, call)


# --------------------------------------------------------------------------------- significance


def p_value(gains):
    """Of a one-sided t-test whose degrees of freedom are those of the effective number of rows."""
    return stats.t.sf(stats.ttest_1samp(gains, 0).statistic, n_effective(gains) - 1)


def n_effective(gains):
    return np.abs(gains).sum() ** 2 / np.square(gains).sum()


@pytest.mark.parametrize("level", [0.05, 0.01])
@pytest.mark.parametrize("n_rows", [2, 3, 10, 40, 1000])
def test_gains_are_significant_where_a_one_sided_t_test_says_so(n_rows, level):
    rng = np.random.RandomState(n_rows)
    verdicts = []
    for _ in range(200):
        # of one size, the effective number of rows is their number: the plain t-test
        gains = np.sign(rng.normal(loc=rng.choice([-1, 0, 1, 3]) / np.sqrt(n_rows), size=n_rows))
        if np.ptp(gains):
            expected = stats.ttest_1samp(gains, 0, alternative="greater").pvalue < level
            assert significant(torch.tensor(gains), level=level) == expected
        gains = rng.normal(loc=rng.choice([-1, 0, 2, 8]) / np.sqrt(n_rows), size=n_rows)
        expected = p_value(gains) < level
        assert significant(torch.tensor(gains), level=level) == expected
        verdicts.append(expected)
    assert {True, False} == set(verdicts)


@pytest.mark.parametrize(("n_rows", "n_train"), [(10, 8), (40, 32), (1000, 900)])
def test_gains_in_folds_vary_together(n_rows, n_train):
    rng = np.random.RandomState(n_rows)
    verdicts = []
    for _ in range(200):
        gains = rng.normal(loc=2 / np.sqrt(n_rows), size=n_rows)
        statistic = stats.ttest_1samp(gains, 0).statistic / np.sqrt(1 + n_rows / n_train)
        expected = stats.t.sf(statistic, n_effective(gains) - 1) < 0.05
        assert significant(torch.tensor(gains), n_train) == expected
        verdicts.append(expected < significant(torch.tensor(gains)))
    assert any(verdicts)


@pytest.mark.parametrize(("n_large", "expected"), [(1, False), (3, False), (6, True)])
def test_a_few_rows_that_outweigh_the_others_count_as_few(n_large, expected):
    gains = torch.full((100,), 1e-6)
    gains[:n_large] = 1.0
    assert significant(gains) == expected


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ([1e-9] * 5, True),  # all equal: no doubt about the sign
        ([0.0] * 5, False),
        ([-1e-9] * 5, False),
        ([1.0, 1.0, torch.nan], False),
        ([1.0, 1.0, torch.inf], False),
        ([1.0, 1.0, -torch.inf], False),
    ],
)
def test_gains_without_variance_or_without_value(gains, expected):
    assert significant(torch.tensor(gains, dtype=torch.float64)) is expected


# ------------------------------------------------------------------------------- early stopping


class Constant(nn.Module):
    """A decoder that always gives the same row, which is its one parameter."""

    def __init__(self, row):
        super().__init__()
        self.row = nn.Parameter(torch.tensor(row, dtype=torch.float32))

    def forward(self, code):
        return self.row.expand(len(code), -1)


class Scripted(torch.optim.Optimizer):
    """An optimiser whose steps are known beforehand."""

    def __init__(self, parameters, lr, rows):
        super().__init__(parameters, {"lr": lr})
        self.rows, self.rates = iter(rows), []

    @torch.no_grad()
    def step(self, closure):
        self.rates.append(self.param_groups[0]["lr"])
        with torch.enable_grad():
            loss = closure()
        (parameter,) = self.param_groups[0]["params"]
        parameter.copy_(torch.as_tensor(next(self.rows), dtype=torch.float32))
        return loss


def stopped(X, start, rows, n_iter_no_change=100, tol=0.0, floor=True, **parameters):
    """Return a net and its EarlyStopping after epochs in which the output was these rows."""
    early_stopping = EarlyStopping(n_iter_no_change, tol, floor)
    net = make_net(
        Autoencoder(nn.Identity(), Constant(start)),
        optimizer=Scripted,
        optimizer__rows=rows,
        batch_size=len(X),
        max_epochs=len(rows),
        average_decay=0.0,
        callbacks=[early_stopping],
        **parameters,
    )
    return net.fit(X), early_stopping


def with_scores(scores, start=0.0, **parameters):
    """As `stopped`, with these scores after the epochs.

    Of rows that are all 1 the output t leaves the error (1 - t)², and the mean row leaves 1. All
    rows gain alike, so that each gain is significant.
    """
    ones = torch.ones(N_ROWS, 4)
    rows = [np.full(4, 1 - np.sqrt(1 - score)) for score in scores]
    return stopped(ones, np.full(4, 1 - np.sqrt(1 - start)), rows, **parameters)


@pytest.mark.parametrize(
    ("criterion", "error"), [(SquaredError, np.square), (AbsoluteError, np.abs)]
)
def test_scores_are_one_minus_the_loss_as_a_share_of_that_of_the_mean_row(X, criterion, error):
    rng = np.random.RandomState(1)
    start, *rows = rng.normal(size=(6, 4)).astype(np.float32)
    _, early_stopping = stopped(X, start, rows, criterion=criterion)
    held_out = X[:N_VALID].numpy().astype(np.float64)
    expected = [1 - error(held_out - row).mean() / error(held_out).mean() for row in [start, *rows]]
    # float32 rounding of each row's loss
    np.testing.assert_allclose(early_stopping.course_.scores, expected, rtol=1e-5, atol=1e-6)


def test_held_out_rows_that_are_all_the_mean_row_score_one_exactly_if_they_are_met():
    _, early_stopping = stopped(torch.zeros(N_ROWS, 4), [1.0] * 4, [[0.5] * 4, [0.0] * 4])
    assert early_stopping.course_.scores == [0.0, 0.0, 1.0]
    assert early_stopping.course_.best_iter == 2


def test_the_first_score_is_the_starts_outside_training(X):
    early_stopping = EarlyStopping(10, 0.0)
    module = autoencoder()
    start = copy.deepcopy(module).eval()
    make_net(module, callbacks=[early_stopping]).fit(X)
    held_out = X[:N_VALID]
    with torch.no_grad():
        expected = 1 - nn.MSELoss()(start(held_out), held_out) / held_out.square().mean()
    # float32 rounding
    assert early_stopping.course_.scores[0] == pytest.approx(expected.item(), abs=1e-6)
    assert len(early_stopping.course_.scores) == 1 + 6


def test_the_best_epochs_weights_are_restored_exactly():
    net, early_stopping = with_scores([0.2, 0.75, 0.5, 0.7])
    assert early_stopping.course_.best_iter == 2
    assert (
        early_stopping.course_.best_score == early_stopping.course_.scores[2] == 0.75
    )  # dyadic: exact
    assert torch.equal(net.module_.decoder.row, torch.full((4,), 0.5))


def test_of_equally_good_epochs_the_first_is_kept():
    _, early_stopping = with_scores([0.2, 0.75, 0.5, 0.75])
    assert early_stopping.course_.best_iter == 2


def test_a_gain_below_tol_is_no_reason_to_go_on_but_is_kept():
    _, early_stopping = with_scores([0.5, 0.501, 0.502], tol=0.01)
    assert early_stopping.course_.best_iter == 3


@pytest.mark.parametrize("scores", [[-0.1, -0.5, -0.2], [0.0, 0.0]])
def test_the_start_is_kept_where_no_epoch_is_better(scores):
    net, early_stopping = with_scores(scores)
    assert early_stopping.course_.best_iter == 0
    assert early_stopping.course_.best_score == 0
    assert torch.equal(net.module_.decoder.row, torch.zeros(4))


@pytest.fixture
def lucky(X):
    """Rows of which those held out have by luck a first feature of mean 0.125, +- 0.5."""
    X[:N_VALID, 0] = torch.tensor([2.0, 2.0, 2.0, -1.0, -1.0, -1.0, -1.0, -1.0])
    return X


def towards_the_lucky_mean(*shares):
    return [[0.125 * share, 0.0, 0.0, 0.0] for share in shares]


def test_the_start_is_kept_where_gains_are_not_significant(lucky):
    rows = towards_the_lucky_mean(0.5, 1.0, 0.1)
    net, early_stopping = stopped(lucky, [0.0] * 4, rows)
    assert min(early_stopping.course_.scores[1:]) > early_stopping.course_.scores[0]
    assert early_stopping.course_.best_iter == 0
    assert not net.module_.decoder.row.any()


def test_the_start_is_a_floor_unless_told():
    assert EarlyStopping(10, 0.0).floor is True


def test_a_start_that_is_no_floor_is_left_for_any_gain(lucky):
    rows = towards_the_lucky_mean(0.5, 1.0, 0.1)
    net, early_stopping = stopped(lucky, [0.0] * 4, rows, floor=False)
    assert early_stopping.course_.best_iter == 2
    assert torch.equal(net.module_.decoder.row, torch.tensor(rows[1]))


@pytest.mark.parametrize("seed", range(5))
def test_the_best_significant_epoch_is_kept(X, seed):
    rng = np.random.RandomState(seed)
    X = X + 0.7
    start, *rows = 0.7 + rng.normal(size=(30, 4)).astype(np.float32)
    net, early_stopping = stopped(X, start, rows)
    all_rows = X.numpy().astype(np.float64)
    all_losses = [np.square(all_rows - row).mean(axis=1) for row in [start, *rows]]
    losses = [now[:N_VALID] for now in all_losses]
    p_values = [p_value(losses[0] - now) for now in losses[1:]]
    candidates = [0, *[i for i, p in enumerate(p_values, start=1) if p < 0.05]]
    best = min(candidates, key=lambda i: losses[i].mean())
    if best and p_value((all_losses[0] - all_losses[best])[N_VALID:]) >= 0.05:
        best = 0
    assert early_stopping.course_.best_iter == best
    assert early_stopping.course_.best_score == early_stopping.course_.scores[best]
    assert torch.equal(net.module_.decoder.row, torch.tensor([start, *rows][best]))


@pytest.mark.parametrize("n_far", [0, 3])
def test_the_start_is_kept_if_few_training_rows_pay_for_the_gain(n_far):
    # Every row at 1 is met by the new output, also all that are held out. Three training rows
    # are far on the other side, get worse, and outweigh the others in the score.
    X = torch.ones(N_ROWS, 4)
    X[N_ROWS - n_far :] = -100.0
    net, early_stopping = stopped(X, [0.0] * 4, [[1.0] * 4])
    assert early_stopping.course_.scores == [0.0, 1.0]
    kept = 0 if n_far else 1
    assert early_stopping.course_.best_iter == kept
    assert early_stopping.course_.best_score == early_stopping.course_.scores[kept]
    assert torch.equal(net.module_.decoder.row, torch.full((4,), float(kept)))


def test_scores_are_means_in_float64(X):
    seen = []

    def keep_start(net):
        seen.append(net.losses(net.get_split_datasets(X)[1]))

    def keep_epoch(net):
        seen.append(net.valid_losses_)

    keep = [
        AtEpoch(0, "on_train_begin", keep_start),
        *[AtEpoch(epoch, "on_epoch_end", keep_epoch) for epoch in range(1, 7)],
    ]
    early_stopping = EarlyStopping(10, 0.0)
    fitted(X, callbacks=[*keep, early_stopping])
    # the losses of rows are float32, and their sum in float64 is free of rounding
    baseline = SquaredError()(torch.zeros(N_VALID, 4), X[:N_VALID]).double().mean().item()
    expected = [1 - losses.double().mean().item() / baseline for losses in seen]
    np.testing.assert_allclose(early_stopping.course_.scores, expected, rtol=0, atol=1e-15)


def assert_ends(net, n_fast, n_epochs):
    """Assert that training slowed down and ended after so many epochs, of one step each."""
    rate = net.lr
    assert net.optimizer_.rates == [rate] * n_fast + [0.25 * rate] * (n_epochs - n_fast)
    assert len(net.history) == n_epochs < net.max_epochs


@pytest.mark.parametrize(
    ("scores", "n_iter_no_change", "n_fast", "n_epochs"),
    [
        ([0.5] * 9, 1, 2, 3),
        ([0.5] * 9, 3, 4, 7),
        ([0.5, 0.4, 0.6, 0.5, 0.5, 0.7, 0.5, 0.5, 0.9], 2, 5, 8),  # after a gain it counts again
        ([0.5, 0.4, 0.3, 0.6, 0.7, 0.7, 0.7, 0.9], 2, 3, 7),
        ([0.0, 0.0, 0.9, 0.9, 0.9, 0.9], 2, 2, 5),  # the start counts
        # gains on what is worse than the start are none
        ([-0.5, -0.4, -0.3, -0.2, -0.1, -0.05, 0.5], 3, 3, 6),
    ],
)
def test_training_slows_down_and_then_ends_after_so_many_epochs_without_a_gain(
    scores, n_iter_no_change, n_fast, n_epochs
):
    net, early_stopping = with_scores(scores, n_iter_no_change=n_iter_no_change)
    assert_ends(net, n_fast, n_epochs)
    assert len(early_stopping.course_.scores) == 1 + n_epochs


@pytest.mark.parametrize(("n_iter_no_change", "n_fast", "n_epochs"), [(2, 3, 6), (3, 7, 10)])
def test_patience_counts_from_the_last_gain_of_tol(n_iter_no_change, n_fast, n_epochs):
    # 0.512 is the first that is 0.01 above 0.5; 0.511 later is not 0.01 above that
    scores = [0.5, 0.504, 0.508, 0.512, 0.511, 0.513, 0.514, 0.515, 0.516, 0.517, 0.518]
    net, _ = with_scores(scores, n_iter_no_change=n_iter_no_change, tol=0.01)
    assert_ends(net, n_fast, n_epochs)


def test_training_goes_on_slowly_from_the_best_epoch(X):
    begun, ended = [], []

    class Watch(Callback):
        def on_epoch_begin(self, net, **kwargs):
            begun.append((net.optimizer_.param_groups[0]["lr"], weights(net.module_)))

        def on_epoch_end(self, net, **kwargs):
            ended.append(weights(net.module_))

    early_stopping = EarlyStopping(5, 0.0)
    X = X @ torch.tensor(np.random.RandomState(1).normal(size=(4, 4))).float()
    fitted(X, callbacks=[Watch(), early_stopping], max_epochs=100, lr=0.2)
    rates = [rate for rate, _ in begun]
    n_fast = rates.count(0.2)
    assert rates == [0.2] * n_fast + [0.05] * (len(rates) - n_fast)
    best = int(np.argmax(early_stopping.course_.scores[: n_fast + 1]))
    assert 0 < best < n_fast
    _, first_slow = begun[n_fast]
    for name, value in first_slow.items():
        assert torch.equal(value, ended[best - 1][name]), name


def test_a_gain_that_is_not_significant_yet_keeps_training_going(lucky):
    rows = towards_the_lucky_mean(0.2, 0.4, 0.6, 0.8, *[1.0] * 7)
    net, early_stopping = stopped(lucky, [0.0] * 4, rows, n_iter_no_change=2)
    assert early_stopping.course_.best_iter == 0
    assert_ends(net, 7, 9)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_epoch_without_a_finite_held_out_loss_is_never_kept(X, value):
    rows = [[0.5] * 4, *[[value] * 4] * 6]
    net, early_stopping = stopped(torch.ones(N_ROWS, 4), [0.0] * 4, rows, n_iter_no_change=2)
    assert early_stopping.course_.best_iter == 1
    assert_ends(net, 3, 5)
    assert torch.equal(net.module_.decoder.row, torch.full((4,), 0.5))


def test_an_epoch_without_a_finite_training_loss_is_never_kept(X):
    stopping = EarlyStopping(10, 0.0, floor=False)

    class Spoil(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 3:
                net.history.record("train_loss", math.nan)

    make_net(autoencoder(), callbacks=[Spoil(), stopping], max_epochs=5).fit(X)
    assert math.isnan(stopping.course_.scores[3])
    assert stopping.course_.best_iter != 3
    assert all(math.isfinite(score) for score in np.delete(stopping.course_.scores, 3))


def test_restoring_the_best_epoch_is_training_that_many_epochs(X):
    early_stopping = EarlyStopping(5, 0.0)
    X = X @ torch.tensor(np.random.RandomState(1).normal(size=(4, 4))).float()
    net = fitted(X, callbacks=[early_stopping], max_epochs=100, lr=0.2)
    best = early_stopping.course_.best_iter
    assert 0 < best < len(net.history) < 100
    assert_same_weights(net.module_, fitted(X, max_epochs=best, lr=0.2).module_.state_dict())


# what early stopping can be asked to restore once more
LEFT = {"best_weights_"}


@pytest.mark.parametrize("callback", [EarlyStopping(10, 0.0), DivergenceGuard()])
def test_copies_of_weights_and_rows_are_gone_after_training(X, callback):
    fitted(X, callbacks=[callback])
    for name, value in vars(callback).items():
        assert name in LEFT or not isinstance(value, (dict, torch.Tensor, Dataset))


def test_the_best_weights_can_be_restored_again(X):
    early_stopping = EarlyStopping(10, 0.0)
    net = fitted(X, callbacks=[early_stopping])
    best = weights(net.module_)
    with torch.no_grad():
        net.module_.encoder[0].weight.zero_()
    early_stopping.restore(net)
    assert_same_weights(net.module_, best)


@pytest.mark.parametrize("callback", [EarlyStopping(10, 0.0), DivergenceGuard()])
def test_after_an_interrupt_no_copies_are_left(X, callback):
    def interrupt(net):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(X, callbacks=[callback, AtEpoch(3, "on_epoch_end", interrupt)])
    for name, value in vars(callback).items():
        assert name in LEFT or not isinstance(value, (dict, torch.Tensor, Dataset))


# -------------------------------------------------------------------------------- cross-fitting


def constant_net(X, row, rows=(), **parameters):
    """Return an initialized net whose output is a row, and these rows after epochs."""
    return make_net(
        Autoencoder(nn.Identity(), Constant(row)),
        optimizer=Scripted,
        optimizer__rows=rows,
        batch_size=len(X),
        average_decay=0.0,
        train_split=None,
        **parameters,
    ).initialize()


def folded(X, start, courses, floor=None, n_iter_no_change=100, tol=0.0, **parameters):
    """Return the course of folds of X that start at a row and have these outputs after epochs."""
    nets = [constant_net(X, start, rows, **parameters) for rows in courses]
    splits = list(KFold(len(nets)).split(X))
    floor = None if floor is None else constant_net(X, floor)
    judging = {"n_iter_no_change": n_iter_no_change, "tol": tol}
    return cross_fitted(Folds(nets, splits, X), len(courses[0]), floor, **judging)


def test_every_row_judges_the_net_that_has_not_seen_it(X):
    class Watch(Callback):
        def on_epoch_begin(self, net, dataset_train=None, **kwargs):
            seen.append(dataset_train.indices)

    seen, rng = [], np.random.RandomState(2)
    start, courses = rng.normal(size=4), rng.normal(size=(4, 3, 4))
    course = folded(X, start, courses, callbacks=[Watch()])
    quarters = np.arange(N_ROWS).reshape(4, -1)
    assert len(seen) == 4 * 3
    for rows, quarter in zip(seen, [*quarters] * 3, strict=True):
        np.testing.assert_array_equal(np.sort([*rows, *quarter]), np.arange(N_ROWS))
    rows, expected = X.double().numpy(), []
    for epoch in [np.tile(start, (4, 1)), *courses.transpose(1, 0, 2)]:
        errors = np.square(rows - np.repeat(epoch, N_ROWS // 4, axis=0))
        expected.append(1 - errors.sum() / np.square(rows).sum())
    # float32 rounding of each row's loss
    np.testing.assert_allclose(course.scores, expected, rtol=1e-5, atol=1e-6)


def test_an_epoch_must_gain_significantly_over_the_folds_own_starts(lucky):
    lucky = torch.cat([lucky[:N_VALID]] * 2)
    courses = [towards_the_lucky_mean(0.5, 1.0, 0.1)] * 2
    assert folded(lucky, [0.0] * 4, courses).best_iter == 2  # where nothing is a floor
    # a floor that all epochs are above, so that it alone refuses none
    course = folded(lucky, [0.0] * 4, courses, floor=[-1.0, 0.0, 0.0, 0.0])
    assert min(course.scores[1:]) > course.scores[0]
    assert course.best_iter == 0


def spread_rows(spread):
    """Return rows about 1, for which steps from 0 to near 1 are gains that vary."""
    X = torch.ones(N_ROWS, 4)
    X[::2] += spread
    X[1::2] -= spread
    return X


@pytest.mark.parametrize(("spread", "best"), [(1.0, 1), (1.5, 0)])
def test_folds_that_share_rows_must_gain_more(spread, best):
    X = spread_rows(spread)
    course = folded(X, [0.0] * 4, [[[1.0] * 4]] * 5, floor=[-1.0] * 4)
    gains = 2 * X[:, 0] - 1
    assert significant(gains)
    assert significant(gains, n_train=32) == bool(best)
    assert course.best_iter == best


@pytest.mark.parametrize(
    ("spread", "floor", "best"), [(1.0, 0.7, 1), (1.0, 1.0, 0), (0.8, 1.0, 1), (1.5, 0.7, 0)]
)
def test_an_epoch_that_is_worse_than_what_is_kept_must_be_surer(spread, floor, best):
    X, step = spread_rows(spread), 0.9
    course = folded(X, [0.0] * 4, [[[step] * 4]] * 5, floor=[floor] * 4)
    gains = 2 * step * X[:, 0] - step**2
    passes = [significant(gains, n_train=32, level=level) for level in (0.05, 0.01)]
    assert passes == [spread < 1.5, spread < 1.0]
    assert course.best_iter == best


@pytest.mark.parametrize(("other", "best"), [(0.87, 1), (0.85, 0)])  # both worse than the floor
def test_what_is_kept_is_undercut_in_the_mean_over_all_rows(other, best):
    # beside a fold that is better by 0.01, one that is worse by 0.007, or 0.0125
    courses = [[[1.0] * 4], [[other] * 4]]
    course = folded(spread_rows(1.0), [0.0] * 4, courses, floor=[0.9] * 4)
    assert course.best_iter == best


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("floor", [None, [0.0] * 4])
def test_folds_that_diverge_end_the_course_with_one_warning(value, floor):
    good, bad = [[0.3] * 4, [0.5] * 4], [[value] * 4, [0.9] * 4, [0.9] * 4]
    healthy = [*good, [0.6] * 4, [0.9] * 4, [0.9] * 4]
    courses = [healthy, [*good, *bad], [*good, *bad]]
    with pytest.warns(ConvergenceWarning, match="best epoch before; lower") as caught:
        course = folded(torch.ones(N_ROWS, 4), [0.0] * 4, courses, floor)
    assert len(caught) == 1
    assert course.best_iter == 2
    assert len(course.scores) == 1 + 3
    assert course.best_score == 0.75  # dyadic: exact


def test_folds_end_after_so_many_epochs_without_a_gain():
    rows = [[share] * 4 for share in (0.25, 0.5, 0.5, 0.4, 0.3, 0.9)]
    course = folded(torch.ones(N_ROWS, 4), [0.0] * 4, [rows] * 2, n_iter_no_change=3)
    assert course.best_iter == 2
    assert len(course.scores) == 1 + 5


# --------------------------------------------------------------------------- left as they are


class Writer(Callback):
    """Sets attributes in training."""

    def __init__(self):
        self.parameter = 1
        self.log = []

    def write(self, value):
        self.learned_ = value
        self.log.append(value)


def test_what_training_set_on_callbacks_is_taken_back():
    fresh, used = Writer(), Writer()
    used.learned_ = "before"
    with left_as_they_are([fresh, ("name", used), Writer, ("other", Writer)]):
        fresh.write("after")
        used.write("after")
        used.more_ = "after"
        fresh.owned = used.owned = "after"
        assert used.learned_ == "after"
    kept = {"parameter": 1, "log": ["after"], "owned": "after"}
    assert vars(fresh) == kept
    assert vars(used) == {**kept, "learned_": "before"}


def test_what_training_set_on_callbacks_is_taken_back_after_an_error():
    callback = Writer()

    def fail():
        with left_as_they_are([callback]):
            callback.write("after")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert not hasattr(callback, "learned_")


# ----------------------------------------------------------------------------- divergence guard


class SpoilableSquaredError(SquaredError):
    """The squared error, plus a number for some rows that can be set."""

    added = 0.0

    def forward(self, x_hat, x):
        return super().forward(x_hat, x) + self.added


def spoil_loss(value):
    def spoil(net):
        net.criterion_.added = value

    return "on_epoch_begin", spoil


def spoil_state(name, value):
    def spoil(net):
        net.module_.state_dict()[name].view(-1)[0] = value

    return "on_epoch_end", spoil


SPOILERS = {
    "loss is NaN": spoil_loss(torch.nan),
    "loss is infinite": spoil_loss(torch.inf),
    "loss is minus infinity": spoil_loss(-torch.inf),
    "weight is NaN": spoil_state("decoder.0.weight", torch.nan),
    "weight is infinite": spoil_state("decoder.0.weight", torch.inf),
    "running mean, zero at first, is NaN": spoil_state("encoder.1.running_mean", torch.nan),
    "running variance is infinite": spoil_state("encoder.1.running_var", torch.inf),
}


@pytest.mark.parametrize("spoiler", SPOILERS)
@pytest.mark.parametrize("epoch", [1, 2, 4])
def test_training_ends_where_something_is_not_finite_with_the_weights_before(X, spoiler, epoch):
    guard = DivergenceGuard()
    callbacks = [AtEpoch(epoch, *SPOILERS[spoiler]), guard]
    with pytest.warns(ConvergenceWarning) as warned:
        net = fitted(X, criterion=SpoilableSquaredError, callbacks=callbacks)
    assert len(net.history) == epoch
    assert guard.good_iter_ == epoch - 1
    assert_same_weights(net.module_, fitted(X, max_epochs=epoch - 1).module_.state_dict())
    (warning,) = warned
    assert str(warning.message) == (
        f"The loss was not finite in epoch {epoch}, so training ended there with the last good"
        " weights; lower learning_rate_init=0.02 or alpha, or bring the features to one scale with"
        " a StandardScaler."
    )


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_where_the_kept_weights_have_no_finite_loss_the_start_is_restored(X, value):
    guard = DivergenceGuard()
    # the last epoch's steps have had theirs then
    callbacks = [AtEpoch(6, "on_epoch_end", spoil_loss(value)[1]), guard]
    options = {"criterion": SpoilableSquaredError, "callbacks": callbacks}
    with pytest.warns(ConvergenceWarning, match="ended there with the start"):
        net = fitted(X, train_split=None, **options)
    assert guard.diverged_
    assert guard.good_iter_ == 0
    assert_same_weights(net.module_, fitted(X, max_epochs=0).module_.state_dict())
    fitted(X, **options)  # without a warning: held-out rows have judged the weights themselves


@pytest.mark.parametrize("max_epochs", [0, 1, 6])
def test_where_all_is_finite_the_guard_does_nothing(X, max_epochs):
    guard = DivergenceGuard()
    net = fitted(X, callbacks=[guard], max_epochs=max_epochs)
    assert len(net.history) == guard.good_iter_ == max_epochs
    assert_same_weights(net.module_, fitted(X, max_epochs=max_epochs).module_.state_dict())


class Masked(nn.Module):
    """A network with infinities on purpose, in a buffer, and a state that is no tensor."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)
        self.register_buffer("mask", torch.tensor([-torch.inf, 0.0]))
        self.n_passes = 0

    def forward(self, x):
        self.n_passes += self.training
        return self.layer(x) * self.mask.exp()

    def get_extra_state(self):
        return {"n_passes": self.n_passes}

    def set_extra_state(self, state):
        self.n_passes = state["n_passes"]


def test_infinities_that_were_there_before_are_no_divergence(X):
    guard = DivergenceGuard()
    make_net(Autoencoder(Masked(), MLP([2, 4])), callbacks=[guard]).fit(X)
    assert guard.good_iter_ == 6


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", ["guard", "early stopping"])
def test_all_of_a_modules_state_is_restored(X, name):
    module = Autoencoder(Masked(), MLP([2, 4]))
    callback = DivergenceGuard() if name == "guard" else EarlyStopping(10, 0.0)
    # after the first epoch there is nothing better
    spoil = AtEpoch(
        2, "on_epoch_begin", lambda net: nn.init.constant_(net.module_.decoder[0].bias, torch.nan)
    )
    make_net(module, callbacks=[spoil, callback], average_decay=0.0).fit(X)
    best = callback.good_iter_ if name == "guard" else callback.course_.best_iter
    assert module.encoder.n_passes == 3 * best  # three steps an epoch


def test_losses_are_those_of_this_training(X):
    guard = DivergenceGuard()
    net = fitted(X, callbacks=[guard], max_epochs=2)
    assert guard.losses_ == net.history[:, "train_loss"]
    net.partial_fit(X)
    assert guard.losses_ == net.history[2:, "train_loss"]
    assert guard.good_iter_ == 2


def test_an_infinite_held_out_loss_alone_is_no_divergence(X):
    X = X.clone()
    X[0] = 1e30  # held out; its square is beyond float32
    net = fitted(X, callbacks=[DivergenceGuard()])
    assert not np.isfinite(net.history[:, "valid_loss"]).any()
    assert len(net.history) == 6


@pytest.mark.parametrize("event", ["on_epoch_begin", "on_batch_end", "on_epoch_end"])
def test_an_interrupt_is_no_divergence(X, event):
    def interrupt(net):
        raise KeyboardInterrupt

    guard = DivergenceGuard()
    with pytest.raises(KeyboardInterrupt):
        # a warning, which is an error here, would take the place of the interrupt
        fitted(X, callbacks=[AtEpoch(3, event, interrupt), guard])
    assert guard.good_iter_ == 2


def test_going_on_for_no_epoch_is_no_divergence(X):
    net = fitted(X, callbacks=[DivergenceGuard()])
    before = weights(net.module_)
    net.set_params(max_epochs=0)
    net.partial_fit(X)
    assert_same_weights(net.module_, before)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_of_a_guard_and_early_stopping_the_best_epoch_remains(X):
    early_stopping = EarlyStopping(10, 0.0)
    X = X @ torch.tensor(np.random.RandomState(1).normal(size=(4, 4))).float()
    spoiler = AtEpoch(40, *spoil_loss(torch.nan))
    healer = AtEpoch(40, "on_train_end", spoil_loss(0.0)[1])
    callbacks = [spoiler, healer, DivergenceGuard(), early_stopping]
    parameters = {"criterion": SpoilableSquaredError, "max_epochs": 60, "lr": 0.01}
    net = fitted(X, callbacks=callbacks, **parameters)
    assert 0 < early_stopping.course_.best_iter < len(net.history) == 40
    expected = fitted(X, **{**parameters, "max_epochs": early_stopping.course_.best_iter})
    assert_same_weights(net.module_, expected.module_.state_dict())


def test_epochs_that_do_not_gain_on_training_rows_are_given_up(curve, monkeypatch):
    # as if few of the training rows paid for what the 30 held-out ones gain
    monkeypatch.setattr("skae._callbacks.significant", lambda gains, *_: len(gains) <= 30)
    parameters = {"hidden_layer_sizes": 8, "validation_fraction": 0.1, "random_state": 0}
    fitted = AutoencoderTransformer(max_iter=20, **parameters).fit(curve)
    assert max(fitted.validation_scores_[1:]) > fitted.validation_scores_[0]
    assert fitted.best_iter_ == 0
    start = AutoencoderTransformer(max_iter=0, **parameters).fit(curve)
    np.testing.assert_array_equal(fitted.transform(curve), start.transform(curve))


def test_without_a_floor_nothing_looks_at_the_training_rows(curve, monkeypatch):
    monkeypatch.setattr("skae._callbacks.Floor", None)
    parameters = {"validation_fraction": 0.1, "max_iter": 2, "init": "random"}
    assert AutoencoderTransformer(hidden_layer_sizes=8, **parameters).fit(curve).n_iter_ == 2


def test_epochs_of_folds_have_to_gain_over_pca_significantly(curve, monkeypatch):
    # the gains of folds are luck, those of all training rows are not
    monkeypatch.setattr(
        "skae._callbacks.significant", lambda gains, n_train=None, _=0: n_train is None
    )
    parameters = {"hidden_layer_sizes": 8, "max_iter": 20, "random_state": 0}
    fitted = AutoencoderTransformer(**parameters).fit(curve)
    assert max(fitted.validation_scores_[1:]) > fitted.validation_scores_[0]
    assert fitted.best_iter_ == 0


def test_training_that_goes_on_leaves_any_start_for_significant_gains_alone(curve, monkeypatch):
    parameters = {"linear_skip": False, "init": "random", "warm_start": True, "random_state": 0}
    model = AutoencoderTransformer(hidden_layer_sizes=8, max_iter=5, **parameters).fit(curve)
    expected = model.transform(curve)
    monkeypatch.setattr("skae._callbacks.significant", lambda *_: False)
    again = model.set_params(max_iter=20).fit(curve)
    assert max(again.validation_scores_[1:]) > again.validation_scores_[0]
    assert again.best_iter_ == 0
    np.testing.assert_allclose(again.transform(curve), expected, rtol=1e-5)  # axes, in float32


@pytest.mark.parametrize(("fraction", "n_valid"), [(0.1, 29), (0.001, 2)])
def test_the_share_of_rows_that_judges_is_rounded_up_to_two_at_least(curve, fraction, n_valid):
    class Watch(Callback):
        def on_epoch_begin(self, net, dataset_valid=None, **kwargs):
            seen.append(len(dataset_valid))

    seen = []
    AutoencoderTransformer(
        hidden_layer_sizes=8, validation_fraction=fraction, callbacks=[Watch()], max_iter=1
    ).fit(curve[:281])
    assert seen == [n_valid]
