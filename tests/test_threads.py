"""Numbers of threads."""

import re
import threading

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from threadpoolctl import threadpool_info

from skae import AutoencoderTransformer
from skae._batches import TimedBatches
from skae._threads import ThreadTrials, one_thread, restored_threads


@pytest.fixture(autouse=True, params=[1, 2])
def n_threads(request):
    """Run each test with one and with two threads set, whatever was."""
    with restored_threads():
        torch.set_num_threads(request.param)
        yield request.param


def library_threads():
    return [library["num_threads"] for library in threadpool_info()]


def test_one_thread_is_for_all_libraries_and_ends_with_the_block(n_threads):
    before = library_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
        assert set(library_threads()) == {1}
    assert torch.get_num_threads() == n_threads
    assert library_threads() == before


def mkl_threads():
    """Return what torch's MKL is set to, which threadpoolctl does not know."""
    return re.findall(r"mkl_get_max_threads\(\) : (\d+)", torch.__config__.parallel_info())


def test_the_numbers_of_mkl_and_of_threads_to_come_are_put_back_too(n_threads):
    before = mkl_threads()
    with one_thread():
        assert set(mkl_threads()) <= {"1"}
    assert mkl_threads() == before
    later = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [n_threads]


# ------------------------------------------------------------------------------------------ fits


class Watch(Callback):
    def __init__(self):
        self.seen = set()

    def on_train_begin(self, net, **kwargs):
        self.seen.add(torch.get_num_threads())

    def on_epoch_end(self, net, **kwargs):
        self.seen.add(torch.get_num_threads())


def watched(X, **parameters):
    watch = Watch()
    AutoencoderTransformer(2, max_iter=2, callbacks=[watch], random_state=0, **parameters).fit(X)
    return watch.seen


def table(n_samples, n_features):
    return np.random.RandomState(0).normal(size=(n_samples, n_features)).astype(np.float32)


@pytest.mark.parametrize("n_samples", [100, 5000])
def test_a_fit_of_small_steps_has_one_thread(n_threads, n_samples):
    before = library_threads()
    assert watched(table(n_samples, 10)) == {1}
    assert torch.get_num_threads() == n_threads
    assert library_threads() == before


def test_a_fit_of_large_steps_begins_with_the_threads_that_are_set(n_threads):
    # 12 * 256 * (500 * 100 + 100 * 2), 1.5e8 operations
    seen = watched(table(600, 500), hidden_layer_sizes=100, batch_size=256)
    assert n_threads in seen
    assert seen <= {1, n_threads}
    assert torch.get_num_threads() == n_threads


def test_a_network_of_ones_own_is_tried_with_one_thread_and_all(n_threads):
    class Watched(torch.nn.Linear):
        def forward(self, x):
            if self.training:
                seen.append(torch.get_num_threads())
            return super().forward(x)

    seen = []
    watched(table(500, 10), encoder=Watched, batch_size=32)
    assert set(seen) == {1, n_threads}
    assert torch.get_num_threads() == n_threads


def test_the_threads_of_a_fit_that_fails_are_put_back(n_threads):
    class Fail(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise ZeroDivisionError

    for X, hidden in ((table(50, 4), 8), (table(600, 500), 100)):
        autoencoder = AutoencoderTransformer(2, hidden_layer_sizes=hidden, callbacks=[Fail()])
        with pytest.raises(ZeroDivisionError):
            autoencoder.fit(X)
        assert torch.get_num_threads() == n_threads


# ---------------------------------------------------------------------------------------- trials


class Machine:
    """A clock, and steps that take as long as it says for each number of threads."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.now = 1e6  # clocks begin anywhere

    def clock(self):
        return self.now

    def run(self, trials, n_steps):
        """Return the numbers of threads of some steps."""
        numbers = []
        for _ in range(n_steps):
            with trials.step():
                numbers.append(torch.get_num_threads())
                self.now += self.seconds[numbers[-1]]
        return numbers


@pytest.mark.parametrize(("seconds", "best"), [({1: 1.0, 2: 0.5}, 2), ({1: 1.0, 2: 4.0}, 1)])
def test_both_numbers_are_tried_and_the_faster_one_is_used_ten_times_as_long(seconds, best):
    machine = Machine(seconds)
    trials = ThreadTrials(2, machine.clock)
    n = trials.N_TRIALS
    assert machine.run(trials, 2 * n) == [1] * n + [2] * n
    expected = round(10 * (machine.now - 1e6) / seconds[best])
    numbers = machine.run(trials, expected)
    assert numbers == [best] * expected
    assert machine.run(trials, 2 * n) == [1] * n + [2] * n


def test_one_slow_step_decides_nothing():
    machine = Machine({1: 1.0, 2: 0.6})
    trials = ThreadTrials(2, machine.clock)
    machine.run(trials, trials.N_TRIALS)
    machine.seconds[2] = 50.0
    machine.run(trials, 1)
    machine.seconds[2] = 0.6
    machine.run(trials, trials.N_TRIALS - 1)
    assert set(machine.run(trials, 5)) == {2}


def test_a_core_that_is_taken_meanwhile_is_left_at_the_next_trial():
    machine = Machine({1: 1.0, 2: 0.6})
    trials = ThreadTrials(2, machine.clock)
    machine.run(trials, 2 * trials.N_TRIALS)
    machine.seconds[2] = 3.0
    later = machine.run(trials, 200)
    assert later[:20] == [2] * 20
    # ten steps in a trial, of which five are slow, and ten times as long with one thread
    assert later[100:].count(2) <= 5
    assert later[100:].count(1) >= 95


def test_one_thread_is_never_made_two():
    machine = Machine({1: 1.0})
    assert set(machine.run(ThreadTrials(1, machine.clock), 100)) == {1}


def test_timed_batches_are_the_batches():
    class Data:
        X = torch.arange(10.0).reshape(5, 2)

    batches = TimedBatches(Data, 2)
    for _ in range(2):
        assert torch.equal(torch.cat([x for x, _ in batches]), Data.X)
    first = next(iter(batches))  # an epoch may end early, by an exception
    assert len(first[0]) == 2
