"""What a call costs where rows are few, beside PCA.

    python benchmarks/calls.py

Prints milliseconds, and how many times as long as the same call of PCA's, or of IncrementalPCA's
for parts of a stream, it takes: medians of rounds in which all are called in turn. One thread.
"""

import time

import numpy as np
import torch
from sklearn.decomposition import PCA, IncrementalPCA

from skae import AutoencoderTransformer

torch.set_num_threads(1)

N_ROUNDS, N_FEATURES, N_COMPONENTS = 51, 20, 4


def milliseconds(call):
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def rows_calls(X):
    """Return pairs of calls by name: of an autoencoder, and of PCA."""
    models = [
        AutoencoderTransformer(N_COMPONENTS, max_iter=5, random_state=0).fit(X),
        PCA(N_COMPONENTS).fit(X),
    ]
    row, codes = X[:1], models[0].transform(X[:1])
    return {
        "transform of a row, float32": [
            lambda m=m: m.transform(row.astype(np.float32)) for m in models
        ],
        "transform of a row, float64": [lambda m=m: m.transform(row) for m in models],
        "inverse_transform of a row": [lambda m=m: m.inverse_transform(codes) for m in models],
        "score_samples of a row": [lambda m=m: m.score_samples(row) for m in models],
    }


def part_calls(X, n_rows):
    """Return calls of `partial_fit`, each of which takes the next rows."""

    def of(model):
        parts = iter(np.array_split(X, len(X) // n_rows))
        model.partial_fit(next(parts))
        return lambda: model.partial_fit(next(parts))

    return [
        of(AutoencoderTransformer(N_COMPONENTS, random_state=0)),
        of(IncrementalPCA(N_COMPONENTS)),
    ]


def main():
    rng = np.random.RandomState(0)
    pairs = rows_calls(rng.normal(size=(500, N_FEATURES)))
    for n_rows in (128, 500, 2000):
        X = rng.normal(size=((N_ROUNDS + 3) * n_rows, N_FEATURES))
        pairs[f"partial_fit of {n_rows} rows"] = part_calls(X, n_rows)
    seconds = {name: [] for name in pairs}
    for i in range(N_ROUNDS + 2):
        for name, pair in pairs.items():
            both = [milliseconds(call) for call in pair]
            if i >= 2:  # the first calls load what is loaded once
                seconds[name].append(both)
    print(f"{'':30}{'ms':>8}{'to PCA':>8}")
    for name, both in seconds.items():
        ours, theirs = np.transpose(both)
        print(f"{name:30}{np.median(ours):8.1f}{np.median(ours / theirs):8.1f}")


if __name__ == "__main__":
    main()
