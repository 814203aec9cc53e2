"""The networks: multilayer perceptrons, the linear skip around them, and the pair that is trained.

All of them map ``(batch, n_in)`` to ``(batch, n_out)``, in units of the data's mean feature
standard deviation.
"""

import inspect
import itertools
import math
import operator

import torch
from torch import nn

from skae._torch import may_have_gaps

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "Autoencoder",
    "ConvDecoder",
    "ConvEncoder",
    "Filled",
    "Gate",
    "LinearSkip",
    "Logistic",
    "SoftClip",
    "SoftThreshold",
    "TiedLinear",
    "Variational",
]

ACTIVATIONS = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "logistic": nn.Sigmoid,
    "identity": nn.Identity,
}


class _Layers(nn.Sequential):
    """Layers of a network of ours, whose last one with weights can be made zero."""

    def __getitem__(self, index):
        # a slice of it is a sequence of layers, not such a network of other widths
        return nn.Sequential(*self)[index]

    def zero_last_layer(self):
        """Make the output exactly zero, for any input, until it is trained; return self."""
        *_, last = (layer for layer in self if hasattr(layer, "weight"))
        nn.init.zeros_(last.weight)
        if last.bias is not None:
            nn.init.zeros_(last.bias)
        return self


class MLP(_Layers):
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


class TiedLinear(nn.Module):
    """A linear map by the transposed weight of another layer, with a bias of its own.

    Parameters
    ----------
    source : nn.Linear
        Its weight is used, the same ``Parameter``.
    bias : bool, default=True

    **Shape**

    - input: ``(batch, source.out_features)``
    - output: ``(batch, source.in_features)``

    Examples
    --------
    >>> import torch
    >>> from skae.modules import TiedLinear
    >>> source = torch.nn.Linear(3, 2)
    >>> tied = TiedLinear(source)
    >>> tied(torch.zeros(5, 2)).shape, tied.weight is source.weight
    (torch.Size([5, 3]), True)
    """

    def __init__(self, source, bias=True):
        super().__init__()
        self.weight = source.weight
        self.bias = nn.Parameter(torch.zeros(source.weight.shape[1])) if bias else None

    def forward(self, x):
        return nn.functional.linear(x, self.weight.T, self.bias)


class SoftClip(nn.Module):
    """Bend each coordinate beyond the training data, leaving its scale near 0 as it is.

    ``c(u) = u / sqrt(1 + (u / bound)**2)`` is u for small u and never beyond ``bound``, which is
    ``at * largest``. Far outside the range of the training data what follows therefore saturates;
    without it a few extreme rows of a heavy-tailed table make the error on new rows explode.

    Parameters
    ----------
    largest : Tensor of shape (n_features,)
        Largest absolute value of each coordinate.
    at : float, default=4.0
        Where to bend, in multiples of that.

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

    def __init__(self, largest, at=4.0):
        super().__init__()
        # The floor, a millionth of the mean feature's deviation, keeps the gradient finite where a
        # coordinate is constant in the training data.
        self.register_buffer("bound", at * largest.clamp_min(1e-6))

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
    linear : nn.Module
        The linear path.
    branch : nn.Module
        The nonlinear path, of the same shape.
    clip : nn.Module
        What the nonlinear path sees of the input, a :class:`SoftClip`.

    **Shape**

    - input, output: as those of both paths

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


class SoftThreshold(nn.Module):
    """Draw each coordinate towards zero by a learned amount, and set to zero what is smaller.

    The amounts start at 0, where the map is the identity, and never fall below it.

    Parameters
    ----------
    n_features : int

    **Shape**

    - input, output: ``(batch, n_features)``

    Examples
    --------
    >>> import torch
    >>> from skae.modules import SoftThreshold
    >>> layer = SoftThreshold(1)
    >>> _ = torch.nn.init.constant_(layer.threshold, 1.0)
    >>> layer(torch.tensor([[3.0], [0.5], [-2.0]])).tolist()
    [[2.0], [0.0], [-1.0]]
    """

    def __init__(self, n_features):
        super().__init__()
        self.threshold = nn.Parameter(torch.zeros(n_features))

    def forward(self, u):
        threshold = _NotNegative.apply(self.threshold)
        return u.sign() * (u.abs() - threshold).relu()


class _NotNegative(torch.autograd.Function):
    """``max(0, t)``, whose gradient below and at 0 is that upwards: steps are projected."""

    @staticmethod
    def forward(ctx, t):
        ctx.save_for_backward(t)
        return t.clamp_min(0)

    @staticmethod
    def backward(ctx, gradient):
        (t,) = ctx.saved_tensors
        return torch.where(t > 0, gradient, gradient.clamp_max(0))


class Variational(nn.Module):
    """An encoder that gives a normal distribution of codes, and draws from it in training.

    Parameters
    ----------
    network : nn.Module
        Maps ``(batch, n_features)`` to ``(batch, 2 * n_components)``: means beside logarithms of
        variances.
    log_variance : Tensor of shape (n_components,)
        Start of a learned constant that is added to the latter.
    draws : bool, default=True
        With False the code is the mean in training too.

    **Shape**

    - input: ``(batch, n_features)``
    - output: ``(batch, n_components)``, the mean outside of training

    Examples
    --------
    >>> import torch
    >>> from skae.modules import Variational
    >>> encoder = Variational(torch.nn.Linear(5, 4), torch.zeros(2)).eval()
    >>> x = torch.randn(3, 5)
    >>> mean, log_variance = encoder.distribution(x)
    >>> torch.equal(encoder(x), mean)
    True
    """

    def __init__(self, network, log_variance, draws=True):
        super().__init__()
        self.network = network
        self.log_variance = nn.Parameter(log_variance)
        self.draws = draws

    def distribution(self, x):
        """Return the means and the logarithms of the variances of the codes of some rows."""
        mean, log_variance = self.network(x).chunk(2, dim=1)
        return mean, log_variance + self.log_variance

    def drawn(self, mean, log_variance):
        """Return codes of such distributions."""
        if not self.draws:
            return mean
        return mean + (0.5 * log_variance).exp() * torch.randn_like(mean)

    def forward(self, x):
        mean, log_variance = self.distribution(x)
        return self.drawn(mean, log_variance) if self.training else mean


class Filled(nn.Module):
    """Put in the place of missing entries what principal components reconstruct of the others.

    Reconstructions are shrunk as in regularised iterative PCA, see
    ``skae._initialization.completed_components``, and go into the next one, ten times. A
    row without entries becomes the mean, zero.

    Parameters
    ----------
    components : Tensor of shape (n_components, n_inputs)
    kept : Tensor of shape (n_components,)
        What is left of the codes by shrinking.
    in_training : bool, default=True
        Whether entries may be missing in training. If not, nobody looks for them then.

    **Shape**

    - input, output: ``(batch, n_inputs)``

    Examples
    --------
    >>> import torch
    >>> from skae.modules import Filled
    >>> filled = Filled(torch.tensor([[0.6, 0.8]]), torch.tensor([1.0]))
    >>> filled(torch.tensor([[3.0, torch.nan], [torch.nan, torch.nan]])).round(decimals=1)
    tensor([[3., 4.],
            [0., 0.]])
    """

    N_STEPS = 10
    # Up to this number of inputs one product with a square matrix is faster than two by codes.
    N_SQUARE = 128

    def __init__(self, components, kept, in_training=True):
        super().__init__()
        self.register_buffer("components", components)
        self.register_buffer("kept", kept)
        self.in_training = in_training

    def forward(self, x):
        if (self.training and not self.in_training) or not may_have_gaps(x):
            return x
        missing = x.isnan()
        with torch.no_grad():
            reconstructed = self._reconstruction()
            found = x.nan_to_num()
            for _ in range(self.N_STEPS):
                found = torch.where(missing, reconstructed(found), x)
        return torch.where(missing, found, x)

    def _reconstruction(self):
        """Return a function of rows that gives their shrunken reconstruction."""
        to_code, to_row = (self.components * self.kept.unsqueeze(1)).T, self.components
        if len(to_code) <= self.N_SQUARE:
            square = to_code @ to_row
            return lambda rows: rows @ square
        return lambda rows: (rows @ to_code) @ to_row


class Autoencoder(nn.Module):
    """An encoder and a decoder, trained as one.

    Parameters
    ----------
    encoder : nn.Module
        Maps ``(batch, n_inputs)`` to ``(batch, n_components)``.
    decoder : nn.Module
        Maps ``(batch, n_components)`` to ``(batch, n_inputs)``.
    output : nn.Module, default=None
        What follows the decoder, of one row's values at a time.
    input : nn.Module, default=None
        Maps rows, whose missing entries are NaN, to what the encoder sees. None is for rows without
        gaps.

    **Shape**

    - input, output: ``(batch, n_features)``

    Examples
    --------
    >>> import torch
    >>> from skae.modules import Autoencoder
    >>> Autoencoder(torch.nn.Linear(4, 2), torch.nn.Linear(2, 4))(torch.zeros(5, 4)).shape
    torch.Size([5, 4])
    """

    def __init__(self, encoder, decoder, output=None, input=None):
        super().__init__()
        self.input = nn.Identity() if input is None else input
        self.encoder = encoder
        self.decoder = decoder
        self.output = nn.Identity() if output is None else output

    def encode(self, x):
        return self.encoder(self.input(x))

    def decode(self, code):
        return self.output(self.decoder(code))

    def forward(self, x):
        return self.decode(self.encode(x))

    def encoded(self, x):
        """Return what losses and penalties see of the codes of some inputs, by its name.

        Codes of a variational encoder are drawn, also outside of training: their loss is that.
        """
        if not isinstance(self.encoder, Variational):
            return {"x": x, "code": self.encoder(x)}
        mean, log_variance = self.encoder.distribution(x)
        code = self.encoder.drawn(mean, log_variance)
        return {"x": x, "code": code, "mean": mean, "log_variance": log_variance}

    def penalized_weights(self):
        """Return what penalties on weights see: all matrices but those of linear paths around
        branches and the vectors of categories, and each once, also where it serves twice.

        A matrix behind gates is seen times their factors, as its network is. By itself it would be
        drawn to zero before the gate, which starts closed, is open enough for it to be of use.

        The factor of a gate around no trained matrix is seen itself.

        Vectors and single numbers are left out. They are biases and the scales of normalisation
        layers, which are not penalised in scikit-learn's networks either.
        """
        skips = [module for module in self.modules() if isinstance(module, LinearSkip)]
        free = {id(weight) for skip in skips for weight in skip.linear.parameters()}
        free |= {id(weight) for weight in self.input.parameters()}
        factors = self._factors()
        free |= {id(factor) for some in factors.values() for factor in some}
        gates = {id(part.factor) for part in self.modules() if isinstance(part, Gate)}
        return [
            math.prod(factors.get(id(p), []), start=p)
            for p in self.parameters()
            if p.requires_grad and (p.ndim > 1 or id(p) in gates) and id(p) not in free
        ]

    def _factors(self):
        """Return factors of gates, by the ids of trained matrices that are behind them alone."""
        gates = {f"{name}.": m for name, m in self.named_modules() if isinstance(m, Gate)}
        behind, elsewhere = {}, {id(gate.factor) for gate in gates.values()}
        for name, weight in self.named_parameters(remove_duplicate=False):
            around = [gate for prefix, gate in gates.items() if name.startswith(prefix)]
            if not around:
                elsewhere.add(id(weight))
            elif weight.requires_grad and weight.ndim > 1:
                behind[id(weight)] = [gate.factor for gate in around]
        return {key: factors for key, factors in behind.items() if key not in elsewhere}


def _integers(values):
    """Return values as a tuple, if all of them are integers of at least 1."""
    try:
        values = tuple(operator.index(value) for value in values)
    except TypeError:
        return None
    return values if all(value > 0 for value in values) else None


class _Convolutional:
    """What makes a convolutional network once the number of its inputs and outputs is known.

    ``get_params`` and ``set_params`` are those of scikit-learn, so that grids reach the parameters
    (``encoder__channels``).
    """

    def __init__(self, shape, channels=(16, 32), kernel_size=3, stride=2, activation="gelu"):
        self.shape = shape
        self.channels = channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.activation = activation

    def get_params(self, deep=True):
        """Return the parameters by their names."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params):
        """Set some parameters and return self."""
        known = self.get_params()
        unknown = sorted(set(params) - set(known))
        if unknown:
            raise ValueError(
                f"{type(self).__name__} must be given its own parameters, {sorted(known)},"
                f" got {unknown}."
            )
        vars(self).update(params)
        return self

    def __repr__(self):
        given = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({given})"

    def _stages(self, n_values):
        """Return how many channels the image has before each stage and after the last, and its
        sizes there."""
        shape, channels = _integers(self.shape), _integers(self.channels)
        if shape is None or len(shape) not in (2, 3) or math.prod(shape) != n_values:
            raise ValueError(
                "shape must be (channels, length) or (channels, height, width) and have"
                f" n_features={n_values} values, got {self.shape!r}."
            )
        if channels is None:
            raise ValueError(f"channels must be integers of at least 1, got {self.channels!r}.")
        for name in ("kernel_size", "stride"):
            if _integers([getattr(self, name)]) is None:
                raise ValueError(
                    f"{name} must be an integer of at least 1, got {getattr(self, name)!r}."
                )
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {self.kernel_size}.")
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation must be one of {sorted(ACTIVATIONS)}, got {self.activation!r}."
            )
        sizes, stride = [shape[1:]], operator.index(self.stride)
        for _ in channels:
            sizes.append(tuple(-(-length // stride) for length in sizes[-1]))
        return (shape[0], *channels), sizes

    def _convolution(self, sizes, n_in, n_out, stride=1):
        kind = nn.Conv1d if len(sizes[0]) == 1 else nn.Conv2d
        width, stride = operator.index(self.kernel_size), operator.index(stride)
        return kind(n_in, n_out, width, stride, padding=width // 2)


class ConvEncoder(_Convolutional):
    """A convolutional encoder of images or sounds, for ``encoder=``.

    Each stage is a convolution by which the image gets smaller, and an activation; a linear layer
    maps what the last stage leaves to the code. Rows are flat, as elsewhere in scikit-learn.

    Parameters
    ----------
    shape : tuple of int
        ``(channels, height, width)`` or ``(channels, length)``, of any size, as a row would be
        reshaped to.
    channels : tuple of int, default=(16, 32)
        Number of channels after each stage.
    kernel_size : int, default=3
        Width of the convolutions, odd.
    stride : int, default=2
        By how much the image gets smaller in each stage.
    activation : {'relu', 'gelu', 'silu', 'tanh', 'logistic', 'identity'}, default='gelu'

    Examples
    --------
    >>> import torch
    >>> from skae.modules import ConvEncoder
    >>> ConvEncoder((1, 9, 7))(63, 4)(torch.zeros(5, 63)).shape
    torch.Size([5, 4])
    """

    def __call__(self, n_in, n_out):
        """Return the network, from ``(batch, n_in)`` to ``(batch, n_out)``."""
        channels, sizes = self._stages(n_in)
        layers = [nn.Unflatten(1, (channels[0], *sizes[0]))]
        for before, after in itertools.pairwise(channels):
            layers.append(self._convolution(sizes, before, after, self.stride))
            layers.append(ACTIVATIONS[self.activation]())
        n_values = channels[-1] * math.prod(sizes[-1])
        return _Layers(*layers, nn.Flatten(), nn.Linear(n_values, n_out))


class ConvDecoder(_Convolutional):
    """A convolutional decoder of images or sounds, for ``decoder=``: the mirrored encoder.

    A linear layer maps the code to a small image, and in each stage that is enlarged (by repeating
    values, which leaves no checkerboards as strided transposed convolutions do) and convolved.

    Parameters
    ----------
    shape : tuple of int
        ``(channels, height, width)`` or ``(channels, length)``, of any size, as a row would be
        reshaped to.
    channels : tuple of int, default=(16, 32)
        Those of the encoder, in its order.
    kernel_size : int, default=3
        Width of the convolutions, odd.
    stride : int, default=2
        By how much the image gets larger in each stage.
    activation : {'relu', 'gelu', 'silu', 'tanh', 'logistic', 'identity'}, default='gelu'

    References
    ----------
    A. Odena et al., "Deconvolution and Checkerboard Artifacts", Distill (2016),
    doi:10.23915/distill.00003.

    Examples
    --------
    >>> import torch
    >>> from skae.modules import ConvDecoder
    >>> ConvDecoder((1, 9, 7))(4, 63)(torch.zeros(5, 4)).shape
    torch.Size([5, 63])
    """

    def __call__(self, n_in, n_out):
        """Return the network, from ``(batch, n_in)`` to ``(batch, n_out)``."""
        channels, sizes = self._stages(n_out)
        smallest = (channels[-1], *sizes[-1])
        layers = [nn.Linear(n_in, math.prod(smallest)), nn.Unflatten(1, smallest)]
        for stage in reversed(range(len(channels) - 1)):
            layers.append(ACTIVATIONS[self.activation]())
            layers.append(nn.Upsample(sizes[stage]))
            layers.append(self._convolution(sizes, channels[stage + 1], channels[stage]))
        return _Layers(*layers, nn.Flatten())
