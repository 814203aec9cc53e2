"""The default training recipe beside PCA and three other autoencoders, in quality and in time.

    python benchmarks/recipe.py
    python benchmarks/recipe.py --data iris wine --seeds 0 1 --results results.jsonl
    python benchmarks/recipe.py --data iris --methods skae --set n_iter_no_change=20

Seventeen data sets, loaded or made by scikit-learn and NumPy, in seven splits each (75 % to fit,
25 % held out), and in each split all methods in turn. They get rows in the units of skae,
`(x - mean) / scale` of the training rows with one scale, which suit the others better than raw
ones:

- `plain`: the same widths with ReLU in a hand-written PyTorch loop, 200 epochs of Adam at 1e-3 on
  batches of 128;
- `mlp`: `MLPRegressor` with hidden layers (128, k, 128) and early stopping, `fit(X, X)`;
- `skorch`: the plain network as skorch's documentation trains one: `NeuralNetRegressor` with its
  `DataLoader`, Adam at 1e-3, batches of 128, 20 epochs.

Columns: mean held-out R² of PCA, of the peer whose mean is best, and of skae; skae's worst
difference to PCA over the splits; its mean and worst difference to that peer; the peer's mean
seconds; skae's until its averaged weights first have that peer's held-out R² of the same split (for
less than 1000 rows, which are judged in folds, until the fit's end), and those of the whole fit;
how many times shorter the way to the peer's R² was, in the median split, and in how many splits it
was reached. In most splits it was not where these say `inf` and 0.0, and where no peer beats PCA
there is nothing to reach.

With `--results` each fit is a line of a file, and none that is there is done again, so that the
work can be split into pieces. One thread.
"""

import argparse
import json
import math
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from quality import parsed
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_sample_images,
    load_wine,
    make_blobs,
    make_s_curve,
    make_swiss_roll,
)
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import scale
from skorch import NeuralNetRegressor
from skorch.callbacks import Callback
from torch import nn

from skae import AutoencoderTransformer


def gaussian():
    """Return normal rows with a falling spectrum: PCA is the best there is."""
    rng = np.random.RandomState(0)
    return rng.normal(size=(1000, 20)) * np.linspace(2, 0.5, 20)


def factors():
    """Return ten linear factors under noise in a hundred features: PCA is the best again."""
    rng = np.random.RandomState(1)
    return rng.normal(size=(5000, 10)) @ rng.normal(size=(10, 100)) + rng.normal(size=(5000, 100))


def swiss_roll():
    """Return a curved sheet, turned into 20 features, with little noise."""
    rng = np.random.RandomState(2)
    sheet = scale(make_swiss_roll(3000, random_state=2)[0])
    return sheet @ rng.normal(size=(3, 20)) + 0.1 * rng.normal(size=(3000, 20))


def s_curve():
    """Return another curved sheet, in thirteen features, nearly without noise."""
    rng = np.random.RandomState(7)
    sheet = make_s_curve(5000, noise=0.05, random_state=7)[0]
    return np.column_stack([sheet, sheet[:, 0] * sheet[:, 2], sheet @ rng.normal(size=(3, 9))])


def torus():
    """Return the surface of a torus and the squares of its coordinates, turned, with some noise."""
    rng = np.random.RandomState(8)
    u, v = rng.uniform(0, 2 * math.pi, size=(2, 2000))
    radius = 2 + np.cos(v)
    surface = np.column_stack([radius * np.cos(u), radius * np.sin(u), np.sin(v)])
    rows = np.column_stack([surface, surface**2]) @ rng.normal(size=(6, 12))
    return rows + 0.05 * rng.normal(size=rows.shape)


def waves():
    """Return sine waves of any frequency, phase and height, 64 samples of each."""
    rng = np.random.RandomState(9)
    frequency, phase, height = rng.uniform((1, 0, 0.5), (3, 2 * math.pi, 2), size=(6000, 3)).T
    angles = 2 * math.pi * np.outer(frequency, np.linspace(0, 1, 64)) + phase[:, None]
    return height[:, None] * np.sin(angles) + 0.1 * rng.normal(size=angles.shape)


def clusters():
    """Return fifteen balls in 16 features."""
    return make_blobs(2000, 16, centers=15, cluster_std=1.5, random_state=3)[0]


def heavy_tails():
    """Return three latent variables with tails of Student's t (2.5 degrees), bent and noisy."""
    rng = np.random.RandomState(4)
    latent = rng.standard_t(2.5, size=(20000, 3))
    bent = np.abs(latent @ rng.normal(size=(3, 10)))
    return latent @ rng.normal(size=(3, 10)) + bent + 0.3 * rng.standard_t(2.5, size=(20000, 10))


def manifold():
    """Return a smooth manifold of five dimensions in 30 features: many rows, some noise."""
    rng = np.random.RandomState(5)
    latent = rng.normal(size=(100_000, 5))
    bent = np.tanh(latent @ rng.normal(size=(5, 40)) + rng.normal(size=40))
    return bent @ rng.normal(size=(40, 30)) / math.sqrt(40) + 0.2 * rng.normal(size=(100_000, 30))


def patches(size=8):
    """Return all patches of two grey photographs; none overlaps another."""
    rows = []
    for image in load_sample_images().images:
        grey = image.mean(axis=2) / 255
        height, width = (length // size for length in grey.shape)
        tiles = grey[: height * size, : width * size].reshape(height, size, width, size)
        rows.append(tiles.swapaxes(1, 2).reshape(-1, size * size))
    return np.concatenate(rows)


def spots():
    """Return images of 28 x 28 pixels: one spot each, of any place, width, length and angle."""
    rng = np.random.RandomState(6)
    n = 4000
    x0, y0 = rng.uniform(8, 20, size=(2, n, 1, 1))
    angle = rng.uniform(0, math.pi, size=(n, 1, 1))
    long, short = rng.uniform(3, 6, size=(n, 1, 1)), rng.uniform(1.5, 3, size=(n, 1, 1))
    y, x = np.mgrid[:28, :28]
    along = (x - x0) * np.cos(angle) + (y - y0) * np.sin(angle)
    across = (y - y0) * np.cos(angle) - (x - x0) * np.sin(angle)
    images = np.exp(-np.square(along / long) / 2 - np.square(across / short) / 2)
    return (images + 0.05 * rng.normal(size=images.shape)).reshape(n, 784)


# Name: rows, and number of components.
DATA_SETS = {
    "iris": (lambda: scale(load_iris().data), 2),
    "wine": (lambda: scale(load_wine().data), 2),
    "diabetes": (lambda: scale(load_diabetes().data), 2),
    "cancer": (lambda: scale(load_breast_cancer().data), 8),
    "gaussian": (gaussian, 8),
    "digits2": (lambda: scale(load_digits().data), 2),
    "digits8": (lambda: load_digits().data, 8),
    "clusters": (clusters, 3),
    "roll": (swiss_roll, 2),
    "s_curve": (s_curve, 2),
    "torus": (torus, 2),
    "waves": (waves, 3),
    "spots": (spots, 16),
    "factors": (factors, 10),
    "patches": (patches, 8),
    "tails": (heavy_tails, 3),
    "manifold": (manifold, 5),
}
PEERS = ("plain", "mlp", "skorch")


def r2(X, X_hat):
    """Return R² of rows in units, whose mean training row is zero."""
    return 1 - np.square(X - X_hat).sum() / np.square(X).sum()


def fit_pca(X, X_test, k, seed):
    pca = PCA(k, random_state=seed).fit(X)
    return r2(X_test, pca.inverse_transform(pca.transform(X_test)))


def network(n_features, k):
    widths = (n_features, 128), (128, k), (k, 128), (128, n_features)
    first, code, second, last = (nn.Linear(*sizes) for sizes in widths)
    return nn.Sequential(first, nn.ReLU(), code, second, nn.ReLU(), last)


def fit_plain(X, X_test, k, seed):
    torch.manual_seed(seed)
    rows, net = torch.from_numpy(X), network(X.shape[1], k)
    adam = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    for _ in range(200):
        for batch in torch.randperm(len(rows)).split(128):
            x = rows[batch]
            adam.zero_grad()
            nn.functional.mse_loss(net(x), x).backward()
            adam.step()
    with torch.no_grad():
        return r2(X_test, net(torch.from_numpy(X_test)).numpy())


def fit_mlp(X, X_test, k, seed):
    model = MLPRegressor(
        hidden_layer_sizes=(128, k, 128), early_stopping=True, random_state=seed
    ).fit(X, X)
    return r2(X_test, model.predict(X_test))


def fit_skorch(X, X_test, k, seed):
    torch.manual_seed(seed)
    net = NeuralNetRegressor(
        network(X.shape[1], k),
        optimizer=torch.optim.Adam,
        lr=1e-3,
        batch_size=128,
        max_epochs=20,
        verbose=0,
    )
    return r2(X_test, net.fit(X, X).predict(X_test))


class Course(Callback):
    """Held-out R² and seconds at the end of each epoch, without the seconds this takes itself."""

    def __init__(self, X_test):
        self.X_test = X_test

    def begin(self):
        self.start, self.own, self.course = time.perf_counter(), 0.0, []

    def on_train_begin(self, net, **kwargs):
        self.look(net)  # a peer worse than PCA is passed before the first step

    def on_epoch_end(self, net, **kwargs):
        self.look(net)

    def look(self, net):
        now = time.perf_counter()
        module = net.module_
        training = module.training
        module.eval()
        with torch.no_grad():
            chunks = [module(rows) for rows in torch.from_numpy(self.X_test).split(4096)]
        score = r2(self.X_test, torch.cat(chunks).numpy())
        module.train(training)
        self.course.append((round(now - self.start - self.own, 4), round(float(score), 5)))
        self.own += time.perf_counter() - now


def fit_skae(X, X_test, k, seed, parameters):
    # X is in units already: the fit finds mean 0 and scale 1 but for rounding
    course = Course(X_test)
    model = AutoencoderTransformer(k, random_state=seed, **parameters)
    # small tables are judged in folds, but not with a callback; what they keep is known at the end
    is_watched = len(X) >= 1000
    if is_watched:
        model.set_params(callbacks=[course])
    course.begin()
    model.fit(X)
    seconds = time.perf_counter() - course.start - course.own
    if not is_watched:
        course.look(model.net_)
    return (
        model.score(X_test),
        seconds,
        {"course": course.course, "epochs": model.n_iter_, "kept": model.best_iter_},
    )


def one_fit(method, X, k, seed, parameters):
    X, X_test = train_test_split(X, test_size=0.25, random_state=seed)
    mean = X.mean(axis=0)
    unit = math.sqrt(np.square(X - mean).mean())
    X, X_test = (((rows - mean) / unit).astype(np.float32) for rows in (X, X_test))
    more = {}
    start = time.perf_counter()
    if method == "skae":
        score, seconds, more = fit_skae(X, X_test, k, seed, parameters)
    else:
        fit = {"pca": fit_pca, "plain": fit_plain, "mlp": fit_mlp, "skorch": fit_skorch}[method]
        score = fit(X, X_test, k, seed)
        seconds = time.perf_counter() - start  # with one pass over the held-out rows
    return {"r2": float(score), "seconds": round(seconds, 4), **more}


class Fits(dict):
    """Results of fits by key, which a file keeps, with a line for each, if there is one."""

    def __init__(self, path=None):
        lines = path.read_text().splitlines() if path and path.exists() else []
        super().__init__((tuple(fit["key"]), fit) for fit in map(json.loads, lines))
        self.path = path

    def __setitem__(self, key, fit):
        super().__setitem__(key, fit)
        if self.path:
            with self.path.open("a") as file:
                print(json.dumps({"key": key, **fit}), file=file)


def reached(course, score):
    """Return the seconds after which a course has a score; infinity if it never has."""
    return next((seconds for seconds, r2 in course if r2 >= score), math.inf)


def table_row(name, fits):
    """Return a line of the table; ``fits`` are by method and seed."""
    seeds = sorted(fits["skae"])
    of = {m: np.array([fits[m][s]["r2"] for s in seeds]) for m in ("pca", "skae")}
    # the seeds that all peers have, where the work is not done yet
    shared = [s for s in seeds if all(s in fits.get(m, {}) for m in PEERS)]
    line = f"{name:9s} {len(seeds):5d}  {of['pca'].mean():5.3f}"
    gain = of["skae"] - of["pca"]
    if not shared:
        return line + f"  {of['skae'].mean():5.3f}  {gain.min():+.4f}"
    best = max(PEERS, key=lambda m: np.mean([fits[m][s]["r2"] for s in shared]))
    peer = np.array([fits[best][s]["r2"] for s in shared])
    seconds = np.array([fits[best][s]["seconds"] for s in shared])
    skae = [fits["skae"][s] for s in shared]
    to_peer = np.array([fit["r2"] for fit in skae]) - peer
    line += (
        f"  {best:6s} {peer.mean():6.3f}  {of['skae'].mean():5.3f}  {gain.min():+.4f}"
        f"  {to_peer.mean():+.4f}  {to_peer.min():+.4f}  {seconds.mean():7.2f}"
    )
    whole = np.mean([fit["seconds"] for fit in skae])
    if peer.mean() <= np.mean([fits["pca"][s]["r2"] for s in shared]):
        return line + f"        -  {whole:6.2f}      -      -"
    until = np.array([reached(fit["course"], r) for fit, r in zip(skae, peer, strict=True)])
    return line + (
        f"  {np.median(until):7.2f}  {whole:6.2f}  {np.median(seconds / until):5.1f}"
        f"   {np.isfinite(until).sum():2d}/{len(shared)}"
    )


def main(data_sets=DATA_SETS, doc=__doc__):
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("--data", nargs="+", default=list(data_sets), choices=data_sets)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(7)))
    methods = ["pca", *PEERS, "skae"]
    parser.add_argument("--methods", nargs="*", default=methods, choices=methods)
    parser.add_argument("--set", action="append", default=[], metavar="PARAMETER=VALUE")
    parser.add_argument("--label", default="", help="another name for skae's fits in the file")
    parser.add_argument("--results", type=Path, help="file of fits, which grows")
    arguments = parser.parse_args()
    parameters = parsed(arguments.set)
    variant = " ".join([arguments.label, *sorted(arguments.set)]).strip()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)
    # MLPRegressor's R² divides by the variance of pixels that hardly vary
    warnings.filterwarnings("ignore", "overflow encountered in divide", RuntimeWarning)

    done = Fits(arguments.results)
    print(
        "data      seeds    PCA  best peer R²    skae  to PCA   to peer  worst    peer's"
        "   skae's   whole  times  reached",
        flush=True,
    )
    for name in arguments.data:
        load, k = data_sets[name]
        X = None
        fits = {}
        for seed in arguments.seeds:
            for method in methods:
                key = name, seed, method, variant if method == "skae" else ""
                if key not in done and method in arguments.methods:
                    X = load() if X is None else X
                    done[key] = one_fit(method, X, k, seed, parameters)
                if key in done:
                    fits.setdefault(method, {})[seed] = done[key]
        if "skae" in fits and "pca" in fits:
            print(table_row(name, fits), flush=True)


if __name__ == "__main__":
    main()
