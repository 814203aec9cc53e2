"""The networks: multilayer perceptrons, the linear skip around them, and the pair that is trained.

All of them map ``(batch, n_in)`` to ``(batch, n_out)``, in units of the data's mean feature
standard deviation.
"""

import itertools

import torch
from torch import nn

__all__ = ["ACTIVATIONS", "MLP", "Autoencoder", "Gate", "LinearSkip", "Logistic", "SoftClip"]

ACTIVATIONS = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "logistic": nn.Sigmoid,
    "identity": nn.Identity,
}


class MLP(nn.Sequential):
    """A multilayer perceptron: linear layers with an activation between them.

    Parameters
    ----------
    widths : sequence of int
        Number of inputs, of units in each hidden layer, and of outputs.
    activation : {'relu', 'gelu', 'silu', 'tanh', 'logistic', 'identity'}, default='relu'
        What follows each hidden layer.
    dropout : float, default=0.0
        Probability with which a hidden unit is left out of a training step.
    linear : callable, default=torch.nn.Linear
        ``(n_in, n_out) -> nn.Module``, makes each linear layer.

    **Shape**

    - input: ``(batch, widths[0])``
    - output: ``(batch, widths[-1])``

    Examples
    --------
    >>> import torch
    >>> from skae.modules import MLP
    >>> MLP([64, 128, 8], activation="gelu")(torch.zeros(5, 64)).shape
    torch.Size([5, 8])
    """

    def __init__(self, widths, activation="relu", dropout=0.0, linear=nn.Linear):
        layers = []
        for n_in, n_out in itertools.pairwise(widths[:-1]):
            layers += [linear(n_in, n_out), ACTIVATIONS[activation]()]
            if dropout:
                layers.append(nn.Dropout(dropout))
        super().__init__(*layers, linear(widths[-2], widths[-1]))

    def __getitem__(self, index):
        # a slice of it is a sequence of layers, not a perceptron of other widths
        return nn.Sequential(*self.children())[index]

    def zero_last_layer(self):
        """Make the output exactly zero, for any input, until it is trained; return self."""
        nn.init.zeros_(self[-1].weight)
        nn.init.zeros_(self[-1].bias)
        return self


class SoftClip(nn.Module):
    """Bend each coordinate at some standard deviations, leaving its scale near 0 as it is.

    ``c(u) = u / sqrt(1 + (u / (at * sigma))**2)`` is u for small u and never beyond ``at * sigma``.
    Outside the range of the training data what follows therefore saturates; without it a few
    extreme rows of a heavy-tailed table make the error on new rows explode.

    Parameters
    ----------
    sigma : Tensor of shape (n_features,)
        Standard deviation of each coordinate.
    at : float, default=4.0
        Where to bend, in standard deviations.

    **Shape**

    - input, output: ``(batch, n_features)``

    Examples
    --------
    >>> import torch
    >>> from skae.modules import SoftClip
    >>> SoftClip(torch.tensor([1.0]))(torch.tensor([[0.1], [4.0], [1e6]])).round(decimals=2)
    tensor([[0.1000],
            [2.8300],
            [4.0000]])
    """

    def __init__(self, sigma, at=4.0):
        super().__init__()
        # The floor, a millionth of the mean feature's deviation, keeps the gradient finite where a
        # coordinate is constant in the training data.
        self.register_buffer("bound", at * sigma.clamp_min(1e-6))

    def forward(self, u):
        ratio = u / self.bound
        # hypot, not the square root of a sum of squares, which overflows from 1e19 in float32
        return u / torch.hypot(ratio, torch.ones_like(ratio))


class Gate(nn.Module):
    """A module times a learned factor that starts at zero.

    Parameters
    ----------
    module : nn.Module

    Examples
    --------
    >>> import torch
    >>> from skae.modules import Gate
    >>> Gate(torch.nn.Tanh())(torch.ones(1, 2)).tolist()
    [[0.0, 0.0]]
    """

    def __init__(self, module):
        super().__init__()
        self.module = module
        self.factor = nn.Parameter(torch.zeros((), dtype=torch.float32))

    def forward(self, x):
        return self.factor * self.module(x)


class LinearSkip(nn.Module):
    """A linear map plus a nonlinear branch that sees softly clipped input.

    Parameters
    ----------
    linear : nn.Linear
        The linear path.
    branch : nn.Module
        The nonlinear path, of the same shape.
    clip : nn.Module
        What the nonlinear path sees of the input, a :class:`SoftClip`.

    **Shape**

    - input: ``(batch, linear.in_features)``
    - output: ``(batch, linear.out_features)``

    Examples
    --------
    >>> import torch
    >>> from skae.modules import MLP, LinearSkip, SoftClip
    >>> linear = torch.nn.Linear(3, 2, bias=False)
    >>> skip = LinearSkip(linear, MLP([3, 8, 2]).zero_last_layer(), SoftClip(torch.ones(3)))
    >>> x = torch.randn(5, 3)
    >>> torch.equal(skip(x), linear(x))
    True
    """

    def __init__(self, linear, branch, clip):
        super().__init__()
        self.linear = linear
        self.branch = branch
        self.clip = clip

    def forward(self, x):
        return self.linear(x) + self.branch(self.clip(x))


class Logistic(nn.Module):
    """The logistic function for data in [0, 1], expressed in the units that the networks see.

    Parameters
    ----------
    mean : Tensor of shape (n_features,)
    scale : float
        The units: a row x of the data is ``(x - mean) / scale`` to the networks.

    **Shape**

    - input, output: ``(batch, n_features)``

    Examples
    --------
    >>> import torch
    >>> from skae.modules import Logistic
    >>> Logistic(torch.tensor([0.5]), 0.25)(torch.tensor([[0.0], [100.0]])).tolist()
    [[0.0], [2.0]]
    """

    def __init__(self, mean, scale):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))

    def forward(self, x):
        return (torch.sigmoid(x) - self.mean) / self.scale


class Autoencoder(nn.Module):
    """An encoder and a decoder, trained as one.

    Parameters
    ----------
    encoder : nn.Module
        Maps ``(batch, n_features)`` to ``(batch, n_components)``.
    decoder : nn.Module
        Maps ``(batch, n_components)`` to ``(batch, n_features)``.

    **Shape**

    - input, output: ``(batch, n_features)``

    Examples
    --------
    >>> import torch
    >>> from skae.modules import Autoencoder
    >>> Autoencoder(torch.nn.Linear(4, 2), torch.nn.Linear(2, 4))(torch.zeros(5, 4)).shape
    torch.Size([5, 4])
    """

    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, x):
        return self.decoder(self.encoder(x))

    def penalized_weights(self):
        """Return what penalties on weights see: matrices and gates, of the branches alone where
        there is a linear skip.

        Vectors are left out. They are biases and the scales of normalisation layers, which are
        not penalised in scikit-learn's networks either.
        """
        parts = (
            part.branch if isinstance(part, LinearSkip) else part
            for part in (self.encoder, self.decoder)
        )
        return [p for part in parts for p in part.parameters() if p.requires_grad and p.ndim != 1]
