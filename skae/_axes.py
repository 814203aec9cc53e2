"""The axes of the codes: turned, when training has ended, to those that PCA would choose."""

import torch
from torch import nn

from skae.modules import Autoencoder


class CodeMoments:
    """What axes depend on: sums over rows, gathered chunk by chunk in float64.

    Parameters
    ----------
    codes : Tensor of shape (n_rows, n_components)
    scores : Tensor of shape (n_rows, n_scores)
        PCA's codes of the same rows, as many components as there are.
    """

    def __init__(self, codes, scores):
        # near the means, so that sums of products do not cancel
        self.origin = codes.cpu().double().mean(dim=0)
        self.score_origin = scores.cpu().double().mean(dim=0)
        self.n_rows, self.totals, self.products = 0, 0.0, 0.0
        self.add(codes, scores)

    def add(self, codes, scores):
        """Take more rows in."""
        codes = codes.cpu().double() - self.origin
        both = torch.cat([codes, scores.cpu().double() - self.score_origin], dim=1)
        self.n_rows += len(both)
        self.totals += both.sum(dim=0)
        self.products += codes.T @ both

    @property
    def mean(self):
        return self.origin + self.totals[: len(self.origin)] / self.n_rows

    @property
    def _covariances(self):
        """Return those of codes with codes, and beside them with scores."""
        means = self.totals / self.n_rows
        return self.products / self.n_rows - torch.outer(means[: len(self.origin)], means)

    @property
    def covariance(self):
        return self._covariances[:, : len(self.origin)]

    @property
    def covariance_with_scores(self):
        return self._covariances[:, len(self.origin) :]

    def variances_along(self, axes):
        return ((axes @ self.covariance) * axes).sum(dim=1)

    def squares_along(self, axes, origin):
        """Return the mean square along each axis of the way from an origin."""
        return self.variances_along(axes) + (axes @ (self.mean - origin)).square()


def principal_axes(moments):
    """Return the rotation that makes codes uncorrelated, in falling variance, of one sign.

    Parameters
    ----------
    moments : CodeMoments

    Returns
    -------
    axes : Tensor of shape (n_components, n_components), float64
        One axis in each row.
    mean : Tensor of shape (n_components,), float64
        The mean code.
    """
    axes = torch.linalg.eigh(moments.covariance).eigenvectors.T.flip(0)
    return _with_signs_of_pca(axes, moments), moments.mean


def ordered_axes(moments):
    """Return what :func:`principal_axes` does, but with the axes that the codes have.

    Their order is by falling variance, and zero stays where it is.
    """
    order = moments.covariance.diagonal().argsort(descending=True, stable=True)
    axes = torch.eye(len(order), dtype=torch.float64)[order]
    return _with_signs_of_pca(axes, moments), torch.zeros_like(moments.mean)


def _with_signs_of_pca(axes, moments):
    """Return axes such that codes covary positively with principal components.

    It is the principal component that covaries most with a code that counts. (PCA's own rule, by
    the largest loading, is less stable: of a trained code many features are about equally large.)
    """
    covariances = axes @ moments.covariance_with_scores
    extremes = covariances.gather(1, covariances.abs().argmax(dim=1, keepdim=True))
    return torch.where(extremes < 0, -axes, axes)


def turned(module, axes, mean):
    """Return an autoencoder that gives the same reconstructions by way of other codes.

    Parameters
    ----------
    module : Autoencoder
    axes : Tensor of shape (n_axes, n_components)
        Orthonormal rows; ``(code - mean) @ axes.T`` is the new code. Fewer axes than components
        keep the part of codes along them, and reconstruct from that.
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
        module.input,
    )


def unturned(module):
    """Return the autoencoder that :func:`turned` was given."""
    return Autoencoder(module.encoder[0], module.decoder[1], module.output, module.input)


def axes_of(module):
    """Return the axes and the mean code to which :func:`turned` has turned an autoencoder."""
    to_axes = module.encoder[1]
    axes = to_axes.weight.detach().cpu().double()
    return axes, -axes.T @ to_axes.bias.detach().cpu().double()


def _fixed_linear(weight, bias):
    # on no device at first: for initial weights numbers would be drawn from the global generator
    layer = nn.Linear(*reversed(weight.shape), device="meta")
    layer.weight, layer.bias = (
        nn.Parameter(values.float().clone(memory_format=torch.contiguous_format), False)
        for values in (weight, bias)
    )
    return layer
