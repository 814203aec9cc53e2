"""Would cross-fitting judge small tables better than a hold-out? A prototype of it, by public API.

    python benchmarks/crossfit.py
    python benchmarks/crossfit.py --shared-start
    python benchmarks/crossfit.py --data "Student's t(2)" --seeds 20

The rows are split into five folds. Five fits of 100 epochs, each on four folds from their PCA, give
for each epoch the loss of every row by a model that has not seen it. The epoch of the smallest mean
is taken if its gain over epoch 0 is significant by the t-test that early stopping uses, and all
rows are fitted for as many epochs; else the model is PCA. With `--shared-start` the folds start
from the PCA of all rows, which has seen those that judge, and so is harder to beat.

Columns: PCA's mean R² on held-out rows over the splits (75 % to fit, 25 % held out), mean and worst
difference to it of cross-fitting and of the default hold-out, and mean seconds of each. One thread.
"""

import argparse
import time

import numpy as np
import torch
from quality import parsed
from recipe import gaussian
from sklearn.base import clone
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_iris,
    load_linnerud,
    load_wine,
)
from sklearn.model_selection import KFold, train_test_split
from sklearn.preprocessing import scale
from skorch.callbacks import Callback
from skorch.dataset import Dataset

from skae import AutoencoderTransformer
from skae._callbacks import significant


def heavy_tails():
    return np.random.RandomState(0).standard_t(2, size=(150, 8))


# Name: rows, and numbers of components.
DATA_SETS = {
    "iris": (lambda: load_iris().data, (2, 4)),
    "wine": (lambda: load_wine().data, (2, 4)),
    "diabetes": (lambda: load_diabetes().data, (2, 4)),
    "breast cancer": (lambda: load_breast_cancer().data, (2, 4)),
    "linnerud": (lambda: load_linnerud().data, (1, 2)),
    "normal, 100 rows": (lambda: gaussian()[:100], (2, 4)),
    "normal, 300 rows": (lambda: gaussian()[:300], (2, 4)),
    "Student's t(2)": (heavy_tails, (2, 4)),
}
N_FOLDS = 5
N_EPOCHS = 100


class RowLosses(Callback):
    """Squared error of each of some rows at the start and after each epoch."""

    def __init__(self, rows):
        self.rows = rows
        self.course = []

    def on_train_begin(self, net, **kwargs):
        self.look(net)

    def on_epoch_end(self, net, **kwargs):
        self.look(net)

    def look(self, net):
        self.course.append(net.losses(Dataset(self.rows)).double())


def gains_by_epoch(estimator, X, seed, shared_start):
    """Return how much better each row is than at the start, by epoch, unseen."""
    gains = []
    pca = clone(estimator).set_params(max_iter=0)
    for train, valid in KFold(N_FOLDS, shuffle=True, random_state=seed).split(X):
        pca.fit(X if shared_start else X[train])
        losses = RowLosses(torch.from_numpy((X[valid] - pca.mean_) / pca.scale_).float())
        fold = clone(estimator).set_params(early_stopping=False, max_iter=N_EPOCHS)
        fold.set_params(init=pca, callbacks=[losses]).fit(X[train])
        course = torch.stack(losses.course)
        gains.append(course[0] - course)
    return torch.cat(gains, dim=1)


def cross_fitted(estimator, X, seed, shared_start):
    gains = gains_by_epoch(estimator, X, seed, shared_start)
    best = int(gains.mean(dim=1).argmax())
    n_epochs = best if best and significant(gains[best]) else 0
    return clone(estimator).set_params(early_stopping=False, max_iter=n_epochs).fit(X)


def one_split(estimator, X, seed, shared_start):
    X, X_test = train_test_split(X, test_size=0.25, random_state=seed)
    estimator = clone(estimator).set_params(random_state=seed)
    pca = clone(estimator).set_params(max_iter=0).fit(X)
    times = [time.perf_counter()]
    crossed = cross_fitted(estimator, X, seed, shared_start)
    times.append(time.perf_counter())
    held_out = clone(estimator).fit(X)
    times.append(time.perf_counter())
    return [*(model.score(X_test) for model in (pca, crossed, held_out)), *np.diff(times)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="+", default=list(DATA_SETS), choices=DATA_SETS)
    parser.add_argument("--shared-start", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="PARAMETER=VALUE")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'data':29s} k    PCA  cross-fitted      hold-out            seconds")
    for name in arguments.data:
        load, sizes = DATA_SETS[name]
        for standardise in (False, True):
            X = scale(load()) if standardise else load()
            for k in sizes:
                estimator = AutoencoderTransformer(k, **parsed(arguments.set))
                splits = [
                    one_split(estimator, X, seed, arguments.shared_start)
                    for seed in range(arguments.seeds)
                ]
                pca, crossed, held_out, *seconds = np.array(splits).T
                label = name + (" standardised" if standardise else "")
                gains = [gain for r2 in (crossed, held_out) for gain in _mean_and_worst(r2 - pca)]
                print(
                    f"{label:29s} {k}  {pca.mean():.3f}",
                    *(f"{gain:+.4f}" for gain in gains),
                    *(f"{times.mean():5.2f}" for times in seconds),
                    sep="  ",
                    flush=True,
                )


def _mean_and_worst(gains):
    return gains.mean(), gains.min()


if __name__ == "__main__":
    main()
