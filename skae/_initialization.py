"""Where training starts: the units of the data, PCA, and the networks at PCA."""

import copy
import functools
import inspect
import math

import numpy as np
import scipy.sparse
import torch
from sklearn import config_context
from sklearn.decomposition import PCA, IncrementalPCA
from sklearn.utils.sparsefuncs import mean_variance_axis, min_max_axis
from torch import nn
from torch.nn.parameter import is_lazy

from skae._batches import chunk_rows, chunks_of
from skae._mixed import N_EMBEDDED, MixedInput
from skae.modules import MLP, Gate, LinearSkip, SoftClip, TiedLinear

# How often missing entries are filled. Where many are missing more is worse: in the end some of
# what is filled in is far from all that was seen.
_N_COMPLETIONS = 20


def data_units(X):
    """Return the mean row and the square root of the mean feature variance.

    One scale for all features leaves the squared error in the units of the data, so that the
    objective stays that of PCA. Where all rows are equal the scale is 1.

    Parameters
    ----------
    X : ndarray or sparse matrix of shape (n_samples, n_features)
        NaN where entries are missing, which are left out.

    Returns
    -------
    mean : ndarray of shape (n_features,), float64
        0 where a column has no values.
    scale : float

    Raises
    ------
    ValueError
        If the variance overflows.
    """
    if scipy.sparse.issparse(X):
        # of a column without values NaN, and then 0
        low, high = np.nan_to_num(min_max_axis(X, axis=0, ignore_nan=True)).astype(np.float64)
        largest = max(high.max(), -low.min())
        unit = 1.0 if 1e-15 < largest < 1e15 else largest or 1.0  # squares are in X's precision
        rows = X if unit == 1 else X.astype(np.float64) / unit
        mean, variances = np.nan_to_num(mean_variance_axis(rows, axis=0)).astype(np.float64)
        mean, variances = np.where(low == high, (low, 0 * low), (mean * unit, variances))
        n_observed = observed_rows(X)
        scale = unit * math.sqrt(variances @ n_observed / max(n_observed.sum(), 1))
        _check_scale(scale, largest)
        return mean, scale or 1.0
    # of a column without values NaN, and then 0
    low, high = (np.nan_to_num(f.reduce(X, axis=0)) for f in (np.fmin, np.fmax))
    if np.array_equal(low, high):
        return low.astype(np.float64), 1.0
    n_observed = observed_rows(X)
    with np.errstate(over="ignore", invalid="ignore"):  # said below in a sentence
        if n_observed.min() == len(X):
            mean = X.mean(axis=0, dtype=np.float64)
        else:
            totals = sum(np.nansum(X[rows], axis=0, dtype=np.float64) for rows in chunks_of(X))
            mean = totals / n_observed.clip(1)
        mean = np.where(low == high, low, mean)  # to the bit: their variance is 0, not rounding
        # in units of the largest deviation, whose own square may under- or overflow
        largest = max(np.abs(high - mean).max(), np.abs(low - mean).max())
        squares = sum(np.nansum(np.square((X[rows] - mean) / largest)) for rows in chunks_of(X))
        scale = float(largest * np.sqrt(squares / n_observed.sum()))
    _check_scale(scale, max(high.max(), -low.min()))
    return mean, scale


def _check_scale(scale, largest):
    if not scale < np.sqrt(np.finfo(np.float64).max):
        raise ValueError(
            "X must have a variance that is finite in float64, got values up to"
            f" {largest:.3g}; divide X by a constant."
        )


def column_units(X, numbers):
    """Return the mean and standard deviation of columns of numbers, and 0 and 1 for all others.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    numbers : list of int

    Returns
    -------
    mean, scale : ndarray of shape (n_features,), float64
    """
    mean, scale = np.zeros(X.shape[1]), np.ones(X.shape[1])
    for j in numbers:
        mean[[j]], scale[j] = data_units(X[:, [j]])
    return mean, scale


def observed_rows(X):
    """Return in how many rows each column has a value.

    Parameters
    ----------
    X : ndarray or sparse matrix of shape (n_samples, n_features)

    Returns
    -------
    ndarray of shape (n_features,)
    """
    n_samples, n_features = X.shape
    if scipy.sparse.issparse(X):
        return n_samples - np.bincount(X.indices[np.isnan(X.data)], minlength=n_features)
    return n_samples - sum(np.isnan(X[rows]).sum(axis=0) for rows in chunks_of(X))


def category_shares(X, layout):
    """Return how frequent each category is, in rows where one is known, as a tensor per column.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    layout : Layout

    Returns
    -------
    list of Tensor of shape (n_categories,)
    """
    shares = []
    for j in layout.categorical:
        codes = X[~np.isnan(X[:, j]), j].astype(np.intp)
        counts = np.bincount(codes, minlength=layout.n_categories[j] + 1)[1:]
        shares.append(torch.from_numpy(counts / len(codes)).float())
    return shares


def principal_components(X, mean, scale, n_components, random_state):
    """Return the PCA that the user would have had.

    In ordinary units scikit-learn is given X itself, so that the components are its own to the
    bit, also those of directions without variance, which are arbitrary. Elsewhere X is brought to
    unit scale first: the Gram matrix of tiny, huge or far-off values under- or overflows or
    cancels.

    Parameters
    ----------
    X : ndarray or sparse matrix of shape (n_samples, n_features)
        Without missing entries.
    mean, scale : ndarray of shape (n_features,), float
        What :func:`data_units` returns.
    n_components : int or float
        As in :class:`sklearn.decomposition.PCA`.
    random_state : int, RandomState instance or None

    Returns
    -------
    PCA
        Fitted. Its components are meant, and the variances are in arbitrary units.
    """
    # float64 has the range and the digits for more than float32
    far, unit = (1e4, 1e60) if X.dtype == np.float64 else (10, 1e6)
    if scipy.sparse.issparse(X):
        if not 1 / unit < scale < unit:
            X = X.astype(np.float64) / scale
        if not mean_variance_axis(X, axis=0)[1].any():  # Lanczos' method needs some variance
            X = np.zeros((max(2, n_components), X.shape[1]))
            return _fitted_pca(X, n_components, random_state=random_state)
        return _sparse_components(X, n_components, random_state)
    if not (1 / unit < scale < unit and np.abs(mean).max() < far * scale):
        X = X - mean.astype(X.dtype)
        X /= scale
    return _fitted_pca(X, n_components, random_state=random_state)


def _sparse_components(X, n_components, random_state):
    """Return principal components without a dense matrix that is larger than it has to be.

    scikit-learn finds few by Lanczos' method (ARPACK), and all or a share of the variance by the
    covariance, which has the square of ``n_features`` values.
    """
    by_lanczos = n_components >= 1 and n_components < min(X.shape)
    if not by_lanczos and X.shape[0] < X.shape[1]:  # the rows are smaller than their covariance
        return _fitted_pca(X.toarray(), n_components, random_state=random_state)
    solver = "arpack" if by_lanczos else "covariance_eigh"
    return _fitted_pca(X, n_components, svd_solver=solver, random_state=random_state)


def _fitted_pca(X, n_components, **options):
    with np.errstate(invalid="ignore"):  # 0/0 in its explained variance ratio where X is constant
        pca = PCA(n_components, **options).fit(X)
    # torch knows no negative strides, not even that of a single row
    pca.components_ = pca.components_.copy(order="C")
    return pca


def share_kept(pca, n_directions):
    """Return which share of each component's code is no noise, in regularised iterative PCA.

    Parameters
    ----------
    pca : PCA
    n_directions : int
        Number of directions in which the inputs can vary: none of a constant column, and one less
        than a column has categories. The others have no noise.

    Returns
    -------
    ndarray of shape (n_components,)
    """
    variances = pca.explained_variance_
    # scikit-learn has the mean over all directions; by rounding it may be less than 0
    n_left, n_noisy = (
        min(pca.n_samples_, n) - pca.n_components_ for n in (pca.n_features_in_, n_directions)
    )
    noise = max(pca.noise_variance_, 0.0) * n_left / max(n_noisy, 1)
    shares = np.divide(variances - noise, variances, out=0 * variances, where=variances > 0)
    return shares.clip(0, 1).copy(order="C")


def chunked_components(rows, n_components, random_state):
    """Return what :func:`principal_components` does for rows that come in chunks.

    Their Gram matrix is gathered. scikit-learn is given rows that have the same one, and whose mean
    is zero.

    Parameters
    ----------
    rows : iterable of Tensor of shape (n_rows, n_inputs)
        In units, so that their mean is zero.
    n_components : int or float
    random_state : int, RandomState instance or None

    Returns
    -------
    PCA
    """
    chunks = (some.cpu().double().numpy() for some in rows)
    gram = sum(some.T @ some for some in chunks)
    variances, axes = np.linalg.eigh(gram)
    rows = axes.T * np.sqrt(variances.clip(0))[:, np.newaxis]
    rows = np.concatenate([rows, -rows])
    return _fitted_pca(rows, n_components, random_state=random_state)


def completed_components(inputs, n_directions, n_components, random_state):
    """Return what :func:`principal_components` does for rows of which entries are missing.

    These are filled by what the components reconstruct, which gives better components, and so on
    (regularised iterative PCA): reconstructions are shrunk by the share of noise in each component,
    as otherwise few observed entries would be explained too well, and others invented.

    Parameters
    ----------
    inputs : ndarray of shape (n_samples, n_inputs)
        In units, and NaN where entries are missing. They are filled in place.
    n_directions : int
        As in :func:`share_kept`.
    n_components : int or float
    random_state : int, RandomState instance or None

    Returns
    -------
    PCA

    References
    ----------
    J. Josse and F. Husson, "missMDA: A Package for Handling Missing Values in Multivariate Data
    Analysis", J. Stat. Softw. 70 (2016), doi:10.18637/jss.v070.i01.
    """
    missing = np.isnan(inputs)
    inputs[missing] = 0.0
    pca = _fitted_pca(inputs, n_components, random_state=random_state)
    for _ in range(_N_COMPLETIONS if missing.any() else 0):
        with config_context(transform_output="default"):  # arrays, whatever users get
            codes = pca.transform(inputs) * share_kept(pca, n_directions)
        inputs[missing] = pca.inverse_transform(codes)[missing]
        pca = _fitted_pca(inputs, n_components, random_state=random_state)
    return pca


class StreamPCA:
    """The principal components of rows that come in parts.

    Parameters
    ----------
    components : ndarray of shape (n_components, n_inputs)
        Those of the first part, by whose axes later ones are named.
    """

    #: More components than are asked for make those that are more exact.
    N_MORE = 10

    def __init__(self, components):
        self.components = components

    def add(self, inputs):
        """Take more rows in, and return by how much the components have changed.

        Parameters
        ----------
        inputs : InputRows of shape (n_samples, n_inputs)
            The first time as many as there are components or more.

        Returns
        -------
        ndarray of shape (n_components, n_inputs)
        """
        size, n_inputs = self.components.shape
        # of a part at most a thousand rows, whose decomposition takes some 0.1 s
        n_rows = min(len(inputs), max(size + self.N_MORE, chunk_rows(n_inputs) // 4))
        some = inputs.subset(np.linspace(0, len(inputs) - 1, n_rows).astype(np.intp))
        if not hasattr(self, "pca"):
            self.pca = IncrementalPCA(min(n_rows, n_inputs, size + self.N_MORE))
        with np.errstate(invalid="ignore"):  # constant rows have no shares of their variance
            self.pca.partial_fit(some[:].cpu().double().numpy())
        found = self.pca.components_[:size]
        # Axes within the space that components span are arbitrary: of both spaces those that are
        # nearest to each other. Where none is near, two components that explain about equally much
        # have changed places, to which networks that were trained beside the one need not follow.
        left, cosines, right = np.linalg.svd(self.components @ found.T)
        axes = right @ found - left.T @ self.components
        change = left[:, cosines > 0.9] @ axes[cosines > 0.9]
        self.components = self.components + change
        return change


def category_vectors(layout, shares, chunks):
    """Return vectors for the columns of many categories to begin with.

    They are the directions in which categories differ most in their mean inputs of other columns,
    scaled as one-hot vectors are in factor analysis: over the rows they have mean zero and are
    uncorrelated, with variance 1. Means are shrunk towards zero as if ten rows more were there.

    Parameters
    ----------
    layout : Layout
    shares : list of Tensor of shape (n_categories,)
    chunks : callable
        Returns an iterable of rows, tensors of shape ``(n_rows, n_features)``.

    Returns
    -------
    list of Tensor of shape (n_categories, N_EMBEDDED)
    """
    n_one_hot = len(layout.one_hot)
    # without vectors: only numbers and one-hot columns
    plain = MixedInput(layout, shares, [])
    vectors = []
    for j, some in zip(layout.embedded, shares[n_one_hot:], strict=True):
        n_categories = len(some)
        totals = torch.zeros(n_categories + 1, plain.n_plain, dtype=torch.float32)
        counts = torch.zeros(n_categories + 1, dtype=torch.float32)
        for rows in chunks():
            rows = rows.cpu()
            codes = rows[:, j].nan_to_num().long()
            totals.index_add_(0, codes, plain.plain(rows).nan_to_num())
            counts += torch.bincount(codes, minlength=n_categories + 1)
        roots = some.sqrt().unsqueeze(1)
        means = totals[1:] / (counts[1:].unsqueeze(1) + 10)
        directions = torch.linalg.svd(roots * means, full_matrices=False).U[:, :N_EMBEDDED]
        n_more = N_EMBEDDED - directions.shape[1]
        drawn = torch.randn(n_categories, n_more, dtype=torch.float32)
        # orthogonal to the roots: then vectors have mean zero
        basis = torch.linalg.qr(torch.cat([roots, directions, drawn], dim=1)).Q[:, 1:]
        vectors.append(basis / roots)
    return vectors


# Weights as the literature draws them; biases are zero then.
INITS = {
    "glorot_uniform": nn.init.xavier_uniform_,
    "glorot_normal": nn.init.xavier_normal_,
    "he_uniform": functools.partial(nn.init.kaiming_uniform_, nonlinearity="relu"),
    "he_normal": functools.partial(nn.init.kaiming_normal_, nonlinearity="relu"),
    "orthogonal": nn.init.orthogonal_,
}


def perceptron(widths, activation, dropout, init, tied_to=None):
    """Return a multilayer perceptron.

    Parameters
    ----------
    widths : list of int
        Number of inputs, of units in each hidden layer, and of outputs.
    activation : str
    dropout : float
    init : str
        Name of a way to draw weights, or anything else for torch's own.
    tied_to : MLP, default=None
        The one with the reverse widths whose weights are used, transposed.

    Returns
    -------
    MLP
    """
    linear = functools.partial(nn.Linear, dtype=torch.float32)  # whatever torch's default is
    if tied_to is not None:
        sources = [layer for layer in tied_to if isinstance(layer, nn.Linear)]

        def linear(n_in, n_out):
            return TiedLinear(sources.pop())

    return _drawn(MLP(widths, activation, dropout, linear), init)


def _drawn(module, init):
    """Draw the weights of a network of ours anew, if ``init`` names a way to, and return it."""
    for layer in module.modules() if init in INITS else ():
        if isinstance(layer, nn.Linear):
            INITS[init](layer.weight)
        if isinstance(layer, nn.Linear | TiedLinear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return module


def own_network(own, n_in, n_out, copied=None):
    """Return a user's own network.

    Parameters
    ----------
    own : nn.Module or callable
        What is not a module is called with the number of inputs and of outputs. The module is
        copied, so that a fit leaves it as it is, also if the callable returns the same each time.
    n_in, n_out : int
    copied : dict, default=None
        As `memo` in :func:`copy.deepcopy`: what a network before has in common with this one, as
        tied weights, their copies have in common.

    Returns
    -------
    nn.Module

    Raises
    ------
    TypeError
        If the callable does not return an ``nn.Module``.
    """
    rule = "encoder and decoder must be an nn.Module or, called with (n_in, n_out), return one"
    way_out = f"return a module that maps (batch, {n_in}) to (batch, {n_out})."
    try:
        module = own if isinstance(own, nn.Module) else own(n_in, n_out)
    except TypeError as error:  # as others say what is wrong with a call
        raise TypeError(f"{rule}, got {own!r}, which raised {error}; {way_out}") from error
    if not isinstance(module, nn.Module):
        raise TypeError(f"{rule}, got {module!r} from {own!r}; {way_out}")
    if any(map(is_lazy, module.parameters())):
        raise TypeError(f"{rule} whose weights have their shapes, got lazy ones; {way_out}")
    return copy.deepcopy(module, copied).to("cpu", torch.float32)


def checked_output(role, function, inputs, *shapes, allow_nan=False, advice=""):
    """Return what a function makes of some tensors, if it is what it should be.

    Parameters
    ----------
    role : str
        What to call it in an error.
    function : nn.Module or callable
    inputs : tuple
        Its arguments, of which tensors are described in an error.
    *shapes : tuple of int
        Those that its output may have.
    allow_nan : bool, default=False
        Whether its output may have NaN.
    advice : str, default=""
        How an error goes on where the output has another shape.

    Returns
    -------
    Tensor of one of the shapes

    Raises
    ------
    ValueError
        If the function fails or changes its input, or its output has another shape or is not
        finite.
    """
    named = function.__self__ if inspect.ismethod(function) else function
    name = getattr(named, "__name__", type(named).__name__)
    values = [part for value in inputs for part in (value if isinstance(value, list) else [value])]
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    given = " and ".join(str(tuple(rows.shape)) for rows in tensors)
    rule = (
        f"{role} {name} must map shape {given} to finite values of shape"
        f" {' or '.join(map(str, shapes))}"
    )
    before = [tensor._version for tensor in tensors]
    try:
        output = function(*inputs)
    except Exception as error:
        raise ValueError(f"{rule}, but raised {type(error).__name__}: {error}") from error
    if not isinstance(output, torch.Tensor):
        raise ValueError(f"{rule}, but gave a {type(output).__name__}.")
    if output.shape not in shapes:
        raise ValueError(f"{rule}, but gave shape {tuple(output.shape)}{advice}.")
    is_wrong = output.isinf() if allow_nan else ~output.isfinite()
    if is_wrong.any():
        raise ValueError(f"{rule}, but gave NaN or infinity.")
    if [tensor._version for tensor in tensors] != before:
        raise ValueError(f"{rule}, but changed its input; do not work in place on that.")
    return output


def linear_paths(n_inputs, n_components, init, tied):
    """Return random linear maps from inputs to codes and back.

    Parameters
    ----------
    n_inputs, n_components : int
    init : str
        Name of a way to draw weights, or anything else for torch's own.
    tied : bool
        Whether the second is the transpose of the first.
    """
    linear = functools.partial(nn.Linear, bias=False, dtype=torch.float32)
    to_code = linear(n_inputs, n_components)
    to_row = TiedLinear(to_code, bias=False) if tied else linear(n_components, n_inputs)
    return _drawn(to_code, init), _drawn(to_row, init)


@torch.no_grad()
def set_to_pca(to_code, to_row, components, deviations):
    """Make linear maps those of PCA.

    Parameters
    ----------
    to_code, to_row : nn.Linear
    components : ndarray of shape (n_components, n_features)
    deviations : ndarray of shape (n_components,)
        The unit of each code; all 1 where the maps are tied.
    """
    to_code.weight.copy_(torch.from_numpy(components / deviations[:, np.newaxis]))
    if to_row.weight is not to_code.weight:
        to_row.weight.copy_(torch.from_numpy(components.T * deviations))


def deviations_along(components, inputs):
    """Return the standard deviation of each component, as PCA with ``whiten=True`` has it.

    That of a component without variance is 1.

    Parameters
    ----------
    components : ndarray of shape (n_components, n_inputs)
    inputs : InputRows of shape (n_samples, n_inputs)

    Returns
    -------
    ndarray of shape (n_components,)
    """
    components = torch.from_numpy(components).to(inputs.device, torch.float32)
    total, squares = 0.0, 0.0
    for rows in inputs.chunks():
        codes = rows @ components.T
        total += codes.sum(dim=0).cpu().double()
        squares += codes.square().sum(dim=0).cpu().double()
    # means are near zero, so that this does not cancel
    variances = (squares - total.square() / len(inputs)).clamp_min(0) / (len(inputs) - 1)
    deviations = variances.sqrt().numpy()
    return np.where(deviations > 1e-6, deviations, 1.0)


def log_variances(deviations, n_features, alpha):
    """Return the variances of codes that are best for a linear variational autoencoder.

    With squared error ``alpha`` is that of a decoder with noise of variance
    ``alpha * n_features / 2``, and the best variance of a whitened code is that as a share of its
    component's variance (J. Lucas et al., arXiv:1911.02469).

    Parameters
    ----------
    deviations : ndarray of shape (n_components,)
        Standard deviation of each component.
    n_features : int
    alpha : float

    Returns
    -------
    Tensor of shape (n_components,)
        Their logarithms.
    """
    noise = alpha * n_features / 2
    variances = np.clip(noise / np.square(deviations, dtype=np.float64), 1e-30, 1.0)
    return torch.from_numpy(np.log(variances)).to(torch.float32)


def adding_nothing(branch, tied):
    """Return a branch whose output is exactly zero until it is trained.

    Parameters
    ----------
    branch : nn.Module
        One of ours gets a last layer of zeros, another a factor of zero.
    tied : bool
        Whether that last layer is the first one of the other branch, and so has to stay.
    """
    zeroed = getattr(branch, "zero_last_layer", None)
    return Gate(branch) if tied or zeroed is None else zeroed()


def with_linear_skip(encoder, decoder, to_code, to_row, inputs, columns, n_more):
    """Return networks with linear paths around them.

    Parameters
    ----------
    encoder, decoder : nn.Module
    to_code, to_row : nn.Module
        The linear paths.
    inputs : InputRows of shape (n_samples, n_inputs)
        What the encoder sees.
    columns : InputRows of shape (n_samples, n_inputs)
        The same with gaps. How far it reaches says where the encoder's branch bends its input.
    n_more : int
        How many outputs the encoder has beyond codes, in which the linear path has no part.

    Returns
    -------
    encoder, decoder : LinearSkip
    """
    to_code.to(inputs.device)
    with torch.no_grad():
        row_clip = SoftClip(_largest(columns.chunks()))
        code_clip = SoftClip(_largest(map(to_code, inputs.chunks())))
    if n_more:
        to_code = nn.Sequential(to_code, nn.ConstantPad1d((0, n_more), 0.0))
    return (
        LinearSkip(to_code, encoder, row_clip),
        LinearSkip(to_row, decoder, code_clip),
    )


def _largest(chunks):
    """Return the largest absolute value of each column of rows that come in chunks."""
    # not kept for a maximum in the end: small tensors between large ones that are freed make holes
    return functools.reduce(
        torch.maximum, (rows.abs().nan_to_num_(0.0).amax(dim=0) for rows in chunks)
    )
