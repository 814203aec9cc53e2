"""
Paths of the penalties
======================

The weight ``alpha`` of a penalty trades how well rows are reconstructed for something that is
wanted of the model or of its codes. A path shows both as ``alpha`` grows. Here are the paths of all
five penalties on images of handwritten digits, reduced to 8 numbers.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer
from skae.penalties import Contractive

torch.set_num_threads(1)

X_train, X_test = train_test_split(load_digits().data, random_state=0)
pca = PCA(8).fit(X_train)
X_pca = pca.inverse_transform(pca.transform(X_test))
variance = ((X_test - pca.mean_) ** 2).sum()
r2_of_pca = 1 - ((X_test - X_pca) ** 2).sum() / variance

# %%
# Weights: ``l2`` and ``l1``
# --------------------------
# These press on the weights of the nonlinear branches and leave the linear paths free. As ``alpha``
# goes to infinity the branches vanish, and what is left is PCA. So the measure is how far the
# reconstructions are from those of PCA, as a share of the variance of the images.


def distance_from_pca(model):
    return ((model.reconstruct(X_test) - X_pca) ** 2).sum() / variance


# %%
# Sparse codes: ``activity_l1``
# -----------------------------
# This makes entries of the codes exactly zero. As ``alpha`` goes to infinity all of them are, and
# every image is restored as the same one. The measure is the share of zeros.


def sparsity(model):
    return model.code_sparsity_


# %%
# Codes that change little: ``contractive``
# -----------------------------------------
# This makes small changes of an image change its code little, relative to how much codes vary from
# image to image. As ``alpha`` goes to infinity the codes are chosen for that alone, and the decoder
# makes of them what it can. The measure is the penalty itself on held-out images: the mean squared
# Jacobian of the encoder, in units of the covariance of the codes.


def squared_jacobian(model):
    units = torch.tensor((X_test - model.mean_) / model.scale_, dtype=torch.float32)
    units.requires_grad_()
    return Contractive()(units, model.encoder_(units)).mean().item()


# %%
# Codes like a normal distribution: ``kl``
# ----------------------------------------
# This makes the autoencoder variational, and a code costs what it says about its image. As
# ``alpha`` goes to infinity codes say nothing, and every image is restored as the mean image. The
# measure is the number of active components: those whose variance over held-out images is more than
# a hundredth of the prior's, which is 1.


def active_components(model):
    return int((model.transform(X_test).var(axis=0) > 0.01).sum())


# %%
# The paths
# ---------
# For ``l2`` and ``l1`` early stopping judges by the error alone. For the other three the penalty is
# part of what is judged, so a penalised model can be kept although PCA has the smaller error.

PATHS = {
    "l2": (distance_from_pca, "change from PCA", (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)),
    "l1": (distance_from_pca, "change from PCA", (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)),
    "activity_l1": (sparsity, "zeros in codes", (1e-2, 1e-1, 1e0, 3e0, 1e1)),
    "contractive": (squared_jacobian, "squared Jacobian", (1e-4, 1e-3, 1e-2, 1e-1, 1e0)),
    "kl": (active_components, "active components", (1e-3, 1e-2, 3e-2, 1e-1, 3e-1)),
}

print(f"Held-out R² of PCA: {r2_of_pca:.3f}")
paths = {}
for penalty, (measure, what, alphas) in PATHS.items():
    print(f"\n{penalty:11s}   alpha   held-out R²   {what}")
    path = []
    for alpha in alphas:
        model = AutoencoderTransformer(
            8, penalty=penalty, alpha=alpha, max_iter=60, random_state=0
        ).fit(X_train)
        path.append((model.score(X_test), measure(model)))
        print(f"{alpha:19g}   {path[-1][0]:11.3f}   {path[-1][1]:{len(what)}.3g}")
    paths[penalty] = zip(*path, strict=True)

# %%
# The dashed lines are PCA with as many components.

figure, axes = plt.subplots(len(PATHS), 2, figsize=(6.5, 9.5), sharex="row", layout="constrained")
for row, (penalty, (_, what, alphas)) in zip(axes, PATHS.items(), strict=True):
    scores, sizes = paths[penalty]
    row[0].plot(alphas, scores, "o-")
    row[0].axhline(r2_of_pca, color="gray", linestyle="--", label="PCA")
    row[0].set(xscale="log", ylim=(-0.05, 1), ylabel="held-out R²", title=penalty)
    row[1].plot(alphas, sizes, "o-", color="C1")
    row[1].set(ylim=(0, 1.1 * max(sizes)), ylabel=what, title=penalty)
axes[-1, 1].set_yticks(range(0, 9, 2))
axes[0, 0].legend(loc="lower left")
for ax in axes[-1]:
    ax.set_xlabel("alpha")
plt.show()
