"""Penalties: the R of the training objective ``J = L + alpha * R``.

A penalty says in ``needs`` what it is about, and gets just that:

``"weights"``
    A list of the penalised weights: matrices, not vectors (biases, the scales of normalisation
    layers), which cost no complexity. With the linear skip they are those of the nonlinear branches
    alone, so that ``alpha`` leads from the free autoencoder (0) to PCA (infinity); without it they
    are all. Those of a network of your own beside a linear skip are seen times its learned factor.
``"code"``
    The codes of a batch, of shape ``(batch, n_components)``.
``"x"``
    The rows that they come from, of shape ``(batch, n_features)``, by which codes can be
    differentiated.
``"mean"``, ``"log_variance"``
    The distribution of the codes, each of shape ``(batch, n_components)``. A penalty that needs
    it makes the autoencoder variational: the encoder gives both, training draws codes from them,
    and `transform` gives the mean.

Anything but weights is a penalty on rows: it returns one value per row (or one for all), and early
stopping judges epochs by J. A penalty on weights guards against overfitting, and early stopping
judges by L alone.

A decoder can undo any scale of the codes. What would fall if all codes shrank would be cheated in
that way, so penalties on codes here are about codes relative to their own scale in the batch.
"""

import torch

from skae.modules import SoftThreshold

__all__ = ["KL", "L1", "L2", "ActivityL1", "Contractive", "Penalty"]

#: What a penalty may need.
PIECES = ("weights", "x", "code", "mean", "log_variance")


class Penalty:
    """Base of all penalties: subclass it and say in ``__call__`` what R is.

    Attributes
    ----------
    needs : tuple of str, default=('weights',)
        Names of the arguments of ``__call__``, in its order.
    depends_on_axes : bool
        Whether R is about the axes of the code. If not, codes are turned to principal axes
        when training has ended. The default is True for all that is not about weights alone.
    separable : bool, default=False
        Of a penalty on weights: whether R is a sum over their entries, so that all of them may be
        given as one vector.

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

    needs = ("weights",)
    separable = False

    @property
    def on_rows(self):
        """Whether R is about rows and their codes, not about weights alone."""
        return set(self.needs) != {"weights"}

    @property
    def variational(self):
        """Whether R needs a distribution of codes."""
        return bool({"mean", "log_variance"} & set(self.needs))

    @property
    def depends_on_axes(self):
        return self.on_rows

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in vars(self).items())})"

    def __call__(self, *pieces):
        """Return R.

        Parameters
        ----------
        *pieces : what ``needs`` names

        Returns
        -------
        Tensor of shape () or (batch,)
        """
        raise NotImplementedError

    def estimate(self, *pieces):
        """Return what stands for R in a training step: R itself, or cheaper and R on average.

        Parameters
        ----------
        *pieces : what ``needs`` names

        Returns
        -------
        Tensor of shape () or (batch,)
        """
        return self(*pieces)

    def code_layer(self, n_components):
        """Return a module that ends the encoder, mapping codes to codes, or None.

        Parameters
        ----------
        n_components : int

        Returns
        -------
        nn.Module or None
        """

    def backward(self, weights, alpha):
        """Add the gradient of ``alpha * R`` to the gradients of ``weights``, in place.

        Of penalties on weights alone; others are part of the loss that is differentiated.

        Parameters
        ----------
        weights : list of Tensor
        alpha : float
        """
        (alpha * self(weights)).backward()


class L2(Penalty):
    """Sum of squared weights: ridge, or weight decay.

    Examples
    --------
    >>> import torch
    >>> from skae.penalties import L2
    >>> L2()([torch.tensor([[1.0, -3.0]]), torch.tensor([[2.0]])])
    tensor(14.)
    """

    separable = True

    def __call__(self, weights):
        return sum(weight.square().sum() for weight in weights)

    def backward(self, weights, alpha):
        # The gradient is known, so one fused call takes the place of a graph over all weights. It
        # is added to the gradient, not left to the optimiser's weight_decay, because AdamW's is
        # not the gradient of any J.
        values = [weight.detach() for weight in weights]
        torch._foreach_add_([weight.grad for weight in weights], values, alpha=2 * alpha)


class L1(Penalty):
    """Sum of absolute weights, which leaves few of them large.

    Its gradient is followed like any other's, so small weights come near zero, not to it.

    Examples
    --------
    >>> import torch
    >>> from skae.penalties import L1
    >>> L1()([torch.tensor([[1.0, -3.0]]), torch.tensor([[2.0]])])
    tensor(6.)
    """

    separable = True

    def __call__(self, weights):
        return sum(weight.abs().sum() for weight in weights)

    def backward(self, weights, alpha):
        signs = torch._foreach_sign([weight.detach() for weight in weights])
        torch._foreach_add_([weight.grad for weight in weights], signs, alpha=alpha)


class ActivityL1(Penalty):
    """Mean absolute entry of the code, relative to each component's root mean square: sparse codes.

    Between 0 and 1, whatever the scale of the codes: near 1 if all entries of a component are
    about equally large, ``sqrt(share)`` if all but a share of them are zero. The encoder ends in a
    :class:`skae.modules.SoftThreshold`, so that entries can be exactly zero.

    Examples
    --------
    >>> import torch
    >>> from skae.penalties import ActivityL1
    >>> ActivityL1()(torch.tensor([[2.0], [0.0], [0.0], [0.0]])).mean()
    tensor(0.5000)

    References
    ----------
    P. O. Hoyer, "Non-negative Matrix Factorization with Sparseness Constraints", JMLR 5 (2004),
    arXiv:cs/0408058, for the ratio of the two norms.
    """

    needs = ("code",)

    def __call__(self, code):
        scale = (code.square().mean(dim=0) + _TINY).sqrt()
        return (code.abs() / scale).mean(dim=1)

    def code_layer(self, n_components):
        return SoftThreshold(n_components)


class Contractive(Penalty):
    """Squared Frobenius norm of the encoder's Jacobian: codes that change little with the input.

    The codes are measured in units of their own covariance C in the batch, so R is the trace of
    ``Jᵀ C⁻¹ J``. Nothing that a linear map can undo changes it: no shrinking, and no hiding of one
    component in small differences of two. Of a linear encoder it is the sum of the inverse
    variances of its components, which the first principal components make least. Of a batch of one
    row, or of equal ones, it is zero.

    A training step takes one random projection of it, unbiased, at the price of one
    vector-Jacobian product.

    Examples
    --------
    >>> import torch
    >>> from skae.penalties import Contractive
    >>> x = torch.tensor([[2.0], [-2.0]], requires_grad=True)
    >>> for code in x, 100 * x:
    ...     print(Contractive()(x, code).detach().round(decimals=3))
    tensor([0.2500, 0.2500])
    tensor([0.2500, 0.2500])

    References
    ----------
    S. Rifai et al., "Contractive Auto-Encoders", ICML (2011).

    M. F. Hutchinson, "A stochastic estimator of the trace of the influence matrix",
    Comm. Stat. Simul. 19 (1990), doi:10.1080/03610919008812866, for the projection.
    """

    needs = ("x", "code")
    depends_on_axes = False

    def __call__(self, x, code):
        root = _inverse_root(code)
        return sum(_projected(x, code, row.expand_as(code)) for row in root)

    def estimate(self, x, code):
        return _projected(x, code, torch.randn_like(code) @ _inverse_root(code))


def _projected(x, code, directions):
    """Return the squared length of each row's Jacobian, seen from one direction."""
    (product,) = torch.autograd.grad(code, x, directions, create_graph=True)
    return product.square().sum(dim=1)


def _inverse_root(code):
    """Return R with RᵀR = C⁻¹, C being the covariance of the codes.

    C is drawn towards a multiple of the identity by a ten-thousandth, so that components without
    variance (of a batch of few rows, or of data of low rank) have a bounded share in R. Where none
    has any there is no unit, and R is zero.
    """
    centred = code - code.mean(dim=0)
    covariance = centred.T @ centred / len(code)
    spread = covariance.diagonal().mean()
    ridge = 1e-4 * spread + _TINY
    identity = torch.eye(code.shape[1], dtype=code.dtype, device=code.device)
    # not cholesky, which raises where codes are not finite; the net ends training in its own way
    factor = torch.linalg.cholesky_ex(covariance + ridge * identity).L
    root = torch.linalg.solve_triangular(factor, identity, upper=False)
    return root * (spread > 1e-12 * code.square().mean())  # less than that is rounding alone


# What is added to squares so that 0/0 is 0; data have unit variance here.
_TINY = 1e-12


class KL(Penalty):
    """Kullback-Leibler divergence of the codes' distribution from N(0, I), in nats: variational.

    With squared error and ``alpha = 2 * s**2 / n_features`` the objective is that of a variational
    autoencoder whose decoder has noise of variance ``s**2``, in units of the data's mean feature
    variance; so the maximum of the likelihood is near ``2 * (1 - R²) / n_features``. Codes are in
    units of the prior.

    Examples
    --------
    >>> import torch
    >>> from skae.penalties import KL
    >>> KL()(torch.tensor([[0.0, 2.0]]), torch.tensor([[0.0, 0.0]]))
    tensor([2.])

    References
    ----------
    D. P. Kingma and M. Welling, "Auto-Encoding Variational Bayes" (2013), arXiv:1312.6114.
    """

    needs = ("mean", "log_variance")

    def __call__(self, mean, log_variance):
        return 0.5 * (mean.square() + log_variance.expm1() - log_variance).sum(dim=1)
