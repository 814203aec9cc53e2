"""
Displays of a fitted autoencoder
================================

How was it trained, where are its codes, what does it reconstruct, how much does each component
explain, and what does it do? Five displays answer, in the form of scikit-learn's: they take a
fitted estimator, draw, and keep what they have drawn. Here they are of images of handwritten
digits.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer
from skae.plotting import (
    ExplainedVarianceDisplay,
    LatentSpaceDisplay,
    LatentTraversalDisplay,
    LossCurveDisplay,
    ReconstructionDisplay,
)

# One thread is enough for networks of this size, and undisturbed by whatever else is running.
torch.set_num_threads(1)

digits = load_digits()
X_train, X_test, y_train, y_test = train_test_split(digits.data, digits.target, random_state=0)
autoencoder = AutoencoderTransformer(n_components=4, random_state=0).fit(X_train)
print(f"Held-out R²: {autoencoder.score(X_test):.3f} with 4 components")

# %%
# How it was trained
# ------------------
# Training loss and held-out R² are in different units, and so in two axes. The held-out R² begins
# at that of PCA; the epoch is marked whose weights were kept.

_ = LossCurveDisplay.from_estimator(autoencoder)

# %%
# Where the codes are
# -------------------
# Images that training has not seen, coloured by a target that it has not seen either. Each pair of
# components is a picture; ``components=`` chooses others than the first four.

_ = LatentSpaceDisplay.from_estimator(autoencoder, X_test, y_test, y_name="Digit")

# %%
# What is reconstructed
# ---------------------
# Beside PCA with as many components, that of the training rows. Without ``image_shape=`` rows are
# drawn as profiles over the features.

_ = ReconstructionDisplay.from_estimator(autoencoder, X_test, image_shape=(8, 8))

# %%
# How much each component explains
# --------------------------------
# Of held-out images. The first components of an autoencoder need the others more than those of PCA
# do, as all were trained together; it is the last value that counts, the R² of the whole code.

display = ExplainedVarianceDisplay.from_estimator(autoencoder, X_test)
print(f"Held-out R² of PCA: {display.pca_scores[-1]:.3f}")

# %%
# What each component does
# ------------------------
# Codes on the way along each component, two standard deviations to both sides, are decoded. The way
# begins at the mean code, or with ``center=`` at any other: here at that of one image, which is
# in the middle column.

code = autoencoder.transform(X_test[:1])[0]
_ = LatentTraversalDisplay.from_estimator(
    autoencoder, center=code, image_shape=(8, 8), image_kwargs={"vmin": 0, "vmax": 16}
)

# %%
# Into figures of one's own
# -------------------------
# All take ``ax=``, and keyword arguments for what they draw; the artists are attributes of the
# display.

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.5), layout="constrained")
_ = ExplainedVarianceDisplay.from_estimator(autoencoder, X_test, ax=left)
_ = LatentSpaceDisplay.from_estimator(
    autoencoder, X_test, y_test, components=[0, 1], ax=right, scatter_kwargs={"s": 6}
)
_ = left.set_title("Held-out images")
_ = right.set_title("Their codes")
