"""The training loop against a hand-written one, and others.

    python benchmarks/loop.py
    python benchmarks/loop.py --threads 2
    python benchmarks/loop.py --device cuda --epochs 20

Prints seconds per training step as ratios to a plain PyTorch loop over the same network: slices of
a tensor, one permutation per epoch, fused Adam, no history. Medians over rounds in which all are
run in turn. The rows:

- adam: `AutoencoderTransformer` with the loop's optimiser, Adam, and early stopping, whose
  validation is not counted;
- and validation: the same, all of an epoch counted;
- textbook: without the linear path, against the loop over that network;
- dropout: what written-out backpropagation does not know, against the loop over that network;
- watched: with a callback of batches, which has skorch's whole protocol followed;
- defaults: `AutoencoderTransformer` as it is, with SOAP, of which a fit needs fewer steps;
- skorch: skorch's own net as its documentation shows it;
- MLPRegressor: scikit-learn's, `fit(X, X)`, its activation being ReLU;
- graph: in its place on a CUDA device, the loop's step captured in a CUDA graph and replayed; the
  capture is not counted.
"""

import argparse
import contextlib
import platform
import time
import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from skorch import NeuralNetRegressor
from skorch.callbacks import Callback
from threadpoolctl import threadpool_limits
from torch import nn

from skae import AutoencoderTransformer
from skae._net import ReconstructionNet
from skae.modules import MLP, Autoencoder, LinearSkip, SoftClip

# features, hidden units, components, rows in a batch
SHAPES = [(10, 32, 2, 128), (64, 128, 8, 128), (784, 256, 16, 256)]
N_BATCHES = 40


def network(shape, skip=True, activation="relu", dropout=0.0):
    d, h, k, _ = shape
    encoder = MLP([d, h, k], activation, dropout)
    decoder = MLP([k, h, d], activation, dropout)
    if skip:
        encoder = LinearSkip(nn.Linear(d, k, bias=False), encoder, SoftClip(torch.ones(d)))
        decoder = LinearSkip(nn.Linear(k, d, bias=False), decoder, SoftClip(torch.ones(k)))
    return Autoencoder(encoder, decoder)


def table(shape, n_batches=N_BATCHES):
    return torch.randn(n_batches * shape[-1], shape[0], generator=torch.Generator().manual_seed(0))


def step_of(net, **options):
    optimizer = torch.optim.Adam(net.parameters(), lr=4e-3, fused=True, **options)

    def step(x):
        optimizer.zero_grad()
        nn.functional.mse_loss(net(x), x).backward()
        optimizer.step()

    return step


def plain_loop(step, X, batch_size, n_epochs):
    """Return the seconds of a step."""
    wait = torch.cuda.synchronize if X.is_cuda else lambda: None
    wait()
    start = time.perf_counter()
    for _ in range(n_epochs):
        order = torch.randperm(len(X), device=X.device)
        for i in range(0, len(X), batch_size):
            step(X[order[i : i + batch_size]])
    wait()
    return (time.perf_counter() - start) / (n_epochs * len(X) / batch_size)


def captured(step, x):
    """Return a step on batches like x as a CUDA graph, as torch's documentation captures one."""
    batch, stream, graph = x.clone(), torch.cuda.Stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step(batch)
    torch.cuda.current_stream().wait_stream(stream)
    with torch.cuda.graph(graph):
        step(batch)

    def replayed(x):
        batch.copy_(x)
        graph.replay()

    return replayed


class Watcher(Callback):
    def on_batch_end(self, net, **kwargs):
        pass


def skae_step(shape, X, n_epochs, validation=False, **parameters):
    """Return the seconds of a step of a fit, from the epochs' own times."""
    _, n_hidden, n_components, batch_size = shape
    autoencoder = AutoencoderTransformer(
        n_components,
        hidden_layer_sizes=n_hidden,
        batch_size=batch_size,
        max_iter=n_epochs,
        n_iter_no_change=n_epochs + 1,
        random_state=0,
        device=X.device,
        **parameters,
    )
    with timed_validation() as seconds:
        history = autoencoder.fit(X.cpu().numpy()).net_.history
    total = sum(history[:, "dur"]) - (0 if validation else sum(seconds))
    return total / sum(history[:, "train_batch_count"])


@contextlib.contextmanager
def timed_validation():
    """Note the seconds of each validation pass of our net while the block lasts."""
    original, seconds = ReconstructionNet.run_single_epoch, []

    def timed(net, iterator, training, *args):
        start = time.perf_counter()
        original(net, iterator, training, *args)
        if not training:
            seconds.append(time.perf_counter() - start)

    ReconstructionNet.run_single_epoch = timed
    try:
        yield seconds
    finally:
        ReconstructionNet.run_single_epoch = original


def skorch_step(shape, X, n_epochs):
    net = NeuralNetRegressor(
        network(shape),
        optimizer=torch.optim.Adam,
        lr=4e-3,
        max_epochs=n_epochs,
        batch_size=shape[-1],
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        device=X.device,
    )
    net.fit(X, X)
    return sum(net.history[:, "dur"]) / (n_epochs * len(X) / shape[-1])


def scikit_learn_step(shape, X, n_epochs):
    _, h, k, batch_size = shape
    net = MLPRegressor(
        hidden_layer_sizes=(h, k, h),
        batch_size=batch_size,
        max_iter=n_epochs,
        n_iter_no_change=n_epochs + 1,
    )
    X = X.cpu().numpy()
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        net.fit(X, X)
    return (time.perf_counter() - start) / (n_epochs * len(X) / batch_size)


ADAM = {"optimizer": "adam", "learning_rate_init": 4e-3}
TEXTBOOK = {"linear_skip": False, "init": "random"}


def one_round(shape, n_epochs, device):
    """Return the ratios of one round by name."""
    X, batch_size = table(shape).to(device), shape[-1]

    def loop(**kwargs):
        step = step_of(network(shape, **kwargs).to(device))
        return plain_loop(step, X, batch_size, n_epochs)

    def graph():
        step = step_of(network(shape).to(device), capturable=True)
        return plain_loop(captured(step, X[:batch_size]), X, batch_size, n_epochs)

    def ours(**kwargs):
        return skae_step(shape, X, n_epochs, **kwargs)

    bare = loop()
    ratios = {
        "the loop once more": loop() / bare,
        "adam": ours(**ADAM) / bare,
        "and validation": ours(**ADAM, validation=True) / bare,
        "textbook": ours(**ADAM, **TEXTBOOK) / loop(skip=False),
        "dropout": ours(**ADAM, dropout=0.1) / loop(dropout=0.1),
        "watched": ours(**ADAM, callbacks=[Watcher()]) / bare,
        "defaults": ours() / bare,
        "skorch": skorch_step(shape, X, n_epochs) / bare,
    }
    if X.is_cuda:
        return ratios | {"graph": graph() / bare}
    return ratios | {"MLPRegressor": scikit_learn_step(shape, X, n_epochs) / bare}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    threadpool_limits(arguments.threads)  # scikit-learn's
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    print(f"{name}, torch {torch.__version__}, {arguments.threads} threads")
    for shape in SHAPES:
        rounds = [one_round(shape, arguments.epochs, device) for _ in range(arguments.rounds)]
        print(f"\n{shape}")
        for name in rounds[0]:
            print(f"{name:20s}{np.median([ratios[name] for ratios in rounds]):8.2f}", flush=True)


if __name__ == "__main__":
    main()
