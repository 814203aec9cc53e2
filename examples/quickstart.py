"""
The digits in a few numbers
===========================

Images of handwritten digits, 64 pixels each, are reduced to 2, 4, 8 and 16 numbers by PCA and by an
autoencoder, and restored. The autoencoder's widths and penalty are chosen by a grid search first,
as for any other estimator in a pipeline.

    python examples/quickstart.py [FILE.png]

prints the share of held-out variance that survives, and draws both maps of the digits.
"""

import sys
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.feature_selection import VarianceThreshold
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline

from skae import AutoencoderTransformer

# One thread is enough for networks of this size, and undisturbed by whatever else is running.
torch.set_num_threads(1)

# %%
# A pipeline and a grid search
# ----------------------------
# Pixels that never change are dropped; the others share one unit, so they are not standardised.
# ``score`` is R², as of a regressor, so the search needs no scorer of its own.

digits = load_digits()
X_train, X_test, y_train, y_test = train_test_split(digits.data, digits.target, random_state=0)

pipeline = make_pipeline(
    VarianceThreshold(), AutoencoderTransformer(n_components=8, max_iter=60, random_state=0)
)
grid = {
    "autoencodertransformer__hidden_layer_sizes": [(64,), (128,)],
    "autoencodertransformer__alpha": [1e-4, 1e-2],
}
search = GridSearchCV(pipeline, grid, cv=3).fit(X_train)
print("The best of the grid, by cross-validated R²:")
for name, value in search.best_params_.items():
    print(f"    {name} = {value}")
print(f"    R² = {search.best_score_:.3f}\n")

# %%
# How much survives
# -----------------


def fitted(estimator):
    start = time.perf_counter()
    estimator.fit(X_train)
    return estimator, time.perf_counter() - start


def r2(model):
    error = X_test - model.inverse_transform(model.transform(X_test))
    return 1 - (error**2).sum() / ((X_test - X_train.mean(axis=0)) ** 2).sum()


print("Held-out R², and seconds to fit")
print(" k    PCA   seconds    autoencoder   seconds")
models = {}
for k in (2, 4, 8, 16):
    pca, pca_seconds = fitted(make_pipeline(VarianceThreshold(), PCA(k)))
    autoencoder, seconds = fitted(
        clone(search.best_estimator_).set_params(
            autoencodertransformer__n_components=k, autoencodertransformer__max_iter=200
        )
    )
    print(f"{k:2d}   {r2(pca):.3f}  {pca_seconds:7.3f}", end="       ")
    print(f"{r2(autoencoder):.3f}      {seconds:7.3f}")
    models[k] = {"PCA": pca, "autoencoder": autoencoder}

# %%
# Two maps of the same digits
# ---------------------------

figure, axes = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
for ax, (name, model) in zip(axes, models[2].items(), strict=True):
    codes = model.transform(X_test)
    points = ax.scatter(*codes.T, c=y_test, cmap="tab10", vmin=-0.5, vmax=9.5, s=14)
    ax.set(title=f"{name}, R² = {r2(model):.2f}", xlabel="component 1", ylabel="component 2")
figure.colorbar(points, ax=axes, ticks=range(10), label="digit")
path = Path(sys.argv[1] if len(sys.argv) > 1 else "output/quickstart.png")
path.parent.mkdir(parents=True, exist_ok=True)
figure.savefig(path, dpi=110)
print(f"\nThe maps are in {path}")
