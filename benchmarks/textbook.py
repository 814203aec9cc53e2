"""Held-out error of the textbook autoencoder: skae's beside the same network in Keras.

    pip install -r benchmarks/requirements-textbook.txt
    python benchmarks/textbook.py

Needs what that file names, which is no part of the package: Keras, here on torch as its backend,
and Pillow, which reads scikit-learn's photographs. `make textbook` does both lines in .venv.

Encoder and decoder have one hidden layer with ReLU, a linear code, and a logistic output. Both
sides minimise the mean squared error with Adam at 1e-3 on batches of 64 for 50 epochs, from
weights drawn as Keras draws them by default, without early stopping. One split (75 % to fit, 25 %
held out) for each of five seeds, which also seeds the weights. One thread.

Two more rows say where a difference comes from. `Keras, centred` is Keras whose encoder gets what
skae's gets, `(x - mean_) / scale_`; the target stays x. `Keras, centred, even` deals rows out to as
many batches as before, but evenly, as skae does, up to a smaller last one. `skae` is without
averaged weights, as Keras is; `skae, average` has skae's default.

Columns: mean squared error over held-out rows and features, its mean and standard deviation over
the seeds; mean L2 distance of a held-out row from its reconstruction; number of seeds in which the
error is at most Keras's; median seconds of a fit.
"""

import argparse
import math
import os
import platform
import time
from functools import partial

os.environ["KERAS_BACKEND"] = "torch"  # read once, when Keras is imported

import keras
import numpy as np
import sklearn
import torch
from recipe import patches
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

import skae
from skae import AutoencoderTransformer

EPOCHS = 50
BATCH_SIZE = 64
LEARNING_RATE = 1e-3


def digits():
    """Return 1797 digits of 8 x 8 pixels in [0, 1]."""
    return load_digits().data / 16


def photographs():
    """Return every second patch of two grey photographs in [0, 1]; no two of them overlap."""
    return patches()[::2]


DATA_SETS = {"digits": digits, "photograph patches": photographs}


def with_keras(X, X_test, n_components, hidden, seed, centred=False, even=False):
    keras.utils.set_random_seed(seed)
    n_features = X.shape[1]
    layers = [
        keras.layers.Input((n_features,)),
        keras.layers.Dense(hidden, activation="relu"),
        keras.layers.Dense(n_components),
        keras.layers.Dense(hidden, activation="relu"),
        keras.layers.Dense(n_features, activation="sigmoid"),
    ]
    batch_size = math.ceil(len(X) / math.ceil(len(X) / BATCH_SIZE)) if even else BATCH_SIZE
    start = time.perf_counter()
    mean, scale = (X.mean(axis=0), np.sqrt(X.var(axis=0).mean())) if centred else (0, 1)
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(LEARNING_RATE), "mean_squared_error")
    model.fit((X - mean) / scale, X, batch_size=batch_size, epochs=EPOCHS, verbose=0)
    seconds = time.perf_counter() - start
    return model.predict((X_test - mean) / scale, verbose=0), seconds


def with_skae(X, X_test, n_components, hidden, seed, average=False):
    model = AutoencoderTransformer(
        n_components,
        hidden_layer_sizes=(hidden,),
        activation="relu",
        output_activation="logistic",
        linear_skip=False,
        init="glorot_uniform",
        alpha=0,
        optimizer="adam",
        learning_rate_init=LEARNING_RATE,
        batch_size=BATCH_SIZE,
        max_iter=EPOCHS,
        average=average,
        early_stopping=False,
        device="cpu",
        random_state=seed,
    )
    start = time.perf_counter()
    model.fit(X)
    return model.reconstruct(X_test), time.perf_counter() - start


def with_pca(X, X_test, n_components, hidden, seed):
    start = time.perf_counter()
    model = PCA(n_components, random_state=seed).fit(X)
    seconds = time.perf_counter() - start
    return model.inverse_transform(model.transform(X_test)), seconds


MODELS = {
    "Keras": with_keras,
    "Keras, centred": partial(with_keras, centred=True),
    "Keras, centred, even": partial(with_keras, centred=True, even=True),
    "skae": with_skae,
    "skae, average": partial(with_skae, average=True),
    "PCA": with_pca,
}


def one_split(fit, X, n_components, hidden, seed):
    X, X_test = train_test_split(X, test_size=0.25, random_state=seed)
    X_hat, seconds = fit(X, X_test, n_components, hidden, seed)
    squares = np.square(X_test - X_hat)
    return squares.mean(), np.sqrt(squares.sum(axis=1)).mean(), seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--components", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--hidden", type=int, default=128)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"keras {keras.__version__} on {keras.backend.backend()} {torch.__version__},"
        f" skae {skae.__version__}, scikit-learn {sklearn.__version__},"
        f" Python {platform.python_version()}"
    )
    print(f"{'data':18s}   k  {'model':20s}      MSE       sd      L2  <= Keras  seconds")
    for name, load in DATA_SETS.items():
        X = load().astype(np.float32)
        for n_components in arguments.components:
            errors_of_keras = None
            for label, fit in MODELS.items():
                errors, distances, seconds = np.array(
                    [
                        one_split(fit, X, n_components, arguments.hidden, seed)
                        for seed in range(arguments.seeds)
                    ]
                ).T
                if errors_of_keras is None:
                    errors_of_keras = errors
                wins = f"{np.sum(errors <= errors_of_keras)} of {arguments.seeds}"
                print(
                    f"{name:18s}  {n_components:2d}  {label:20s}  {errors.mean():.5f}"
                    f"  {errors.std(ddof=min(1, len(errors) - 1)):.5f}  {distances.mean():.4f}"
                    f"  {'' if label == 'Keras' else wins:>8s}  {np.median(seconds):7.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
