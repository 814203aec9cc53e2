"""Where training starts: the units of the data, PCA, and the networks at PCA."""

import copy

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.utils import gen_batches
from torch import nn

from skae.modules import MLP, Autoencoder, Gate, LinearSkip, SoftClip


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
            np.square((X[rows] - mean) / largest).sum() for rows in gen_batches(len(X), 4096)
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
        X = ((X - mean) / scale).astype(X.dtype)
    with np.errstate(invalid="ignore"):  # 0/0 in its explained variance ratio where X is constant
        return PCA(n_components, random_state=random_state).fit(X).components_


def network(own, widths, activation, dropout):
    """Return a user's own network, or the multilayer perceptron in its place.

    Parameters
    ----------
    own : None, nn.Module or callable
        What is not a module is called with the number of inputs and of outputs. The module is
        copied, so that a fit leaves it as it is, also if the callable returns the same each time.
    widths : list of int
        Number of inputs, of units in each hidden layer, and of outputs.
    activation : str
    dropout : float

    Returns
    -------
    nn.Module

    Raises
    ------
    TypeError
        If the callable does not return an ``nn.Module``.
    """
    if own is None:
        return MLP(widths, activation, dropout).to("cpu", torch.float32)
    module = own if isinstance(own, nn.Module) else own(widths[0], widths[-1])
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"encoder and decoder must be an nn.Module or return one, got {module!r} from"
            f" {own!r}; return a module that maps (batch, {widths[0]}) to (batch, {widths[-1]})."
        )
    return copy.deepcopy(module).to("cpu", torch.float32)


def checked_output(role, module, rows, n_out):
    """Return what a network makes of some rows, if it is what it should be.

    Parameters
    ----------
    role : {'encoder', 'decoder'}
        What to call the network in an error.
    module : nn.Module
    rows : Tensor of shape (n_rows, n_in)
    n_out : int

    Returns
    -------
    Tensor of shape (n_rows, n_out)

    Raises
    ------
    ValueError
        If the network fails or changes its input, or its output has another shape or is not
        finite.
    """
    rule = (
        f"{role} {type(module).__name__} must map shape {tuple(rows.shape)} to finite values of"
        f" shape {(len(rows), n_out)}"
    )
    module.eval()
    before = rows.clone()
    try:
        with torch.no_grad():
            output = module(rows)
    except Exception as error:
        raise ValueError(f"{rule}, but raised {type(error).__name__}: {error}") from error
    if not isinstance(output, torch.Tensor):
        raise ValueError(f"{rule}, but gave a {type(output).__name__}.")
    if output.shape != (len(rows), n_out):
        raise ValueError(f"{rule}, but gave shape {tuple(output.shape)}.")
    if not output.isfinite().all():
        raise ValueError(f"{rule}, but gave NaN or infinity.")
    if not torch.equal(rows, before):
        raise ValueError(f"{rule}, but changed its input; let no layer work in place on that.")
    return output


def with_linear_skip(encoder, decoder, data, n_components, components=None):
    """Return an autoencoder with linear paths around the given networks.

    Parameters
    ----------
    encoder, decoder : nn.Module
    data : Tensor of shape (n_samples, n_features)
        In the units that the networks see; its deviations say where the branches' input bends.
    n_components : int
    components : ndarray of shape (n_components, n_features), default=None
        The linear paths, and then the branches add exactly nothing until they are trained; without
        them both are random.

    Returns
    -------
    Autoencoder
    """
    n_features = data.shape[1]
    to_code = nn.Linear(n_features, n_components, bias=False).to("cpu", torch.float32)
    to_row = nn.Linear(n_components, n_features, bias=False).to("cpu", torch.float32)
    with torch.no_grad():
        if components is not None:
            weight = torch.from_numpy(components.astype(np.float32))
            to_code.weight.copy_(weight)
            to_row.weight.copy_(weight.T)
            encoder, decoder = _adding_nothing(encoder), _adding_nothing(decoder)
        codes = to_code.to(data.device)(data)
    return Autoencoder(
        LinearSkip(to_code, encoder, _soft_clip(data)),
        LinearSkip(to_row, decoder, _soft_clip(codes)),
    )


def _adding_nothing(branch):
    return branch.zero_last_layer() if isinstance(branch, MLP) else Gate(branch)


def _soft_clip(rows):
    return SoftClip(rows.std(dim=0, correction=0))
