"""Where training starts: the units of the data, PCA, and the networks at PCA."""

import copy
import functools
import inspect

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.utils import gen_batches
from torch import nn

from skae.modules import MLP, Gate, LinearSkip, SoftClip, TiedLinear

# How many rows are read at a time.
_CHUNK_ROWS = 4096


def data_units(X):
    """Return the mean row and the square root of the mean feature variance.

    One scale for all features leaves the squared error in the units of the data, so that the
    objective stays that of PCA. Where all rows are equal the scale is 1.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)

    Returns
    -------
    mean : ndarray of shape (n_features,), float64
    scale : float

    Raises
    ------
    ValueError
        If the variance overflows.
    """
    low, high = X.min(axis=0), X.max(axis=0)
    if np.array_equal(low, high):
        return low.astype(np.float64), 1.0
    with np.errstate(over="ignore", invalid="ignore"):  # said below in a sentence
        mean = X.mean(axis=0, dtype=np.float64)
        # in units of the largest deviation, whose own square may under- or overflow
        largest = max(np.abs(high - mean).max(), np.abs(low - mean).max())
        squares = sum(
            np.square((X[rows] - mean) / largest).sum() for rows in gen_batches(len(X), _CHUNK_ROWS)
        )
        scale = float(largest * np.sqrt(squares / X.size))
    if not scale < np.sqrt(np.finfo(np.float64).max):
        raise ValueError(
            "X must have a variance that is finite in float64, got values up to"
            f" {np.abs(X).max():.3g}; divide X by a constant."
        )
    return mean, scale


def principal_components(X, mean, scale, n_components, random_state):
    """Return the PCA that the user would have had.

    In ordinary units scikit-learn is given X itself, so that the components are its own to the
    bit, also those of directions without variance, which are arbitrary. Elsewhere X is brought to
    unit scale first: the Gram matrix of tiny, huge or far-off values under- or overflows or
    cancels.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    mean, scale : ndarray of shape (n_features,), float
        What :func:`data_units` returns.
    n_components : int or float
        As in :class:`sklearn.decomposition.PCA`.
    random_state : int, RandomState instance or None

    Returns
    -------
    ndarray of shape (n_components, n_features)
    """
    # float64 has the range and the digits for more than float32
    far, unit = (1e4, 1e60) if X.dtype == np.float64 else (1e3, 1e6)
    if not (1 / unit < scale < unit and np.abs(mean).max() < far * scale):
        X = X - mean.astype(X.dtype)
        X /= scale
    with np.errstate(invalid="ignore"):  # 0/0 in its explained variance ratio where X is constant
        return PCA(n_components, random_state=random_state).fit(X).components_


def mapped_components(data, n_components, random_state):
    """Return what :func:`principal_components` does for rows that do not fit into the memory.

    Their Gram matrix is gathered in chunks. scikit-learn is given rows that have the same one, and
    whose mean is zero.

    Parameters
    ----------
    data : MappedRows of shape (n_samples, n_features)
    n_components : int or float
    random_state : int, RandomState instance or None

    Returns
    -------
    ndarray of shape (n_components, n_features)
    """
    gram = sum(_gram(rows) for rows in data.split(_CHUNK_ROWS))
    variances, axes = np.linalg.eigh(gram)
    rows = axes.T * np.sqrt(variances.clip(0))[:, np.newaxis]
    rows = np.concatenate([rows, -rows])
    with np.errstate(invalid="ignore"):  # as above
        return PCA(n_components, random_state=random_state).fit(rows).components_


def _gram(rows):
    rows = rows.cpu().double().numpy()
    return rows.T @ rows


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
    linear = nn.Linear
    if tied_to is not None:
        sources = [layer for layer in tied_to if isinstance(layer, nn.Linear)]

        def linear(n_in, n_out):
            return TiedLinear(sources.pop())

    network = MLP(widths, activation, dropout, linear).to("cpu", torch.float32)
    return _drawn(network, init)


def _drawn(module, init):
    """Draw the weights of a network of ours anew, if ``init`` names a way to, and return it."""
    for layer in module.modules() if isinstance(init, str) and init in INITS else ():
        if isinstance(layer, nn.Linear):
            INITS[init](layer.weight)
        if isinstance(layer, nn.Linear | TiedLinear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return module


def own_network(own, n_in, n_out):
    """Return a user's own network.

    Parameters
    ----------
    own : nn.Module or callable
        What is not a module is called with the number of inputs and of outputs. The module is
        copied, so that a fit leaves it as it is, also if the callable returns the same each time.
    n_in, n_out : int

    Returns
    -------
    nn.Module

    Raises
    ------
    TypeError
        If the callable does not return an ``nn.Module``.
    """
    module = own if isinstance(own, nn.Module) else own(n_in, n_out)
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"encoder and decoder must be an nn.Module or return one, got {module!r} from"
            f" {own!r}; return a module that maps (batch, {n_in}) to (batch, {n_out})."
        )
    return copy.deepcopy(module).to("cpu", torch.float32)


def checked_output(role, function, inputs, *shapes):
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
    rule = (
        f"{role} {name} must map shape {_listed(tuple(rows.shape) for rows in tensors)} to finite"
        f" values of shape {' or '.join(map(str, shapes))}"
    )
    before = [tensor._version for tensor in tensors]
    try:
        output = function(*inputs)
    except Exception as error:
        raise ValueError(f"{rule}, but raised {type(error).__name__}: {error}") from error
    if not isinstance(output, torch.Tensor):
        raise ValueError(f"{rule}, but gave a {type(output).__name__}.")
    if output.shape not in shapes:
        raise ValueError(f"{rule}, but gave shape {tuple(output.shape)}.")
    if not output.isfinite().all():
        raise ValueError(f"{rule}, but gave NaN or infinity.")
    if [tensor._version for tensor in tensors] != before:
        raise ValueError(f"{rule}, but changed its input; do not work in place on that.")
    return output


def _listed(items):
    return " and ".join(map(str, items))


def linear_paths(n_features, n_components, init, tied):
    """Return random linear maps from rows to codes and back.

    Parameters
    ----------
    n_features, n_components : int
    init : str
        Name of a way to draw weights, or anything else for torch's own.
    tied : bool
        Whether the second is the transpose of the first.
    """
    to_code = nn.Linear(n_features, n_components, bias=False).to("cpu", torch.float32)
    if tied:
        to_row = TiedLinear(to_code, bias=False)
    else:
        to_row = nn.Linear(n_components, n_features, bias=False).to("cpu", torch.float32)
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


def deviations_along(components, data):
    """Return the standard deviation of each component, as PCA with ``whiten=True`` has it.

    That of a component without variance is 1.

    Parameters
    ----------
    components : ndarray of shape (n_components, n_features)
    data : Tensor or MappedRows of shape (n_samples, n_features)

    Returns
    -------
    ndarray of shape (n_components,)
    """
    components = torch.from_numpy(components).to(data.device, torch.float32)
    deviations = _deviations(rows @ components.T for rows in data.split(_CHUNK_ROWS))
    deviations = deviations.numpy() * np.sqrt(len(data) / (len(data) - 1))
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


def with_linear_skip(encoder, decoder, to_code, to_row, data, n_more):
    """Return networks with linear paths around them.

    Parameters
    ----------
    encoder, decoder : nn.Module
    to_code, to_row : nn.Module
        The linear paths.
    data : Tensor or MappedRows of shape (n_samples, n_features)
        In the units that the networks see; its deviations say where the branches' input bends.
    n_more : int
        How many outputs the encoder has beyond codes, in which the linear path has no part.

    Returns
    -------
    encoder, decoder : LinearSkip
    """
    to_code.to(data.device)
    chunks = functools.partial(data.split, _CHUNK_ROWS)
    with torch.no_grad():
        row_clip = SoftClip(_deviations(chunks()).to(data.device, torch.float32))
        code_deviations = _deviations(to_code(rows) for rows in chunks())
        code_clip = SoftClip(code_deviations.to(data.device, torch.float32))
    if n_more:
        to_code = nn.Sequential(to_code, nn.ConstantPad1d((0, n_more), 0.0))
    return (
        LinearSkip(to_code, encoder, row_clip),
        LinearSkip(to_row, decoder, code_clip),
    )


def _deviations(chunks):
    """Return the standard deviation of each column of rows that come in chunks, in float64.

    Their mean is near zero, so that the mean square less its square does not cancel.
    """
    n_rows, total, squares = 0, 0.0, 0.0
    for rows in chunks:
        n_rows += len(rows)
        total += rows.sum(dim=0).cpu().double()
        squares += rows.square().sum(dim=0).cpu().double()
    return (squares / n_rows - (total / n_rows).square()).clamp_min(0).sqrt()
