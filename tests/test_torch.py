"""Devices, precision and torch's random state."""

import random
import threading

import numpy as np
import pytest
import torch
from torch import nn

from skae._torch import inference_dtype, resolve_device, seeded

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
