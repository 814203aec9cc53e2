"""Steps that are captured once and replayed; on the CPU, where a replay is a call."""

import copy

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback

from skae import AutoencoderTransformer, _capture
from skae._capture import Captured
from skae._net import ReconstructionNet
from skae.penalties import L2


class Replayed:
    """Calls a function in the place of a graph of the call, with the memory that a graph has."""

    def __init__(self, function, x, pool):
        self.function, self.batch = function, torch.empty_like(x)
        self.output = torch.zeros(())

    def __call__(self, x):
        self.batch.copy_(x)
        return self.output.copy_(self.function(self.batch))


@pytest.fixture(autouse=True)
def graphs(monkeypatch):
    made = []

    def graph(*args):
        made.append(Replayed(*args))
        return made[-1]

    monkeypatch.setattr(_capture, "_Graph", graph)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    return made


@pytest.fixture
def capturing(monkeypatch):
    monkeypatch.setattr(ReconstructionNet, "_can_be_captured", lambda net: True)


# -------------------------------------------------------------------------------------- functions


def test_the_first_call_of_each_kind_is_a_call_and_the_second_is_recorded(graphs):
    calls = []

    def total(x):
        calls.append(len(x))
        return x.sum()

    step = Captured(total)
    for n_rows, kind, n_graphs in [
        (2, 0, 0),
        (2, 0, 1),
        (2, 0, 1),
        (3, 0, 1),
        (2, 1, 1),
        (2, 1, 2),
    ]:
        assert step(torch.ones(n_rows, 5), kind) == 5 * n_rows
        assert len(graphs) == n_graphs
    assert calls == [2, 2, 2, 3, 2, 2]


def test_what_cannot_be_recorded_is_called(monkeypatch):
    def refused(*args):
        raise RuntimeError("operation not permitted when stream is capturing")

    class Generator:
        state = "in the midst of a capture"

        def clone_state(self):
            return "as before"

        def graphsafe_set_state(self, state):
            self.state = state

    generator = Generator()
    monkeypatch.setattr(_capture, "_Graph", refused)
    monkeypatch.setattr(torch.cuda, "default_generators", {None: generator})  # of the CPU's index
    step = Captured(torch.sum)
    assert [step(torch.full((2,), float(i)), None).item() for i in range(4)] == [0, 2, 4, 6]
    assert generator.state == "as before"


# ----------------------------------------------------------------------------------------- fits


def fitted(X, **parameters):
    parameters = {"max_iter": 12, "random_state": 0, "device": "cpu", **parameters}
    return AutoencoderTransformer(2, **parameters).fit(X)


def assert_same_fit(one, other):
    assert one.loss_curve_ == other.loss_curve_
    assert one.validation_scores_ == other.validation_scores_
    for name, value in other.net_.module_.state_dict().items():
        assert torch.equal(one.net_.module_.state_dict()[name], value), name


@pytest.fixture(scope="module", name="X")
def sheet():
    rng = np.random.RandomState(0)
    u = rng.uniform(-1, 1, size=(1100, 2))
    return np.column_stack([u, u**2, np.sin(3 * u)]) + 0.01 * rng.normal(size=(1100, 6))


@pytest.mark.parametrize("n_samples", [1100, 300])
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"average": False},
        {"penalty": "l1", "alpha": 1e-3},
        {"optimizer": "adam"},
        {"corruption": "gaussian"},
    ],
    ids=str,
)
def test_a_fit_is_the_same_to_the_bit(request, graphs, X, n_samples, parameters):
    expected = fitted(X[:n_samples], **parameters)
    assert graphs == []
    request.getfixturevalue("capturing")
    assert_same_fit(fitted(X[:n_samples], **parameters), expected)
    assert graphs


def test_nothing_captured_outlives_training(capturing, graphs, X):
    autoencoder = fitted(X)
    assert graphs
    assert autoencoder.net_.captured_ is None
    autoencoder.partial_fit(X)
    assert copy.deepcopy(autoencoder).net_.captured_ is None


class Slower(Callback):
    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == 5:
            net.optimizer_.param_groups[0]["lr"] /= 2


class Bolder(Callback):
    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == 5:
            net.alpha *= 10


class Blinder(Callback):
    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == 5:
            net.corruption_level *= 2


class Frozen(Callback):
    def on_epoch_begin(self, net, **kwargs):
        next(net.module_.decoder.parameters()).requires_grad_(len(net.history) != 5)


@pytest.mark.parametrize(
    "callback", [Slower(), Bolder(), Blinder(), Frozen()], ids=lambda c: type(c).__name__
)
def test_what_a_callback_changes_is_captured_anew(request, graphs, X, callback):
    parameters = {"alpha": 1e-4}  # the automatic one changes by itself
    if isinstance(callback, Blinder):
        parameters["corruption"] = "gaussian"
    expected = fitted(X, callbacks=[callback], **parameters)
    request.getfixturevalue("capturing")
    unchanged = fitted(X, **parameters)
    n_graphs = len(graphs)
    graphs.clear()
    changed = fitted(X, callbacks=[callback], **parameters)
    assert_same_fit(changed, expected)
    assert changed.loss_curve_ != unchanged.loss_curve_
    if not isinstance(callback, Frozen):  # after which steps go by autograd
        assert len(graphs) > n_graphs


@pytest.mark.parametrize("n_listeners", [0, 1])
def test_steps_are_captured_on_cuda_alone_and_where_nobody_listens(monkeypatch, X, n_listeners):
    class Looked(Callback):
        found = ()

        def on_epoch_begin(self, net, **kwargs):
            if n_listeners:
                net.optimizer_.register_step_post_hook(lambda *args: None)
            net._look_around()
            Looked.found += (net._can_be_captured(),)

    fitted(X, callbacks=[Looked()])
    assert set(Looked.found) == {False}
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda tensor: True))
    Looked.found = ()
    fitted(X, callbacks=[Looked()])
    assert set(Looked.found) == {not n_listeners}


class Own(L2):
    """It may do what cannot be captured."""


@pytest.mark.parametrize(
    "parameters",
    [{"corruption": lambda x, level: level * x}, {"optimizer": "sgd"}, {"penalty": Own()}],
    ids=["corruption", "optimizer", "penalty"],
)
def test_what_is_not_known_is_not_captured(monkeypatch, graphs, X, parameters):
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda tensor: True))
    fitted(X)
    assert graphs
    graphs.clear()
    fitted(X, **parameters)
    assert graphs == []
