"""Memory and time of fitting and mapping a sparse table that would not fit as a dense one.

    python benchmarks/sparse.py
    python benchmarks/sparse.py --rows 50000 --features 5000

The rows have eight topics in which other columns are likely, as texts have words, and one entry in
a thousand is not zero. For `fit` (PCA and one epoch) and `transform`: seconds of processor time,
and the peak resident memory of the process, less what it was with the table made, beside what the
dense table would take. One thread.
"""

import argparse
import subprocess
import sys
import time

import numpy as np
import scipy.sparse
import torch
from memory import peak

from skae import AutoencoderTransformer


def table(n_rows, n_features, density, n_topics=8):
    """Return a CSR matrix in float32, of a chunk of rows at a time."""
    rng = np.random.default_rng(0)
    n_own = max(1, round(density * n_features))
    # each topic prefers columns of its own
    likely = np.cumsum(rng.dirichlet(np.full(n_features, 0.1), n_topics), axis=1)
    chunks = []
    for rows in np.array_split(np.arange(n_rows), max(1, n_rows // 10_000)):
        drawn, topic = rng.random((len(rows), n_own)), rng.integers(n_topics, size=len(rows))
        columns = np.empty(drawn.shape, dtype=np.intp)
        for i in range(n_topics):
            columns[topic == i] = np.searchsorted(likely[i], drawn[topic == i] * likely[i, -1])
        # an eighth of the entries are anywhere
        anywhere = rng.random(columns.shape) < 0.125
        columns[anywhere] = rng.integers(n_features, size=anywhere.sum())
        values = rng.gamma(2.0, size=columns.size).astype(np.float32)
        places = np.repeat(np.arange(len(rows)), n_own), columns.ravel().clip(max=n_features - 1)
        chunk = scipy.sparse.coo_matrix((values, places), shape=(len(rows), n_features))
        chunks.append(chunk.tocsr())
    return scipy.sparse.vstack(chunks, format="csr")


def print_stage(stage, X):
    """Print seconds and peak of one stage, or the peak before; in a process of its own."""
    torch.set_num_threads(1)
    model = AutoencoderTransformer(8, hidden_layer_sizes=(64,), max_iter=1, random_state=0)
    small = table(300, 300, 0.01)
    model.fit(small).transform(small)  # what libraries need, once
    if stage == "transform":
        model.fit(X[: max(1000, X.shape[0] // 100)])
    before, start = peak(), time.process_time()
    if stage == "fit":
        model.fit(X)
    elif stage == "transform":
        model.transform(X)
    print(f"{time.process_time() - start:.1f} {peak() - before:.0f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--features", type=int, default=20_000)
    parser.add_argument("--density", type=float, default=1e-3)
    parser.add_argument("--stage", choices=["fit", "transform"], help="measure one stage alone")
    arguments = parser.parse_args()
    shape = arguments.rows, arguments.features
    if arguments.stage:
        print_stage(arguments.stage, table(*shape, arguments.density))
        return
    dense = 4 * shape[0] * shape[1]
    print(f"{shape[0]} x {shape[1]}, density {arguments.density}; dense {dense / 1e9:.1f} GB")
    print("            seconds      peak  share of dense")
    for stage in ("fit", "transform"):
        command = [sys.executable, __file__, *sys.argv[1:], "--stage", stage]
        seconds, size = map(float, subprocess.check_output(command, text=True).split())
        print(f"{stage:10s} {seconds:8.1f} {size / 1e6:6.0f} MB {size / dense:14.3f}", flush=True)


if __name__ == "__main__":
    main()
