"""
Compressing patches of a photograph
===================================

A photograph is cut into patches of 8 by 8 pixels, as JPEG does, and each patch is reduced to a few
numbers. To be stored these must be rounded. Coarser rounding costs fewer bits and more error. Here
PCA and an autoencoder are compared by the error at a given number of bits per pixel.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_sample_image
from sklearn.decomposition import PCA
from sklearn.feature_extraction.image import extract_patches_2d

from skae import AutoencoderTransformer

torch.set_num_threads(1)

# %%
# Patches to learn from, patches to compress
# ------------------------------------------
# One photograph is cut into bands 32 pixels high. Every other band is for training, with patches
# from anywhere in it. The patches to compress do not overlap; they are from the bands between, and
# from another photograph.

SIDE, BAND = 8, 32


def grey(name):
    return load_sample_image(name) @ [0.299, 0.587, 0.114]


def tiles(image):
    height, width = (n // SIDE for n in image.shape)
    image = image[: height * SIDE, : width * SIDE].reshape(height, SIDE, width, SIDE)
    return image.swapaxes(1, 2).reshape(-1, SIDE**2)


china = grey("china.jpg")
bands = [china[top : top + BAND] for top in range(0, len(china) - BAND + 1, BAND)]
X_train = np.concatenate(
    [
        extract_patches_2d(band, (SIDE, SIDE), max_patches=4000, random_state=i)
        for i, band in enumerate(bands[::2])
    ]
).reshape(-1, SIDE**2)
tests = {
    "same photograph": np.concatenate([tiles(band) for band in bands[1::2]]),
    "other photograph": tiles(grey("flower.jpg")),
}

# %%
# Bits and error
# --------------
# All components of a model are rounded to multiples of one step, a fraction of the root mean square
# of the deviations of its training codes. The number of bits is the empirical entropy of each
# rounded component, summed over components. It is what an ideal entropy coder would need that knows
# these frequencies; storing the model itself is not counted.

STEPS = (1.0, 0.5, 0.25, 0.125)


def entropy(values):
    counts = np.unique(values, return_counts=True)[1]
    shares = counts / len(values)
    return -(shares * np.log2(shares)).sum()


def psnr(X, X_hat):
    return 10 * np.log10(255**2 / ((X - X_hat.clip(0, 255)) ** 2).mean())


def curve(model, X):
    codes = model.transform(X)
    unit = np.sqrt(model.explained_variance_.mean())
    points = []
    for step in STEPS:  # from few bits to many
        rounded = np.round(codes / (step * unit))
        bits = sum(entropy(column) for column in rounded.T) / SIDE**2
        points.append((bits, psnr(X, model.inverse_transform(rounded * step * unit))))
    return points


def unrounded(model, X):
    return psnr(X, model.inverse_transform(model.transform(X)))


# %%
# The table
# ---------
# A line is one size of the code and one step; "none" is without rounding. The weights have no
# penalty, as there are many patches, and training has some patience. Where the two columns are
# equal, no epoch was better than PCA on held-out patches by more than luck, and PCA was kept.

curves = {}
print(f"{len(X_train)} training patches; bits per pixel, and peak signal-to-noise ratio in dB")
print(" " * 32 + "PCA         autoencoder")
for k in (2, 4, 8):
    models = {
        "PCA": PCA(k).fit(X_train),
        "autoencoder": AutoencoderTransformer(
            k, alpha=0, max_iter=60, n_iter_no_change=20, random_state=0
        ).fit(X_train),
    }
    for test, X in tests.items():
        for name, model in models.items():
            curves[test, name, k] = curve(model, X)
        pairs = [curves[test, name, k] for name in models]
        for step, *points in zip(STEPS, *pairs, strict=True):
            numbers = "   ".join(f"{bits:6.3f} {decibels:6.2f}" for bits, decibels in points)
            print(f"{test:16s}  k = {k:2d}  {step:5g}  {numbers}")
        numbers = "   ".join(f"       {unrounded(model, X):6.2f}" for model in models.values())
        print(f"{test:16s}  k = {k:2d}   none  {numbers}")

# %%
# At the same number of bits
# --------------------------
# Models are fairly compared at equal cost. Between two steps the ratio is interpolated, and the
# size of the code is the best one for each budget.


def best(test, name, budget):
    return max(
        np.interp(budget, *zip(*points, strict=True), left=-np.inf)
        for (of_test, of_name, _), points in curves.items()
        if (of_test, of_name) == (test, name)
    )


print("\nWith the best k: bits per pixel    PCA   autoencoder")
for test in tests:
    for budget in (0.08, 0.12, 0.16, 0.2):
        decibels = [best(test, name, budget) for name in models]
        print(f"{test:16s}  {budget:14.2f}  {decibels[0]:5.2f}   {decibels[1]:11.2f}")

# %%
# Curves to the upper left are better. A larger code with a coarser step can be better than a
# smaller one with a finer step, for either model: components that are mostly rounded to zero cost
# few bits. For PCA equal steps are nearly the best that can be done. The autoencoder was trained
# for codes that are not rounded, so what it gains without rounding may be lost with it.

figure, axes = plt.subplots(1, 2, figsize=(7, 4), layout="constrained")
for ax, test in zip(axes, tests, strict=True):
    for colour, k in enumerate((2, 4, 8)):
        for name, line in (("PCA", "s--"), ("autoencoder", "o-")):
            bits, decibels = zip(*curves[test, name, k], strict=True)
            label = f"{name}, k = {k}"
            ax.plot(bits, decibels, line, color=f"C{colour}", markersize=4, label=label)
    ax.set(title=test, xlabel="bits per pixel", ylabel="PSNR in dB")
axes[0].legend(fontsize="small")
plt.show()
