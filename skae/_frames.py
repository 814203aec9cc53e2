"""Tables like those that were given to `fit`: their library, columns and dtypes."""

import numpy as np


def no_rows_of(X):
    """Return a table without rows that has the type, columns and dtypes of X, or None.

    Parameters
    ----------
    X : ndarray, pandas or polars DataFrame, or anything else

    Returns
    -------
    ndarray, DataFrame or None
        None for anything else.
    """
    if hasattr(X, "clear") and hasattr(X, "schema"):  # polars, whose slices keep the data
        return X.clear()
    if hasattr(X, "iloc"):  # pandas, whose slices keep the labels of rows and Arrow's data
        import pandas as pd

        empty = pd.concat([pd.Series([], dtype=dtype) for dtype in X.dtypes], axis=1)
        empty.columns = X.columns
        return empty
    return X[:0].copy() if isinstance(X, np.ndarray) else None


def like(template, values):
    """Return values as a table like another one.

    Parameters
    ----------
    template : ndarray, DataFrame or None
        What :func:`no_rows_of` returned.
    values : ndarray of shape (n_samples, n_features)

    Returns
    -------
    ndarray or DataFrame
        Values of integer columns are rounded and limited to what the dtype holds; where the
        template is None, the values.
    """
    if template is None:
        return values
    if isinstance(template, np.ndarray):
        return _cast(values, template.dtype)
    if hasattr(template, "iloc"):
        return _pandas_like(template, values)
    return _polars_like(template, values)


def _cast(values, dtype):
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        largest = float(limits.max)
        if int(largest) > limits.max:  # of 64 bits, whose largest integer is no float
            largest = np.nextafter(largest, 0)
        values = np.clip(np.rint(values.astype(np.float64)), limits.min, largest)
    elif dtype.kind == "b":
        values = values > 0.5
    elif dtype.kind != "f":
        return values
    return values.astype(dtype, copy=False)


def _pandas_like(template, values):
    import pandas as pd

    columns = []
    for column, dtype in zip(values.T, template.dtypes, strict=True):
        if pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype):
            plain = np.dtype(getattr(dtype, "numpy_dtype", dtype))
            columns.append(pd.Series(_cast(column, plain)).astype(dtype))
        else:  # objects, categories and strings that were read as numbers
            columns.append(pd.Series(column, dtype=dtype if isinstance(dtype, np.dtype) else None))
    frame = pd.concat(columns, axis=1)
    frame.columns = template.columns
    return frame


def _polars_like(template, values):
    import polars as pl

    columns = []
    for column, (name, dtype) in zip(values.T, template.schema.items(), strict=True):
        plain = np.dtype(pl.Series(dtype=dtype).to_numpy().dtype)
        columns.append(pl.Series(name, _cast(column, plain), dtype=dtype))
    return pl.DataFrame(columns)
