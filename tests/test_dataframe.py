"""Frames of numbers and categories, with gaps, through the public face."""

import contextlib
import copy
import datetime
import decimal
import io
import pickle
import re
import tracemalloc
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils._param_validation import InvalidParameterError
from torch import nn

from skae import AutoencoderTransformer, _batches
from skae._frames import categories_of, encoded

palmerpenguins = pytest.importorskip("palmerpenguins")
pl = pytest.importorskip("polars")
prince = pytest.importorskip("prince")
pa = pytest.importorskip("pyarrow")

CATEGORICAL = ["colour", "flag", "size"]


def sheet(n_samples=200, gaps=0.0, seed=0):
    """Return a frame of what two numbers, u and v, determine: numbers and categories of them."""
    rng = np.random.RandomState(seed)
    u, v = rng.uniform(-1, 1, size=(2, n_samples))
    noise = 0.05 * rng.normal(size=(2, n_samples))
    X = pd.DataFrame(
        {
            "colour": np.array(["red", "green", "blue"])[np.digitize(u, [-0.3, 0.3])],
            "a": u + noise[0],
            "flag": v > 0,
            "b": v**2 + u + noise[1],
            "size": pd.Categorical.from_codes(
                np.digitize(u + v, [-0.5, 0.5]), ["S", "M", "L"], ordered=True
            ),
            "c": np.rint(100 * u * v).astype(int),
        },
        index=[f"row {i}" for i in range(n_samples)],
    )
    if gaps:
        X = X.astype({"flag": "boolean", "c": "Int64"})
        X = X.mask(rng.uniform(size=X.shape) < gaps)
    return X


def small(**parameters):
    """Return a transformer that trains a few epochs and keeps the last one."""
    defaults = {
        "hidden_layer_sizes": (16,),
        "max_iter": 5,
        "early_stopping": False,
        "random_state": 0,
    }
    return AutoencoderTransformer(**{**defaults, **parameters})


def start(n_components=2, **parameters):
    """Return a transformer that stays at its start."""
    return small(n_components=n_components, max_iter=0, **parameters)


@pytest.fixture(scope="module")
def whole():
    return sheet()


@pytest.fixture(scope="module")
def holey():
    return sheet(gaps=0.15)


@pytest.fixture(scope="module")
def fitted(whole):
    return small().fit(whole)


@pytest.fixture(scope="module")
def penguins():
    return palmerpenguins.load_penguins()


# ------------------------------------------------------- the start is factor analysis of mixed data

FRAMES = {
    "made": lambda: (sheet(), CATEGORICAL),
    "one column of each": lambda: (sheet()[["a", "colour"]], ["colour"]),
    "penguins": lambda: (
        palmerpenguins.load_penguins().dropna().reset_index(drop=True),
        ["species", "island", "sex"],
    ),
}


@pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES)
def test_before_training_codes_are_those_of_factor_analysis_of_mixed_data(make):
    X, categorical = make()
    famd = prince.FAMD(n_components=2, categorical_columns=categorical, random_state=0).fit(X)
    expected = famd.row_coordinates(X).to_numpy()
    model = start().fit(X)
    codes = model.transform(X)
    signs = np.sign((codes * expected).sum(axis=0))
    # shares and weights are float32
    np.testing.assert_allclose(codes, signs * expected, atol=1e-4 * np.abs(expected).max())
    # prince has variances with n, and these are with n - 1
    n_samples = len(X)
    np.testing.assert_allclose(
        model.explained_variance_ * (n_samples - 1) / n_samples, famd.eigenvalues_, rtol=1e-4
    )


def test_much_penalty_leaves_codes_that_are_linear_in_the_inputs_of_factor_analysis(whole):
    """Factor analysis does not make cross-entropies small, so that linear paths go on from it."""
    free = small(alpha=0, max_iter=60).fit(whole)
    held = small(alpha=1e3, max_iter=60, average=False).fit(whole)
    inputs = np.column_stack([start(8).fit(whole).transform(whole), np.ones(len(whole))])

    def share_not_linear(model):
        codes = model.transform(whole)
        _, left, *_ = np.linalg.lstsq(inputs, codes, rcond=None)
        return left.sum() / (codes**2).sum()

    # steps of 4e-3 are as near as Adam comes
    assert share_not_linear(held) < 1e-4
    assert share_not_linear(free) > 1e-3
    assert start().fit(whole).score(whole) + 0.03 < held.score(whole) < free.score(whole) - 0.01


# ----------------------------------------------------------------------- kinds of columns, pandas

N_ROWS = 60
ANSWERS = np.where(np.random.RandomState(1).uniform(size=N_ROWS) < 0.4, "yes", "no")
WITH_GAPS = [None if i % 9 == 4 else str(answer) for i, answer in enumerate(ANSWERS)]
TRUTHS = [None if answer is None else answer == "yes" for answer in WITH_GAPS]
COUNTS = [None if i % 9 == 4 else 7 * i % 11 for i in range(N_ROWS)]
FLOATS = [None if one is None else one / 4 for one in COUNTS]
DAYS = [None if one is None else datetime.date(2020, 1, 1 + one % 3) for one in COUNTS]


def of_dtype(values, dtype):
    return lambda: pd.Series(values, dtype=dtype)


def arrow(kind):
    return pd.ArrowDtype(kind)


PANDAS = {
    "category": of_dtype(WITH_GAPS, "category"),
    "ordered with unused": of_dtype(
        WITH_GAPS, pd.CategoricalDtype(["?", "yes", "no", "!"], ordered=True)
    ),
    "categories of integers": of_dtype(
        [None if one is None else one % 3 for one in COUNTS], pd.CategoricalDtype([9, 2, 1, 0])
    ),
    "intervals": lambda: pd.cut(pd.Series(FLOATS, dtype=float), 3),
    "object": of_dtype(WITH_GAPS, object),
    "object with NaN": of_dtype([np.nan if s is None else s for s in WITH_GAPS], object),
    "objects of several types": of_dtype([7 if s == "no" else s for s in WITH_GAPS], object),
    "objects of truths": of_dtype(TRUTHS, object),
    "str": of_dtype(WITH_GAPS, "str" if pd.__version__ >= "3" else object),
    "string[python]": of_dtype(WITH_GAPS, "string[python]"),
    "string[pyarrow]": of_dtype(WITH_GAPS, "string[pyarrow]"),
    "Arrow strings": of_dtype(WITH_GAPS, arrow(pa.string())),
    "bool": of_dtype(list(ANSWERS == "yes"), bool),
    "boolean": of_dtype(TRUTHS, "boolean"),
    "Arrow bool": of_dtype(TRUTHS, arrow(pa.bool_())),
    "float64": of_dtype(FLOATS, "float64"),
    "float32": of_dtype(FLOATS, "float32"),
    "int64": of_dtype([one or 0 for one in COUNTS], "int64"),
    "Int64": of_dtype(COUNTS, "Int64"),
    "UInt8": of_dtype(COUNTS, "UInt8"),
    "Float64": of_dtype(FLOATS, "Float64"),
    "Float32": of_dtype(FLOATS, "Float32"),
    "Arrow int": of_dtype(COUNTS, arrow(pa.int64())),
    "Arrow float": of_dtype(FLOATS, arrow(pa.float64())),
    "Arrow decimal": of_dtype(
        [None if one is None else decimal.Decimal(one) for one in COUNTS],
        arrow(pa.decimal128(10, 2)),
    ),
    "sparse": lambda: pd.Series(pd.arrays.SparseArray([one or 0.0 for one in FLOATS])),
}
POLARS = {
    "Categorical": (WITH_GAPS, pl.Categorical),
    "Enum with unused": (WITH_GAPS, pl.Enum(["?", "yes", "no"])),
    "String": (WITH_GAPS, pl.String),
    "Boolean": (TRUTHS, pl.Boolean),
    "Binary": ([None if one is None else one.encode() for one in WITH_GAPS], pl.Binary),
    "Int64": (COUNTS, pl.Int64),
    "Int8": (COUNTS, pl.Int8),
    "UInt64": (COUNTS, pl.UInt64),
    "Float64": (FLOATS, pl.Float64),
    "Float32": (FLOATS, pl.Float32),
}
RNG_NUMBERS = np.random.RandomState(2).normal(size=(N_ROWS, 2))


def beside(column):
    """Return a frame of numbers, a column of strings, and another one."""
    return pd.DataFrame(
        {
            "a": RNG_NUMBERS[:, 0],
            "k": column.array,
            "b": RNG_NUMBERS[:, 1],
            "s": np.where(RNG_NUMBERS[:, 0] > 0, "up", "down"),
        },
        index=pd.Index([f"row {i}" for i in range(N_ROWS)], name="label"),
    )


def same_where_known(given, X, tolerance):
    """Return the share of entries of X that are the same in a table."""
    n_same = n_known = 0
    for name in X.columns:
        ours, theirs = given[name].to_list(), X[name].to_list()
        for one, other in zip(ours, theirs, strict=True):
            if pd.isna(other):
                continue
            n_known += 1
            is_number = isinstance(other, float | decimal.Decimal)
            n_same += abs(float(one) - float(other)) < tolerance if is_number else one == other
    return n_same / n_known


def check_kind(X, same_form):
    """Check all ways that give a table, of a model with as many components as there are inputs."""
    model = start(5).fit(X)
    given = model.inverse_transform(model.transform(X))
    same_form(given)
    # float32 weights: numbers differ from the eighth digit, and categories not at all
    assert same_where_known(given, X, tolerance=1e-3) == 1
    reconstructed = model.reconstruct(X)
    same_form(reconstructed)
    assert same_where_known(reconstructed, given, tolerance=1e-9) == 1
    sample = model.sample(20, random_state=0)
    same_form(sample)
    assert len(sample) == 20
    imputed = model.impute(X)
    same_form(imputed)
    assert same_where_known(imputed, X, tolerance=1e-30) == 1
    return given, reconstructed, sample, imputed


def is_polars(X):
    return isinstance(X, pl.DataFrame)


@pytest.mark.parametrize("make", PANDAS.values(), ids=PANDAS)
def test_any_kind_of_pandas_column_comes_back_as_it_was(make):
    X = beside(make())

    def same_form(table):
        assert type(table) is pd.DataFrame
        pd.testing.assert_index_equal(table.columns, X.columns)
        assert table.dtypes.tolist() == X.dtypes.tolist()  # of categories also these, and order
        assert not table.isna().any(axis=None)

    _, reconstructed, _, imputed = check_kind(X, same_form)
    pd.testing.assert_index_equal(reconstructed.index, X.index)
    pd.testing.assert_index_equal(imputed.index, X.index)
    pd.testing.assert_frame_equal(imputed.where(X.notna()), X.where(X.notna()))


@pytest.mark.parametrize(("values", "dtype"), POLARS.values(), ids=POLARS)
def test_any_kind_of_polars_column_comes_back_as_it_was(values, dtype):
    X = pl.from_pandas(beside(pd.Series(ANSWERS)))
    X = X.with_columns(k=pl.Series(values, dtype=dtype))

    def same_form(table):
        assert type(table) is pl.DataFrame
        assert table.schema == X.schema
        assert not any(column.has_nulls() for column in table)

    check_kind(X, same_form)


def test_polars_and_pandas_frames_are_mapped_alike(holey):
    model = small().fit(holey)
    # the order of the categories is that of the weights
    X = pl.from_pandas(holey.astype({"size": object})).cast({"size": pl.Enum(["S", "M", "L"])})
    np.testing.assert_array_equal(model.transform(X), model.transform(holey))
    np.testing.assert_array_equal(small().fit(X).transform(holey), model.transform(holey))


ORDERS = {
    "of the dtype": (
        pd.Categorical(["S", "XL", "M"], ["XL", "L", "M", "S"]),
        ["XL", "M", "S"],
    ),
    "of the dtype, ordered": (
        pd.Categorical(["S", "XL", "M"], ["S", "M", "L", "XL"], ordered=True),
        ["S", "M", "XL"],
    ),
    "sorted strings": (["b", None, "a"], ["a", "b"]),
    "sorted truths": ([True, False, True], [False, True]),
    "types one by one": ([3, "a", 2.5], [2.5, 3, "a"]),
}


@pytest.mark.parametrize(("values", "expected"), ORDERS.values(), ids=ORDERS)
def test_categories_are_those_that_occur_in_the_order_of_the_dtype_or_sorted(values, expected):
    X = pd.DataFrame({"k": pd.Series(values), "a": [0.0, 1.0, 2.0]})
    categories, numbers = start(1).fit(X).categories_
    assert categories.tolist() == expected
    assert numbers is None


def test_an_enum_has_its_own_order_and_other_polars_columns_the_sorted_one():
    values = ["b", "c", "a"]
    X = pl.DataFrame(
        {
            "enum": pl.Series(values, dtype=pl.Enum(["c", "x", "b", "a"])),
            "categorical": pl.Series(values, dtype=pl.Categorical),
            "string": values,
        }
    )
    enum, categorical, string = start(1).fit(X).categories_
    assert enum.tolist() == ["c", "b", "a"]
    assert categorical.tolist() == string.tolist() == ["a", "b", "c"]


N_LONG = 50_000
ARROW_LONG = {
    "strings": pa.array([f"category {i % 7}" for i in range(N_LONG)]),
    "strings with nulls": pa.array([f"cat {i % 7}" if i % 5 else None for i in range(N_LONG)]),
    "truths": pa.array([bool(i % 3) if i % 5 else None for i in range(N_LONG)]),
    "numbers": pa.array([i if i % 5 else None for i in range(N_LONG)]),
    "floats": pa.array([float(i) if i % 5 else None for i in range(N_LONG)]),
}


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("values", ARROW_LONG.values(), ids=ARROW_LONG)
def test_columns_of_arrow_are_read_without_an_object_for_each_value(values, library):
    if library == "pandas":
        X = pd.DataFrame({"k": pd.Series(values, dtype=arrow(values.type))})
    else:
        X = pl.DataFrame({"k": pl.from_arrow(values)})
    encoded(X, categories_of(X, "from_dtype"))  # what is imported and cached is not counted
    tracemalloc.start()
    encoded(X, categories_of(X, "from_dtype"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # A few numbers of 8 bytes per value; an object and its pointer are 32 and 8 at least, and a
    # string 60 and more.
    assert peak < 40 * N_LONG


# ------------------------------------------------------------------------- categorical_features

CHOICES = {
    "names": ["colour", "flag"],
    "positions": [0, 2],
    "positions from the end": [0, -4],
    "an array of positions": np.array([0, 2]),
    "a mask": [True, False, True, False, False, False],
    "an index": pd.Index(["colour", "flag"]),
    "from the dtype": "from_dtype",
}


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_columns_of_categories_are_named_counted_masked_or_found(choice, whole):
    X = whole.assign(size=whole["size"].cat.codes.astype(float))
    model = start(categorical_features=choice).fit(X)
    assert [some is not None for some in model.categories_] == [True, False, True] + [False] * 3
    np.testing.assert_array_equal(model.transform(X), start().fit(X).transform(X))


def test_numbers_can_be_named_as_categories(whole):
    X = whole[["a", "b"]].assign(k=np.rint(whole["a"]).astype(int))
    model = start(4, categorical_features=["k"]).fit(X)
    assert model.categories_[2].tolist() == [-1, 0, 1]
    given = model.reconstruct(X)
    assert given["k"].dtype == X["k"].dtype
    assert (given["k"] == X["k"]).all()
    assert type(start(categorical_features=None).fit(X).reconstruct(X)) is np.ndarray


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_positions_in_an_array_are_categories_and_an_array_comes_back(dtype):
    rng = np.random.RandomState(0)
    X = np.column_stack([rng.choice([3, 5, 8], 100), 10 * rng.normal(size=(100, 2))]).astype(dtype)
    model = start(4, categorical_features=[0]).fit(X)
    assert model.categories_[0].tolist() == [3, 5, 8]
    given = model.inverse_transform(model.transform(X))
    assert type(given) is np.ndarray
    assert given.dtype == dtype
    np.testing.assert_array_equal(given[:, 0], X[:, 0])
    np.testing.assert_allclose(given[:, 1:], X[:, 1:], atol=1e-3)  # float32 weights
    # the codes are those of a frame of the same, to the precision of the array's dtype
    frame = pd.DataFrame(X, columns=["x0", "x1", "x2"]).astype({"x0": "category"})
    np.testing.assert_allclose(
        start(4).fit(frame).transform(frame), model.transform(X), rtol=0, atol=1e-5
    )


def test_gaps_of_an_array_of_categories_are_filled():
    rng = np.random.RandomState(0)
    kind = rng.choice([3.0, 5.0], 200)
    X = np.column_stack([kind, kind + 0.1 * rng.normal(size=200), rng.normal(size=200)])
    X[::10, 0] = np.nan
    imputed = small(categorical_features=[0]).fit(X).impute(X)
    np.testing.assert_array_equal(imputed[:, 0], kind)
    np.testing.assert_array_equal(imputed[:, 1:], X[:, 1:])


@pytest.mark.parametrize("named", [[False] * 6, [], None, "from_dtype"], ids=str)
def test_integers_are_numbers_where_no_column_is_named(named):
    rng = np.random.RandomState(0)
    X = (rng.uniform(size=(200, 6)) < [0.9, 0.8, 0.95, 0.7, 0.85, 0.9]).astype(int)
    codes = start(3, categorical_features=named).fit(X).transform(X)
    np.testing.assert_array_equal(codes, start(3).fit(X.astype(float)).transform(X.astype(float)))
    with pytest.raises(ValueError, match="Input X contains infinity"):
        start(categorical_features=named).fit(np.where(X == 0, np.inf, X))


def test_lists_of_rows_are_read_and_filled_as_arrays_of_objects(whole):
    rows = whole[["a", "colour", "c"]].values.tolist()
    array = np.array(rows, dtype=object)
    holey = [[1.5, None, 3], [None, "red", 4]]
    models = [small(categorical_features=[1]).fit(X) for X in (rows, array)]
    for model in models:
        np.testing.assert_array_equal(model.impute(holey), models[0].impute(np.array(holey)))
        np.testing.assert_array_equal(model.impute(rows), array)
        given = model.reconstruct(rows[:5])
        assert [[type(one) for one in row] for row in given] == [[float, str, float]] * 5
    filled = models[0].impute(holey)
    assert (filled[0, 0], filled[0, 2], filled[1, 1]) == (1.5, 3, "red")
    assert filled[0, 1] in {"red", "green", "blue"}


def test_gaps_of_arrays_of_objects_are_those_of_pandas_and_none():
    X = np.random.RandomState(0).normal(size=(40, 3))
    X[::7, 1] = np.nan
    gaps = X.astype(object)
    gaps[::14, 1], gaps[7::14, 1] = pd.NA, None
    expected = small(n_components=1).fit(X)
    model = small(n_components=1).fit(gaps)
    np.testing.assert_array_equal(model.transform(gaps), expected.transform(X))
    np.testing.assert_array_equal(model.impute(gaps).astype(float), expected.impute(X))


EMPTY = {
    "floats": lambda n: np.full(n, np.nan),
    "objects": lambda n: np.full(n, None),
    "nullable integers": lambda n: pd.array([pd.NA] * n, dtype="Int64"),
    "times": lambda n: np.full(n, np.datetime64("NaT"), "M8[ns]"),
    "truths": lambda n: pd.array([pd.NA] * n, dtype="boolean"),
}


@pytest.mark.parametrize("make", EMPTY.values(), ids=EMPTY)
@pytest.mark.parametrize("name", CATEGORICAL)
def test_an_empty_column_of_categories_is_filled_whatever_its_dtype(make, name, whole, fitted):
    expected = fitted.impute(whole[:9].assign(**{name: pd.Series(dtype=whole[name].dtype)}))
    X = whole[:9].assign(**{name: make(9)})
    imputed = fitted.impute(X)
    assert imputed[name].tolist() == expected[name].tolist()
    assert set(imputed[name]) <= set(whole[name])
    assert imputed.drop(columns=name).equals(X.drop(columns=name))


@pytest.mark.parametrize("library", ["pandas", "polars", "NumPy"])
@pytest.mark.parametrize("dtype", [pl.Null, pl.Float64, pl.Int8])
@pytest.mark.parametrize("name", ["colour", "flag", "a", "c"])
def test_an_empty_column_of_polars_is_filled_by_a_model_of_any_library(library, dtype, name, whole):
    plain = whole[["colour", "flag", "a", "c"]].reset_index(drop=True)
    table = pl.from_pandas(plain)
    if library == "NumPy":
        model = small(categorical_features=[0, 1]).fit(plain.to_numpy())
        named = pytest.warns(UserWarning, match="X has feature names, but")
    else:
        model = small().fit(plain if library == "pandas" else table)
        named = contextlib.nullcontext()
    some = table[:5]
    with named:
        known = model.impute(some.with_columns(pl.lit(None, dtype=table.schema[name]).alias(name)))
        imputed = model.impute(some.with_columns(pl.lit(None, dtype=dtype).alias(name)))
    assert imputed.drop(name).equals(some.drop(name))
    if name in CATEGORICAL:
        assert imputed[name].dtype == table.schema[name]
        assert imputed[name].equals(known[name])
    else:  # dtypes of integers have them rounded
        np.testing.assert_allclose(imputed[name], known[name], rtol=1e-12, atol=0.5)


RULE = "categorical_features must be 'from_dtype', None, or names, positions or a mask of the 6"
REFUSED = {
    "a name that X lacks": (["colour", "weight"], "got 'weight'; its columns are ['colour', 'a',"),
    "a position beyond": ([6], "got 6;"),
    "a fraction": ([1.5], "got 1.5;"),
    "a short mask": ([True, False], "got [True, False];"),
}


@pytest.mark.parametrize(("choice", "end"), REFUSED.values(), ids=REFUSED)
def test_columns_that_x_lacks_are_refused(choice, end, whole):
    with pytest.raises(ValueError, match=re.escape(RULE)) as caught:
        start(categorical_features=choice).fit(whole)
    assert end in str(caught.value)


def test_names_need_a_frame_and_other_words_are_refused(whole):
    with pytest.raises(ValueError, match=r"got 'a'; its columns are \['x0', 'x1'\]"):
        start(categorical_features=["a"]).fit(whole[["a", "b"]].to_numpy())
    with pytest.raises(InvalidParameterError, match="categorical_features"):
        start(categorical_features="auto").fit(whole)


# ------------------------------------------------------------------------------ frames of numbers


def numbers(library="pandas"):
    X = sheet()[["a", "b", "c"]].astype({"b": "float32"})
    return X if library == "pandas" else pl.from_pandas(X)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_models_of_numbers_give_arrays_unless_asked_for_frames(library):
    X = numbers(library)
    model = start(3).fit(X)
    codes = model.transform(X)
    assert type(model.inverse_transform(codes)) is np.ndarray
    assert type(model.reconstruct(X)) is np.ndarray
    frame = model.inverse_transform(codes, as_frame=True)
    assert type(frame) is type(X)
    assert list(frame.columns) == ["a", "b", "c"]
    assert list(frame.dtypes) == list(X.dtypes)
    # float32 weights, and numbers up to 100
    np.testing.assert_allclose(frame.to_numpy(), X.to_numpy(), atol=1e-3)


def test_a_model_of_an_array_gives_a_frame_of_numbered_columns():
    X = numbers().to_numpy()
    model = start().fit(X)
    frame = model.inverse_transform(model.transform(X), as_frame=True)
    assert list(frame.columns) == ["x0", "x1", "x2"]
    # products of other matrices, in another order
    np.testing.assert_allclose(frame.to_numpy(), model.reconstruct(X), rtol=1e-12)


@pytest.mark.parametrize("dtype", [object, str])
def test_a_model_of_an_array_with_categories_gives_a_frame_of_both(dtype):
    numbers = np.linspace(-1, 1, 60).round(2)
    X = np.column_stack([np.where(numbers > 0, "up", "down"), numbers]).astype(dtype)
    categorical = [0] if dtype is object else [0, 1]
    model = start(2, categorical_features=categorical).fit(X)
    codes = model.transform(X)
    frame = model.inverse_transform(codes, as_frame=True)
    assert list(frame.columns) == ["x0", "x1"]
    assert frame["x0"].tolist() == X[:, 0].tolist()
    array = model.inverse_transform(codes)
    assert frame["x1"].tolist() == array[:, 1].tolist()
    assert frame["x1"].dtype.kind == ("f" if dtype is object else frame["x0"].dtype.kind)


# ----------------------------------------------------------------------------- labels and names


@pytest.mark.parametrize("labels", ["texts", "the same", "pairs"])
def test_rows_keep_their_labels(labels, holey):
    index = {
        "texts": holey.index,
        "the same": pd.Index(["x"] * len(holey), name="same"),
        "pairs": pd.MultiIndex.from_product([["u", "v"], range(len(holey) // 2)]),
    }[labels]
    X = holey.set_axis(index)
    model = start().set_output(transform="pandas").fit(X)
    codes = model.transform(X)
    for table in (
        codes,
        model.inverse_transform(codes),
        model.reconstruct(X),
        model.reconstruction_errors(X),
        model.impute(X),
    ):
        pd.testing.assert_index_equal(table.index, index)
    plain = start().fit(holey.reset_index(drop=True))
    np.testing.assert_array_equal(plain.transform(holey), codes)
    assert plain.inverse_transform(codes.to_numpy()).index.tolist() == list(range(len(holey)))


def test_codes_have_names_in_either_library(holey):
    names = ["autoencodertransformer0", "autoencodertransformer1"]
    model = start().fit(holey)
    assert model.get_feature_names_out().tolist() == names
    assert model.feature_names_in_.tolist() == holey.columns.tolist()
    codes = model.transform(holey)
    for library, kind in (("pandas", pd.DataFrame), ("polars", pl.DataFrame)):
        frame = clone(model).set_output(transform=library).fit_transform(holey)
        assert type(frame) is kind
        assert list(frame.columns) == names
        np.testing.assert_array_equal(frame.to_numpy(), codes)


def test_columns_in_another_order_and_missing_ones_are_named(fitted, whole):
    with pytest.raises(ValueError, match="must be in the same order"):
        fitted.transform(whole[whole.columns[::-1]])
    with pytest.raises(ValueError, match="yet now missing:\n- colour"):
        fitted.transform(whole.drop(columns="colour"))
    with pytest.raises(ValueError, match="unseen at fit time:\n- more"):
        fitted.transform(whole.assign(more="x"))


# ------------------------------------------------------------------------------ unknown categories


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_unknown_categories_are_exactly_missing_ones_and_one_warning_names_them(fitted, library):
    X = sheet(50, seed=1)
    strange, missing = X.copy(), X.copy()
    strange["size"] = strange["size"].cat.add_categories("XXL")
    rows = X.index[::5]
    strange.loc[rows, "colour"], strange.loc[rows[:3], "size"] = "pink", "XXL"
    missing.loc[rows, "colour"], missing.loc[rows[:3], "size"] = None, None
    if library == "polars":
        strange, missing = (pl.from_pandas(some) for some in (strange, missing))
    for method in ("transform", "score_samples", "reconstruct", "score"):
        with pytest.warns(UserWarning, match="not seen") as record:
            given = getattr(fitted, method)(strange)
        expected = getattr(fitted, method)(missing)
        if is_polars(given):
            given, expected = given.cast({"size": pl.String}), expected.cast({"size": pl.String})
            assert given.equals(expected)
        elif isinstance(given, pd.DataFrame):
            pd.testing.assert_frame_equal(
                given.astype({"size": str}), expected.astype({"size": str})
            )
        else:
            np.testing.assert_array_equal(given, expected)
        assert [str(one.message) for one in record] == [
            "Categories that fit has not seen, in columns ['colour', 'size'], are treated as"
            " missing."
        ]


@pytest.mark.parametrize("dtype", ["boolean", "bool[pyarrow]", "object"])
@pytest.mark.parametrize("text", ["string", "string[pyarrow]", "object"])
def test_a_row_is_imputed_in_the_dtypes_that_it_has(fitted, dtype, text):
    X = sheet(1).astype({"flag": dtype, "colour": text})
    X["flag"], X["colour"] = (pd.Series([None], X.index, dtype=d) for d in (dtype, text))
    filled = fitted.impute(X)
    assert filled.dtypes.tolist() == X.dtypes.tolist()
    assert filled["flag"].item() in (True, False)
    assert filled["colour"].item() in fitted.categories_[0]


@pytest.mark.parametrize("dtype", [str, object, np.dtypes.StringDType()], ids=str)
def test_an_array_of_text_comes_back_as_text(dtype):
    rng = np.random.RandomState(0)
    kinds = rng.choice(["u", "v"], 40)
    X = np.column_stack([rng.normal(size=(40, 2)).round(3), kinds]).astype(dtype)
    model = start(3, categorical_features=[2]).fit(X)
    assert model.categories_[2].tolist() == ["u", "v"]
    for given in (model.reconstruct(X), model.inverse_transform(model.transform(X))):
        assert given.dtype.kind == X.dtype.kind
        assert given[:, 2].tolist() == kinds.tolist()
        np.testing.assert_allclose(given[:, :2].astype(float), X[:, :2].astype(float), atol=1e-5)
    assert model.impute(X).tolist() == X.tolist()
    assert model.sample(2).dtype.kind == X.dtype.kind


def test_a_row_of_polars_is_imputed_in_the_dtypes_that_it_has(fitted):
    X = pl.from_pandas(sheet(1)).with_columns(pl.lit(None, pl.Categorical).alias("colour"))
    filled = fitted.impute(X)
    assert filled.schema == X.schema
    assert filled["colour"].item() in fitted.categories_[0]


@pytest.mark.parametrize(
    "columns", [[2000, 2001, 2002], pd.MultiIndex.from_tuples([("g", 1), ("g", 2), ("h", 1)])]
)
def test_scores_and_errors_have_the_names_that_are_no_strings(columns):
    X = pd.DataFrame(np.random.RandomState(0).normal(size=(30, 3)), columns=columns)
    model = start().fit(X)
    pd.testing.assert_index_equal(model.score_features(X).index, X.columns)
    pd.testing.assert_index_equal(model.reconstruction_errors(X).columns, X.columns)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_impute_leaves_unknown_categories_and_fills_what_is_missing(fitted, library):
    X = sheet(20, seed=1)
    given = X["colour"].tolist()
    given[3], given[5] = "pink", None
    X["colour"] = pd.Series(given, index=X.index, dtype=object)
    table = pl.from_pandas(X) if library == "polars" else X
    with pytest.warns(UserWarning, match="not seen"):
        filled = list(fitted.impute(table)["colour"])
    assert filled[5] in fitted.categories_[0]
    assert [*filled[:5], *filled[6:]] == [*given[:5], *given[6:]]


def test_a_column_of_categories_of_which_none_is_known_is_missing(fitted, whole):
    with pytest.warns(UserWarning, match=r"in columns \['colour'\]"):
        given = fitted.transform(whole.assign(colour=1.5))
    np.testing.assert_array_equal(given, fitted.transform(whole.assign(colour=None)))


def test_later_parts_of_a_stream_bring_no_new_categories(whole):
    model = small().partial_fit(whole[:100])
    before = model.transform(whole[:5])
    with pytest.warns(UserWarning, match=r"in columns \['colour'\], are treated as missing"):
        model.partial_fit(whole[100:].assign(colour=["pink", "red"] * 50))
    assert model.categories_[0].tolist() == ["blue", "green", "red"]
    assert not np.array_equal(model.transform(whole[:5]), before)
    assert model.reconstruct(whole).dtypes.tolist() == whole.dtypes.tolist()


# ---------------------------------------------------------------------------------------- scores


def scores_by_hand(model, X):
    """Return R² and McFadden's R² of each column, from codes and the decoder alone."""
    codes = torch.tensor(model.transform(X), dtype=torch.float32)
    with torch.no_grad():
        outputs = model.decoder_(codes).double().numpy()
    is_number = [some is None for some in model.categories_]
    start, scores = sum(is_number), {}
    for i, j in enumerate(np.flatnonzero(is_number)):
        x = X.iloc[:, j].to_numpy(dtype=float, na_value=np.nan)
        x_hat = outputs[:, i] * model.scale_[j] + model.mean_[j]
        left, all_of_it = np.nansum((x - x_hat) ** 2), np.nansum((x - model.mean_[j]) ** 2)
        scores[X.columns[j]] = 1 - left / all_of_it
    for j in np.flatnonzero(np.logical_not(is_number)):
        categories = list(model.categories_[j])
        known = X.iloc[:, j].notna().to_numpy()
        codes = np.array([categories.index(one) for one in X.iloc[:, j][known]])
        block = outputs[known, start : start + len(categories)]
        shares = np.bincount(codes) / len(codes)  # X is what was fitted
        left = -block[np.arange(len(codes)), codes].sum()
        scores[X.columns[j]] = 1 - left / -np.log(shares[codes]).sum()
        start += len(categories)
    return pd.Series(scores)[X.columns]


@pytest.mark.parametrize("gaps", [0.0, 0.2])
@pytest.mark.parametrize("max_iter", [0, 10])
def test_scores_are_what_is_explained_of_variance_and_entropy(gaps, max_iter):
    X = sheet(gaps=gaps)
    model = small(max_iter=max_iter).fit(X)
    scores = model.score_features(X)
    pd.testing.assert_series_equal(
        scores,
        scores_by_hand(model, X),
        check_names=False,
        check_index_type=False,
        atol=1e-4,  # the decoder is in float32
    )
    assert model.score(X) == pytest.approx(scores.mean(), abs=1e-12)
    # gathered in float32 when the model was fitted
    assert model.explained_variance_ratio_.sum() == pytest.approx(model.score(X), abs=1e-5)
    errors = model.reconstruction_errors(X)
    pd.testing.assert_series_equal(
        1 - errors.mean(), scores, check_names=False, check_index_type=False, rtol=1e-5, atol=1e-5
    )
    np.testing.assert_array_equal(errors.isna(), X.isna())
    n_known = X.notna().sum(axis=1)
    np.testing.assert_allclose(
        model.score_samples(X), -np.sqrt(errors.sum(axis=1) * X.shape[1] / n_known), rtol=1e-5
    )


def test_training_scores_are_those_of_the_same_loss(whole):
    """The score is 1 - L, and L what training makes small."""
    model = small(max_iter=10, average=False, alpha=0, batch_size=1000).fit(whole)
    again = small(max_iter=11, average=False, alpha=0, batch_size=1000).fit(whole)
    # one step per epoch: the loss of the eleventh is that of the weights after ten
    assert 1 - again.loss_curve_[10] == pytest.approx(model.score(whole), abs=1e-5)  # float32


def test_a_constant_column_does_not_count(whole):
    X = whole.assign(same="x", one=1.0)
    model = start().fit(X)
    assert model.score(X) == pytest.approx(start().fit(whole).score(whole), abs=1e-5)
    assert model.score_features(X)[["same", "one"]].tolist() == [1, 1]
    assert (model.reconstruct(X)["same"] == "x").all()
    # a column that is constant only here has a unit
    here = whole.assign(colour="red")
    assert model.score(here.assign(same="x", one=1.0)) < 1


def test_a_constant_that_no_float_is_has_no_variance_of_rounding():
    X = numbers().assign(same=0.1)
    model = start().fit(X)
    assert model.mean_[3] == 0.1
    assert model.score_features(X)["same"] == 1
    assert (model.reconstruction_errors(X)["same"] == 0).all()


def test_a_wrong_cell_is_the_worst_of_its_column(whole):
    model = small(n_components=4).fit(whole)
    wrong = whole.copy()
    row = whole.index[whole["a"] > 0.8][0]
    assert wrong.loc[row, "colour"] == "blue"
    wrong.loc[row, "colour"] = "red"
    errors, before = model.reconstruction_errors(wrong), model.reconstruction_errors(whole)
    assert errors["colour"].idxmax() == row
    assert errors.loc[row, "colour"] > before.loc[row, "colour"] + 1


# -------------------------------------------------------------------------- scikit-learn's company


def is_up(X):
    return (X["a"].to_numpy(dtype=float, na_value=0.0) > 0).astype(int)


def test_frames_with_gaps_go_through_pipelines_searches_and_folds(holey):
    target = is_up(holey)
    pipeline = make_pipeline(small(n_components=3, max_iter=2), LogisticRegression())
    assert cross_val_score(pipeline, holey, target, cv=3).mean() > 0.7
    search = GridSearchCV(small(), {"alpha": [0, 1e-2], "hidden_layer_sizes": [(4,), (8, 4)]}, cv=2)
    search.fit(holey)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.transform(holey).shape == (len(holey), 2)
    # the search scores by score, of rows that were not fitted
    assert 0 < search.best_score_ < 1


def test_penguins_go_through_a_pipeline_and_are_told_apart(penguins):
    X, species = penguins.drop(columns="species"), penguins["species"]
    pipeline = make_pipeline(small(n_components=3), LogisticRegression())
    assert cross_val_score(pipeline, X, species, cv=3).mean() > 0.9
    model = small().fit(penguins)
    assert model.impute(penguins).notna().all(axis=None)
    assert model.reconstruct(penguins).dtypes.tolist() == penguins.dtypes.tolist()


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_models_survive_pickle_joblib_and_clone(holey, library):
    X = holey if library == "pandas" else pl.from_pandas(holey)
    model = small().fit(X)
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    for other in (pickle.loads(pickle.dumps(model)), joblib.load(file), clone(model).fit(X)):
        np.testing.assert_array_equal(other.transform(X), model.transform(X))
        given, expected = other.impute(X), model.impute(X)
        assert given.equals(expected)
        assert other.sample(3, random_state=0).equals(model.sample(3, random_state=0))
        assert other.score(X) == model.score(X)


@pytest.mark.parametrize("make", [lambda: sheet(gaps=0.1), palmerpenguins.load_penguins])
@pytest.mark.parametrize("max_iter", [0, 5])
def test_with_as_many_components_as_inputs_categories_come_back(make, max_iter):
    X = make()
    # one number per column of numbers, and one for each category but one
    model = small(n_components=9, max_iter=max_iter).fit(X)
    given = model.inverse_transform(model.transform(X))
    names = [n for n, some in zip(X.columns, model.categories_, strict=True) if some is not None]
    same = [
        one == other
        for name in names
        for one, other in zip(given[name], X[name], strict=True)
        if not pd.isna(other)
    ]
    assert np.mean(same) > 0.99


def test_the_order_of_rows_and_targets_do_not_matter(holey):
    model = small().fit(holey)
    order = np.random.RandomState(0).permutation(len(holey))
    shuffled = model.transform(holey.iloc[order])
    # sums of a batch in another order
    np.testing.assert_allclose(shuffled, model.transform(holey)[order], rtol=0, atol=1e-9)
    np.testing.assert_allclose(
        model.transform(holey[:3]), model.transform(holey)[:3], rtol=0, atol=1e-9
    )
    again = small().fit(holey, is_up(holey))
    np.testing.assert_array_equal(again.transform(holey), model.transform(holey))


def test_the_start_does_not_depend_on_the_order_of_rows_or_columns(whole):
    order = np.random.RandomState(0).permutation(len(whole))
    codes = start().fit(whole).transform(whole)
    for X in (whole.iloc[order], whole[whole.columns[::-1]]):
        other = start().fit(X).transform(whole[X.columns])
        signs = np.sign((other * codes).sum(axis=0))
        np.testing.assert_allclose(other * signs, codes, atol=1e-4)  # float32 weights


# ------------------------------------------------------------------------ what else can be chosen

OPTIONS = {
    "l1": {"penalty": "l1", "alpha": 1e-2},
    "activity_l1": {"penalty": "activity_l1", "alpha": 1e-2},
    "contractive": {"penalty": "contractive", "alpha": 1e-2},
    "kl": {"penalty": "kl", "alpha": 1e-2},
    "none": {"penalty": None},
    "gaussian": {"corruption": "gaussian"},
    "masking": {"corruption": "masking"},
    "swap": {"corruption": "swap"},
    "absolute error": {"loss": "absolute_error"},
    "Huber": {"loss": "huber"},
    "tied": {"tied_weights": True},
    "random": {"init": "random"},
    "he_normal": {"init": "he_normal"},
    "without skip": {"init": "random", "linear_skip": False},
    "tied without skip": {"init": "random", "linear_skip": False, "tied_weights": True},
    "dropout": {"dropout": 0.2},
    "starts": {"n_init": 3},
    "held out": {"early_stopping": True, "validation_fraction": 0.2, "n_iter_no_change": 100},
}


@pytest.fixture(scope="module")
def trained(holey):
    # with a seed of which the second or third start is better than the first
    return small(max_iter=40, random_state=6).fit(holey)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_all_options_train_on_a_mixed_frame_with_gaps(options, holey, trained):
    X = holey
    # networks without a start at factor analysis need more epochs to leave the mean row behind
    model = small(**{"max_iter": 40, "random_state": 6, **options}).fit(X)
    assert model.score(X) > 0.35
    assert model.reconstruct(X).dtypes.tolist() == X.dtypes.tolist()
    assert model.explained_variance_ratio_.sum() == pytest.approx(model.score(X), abs=1e-4)
    assert not np.array_equal(model.transform(X), trained.transform(X))


@pytest.mark.parametrize("gaps", [0.0, 0.15])
def test_training_makes_a_mixed_frame_better_than_factor_analysis(gaps):
    X, new = sheet(gaps=gaps), sheet(300, gaps, seed=1)
    model = AutoencoderTransformer(hidden_layer_sizes=(32,), random_state=0, max_iter=40).fit(X)
    assert model.best_iter_ > 0
    assert model.best_validation_score_ > model.validation_scores_[0]
    assert model.score(new) > start().fit(X).score(new) + 0.03


def test_networks_of_ones_own_see_one_input_per_category(whole):
    sizes = []

    def network(n_in, n_out):
        sizes.append((n_in, n_out))
        return nn.Sequential(nn.Linear(n_in, 8), nn.Tanh(), nn.Linear(8, n_out))

    model = small(encoder=network, decoder=network, max_iter=40).fit(whole)
    n_inputs = 3 + 3 + 2 + 3  # numbers, colours, flags, sizes
    assert sizes == [(n_inputs, 2), (2, n_inputs)]
    assert model.score(whole) > start().fit(whole).score(whole) + 0.01


def test_training_goes_on_from_a_fitted_model_with_its_categories(whole):
    first = small().fit(whole)
    some = whole[whole["colour"] != "red"]
    for model in (
        start(init=first).fit(some),
        start(init=FrozenEstimator(first)).fit(some),
        clone(first)
        .set_params(max_iter=5, warm_start=True)
        .fit(whole)
        .set_params(max_iter=0)
        .fit(some),
    ):
        assert model.categories_[0].tolist() == ["blue", "green", "red"]
        np.testing.assert_allclose(model.transform(whole), first.transform(whole), atol=1e-6)


# --------------------------------------------------------------------------------- extreme frames


def test_frames_of_categories_alone_are_mapped(whole):
    X = whole[["colour", "size"]]
    model = small(n_components=4).fit(X)
    assert model.reconstruct(X).equals(X)
    assert model.score(X) > 0.9


def test_frames_of_truths_alone_are_mapped(whole):
    X = pd.DataFrame({"x": whole["a"] > 0, "y": whole["b"] > 0, "z": whole["flag"]})
    assert start(3).fit(X).reconstruct(X).equals(X)


@pytest.mark.parametrize("names", [["colour"], ["a", "colour"], ["flag"]], ids=str)
def test_a_single_column_of_categories_is_mapped(names, whole):
    X = whole[names]
    model = start(len(names) + ("colour" in names)).fit(X)
    assert (model.reconstruct(X)[names[-1]] == X[names[-1]]).all()


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("n_samples", [2, 3, 5])
def test_a_few_rows_are_mapped(n_samples, early_stopping, whole):
    X = whole[:n_samples]
    model = small(early_stopping=early_stopping).fit(X)
    assert np.isfinite(model.transform(whole[:1])).all()
    given = model.reconstruct(X)
    if n_samples < 4:  # two components hold three rows
        assert given["colour"].tolist() == X["colour"].tolist()


def test_a_frame_that_is_constant_is_met():
    X = pd.DataFrame({"k": ["x"] * 9, "m": [True] * 9})
    model = small(n_components=1).fit(X)
    assert model.score(X) == 1
    assert model.reconstruct(X).equals(X)


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("dtype", ["object", "category", pd.CategoricalDtype(["x", "y"])])
def test_a_column_of_categories_of_which_nothing_is_known_stays_empty(dtype, alone, whole):
    X = whole[["a", "b"]] if alone else whole
    X = X.assign(k=pd.Series([None] * len(X), dtype=dtype, index=X.index))
    with pytest.warns(UserWarning, match=r"Nothing is known of the columns \['k'\] of X"):
        model = start().fit(X)
    rest = X.drop(columns="k")
    codes, expected = model.transform(X), start().fit(rest).transform(rest)
    np.testing.assert_allclose(np.abs(codes), np.abs(expected), atol=1e-4)  # float32 weights
    for table in (model.reconstruct(X), model.impute(X), model.sample(4, random_state=0)):
        assert table.dtypes.tolist() == X.dtypes.tolist()
        assert table["k"].isna().all()
        assert table.drop(columns="k").notna().all(axis=None)


def many(n_samples=1500, n_categories=300):
    """Return a frame in which a column of many categories says what numbers are, and these."""
    rng = np.random.RandomState(0)
    codes = np.append(
        np.arange(n_categories), rng.randint(n_categories, size=n_samples - n_categories)
    )
    effects = rng.normal(size=n_categories)
    noise = 0.2 * rng.normal(size=(2, n_samples))
    X = pd.DataFrame(
        {
            "a": effects[codes] + noise[0],
            "key": [f"key {code}" for code in codes],
            "b": noise[1] - effects[codes],
            "up": effects[codes] > 0,
        }
    )
    return X, effects[codes]


@pytest.mark.parametrize("max_iter", [0, 5])
def test_what_a_column_of_300_categories_says_is_recovered(max_iter):
    X, effects = many()
    model = small(max_iter=max_iter).fit(X)
    only_key = X.assign(a=np.nan, b=np.nan, up=None)
    given = model.reconstruct(only_key)
    assert np.corrcoef(given["a"], effects)[0, 1] > 0.9
    assert np.corrcoef(given["b"], effects)[0, 1] < -0.9
    assert (given["up"] == X["up"]).mean() > 0.85
    # and from the numbers to a key of about the same effect
    keys = model.impute(X.assign(key=None))["key"]
    found = keys.map(dict(zip(X["key"], effects, strict=True)))
    assert np.corrcoef(found, effects)[0, 1] > 0.7  # of 300 many are about as likely
    assert set(keys) <= set(X["key"])


def test_no_more_values_than_fill_a_chunk_are_made_of_rows_with_many_categories(monkeypatch):
    X, _ = many(600, 300)
    most = 64 * 1024
    monkeypatch.setattr(_batches, "_CHUNK_VALUES", most)
    sizes = []

    def watched(model):
        model.net_.module_.output.register_forward_hook(
            lambda module, inputs, output: sizes.append(output.numel())
        )
        return model

    fitted = small(early_stopping=True, validation_fraction=0.5).fit(X)
    model = watched(copy.deepcopy(fitted))
    for given in (model.reconstruct(X), model.score_samples(X), model.score_features(X)):
        assert len(given)
    assert most / 2 < max(sizes) <= most
    monkeypatch.undo()
    np.testing.assert_allclose(model.score_samples(X), fitted.score_samples(X), rtol=1e-9)


def test_gaps_are_filled_better_than_by_means_and_the_most_frequent():
    X = sheet(400)
    hidden = np.random.RandomState(1).uniform(size=X.shape) < 0.15
    holey = X.astype({"flag": "boolean", "c": "Int64"}).mask(hidden)
    imputed = small(max_iter=60, corruption="masking").fit(holey).impute(holey)
    for j, name in enumerate(X.columns):
        truth, filled = X[name][hidden[:, j]], imputed[name][hidden[:, j]]
        if name in CATEGORICAL:
            share = (filled.astype(object) == truth.astype(object)).mean()
            assert share > X[name].value_counts(normalize=True).max() + 0.1
        else:
            error = ((filled.astype(float) - truth) ** 2).mean()
            assert error < 0.7 * ((X[name].mean() - truth) ** 2).mean()


def test_gaps_are_filled_twice_the_second_time_from_what_was_found(holey):
    X = holey[["colour", "a", "b"]].dropna(how="all")
    model = small(n_components=3).fit(X)
    once = X.fillna(model.reconstruct(X))
    twice = X.fillna(model.reconstruct(once))
    # products of other matrices, in another order
    pd.testing.assert_frame_equal(model.impute(X), twice, rtol=1e-9)
    assert not np.allclose(once["a"], twice["a"], atol=1e-6)


def test_nan_is_no_category_of_polars():
    values = [1.0, np.nan, None, 2.0] * 10
    X = pl.DataFrame({"k": values, "a": np.arange(40.0)})
    model = start(categorical_features=["k"]).fit(X)
    assert model.categories_[0].tolist() == [1, 2]
    assert set(model.impute(X)["k"]) == {1.0, 2.0}


def test_a_dtype_that_lacks_what_is_filled_in_gets_it(holey):
    model = small().fit(holey)
    rows = holey[holey["size"].isna()]
    narrow = rows.assign(size=rows["size"].cat.set_categories(["S"]))
    imputed = model.impute(narrow)
    assert imputed["size"].tolist() == model.impute(rows)["size"].tolist()
    assert imputed["size"].dtype.categories[0] == "S"
    assert imputed["size"].dtype.ordered
    enum = pl.from_pandas(narrow.astype({"size": str})).with_columns(
        size=pl.Series([None] * len(rows), dtype=pl.Enum(["S"]))
    )
    assert model.impute(enum)["size"].to_list() == imputed["size"].tolist()


# -------------------------------------------------------------------------------------- bad input


def fails(match, X, kind=ValueError, **parameters):
    with pytest.raises(kind, match=match) as caught:
        start(**parameters).fit(X)
    return str(caught.value)


BAD_CELLS = {
    "dates": lambda n: pd.Series([pd.Timestamp("2020-01-01")] * n),
    "durations": lambda n: pd.Series([pd.Timedelta("1h")] * n),
    "Arrow dates": lambda n: pd.Series(DAYS[:1] * n, dtype=arrow(pa.date32())),
    "Arrow durations": lambda n: pd.Series([1] * n, dtype=arrow(pa.duration("us"))),
    "Arrow times": lambda n: pd.Series([datetime.time(1)] * n, dtype=arrow(pa.time64("us"))),
    "complex numbers": lambda n: pd.Series([1j] * n),
    "Python's dates, as objects": lambda n: pd.Series([None, datetime.date(2020, 1, 1)] * (n // 2)),
}


@pytest.mark.parametrize("make", BAD_CELLS.values(), ids=BAD_CELLS)
def test_what_is_neither_number_nor_category_is_refused(make, whole):
    X = whole.reset_index(drop=True)
    column = make(len(X))
    message = fails("Column 'day' must hold numbers, got others", X.assign(day=column))
    assert str(column.dtype) in message
    assert "turn them into numbers, or name it in categorical_features" in message


@pytest.mark.parametrize("kind", ["Float32", "Float64", "Arrow float", "Arrow decimal", "Int64"])
def test_columns_of_numbers_are_read_alike_with_and_without_categories(kind):
    numbers = PANDAS[kind]()
    table = pd.DataFrame({"a": numbers, "b": numbers[::-1].array, "c": numbers})
    beside = table.assign(k=["x", "y"] * (len(table) // 2))
    alone, other = start(n_components=1).fit(table), start(n_components=1).fit(beside)
    assert alone.transform(table).dtype == other.transform(beside).dtype
    assert (alone.transform(table).dtype == np.float32) == (kind == "Float32")
    plain = start(n_components=1).fit(table.astype(float))
    np.testing.assert_allclose(
        alone.transform(table), plain.transform(table.astype(float)), atol=1e-6
    )


OBJECTS = {
    "fractions": float,
    "decimals": lambda value: decimal.Decimal(str(value)),
}


@pytest.mark.parametrize("of", OBJECTS.values(), ids=OBJECTS)
def test_fractions_and_decimals_that_are_objects_are_numbers(of):
    rng = np.random.RandomState(0)
    plain = pd.DataFrame(rng.normal(size=(50, 3)).round(3), columns=["a", "b", "c"])
    plain.loc[::7, "c"] = np.nan
    objects = [None if np.isnan(value) else of(value) for value in plain["c"]]
    table = plain.assign(c=pd.Series(objects, dtype=object))
    model, expected = start().fit(table), start().fit(plain)
    np.testing.assert_allclose(model.transform(table), expected.transform(plain), atol=1e-6)
    imputed = model.impute(table)
    assert imputed["c"].dtype == object
    np.testing.assert_allclose(imputed.astype(float), expected.impute(plain), atol=1e-6)
    # unless they are named
    named = start(categorical_features=["c"]).fit(table)
    assert list(named.categories_[2]) == sorted({value for value in objects if value is not None})


def test_categories_that_are_tuples_are_pickled(whole):
    pairs = pd.Categorical.from_codes(np.arange(len(whole)) % 2, categories=[(1, 2), (3, 4)])
    table = whole.assign(day=pairs)
    model = start().fit(table)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.transform(table), model.transform(table))


@pytest.mark.parametrize(
    "pair", [(("red",), ("red", "blue")), (pd.Interval(0, 2), pd.Interval(1, 3))], ids=str
)
def test_categories_are_values_to_which_pandas_gives_no_other_meaning(whole, pair):
    values = np.empty(2, dtype=object)
    values[:] = pair
    table = whole.assign(kind=pd.Series(values[whole["flag"].astype(int)], index=whole.index))
    model = start(8).fit(table)
    assert set(model.categories_[-1]) == set(pair)
    assert (model.reconstruct(table)["kind"] == table["kind"]).mean() > 0.99


def test_dates_that_are_named_are_categories(whole):
    days = pd.to_datetime(["2020-01-01", "2021-01-01"])[whole["flag"].astype(int)]
    X = whole.assign(day=days)
    model = start(8, categorical_features=[*CATEGORICAL, "day"]).fit(X)
    given = model.reconstruct(X)
    assert given.dtypes.tolist() == X.dtypes.tolist()
    assert (given["day"] == X["day"]).mean() > 0.99


POLARS_BAD = {
    "dates": pl.Series([datetime.date(2020, 1, 1)] * 9),
    "lists": pl.Series([[1]] * 9),
    "structs": pl.Series([{"x": 1}] * 9),
}


@pytest.mark.parametrize("column", POLARS_BAD.values(), ids=POLARS_BAD)
def test_what_is_neither_is_refused_in_polars_too(column):
    X = pl.DataFrame({"a": np.arange(9.0), "day": column})
    assert str(column.dtype) in fails("Column 'day' must hold numbers, got others", X)


@pytest.mark.parametrize("kind", ["lists", "structs"])
def test_nested_columns_of_polars_are_no_categories(kind):
    X = pl.DataFrame({"a": np.arange(9.0), "day": POLARS_BAD[kind]})
    message = "Column 'day' must hold categories: .* got others .*; turn them into strings"
    fails(message, X, kind=TypeError, categorical_features=["day"])


LISTS = {
    "lists": lambda n: pd.Series([[1]] * n),
    "Arrow lists": lambda n: pd.Series([[1]] * n, dtype=arrow(pa.list_(pa.int64()))),
    "dictionaries": lambda n: pd.Series([{"x": 1}] * n),
}


@pytest.mark.parametrize("make", LISTS.values(), ids=LISTS)
def test_cells_that_cannot_be_told_apart_are_refused(make, whole, fitted):
    X = whole.reset_index(drop=True)
    sentence = r"Column 'cell' must hold categories: .* got others \(.*\); turn them into strings"
    fails(sentence, X.assign(cell=make(len(X))), kind=TypeError)
    with pytest.raises(TypeError, match=sentence.replace("cell", "colour")):
        fitted.transform(X.assign(colour=make(len(X))))


def test_objects_of_polars_are_refused():
    X = pl.DataFrame({"k": pl.Series([object()] * 3, dtype=pl.Object), "a": [1.0, 2.0, 3.0]})
    fails("Column 'k' must hold categories: .* got others", X, kind=TypeError)


@pytest.mark.parametrize("value", ["x", pd.Timestamp("2020-01-01")])
def test_numbers_that_turned_into_something_else_are_named(fitted, whole, value):
    with pytest.raises(ValueError, match="Column 'a' must hold numbers, got others"):
        fitted.transform(whole.assign(a=value))
    model = start().fit(numbers())
    with pytest.raises(ValueError, match="Column 'a' must hold numbers, got others"):
        model.transform(numbers().assign(a=value))


def test_numbers_that_are_written_as_strings_are_read(fitted, whole):
    written = whole.assign(a=whole["a"].astype(str))
    # pandas reads the last bit as it likes
    np.testing.assert_allclose(fitted.transform(written), fitted.transform(whole), atol=1e-12)


def test_strings_are_refused_where_there_are_to_be_no_categories(whole):
    fails("Column 'colour' must hold numbers, got others", whole, categorical_features=None)


def test_columns_of_the_same_name_are_refused(fitted, whole):
    X = pd.concat([whole, whole[["a"]]], axis=1)
    sentence = "X must have columns of different names, got 'a' more than once; rename them."
    fails(re.escape(sentence), X)
    for method in (fitted.transform, fitted.impute, fitted.partial_fit):
        with pytest.raises(ValueError, match=re.escape(sentence)):
            method(X)


def test_a_frame_where_an_array_was_fitted_and_the_reverse_are_said_by_scikit_learn():
    X = numbers()
    model = start().fit(X.to_numpy())
    with pytest.warns(UserWarning, match="has feature names, but .* fitted without"):
        model.transform(X)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        start().fit(X).transform(X.to_numpy())


def test_infinity_is_refused_beside_categories(fitted, whole):
    with pytest.raises(ValueError, match="contains infinity"):
        fitted.transform(whole.assign(a=np.inf))


def test_sparse_categories_are_refused():
    X = scipy.sparse.csr_array(np.eye(5))
    fails(
        "must be a dense table where columns are categories, got a sparse",
        X,
        categorical_features=[0],
    )


BESIDE_CATEGORIES = {
    "a loss of one's own": {"loss": lambda x_hat, x: (x_hat - x).square().mean(dim=1)},
    "cross-entropy": {
        "loss": "binary_cross_entropy",
        "output_activation": "logistic",
        "linear_skip": False,
        "init": "random",
    },
    "logistic": {"output_activation": "logistic", "linear_skip": False, "init": "random"},
    "a corruption of one's own": {"corruption": lambda x, level: x},
}


@pytest.mark.parametrize("parameters", BESIDE_CATEGORIES.values(), ids=BESIDE_CATEGORIES)
def test_what_is_about_numbers_alone_is_refused_beside_categories(parameters, whole):
    name = next(iter(parameters))
    message = fails(
        rf"^{name} must be one of \[.*\] where columns are categories, got", whole, **parameters
    )
    assert message.endswith("set it to one of these, or categorical_features=None.")


def test_a_code_wider_than_the_inputs_is_refused(whole):
    fails(
        r"n_components must be at most min\(n_samples, n_inputs.*\)=11 .* got 12",
        whole,
        n_components=12,
    )


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_share_of_the_variance_picks_a_size(share, whole):
    model = start(share).fit(whole)
    k = model.n_components_
    famd = prince.FAMD(n_components=8, categorical_columns=CATEGORICAL, random_state=0).fit(whole)
    shares = np.cumsum(famd.percentage_of_variance_) / 100
    assert k == 1 + np.count_nonzero(shares <= share)


def test_a_column_of_which_nothing_is_known_does_not_count_beside_categories(fitted, whole):
    gone = whole.assign(b=np.nan)
    expected = fitted.score_features(gone).drop("b").mean()
    assert fitted.score(gone) == pytest.approx(expected, rel=1e-12)


def test_shares_of_many_categories_are_not_trained():
    X, _ = many(600, 100)
    model = small().fit(X)
    shares = np.exp(model.net_.module_.output.log_shares_embedded[0].numpy())
    counts = X["key"].value_counts().loc[model.categories_[1].tolist()]
    np.testing.assert_allclose(shares, counts / len(X), rtol=1e-5)


def test_the_first_of_categories_alone_may_be_missing():
    rng = np.random.RandomState(0)
    kind = rng.choice(["a", "b", "c"], 80)
    X = pd.DataFrame({"k": np.where(rng.uniform(size=80) < 0.2, None, kind), "m": kind})
    model = small().fit(X.assign(n=rng.choice(["d", "e"], 80)))
    imputed = model.impute(X.assign(n="d"))
    assert imputed.notna().all(axis=None)
    assert set(imputed["k"]) <= {"a", "b", "c"}


def test_training_goes_on_with_rows_that_lack_a_category(whole):
    model = small(warm_start=True).fit(whole)
    before = model.score_features(whole)
    again = model.set_params(max_iter=0).fit(whole[whole["colour"] != "red"])
    pd.testing.assert_series_equal(again.score_features(whole), before, rtol=1e-5)


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("goes_on", ["warm_start", "init", "partial_fit"])
@pytest.mark.parametrize("given", ["narrower", "nothing"])
def test_rows_of_dtypes_without_some_categories_do_not_forget_these(whole, library, goes_on, given):
    part = whole[whole["size"] != "S"]
    part = part.assign(
        colour=np.nan if given == "nothing" else part["colour"],
        size=np.nan if given == "nothing" else part["size"].cat.remove_unused_categories(),
    )
    if library == "polars":
        whole, part = pl.from_pandas(whole), pl.from_pandas(part)
        if given == "nothing":
            part = part.with_columns(pl.lit(None).alias("colour"))
    model = small().fit(whole)
    if goes_on != "warm_start":
        model = small(init=FrozenEstimator(model))
    method = "partial_fit" if goes_on == "partial_fit" else "fit"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Nothing is known of")
        model = getattr(model.set_params(warm_start=goes_on == "warm_start"), method)(part)
    names = list(whole.columns)
    for table in (model.reconstruct(whole), model.inverse_transform(model.transform(whole))):
        assert list(table.columns) == names
        for name in ("colour", "size"):
            values = table[name].to_list()
            assert set(values) <= set(whole[name].to_list())
            assert (np.array(values) == np.array(whole[name].to_list())).mean() > 0.5
    assert len(model.sample(3)) == 3


def test_a_one_hot_column_varies_in_one_direction_less_than_it_has_categories(whole):
    model = start().fit(whole)
    assert model._n_directions() == 3 + (3 - 1) + (2 - 1) + (3 - 1)


def test_truth_and_zeros_and_ones_are_the_same_categories():
    rng = np.random.RandomState(0)
    X = pd.DataFrame(rng.normal(size=(60, 3)), columns=list("abc"))
    forms = [X["a"] > 0, (X["a"] > 0).astype(int), (X["a"] > 0).astype(float)]
    for known in forms:
        fitted = small(categorical_features=["z"]).fit(X.assign(z=known))
        codes = [fitted.transform(X.assign(z=given)) for given in forms]
        np.testing.assert_array_equal(codes[0], codes[1])
        np.testing.assert_array_equal(codes[0], codes[2])


@pytest.mark.parametrize("dtype", ["Int64", "Int8", "Float64"])
def test_whole_categories_of_another_library_fill_gaps_in_the_dtype_there(dtype):
    pl = pytest.importorskip("polars")
    X = np.random.RandomState(0).normal(size=(60, 2))
    kind = pd.Series(np.where(X[:, 0] > 0, 1.0, 2.0)).where(X[:, 1] > -1)
    table = pd.DataFrame(X, columns=["a", "b"]).assign(z=kind)
    fitted = small(categorical_features=["z"], n_components=1).fit(table)
    other = pl.from_pandas(table).with_columns(pl.col("z").cast(getattr(pl, dtype)))
    filled = fitted.impute(other)
    assert filled.schema == other.schema
    assert filled["z"].to_list() == fitted.impute(table)["z"].tolist()
