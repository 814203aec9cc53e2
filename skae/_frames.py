"""Tables in and out: columns of numbers and categories, in the caller's library and dtypes.

In between a table is one float array, with NaN where an entry is missing, and with a code 1, 2, …
in the place of each category.
"""

import sys

import numpy as np
import pandas as pd
import scipy.sparse


def is_pandas(X):
    return hasattr(X, "iloc")


def is_polars(X):
    # a LazyFrame knows no height, and columns of pandas are attributes
    return hasattr(X, "clear") and hasattr(X, "height") and not is_pandas(X)


def is_frame(X):
    return (is_pandas(X) and X.ndim == 2) or is_polars(X)


def no_rows_of(X):
    """Return a table without rows that has the type, columns and dtypes of X, or None.

    Parameters
    ----------
    X : ndarray, sparse matrix, pandas or polars DataFrame, or anything else

    Returns
    -------
    ndarray, DataFrame or None
        Of a sparse matrix a dense array; None for anything else.
    """
    if scipy.sparse.issparse(X):
        return np.empty((0, X.shape[1]), X.dtype)
    if is_polars(X):  # whose slices keep the data
        return X.clear()
    if is_pandas(X):  # whose slices keep the labels of rows and Arrow's data
        return empty_frame(X.dtypes, X.columns)
    return np.asarray(X)[:0].copy() if isinstance(X, np.ndarray) else None


def with_categories(empty, earlier, categories):
    """Return a table without rows whose dtypes hold categories that an earlier one has.

    Parameters
    ----------
    empty, earlier : ndarray, DataFrame or None
        What :func:`no_rows_of` returned, of a table and of the one that the categories are of.
    categories : list of (ndarray or None)
    """
    if not is_frame(empty):
        return empty
    dtypes = [
        dtype if some is None or _holds(dtype, some) else _known_dtype(empty, earlier, j, some)
        for j, (dtype, some) in enumerate(zip(empty.dtypes, categories, strict=True))
    ]
    if is_pandas(empty):
        return empty_frame(dtypes, empty.columns)
    import polars as pl

    return pl.DataFrame(schema=dict(zip(empty.columns, dtypes, strict=True)))


def empty_frame(dtypes, columns):
    """Return a pandas DataFrame without rows."""
    empty = pd.concat([pd.Series([], dtype=dtype) for dtype in dtypes], axis=1)
    empty.columns = columns
    return empty


def frame_of(template, names, categories):
    """Return a template whose values become a DataFrame: itself, or one of floats and names."""
    if is_frame(template):
        return template
    return empty_frame([np.float64 if some is None else some.dtype for some in categories], names)


def like(template, values, categories=None, index=None):
    """Return values as a table like another one.

    Parameters
    ----------
    template : ndarray, DataFrame or None
        What :func:`no_rows_of` returned.
    values : ndarray of shape (n_samples, n_features)
    categories : list of (ndarray or None), default=None
        What codes stand for in each column of them; None is a column of numbers.
    index : pandas.Index, default=None
        Labels of the rows of a pandas DataFrame.

    Returns
    -------
    ndarray or DataFrame
        Values of integer columns are rounded and limited to what the dtype holds; where the
        template is None, the values.
    """
    columns = _decoded(values, categories)
    if is_pandas(template):
        parts = [_pandas_series(*both) for both in zip(columns, template.dtypes, strict=True)]
        frame = pd.concat(parts, axis=1)
        frame.columns = template.columns
        return frame if index is None else frame.set_axis(index)
    if is_polars(template):
        import polars as pl

        schema = template.schema.items()
        return pl.DataFrame([_polars_series(c, *s) for c, s in zip(columns, schema, strict=True)])
    if categories is not None:
        values = np.column_stack(columns)
    return values if template is None else _cast(values, template.dtype)


def _decoded(values, categories):
    """Return the columns, with categories in the place of their codes."""
    if categories is None:
        return list(values.T)
    return [
        column if some is None else _named(column, some)
        for column, some in zip(values.T, categories, strict=True)
    ]


def _named(codes, categories):
    if not len(categories):  # nothing is known of the column, and nothing can be said
        return np.full(len(codes), None, dtype=object)
    return categories[codes.astype(np.intp) - 1]


def _cast(values, dtype):
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        largest = float(limits.max)
        if int(largest) > limits.max:  # of 64 bits, whose largest integer is no float
            largest = np.nextafter(largest, 0)
        values = np.clip(np.rint(values.astype(np.float64)), limits.min, largest)
    elif dtype.kind == "b":
        values = values > 0.5
    elif dtype.kind not in "fT":
        return values
    return values.astype(dtype, copy=False)


def _pandas_series(values, dtype):
    if values.dtype == object:
        # the dtype twice: pandas 3 would make str of what is object
        return pd.Series(pd.array(list(values), dtype=dtype), dtype=dtype)
    if pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype):
        # of nullable and Arrow's dtypes, of sparse ones, of numpy's own
        plain = getattr(dtype, "numpy_dtype", getattr(dtype, "subtype", dtype))
        return pd.Series(_cast(values, np.dtype(plain))).astype(dtype)
    # objects, categories and strings that were read as numbers
    return pd.Series(values, dtype=dtype if isinstance(dtype, np.dtype) else None)


def _polars_series(values, name, dtype):
    import polars as pl

    if values.dtype == object:
        try:
            return pl.Series(name, values.tolist(), dtype=dtype)
        except TypeError:  # floats that were learned as categories, in a column of integers
            return pl.Series(name, values.tolist()).cast(dtype)
    plain = np.dtype(pl.Series(dtype=dtype).to_numpy().dtype)
    return pl.Series(name, _cast(values, plain), dtype=dtype)


# ------------------------------------------------------------------------ categories and numbers


def column(X, j):
    """Return a column of a table: a pandas or polars Series, or an array."""
    if is_pandas(X):
        return X.iloc[:, j]
    return X.to_series(j) if is_polars(X) else X[:, j]


def names_of(X):
    """Return the names of the columns, as sentences have them."""
    return list(X.columns) if is_frame(X) else [f"x{j}" for j in range(X.shape[1])]


def check_table(X):
    """Refuse a frame of which columns have the same name, and what only looks like a table."""
    if not is_frame(X):
        if np.ma.is_masked(X):  # whose masks NumPy's own functions lose
            raise ValueError(
                "X must have NaN where entries are missing, got a masked array; pass"
                " X.astype(float).filled(np.nan)."
            )
        if hasattr(X, "collect"):
            name = type(X).__name__
            raise TypeError(f"X must be a table in memory, got a {name}; pass X.collect().")
        if getattr(getattr(X, "dtype", None), "kind", "") in ("m", "M"):
            raise ValueError(f"X must hold numbers, got {X.dtype}; turn dates into numbers.")
        return
    names = pd.Index(X.columns)
    if not names.is_unique:
        raise ValueError(
            "X must have columns of different names, got"
            f" {names[names.duplicated()][0]!r} more than once; rename them."
        )


def _is_categorical(X, categorical_features):
    n_features = X.shape[1]
    mask = np.zeros(n_features, dtype=bool)
    if categorical_features is None:
        return mask
    if isinstance(categorical_features, str):
        if is_frame(X):
            mask[:] = [_holds_categories(column(X, j)) for j in range(n_features)]
        return mask
    chosen = [one.item() if isinstance(one, np.generic) else one for one in categorical_features]
    if chosen and all(isinstance(one, bool) for one in chosen):
        if len(chosen) != n_features:
            raise _not_columns(X, chosen)
        return np.array(chosen)
    names = list(X.columns) if is_frame(X) else []
    for one in chosen:
        if isinstance(one, int) and not isinstance(one, bool) and -n_features <= one < n_features:
            mask[one] = True
        elif isinstance(one, str | tuple) and one in names:
            mask[names.index(one)] = True
        else:
            raise _not_columns(X, one)
    return mask


def _not_columns(X, given):
    return ValueError(
        "categorical_features must be 'from_dtype', None, or names, positions or a mask of"
        f" the {X.shape[1]} columns of X, got {given!r}; its columns are {names_of(X)}."
    )


def _holds_categories(values):
    dtype = values.dtype
    if is_polars_dtype(dtype):
        return not (dtype.is_numeric() or dtype.is_temporal() or dtype.is_nested())
    types = pd.api.types
    if _is_of_time(dtype):
        return False
    if types.is_object_dtype(dtype) and types.infer_dtype(values) in (*_TIMES, *_NUMBERS):
        return False
    return types.is_bool_dtype(dtype) or not types.is_numeric_dtype(dtype)


# pandas' names of Python's own objects
_NUMBERS = ("floating", "mixed-integer-float", "decimal")
_TIMES = ("date", "datetime", "time", "timedelta", "period")


def _is_of_time(dtype):
    types = pd.api.types
    if isinstance(dtype, pd.ArrowDtype):
        import pyarrow as pa

        return pa.types.is_temporal(dtype.pyarrow_dtype)
    is_period = isinstance(dtype, pd.PeriodDtype)
    return types.is_datetime64_any_dtype(dtype) or types.is_timedelta64_dtype(dtype) or is_period


def is_polars_dtype(dtype):
    return hasattr(dtype, "is_temporal")


def is_plain(X):
    """Return whether all columns are numbers to their own library."""
    if not is_frame(X):
        return True
    if is_polars(X):
        return all(dtype.is_numeric() for dtype in X.dtypes)
    types = pd.api.types
    # decimals are numbers too, but of Python's: objects
    return all(types.is_numeric_dtype(d) and d.kind not in "bO" for d in X.dtypes)


def categories_of(X, categorical_features):
    """Return the categories of each column of them, in order, and None for columns of numbers.

    The order is that of a categorical dtype, and elsewhere the sorted one; what does not occur is
    left out.

    Parameters
    ----------
    X : ndarray, sparse matrix or DataFrame of shape (n_samples, n_features)
    categorical_features : 'from_dtype', array-like or None
        ``'from_dtype'`` is every column of a frame that holds neither numbers nor dates; else
        names, positions or a mask.

    Returns
    -------
    list of (ndarray or None)

    Raises
    ------
    ValueError
        If `categorical_features` says what X does not have, or X is sparse.
    """
    mask = _is_categorical(X, categorical_features)
    if mask.any() and scipy.sparse.issparse(X):
        raise ValueError(
            "X must be a dense table where columns are categories, got a sparse one; pass"
            " X.toarray(), or categorical_features=None."
        )
    return [_categories(column(X, j)) if is_one else None for j, is_one in enumerate(mask)]


def _categories(values):
    _, found = _factorized(values)
    declared = _declared(values.dtype)
    if declared is not None and len(declared):
        occurring = set(found)
        found = [value for value in declared if value in occurring]
    else:
        try:
            found = sorted(found)
        except TypeError:  # values of several types
            found = sorted(found, key=lambda value: (type(value).__name__, str(value)))
    if isinstance(values, np.ndarray) and values.dtype.kind != "T":  # which goes beside no number
        return np.array(found, dtype=values.dtype)
    categories = np.empty(len(found), dtype=object)
    categories[:] = found
    return categories


def _declared(dtype):
    """Return the categories of a dtype that says in which order they are, or None."""
    if is_polars_dtype(dtype):
        import polars as pl

        return dtype.categories if isinstance(dtype, pl.Enum) else None
    return getattr(dtype, "categories", None)


def _factorized(values):
    """Return a code 0, 1, … for each value, -1 where it is missing, and what codes stand for."""
    try:
        if is_polars_dtype(values.dtype):
            return _factorized_polars(values)
        # of Arrow's and pandas' own arrays it is these that count, not a copy of Python objects
        codes, found = pd.factorize(values)
    except (TypeError, NotImplementedError, _polars_error()) as error:
        name = getattr(values, "name", None)
        reason = str(error).splitlines()[0]
        raise TypeError(
            f"Column {name!r} must hold categories: each argument must be a string or a number, got"
            f" others ({reason}); turn them into strings."
        ) from error
    return codes, list(np.asarray(found, dtype=object))


def _factorized_polars(values):
    import polars as pl

    if values.dtype.is_nested():
        raise TypeError(f"they are of dtype {values.dtype}")
    if isinstance(values.dtype, pl.Categorical | pl.Enum):
        values = values.cast(pl.String)
    if values.dtype.is_float():
        values = values.fill_nan(None)
    found = values.unique().drop_nulls()
    if not len(found):
        return np.full(len(values), -1), []
    codes = values.replace_strict(
        found, pl.int_range(len(found), eager=True), default=-1, return_dtype=pl.Int64
    )
    return codes.to_numpy(), found.to_list()


def encoded(X, categories):
    """Return a table as one array of floats, and the names of columns with unknown categories.

    Parameters
    ----------
    X : ndarray or DataFrame of shape (n_samples, n_features)
    categories : list of (ndarray or None)
        What :func:`categories_of` returned.

    Returns
    -------
    values : ndarray of shape (n_samples, n_features)
        NaN where entries are missing, or categories unknown. float32 if all columns of numbers are,
        float64 otherwise.
    unknown : list

    Raises
    ------
    ValueError
        If a column of numbers holds something else.
    """
    values, unknown = np.empty(X.shape, dtype=float_dtype(X, categories)), []
    for j, (some, name) in enumerate(zip(categories, names_of(X), strict=True)):
        if some is None:
            values[:, j] = numbers(column(X, j), name)
            continue
        codes, found = _factorized(column(X, j))
        known, found = _index(some), _index(found)
        if known.inferred_type == "boolean" and pd.api.types.is_numeric_dtype(found.dtype):
            known, found = known.astype(np.intp), found.astype(np.float64)  # True is 1
        places = known.get_indexer(found)
        lookup = np.where(places < 0, np.nan, places + 1.0)
        values[:, j] = np.append(lookup, np.nan)[codes]  # code -1 is the last
        if (places < 0).any():
            unknown.append(name)
    return values, unknown


def _index(categories):
    """Return categories as an index, in which those that pandas has indices for are but values."""
    has_own = any(isinstance(one, tuple | pd.Interval) for one in categories)
    return pd.Index(categories, dtype=object if has_own else None, tupleize_cols=not has_own)


def numbers(values, name):
    """Return a column of numbers as an array of floats, NaN where they are missing."""
    try:
        if is_polars_dtype(values.dtype):
            if values.dtype.is_temporal() or values.dtype.is_nested():
                raise ValueError(f"they are of dtype {values.dtype}")
            import polars as pl

            return values.cast(pl.Float64).to_numpy()
        if not is_pandas(values):
            return values.astype(np.float64)
        types, dtype = pd.api.types, values.dtype
        if not types.is_numeric_dtype(dtype):
            if _is_of_time(dtype):
                raise ValueError(f"they are of dtype {dtype}")
            values = pd.to_numeric(values)
        if types.is_complex_dtype(values.dtype):
            raise ValueError(f"they are of dtype {values.dtype}")
        return values.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError, _polars_error()) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"Column {name!r} must hold numbers, got others ({reason}); turn them into numbers, or"
            " name it in categorical_features."
        ) from error


def _polars_error():
    polars = sys.modules.get("polars")
    return ValueError if polars is None else polars.exceptions.PolarsError


def float_dtype(X, categories):
    """Return the dtype of a table as floats: float32 if all columns of numbers are."""
    names = {str(column(X, j).dtype).lower() for j, c in enumerate(categories) if c is None}
    return np.float32 if names and names <= {"float32", "float[pyarrow]"} else np.float64


def n_empty_rows(X):
    """Return how many rows of an array or CSR matrix of floats are NaN in all columns."""
    if scipy.sparse.issparse(X):
        where = np.isnan(X.data).astype(np.intp)
        n_missing = scipy.sparse.csr_array((where, X.indices, X.indptr), X.shape).sum(axis=1)
        return np.count_nonzero(n_missing == X.shape[1])
    some = np.isnan(X[:, 0])  # a glance at one column, as nearly always there are none
    return np.count_nonzero(np.isnan(X[some]).all(axis=1))


def filled(X, values, categories, template):
    """Return a copy of a table whose missing entries have values, and all others stay as they are.

    Parameters
    ----------
    X : ndarray or DataFrame of shape (n_samples, n_features)
    values : ndarray of shape (n_samples, n_features)
    categories : list of (ndarray or None), or None
        What codes stand for in each column of values.
    template : ndarray, DataFrame or None
        What :func:`no_rows_of` returned of a table whose columns have dtypes that hold values.
    """
    if not is_frame(X):
        X, missing = X.copy(), pd.isna(X)
        X[missing] = np.column_stack(_decoded(values, categories))[missing]
        return X
    gaps = {j: _gaps(column(X, j)) for j in range(X.shape[1])}
    gaps = {j: where for j, where in gaps.items() if where.any()}
    if not gaps:
        return X.clone() if is_polars(X) else X.copy()
    categories = [None] * X.shape[1] if categories is None else categories
    columns = [_with_room(column(X, j), values[:, j], categories[j]) for j in gaps]
    some, codes = [categories[j] for j in gaps], values[:, list(gaps)]
    dtypes = [
        _known_dtype(X, template, j, categories[j])
        if where.all() and not _is_fit(known, categories[j])
        else known.dtype
        for known, (j, where) in zip(columns, gaps.items(), strict=True)
    ]
    if is_polars(X):
        import polars as pl

        names = [X.columns[j] for j in gaps]
        table = like(pl.DataFrame(schema=dict(zip(names, dtypes, strict=True))), codes, some)
        parts = zip(columns, gaps.values(), table, strict=True)
        return X.with_columns(
            [new if where.all() else known.zip_with(~where, new) for known, where, new in parts]
        )
    table = like(empty_frame(dtypes, range(len(dtypes))), codes, some, X.index)
    X = X.copy()
    for i, (j, where) in enumerate(gaps.items()):
        new, known = table.iloc[:, i], columns[i]
        if not where.all():
            is_as_held = some[i] is not None or pd.api.types.is_numeric_dtype(known.dtype)
            new = known.mask(where, new) if is_as_held else _put(known, where, new)
        X.isetitem(j, new)
    return X


def _put(known, where, new):
    """Return a pandas column that was read as numbers, with entries of another one.

    They are put as it holds others: as text, as true or false, or as more categories.
    """
    dtype = known.dtype
    held = dtype.categories if isinstance(dtype, pd.CategoricalDtype) else known
    given = _as_held(held, new[where.to_numpy()].to_numpy())
    if held is not known:
        known = known.cat.add_categories(pd.Index(given).unique().difference(held))
    values = known.array.copy()
    values[where.to_numpy()] = given
    return pd.Series(values, known.index, dtype=known.dtype, name=known.name)


def _as_held(held, values):
    """Return numbers as others of the kind are held."""
    kind = pd.api.types.infer_dtype(held, skipna=True)
    if kind == "string":
        return [str(value) for value in values.tolist()]
    if kind == "boolean":
        return (values > 0.5).tolist()
    return _cast(values, held.dtype) if isinstance(held.dtype, np.dtype) else values


def _is_fit(values, categories):
    """Return whether a column without values has a dtype that may hold numbers, or categories."""
    if categories is None:
        return not _holds_categories(values)
    return _declared(values.dtype) is not None or _holds(values.dtype, categories)


def _holds(dtype, categories):
    """Return whether values of a dtype may be categories."""
    declared = _declared(dtype)
    if declared is not None:
        return set(categories) <= set(declared)
    values = categories.tolist()
    try:
        held = _of_dtype(values, dtype)
    except (TypeError, ValueError, OverflowError, NotImplementedError, _polars_error()):
        return False
    # True is 1, but not the same category
    return held == values and list(map(type, held)) == list(map(type, values))


def _of_dtype(values, dtype):
    if not is_polars_dtype(dtype):
        return pd.array(values, dtype=dtype).tolist()
    import polars as pl

    return pl.Series(values, dtype=dtype).to_list()


def _known_dtype(X, template, j, categories):
    """Return the dtype that holds what is known of a column, in the library of X."""
    if is_frame(template) and is_polars(template) == is_polars(X):
        return column(template, j).dtype
    known = np.empty(0) if categories is None else categories
    if is_polars(X):
        import polars as pl

        return pl.Series(known.tolist() or [0.0]).dtype
    return pd.Series(known).dtype


def _gaps(values):
    """Return where a column of a frame is missing, as a Series."""
    if is_pandas(values):
        return values.isna()
    return values.is_null() | values.is_nan() if values.dtype.is_float() else values.is_null()


def _with_room(values, codes, categories):
    """Return a column whose dtype has the categories of codes too, where it says which it has.

    That of a table which was read for itself may lack some.
    """
    declared = None if categories is None else _declared(values.dtype)
    if declared is None or not len(categories):
        return values
    given, known = categories[np.unique(codes).astype(np.intp) - 1], set(declared)
    more = [one for one in given if one not in known]
    if not more:
        return values
    if is_polars_dtype(values.dtype):
        import polars as pl

        return values.cast(pl.Enum([*declared, *more]))
    return values.cat.add_categories(more)
