"""What is to hold on a CUDA device: the rest of the suite has one too, where there is one."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from skorch.callbacks import Callback, LRScheduler
from torch import nn

from skae import AutoencoderTransformer, _capture
from skae._net import ReconstructionNet

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@pytest.fixture(scope="module", name="X")
def sheet():
    rng = np.random.RandomState(0)
    u = rng.uniform(-1, 1, size=(1500, 2))
    X = np.column_stack([u, u**2, u[:, :1] * u[:, 1:], np.sin(3 * u)])
    return X + 0.01 * rng.normal(size=X.shape)


def with_gaps(X):
    X = X.copy()
    X[::7, 2] = np.nan
    return X


def table(X):
    colour = pd.Categorical.from_codes((X[:, 0] > 0).astype(int), ["red", "blue"])
    return pd.DataFrame(X, columns=list("abcdefg")).assign(colour=colour)


def small(X):
    return X[:300]


def weights(autoencoder):
    state = autoencoder.net_.module_.state_dict()
    return {name: value.cpu().numpy() for name, value in state.items()}


def fitted(X, **parameters):
    parameters = {"max_iter": 15, "random_state": 0, "device": "cuda", **parameters}
    return AutoencoderTransformer(2, **parameters).fit(X)


@pytest.fixture
def graphs(monkeypatch):
    """What is recorded as a graph, one after another."""
    made = []

    class Graph(_capture._Graph):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(_capture, "_Graph", Graph)
    return made


CAPTURED = [
    {},
    {"average": False, "alpha": 0},
    {"optimizer": "adam"},
    {"optimizer": "adamw"},
    {"optimizer": torch.optim.Adam},
    {"penalty": "l1"},
    {"activation": "relu", "hidden_layer_sizes": 20},
    {"linear_skip": False, "init": "random"},
    {"corruption": "gaussian"},
    {"corruption": "masking", "optimizer": "adam"},
    {"corruption": "swap"},
    {"early_stopping": False},
]
LEFT_ALONE = [
    {"optimizer": "sgd"},
    {"penalty": "contractive"},
    {"dropout": 0.1},
    {"tied_weights": True},
    {"encoder": nn.Linear, "decoder": nn.Linear},
]


@pytest.mark.parametrize("rows", [np.asarray, with_gaps, table, small])
@pytest.mark.parametrize("parameters", CAPTURED, ids=str)
def test_steps_launched_as_one_are_the_steps_to_the_bit(monkeypatch, graphs, X, rows, parameters):
    as_one = fitted(rows(X), **parameters)
    assert len(graphs) > 0
    graphs.clear()
    monkeypatch.setattr(ReconstructionNet, "_can_be_captured", lambda net: False)
    expected = fitted(rows(X), **parameters)
    assert graphs == []
    assert as_one.loss_curve_ == expected.loss_curve_
    assert as_one.validation_scores_ == expected.validation_scores_
    for name, value in weights(expected).items():
        np.testing.assert_array_equal(weights(as_one)[name], value)


class Hidden:
    """A corruption of one's own, which may do what cannot be captured."""

    def __call__(self, x, level):
        return x.masked_fill(torch.rand_like(x) < level, 0.0)

    def __repr__(self):
        return "Hidden()"


@pytest.mark.parametrize("parameters", [*LEFT_ALONE, {"corruption": Hidden()}], ids=str)
def test_other_steps_are_not_launched_as_one(graphs, X, parameters):
    fitted(X, **parameters)
    assert graphs == []


def test_what_waits_for_a_value_is_called_as_it_is():
    def norm(x):
        return torch.zeros((), device="cuda") + x.norm().item()

    step = _capture.Captured(norm)
    rows = torch.randn(5, 3, 2, device="cuda")
    found = torch.stack([step(x, None).clone() for x in rows])
    torch.testing.assert_close(found, rows.norm(dim=(1, 2)))
    # and nothing is left behind that random numbers or other graphs would stumble over
    assert torch.randn(3, device="cuda").isfinite().all()
    step = _capture.Captured(lambda x: x.square().sum())
    found = torch.stack([step(x, None).clone() for x in rows])
    torch.testing.assert_close(found, rows.square().sum(dim=(1, 2)))
    assert type(step.graphs[rows[0].shape, None]) is _capture._Graph


class Halved(Callback):
    def on_epoch_begin(self, net, **kwargs):
        net.optimizer_.param_groups[0]["lr"] /= 2


@pytest.mark.parametrize(
    "callback", [Halved(), LRScheduler("StepLR", step_size=2)], ids=["set", "by a schedule"]
)
def test_a_learning_rate_that_changes_is_followed(monkeypatch, X, callback):
    changed = fitted(X, callbacks=[callback])
    monkeypatch.setattr(ReconstructionNet, "_can_be_captured", lambda net: False)
    expected = fitted(X, callbacks=[callback])
    for name, value in weights(expected).items():
        np.testing.assert_array_equal(weights(changed)[name], value)


class SyncCounts(Callback):
    """Counts how often an epoch waits for the device, as torch tells."""

    def on_epoch_begin(self, net, **kwargs):
        self.caught_ = warnings.catch_warnings(record=True)
        self.messages_ = self.caught_.__enter__()
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")

    def on_epoch_end(self, net, **kwargs):
        torch.cuda.set_sync_debug_mode("default")
        self.caught_.__exit__(None, None, None)
        self.n_waits_ = sum(
            "called a synchronizing CUDA" in str(one.message) for one in self.messages_
        )


def n_waits(X, batch_size, **parameters):
    autoencoder = fitted(
        X,
        batch_size=batch_size,
        max_iter=1,
        early_stopping=False,
        callbacks=[SyncCounts()],
        **parameters,
    )
    callbacks = [callback for _, callback in autoencoder.net_.callbacks_]
    return next(c for c in callbacks if type(c) is SyncCounts).n_waits_


def test_waits_are_counted():
    counts = SyncCounts()
    counts.on_epoch_begin(None)
    torch.ones(1, device="cuda").item()
    counts.on_epoch_end(None)
    assert counts.n_waits_ == 1


@pytest.mark.parametrize("rows", [np.asarray, with_gaps, table])
@pytest.mark.parametrize("parameters", CAPTURED[:-1] + LEFT_ALONE, ids=str)
def test_no_step_waits_for_the_device(X, rows, parameters):
    rows = rows(X)
    if parameters.get("encoder") is nn.Linear and rows.shape[1] != X.shape[1]:
        parameters = {"encoder": lambda n_in, n_out: nn.Linear(n_in, n_out), "decoder": nn.Linear}
    assert n_waits(rows, 300, **parameters) == n_waits(rows, 50, **parameters)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [np.asarray, with_gaps, table])
def test_a_model_maps_rows_on_the_cpu_as_on_the_device(X, rows, dtype):
    rows = rows(X.astype(dtype))
    autoencoder = fitted(rows)
    on_cpu = pickle.loads(pickle.dumps(autoencoder))
    on_cpu.net_.module_.cpu()
    on_cpu.net_.device = "cpu"
    assert autoencoder.device_.type == "cuda"
    assert on_cpu.device_.type == "cpu"
    # the same arithmetic in another order
    tolerance = {"atol": 1e-4 if dtype is np.float32 else 1e-9}
    codes = autoencoder.transform(rows)
    np.testing.assert_allclose(on_cpu.transform(rows), codes, **tolerance)
    np.testing.assert_allclose(
        on_cpu.score_samples(rows), autoencoder.score_samples(rows), **tolerance
    )


def test_a_fit_is_as_good_as_on_the_cpu(X):
    train, test = X[:1000], X[1000:]
    scores = [fitted(train, device=device, max_iter=100).score(test) for device in ("cuda", "cpu")]
    # other sums, and so other weights in the end; PCA has 0.6
    assert abs(scores[0] - scores[1]) < 0.01
    assert min(scores) > 0.95
