"""What a training step costs with each penalty, corruption and loss.

    python benchmarks/penalties.py
    python benchmarks/penalties.py --rounds 15

Prints the seconds of training passes as a ratio to those of a fit without a penalty, with the
squared error: the median over rounds, in each of which all variants are fitted in turn. "nothing"
is that fit itself, once more: how far it is from 1 is the noise of the machine. One thread.
"""

import argparse

import numpy as np
import torch
from loop import SHAPES

from skae import AutoencoderTransformer

torch.set_num_threads(1)

N_BATCHES, N_EPOCHS = 20, 10
REFERENCE = {"penalty": None}
VARIANTS = {
    "nothing": REFERENCE,
    **{name: {"penalty": name} for name in ("l2", "l1", "activity_l1", "contractive", "kl")},
    **{name: {**REFERENCE, "corruption": name} for name in ("gaussian", "masking", "swap")},
    **{name: {**REFERENCE, "loss": name} for name in ("absolute_error", "huber")},
    "tied_weights": {**REFERENCE, "tied_weights": True},
}


def seconds(X, shape, parameters):
    """Return the seconds of a fit's training passes, without its beginning and its end."""
    _, n_hidden, n_components, batch_size = shape
    autoencoder = AutoencoderTransformer(
        n_components,
        hidden_layer_sizes=(n_hidden,),
        batch_size=batch_size,
        max_iter=N_EPOCHS,
        early_stopping=False,
        random_state=0,
        **parameters,
    )
    return sum(autoencoder.fit(X).net_.history[:, "dur"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    n_rounds = parser.parse_args().rounds
    columns = []
    for shape in SHAPES:
        X = np.random.RandomState(0).normal(size=(N_BATCHES * shape[-1], shape[0]))
        X = X.astype(np.float32)
        ratios = {name: [] for name in VARIANTS}
        for _ in range(n_rounds):
            reference = seconds(X, shape, REFERENCE)
            for name, parameters in VARIANTS.items():
                ratios[name].append(seconds(X, shape, parameters) / reference)
        columns.append({name: np.median(values) for name, values in ratios.items()})
    print(" " * 14 + "".join(f"{'-'.join(map(str, shape)):>16s}" for shape in SHAPES))
    for name in VARIANTS:
        print(f"{name:14s}" + "".join(f"{column[name]:16.2f}" for column in columns))


if __name__ == "__main__":
    main()
