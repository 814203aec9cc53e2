"""How a fit says how far it is: by a bar, and to scikit-learn's callbacks."""

import contextlib
import sys

from skorch.callbacks import Callback
from tqdm.std import tqdm

_SECONDS_BETWEEN_LINES = 10


class _Lines(tqdm):
    """A bar for files, in which it cannot be drawn over: a new line, now and then."""

    def __init__(self, **options):
        super().__init__(mininterval=_SECONDS_BETWEEN_LINES, ncols=100, ascii=True, **options)

    @staticmethod
    def status_printer(file):
        lines = []

        def write(line):
            if line not in lines[-1:]:  # the last one is given again where a bar ends
                file.write("\n" * len(lines[-1:]) + line)
                file.flush()
                lines[:] = [line]

        return write


def progress_bar(n_epochs, desc=None, disable=False):
    """Return a bar over epochs, which shows nothing where there are none."""
    options = {"desc": desc, "total": n_epochs, "unit": "epoch"}
    if disable or not n_epochs:
        return tqdm(**options, disable=True)
    # Not earlier: it looks for a notebook, and warns of one that lacks what a bar there needs.
    from tqdm import auto

    is_notebook = auto.notebook_tqdm is not auto.std_tqdm
    return (auto.tqdm if is_notebook or sys.stderr.isatty() else _Lines)(**options)


class ProgressBar(Callback):
    """One bar over all epochs, with the latest losses behind it."""

    def on_train_begin(self, net, **kwargs):
        self.bar_ = progress_bar(net.max_epochs)

    def on_epoch_end(self, net, **kwargs):
        latest = net.history[-1]
        losses = {name: latest[name] for name in ("train_loss", "valid_loss") if name in latest}
        self.bar_.set_postfix(losses, refresh=False)
        self.bar_.update()

    def on_train_end(self, net, **kwargs):
        self.bar_.close()
        del self.bar_


@contextlib.contextmanager
def fit_task(estimator, X, y):
    """Tell scikit-learn's callbacks, where it is 1.9 or later, that a fit begins and ends."""
    if not hasattr(estimator, "_init_callback_context"):
        yield
        return
    # how often it trains, and for how many epochs, shows on the way
    task = estimator._init_callback_context(max_subtasks=None)
    task.call_on_fit_task_begin(estimator=estimator, X=X, y=y)
    yield
    task.call_on_fit_task_end(estimator=estimator, X=X, y=y)


class TrainingTask(Callback):
    """Tell scikit-learn's callbacks of a training and of each of its epochs.

    Parameters
    ----------
    estimator : BaseEstimator
        In its `fit`, see :func:`fit_task`.
    name : str
    """

    def __init__(self, estimator, name):
        self.estimator = estimator
        self.name = name

    def on_train_begin(self, net, **kwargs):
        fit = self.estimator._callback_fit_ctx
        self.task_ = fit.subcontext(self.name, max_subtasks=net.max_epochs)
        self.task_.call_on_fit_task_begin(estimator=self.estimator)

    def on_epoch_begin(self, net, **kwargs):
        self.epoch_ = self.task_.subcontext("epoch")
        self.epoch_.call_on_fit_task_begin(estimator=self.estimator)

    def on_epoch_end(self, net, **kwargs):
        if self.epoch_.call_on_fit_task_end(estimator=self.estimator):
            net.stop_training_ = True

    def on_train_end(self, net, **kwargs):
        self.task_.call_on_fit_task_end(estimator=self.estimator)
        vars(self).clear()  # the estimator will hold this net, and not the other way round too
