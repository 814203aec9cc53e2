"""
Where training starts
=====================

A network has to start somewhere. By default an autoencoder starts at PCA; its weights can also be
drawn at random, in the ways that are in use for neural networks. All of them have a linear path
around the networks here, so that only the start differs.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer

# One thread is enough for networks of this size, and undisturbed by whatever else is running.
torch.set_num_threads(1)

# %%
# Seven starts
# ------------
# A seed decides which rows are held out, in which order rows come, and which weights are drawn. The
# held-out rows are the same for all starts of one seed. ``validation_scores_`` has their R² before
# training and after each epoch. Patience is as long as training, so that all curves are whole.
#
# The last column is the R² of rows that no fit has seen, of the weights that were kept: its mean
# and standard deviation over seeds, as a share of variance in per cent.

X_train, X_test = train_test_split(load_digits().data, test_size=0.25, random_state=0)
k, n_epochs, seeds = 8, 40, range(3)
inits = (
    "pca",
    "random",
    "glorot_uniform",
    "glorot_normal",
    "he_uniform",
    "he_normal",
    "orthogonal",
)
epochs = (0, 5, 10, 20, n_epochs)


def autoencoder(n_components=k, **params):
    params = {"max_iter": n_epochs, "n_iter_no_change": n_epochs, "random_state": 0, **params}
    return AutoencoderTransformer(n_components, **params)


print(f"Held-out R² in per cent, mean over {len(seeds)} seeds, after so many epochs")
print(f"{'init':14s}" + "".join(f"{epoch:8d}" for epoch in epochs) + "     unseen rows")
curves, unseen = {}, {}
for init in inits:
    models = [autoencoder(init=init, random_state=seed).fit(X_train) for seed in seeds]
    curves[init] = 100 * np.array([model.validation_scores_ for model in models])
    unseen[init] = 100 * np.array([model.score(X_test) for model in models])
    means = curves[init].mean(axis=0)
    print(f"{init:14s}" + "".join(f"{means[epoch]:8.1f}" for epoch in epochs), end="")
    print(f"    {unseen[init].mean():5.1f} ± {unseen[init].std(ddof=1):.1f}")

# %%
# How far ahead is the start at PCA? These are the epochs after which the mean curve of each other
# start has reached the value that PCA's has after ten.

goal = curves["pca"].mean(axis=0)[10]
print(f"\nEpochs to a held-out R² of {goal:.1f} per cent (PCA's after 10)")
for init in inits[1:]:
    (reached,) = np.nonzero(curves[init].mean(axis=0) >= goal)
    print(f"{init:14s} {reached[0] if len(reached) else f'more than {n_epochs}'}")

# %%
# Does the lead last? Here three starts have the default epochs and patience.

print("\nTrained for longer, one seed: R² of unseen rows in per cent")
for init in ("pca", "glorot_uniform", "he_normal"):
    model = AutoencoderTransformer(k, init=init, random_state=0).fit(X_train)
    print(f"{init:14s} {100 * model.score(X_test):5.1f} after {model.n_iter_} epochs")

# %%
# The best of several
# -------------------
# With ``n_init`` a fit keeps the best of several starts on its held-out rows; ``init_scores_`` has
# the scores of all. From PCA only the hidden units, whose outputs start at zero, and the order of
# rows are drawn anew.

print("\nFour starts in one fit: held-out R² of each, then unseen rows, in per cent")
for init in ("pca", "glorot_uniform"):
    start = time.perf_counter()
    model = autoencoder(init=init, n_init=4).fit(X_train)
    seconds = time.perf_counter() - start
    scores = "  ".join(f"{100 * score:.1f}" for score in model.init_scores_)
    print(f"{init:14s}  {scores}   {100 * model.score(X_test):5.1f}   {seconds:.1f} seconds")

# %%
# A start at an earlier fit
# -------------------------
# A scanner is replaced: its images are blurred sideways, paler, and on a grey ground. Of those
# there are few, and they show other digits than the old ones. A fitted transformer as ``init``
# hands on its weights, its mean and its scale. It is compared with the old fit as it is, with PCA
# and with an autoencoder that starts at PCA, both of the few new images alone. Autoencoders here
# have the default epochs and patience, as few rows make few steps in an epoch.
#
# Where training brings no significant gain on held-out rows the start is kept. At PCA that is a
# sound thing to have; at the old fit it is a model of other data.


def rescanned(X):
    images = X.reshape(-1, 8, 8)
    blurred = (images + np.roll(images, 1, axis=2)) / 2
    return 2 + 0.7 * blurred.reshape(len(X), -1)


X_old, X_other = train_test_split(X_train, test_size=0.4, random_state=0)
X_new, X_new_test = rescanned(X_other), rescanned(X_test)
old = autoencoder().fit(X_old)


def r2(restored):
    error = np.square(X_new_test - restored).sum()
    return 100 * (1 - error / np.square(X_new_test - X_new.mean(axis=0)).sum())


numbers = (50, 100, 200, 400)
unchanged = r2(old.reconstruct(X_new_test))
tuning = {"PCA of the new": [], "start at PCA": [], "start at the old fit": []}
print("\nR² of unseen new images in per cent, by number of new images to learn from")
print(f"The old fit as it is: {unchanged:.1f}")
print("new images" + "".join(f"{name:>22s}" for name in tuning))
for n in numbers:
    pca = PCA(k, random_state=0).fit(X_new[:n])
    tuning["PCA of the new"].append(r2(pca.inverse_transform(pca.transform(X_new_test))))
    for name, init in (("start at PCA", "pca"), ("start at the old fit", old)):
        model = AutoencoderTransformer(k, init=init, random_state=0).fit(X_new[:n])
        tuning[name].append(r2(model.reconstruct(X_new_test)))
    print(f"{n:10d}" + "".join(f"{values[-1]:22.1f}" for values in tuning.values()))

# %%
# The picture
# -----------
# Left: the mean over seeds, and between the least and the largest; what is below the axis is worse
# than half of the variance. Right: the table above.

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.9), layout="constrained")
styles = ("-", "-", "--", ":", "-", "--", "-.")
for (init, curve), style in zip(curves.items(), styles, strict=True):
    (line,) = left.plot(curve.mean(axis=0), style, label=init)
    band = curve.min(axis=0), curve.max(axis=0)
    left.fill_between(range(n_epochs + 1), *band, color=line.get_color(), alpha=0.12)
left.set(xlabel="epoch", ylabel="held-out R², per cent", ylim=(50, 90), title="seven starts")
left.legend(fontsize="small", loc="lower right")
for (name, values), marker in zip(tuning.items(), "so^", strict=True):
    right.plot(numbers, values, marker=marker, label=name)
right.set_xscale("log", base=2)
right.set_xticks(numbers, numbers)
right.set(
    xlabel="number of new images", ylabel="R² of unseen new images, per cent", title="changed data"
)
right.legend(fontsize="small", loc="lower right")
plt.show()
