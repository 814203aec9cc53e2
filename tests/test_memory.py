"""Data that stay in their file, and how much memory a fit takes."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer, _autoencoder
from skae._batches import RowsOnDemand, TensorBatches, is_mapped


@pytest.fixture(name="mapped")
def mapped_table(tmp_path):
    """A read-only map of a file, of more rows than are read at a time."""
    rng = np.random.RandomState(0)
    X = rng.normal(size=(5000, 3)) @ rng.normal(size=(3, 6)) + 0.1 * rng.normal(size=(5000, 6))
    np.save(tmp_path / "X.npy", X + 5)
    return np.load(tmp_path / "X.npy", mmap_mode="r")


@pytest.fixture
def nothing_is_read_whole(monkeypatch):
    monkeypatch.setattr(_autoencoder, "_MAX_READ", 0)


def test_views_of_a_map_are_mapped_and_copies_are_not(mapped):
    for view in (mapped, mapped[::2], np.asarray(mapped), np.asarray(mapped)[:, :2].T):
        assert is_mapped(view)
    for copied in (np.array(mapped), mapped[[0, 1]] + 0, np.array(mapped)[1:]):
        assert not is_mapped(copied)


def test_mapped_rows_are_those_of_the_tensor(mapped):
    rows = RowsOnDemand(
        mapped, lambda part: torch.from_numpy(np.array(part)) / 2, torch.device("cpu")
    )
    whole = torch.from_numpy(np.array(mapped)) / 2
    order = torch.randperm(5000)[:100]
    assert len(rows) == 5000
    assert torch.equal(rows[:3], whole[:3])
    assert torch.equal(rows.index_select(0, order), whole[order])
    for ours, theirs in [
        (rows.split(1999), whole.split(1999)),
        (rows.tensor_split(7), whole.tensor_split(7)),
    ]:
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_batches_of_mapped_rows_are_those_of_the_tensor(mapped):
    class Data:
        def __init__(self, X):
            self.X = X

    whole = torch.from_numpy(np.array(mapped)).float()
    rows = RowsOnDemand(mapped, lambda part: torch.tensor(part).float(), torch.device("cpu"))
    for shuffle in (False, True):
        batches = []
        for X in (whole, rows):
            torch.manual_seed(0)
            batches.append([x for x, _ in TensorBatches(Data(X), 600, shuffle=shuffle)])
        assert all(torch.equal(a, b) for a, b in zip(*batches, strict=True))


@pytest.mark.usefixtures("nothing_is_read_whole")
@pytest.mark.parametrize("n_components", [2, 0.9])
def test_a_mapped_file_starts_at_pca(mapped, n_components):
    autoencoder = AutoencoderTransformer(n_components, max_iter=0, random_state=0).fit(mapped)
    pca = PCA(n_components).fit(mapped)
    # weights are float32
    np.testing.assert_allclose(autoencoder.transform(mapped), pca.transform(mapped), atol=1e-5)
    np.testing.assert_allclose(
        autoencoder.explained_variance_ratio_, pca.explained_variance_ratio_, rtol=1e-5
    )


@pytest.mark.usefixtures("nothing_is_read_whole")
def test_a_mapped_file_of_more_columns_than_rows_starts_at_pca(mapped):
    wide = np.asarray(mapped)[:5].T[:, :4].T  # 4 rows of 6
    autoencoder = AutoencoderTransformer(2, max_iter=0, random_state=0).fit(wide)
    np.testing.assert_allclose(
        autoencoder.transform(wide), PCA(2).fit_transform(wide), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("parameters", [{}, {"penalty": "kl", "alpha": 0.01}, {"dropout": 0.1}])
def test_a_mapped_file_is_fitted_as_the_array_is(mapped, parameters, monkeypatch):
    parameters = {"hidden_layer_sizes": 16, "max_iter": 3, "random_state": 0, **parameters}
    in_memory = AutoencoderTransformer(2, **parameters).fit(np.array(mapped))
    monkeypatch.setattr(_autoencoder, "_MAX_READ", 0)
    monkeypatch.setattr(_autoencoder, "principal_components", None)  # which reads all rows
    autoencoder = AutoencoderTransformer(2, **parameters).fit(mapped)
    # the first weights differ by a float32 rounding, of which Adam's steps make a little more
    assert autoencoder.score(mapped) == pytest.approx(in_memory.score(mapped), abs=1e-4)
    assert len(autoencoder.loss_curve_) == 3


LIMITED = """
import resource, sys
import numpy as np
import torch
from skae import AutoencoderTransformer, _autoencoder

path, n_rows = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(1)
X = np.memmap(path, np.float32, "r", shape=(n_rows, 32))
settings = dict(n_components=4, hidden_layer_sizes=16, max_iter=1, batch_size=4096, random_state=0)
most_read, _autoencoder._MAX_READ = _autoencoder._MAX_READ, 0
AutoencoderTransformer(**settings).fit(X[:5000]).transform(X[:5000])  # what is loaded once
_autoencoder._MAX_READ = most_read
with open("/proc/self/statm") as statm:
    taken = int(statm.read().split()[0]) * resource.getpagesize()
allowance = X.nbytes // 2
resource.setrlimit(resource.RLIMIT_AS, (taken + allowance, taken + allowance))
try:
    np.ones(X.shape, np.float32)
except MemoryError:
    pass
else:
    raise SystemExit("the limit does not hold")
autoencoder = AutoencoderTransformer(**settings).fit(X)
assert autoencoder.transform(X).shape == (n_rows, 4)
print("fitted")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and RLIMIT_AS")
def test_a_file_larger_than_the_memory_that_is_left_can_be_fitted_and_transformed(tmp_path):
    n_rows = 2**21  # 256 MB of float32, above what is read whole, of which what is fixed is little
    X = np.memmap(tmp_path / "X", np.float32, "w+", shape=(n_rows, 32))
    rng = np.random.default_rng(0)
    for start in range(0, n_rows, 2**16):
        X[start : start + 2**16] = rng.standard_normal((2**16, 32), np.float32)
    X.flush()
    arguments = [sys.executable, "-c", LIMITED, str(tmp_path / "X"), str(n_rows)]
    process = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert process.stdout == "fitted\n", process.stderr
