"""Mini-batches."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from skorch.dataset import Dataset
from torch.utils.data import Subset

from skae._batches import RowsOnDemand, TensorBatches


def rows(n_rows, n_features=2):
    """Return rows of which no two are equal."""
    return torch.arange(n_rows * n_features, dtype=torch.float32).reshape(n_rows, n_features)


def dataset(X):
    return SimpleNamespace(X=X)


def passed(batches):
    return torch.cat([x for x, _ in batches])


def sizes(batches):
    return [len(x) for x, _ in batches]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("subset", [False, True])
def test_a_row_is_its_own_target(shuffle, subset):
    data = dataset(rows(7))
    batches = list(TensorBatches(Subset(data, [4, 1, 6]) if subset else data, 2, shuffle))
    assert batches
    for x, target in batches:
        assert target is x


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("n_rows", [1, 2, 6, 7, 8, 129])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 128, 1000])
def test_a_pass_takes_every_row_once(n_rows, batch_size, shuffle):
    X = rows(n_rows)
    taken = passed(TensorBatches(dataset(X), batch_size, shuffle))
    assert torch.equal(taken[taken[:, 0].argsort()], X)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(
    ("n_rows", "batch_size", "expected"),
    [
        (129, 128, [65, 64]),  # not 128 and a batch of one
        (7, 3, [3, 2, 2]),
        (6, 3, [3, 3]),
        (5, 8, [5]),
        (3, 1, [1, 1, 1]),
        (0, 4, []),
    ],
)
def test_rows_are_dealt_out_evenly(n_rows, batch_size, expected, shuffle):
    batches = TensorBatches(dataset(rows(n_rows)), batch_size, shuffle)
    assert sizes(batches) == expected
    assert len(batches) == len(expected)
    assert batches.n_rows == n_rows


def test_an_empty_subset_has_no_batches():
    batches = TensorBatches(Subset(dataset(rows(4)), []), 2)
    assert len(batches) == batches.n_rows == 0
    assert list(batches) == []


def test_unshuffled_rows_come_as_they_stand():
    X = rows(7)
    assert torch.equal(passed(TensorBatches(dataset(X), 3)), X)


def test_shuffling_is_off_unless_asked_for():
    assert TensorBatches(dataset(rows(2)), 1).shuffle is False


def test_unshuffled_batches_of_a_tensor_are_views_of_it():
    X = rows(7)
    for x, _ in TensorBatches(dataset(X), 3):
        assert x.untyped_storage().data_ptr() == X.untyped_storage().data_ptr()


@pytest.mark.parametrize("indices", [[5, 0, 3, 3], np.array([5, 0, 3, 3])])
def test_a_subset_is_the_rows_it_names_in_its_order(indices):
    X = rows(7)
    batches = TensorBatches(Subset(dataset(X), indices), 3)
    assert len(batches) == 2
    assert torch.equal(passed(batches), X[[5, 0, 3, 3]])


def test_a_shuffled_subset_is_the_rows_it_names():
    X = rows(50)
    named = [40, 3, 17, 5, 8, 29]
    torch.manual_seed(0)
    taken = passed(TensorBatches(Subset(dataset(X), named), 4, shuffle=True))
    assert not torch.equal(taken, X[named])
    assert sorted(taken[:, 0].tolist()) == sorted(X[named][:, 0].tolist())


def test_each_pass_has_a_new_order_drawn_from_torchs_global_generator():
    X = rows(40)
    batches = TensorBatches(dataset(X), 7, shuffle=True)
    torch.manual_seed(0)
    first, second = passed(batches), passed(batches)
    torch.manual_seed(0)
    assert torch.equal(first, X[torch.randperm(40)])
    assert torch.equal(second, X[torch.randperm(40)])
    assert not torch.equal(first, second)


@pytest.mark.parametrize("shuffle", [False, True])
def test_iterators_of_one_object_do_not_disturb_each_other(shuffle):
    batches = TensorBatches(dataset(rows(6)), 2, shuffle)
    pairs = list(zip(batches, batches, strict=True))
    for side in (0, 1):
        taken = torch.cat([pair[side][0] for pair in pairs])
        assert torch.equal(taken[taken[:, 0].argsort()], rows(6))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_arrays_become_float32_tensors(dtype):
    X = np.array([[0.1, 2.0], [3.0, 4.0], [5.0, 6.0]]).astype(dtype)
    taken = passed(TensorBatches(Dataset(X), 2))
    assert taken.dtype == torch.float32
    np.testing.assert_array_equal(taken.numpy(), X.astype(np.float32))


def test_a_float32_tensor_is_not_copied():
    X = rows(5)
    assert TensorBatches(dataset(X), 2).X is X


def test_batches_lie_on_the_tensors_device():
    X = torch.empty(7, 2, device="meta")
    for shuffle in (False, True):
        for x, _ in TensorBatches(Subset(dataset(X), [1, 4, 2]), 2, shuffle):
            assert x.device == X.device


def test_a_last_row_alone_is_a_part():
    on_demand = RowsOnDemand(np.arange(10.0).reshape(5, 2), torch.from_numpy, torch.device("cpu"))
    assert [len(part) for part in on_demand.split(2)] == [2, 2, 1]
