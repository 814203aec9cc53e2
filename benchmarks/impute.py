"""Missing entries filled by the autoencoder and by scikit-learn's imputers.

    python benchmarks/impute.py
    python benchmarks/impute.py --data "breast cancer" wine --removed 0.1 0.4 --set max_iter=60

Entries are removed at random, and filled again by an imputer that is fitted to what is left. For
each table and share of removed entries: the root mean square error over the removed entries, and
the seconds to fit and fill, means over the seeds. One thread, processor time, all imputers in turn
after a first round that does not count.

The columns of the last table are numbers and categories. scikit-learn's imputers get the numbers
standardised and the categories one-hot, and what they fill in is read as the category of the
largest column; "trees" is a gradient boosting of each column on all others. It has the root mean
square error of the numbers, in standard deviations, and the share of the removed categories that
are met.
"""

import argparse
import functools
import time
import warnings

import numpy as np
import pandas as pd
import torch
from quality import parsed
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.preprocessing import scale

from skae import AutoencoderTransformer

IMPUTERS = {
    "mean": lambda seed: SimpleImputer(keep_empty_features=True),
    "KNN": lambda seed: KNNImputer(keep_empty_features=True),
    "iterative": lambda seed: IterativeImputer(random_state=seed, keep_empty_features=True),
}


def autoencoder(k, seed, options):
    return AutoencoderTransformer(
        k,
        corruption="masking",
        corruption_level=0.3,
        validation_fraction=0.1,
        max_iter=60,
        random_state=seed,
    ).set_params(**options)


def normal(n_rows=1000, n_columns=20):
    """A normal table of five factors and noise: what linear imputers are made for."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((n_rows, 5)) @ rng.standard_normal((5, n_columns))
    return scale(rows + rng.standard_normal((n_rows, n_columns)))


def skewed(n_rows=3000):
    """Eight columns that are skewed and bent in three factors, as those of houses are."""
    rng = np.random.default_rng(0)
    size, place, age = rng.standard_normal((3, n_rows))
    columns = [
        np.exp(0.5 * size + 0.5 * place),
        np.exp(0.7 * size),
        np.exp(0.6 * size + 0.1 * age),
        1 / (1 + np.exp(-2 * age)),
        np.sin(1.5 * place),
        np.cos(1.5 * place) + 0.3 * size,
        np.square(place) + 0.5 * age,
        np.exp(0.3 * age - 0.4 * place),
    ]
    columns = scale(np.column_stack(columns))
    return scale(columns + 0.2 * rng.standard_normal(columns.shape))


# Name: rows, and number of components.
TABLES = {
    "breast cancer": (lambda: scale(load_breast_cancer().data), 16),
    "digits": (lambda: load_digits().data, 20),
    "wine": (lambda: scale(load_wine().data), 9),
    "diabetes": (lambda: scale(load_diabetes().data), 8),
    "normal": (normal, 8),
    "skewed": (skewed, 5),
}


def mixed(n_rows=2000):
    """Five numbers, three categories and a boolean, all of three factors."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((n_rows, 3))
    numbers = z @ rng.standard_normal((3, 5)) + 0.5 * rng.standard_normal((n_rows, 5))
    numbers[:, 0] = np.exp(numbers[:, 0] / 2)
    numbers[:, 1] += np.square(z[:, 0])
    frame = pd.DataFrame(scale(numbers), columns=[f"number {i}" for i in range(5)])
    for name, size in (("three", 3), ("five", 5), ("twelve", 12)):
        scores = 2 * z @ rng.standard_normal((3, size)) + rng.gumbel(size=(n_rows, size))
        frame[name] = pd.Categorical([f"{name} {c}" for c in scores.argmax(axis=1)])
    frame["yes"] = pd.array(z[:, 2] + 0.5 * rng.standard_normal(n_rows) > 0.3, dtype="boolean")
    return frame


def removed(X, share, seed):
    return np.random.default_rng(seed).random(X.shape) < share


def rms(errors):
    return np.sqrt(np.square(errors).mean())


def one_round(fillers, judge):
    """Return how good each imputer's table is, and its seconds."""
    results = []
    for fill in fillers.values():
        start = time.process_time()
        filled = fill()
        seconds = time.process_time() - start
        results.append((*judge(filled), seconds))
    return results


def numeric_round(X, k, share, seed, options):
    gaps = removed(X, share, seed)
    rows = np.where(gaps, np.nan, X)
    fillers = {
        name: functools.partial(make(seed).fit_transform, rows) for name, make in IMPUTERS.items()
    }
    model = autoencoder(k, seed, options)
    fillers["skae"] = lambda: model.fit(rows).impute(rows)
    return one_round(fillers, lambda filled: (rms((filled - X)[gaps]),))


def by_one_hot(imputer, frame):
    """Return a frame filled by an imputer of numbers."""
    numbers = list(frame.columns[:5])
    columns = [frame[numbers].to_numpy()]
    categories = {name: pd.Categorical(frame[name]) for name in frame.columns[5:]}
    for some in categories.values():
        one_hot = np.eye(len(some.categories))[some.codes]
        columns.append(np.where(some.codes[:, np.newaxis] < 0, np.nan, one_hot))
    filled = imputer.fit_transform(np.hstack(columns))
    result, start = pd.DataFrame(filled[:, :5], columns=numbers), 5
    for name, some in categories.items():
        n = len(some.categories)
        best = filled[:, start : start + n].argmax(axis=1)
        result[name] = np.asarray(some.categories)[best]
        start += n
    return result


def by_trees(frame):
    """Return a frame of which each column is filled by a gradient boosting on the others."""
    codes = frame.copy()
    for name in frame.columns[5:]:
        codes[name] = pd.Categorical(frame[name])
    filled = codes.copy()
    for name in frame:
        gaps, others = frame[name].isna(), codes.drop(columns=name)
        is_number = name.startswith("number")
        kind = HistGradientBoostingRegressor if is_number else HistGradientBoostingClassifier
        y = frame[name][~gaps].to_numpy(float if is_number else str)
        found = kind(categorical_features="from_dtype", random_state=0).fit(others[~gaps], y)
        filled[name] = filled[name].astype(float if is_number else object)
        filled.loc[gaps, name] = found.predict(others[gaps])
    return filled


def mixed_round(frame, k, share, seed, options):
    gaps = removed(frame, share, seed)
    holey = frame.mask(gaps)
    fillers = {
        name: functools.partial(by_one_hot, make(seed), holey) for name, make in IMPUTERS.items()
    }
    fillers["trees"] = functools.partial(by_trees, holey)
    model = autoencoder(k, seed, options)
    fillers["skae"] = lambda: model.fit(holey).impute(holey)

    def judge(filled):
        numbers = (filled.iloc[:, :5].to_numpy(float) - frame.iloc[:, :5].to_numpy())[gaps[:, :5]]
        same = filled.iloc[:, 5:].astype(str).to_numpy() == frame.iloc[:, 5:].astype(str).to_numpy()
        return rms(numbers), same[gaps[:, 5:]].mean()

    return one_round(fillers, judge)


def table(title, names, rounds, shares, seeds, headings):
    """Print what rounds give: for each share of removed entries, and for each imputer."""
    width = 11 * len(names)
    print(f"{title:22s}" + "".join(f"{heading:<{width}s}  " for heading in headings))
    print(f"{'':20s}" + "  ".join("".join(f"{name:>11s}" for name in names) for _ in headings))
    rounds(shares[0], 0)  # does not count
    for share in shares:
        results = np.array([rounds(share, seed) for seed in range(seeds)]).mean(axis=0)
        blocks = ["".join(f"{value:11.3f}" for value in block) for block in results.T]
        print(f"{share:18.0%}  " + "  ".join(blocks), flush=True)
    print()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    names = [*TABLES, "mixed"]
    parser.add_argument("--data", nargs="+", default=names, choices=names)
    parser.add_argument("--removed", nargs="+", type=float, default=[0.05, 0.1, 0.2, 0.4, 0.6])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="PARAMETER=VALUE")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    # that ten rounds are not enough is the iterative imputer's to say, by default
    warnings.simplefilter("ignore", ConvergenceWarning)
    # and of some rows everything is removed
    warnings.filterwarnings("ignore", "Nothing is known", UserWarning)
    options, columns = parsed(arguments.set), [*IMPUTERS, "skae"]
    for name in arguments.data:
        if name == "mixed":
            frame, k = mixed(), 5
            rounds = functools.partial(mixed_round, frame, k, options=options)
            names = [*IMPUTERS, "trees", "skae"]
            headings = ["error of numbers", "categories met", "seconds"]
        else:
            load, k = TABLES[name]
            rounds = functools.partial(numeric_round, load(), k, options=options)
            names, headings = columns, ["root mean square error", "seconds"]
        table(f"{name}, k = {k}", names, rounds, arguments.removed, arguments.seeds, headings)


if __name__ == "__main__":
    main()
