"""
Denoising images
================

An autoencoder that sees corrupted rows in training, and is asked for the clean ones, learns to
remove that corruption. Here two are trained on images of handwritten digits, one with noise and one
with missing pixels. They are compared with PCA, with an autoencoder that saw clean images only, and
with a median filter.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.ndimage import median_filter
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer

torch.set_num_threads(1)

# %%
# Two kinds of damage
# -------------------
# Normal noise with a standard deviation of 4, where pixels go from 0 to 16; and three in ten pixels
# lost. Those are NaN, which autoencoders take as it is. PCA and the median filter do not: they get
# the mean over the training images in their place.

NOISE = 4.0
LOST = 0.3

X_train, X_test = train_test_split(load_digits().data, random_state=0)
rng = np.random.default_rng(0)
damaged = {
    "noise": X_test + NOISE * rng.standard_normal(X_test.shape),
    "lost pixels": np.where(rng.random(X_test.shape) < LOST, np.nan, X_test),
}
complete = {kind: np.where(np.isnan(X), X_train.mean(axis=0), X) for kind, X in damaged.items()}

# %%
# Training with corruption
# ------------------------
# ``corruption_level`` of the noise is in units of ``scale_``, the root of the mean variance of the
# features. That of masking is the share of entries that are hidden, as if they were missing. Early
# stopping judges by how well held-out rows are restored from such corruption.

scale = np.sqrt(X_train.var(axis=0).mean())


def models(k):
    parameters = {"n_components": k, "random_state": 0}
    return {
        "PCA": PCA(k),
        "clean": AutoencoderTransformer(**parameters),
        "gaussian": AutoencoderTransformer(
            corruption="gaussian", corruption_level=NOISE / scale, **parameters
        ),
        "masking": AutoencoderTransformer(
            corruption="masking", corruption_level=LOST, **parameters
        ),
    }


# %%
# How well images are restored
# ----------------------------


def psnr(X_hat):
    return 10 * np.log10(16**2 / ((X_hat - X_test) ** 2).mean())


def row(name, images):
    return f"{name:32s}" + "".join(f"{psnr(X_hat):14.2f}" for X_hat in images.values())


def filtered(X):
    return median_filter(X.reshape(-1, 8, 8), size=(1, 3, 3)).reshape(X.shape)


print("Peak signal-to-noise ratio of held-out images, in dB")
print(" " * 32 + "".join(f"{name:>14s}" for name in damaged))
print(row("as they are", complete))
by_median = {name: filtered(X) for name, X in complete.items()}
print(row("median filter, 3 by 3", by_median))
restored = {}
for k in (16, 32):
    for name, model in models(k).items():
        model.fit(X_train)
        seen = complete if name == "PCA" else damaged
        restored[name, k] = {
            kind: model.inverse_transform(model.transform(X)) for kind, X in seen.items()
        }
        title = "PCA" if name == "PCA" else f"autoencoder, {name}"
        print(row(f"{title}, k = {k}", restored[name, k]))

# %%
# Some of the images
# ------------------
# Above the damage is noise, below it is lost pixels, in blue. Each autoencoder was trained with the
# damage that it meets. Of the two sizes of the code the better one is shown, for PCA too.


def better(name, kind):
    return max((restored[name, k][kind] for k in (16, 32)), key=psnr)


columns = {"noise": "gaussian", "lost pixels": "masking"}
gray = plt.get_cmap("gray_r").with_extremes(bad="tab:blue")
figure, axes = plt.subplots(10, 10, figsize=(6.5, 7), layout="constrained")
for half, (kind, corruption) in zip((axes[:5], axes[5:]), columns.items(), strict=True):
    shown = {
        "original": X_test,
        kind: damaged[kind],
        "median": by_median[kind],
        "PCA": better("PCA", kind),
        "autoencoder": better(corruption, kind),
    }
    for line, (name, images) in zip(half, shown.items(), strict=True):
        for ax, image in zip(line, images, strict=False):
            ax.imshow(image.reshape(8, 8), cmap=gray, vmin=0, vmax=16)
            ax.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
plt.show()
