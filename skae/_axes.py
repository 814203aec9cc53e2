"""The axes of the codes: turned, when training has ended, to those that PCA would choose."""

import torch
from torch import nn

from skae.modules import Autoencoder


def principal_axes(codes, scores):
    """Return the rotation that makes codes uncorrelated, in falling variance, of one sign.

    Parameters
    ----------
    codes : Tensor of shape (n_samples, n_components), float64
    scores : Tensor of shape (n_samples, n_principal_components), float64
        PCA's codes of the same rows.

    Returns
    -------
    axes : Tensor of shape (n_components, n_components), float64
        One axis in each row.
    mean : Tensor of shape (n_components,), float64
        The mean code.
    """
    mean = codes.mean(dim=0)
    centred = codes - mean
    axes = torch.linalg.eigh(centred.T @ centred).eigenvectors.T.flip(0)
    return _with_signs_of_pca(axes, centred, scores), mean


def ordered_axes(codes, scores):
    """Return what :func:`principal_axes` does, but with the axes that the codes have.

    Their order is by falling variance, and zero stays where it is.
    """
    order = codes.var(dim=0, correction=0).argsort(descending=True, stable=True)
    axes = torch.eye(len(order), dtype=codes.dtype)[order]
    return _with_signs_of_pca(axes, codes - codes.mean(dim=0), scores), torch.zeros_like(codes[0])


def _with_signs_of_pca(axes, centred, scores):
    """Return axes such that codes covary positively with principal components.

    It is the principal component that covaries most with a code that counts. (PCA's own rule, by
    the largest loading, is less stable: of a trained code many features are about equally large.)
    """
    covariances = axes @ (centred.T @ scores)
    extremes = covariances.gather(1, covariances.abs().argmax(dim=1, keepdim=True))
    return torch.where(extremes < 0, -axes, axes)


def turned(module, axes, mean):
    """Return an autoencoder that gives the same reconstructions by way of other codes.

    Parameters
    ----------
    module : Autoencoder
    axes : Tensor of shape (n_components, n_components)
        Orthogonal; ``(code - mean) @ axes.T`` is the new code.
    mean : Tensor of shape (n_components,)

    Returns
    -------
    Autoencoder
        Its encoder is a sequence of the given one and a linear map, its decoder the inverse map
        and the given one.
    """
    to_axes = _fixed_linear(axes, -axes @ mean)
    from_axes = _fixed_linear(axes.T, mean)
    return Autoencoder(
        nn.Sequential(module.encoder, to_axes),
        nn.Sequential(from_axes, module.decoder),
        module.output,
    )


def unturned(module):
    """Return the autoencoder that :func:`turned` was given."""
    return Autoencoder(module.encoder[0], module.decoder[1], module.output)


def axes_of(module):
    """Return the axes and the mean code to which :func:`turned` has turned an autoencoder."""
    to_axes = module.encoder[1]
    axes = to_axes.weight.detach().cpu().double()
    return axes, -axes.T @ to_axes.bias.detach().cpu().double()


def _fixed_linear(weight, bias):
    # not nn.Linear itself, which draws initial weights from the global generator
    layer = nn.utils.skip_init(nn.Linear, *weight.shape, dtype=torch.float32)
    layer.requires_grad_(False)
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)
    return layer
