"""Training steps on CUDA as one launch each."""

import torch


class Captured:
    """A function of batches on a CUDA device, whose calls of torch are launched as one.

    A step of a small network is a hundred calls, each of which takes the processor longer to launch
    than the device to do. A CUDA graph has them all, with the addresses of their tensors.

    Parameters
    ----------
    function : callable
        Takes a tensor and returns one. What else it reads and writes stays where it is between
        calls. Random numbers are those of torch's default generator, which draws the same for a
        graph as for calls. If a call cannot be captured, as it waits for a value, all are calls.
    """

    def __init__(self, function):
        self.function = function
        self.pool = torch.cuda.graph_pool_handle()
        self.graphs = {}

    def __call__(self, x, kind):
        """Call the function, or launch what it did before.

        Parameters
        ----------
        x : Tensor
        kind : hashable
            Calls with this and the shape of `x` in common are the same calls of torch.

        Returns
        -------
        Tensor
            It stays as it is until the next call.
        """
        kind = x.shape, kind
        if self.graphs is None:
            return self.function(x)
        if kind not in self.graphs:  # buffers are made now, and libraries loaded
            self.graphs[kind] = None
            return self.function(x)
        if self.graphs[kind] is None:
            try:
                self.graphs[kind] = _Graph(self.function, x, self.pool)
            except RuntimeError:  # as all are that torch raises here
                self._give_up(x.device)
                return self.function(x)
        return self.graphs[kind](x)

    def _give_up(self, device):
        # a graph that was begun and not ended leaves torch's generator as if it were being captured
        # (torch 2.11), in which state it refuses to draw, and graphs to be launched
        self.graphs = None
        generator = torch.cuda.default_generators[device.index]
        generator.graphsafe_set_state(generator.clone_state())


class _Graph:
    """A CUDA graph of one call.

    Not by ``torch.cuda.graph``, which empties torch's cache of memory for each.
    """

    def __init__(self, function, x, pool):
        self.batch = torch.empty_like(x)
        self.graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream(x.device)
        stream.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.stream(stream):
            self.graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            try:
                self.output = function(self.batch)
            finally:
                self.graph.capture_end()
        torch.cuda.current_stream(x.device).wait_stream(stream)

    def __call__(self, x):
        self.batch.copy_(x)
        self.graph.replay()
        return self.output
