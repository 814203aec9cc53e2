"""Peak memory of a fit, and throughput of mapping rows.

    python benchmarks/memory.py

The first table is the peak resident memory of a process during `fit` on a million rows of 64
features, less what it was before the data were made, as a multiple of the data's size: the data
themselves are 1. The second is rows per second of the methods, as a share of those of the bare
module's forward pass in the best of some chunk sizes: of a pass that keeps no results, and of one
that puts them into an array, as the methods have to. Medians over rounds in which all three are run
in turn.
"""

import argparse
import resource
import subprocess
import sys
import time
from functools import partial

import numpy as np
import torch

from skae import AutoencoderTransformer

N_ROWS, N_FEATURES = 1_000_000, 64
CHUNKS = [512, 1024, 2048, 4096, 8192, 16384]


def table(n_rows, dtype):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n_rows, N_FEATURES), np.float32).astype(dtype, copy=False)


def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def print_peak(dtype):
    """Print the peak of a fit as a multiple of the data; in a process of its own."""
    autoencoder = AutoencoderTransformer(8, max_iter=2, random_state=0)
    autoencoder.fit(table(5000, dtype))
    before = peak()
    X = np.empty((N_ROWS, N_FEATURES), dtype)
    rng = np.random.default_rng(0)
    for rows in np.array_split(X, 100):
        rows[:] = rng.standard_normal(rows.shape, np.float32)
    autoencoder.fit(X)
    print(f"{(peak() - before) / X.nbytes:.2f}")


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def forward(module, data, chunk):
    with torch.inference_mode():
        for rows in data.split(chunk):
            module(rows)


def kept(module, data, chunk):
    with torch.inference_mode():
        results = torch.from_numpy(np.empty((len(data), *module(data[:1]).shape[1:]), np.float32))
        for rows, some in zip(data.split(chunk), results.split(chunk), strict=True):
            some.copy_(module(rows))


def best_chunk(module, data):
    return min(
        CHUNKS, key=lambda c: min(seconds(lambda: forward(module, data, c)) for _ in range(3))
    )


def print_throughput(n_rows, n_rounds):
    X = table(n_rows, np.float32)
    autoencoder = AutoencoderTransformer(8, max_iter=2, random_state=0).fit(X[:20_000])
    codes, module = autoencoder.transform(X), autoencoder.net_.module_
    units = torch.from_numpy(((X - autoencoder.mean_) / autoencoder.scale_).astype(np.float32))
    code_units = torch.from_numpy(codes / np.float32(autoencoder.code_scale_))
    decode, score = autoencoder.inverse_transform, lambda: autoencoder.score_samples(X)
    for name, bare, data, ours in (
        ("transform", module.encoder, units, lambda: autoencoder.transform(X)),
        ("inverse_transform", module.decoder, code_units, lambda: decode(codes)),
        ("score_samples", module, units, score),
    ):
        passes = bare, data, best_chunk(bare, data)
        jobs = partial(forward, *passes), partial(kept, *passes), ours
        # one after another at once: memory that lies idle for seconds goes back to the host of a
        # virtual machine, and to touch it again takes longer than a pass
        rounds = [[seconds(job) for job in jobs] for _ in range(n_rounds)]
        *bare_seconds, our_seconds = np.median(rounds, axis=0)
        if ours is score:
            bare_seconds = bare_seconds[:1]  # its results are smaller than the module's
        shares = "  ".join(f"{some / our_seconds:.2f}" for some in bare_seconds)
        print(f"  {name:18s} {shares}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peak", choices=["float32", "float64"], help="print one peak alone")
    arguments = parser.parse_args()
    if arguments.peak:
        print_peak(arguments.peak)
        return
    print("peak memory of fit, as a multiple of the data")
    for dtype in ("float32", "float64"):
        command = [sys.executable, __file__, "--peak", dtype]
        print(f"  {dtype}  {subprocess.check_output(command, text=True).strip()}", flush=True)
    print("throughput, as a share of the bare module's: without results, with them")
    print_throughput(N_ROWS, arguments.rounds)


if __name__ == "__main__":
    main()
