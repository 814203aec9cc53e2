"""Tables like the one that was given."""

import gc
import pickle
import weakref

import numpy as np
import pandas as pd
import pytest

from skae._frames import like, no_rows_of

pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")

VALUES = np.array([[-3.0], [0.4], [0.6], [2.5], [3.5], [300.0]])
ROUNDED = [-3, 0, 1, 2, 4, 300]  # halves to even, as numpy rounds
LIMITED = [0, 0, 1, 2, 4, 255]
TRUE = [False, False, True, True, True, True]
SINGLE = VALUES.astype(np.float32).ravel().tolist()
DOUBLE = VALUES.ravel().tolist()

# Floats next to the limits of 64 bits, which have no float of their own upwards.
HUGE = np.array([[-1e30], [1e30], [2.0**63], [-(2.0**63)], [2.0**64]])
SIGNED = [-(2**63), 2**63 - 1024, 2**63 - 1024, -(2**63), 2**63 - 1024]
UNSIGNED = [0, 2**64 - 2048, 2**63, 0, 2**64 - 2048]


def arrow(kind):
    return pd.ArrowDtype(kind)


# ------------------------------------------------------------------------------------- ndarray

NUMPY = [
    ("float64", DOUBLE),
    ("float32", SINGLE),
    ("float16", VALUES.astype(np.float16).ravel().tolist()),
    ("int64", ROUNDED),
    ("int16", ROUNDED),
    (">i4", ROUNDED),
    ("uint8", LIMITED),
    ("bool", TRUE),
]


@pytest.mark.parametrize(("dtype", "expected"), NUMPY)
def test_an_array_has_the_dtype_of_the_one_before(dtype, expected):
    template = no_rows_of(np.ones((5, 1), dtype))
    assert template.shape == (0, 1)
    array = like(template, VALUES)
    assert type(array) is np.ndarray
    assert array.dtype == np.dtype(dtype)
    assert array.ravel().tolist() == expected


@pytest.mark.parametrize("dtype", [object, "U8"])
def test_an_array_of_no_numbers_is_followed_by_the_values_themselves(dtype):
    array = like(no_rows_of(np.array([["1.5"], ["2.5"]], dtype)), VALUES)
    np.testing.assert_array_equal(array, VALUES)
    assert array.dtype == np.float64


@pytest.mark.parametrize(("dtype", "expected"), [("int64", SIGNED), ("uint64", UNSIGNED)])
def test_integers_of_64_bits_stay_within_the_largest_float_they_hold(dtype, expected):
    assert like(no_rows_of(np.ones((5, 1), dtype)), HUGE).ravel().tolist() == expected


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "uint32"])
def test_smaller_integers_stay_within_their_limits_in_either_precision(dtype, precision):
    limits = np.iinfo(dtype)
    values = np.array([[-1e30], [1e30], [7.4]], precision)
    array = like(no_rows_of(np.ones((5, 1), dtype)), values)
    lowest, largest, rounded = array.ravel().tolist()
    assert (lowest, rounded) == (limits.min, 7)
    # of float32 the largest value that the dtype holds may be 24 bits
    assert limits.max - largest <= (0 if precision == "float64" else limits.max / 2**23)


def test_values_that_need_no_cast_are_not_changed_by_one_that_does():
    values = VALUES.copy()
    like(no_rows_of(np.ones((5, 1), "uint8")), values)
    np.testing.assert_array_equal(values, VALUES)


@pytest.mark.parametrize("X", [[[1, 2], [3, 4]], ((1.0, 2.0),), pa.table({"a": [1]})], ids=type)
def test_anything_else_is_followed_by_an_array(X):
    assert no_rows_of(X) is None
    assert like(None, VALUES) is VALUES


# -------------------------------------------------------------------------------------- pandas

PANDAS = [
    ("float64", DOUBLE),
    ("float32", SINGLE),
    ("int64", ROUNDED),
    ("uint8", LIMITED),
    ("bool", TRUE),
    ("Float32", SINGLE),
    ("Int64", ROUNDED),
    ("UInt8", LIMITED),
    ("boolean", TRUE),
    (arrow(pa.float64()), DOUBLE),
    (arrow(pa.float32()), SINGLE),
    (arrow(pa.int64()), ROUNDED),
    (arrow(pa.uint8()), LIMITED),
    (arrow(pa.bool_()), TRUE),
    (object, DOUBLE),
]


def pandas_table(dtypes, columns):
    frame = pd.concat([pd.Series([1, 0, 1]).astype(dtype) for dtype in dtypes], axis=1)
    frame.columns = columns
    return frame


@pytest.mark.parametrize(("dtype", "expected"), PANDAS, ids=str)
def test_a_pandas_column_has_the_dtype_of_the_one_before(dtype, expected):
    frame = like(no_rows_of(pandas_table([dtype], ["a"])), VALUES)
    assert type(frame) is pd.DataFrame
    assert frame["a"].dtype == pandas_table([dtype], ["a"])["a"].dtype
    assert frame["a"].tolist() == expected
    assert frame.index.tolist() == list(range(len(VALUES)))


COLUMNS = {
    "names": pd.Index([f"x{i}" for i in range(len(PANDAS))], name="features"),
    "the same name": pd.Index(["x"] * len(PANDAS)),
    "integers": pd.Index(range(5, 5 + len(PANDAS))),
    "pairs": pd.MultiIndex.from_product([["x"], range(len(PANDAS))], names=["one", "other"]),
}


@pytest.mark.parametrize("columns", COLUMNS.values(), ids=COLUMNS)
def test_mixed_pandas_columns_keep_their_dtypes_names_and_places(columns):
    table = pandas_table([dtype for dtype, _ in PANDAS], columns)
    template = no_rows_of(table)
    assert template.shape == (0, len(PANDAS))
    shifts = np.arange(len(PANDAS))  # so that no column is another
    frame = like(template, VALUES + shifts)
    pd.testing.assert_index_equal(frame.columns, table.columns)
    assert frame.dtypes.tolist() == table.dtypes.tolist()
    for i, (dtype, _) in enumerate(PANDAS):
        alone = like(no_rows_of(pandas_table([dtype], ["x"])), VALUES + i)
        assert frame.iloc[:, i].tolist() == alone["x"].tolist()


def test_nullable_integers_of_64_bits_stay_within_the_largest_float_they_hold():
    table = pandas_table(["Int64", arrow(pa.uint64())], ["signed", "unsigned"])
    frame = like(no_rows_of(table), np.repeat(HUGE, 2, axis=1))
    assert frame["signed"].tolist() == SIGNED
    assert frame["unsigned"].tolist() == UNSIGNED


@pytest.mark.parametrize("dtype", ["category", "str"])
def test_a_pandas_column_of_numbers_by_another_name_can_be_followed_too(dtype):
    # such columns are read as numbers by fit
    table = pandas_table([dtype, "int64"], ["a", "b"])
    frame = like(no_rows_of(table), np.array([[1.0, 1.2]]))
    assert frame.columns.tolist() == ["a", "b"]
    assert float(frame["a"].iloc[0]) == 1
    assert frame["b"].tolist() == [1]


# -------------------------------------------------------------------------------------- polars

POLARS = [
    (pl.Float64, DOUBLE),
    (pl.Float32, SINGLE),
    (pl.Int64, ROUNDED),
    (pl.Int16, ROUNDED),
    (pl.UInt8, LIMITED),
    (pl.Boolean, TRUE),
]


def test_polars_columns_keep_their_dtypes_names_and_places():
    schema = {str(dtype): dtype for dtype, _ in POLARS}
    table = pl.DataFrame({name: [1, 0] for name in schema}).cast(schema)
    template = no_rows_of(table)
    assert template.shape == (0, len(POLARS))
    frame = like(template, np.repeat(VALUES, len(POLARS), axis=1))
    assert type(frame) is pl.DataFrame
    assert frame.schema == table.schema
    for dtype, expected in POLARS:
        assert frame[str(dtype)].to_list() == expected


def test_polars_integers_of_64_bits_stay_within_the_largest_float_they_hold():
    table = pl.DataFrame({"a": [1], "b": [1]}, schema={"a": pl.Int64, "b": pl.UInt64})
    frame = like(no_rows_of(table), np.repeat(HUGE, 2, axis=1))
    assert frame["a"].to_list() == SIGNED
    assert frame["b"].to_list() == UNSIGNED


# ------------------------------------------------------------------------- what is kept of data


def same(array):
    return array


def pandas_frame(array):
    return pd.DataFrame(array, copy=False)


def arrow_frame(array):
    column = pd.arrays.ArrowExtensionArray(pa.chunked_array([pa.array(array[:, 0])]))
    return pd.DataFrame({"a": column}, copy=False)


def polars_frame(array):
    return pl.from_arrow(pa.table({"a": pa.array(array[:, 0])}))


@pytest.mark.parametrize("table", [same, pandas_frame, arrow_frame, polars_frame])
def test_a_template_does_not_keep_the_data(table):
    array = np.ones((5000, 1))
    reference = weakref.ref(array)
    X = table(array)
    del array
    gc.collect()
    assert reference() is not None  # the table shares its memory
    template = no_rows_of(X)
    del X
    gc.collect()
    assert reference() is None
    assert len(template) == 0


ROWS = 5000
LABELS = {
    "numbers": np.linspace(-1, 1, ROWS),
    "texts": [f"patient {i}" for i in range(ROWS)],
    "pairs": pd.MultiIndex.from_arrays([range(ROWS), [f"patient {i}" for i in range(ROWS)]]),
    "categories": pd.CategoricalIndex([f"patient {i}" for i in range(ROWS)]),
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_a_template_holds_no_labels_of_rows(labels):
    template = no_rows_of(pd.DataFrame({"a": np.ones(ROWS)}, index=labels))
    assert template.shape == (0, 1)
    # 5000 labels of a byte would be more
    assert len(pickle.dumps(template)) < ROWS
    assert like(template, VALUES).index.tolist() == list(range(len(VALUES)))
