"""Rows as the networks see them, and mini-batches of them."""

import mmap

import torch
from torch.utils.data import Subset

from skae._threads import ThreadTrials

# How many values, and rows, are read at a time: enough to fill the cores, few enough to stay in
# cache.
_CHUNK_VALUES = 2**22
_CHUNK_ROWS = 4096


def chunk_rows(n_features):
    """Return how many rows are mapped at a time."""
    return max(1, min(_CHUNK_ROWS, _CHUNK_VALUES // n_features))


def chunks_of(X, width=None):
    """Return slices of that many rows, which make up all rows of an array or sparse matrix.

    The width is the number of features, if rows are not to become longer than that.
    """
    n_rows = chunk_rows(width or X.shape[1])
    return (slice(i, i + n_rows) for i in range(0, X.shape[0], n_rows))


class RowsOnDemand:
    """Rows that would not fit into the memory, brought to the networks' units when they are read.

    Has as much of a tensor's face as training needs.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n_samples, n_features)
        A view of a file, or sparse.
    to_units : callable
        Makes a float32 tensor of some rows, and does not keep them.
    device : torch.device
    """

    def __init__(self, X, to_units, device):
        self.X = X
        self.to_units = to_units
        self.device = device

    def __len__(self):
        return self.X.shape[0]

    def __getitem__(self, rows):
        return self.to_units(self.X[rows])

    def index_select(self, dim, rows):
        return self[rows.cpu().numpy()]

    def split(self, n_rows):
        return (self[i : i + n_rows] for i in range(0, len(self), n_rows))

    def tensor_split(self, n_parts):
        rows = torch.arange(len(self))
        return (self.index_select(0, part) for part in rows.tensor_split(n_parts))


class InputRows:
    """Rows as a module makes them, when they are read.

    Parameters
    ----------
    data : Tensor or RowsOnDemand of shape (n_samples, n_features)
    module : nn.Module
        On the device of the data.
    """

    def __init__(self, data, module):
        self.data = data
        self.module = module

    @property
    def device(self):
        return self.data.device

    def __len__(self):
        return len(self.data)

    @torch.no_grad()
    def __getitem__(self, rows):
        return self.module(self.data[rows])

    def chunks(self):
        """Yield all rows, as many at a time as are mapped at a time."""
        n_rows = chunk_rows(self[:1].shape[1])
        return (self[i : i + n_rows] for i in range(0, len(self), n_rows))

    def subset(self, rows):
        """Return some of the rows, which an array names."""
        data = self.data
        if isinstance(data, RowsOnDemand):
            data = RowsOnDemand(data.X[rows], data.to_units, data.device)
        else:
            data = data[torch.from_numpy(rows).to(data.device)]
        return InputRows(data, self.module)


def is_mapped(X):
    """Return whether an array is a view of a file (of which arrays keep the map itself)."""
    while getattr(X, "base", None) is not None:
        X = X.base
    return isinstance(X, mmap.mmap)


class TensorBatches:
    """Iterate over the rows of a tensor data set in batches ``(x, x)``: a row is its own target.

    Takes the place of :class:`torch.utils.data.DataLoader`, which fetches the rows of a tensor one
    by one and stacks them again: most of the time of a step on a small table. A batch is one
    gather on the tensor's device, or a view where rows are taken in order.

    Rows are dealt out evenly, 65 and 64 instead of 128 and 1: no row is left out, and no step
    rests on a handful of rows (normalisation layers refuse a batch of one).

    Parameters
    ----------
    dataset : object with an attribute ``X``, or torch.utils.data.Subset of one
        ``X`` is all rows, a tensor, an array or :class:`RowsOnDemand`, of which a ``Subset`` names
        some.
    batch_size : int
        The largest number of rows in a batch.
    shuffle : bool, default=False
        Whether each pass takes the rows in a new order, drawn from torch's global generator.
    """

    def __init__(self, dataset, batch_size, shuffle=False):
        whole, rows = dataset, None
        if isinstance(dataset, Subset):
            whole, rows = dataset.dataset, torch.as_tensor(dataset.indices)
        self.X = whole.X
        if not isinstance(self.X, RowsOnDemand):
            self.X = torch.as_tensor(self.X, dtype=torch.float32)
        self.rows = rows
        self.batch_size = batch_size
        self.shuffle = shuffle

    @property
    def n_rows(self):
        return len(self.X if self.rows is None else self.rows)

    def __len__(self):
        return -(-self.n_rows // self.batch_size)

    def _order(self):
        """Return the rows of one pass, or None for all of them as they stand."""
        if not self.shuffle:
            return self.rows
        order = torch.randperm(self.n_rows)
        return order if self.rows is None else self.rows[order]

    def __iter__(self):
        if self.n_rows == 0:
            return
        order = self._order()
        if order is None:
            batches = self.X.tensor_split(len(self))
        else:
            parts = order.to(self.X.device).tensor_split(len(self), dim=-1)
            batches = map(self._gathered, parts)
        for x in batches:
            yield x, x

    def _gathered(self, rows):
        return self.X.index_select(0, rows)


class TimedBatches(TensorBatches):
    """Batches between which torch's number of threads is set to what steps are fastest with.

    They are :class:`TensorBatches` where only one thread is set.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.trials = ThreadTrials(torch.get_num_threads())

    def __iter__(self):
        for batch in super().__iter__():
            with self.trials.step():
                yield batch


class StackedBatches(TimedBatches):
    """Iterate over several sets of rows side by side: ``(n_sets, batch, n_features)``.

    As batches have to be of one size, a pass leaves out, of sets that have more rows than the
    smallest, some by chance.

    Parameters
    ----------
    dataset : torch.utils.data.Subset
        Its indices are a list of arrays, the rows of each set.
    batch_size, shuffle
        As in :class:`TensorBatches`; rows are always shuffled.
    """

    def __init__(self, dataset, batch_size, shuffle=True):
        super().__init__(dataset.dataset, batch_size, shuffle)
        self.rows = [torch.as_tensor(rows) for rows in dataset.indices]

    @property
    def n_rows(self):
        return min(map(len, self.rows))

    def _order(self):
        orders = [rows[torch.randperm(len(rows))] for rows in self.rows]
        return torch.stack([order[: self.n_rows] for order in orders])

    def _gathered(self, rows):
        return super()._gathered(rows.reshape(-1)).view(*rows.shape, -1)
