"""Devices, precision and torch's random state."""

import copy
import os
import random
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from skae import AutoencoderTransformer, _mixed, _soap, modules
from skae._torch import converted, inference_dtype, resolve_device, seeded

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["cpu", "cpu:0"])
def test_a_name_resolves_to_the_device_it_names(name):
    assert resolve_device(name) == torch.device(name)
    assert resolve_device(torch.device(name)) == torch.device(name)


@pytest.mark.parametrize(("available", "expected"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_cuda_exactly_where_torch_has_it(monkeypatch, available, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert resolve_device("auto") == torch.device(expected)


@pytest.mark.parametrize(
    "device",
    [
        "gpu",  # no such type
        "",
        "cuda:x",
        "cuda:99",  # no such card, or no CUDA at all
        torch.device("cuda:99"),
        "meta",  # tensors without values
        torch.device("meta"),
        "xla",  # a backend that is not built in
        "hpu",  # a backend whose own module is missing
    ],
)
def test_a_device_that_cannot_compute_is_refused_in_one_sentence(device):
    with pytest.raises(ValueError, match=r"^device must be one that torch can use on this") as info:
        resolve_device(device)
    (reason, *_) = str(info.value.__cause__).splitlines()
    message = str(info.value)
    assert message.endswith(f"got {device!r} ({reason}); use device='auto' or device='cpu'.")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("dtype", "device", "expected"),
    [
        (np.float64, "cpu", torch.float64),
        (np.float32, "cpu", torch.float32),
        (np.float64, "cuda", torch.float64),
        (np.float32, "cuda", torch.float32),
        (np.float64, "mps", torch.float32),  # Apple's GPUs have no float64
        (np.float32, "mps", torch.float32),
    ],
)
def test_arrays_are_mapped_in_their_own_precision_where_the_device_has_it(dtype, device, expected):
    assert inference_dtype(np.dtype(dtype), torch.device(device)) is expected


TEXTBOOK = {"linear_skip": False, "init": "random", "output_activation": "logistic"}


@pytest.mark.parametrize(
    "parameters",
    [{}, {"dropout": 0.1}, {"penalty": "l1"}, TEXTBOOK, {"categorical_features": [0, 1]}],
    ids=str,
)
def test_a_module_in_float64_is_its_copy_in_float64(curve, parameters):
    X = curve.copy()
    X[:, 0] = 1 + np.arange(len(X)) % (_mixed.MAX_ONE_HOT + 10)  # as numbers of categories are
    X[:, 1] = 1 + np.arange(len(X)) % 3
    parameters = {"max_iter": 1, "early_stopping": False, "random_state": 0, **parameters}
    module = AutoencoderTransformer(**parameters).fit(X).net_.module_
    before, parts = copy.deepcopy(module), list(module.modules())
    found, expected = converted(module, CPU, torch.float64), copy.deepcopy(module).double()
    rows = torch.from_numpy(X)
    rows[::7, 2] = torch.nan
    with torch.no_grad():
        assert found(rows).dtype == torch.float64
        assert torch.equal(found(rows), expected(rows))
        # weights are converted, not shared: what is done to them leaves the others
        for tensor in [*found.parameters(), *found.buffers()]:
            if tensor.is_floating_point():
                tensor.zero_()
    assert list(module.modules()) == parts
    for name, value in before.state_dict().items():
        assert torch.equal(module.state_dict()[name], value)
        assert module.state_dict()[name].dtype == value.dtype


def test_inside_seeded_torch_draws_what_the_seed_alone_gives():
    torch.manual_seed(1)
    with seeded(7, CPU):
        drawn = torch.rand(5)
    torch.manual_seed(2)
    with seeded(7, CPU):
        again = torch.rand(5)
    assert torch.equal(drawn, torch.rand(5, generator=torch.Generator().manual_seed(7)))
    assert torch.equal(drawn, again)
    with seeded(8, CPU):
        assert not torch.equal(drawn, torch.rand(5))


def test_modules_and_dropout_follow_the_seed():
    def draw():
        with seeded(3, CPU):
            return nn.Dropout()(nn.Linear(4, 3)(torch.ones(2, 4)))

    assert torch.equal(draw(), draw())


def global_states():
    return torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()


def assert_same_states(before, after):
    assert torch.equal(before[0], after[0])
    np.testing.assert_array_equal(before[1], after[1])
    assert before[2] == after[2]


def test_after_seeded_the_global_generators_are_as_before():
    before = global_states()
    with seeded(0, CPU):
        torch.rand(3)
    assert_same_states(before, global_states())


def test_after_an_error_inside_seeded_the_global_generators_are_as_before():
    before = global_states()

    def fail():
        with seeded(0, CPU):
            torch.rand(3)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert_same_states(before, global_states())


def test_seeded_blocks_nest():
    with seeded(0, CPU):
        first, second = torch.rand(1), torch.rand(1)
    with seeded(0, CPU):
        assert torch.equal(torch.rand(1), first)
        with seeded(1, CPU):
            torch.rand(10)
        assert torch.equal(torch.rand(1), second)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks on this system")
def test_a_child_does_not_wait_for_a_thread_that_is_not_there():
    script = """
import os, sys, threading
import torch
from skae._torch import seeded

entered, done = threading.Event(), threading.Event()
def hold():
    with seeded(0, torch.device("cpu")):
        entered.set()
        done.wait()
thread = threading.Thread(target=hold)
thread.start()
entered.wait()
child = os.fork()
if child == 0:
    import faulthandler
    faulthandler.dump_traceback_later(20, exit=True)
    with seeded(0, torch.device("cpu")):
        os._exit(0)
_, status = os.waitpid(child, 0)
done.set()
thread.join()
sys.exit(status != 0)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, timeout=60)


def test_threads_take_turns_inside_seeded():
    # the generators are the process's
    drawn = []

    def draw():
        with seeded(1, CPU):
            drawn.append(torch.rand(3))

    thread = threading.Thread(target=draw)
    with seeded(0, CPU):
        thread.start()
        thread.join(0.1)  # it would be done by then
        assert thread.is_alive()
        mine = torch.rand(3)
    thread.join()
    for seed, values in [(0, mine), (1, drawn[0])]:
        assert torch.equal(values, torch.rand(3, generator=torch.Generator().manual_seed(seed)))


def test_after_an_error_inside_seeded_other_threads_have_their_turn():
    def fail():
        with seeded(0, CPU):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    done = []

    def enter():
        with seeded(1, CPU):
            done.append(True)

    thread = threading.Thread(target=enter, daemon=True)
    thread.start()
    thread.join(10)
    assert done


class CudaGenerator:
    """What torch.cuda has of a random state, as a number."""

    def __init__(self, monkeypatch):
        self.state, self.seeded_device, self.current = 5, None, None
        monkeypatch.setattr(torch.cuda, "device", self.device)
        monkeypatch.setattr(torch.cuda, "manual_seed", self.manual_seed)
        monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: self.state)
        monkeypatch.setattr(
            torch.cuda, "set_rng_state", lambda state, device: setattr(self, "state", state)
        )

    def device(self, device):
        generator = self

        class Current:
            def __enter__(self):
                generator.current = device

            def __exit__(self, *exception):
                generator.current = None

        return Current()

    def manual_seed(self, seed):
        self.state, self.seeded_device = seed, self.current


def test_a_cuda_device_is_seeded_and_put_back_too(monkeypatch):
    # the calls that torch makes of a driver are replaced: this must hold on machines without one
    generator = CudaGenerator(monkeypatch)
    device = torch.device("cuda:1")
    with seeded(7, device):
        assert generator.state == 7
        assert generator.seeded_device == device
        assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(7)))
    assert generator.state == 5


def test_on_the_cpu_no_cuda_generator_is_touched(monkeypatch):
    generator = CudaGenerator(monkeypatch)
    with seeded(7, CPU):
        assert generator.state == 5
    assert generator.seeded_device is None


# ------------------------------------------------------------------------------- waiting for values


class Waits(TorchDispatchMode):
    """Counts what makes the CPU wait for an accelerator: to read a value, or count what is true."""

    OPERATIONS = ("_local_scalar_dense", "nonzero", "equal", "masked_select", "is_nonzero")

    def __init__(self):
        super().__init__()
        self.n_waits = self.n_calls = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.n_calls += 1
        self.n_waits += function.overloadpacket.__name__ in self.OPERATIONS
        return function(*args, **(kwargs or {}))


class Counting(Callback):
    def on_epoch_begin(self, net, **kwargs):
        self.waits_ = Waits()
        self.waits_.__enter__()

    def on_epoch_end(self, net, **kwargs):
        self.waits_.__exit__(None, None, None)


def counted(X, batch_size, **parameters):
    """Return how often an epoch waits, and how many operations it is of."""
    autoencoder = AutoencoderTransformer(
        2,
        hidden_layer_sizes=8,
        batch_size=batch_size,
        max_iter=1,
        early_stopping=False,
        callbacks=[Counting()],
        random_state=0,
        **parameters,
    ).fit(X)
    waits = next(c for _, c in autoencoder.net_.callbacks_ if type(c) is Counting).waits_
    return waits.n_waits, waits.n_calls


@pytest.mark.parametrize(
    "value", [torch.ones(1).item, torch.ones(3).nonzero, torch.ones(1).__bool__]
)
def test_waits_are_counted(value):
    with Waits() as waits:
        value()
    assert waits.n_waits == 1


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"average": False, "alpha": 0},
        {"optimizer": "sgd", "tied_weights": True},
        {"dropout": 0.2},
        {"loss": "huber"},
        {"penalty": "l1"},
        {"penalty": "contractive"},
        {"penalty": "activity_l1"},
        {"penalty": "kl"},
        {"corruption": "gaussian"},
        {"corruption": "masking"},
        {"corruption": "swap"},
        {"encoder": nn.Linear, "decoder": nn.Linear},
        {"linear_skip": False, "init": "random", "activation": "relu"},
    ],
    ids=str,
)
@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
def test_no_step_waits_for_a_value(monkeypatch, parameters, gaps):
    # On the CPU a glance at the rows is cheap; elsewhere none is taken, as here. Whatever else
    # waits for values does so as often for 8 batches an epoch as for 24.
    for module in (modules, _mixed):
        monkeypatch.setattr(module, "may_have_gaps", lambda x: True)
    monkeypatch.setattr(_soap, "may_be_larger", lambda one, other: True)
    X = np.random.RandomState(0).normal(size=(1200, 5))  # so many that gradients are limited
    if gaps:
        X[::7, 2] = np.nan
    few, many = (counted(X, n, **parameters) for n in (150, 50))
    assert few[0] == many[0]
    assert 2 * few[1] < many[1]
