"""Fits of tables of hostile shape, none of which may warn, raise or give what is not finite.

    python benchmarks/hostile.py
    python benchmarks/hostile.py --fits 5000 --first 1000

Each number is the seed of a table: of 4 to 400 rows and 1 to 60 columns, with an outlier of 1e6
deviations, constant and equal columns, one-hot columns, tiny or huge units, Cauchy, Poisson or
log-normal entries. What fails is printed with its seed. One thread.
"""

import argparse
import warnings

import numpy as np
import torch

from skae import AutoencoderTransformer


def hostile_table(rng):
    n_rows, n_columns = rng.choice([4, 5, 20, 60, 150, 400]), rng.choice([1, 2, 5, 20, 60])
    X = rng.normal(size=(n_rows, n_columns))
    outlier, equal = X.copy(), X.copy()
    outlier[rng.randint(n_rows), rng.randint(n_columns)] = 1e6
    equal[:, 0], equal[:, -1] = 3.0, equal[:, n_columns // 2]
    tables = [
        outlier,
        equal,
        np.eye(n_columns)[rng.randint(n_columns, size=n_rows)],
        1e-30 * X,
        1e30 * X,
        rng.standard_cauchy(size=X.shape),
        rng.poisson(1, size=X.shape).astype(float),
        np.exp(3 * X),
    ]
    return tables[rng.randint(len(tables))]


def complaint(seed):
    """Return what is wrong with one fit, or None."""
    rng = np.random.RandomState(seed)
    X = hostile_table(rng)
    n_components = rng.randint(1, min(4, *X.shape) + 1)
    try:
        autoencoder = AutoencoderTransformer(n_components, max_iter=60, random_state=seed).fit(X)
        values = [autoencoder.transform(1e3 * X + 1), autoencoder.reconstruct(X)]
        if not all(np.isfinite(v).all() for v in (*values, autoencoder.loss_curve_)):
            return "not finite"
        score = autoencoder.score(X)
        return None if score > -1e-6 else f"R² {score:.3g}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fits", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    n_failed = 0
    for seed in range(arguments.first, arguments.first + arguments.fits):
        failure = complaint(seed)
        if failure is not None:
            n_failed += 1
            print(f"seed {seed}: {failure}", flush=True)
    print(f"{n_failed} of {arguments.fits} fits failed")


if __name__ == "__main__":
    main()
