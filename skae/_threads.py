"""How many threads a fit uses."""

import contextlib
import functools
import statistics
import time

import torch
from threadpoolctl import ThreadpoolController


@functools.cache
def _libraries():
    return ThreadpoolController()  # finding them takes some milliseconds


@contextlib.contextmanager
def restored_threads():
    """Put back the number of torch's threads at the end of a ``with`` block."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def one_thread():
    """Compute with one thread inside a ``with`` block: torch, BLAS and OpenMP.

    Threads that share a small step meet hundreds of times in it, and each meeting waits for the one
    whose core is taken: where another process keeps one of two cores busy, steps of half a
    millisecond took up to fifty.
    """
    # Torch's number is put back last: its MKL has one of its own, and threads to come have another,
    # which the libraries' limits do not reach.
    with restored_threads(), _libraries().limit(limits=1):
        torch.set_num_threads(1)
        yield


class ThreadTrials:
    """Finds out with how many threads steps are faster: with one, or with as many as are set.

    Both are tried for some steps; then the faster one is used for ten times as long, and both are
    tried again, as other processes come and go.

    Parameters
    ----------
    n_threads : int
        The larger number.
    clock : callable, default=time.perf_counter
        Gives the seconds since some moment.
    """

    #: How many steps each number is tried for.
    N_TRIALS = 5

    def __init__(self, n_threads, clock=time.perf_counter):
        self.clock = clock
        self.choices = list(dict.fromkeys((1, n_threads)))
        self._numbers = self._plan()
        self._number = next(self._numbers)

    @contextlib.contextmanager
    def step(self):
        """Set the number of torch's threads for a step, which is a ``with`` block."""
        torch.set_num_threads(self._number)
        start = self.clock()
        yield
        self._number = self._numbers.send(self.clock() - start)

    def _plan(self):
        """Yield numbers of threads, and receive what the step took with each."""
        while True:
            start = self.clock()
            medians = {}
            for number in self.choices:
                seconds = []
                for _ in range(self.N_TRIALS):
                    seconds.append((yield number))
                medians[number] = statistics.median(seconds)
            fastest = min(medians, key=medians.get)
            now = self.clock()
            end = now + 10 * (now - start)
            while self.clock() < end:
                yield fastest
