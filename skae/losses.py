"""Losses: how far reconstructions are from their rows, one value per row.

A loss is a module that maps ``(x_hat, x)``, both of shape ``(batch, n_features)`` and in units of
the data's mean feature standard deviation, to a tensor of shape ``(batch,)``. One value per row,
not their mean, is what lets early stopping compare two epochs row by row.
"""

import torch
from torch import nn

__all__ = [
    "AbsoluteError",
    "BinaryCrossEntropy",
    "EntrywiseLoss",
    "Huber",
    "Loss",
    "SquaredError",
]


class Loss(nn.Module):
    """A loss, given by a function.

    Parameters
    ----------
    function : callable
        ``(x_hat, x) -> losses``, as above. What a fit does to a module it does to a copy.

    Examples
    --------
    >>> import torch
    >>> from skae.losses import Loss
    >>> Loss(lambda x_hat, x: (x_hat - x).abs().amax(dim=1))(torch.zeros(1, 2), torch.ones(1, 2))
    tensor([1.])
    """

    #: Whether ``x_hat`` is what comes before the output activation.
    from_logits = False

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x_hat, x):
        return self.function(x_hat, x)

    def of_mean(self, x):
        """Return the losses of rows that are reconstructed by the mean row.

        Parameters
        ----------
        x : Tensor of shape (batch, n_features)

        Returns
        -------
        Tensor of shape (batch,)
        """
        return self(self.mean_output(x), x)

    def mean_output(self, x):
        """Return the ``x_hat`` of rows that are reconstructed by the mean row."""
        return torch.zeros_like(x)


class EntrywiseLoss(Loss):
    """A loss that is a mean over features, so that single entries can be left out.

    Parameters
    ----------
    function : callable
        ``(x_hat, x) -> losses``, all of shape ``(batch, n_features)``.

    Examples
    --------
    >>> import torch
    >>> from skae.losses import EntrywiseLoss
    >>> EntrywiseLoss(lambda x_hat, x: (x_hat - x) ** 4)(torch.zeros(1, 2), torch.ones(1, 2))
    tensor([1.])
    """

    def entries(self, x_hat, x):
        """Return the loss of each entry, of shape ``(batch, n_features)``."""
        return self.function(x_hat, x)

    def forward(self, x_hat, x):
        return self.entries(x_hat, x).mean(dim=1)


class SquaredError(EntrywiseLoss):
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

    def __init__(self):
        super().__init__(_squared_error)


class AbsoluteError(EntrywiseLoss):
    """Mean over features of the absolute difference.

    **Shape**

    - ``x_hat``, ``x``: ``(batch, n_features)``
    - output: ``(batch,)``

    Examples
    --------
    >>> import torch
    >>> from skae.losses import AbsoluteError
    >>> AbsoluteError()(torch.zeros(2, 2), torch.tensor([[0.0, 2.0], [-1.0, 1.0]]))
    tensor([1., 1.])
    """

    def __init__(self):
        super().__init__(_absolute_error)


class Huber(EntrywiseLoss):
    """Mean over features of half the squared difference up to 1, and linear from there on.

    The bend is at one standard deviation of the mean feature, so it is the gross errors that count
    less than squared (P. J. Huber, 1964, doi:10.1214/aoms/1177703732).

    **Shape**

    - ``x_hat``, ``x``: ``(batch, n_features)``
    - output: ``(batch,)``

    Examples
    --------
    >>> import torch
    >>> from skae.losses import Huber
    >>> Huber()(torch.zeros(2, 1), torch.tensor([[1.0], [10.0]]))
    tensor([0.5000, 9.5000])
    """

    def __init__(self):
        super().__init__(_huber)


def _squared_error(x_hat, x):
    # the square of the difference, with a gradient that is one pass
    return nn.functional.mse_loss(x_hat, x, reduction="none")


def _absolute_error(x_hat, x):
    return (x_hat - x).abs()


def _huber(x_hat, x):
    return nn.functional.huber_loss(x_hat, x, reduction="none")


class BinaryCrossEntropy(EntrywiseLoss):
    """Mean over features of the cross-entropy between x in [0, 1] and a logistic output.

    It is computed from what comes before the logistic, so that no output is too sure for it.

    Parameters
    ----------
    mean : Tensor of shape (n_features,)
    scale : float
        The units: a row x of the data is ``(x - mean) / scale`` to the networks.

    **Shape**

    - logits, ``x``: ``(batch, n_features)``
    - output: ``(batch,)``

    Examples
    --------
    >>> import torch
    >>> from skae.losses import BinaryCrossEntropy
    >>> BinaryCrossEntropy(torch.tensor([0.5]), 0.5)(torch.zeros(1, 1), torch.ones(1, 1))
    tensor([0.6931])
    """

    from_logits = True

    def __init__(self, mean, scale):
        super().__init__(nn.functional.binary_cross_entropy_with_logits)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))

    def entries(self, logits, x):
        # rounding may have left the unit interval, where the cross-entropy has no lower bound
        target = torch.addcmul(self.mean, x, self.scale).clamp(0, 1)
        return self.function(logits, target, reduction="none")

    def mean_output(self, x):
        return self.mean.logit(eps=1e-6).expand_as(x)
