"""Nets of folds: trained side by side, each on the rows that it does not judge."""

import math

import torch
from skorch.dataset import Dataset
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Subset

from skae._backpropagation import Evaluated, Stack
from skae._batches import StackedBatches
from skae._callbacks import Course, warn_of_divergence
from skae._progress import progress_bar

# Products of so wide a table take as long for a stack as one by one, or longer.
_MANY_VALUES = 2**20


class Folds:
    """Nets, each of which trains on some of the rows and judges others.

    Parameters
    ----------
    nets : list of ReconstructionNet
        One for each split, initialized.
    splits : list of (ndarray, ndarray)
        The rows to train on and to judge by, of which each row is in one.
    data : Tensor of shape (n_rows, n_features)
    """

    def __init__(self, nets, splits, data):
        self.nets = nets
        self.splits = splits
        self.data = Dataset(data)
        self._trainings = [net.epochs(rows) for net, rows in zip(nets, self._train(), strict=True)]

    def _train(self):
        return [Subset(self.data, train) for train, _ in self.splits]

    def train(self):
        """Train all for one more epoch and return their mean loss."""
        for training in self._trainings:
            next(training)
        return sum(net.history[-1, "train_loss"] for net in self.nets) / len(self.nets)

    def losses(self):
        """Return the losses of all rows, each by the net that has not seen it."""
        return self._pooled(self.nets)

    def losses_of(self, net):
        """Return the losses of all rows by one net.

        In the order of splits, so that random terms of a row's loss are those that the nets meet.
        """
        return self._pooled([net] * len(self.splits))

    def _pooled(self, nets):
        losses = torch.empty(len(self.data), dtype=torch.float64)
        for net, (_, valid) in zip(nets, self.splits, strict=True):
            losses[valid] = net.losses(Subset(self.data, valid)).cpu().double()
        return losses


class StackedFolds(Folds):
    """The same with one net of a :class:`skae._backpropagation.Stack`, in a fraction of the time.

    On a small table the nets' steps are as many calls as the stack's, which takes little more
    time for each.

    Parameters
    ----------
    net : ReconstructionNet
        Initialized, and its batches are :class:`skae._batches.StackedBatches`.
    splits : list of (ndarray, ndarray)
    data : Tensor of shape (n_rows, n_features)
    """

    def __init__(self, net, splits, data):
        super().__init__([net], splits, data)
        judges = [torch.as_tensor(valid) for _, valid in splits]
        padded = pad_sequence(judges, batch_first=True, padding_value=-1)
        self._is_judge = padded >= 0
        self._judges = padded[self._is_judge]
        self._rows = data[padded.clamp_min(0).to(data.device)]
        net.flat_.attach()  # first, as what evaluates looks at the weights where they are now
        self._evaluated = Evaluated(net.module_)

    def _train(self):
        return [Subset(self.data, [train for train, _ in self.splits])]

    def losses_of(self, net):
        return net.losses(self.data).cpu().double()  # nothing in them is random

    def losses(self):
        (net,) = self.nets
        with torch.no_grad():
            losses = net.criterion_(self._evaluated(self._rows), self._rows.flatten(0, 1))
            losses = losses.cpu().double().view_as(self._is_judge)
        pooled = torch.empty(len(self.data), dtype=torch.float64)
        pooled[self._judges] = losses[self._is_judge]
        return pooled


def folds_of(net_of, modules, splits, data):
    """Return folds with some initial modules.

    Parameters
    ----------
    net_of : callable
        Makes a net of a module and of parameters that this one has of its own.
    modules : list of Autoencoder
        One for each split, of one shape.
    splits : list of (ndarray, ndarray)
    data : Tensor or RowsOnDemand of shape (n_rows, n_features)

    Returns
    -------
    Folds
    """
    first = net_of(modules[0])
    is_small = isinstance(data, torch.Tensor) and data.numel() <= _MANY_VALUES
    if is_small and first.can_be_stacked():
        net = net_of(Stack(modules), iterator_train=StackedBatches)
        return StackedFolds(net.initialize(), splits, data)
    nets = [first, *map(net_of, modules[1:])]
    return Folds([net.initialize() for net in nets], splits, data)


def cross_fitted(folds, max_iter, floor=None, verbose=False, **judging):
    """Return the course of a training that every row judges, by a net that has not seen it.

    A loss that is not finite ends it, with a warning.

    Parameters
    ----------
    folds : Folds
        They are trained until their first net stops, or no epoch gains any more.
    max_iter : int
    floor : ReconstructionNet, default=None
        What is kept where no epoch is accepted, initialized: the start of all rows. It has seen
        those that judge, and so is harder to beat than the nets' own starts.
    verbose : bool, default=False
        Whether to show a progress bar.
    **judging : dict
        What :class:`Course` is given beside losses.

    Returns
    -------
    Course
    """
    nets, n_folds = folds.nets, len(folds.splits)
    course = Course(
        folds.losses(),
        nets[0].baseline(folds.data),
        floor_losses=None if floor is None else folds.losses_of(floor),
        n_train=min(len(train) for train, _ in folds.splits),
        **judging,
    )
    for net in nets:
        net.notify("on_train_begin")
    with progress_bar(max_iter, desc=f"{n_folds} folds", disable=not verbose) as bar:
        while not (len(course.scores) > max_iter or course.has_ended or nets[0].stop_training_):
            train_loss, losses = folds.train(), folds.losses()
            course.add(losses)
            bar.set_postfix(train_loss=train_loss, valid_loss=losses.mean().item(), refresh=False)
            bar.update()
            if not math.isfinite(train_loss) or losses.isnan().any():
                warn_of_divergence(len(course.scores) - 1, "the best epoch before", nets[0].lr)
                break
    for net in nets:
        net.notify("on_train_end")
    return course
