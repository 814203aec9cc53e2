"""
The textbook autoencoder
========================

Courses and textbooks mostly show one autoencoder: hidden layers of rectified linear units, a
logistic output for data in [0, 1], squared error or cross-entropy, and Adam. Here it is put
together from the parameters of the estimator, and is compared with PCA on images of handwritten
digits.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer

torch.set_num_threads(1)

# %%
# Data between 0 and 1
# --------------------
# Pixels have the values 0 to 16. A logistic output needs them between 0 and 1.

X_train, X_test = train_test_split(load_digits().data / 16, random_state=0)

# %%
# The parts
# ---------
# An output through a logistic function cannot start as PCA. So the linear skip is left out, and
# the weights start as Glorot and Bengio draw them. ``alpha=0`` leaves the weights without penalty.
# Early stopping stays on, as it is by default.

TEXTBOOK = {
    "linear_skip": False,
    "init": "glorot_uniform",
    "activation": "relu",
    "output_activation": "logistic",
    "alpha": 0,
    "optimizer": "adam",
    "learning_rate_init": 1e-3,
    "random_state": 0,
}


def models(k):
    return {
        "PCA": PCA(k),
        "squared error": AutoencoderTransformer(k, **TEXTBOOK),
        "cross-entropy": AutoencoderTransformer(k, loss="binary_cross_entropy", **TEXTBOOK),
        "default": AutoencoderTransformer(k, random_state=0),
    }


# %%
# How far reconstructions are
# ---------------------------
# Textbooks often report the mean over rows of the distance ‖x − x̂‖₂. The last column is the
# estimator with its defaults, which starts at PCA.


def restored(model):
    return model.inverse_transform(model.transform(X_test))


def distance(X_hat):
    return np.linalg.norm(X_test - X_hat, axis=1).mean()


print("Mean distance between held-out images and their reconstructions")
print(" k     PCA   textbook, squared error   textbook, cross-entropy   default")
reconstructions = {}
for k in (2, 8, 16):
    reconstructions[k] = {name: restored(model.fit(X_train)) for name, model in models(k).items()}
    pca, squared, entropy, default = map(distance, reconstructions[k].values())
    print(f"{k:2d}   {pca:.3f}   {squared:23.3f}   {entropy:23.3f}   {default:7.3f}")

# %%
# What the logistic is for
# ------------------------
# It keeps every pixel between 0 and 1. A model with a linear output can leave that range. The
# cross-entropy is the loss that one of the two textbook models was trained for, so it is shown too.
# For it values are clipped, and a millionth outside the range is taken as rounding.


def cross_entropy(X_hat):
    p = np.clip(X_hat, 1e-3, 1 - 1e-3)
    return -(X_test * np.log(p) + (1 - X_test) * np.log(1 - p)).mean()


print("\nk = 8             pixels outside [0, 1]   cross-entropy per pixel")
for name, X_hat in reconstructions[8].items():
    outside = ((X_hat < -1e-6) | (X_hat > 1 + 1e-6)).mean()
    print(f"{name:13s}   {outside:23.1%}   {cross_entropy(X_hat):23.3f}")

# %%
# Some of the images
# ------------------
# One image per column, reduced to 8 numbers and restored.

rows = {"original": X_test, **reconstructions[8]}
figure, axes = plt.subplots(len(rows), 9, figsize=(6.5, 4), layout="constrained")
for row, (name, images) in zip(axes, rows.items(), strict=True):
    for ax, image in zip(row, images, strict=False):
        ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(name, rotation=0, ha="right", va="center")
plt.show()
