"""
New sounds of plucked strings
=============================

Fifteen hundred short sounds of plucked strings are made by a loop of a few lines. Networks of
one-dimensional convolutions reduce each sound to a few numbers and restore it. New sounds are drawn
by ``sample``, and written to a file that can be listened to.

    python examples/plot_generate_sound.py [FILE.png]

prints how well held-out sounds are restored and how much new ones are like strings, draws some of
each, and writes ``plucked_strings.wav`` beside the picture.
"""

import sys
import time
import wave
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

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
for k in (4, 8, 16):
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
# A dozen held-out sounds, a pause, a dozen restored by the convolutions, a pause, a dozen new ones.

k, n_heard = 8, 12
model, new = fitted["convolutions", k]
pca, _ = fitted["PCA", k]
path = Path(sys.argv[1] if len(sys.argv) > 1 else "output/generate_sound.png")
path.parent.mkdir(parents=True, exist_ok=True)


def joined(sounds):
    """Return sounds one after another, each faded out at its end and followed by a short rest."""
    fade = np.minimum(1, np.arange(length)[::-1] / 80)
    return np.pad(sounds * fade, [(0, 0), (0, 800)]).ravel()


restored = model.reconstruct(X_test)
pause = np.zeros(rate // 2)
parts = [joined(sounds[:n_heard]) for sounds in (X_test, restored, new)]
signal = np.concatenate([parts[0], pause, parts[1], pause, parts[2]])
signal *= 0.8 / np.abs(signal).max()
sound_path = path.with_name("plucked_strings.wav")
with wave.open(str(sound_path), "wb") as file:
    file.setnchannels(1)
    file.setsampwidth(2)
    file.setframerate(rate)
    file.writeframes((signal * 32767).astype("<i2").tobytes())
print(f"\nThe sounds are in {sound_path}, {len(signal) / rate:.1f} seconds")

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
figure.savefig(path, dpi=110)
print(f"The picture is in {path}")
