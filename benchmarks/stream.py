"""R² of one pass over a table in chunks, less that of `fit` in one pass over the whole table.

    python benchmarks/stream.py

Both make the same number of steps, of 32 rows, but for the last batch of each chunk. Positive is
better than `fit`. Mean and worst of five orders of the rows; sorted by a column there is one order.
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer

CHUNKS = (100, 250, 500, 1000, 2000)


def sheet():
    """Return rows on a curved sheet in six dimensions."""
    rng = np.random.RandomState(0)
    u, v = rng.uniform(-1, 1, (2, 4000))
    X = np.column_stack([u, v, u**2, u * v, np.sin(3 * v), np.cos(2 * u)])
    return X + 0.01 * rng.normal(size=X.shape)


def differences(X, n_components, orders):
    """Return R² of each order and chunk size less that of `fit`, and the latter's mean."""
    found, whole = [], []
    for seed, order in enumerate(orders):
        parameters = {"n_components": n_components, "batch_size": 32, "random_state": seed}
        fitted = AutoencoderTransformer(max_iter=1, early_stopping=False, **parameters)
        whole.append(fitted.fit(X[order]).score(X))
        scores = []
        for size in CHUNKS:
            stream = AutoencoderTransformer(**parameters)
            for i in range(0, len(X), size):
                stream.partial_fit(X[order[i : i + size]])
            scores.append(stream.score(X))
        found.append(np.array(scores) - whole[-1])
    return np.array(found), np.mean(whole)


def main():
    digits, curved = load_digits().data, sheet()
    shuffled = [np.random.RandomState(seed).permutation for seed in range(5)]
    print(f"{'':28}{'PCA':>7}{'fit':>7}", *(f"{size:>15}" for size in CHUNKS))
    for name, X, k, orders in (
        ("curved sheet, k = 2", curved, 2, [order(len(curved)) for order in shuffled]),
        ("  sorted by a column", curved, 2, [np.argsort(curved[:, 0])]),
        ("digits, k = 2", digits, 2, [order(len(digits)) for order in shuffled]),
        ("digits, k = 8", digits, 8, [order(len(digits)) for order in shuffled]),
        ("  sorted by brightness", digits, 8, [np.argsort(digits.sum(axis=1))]),
    ):
        found, whole = differences(X, k, orders)
        pca = PCA(k).fit(X).explained_variance_ratio_.sum()
        both = zip(found.mean(axis=0), found.min(axis=0), strict=True)
        cells = (f"{mean:+.4f}/{worst:+.4f}" for mean, worst in both)
        print(f"{name:28}{pca:7.3f}{whole:7.3f}", *(f"{cell:>15}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
