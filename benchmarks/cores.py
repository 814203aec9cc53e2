"""What a busy core costs a fit, and what a second process gains a grid search.

    python benchmarks/cores.py

Prints ratios of seconds, medians over rounds: a fit beside a process that keeps one core busy to
the same fit without, for tables whose steps are small and large, and for a hand-written loop as
torch sets its threads; and `GridSearchCV` with `n_jobs=1` to that with `n_jobs=2`.
"""

import argparse
import contextlib
import subprocess
import sys
import time

import numpy as np
import torch
from joblib import cpu_count
from loop import network, plain_loop, table
from memory import seconds
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from skae import AutoencoderTransformer


@contextlib.contextmanager
def busy_core():
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    time.sleep(0.2)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def fitting(X, max_iter, **parameters):
    autoencoder = AutoencoderTransformer(8, max_iter=max_iter, random_state=0, **parameters)
    return lambda: autoencoder.fit(X)


def looping(shape, n_epochs):
    return lambda: plain_loop(network(shape), table(shape), shape[-1], n_epochs)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    n_rounds = parser.parse_args().rounds
    print(f"{cpu_count()} cores, {torch.get_num_threads()} threads")
    small, large = (64, 128, 8, 128), (784, 256, 16, 256)
    digits = load_digits().data
    jobs = {
        "digits, 20 epochs": fitting(digits, 20),
        "(784, 256, 16, 256), 10 epochs": fitting(
            table(large).numpy(), 10, hidden_layer_sizes=256, batch_size=256
        ),
        "hand-written loop (64, 128, 8, 128)": looping(small, 10),
        "hand-written loop (784, 256, 16, 256)": looping(large, 10),
    }
    print("a busy core")
    for name, job in jobs.items():
        job()
        ratios = []
        for _ in range(n_rounds):
            quiet = seconds(job)
            with busy_core():
                ratios.append(seconds(job) / quiet)
        print(f"  {name:40s} {np.median(ratios):5.2f}  (up to {max(ratios):.2f})", flush=True)
    for n_jobs in (2, 4):
        ratio = gain(digits, n_jobs, n_rounds)
        print(f"GridSearchCV is {ratio:.2f} times as fast with n_jobs={n_jobs}", flush=True)


def gain(X, n_jobs, n_rounds):
    """Return how many times as fast a search is with some jobs, whose processes are there."""
    grid = {"alpha": [0, 1e-4, 1e-3, 1e-2], "hidden_layer_sizes": [32, 128]}
    autoencoder = AutoencoderTransformer(8, max_iter=30, random_state=0)
    one, more = (GridSearchCV(autoencoder, grid, n_jobs=n) for n in (1, n_jobs))
    more.fit(X)  # another number of jobs is other processes, which import torch for seconds
    return np.median(
        [seconds(lambda: one.fit(X)) / seconds(lambda: more.fit(X)) for _ in range(n_rounds)]
    )


if __name__ == "__main__":
    main()
