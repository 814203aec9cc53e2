"""
New digits
==========

An autoencoder is fitted to images of handwritten digits. A Gaussian mixture is fitted to their
codes, which ``fit`` does by itself, and new codes drawn from it are decoded: that is ``sample``. It
is done with the default penalty on weights and with ``penalty="kl"``, the variational autoencoder.
The baseline is the same mixture on the codes of PCA.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import pairwise_distances
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer

# One thread is enough for networks of this size, and undisturbed by whatever else is running.
torch.set_num_threads(1)

# %%
# The models
# ----------
# One half of the digits is for training, the other is what new digits are compared with. As both
# have about as many rows, and as many are sampled, nearest distances can be compared.
#
# The weight of the variational penalty is a choice. A larger one makes the code of each image a
# wider cloud: fewer details are kept, and fewer places between the clouds are left empty.
#
# A tenth of the rows is held out. By default so few would be judged in folds, which takes longer.

digits = load_digits()
X_train, X_test, y_train, y_test = train_test_split(
    digits.data, digits.target, test_size=0.5, stratify=digits.target, random_state=0
)
penalties = {
    "default penalty": {},
    "kl, alpha=1e-4": {"penalty": "kl"},
    "kl, alpha=1e-2": {"penalty": "kl", "alpha": 1e-2},
}


def clipped(X):
    return np.clip(X, 0, 16)


def new_digits(k):
    """Return the held-out R² and new digits of each model with a code of size k."""
    models = {
        name: AutoencoderTransformer(k, validation_fraction=0.1, random_state=0, **penalty).fit(
            X_train
        )
        for name, penalty in penalties.items()
    }
    pca = PCA(k, whiten=True, random_state=0).fit(X_train)
    mixture = clone(models["default penalty"].density_).fit(pca.transform(X_train))
    error = X_test - pca.inverse_transform(pca.transform(X_test))
    r2 = 1 - (error**2).sum() / ((X_test - pca.mean_) ** 2).sum()
    codes, _ = mixture.sample(len(X_train))
    codes = np.random.default_rng(0).permutation(codes)  # they come sorted by cluster
    made = {"PCA": (r2, clipped(pca.inverse_transform(codes)))}
    for name, model in models.items():
        new = model.sample(len(X_train), random_state=0)
        made[name] = model.score(X_test), clipped(new)
    return made


# %%
# How good are they?
# ------------------
# Three questions, each about the images alone, none about the model that made them:
#
# - *To real*: how far is a new digit from the nearest held-out one? Small is good, but blurred
#   images are near to many.
# - *From real*: how far is a held-out digit from the nearest new one? Small is good: all kinds of
#   digits occur. This is coverage.
# - *Sure*: how sure is a classifier of what a new digit is, by its largest probability? The
#   classifier is trained on the real digits of the training half.
#
# The row of real digits shows what can be hoped for. There the training rows take the place of the
# new ones, but the classifier, which knows those, sees the held-out ones. *Copied* guards against a
# model that repeats its training rows: it is the distance to the nearest training row, as a share
# of that to the nearest held-out row. Copies would have 0; images that are as new to one half as to
# the other have 1.

classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
classifier.fit(X_train, y_train)
print(f"The classifier's accuracy on held-out digits is {classifier.score(X_test, y_test):.3f}.\n")


def nearest(X, others):
    return pairwise_distances(X, others).min(axis=1).mean()


def sureness(X):
    return classifier.predict_proba(X).max(axis=1).mean()


def report(name, r2, new, sure, copied):
    to_real, from_real = nearest(new, X_test), nearest(X_test, new)
    print(f"{name:15s}  {r2}  {to_real:7.2f}  {from_real:9.2f}  {sure:5.3f}  {copied:>6s}")


sets = {}
for k in (8, 16):
    print(f"{k} components       R²  to real  from real   sure  copied")
    report("real digits", "    -", X_train, sureness(X_test), "-")
    sets[k] = new_digits(k)
    for name, (r2, new) in sets[k].items():
        copied = nearest(new, X_train) / nearest(new, X_test)
        report(name, f"{r2:5.3f}", new, sureness(new), f"{copied:.2f}")
    print()

# %%
# The digits
# ----------
# The first of each kind, not chosen.

k, n_columns = 8, 14
rows = {"held-out digits": X_test, **{name: new for name, (_, new) in sets[k].items()}}
figure, axes = plt.subplots(len(rows), 1, figsize=(8, 6.9), layout="constrained")
for ax, (name, images) in zip(axes, rows.items(), strict=True):
    first = images[: 2 * n_columns].reshape(2, n_columns, 8, 8)
    framed = np.pad(first, [(0, 0), (0, 0), (1, 1), (1, 1)])
    tiles = framed.transpose(0, 2, 1, 3).reshape(2 * 10, n_columns * 10)
    ax.imshow(tiles, cmap="gray_r", vmin=0, vmax=16)
    ax.set_title(name if name == "held-out digits" else f"{name}, {k} components", loc="left")
    ax.set_axis_off()
plt.show()
