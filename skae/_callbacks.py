"""What our fits do at the ends of epochs, as skorch callbacks."""

import contextlib
import math
import warnings

import torch
from scipy.special import stdtrit
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback
from tqdm.auto import tqdm

from skae._net import share_avoided


def significant(gains):
    """Whether some gains are more than luck: a one-sided paired t-test at the 5 % level.

    The mean gain must exceed its standard error 1.65-fold, and more where few rows make the
    standard error itself uncertain: 1.83-fold with ten, 2.9-fold with three. Few are also many of
    which a few outweigh the rest, as in heavy-tailed tables, so the degrees of freedom come from
    the effective number of rows, ``sum(|gains|)**2 / sum(gains**2)``.

    Parameters
    ----------
    gains : Tensor of shape (n_rows,)
        Paired differences, positive where the row got better.
    """
    standard_error = gains.std().item() / math.sqrt(len(gains))
    n_effective = (gains.abs().sum().square() / gains.square().sum()).item()
    return bool(gains.mean().item() > stdtrit(n_effective - 1, 0.95) * standard_error)


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
    callbacks = [item[1] if isinstance(item, tuple | list) else item for item in callbacks]
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


class EarlyStopping(Callback):
    """End training when the held-out loss stops falling, and go back to the best epoch.

    Epoch 0, the start, is a candidate. Where it is a floor, as PCA is, a later epoch is accepted
    only where its gain over epoch 0 on the held-out rows is :func:`significant`: the best of many
    epochs is often better on a dozen rows by luck alone. In the end the gain must be significant
    on the training rows too. It nearly always is, but few rows that outweigh all others in the
    score may be among those alone.

    Parameters
    ----------
    n_iter_no_change : int
        How many epochs may pass without a gain in score of ``tol``.
    tol : float
    floor : bool, default=True
        Whether the start is left for significant gains alone; a random start is left for any.

    Attributes
    ----------
    scores_ : list of float
        Score of each epoch, beginning with epoch 0: the share of the mean row's held-out loss that
        is avoided.
    best_score_ : float
        Score of the epoch whose weights are kept.
    best_iter_ : int
        That epoch; 0 is the start.
    """

    def __init__(self, n_iter_no_change, tol, floor=True):
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.floor = floor

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        self.train_, valid = net.get_split_datasets(X)
        self.start_weights_ = net.state()
        self.start_losses_ = net.losses(valid).cpu().double()
        self.start_train_losses_ = net.losses(self.train_).cpu().double()
        self.baseline_ = net.baseline(valid)
        self.scores_ = []
        self.peak_, self.n_stale_ = -math.inf, 0
        self._judge(net, self.start_losses_, accept=True)

    def on_epoch_end(self, net, **kwargs):
        losses = net.valid_losses_.cpu().double()
        self._judge(net, losses, accept=self._beats_start(self.start_losses_ - losses))
        if self.n_stale_ >= self.n_iter_no_change:
            net.stop_training_ = True

    def _beats_start(self, gains):
        return not self.floor or significant(gains)

    def _judge(self, net, losses, accept):
        score = share_avoided(losses.mean().item(), self.baseline_)
        if accept and (not self.scores_ or score > self.best_score_):
            self.best_score_, self.best_iter_ = score, len(self.scores_)
            self.best_weights_ = net.state()
        self.scores_.append(score)
        # Patience counts from the last gain, accepted or not: a slow start is not a standstill.
        self.n_stale_ += 1
        if score > self.peak_ + self.tol:
            self.peak_, self.n_stale_ = score, 0

    def on_train_end(self, net, **kwargs):
        self.restore(net)
        train_losses = net.losses(self.train_).cpu().double()
        if self.best_iter_ and not self._beats_start(self.start_train_losses_ - train_losses):
            self.best_weights_ = self.start_weights_
            self.best_iter_, self.best_score_ = 0, self.scores_[0]
            self.restore(net)
        del self.train_, self.start_weights_, self.start_losses_, self.start_train_losses_

    def restore(self, net):
        """Go back to the best epoch's weights, whatever other callbacks have loaded since."""
        net.load_state(self.best_weights_)


def _is_finite(value):
    return not isinstance(value, torch.Tensor) or bool(value.isfinite().all())


class DivergenceGuard(Callback):
    """End training at a loss or weight that is not finite, with the last weights that were.

    Attributes
    ----------
    good_iter_ : int
        Epoch of those weights; 0 is the start.
    losses_ : list of float
        Training loss of each epoch.
    """

    def on_train_begin(self, net, **kwargs):
        self.good_iter_, self.good_weights_ = 0, net.state()
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

    def on_train_end(self, net, **kwargs):
        if self.diverged_:
            net.load_state(self.good_weights_)
            warnings.warn(
                f"The loss was not finite in epoch {len(self.losses_)}, so training ended there"
                f" with the last good weights; lower learning_rate_init={net.lr:g} or alpha, or"
                " bring the features to one scale with a StandardScaler.",
                ConvergenceWarning,
                stacklevel=2,
            )
        del self.good_weights_


class ProgressBar(Callback):
    """One bar over all epochs, with the latest losses behind it."""

    def on_train_begin(self, net, **kwargs):
        self.bar_ = tqdm(total=net.max_epochs, unit="epoch")

    def on_epoch_end(self, net, **kwargs):
        latest = net.history[-1]
        losses = {name: latest[name] for name in ("train_loss", "valid_loss") if name in latest}
        self.bar_.set_postfix(losses, refresh=False)
        self.bar_.update()

    def on_train_end(self, net, **kwargs):
        self.bar_.close()
        del self.bar_
