"""Penalties: the R of the training objective ``J = L + alpha * R``.

With the linear skip R sees the weights of the nonlinear branches alone, so that ``alpha`` leads
from the free autoencoder (0) to PCA (infinity). Without it R sees all weights.
"""

import torch

__all__ = ["L2", "Penalty"]


class Penalty:
    """Base of all penalties: subclass it and say in ``__call__`` what R is.

    Examples
    --------
    >>> import torch
    >>> from skae.penalties import Penalty
    >>> class LargestWeight(Penalty):
    ...     def __call__(self, weights):
    ...         return max(weight.abs().max() for weight in weights)
    >>> LargestWeight()([torch.tensor([[1.0, -3.0]]), torch.tensor([[2.0]])])
    tensor(3.)
    """

    def __call__(self, weights):
        """Return R.

        Parameters
        ----------
        weights : list of Tensor
            The penalised weights: matrices and gates, not the vectors (biases and the scales of
            normalisation layers), which cost no complexity.

        Returns
        -------
        Tensor of shape ()
        """
        raise NotImplementedError

    def backward(self, weights, alpha):
        """Add the gradient of ``alpha * R`` to the gradients of ``weights``, in place.

        Parameters
        ----------
        weights : list of Tensor
        alpha : float

        Returns
        -------
        Tensor of shape ()
            ``alpha * R``.
        """
        value = alpha * self(weights)
        value.backward()
        return value.detach()


class L2(Penalty):
    """Sum of squared weights: ridge, or weight decay.

    Examples
    --------
    >>> import torch
    >>> from skae.penalties import L2
    >>> L2()([torch.tensor([[1.0, -3.0]]), torch.tensor([[2.0]])])
    tensor(14.)
    """

    def __call__(self, weights):
        return sum(weight.square().sum() for weight in weights)

    @torch.no_grad()
    def backward(self, weights, alpha):
        # The gradient is known, so one fused call takes the place of a graph over all weights. It
        # is added to the gradient, not left to the optimiser's weight_decay, because AdamW's is
        # not the gradient of any J.
        torch._foreach_add_([weight.grad for weight in weights], weights, alpha=2 * alpha)
        return alpha * torch.stack(torch._foreach_norm(weights)).square().sum()
