"""Held-out R² of the autoencoder and of PCA, side by side.

    python benchmarks/quality.py
    python benchmarks/quality.py --set activation="'relu'" --set max_iter=100

Each data set, raw and standardised, is split five times (75 % to fit, 25 % held out). The columns
are PCA's mean R² on the held-out rows, the autoencoder's, the worst and the mean difference over
the splits, the mean number of epochs, and the mean seconds of a fit. One thread.
"""

import argparse
import ast
import time

import numpy as np
import torch
from sklearn.base import clone
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_wine,
)
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer

DATA_SETS = {
    "digits": load_digits,
    "breast cancer": load_breast_cancer,
    "wine": load_wine,
    "diabetes": load_diabetes,
    "iris": load_iris,
}


def pca_r2(X, X_test, n_components):
    pca = PCA(n_components, random_state=0).fit(X)
    error = np.square(X_test - pca.inverse_transform(pca.transform(X_test))).sum()
    return 1 - error / np.square(X_test - pca.mean_).sum()


def one_split(estimator, X, n_components, standardise, seed):
    X, X_test = train_test_split(X, test_size=0.25, random_state=seed)
    if standardise:
        scaler = StandardScaler().fit(X)
        X, X_test = scaler.transform(X), scaler.transform(X_test)
    model = clone(estimator).set_params(n_components=n_components, random_state=seed)
    start = time.perf_counter()
    model.fit(X)
    seconds = time.perf_counter() - start
    return pca_r2(X, X_test, n_components), model.score(X_test), model.n_iter_, seconds


def parsed(settings):
    """Return the parameters that strings like ``max_iter=100`` set."""
    pairs = (setting.split("=", 1) for setting in settings)
    return {name: ast.literal_eval(value) for name, value in pairs}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--set", action="append", default=[], metavar="PARAMETER=VALUE")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--components", type=int, nargs="+", default=[2, 8])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    estimator = AutoencoderTransformer(**parsed(arguments.set))
    print(f"{'data':28s}  k    PCA   skae   worst    mean  epochs  seconds")
    worst = np.inf
    for name, load in DATA_SETS.items():
        X = load().data
        for standardise in (False, True):
            for n_components in arguments.components:
                k = min(n_components, X.shape[1])
                results = np.array(
                    [one_split(estimator, X, k, standardise, s) for s in range(arguments.seeds)]
                )
                pca, skae, epochs, seconds = results.mean(axis=0)
                gains = results[:, 1] - results[:, 0]
                worst = min(worst, gains.min())
                label = name + (" standardised" if standardise else "")
                print(
                    f"{label:28s} {k:2d}  {pca:.3f}  {skae:.3f}  {gains.min():+.4f}"
                    f"  {gains.mean():+.4f}  {epochs:6.0f}  {seconds:7.2f}",
                    flush=True,
                )
    print(f"worst of all: {worst:+.4f}")


if __name__ == "__main__":
    main()
