"""Losses: how far reconstructions are from their rows, one value per row.

A loss is a module that maps ``(x_hat, x)``, both of shape ``(batch, n_features)`` and in units of
the data's mean feature standard deviation, to a tensor of shape ``(batch,)``. One value per row,
not their mean, is what lets early stopping compare two epochs row by row.
"""

from torch import nn

__all__ = ["SquaredError"]


class SquaredError(nn.Module):
    """Mean over features of the squared difference.

    In the units that the networks see, the mean of this loss over the training rows is one minus
    R², the fraction of variance that is not reconstructed.

    **Shape**

    - ``x_hat``, ``x``: ``(batch, n_features)``
    - output: ``(batch,)``

    Examples
    --------
    >>> import torch
    >>> from skae.losses import SquaredError
    >>> SquaredError()(torch.zeros(2, 2), torch.tensor([[0.0, 2.0], [1.0, 1.0]]))
    tensor([2., 1.])
    """

    def forward(self, x_hat, x):
        return (x_hat - x).square().mean(dim=1)
