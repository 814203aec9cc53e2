"""Frames without rows as plain values: their columns and dtypes, and frames made of that again."""

import contextlib

import numpy as np
import pandas as pd

from skae._frames import empty_frame, is_pandas

INTEGERS = [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)]
FLOATS = ["float16", "float32", "float64"]
# What pandas and polars read from these names is what they wrote as such. Other names are not
# read: that of a time zone may be that of a file.
_CAPITAL = {name.replace("i", "I", 1).replace("uI", "UI") for name in INTEGERS}
_CAPITAL |= {"Float32", "Float64"}
_PANDAS = {"bool", "object", "boolean", *INTEGERS, *FLOATS, *_CAPITAL}
_POLARS = {"Boolean", "String", "Categorical", "Null", *_CAPITAL}
_ARROW = {"bool", "string", "large_string", "halffloat", "float", "double", *INTEGERS}


def described_frame(frame):
    """Return what a frame without rows is made of, as lists, dicts and values.

    Parameters
    ----------
    frame : pandas or polars DataFrame of shape (0, n_features)

    Returns
    -------
    dict or None
        None if there is no frame like this one to be made of it.
    """
    try:
        if is_pandas(frame):
            made_of = {
                "library": "pandas",
                "columns": _index(frame.columns),
                "dtypes": [_dtype(dtype) for dtype in frame.dtypes],
            }
        else:
            dtypes = [_polars_dtype(dtype) for dtype in frame.dtypes]
            made_of = {"library": "polars", "columns": frame.columns, "dtypes": dtypes}
        return made_of if _are_alike(frame_of_description(made_of), frame) else None
    except (LookupError, NotImplementedError, TypeError, ValueError):
        return None


def _are_alike(one, other):
    if list(one.dtypes) != list(other.dtypes) or len(one) or len(other):
        return False
    if not is_pandas(other):
        return one.columns == other.columns
    one, other = one.columns, other.columns
    return type(one) is type(other) and one.identical(other) and one.dtype == other.dtype


def frame_of_description(made_of):
    """Return the frame that :func:`described_frame` was given."""
    if made_of["library"] == "polars":
        with _needed("polars"):
            import polars as pl

        dtypes = [_polars_dtype_of(dtype) for dtype in made_of["dtypes"]]
        return pl.DataFrame(schema=dict(zip(made_of["columns"], dtypes, strict=True)))
    dtypes = [_dtype_of(dtype) for dtype in made_of["dtypes"]]
    return empty_frame(dtypes, _index_of(made_of["columns"]))


@contextlib.contextmanager
def _needed(package):
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"The model was fitted to a frame of {package}, which must be installed to load it, and"
            f" is not; pip install {package}."
        ) from error


def _index(index):
    if isinstance(index, pd.RangeIndex):
        return {"range": [index.start, index.stop, index.step], "names": [index.name]}
    made_of = {"values": index.tolist(), "names": list(index.names)}
    if not isinstance(index, pd.MultiIndex):
        made_of["dtype"] = _dtype(index.dtype)
    return made_of


def _index_of(made_of):
    if "range" in made_of:
        return pd.RangeIndex(*made_of["range"], name=made_of["names"][0])
    if "dtype" not in made_of:
        return pd.MultiIndex.from_tuples(made_of["values"], names=made_of["names"])
    return pd.Index(made_of["values"], _dtype_of(made_of["dtype"]), name=made_of["names"][0])


def _dtype(dtype):
    if isinstance(dtype, pd.CategoricalDtype):
        categories = None if dtype.categories is None else _index(dtype.categories)
        return {"categories": categories, "ordered": dtype.ordered}
    if isinstance(dtype, pd.StringDtype):
        return {"strings": dtype.storage, "missing": "NA" if dtype.na_value is pd.NA else "nan"}
    if isinstance(dtype, pd.ArrowDtype):
        return {"arrow": str(dtype.pyarrow_dtype)}
    if isinstance(dtype, pd.SparseDtype):
        return {"sparse": _dtype(dtype.subtype), "fill": dtype.fill_value}
    return str(dtype)


def _dtype_of(made_of):
    if isinstance(made_of, str):
        return pd.api.types.pandas_dtype(one_of(_PANDAS, made_of))
    if "categories" in made_of:
        categories = made_of["categories"]
        index = None if categories is None else _index_of(categories)
        return pd.CategoricalDtype(index, made_of["ordered"])
    if "strings" in made_of:
        return _strings(one_of({"python", "pyarrow"}, made_of["strings"]), made_of["missing"])
    if "arrow" in made_of:
        with _needed("pyarrow"):
            import pyarrow as pa

        return pd.ArrowDtype(pa.type_for_alias(one_of(_ARROW, made_of["arrow"])))
    return pd.SparseDtype(_dtype_of(made_of["sparse"]), made_of["fill"])


def _strings(storage, missing):
    options = {"na_value": np.nan} if missing == "nan" else {}
    try:
        return pd.StringDtype(storage, **options)
    except ImportError:  # here is no pyarrow, which is only another way to store the same
        return pd.StringDtype("python", **options)
    except TypeError:  # before pandas 2.3, where such strings are objects
        return np.dtype(object)


def _polars_dtype(dtype):
    kind = str(dtype.base_type())
    return {"enum": dtype.categories.to_list()} if kind == "Enum" else kind


def _polars_dtype_of(made_of):
    import polars as pl

    if isinstance(made_of, dict):
        return pl.Enum(made_of["enum"])
    return getattr(pl, one_of(_POLARS, made_of))()


def one_of(names, name):
    """Return a name if it is one of some."""
    if name not in names:
        raise ValueError(f"{name!r} must be one of {names}")
    return name
