"""
Codes as features of a classifier
=================================

A table is reduced to a few numbers per row, and a logistic regression is trained on those. The
numbers are codes of an autoencoder, components of PCA, or all features as they are. Neither
reduction sees the labels, so nothing makes a code that restores rows well also tell classes apart
well: here that is measured, by cross-validation of the whole pipeline.
"""

import time

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer

# One thread is enough for networks of this size, and undisturbed by whatever else is running.
torch.set_num_threads(1)

# %%
# The pipelines
# -------------
# Pixels share one unit and go into the reduction as they are; the measurements of the breast cancer
# table do not and are standardised first. Codes are standardised for the classifier, whose penalty
# depends on their scale. The autoencoder has its defaults, apart from fewer epochs.

tables = {
    "digits": (load_digits(return_X_y=True), []),
    "breast cancer": (load_breast_cancer(return_X_y=True), [StandardScaler()]),
}
reductions = {
    "PCA": lambda k: PCA(k, random_state=0),
    "autoencoder": lambda k: AutoencoderTransformer(k, max_iter=30, random_state=0),
}
sizes = (2, 4, 8, 16)
folds = StratifiedKFold(5, shuffle=True, random_state=0)


def accuracies(steps, X, y):
    classifier = LogisticRegression(max_iter=1000)
    return cross_val_score(make_pipeline(*steps, StandardScaler(), classifier), X, y, cv=folds)


# %%
# The accuracies
# --------------
# All pipelines are judged on the same five folds, so the gain of one over another is a paired
# difference. It is given with its standard deviation over the folds: a mean that is small beside it
# says little about which one is better. A gain of exactly 0 in all folds means that no epoch of
# training beat the start on held-out rows, so that PCA was kept.


def percent(values):
    return f"{100 * values.mean():6.1f} ± {100 * values.std(ddof=1):4.1f}"


results = {}
for table, ((X, y), first) in tables.items():
    raw = accuracies(first, X, y)
    print(f"{table}: {X.shape[0]} rows, {X.shape[1]} features")
    print(f"Accuracy in per cent, mean and deviation over folds; all features: {percent(raw)}")
    print(" k            PCA    autoencoder           gain   seconds")
    results[table] = {"all features": raw, **{name: [] for name in reductions}}
    for k in sizes:
        start = time.perf_counter()
        pca, codes = (accuracies([*first, make(k)], X, y) for make in reductions.values())
        seconds = time.perf_counter() - start
        print(f"{k:2d}  {percent(pca)}  {percent(codes)}  {percent(codes - pca)}   {seconds:7.1f}")
        results[table]["PCA"].append(pca)
        results[table]["autoencoder"].append(codes)
    print()

# %%
# The picture
# -----------
# Bars and band are a standard deviation over the folds up and down.

figure, axes = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained")
for ax, (table, result) in zip(axes, results.items(), strict=True):
    raw = result["all features"]
    ax.axhspan(raw.mean() - raw.std(ddof=1), raw.mean() + raw.std(ddof=1), color="0.88")
    ax.axhline(raw.mean(), color="0.4", linestyle="--", label="all features")
    for name, shift, marker in (("PCA", 0.96, "s"), ("autoencoder", 1.04, "o")):
        ax.errorbar(
            [k * shift for k in sizes],
            [values.mean() for values in result[name]],
            [values.std(ddof=1) for values in result[name]],
            marker=marker,
            capsize=3,
            label=name,
        )
    ax.set_xscale("log", base=2)
    ax.set_xticks(sizes, sizes)
    ax.set(title=table, xlabel="number of components")
axes[0].set_ylabel("cross-validated accuracy")
axes[0].legend(loc="lower right")
plt.show()
