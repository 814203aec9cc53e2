"""
New sounds of plucked strings
=============================

Fifteen hundred short sounds of plucked strings are made by a loop of a few lines. Networks of
one-dimensional convolutions reduce each sound to a few numbers and restore it. New sounds are drawn
by ``sample``, and can be listened to.
"""

import base64
import io
import time
import wave

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer
from skae.modules import ConvDecoder, ConvEncoder

# One thread is enough for networks of this size, and undisturbed by whatever else is running.
torch.set_num_threads(1)

# %%
# Strings
# -------
# K. Karplus and A. Strong's string (Computer Music Journal 7, 1983) is a loop: one period of the
# sound goes round, and each time every value is replaced by the mean of itself and the next, which
# takes away high tones first. Here the period starts as a triangle, the shape of a string that is
# pulled aside at one place, and not as noise, which no code could hold. Three numbers make a sound:
# the length of the period, the place, and how much is lost in each round. Yet sounds of different
# pitch soon are out of step, so that the sounds are far from any plane of few dimensions.

rate, length, n_sounds = 8000, 512, 1500
lags = np.arange(30, 61)
rng = np.random.default_rng(0)


def plucked(period, place, kept):
    """Return a sound of a string."""
    line = np.interp(np.arange(period) / period, [0, place, 1], [0, 1, 0])
    line -= line.mean()
    rounds = []
    for _ in range(-(-length // period)):
        rounds.append(line)
        line = kept * (line + np.roll(line, -1)) / 2
    return np.concatenate(rounds)[:length]


periods = rng.choice(lags, n_sounds)
places, kept = rng.uniform(0.1, 0.5, n_sounds), rng.uniform(0.9, 1, n_sounds)
X = np.array([plucked(*three) for three in zip(periods, places, kept, strict=True)])
X_train, X_test = train_test_split(X.astype(np.float32), random_state=0)
print(f"{n_sounds} sounds of {length} samples, {rate / lags[-1]:.0f} to {rate / lags[0]:.0f} Hz")

# %%
# Restored and new
# ----------------
# Rows are flat, as elsewhere in scikit-learn, so the networks are told their shape: one channel.
# Each of the three stages makes a sound four times shorter. The default networks, multilayer
# perceptrons, are fitted too. New sounds of PCA are drawn as those of the convolutions are, from
# the same kind of mixture.
#
# How much a sound is like a string is measured without a model. *Periodic* is its correlation with
# itself one period later, for the best of all periods that strings have here. *To real* is the
# distance of a new sound to the nearest held-out one, and *from real* that of a held-out sound to
# the nearest new one; both are root mean squares over samples, as a share of the root mean square
# of all sounds. In the row of real sounds training sounds take the place of the new ones.

shape = {"shape": (1, length), "channels": (8, 16, 32), "kernel_size": 9, "stride": 4}
networks = {
    "perceptrons": {},
    "convolutions": {"encoder": ConvEncoder(**shape), "decoder": ConvDecoder(**shape)},
}
n_new = len(X_test)


def periodic(sounds):
    correlations = []
    for lag in lags:
        now, later = sounds[:, :-lag], sounds[:, lag:]
        norms = np.linalg.norm(now, axis=1) * np.linalg.norm(later, axis=1)
        correlations.append((now * later).sum(axis=1) / norms)
    return np.max(correlations, axis=0).mean()


def nearest(sounds, others):
    squares = [np.square(others - sound).mean(axis=1).min() for sound in sounds]
    return np.sqrt(squares).mean() / np.sqrt(np.square(X_test).mean())


def report(name, r2, seconds, new):
    print(f"{name:12s}  {r2}  {seconds}  {periodic(new):8.3f}", end="")
    print(f"  {nearest(new, X_test):7.3f}  {nearest(X_test, new):9.3f}")


fitted = {}
for k in (4, 8):
    print(f"\n{k} components     R²  seconds  periodic  to real  from real")
    report("real sounds", "    -", "      -", X_train[:n_new])
    for name, own in networks.items():
        start = time.perf_counter()
        model = AutoencoderTransformer(k, **own, max_iter=60, random_state=0).fit(X_train)
        seconds = time.perf_counter() - start
        new = model.sample(n_new, random_state=0)
        report(name, f"{model.score(X_test):5.3f}", f"{seconds:7.1f}", new)
        fitted[name, k] = model, new
    start = time.perf_counter()
    pca = PCA(k, whiten=True, random_state=0).fit(X_train)
    seconds = time.perf_counter() - start
    restored = pca.inverse_transform(pca.transform(X_test))
    r2 = 1 - np.square(X_test - restored).sum() / np.square(X_test - pca.mean_).sum()
    mixture = clone(model.density_).fit(pca.transform(X_train).astype(np.float64))
    new = pca.inverse_transform(mixture.sample(n_new)[0]).astype(np.float32)
    report("PCA", f"{r2:5.3f}", f"{seconds:7.1f}", new)
    fitted["PCA", k] = pca, new

# %%
# Listen
# ------
# The first dozen held-out sounds. (What is below is shown as a player by a notebook, and by this
# page; a script has ``Player(sounds).wav``, the bytes of a file.)

k, n_heard = 8, 12
model, new = fitted["convolutions", k]
pca, _ = fitted["PCA", k]
restored = model.reconstruct(X_test)


class Player:
    """Sounds one after another, each faded out at its end and followed by a short rest."""

    def __init__(self, sounds):
        fade = np.minimum(1, np.arange(length)[::-1] / 80)
        signal = np.pad(sounds * fade, [(0, 0), (0, 800)]).ravel()
        samples = (signal * 0.8 * 32767 / np.abs(signal).max()).astype("<i2")
        with io.BytesIO() as buffer:
            with wave.open(buffer, "wb") as file:
                file.setparams((1, 2, rate, len(samples), "NONE", "not compressed"))
                file.writeframes(samples.tobytes())
            self.wav = buffer.getvalue()

    def _repr_html_(self):
        data = base64.b64encode(self.wav).decode()
        return f'<audio controls src="data:audio/wav;base64,{data}"></audio>'


Player(X_test[:n_heard])

# %%
# The same, restored by the convolutions from eight numbers each:

Player(restored[:n_heard])

# %%
# A dozen new ones:

Player(new[:n_heard])

# %%
# The picture
# -----------
# Two held-out sounds, restored by both models, and two new sounds, the first of each, not chosen.
# Spectra are in decibels below the highest peak of the same sound.

shown = {
    "held-out": X_test,
    "restored by\nconvolutions": restored,
    "restored by\nPCA": pca.inverse_transform(pca.transform(X_test)),
    "new": new,
}
milliseconds = 1000 * np.arange(length) / rate
kilohertz = np.fft.rfftfreq(4 * length, 1 / rate) / 1000
figure, axes = plt.subplots(len(shown), 3, figsize=(8, 6.6), sharex="col", sharey="col")
for row, (name, sounds) in zip(axes, shown.items(), strict=True):
    row[0].plot(milliseconds, sounds[0], linewidth=0.9)
    row[1].plot(milliseconds, sounds[1], linewidth=0.9, color="C1")
    for sound, colour in zip(sounds[:2], ("C0", "C1"), strict=True):
        spectrum = np.abs(np.fft.rfft(sound * np.hanning(length), 4 * length))
        decibels = 20 * np.log10(np.maximum(spectrum / spectrum.max(), 1e-4))
        row[2].plot(kilohertz, decibels, linewidth=0.9, color=colour)
    row[0].set_ylabel(name)
for ax, title in zip(axes[0], ("first sound", "second sound", "their spectra, dB"), strict=True):
    ax.set_title(title)
for ax, label in zip(axes[-1], ("ms", "ms", "kHz"), strict=True):
    ax.set_xlabel(label)
axes[0, 2].set(ylim=(-62, 3), xlim=(0, 2))
figure.align_ylabels()
figure.tight_layout()
plt.show()
