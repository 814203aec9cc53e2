"""How our fits judge epochs, and what they do at their ends, as skorch callbacks."""

import contextlib
import math

import torch
from scipy.special import stdtrit
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback

from skae._compat import warn
from skae._net import share_avoided

# What the rate is multiplied by where training has come to its first end.
_SLOWER = 0.25


def significant(gains, n_train=None, level=0.05):
    """Whether some gains are more than luck: a one-sided paired t-test.

    At the 5 % level the mean gain must exceed its standard error 1.65-fold, and more where few
    rows make the standard error itself uncertain: 1.83-fold with ten, 2.9-fold with three. Few are
    also many of which a few outweigh the rest, as in heavy-tailed tables, so the degrees of freedom
    come from the effective number of rows, ``sum(|gains|)**2 / sum(gains**2)``.

    Parameters
    ----------
    gains : Tensor of shape (n_rows,)
        Paired differences, positive where the row got better.
    n_train : int, default=None
        Where the rows were judged in folds, the number of those that each fold's net was trained
        on. As the nets share most of them, their gains vary together, and the variance of the mean
        is about ``1 + n_rows / n_train`` times that of gains which do not.
    level : float, default=0.05
        The share of cases in which luck alone passes.

    References
    ----------
    C. Nadeau and Y. Bengio, "Inference for the Generalization Error", Machine Learning 52 (2003),
    doi:10.1023/A:1024068626366, on the variance where training sets overlap.
    """
    overlap = 1 if n_train is None else 1 + len(gains) / n_train
    standard_error = gains.std().item() * math.sqrt(overlap / len(gains))
    n_effective = (gains.abs().sum().square() / gains.square().sum()).item()
    return bool(gains.mean().item() > stdtrit(n_effective - 1, 1 - level) * standard_error)


@contextlib.contextmanager
def left_as_they_are(callbacks):
    """Take back from callbacks, at the end of a block, what training set on them.

    They are parameters of an estimator, which a fit does not change, and what they hold (the
    optimiser, for one) does not belong into its pickle. As everywhere in skorch, what training
    sets ends in an underscore; a callback's other attributes are its owner's.

    Parameters
    ----------
    callbacks : list
        As for :class:`skorch.NeuralNet`: callbacks, classes of them, pairs of a name and either.
    """
    callbacks = [item[1] if isinstance(item, tuple) else item for item in callbacks]
    instances = [callback for callback in callbacks if not isinstance(callback, type)]
    before = [_set_by_training(callback) for callback in instances]
    try:
        yield
    finally:
        for callback, attributes in zip(instances, before, strict=True):
            for name in _set_by_training(callback):
                delattr(callback, name)
            vars(callback).update(attributes)


def _set_by_training(callback):
    return {name: value for name, value in vars(callback).items() if name.endswith("_")}


class Course:
    """What rows that are held out say about the epochs of a training.

    Epoch 0, the start, is a candidate. Where it is a floor, as PCA is, a later epoch is accepted
    only where its gain over epoch 0 on the held-out rows is :func:`significant`: the best of many
    epochs is often better on a dozen rows by luck alone.

    Parameters
    ----------
    start_losses : Tensor of shape (n_rows,)
        Losses of the held-out rows at epoch 0.
    baseline : float
        Mean loss of those rows where the mean row takes their place.
    n_iter_no_change : int
        How many epochs may pass without a gain in score of ``tol``.
    tol : float
    floor_losses : Tensor of shape (n_rows,), default=None
        Losses of the rows under the model that is kept where no epoch is accepted:
        ``start_losses``, but where folds of the rows have starts of their own. That model has seen
        the rows then, so that an epoch need not undercut it in the mean, but must be significant at
        the 1 % level where it does not. None is no floor: a random start is left for any gain.
    n_train : int, default=None
        As in :func:`significant`.

    Attributes
    ----------
    scores : list of float
        Score of each epoch, beginning with epoch 0: the share of the mean row's held-out loss that
        is avoided.
    best_iter : int
        The best epoch that was accepted; 0 is the start.
    """

    def __init__(
        self, start_losses, baseline, n_iter_no_change, tol, floor_losses=None, n_train=None
    ):
        self.start_losses = start_losses
        self.baseline = baseline
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.floor_losses = floor_losses
        self.n_train = n_train
        self.scores, self.best_iter = [self._score(start_losses)], 0
        self._peak, self._n_stale = self.scores[0], 0

    def _score(self, losses):
        return share_avoided(losses.mean().item(), self.baseline)

    def _accepts(self, losses):
        if self.floor_losses is None:
            return True
        is_above = losses.mean() < self.floor_losses.mean()
        level = 0.05 if is_above else 0.01
        return significant(self.start_losses - losses, self.n_train, level)

    def add(self, losses):
        """Judge one more epoch by its losses, and return whether it is the best so far."""
        self.scores.append(self._score(losses))
        # Patience counts from the last gain, accepted or not: a slow start is not a standstill.
        self._n_stale += 1
        if self.scores[-1] > self._peak + self.tol:
            self._peak, self._n_stale = self.scores[-1], 0
        is_best = self.scores[-1] > self.best_score and self._accepts(losses)
        if is_best:
            self.best_iter = len(self.scores) - 1
        return is_best

    @property
    def best_score(self):
        return self.scores[self.best_iter]

    def wait_again(self):
        """Count epochs without a gain from here."""
        self._n_stale = 0

    @property
    def has_ended(self):
        """Whether as many epochs as may have passed without a gain."""
        return self._n_stale >= self.n_iter_no_change


def warn_of_divergence(epoch, kept, lr):
    warn(
        f"The loss was not finite in epoch {epoch}, so training ended there with {kept}; lower"
        f" learning_rate_init={lr:g} or alpha, or bring the features to one scale with a"
        " StandardScaler.",
        ConvergenceWarning,
    )


class Floor(Callback):
    """Go back to the start unless the gain over it on the training rows is :func:`significant`.

    It nearly always is where it is on rows that were held out, but few rows that outweigh all
    others in the score may have been among those that were not.

    Parameters
    ----------
    course : Course
        What chose the number of epochs.
    """

    def __init__(self, course):
        self.course = course

    def on_train_begin(self, net, X=None, **kwargs):
        self.train_, _ = net.get_split_datasets(X)
        self.start_weights_ = net.state()
        self.start_train_losses_ = net.losses(self.train_).cpu().double()

    def on_train_end(self, net, **kwargs):
        gains = self.start_train_losses_ - net.losses(self.train_).cpu().double()
        if not significant(gains):
            net.load_state(self.start_weights_)
            self.course.best_iter = 0
        del self.train_, self.start_weights_, self.start_train_losses_


class EarlyStopping(Callback):
    """End training when the held-out loss stops falling, and go back to the best epoch.

    The first time that it does, training goes on from the best epoch at a lower rate: an average
    of weights at a high one is near a minimum, and not at it.

    Parameters
    ----------
    n_iter_no_change : int
    tol : float
        As in :class:`Course`.
    floor : bool, default=True
        Whether the start is left for significant gains alone, as in :class:`Course` and
        :class:`Floor`.

    Attributes
    ----------
    course_ : Course
    is_slow_ : bool
        Whether the rate is the lower one.
    """

    def __init__(self, n_iter_no_change, tol, floor=True):
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.floor = floor

    def on_train_begin(self, net, X=None, **kwargs):
        _, valid = net.get_split_datasets(X)
        losses = net.losses(valid).cpu().double()
        floor_losses = losses if self.floor else None
        self.course_ = Course(
            losses, net.baseline(valid), self.n_iter_no_change, self.tol, floor_losses
        )
        self.best_weights_, self.is_slow_ = net.state(), False
        if self.floor:
            self.floor_ = Floor(self.course_)
            self.floor_.on_train_begin(net, X)

    def on_epoch_end(self, net, **kwargs):
        losses = net.valid_losses_.cpu().double()
        if not math.isfinite(net.history[-1, "train_loss"]):
            losses = losses * torch.nan  # the guard has the weights before, whatever these say
        if self.course_.add(losses):
            self.best_weights_ = net.state()
        if self.course_.has_ended and self.is_slow_:
            net.stop_training_ = True
        elif self.course_.has_ended:
            self._slow_down(net)

    def _slow_down(self, net):
        self.is_slow_ = True
        self.restore(net)
        self.course_.wait_again()
        for group in net.optimizer_.param_groups:
            group["lr"] *= _SLOWER

    def on_train_end(self, net, **kwargs):
        self.restore(net)
        if self.floor:
            self.floor_.on_train_end(net)
            self.best_weights_ = net.state()
            del self.floor_

    def restore(self, net):
        """Go back to the best epoch's weights, whatever other callbacks have loaded since."""
        net.load_state(self.best_weights_)


def _is_finite(value):
    return not isinstance(value, torch.Tensor) or bool(value.isfinite().all())


class DivergenceGuard(Callback):
    """End training at a loss or weight that is not finite, with the last weights that were.

    Where no rows are held out, training rows must have finite losses under the weights that are
    kept, or it goes back to the start: those while training are of other weights, not averages.

    Attributes
    ----------
    good_iter_ : int
        Epoch of those weights; 0 is the start.
    losses_ : list of float
        Training loss of each epoch.
    diverged_ : bool
        Whether a loss or weight was not finite.
    """

    def on_train_begin(self, net, **kwargs):
        self.start_weights_ = net.state()
        self.good_iter_, self.good_weights_ = 0, self.start_weights_
        # a user's module may hold infinities on purpose: a mask, say
        self.watched_ = [name for name, value in self.good_weights_.items() if _is_finite(value)]
        self.losses_, self.diverged_ = [], False

    def on_epoch_end(self, net, **kwargs):
        self.losses_.append(net.history[-1, "train_loss"])
        weights = net.state()
        if math.isfinite(self.losses_[-1]) and all(_is_finite(weights[n]) for n in self.watched_):
            self.good_iter_, self.good_weights_ = len(self.losses_), weights
        else:
            self.diverged_ = net.stop_training_ = True

    def on_train_end(self, net, X=None, **kwargs):
        kept = "the last good weights"
        if self.diverged_:
            net.load_state(self.good_weights_)
        is_judged = net.train_split is not None
        if self.good_iter_ and not is_judged and not _is_finite(net.losses(net.get_dataset(X))):
            net.load_state(self.start_weights_)
            self.good_iter_, self.diverged_, kept = 0, True, "the start"
        if self.diverged_:
            warn_of_divergence(len(self.losses_), kept, net.lr)
        del self.good_weights_, self.start_weights_
