"""Sparse tables: the same as dense ones, a batch of dense rows at a time."""

import math
import pickle
import tracemalloc

import numpy as np
import pytest
import scipy.sparse
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV

from skae import AutoencoderTransformer, _batches
from skae._batches import chunk_rows

TEXTBOOK = {
    "linear_skip": False,
    "init": "random",
    "activation": "relu",
    "output_activation": "logistic",
}
FORMATS = [
    getattr(scipy.sparse, f"{name}_{kind}")
    for name in ("csr", "csc", "coo")
    for kind in ("array", "matrix")
]


def small(**parameters):
    """Return a transformer that trains a few epochs and keeps the last one."""
    defaults = {
        "hidden_layer_sizes": (16,),
        "max_iter": 5,
        "early_stopping": False,
        "random_state": 0,
    }
    return AutoencoderTransformer(**{**defaults, **parameters})


@pytest.fixture(scope="module")
def counts():
    """Words in 200 texts of three subjects."""
    rng = np.random.RandomState(0)
    subjects = rng.dirichlet(np.full(30, 0.2), size=3)
    shares = rng.dirichlet(np.full(3, 0.3), size=200)
    X = rng.poisson(15 * shares @ subjects).astype(float) + (rng.uniform(size=(200, 30)) < 0.02)
    assert np.mean(X == 0) > 0.6
    return X


CONFIGURATIONS = {
    "start": {"max_iter": 0},
    "default": {},
    "folds": {"early_stopping": True},
    "held out": {"early_stopping": True, "validation_fraction": 0.2},
    "random": {"init": "random"},
    "absolute error": {"loss": "absolute_error"},
    "contractive": {"penalty": "contractive", "alpha": 0.01},
    "variational": {"penalty": "kl", "alpha": 0.01},
    "masking": {"corruption": "masking", "corruption_level": 0.3},
    "textbook": TEXTBOOK,
    "share of variance": {"n_components": 0.8},
}


@pytest.mark.parametrize("parts", [(0.5, 0.5), (1e4, 1 - 1e4)], ids=str)
def test_entries_that_are_stored_in_parts_are_their_sums(counts, parts):
    whole = scipy.sparse.csr_array(counts)
    halves = np.outer(whole.data, parts)  # of integers, so that sums are exact
    arrays = halves.ravel(), np.repeat(whole.indices, 2), 2 * whole.indptr
    parted = scipy.sparse.csr_array(tuple(array.copy() for array in arrays), whole.shape)
    fitted, other = (small(max_iter=20).fit(X) for X in (whole, parted))
    assert other.scale_ == fitted.scale_
    np.testing.assert_array_equal(other.transform(parted), fitted.transform(whole))
    assert parted.nnz == 2 * whole.nnz  # as it was given


@pytest.mark.parametrize("parameters", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_sparse_table_is_what_the_dense_one_is(counts, parameters, dtype):
    X = counts.astype(dtype)
    sparse = scipy.sparse.csr_array(X)
    # Components by another solver agree to rounding. Adam and SOAP make the more of it: their first
    # steps are as large for gradients that are rounding as for others.
    parameters = {"optimizer": "sgd", "learning_rate_init": 1e-2, **parameters}
    fitted, dense = small(**parameters).fit(sparse), small(**parameters).fit(X)
    assert fitted.n_components_ == dense.n_components_
    tolerance = {"rtol": 1e-3, "atol": 1e-2 if dtype == np.float32 else 1e-4}
    codes = fitted.transform(sparse)
    assert codes.dtype == dtype
    np.testing.assert_allclose(codes, dense.transform(X), **tolerance)
    np.testing.assert_allclose(fitted.reconstruct(sparse), dense.reconstruct(X), **tolerance)
    np.testing.assert_allclose(fitted.score_samples(sparse), dense.score_samples(X), **tolerance)
    np.testing.assert_allclose(fitted.score_features(sparse), dense.score_features(X), **tolerance)
    assert fitted.score(sparse) == pytest.approx(dense.score(X), abs=tolerance["atol"] / 10)
    np.testing.assert_allclose(fitted.mean_, dense.mean_, rtol=1e-5, atol=1e-6)
    assert fitted.scale_ == pytest.approx(dense.scale_, rel=1e-5)
    np.testing.assert_allclose(fitted.loss_curve_, dense.loss_curve_, rtol=1e-2)
    if dense.validation_scores_:
        np.testing.assert_allclose(fitted.validation_scores_, dense.validation_scores_, atol=1e-2)
    # the rows of a fitted model may be either
    np.testing.assert_allclose(
        fitted.transform(X), codes, rtol=1e-5, atol=1e-5 if dtype == np.float32 else 1e-12
    )


@pytest.mark.parametrize("make", FORMATS)
def test_all_formats_are_one(counts, make):
    X = make(counts)
    fitted = small().fit(X)
    csr = scipy.sparse.csr_array(counts)
    first = small().fit(csr)
    for method in ("transform", "reconstruct", "score_samples", "score"):
        one, other = getattr(fitted, method)(X), getattr(first, method)(csr)
        np.testing.assert_array_equal(one, other)
    assert X.format == make((1, 1)).format
    np.testing.assert_array_equal(X.toarray(), counts)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, bool])
@pytest.mark.parametrize("indices", [np.int32, np.int64])
def test_integers_and_long_indices_are_taken(counts, dtype, indices):
    X = scipy.sparse.csr_array(counts.astype(dtype))
    X.indices, X.indptr = X.indices.astype(indices), X.indptr.astype(indices)
    dense = small().fit(X.toarray().astype(float))
    fitted = small().fit(X)
    np.testing.assert_allclose(
        fitted.transform(X), dense.transform(X.toarray()), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("shape", [(200, 30), (20, 30), (30, 30)])
@pytest.mark.parametrize("n_components", [2, 0.5, 0.999, "all"])
def test_the_start_is_pca_without_a_dense_copy(counts, shape, n_components):
    X = counts[: shape[0], : shape[1]]
    k = min(shape) if n_components == "all" else n_components
    fitted = small(n_components=k, max_iter=0).fit(scipy.sparse.csr_array(X))
    pca = PCA(k, svd_solver="full").fit(X)
    assert fitted.n_components_ == pca.n_components_
    # weights are float32
    np.testing.assert_allclose(
        fitted.reconstruct(X), pca.inverse_transform(pca.transform(X)), atol=1e-5
    )
    well = pca.explained_variance_ratio_ > 1e-3  # of others signs and axes are rounding
    codes = fitted.transform(X)[:, well]
    np.testing.assert_allclose(np.abs(codes), np.abs(pca.transform(X)[:, well]), atol=1e-3)
    np.testing.assert_allclose(
        fitted.explained_variance_ratio_, pca.explained_variance_ratio_, atol=1e-5
    )


@pytest.mark.parametrize(
    ("make", "parameters"),
    [
        *[(make, {}) for make in FORMATS],
        (scipy.sparse.csr_array, {"early_stopping": True}),
        (scipy.sparse.csr_array, {"early_stopping": True, "validation_fraction": 0.2}),
        (scipy.sparse.csr_array, {"init": "random"}),
        (scipy.sparse.csr_array, {"penalty": "kl", "alpha": 0.01}),
    ],
)
def test_no_more_than_a_chunk_is_ever_dense(monkeypatch, make, parameters):
    monkeypatch.setattr(_batches, "_CHUNK_VALUES", 2**14)
    rng = np.random.RandomState(0)
    places = rng.randint(900, size=2700), rng.randint(300, size=2700)
    X = make(scipy.sparse.coo_array((rng.normal(size=2700), places), shape=(900, 300)))
    made = []
    for kind in FORMATS:

        def recorded(self, *args, to_dense=kind.toarray, **kwargs):
            made.append(math.prod(self.shape))
            return to_dense(self, *args, **kwargs)

        monkeypatch.setattr(kind, "toarray", recorded)
        monkeypatch.setattr(kind, "todense", recorded)
    fitted = small(hidden_layer_sizes=(4,), batch_size=32, max_iter=1, **parameters).fit(X)
    fitted.transform(X)
    fitted.score(X)
    fitted.score_samples(X)
    fitted.partial_fit(X)
    assert 0 < max(made) <= chunk_rows(300) * 300 == 54 * 300
    # and none is kept
    assert len(pickle.dumps(fitted)) < 4 * 900 * 300


@pytest.mark.filterwarnings("ignore:Nothing is known of")
def test_a_matrix_of_stored_nan_alone_has_the_units_of_a_dense_table():
    X = np.full((6, 3), np.nan)
    fitted, dense = small().fit(scipy.sparse.csr_array(X)), small().fit(X)
    assert fitted.scale_ == dense.scale_ == 1
    np.testing.assert_array_equal(fitted.transform(X), dense.transform(X))


@pytest.mark.parametrize("parameters", [{"max_iter": 0}, {}, {"early_stopping": True}])
def test_stored_nan_is_missing_as_in_a_dense_table(counts, parameters):
    X = np.where(np.random.RandomState(0).uniform(size=counts.shape) < 0.1, np.nan, counts)
    sparse = scipy.sparse.csc_array(X)
    assert np.isnan(sparse.data).sum() == np.isnan(X).sum()
    fitted, dense = small(**parameters).fit(sparse), small(**parameters).fit(X)
    tolerance = {"rtol": 1e-3, "atol": 1e-4}
    np.testing.assert_allclose(fitted.mean_, np.nanmean(X, axis=0), rtol=1e-12)
    assert fitted.scale_ == pytest.approx(dense.scale_, rel=1e-12)
    np.testing.assert_allclose(fitted.transform(sparse), dense.transform(X), **tolerance)
    np.testing.assert_allclose(fitted.score_samples(sparse), dense.score_samples(X), **tolerance)
    np.testing.assert_allclose(fitted.score_features(sparse), dense.score_features(X), **tolerance)
    assert fitted.score(sparse) == pytest.approx(dense.score(X), abs=1e-5)


def test_chunks_of_a_stream_may_be_sparse(counts):
    sparse = scipy.sparse.csr_matrix(counts)
    # Adam takes whole steps along gradients that are nothing but rounding
    fitted, dense = (small(optimizer="sgd", learning_rate_init=1e-2) for _ in range(2))
    for rows in (slice(0, 80), slice(80, 81), slice(81, 200)):
        fitted.partial_fit(sparse[rows])
        dense.partial_fit(counts[rows])
    # float32 weights
    np.testing.assert_allclose(fitted.transform(sparse), dense.transform(counts), atol=1e-5)
    np.testing.assert_allclose(fitted.loss_curve_, dense.loss_curve_, rtol=1e-5)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_tables_of_one_value_are_taken(value):
    X = scipy.sparse.csr_array(np.full((20, 6), value))
    fitted = small(early_stopping=True).fit(X)
    np.testing.assert_allclose(fitted.transform(X), 0, atol=1e-6)
    np.testing.assert_allclose(fitted.reconstruct(X), value, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e6, 1e30])
def test_fewer_directions_than_components_are_taken(scale):
    X = scale * np.outer(np.arange(20.0), [0, 1, 0, 0, 2, 0])
    fitted = small(n_components=3).fit(scipy.sparse.csr_array(X))
    assert np.isfinite(fitted.transform(X)).all()
    assert fitted.score(X) > 0.999


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e6, 1e30])
def test_units_do_not_matter(counts, scale):
    one, other = (small().fit(scipy.sparse.csr_array(s * counts)) for s in (1.0, scale))
    codes = other.transform(scale * counts) / scale
    np.testing.assert_allclose(codes, one.transform(counts), rtol=1e-3, atol=1e-3)


def test_searches_take_sparse_tables(counts):
    X = scipy.sparse.csr_array(counts)
    search = GridSearchCV(
        small(max_iter=1), {"n_components": [1, 4]}, cv=3, error_score="raise"
    ).fit(X)
    assert search.best_params_ == {"n_components": 4}


def test_the_rest_of_the_way_is_dense(counts):
    X = scipy.sparse.csr_array(counts)
    fitted = small().fit(X)
    assert type(fitted.inverse_transform(fitted.transform(X))) is np.ndarray
    assert type(fitted.sample(3, random_state=0)) is np.ndarray
    assert fitted.inverse_transform(fitted.transform(X), as_frame=True).shape == counts.shape


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_samples_have_the_dtype_of_the_training_data(counts, dtype):
    X = scipy.sparse.csr_array(counts.astype(dtype))
    for table in (X, X.toarray()):
        new = small().fit(table).sample(3, random_state=0)
        assert type(new) is np.ndarray
        assert new.dtype == dtype
        assert new.any()


@pytest.mark.parametrize("features", [[0], [False] * 29 + [True]])
def test_categories_are_refused(counts, features):
    sentence = (
        r"^X must be a dense table where columns are categories, got a sparse one; pass"
        r" X\.toarray\(\), or categorical_features=None\.$"
    )
    for method in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match=sentence):
            getattr(small(categorical_features=features), method)(scipy.sparse.csr_array(counts))


@pytest.mark.parametrize("features", [None, "from_dtype", []])
def test_no_categories_are_none(counts, features):
    X = scipy.sparse.csr_array(counts)
    fitted = small(categorical_features=features).fit(X)
    np.testing.assert_array_equal(fitted.transform(X), small().fit(X).transform(X))


@pytest.mark.parametrize("method", ["impute", "reconstruction_errors"])
@pytest.mark.parametrize("make", FORMATS)
def test_what_is_of_the_size_of_the_table_is_refused(counts, method, make):
    fitted = small(max_iter=0).fit(make(counts))
    with pytest.raises(TypeError, match=r"dense data is required.*toarray\(\)"):
        getattr(fitted, method)(make(counts))


def test_a_table_of_other_width_is_refused(counts):
    fitted = small(max_iter=0).fit(scipy.sparse.csr_array(counts))
    with pytest.raises(ValueError, match=r"X has 29 features, but .* is expecting 30 features"):
        fitted.transform(scipy.sparse.csr_array(counts[:, 1:]))


@pytest.mark.parametrize(
    ("unit", "dtype"),
    [(1e-25, np.float32), (1e25, np.float32), (1e-170, np.float64), (1e150, np.float64)],
)
def test_tiny_and_huge_units_are_met(counts, unit, dtype):
    expected = small(max_iter=0).fit(counts)
    model = small(max_iter=0).fit(scipy.sparse.csr_array((counts * unit).astype(dtype)))
    assert model.mean_.dtype == np.float64
    np.testing.assert_allclose(model.mean_ / unit, expected.mean_, rtol=1e-6)
    assert model.scale_ / unit == pytest.approx(expected.scale_, rel=1e-6)
    score = model.score((counts * unit).astype(dtype))
    assert score == pytest.approx(expected.score(counts), abs=1e-5)


def test_values_too_large_for_squares_are_refused(counts):
    with pytest.raises(ValueError, match="X must have a variance that is finite in float64"):
        small().fit(scipy.sparse.csr_array(counts * 1e160))


@pytest.mark.parametrize("n_components", [20, 0.9])
def test_few_rows_of_many_columns_take_no_square_of_these(n_components):
    rng = np.random.RandomState(0)
    X = rng.normal(size=(20, 3000)) * (rng.uniform(size=(20, 3000)) < 0.01)
    X = scipy.sparse.csr_array(X)
    tracemalloc.start()
    try:
        model = small(n_components=n_components, max_iter=0).fit(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3000**2 * 8 / 3
    dense = small(n_components=n_components, max_iter=0).fit(X.toarray())
    np.testing.assert_allclose(model.reconstruct(X), dense.reconstruct(X.toarray()), atol=1e-5)
