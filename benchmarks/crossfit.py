"""How small tables are judged: all rows in folds, the default, against a tenth that is held out.

    python benchmarks/crossfit.py
    python benchmarks/crossfit.py --data lognormal "Student's t(2), 200 x 20" --seeds 12

Columns: PCA's mean R² on held-out rows over the splits (75 % to fit, 25 % held out), mean and worst
difference to it of the default (``validation_fraction='auto'``) and of
``validation_fraction=0.1``, and mean seconds of a fit of each. One thread.
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
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import scale

from skae import AutoencoderTransformer


def students_t(seed, *shape):
    return np.random.RandomState(seed).standard_t(2, size=shape)


# Name: rows, and numbers of components.
DATA_SETS = {
    "iris": (lambda: load_iris().data, (2, 4)),
    "wine": (lambda: load_wine().data, (2, 4)),
    "diabetes": (lambda: load_diabetes().data, (2, 4)),
    "breast cancer": (lambda: load_breast_cancer().data, (2, 4)),
    "linnerud": (lambda: load_linnerud().data, (1, 2)),
    "normal, 100 rows": (lambda: gaussian()[:100], (2, 4)),
    "normal, 300 rows": (lambda: gaussian()[:300], (2, 4)),
    "lognormal, 200 x 6": (lambda: np.exp(np.random.RandomState(4).randn(200, 6)), (2, 4)),
    "Student's t(2), 150 x 8": (lambda: students_t(0, 150, 8), (2, 4)),
    "Student's t(2), 200 x 4": (lambda: students_t(1, 200, 4), (2,)),
    "Student's t(2), 200 x 20": (lambda: students_t(2, 200, 20), (2, 4)),
    "Cauchy, 150 x 6": (lambda: np.random.RandomState(5).standard_cauchy((150, 6)), (2, 4)),
}
JUDGES = ("auto", 0.1)


def one_split(estimator, X, seed):
    """Return PCA's R² on held-out rows, those of both ways to judge, and the seconds of each."""
    X, X_test = train_test_split(X, test_size=0.25, random_state=seed)
    estimator = clone(estimator).set_params(random_state=seed)
    scores, seconds = [clone(estimator).set_params(max_iter=0).fit(X).score(X_test)], []
    for fraction in JUDGES:
        model = clone(estimator).set_params(validation_fraction=fraction)
        start = time.perf_counter()
        model.fit(X)
        seconds.append(time.perf_counter() - start)
        scores.append(model.score(X_test))
    return *scores, *seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="+", default=list(DATA_SETS), choices=DATA_SETS)
    parser.add_argument("--set", action="append", default=[], metavar="PARAMETER=VALUE")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'data':37s} k    PCA  folds             hold-out            seconds")
    for name in arguments.data:
        load, sizes = DATA_SETS[name]
        for standardise in (False, True):
            X = scale(load()) if standardise else load()
            for k in sizes:
                estimator = AutoencoderTransformer(k, **parsed(arguments.set))
                splits = [one_split(estimator, X, seed) for seed in range(arguments.seeds)]
                pca, *judged, folds, hold_out = np.array(splits).T
                gains = [gain for r2 in judged for gain in ((r2 - pca).mean(), (r2 - pca).min())]
                label = name + (" standardised" if standardise else "")
                print(
                    f"{label:37s} {k}  {pca.mean():.3f}",
                    *(f"{gain:+.4f}" for gain in gains),
                    *(f"{seconds.mean():5.2f}" for seconds in (folds, hold_out)),
                    sep="  ",
                    flush=True,
                )


if __name__ == "__main__":
    main()
