"""Backpropagation through our own networks, written out.

Most of a training step on a small network is not arithmetic: it is autograd's graph, a dozen calls
of the optimiser's, and memory that is asked for and given back. Here each layer's derivative is a
call or two into buffers that are kept, and the weights are views of one vector, so that the step of
an optimiser that treats each entry alike is one call. What is not known here is left to autograd.
The forward passes alone serve to map rows.
"""

import itertools
from functools import partial

import torch
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from skae._mixed import MixedLoss, MixedOutput
from skae._torch import converted, products
from skae.losses import SquaredError
from skae.modules import MLP, Autoencoder, Filled, LinearSkip, SoftClip

_aten = torch.ops.aten


class FlatWeights:
    """Weights, and their gradients, as views of one vector each, while they are attached to it.

    Parameters
    ----------
    weights : list of Parameter
        All float32 and on one device.
    penalized : list of Parameter
        Some of them, which come first in the vector.
    optimizer : torch.optim.Optimizer, default=None
        One that treats each entry alike. It has the weights in its only group and has made no step
        yet; the vector takes their place.

    Attributes
    ----------
    vector : Parameter of shape (n_weights,)
    penalized : list of Tensor
        The penalised part of the vector, with its gradient; empty if that is.
    """

    def __init__(self, weights, penalized, optimizer=None):
        first = {id(weight) for weight in penalized}
        self.weights = penalized + [weight for weight in weights if id(weight) not in first]
        self.vector = nn.Parameter(parameters_to_vector(self.weights).detach())
        self.vector.grad = torch.zeros_like(self.vector)
        n_penalized = sum(weight.numel() for weight in penalized)
        part = self.vector.detach()[:n_penalized].requires_grad_()  # for penalties of one's own
        part.grad = self.vector.grad[:n_penalized]
        self.penalized = [part] if n_penalized else []
        self.addresses = [part.data_ptr() for part in self.parts(self.vector)]
        self.optimizer = optimizer
        if optimizer is not None:
            optimizer.param_groups[0]["params"] = [self.vector]

    def copied(self):
        """Return a copy of all weights as one vector."""
        if self._are_attached():
            return self.vector.detach().clone()
        return parameters_to_vector(self.weights).detach()

    def _are_attached(self):
        return self.addresses == [weight.data_ptr() for weight in self.weights]

    def parts(self, vector):
        """Return the part of such a vector that belongs to each of the weights, in its shape."""
        parts = vector.split([weight.numel() for weight in self.weights])
        return [part.view_as(weight) for part, weight in zip(parts, self.weights, strict=True)]

    def attach(self):
        """Make the weights, and their gradients, views of the vector, which takes their values.

        It is for weights that are not, or no longer so: a callback may have given them others.
        """
        if self._are_attached():
            return
        self.vector.data.copy_(self.copied())
        vector_to_parameters(self.vector.data, self.weights)
        for weight, gradient in zip(self.weights, self.parts(self.vector.grad), strict=True):
            weight.grad = gradient

    def detach(self):
        """Give the weights memory of their own: each view would be stored with the whole vector."""
        for weight in self.weights:
            weight.data = weight.data.clone()
            weight.grad = None

    def give_back(self):
        """Detach the weights and give them to the optimiser again, each with what it remembers."""
        self.detach()
        if self.optimizer is None:
            return
        self.optimizer.param_groups[0]["params"] = self.weights
        memory = self.optimizer.state.pop(self.vector, {})
        for i, weight in enumerate(self.weights):
            self.optimizer.state[weight] = {
                name: self.parts(value)[i] if value.shape == self.vector.shape else value.clone()
                for name, value in memory.items()
            }


class Stack(Autoencoder):
    """Autoencoders of one shape as one, whose weights and rows have one more dimension before.

    For :class:`WrittenOut` and :class:`Evaluated` alone, which take rows of shape
    ``(n_modules, batch, n_features)``: many small networks cost one of them little more time than
    one does.

    Parameters
    ----------
    modules : list of Autoencoder
        Such that :func:`is_known` holds, with the same output.
    """

    def __init__(self, modules):
        first = modules[0]
        input = None if _has_whole_rows(first) else _Each([module.input for module in modules])
        super().__init__(*map(converted, (first.encoder, first.decoder, first.output)), input)
        penalized = {id(weight) for weight in first.penalized_weights()}
        self.penalized_names = [n for n, p in first.named_parameters() if id(p) in penalized]
        for half in ("encoder", "decoder"):
            all_parts = zip(*(getattr(module, half).modules() for module in modules), strict=True)
            for part, others in zip(getattr(self, half).modules(), all_parts, strict=True):
                for name in part._parameters:
                    if getattr(part, name) is not None:
                        values = _stacked([getattr(other, name).detach() for other in others])
                        setattr(part, name, nn.Parameter(values))
                for name in part._buffers:
                    setattr(part, name, _stacked([getattr(other, name) for other in others]))

    def penalized_weights(self):
        return [self.get_parameter(name) for name in self.penalized_names]


class _Each(nn.ModuleList):
    """Modules, of which each maps its own rows of a stack."""

    def forward(self, x):
        return torch.stack([module(rows) for module, rows in zip(self, x, strict=True)])


def _stacked(tensors):
    """Return tensors as one, of which vectors are rows: they are added to matrices of rows."""
    return torch.stack(tensors).reshape(len(tensors), -1, tensors[0].shape[-1])


class WrittenOut:
    """The loss of an autoencoder, and its gradient by the weights.

    The gradient is written into their ``grad``, which have to be there.

    Parameters
    ----------
    module : Autoencoder
    criterion : Loss
        Both such that :func:`is_known` holds.
    """

    def __init__(self, module, criterion):
        self.module = module
        # to ask a module that does nothing takes some microseconds
        self.input = nn.Identity().forward if _has_whole_rows(module) else module.input
        self.error = _error(module, criterion)
        self.parts = [*module.modules(), *criterion.modules()]
        # Batches have at most two sizes, a row apart, and each size has its buffers.
        self.layers = {}

    def __call__(self, x, target):
        """Set the gradients and return the mean loss.

        Parameters
        ----------
        x, target : Tensor of shape (batch, n_features)

        Returns
        -------
        Tensor of shape ()
        """
        shape = x.shape[:-1]
        if shape not in self.layers:
            parts = self.module.encoder, self.module.decoder
            self.layers[shape] = [_layer(part, shape, _LAYERS) for part in parts]
        encoder, decoder = self.layers[shape]
        output = decoder.forward(encoder.forward(self.input(x)))
        if x.ndim == 2:
            error = self.error(output, target)  # output is the gradient by it from here on
        else:
            error = self.error(output.flatten(0, 1), target.flatten(0, 1))
            output.mul_(len(output))  # each has the gradient of its own mean
        encoder.backward(decoder.backward(output, True), False)
        return error


class Evaluated:
    """The forward passes of a trained autoencoder, into buffers that are kept.

    For rows that come in chunks of one size: no chunk waits for memory. What is returned may be
    such a buffer, and stays as it is until the next call. Of a stack the rows come as those of one
    table, one module's behind another's.

    Parameters
    ----------
    module : Autoencoder
        Such that :func:`is_evaluated` holds.
    """

    def __init__(self, module):
        self.module = module
        self.layers = {}

    def encode(self, x):
        return self._passed(self.module.encoder, self.module.input(x))

    def decode(self, code):
        return self.module.output(self._passed(self.module.decoder, code).flatten(0, -2))

    def __call__(self, x):
        return self.decode(self.encode(x))

    def _passed(self, part, x):
        key = part, x.shape[:-1]
        if key not in self.layers:
            self.layers[key] = _layer(part, x.shape[:-1], _EVALUATED)
        return self.layers[key].forward(x)


def is_evaluated(module):
    """Return whether :class:`Evaluated` knows all about the halves of an autoencoder."""
    parts = [part for half in (module.encoder, module.decoder) for part in half.modules()]
    return (
        all(type(part) in _EVALUATED for part in parts)
        and all(_is_sum_known(part) for part in parts if type(part) is LinearSkip)
        and is_untouched(module.modules(), ())
    )


def is_small(module):
    """Return whether nothing that an autoencoder makes of a row is longer than its weights.

    So that rows can be tried on it at no more cost than it has taken already; on the CPU.
    """
    ends = type(module.input), type(module.output)
    return (
        set(ends) <= {nn.Identity, Filled}
        and is_evaluated(module)
        and all(weight.device.type == "cpu" for weight in module.parameters())
    )


def is_known(module, criterion):
    """Return whether backpropagation is written out for a module and a criterion.

    That is so for the squared error of numbers, also where some are missing or beside categories
    that are one-hot, and perceptrons without dropout or tied weights, with and without linear paths
    around them, which end in a linear layer and whose weights are all trained, if no hook looks
    into them.
    """
    if type(module) not in (Autoencoder, Stack) or not _are_ends_known(module, criterion):
        return False
    # duplicates as well: what serves twice is seen by its weights
    halves = module.encoder, module.decoder
    parts = [part for half in halves for _, part in half.named_modules(remove_duplicate=False)]
    weights = [weight for part in parts for weight in part.parameters(recurse=False)]
    return (
        all(type(part) in _LAYERS for part in parts)
        and all(_is_sum_known(part) for part in parts if type(part) is LinearSkip)
        and _leaves_output(module.decoder)  # its gradient is put there
        and len(weights) == len(set(map(id, weights)))
        and all(weight.dtype == torch.float32 and weight.is_contiguous() for weight in weights)
        and is_untouched([*module.modules(), *criterion.modules()], weights)
    )


def _has_whole_rows(module):
    """Return whether rows come to the encoder as they are, in training."""
    is_filled = type(module.input) is Filled and not module.input.in_training
    return is_filled or type(module.input) is nn.Identity


def _are_ends_known(module, criterion):
    is_mixed = type(criterion) is MixedLoss
    if type(criterion.loss if is_mixed else criterion) is not SquaredError:
        return False
    if is_mixed and len(criterion.categorical):  # whose vectors are not learned
        return type(module.output) is MixedOutput and not list(module.output.parameters())
    is_input_known = type(module.input) in (nn.Identity, Filled, _Each)
    return is_input_known and type(module.output) is nn.Identity


def is_untouched(parts, weights):
    """Return whether all weights are trained, and no hook looks at them, or into modules' parts."""
    return all(
        weight.requires_grad
        and not weight._backward_hooks
        and not weight._post_accumulate_grad_hooks
        for weight in weights
    ) and not any(
        part._forward_hooks
        or part._forward_pre_hooks
        or part._backward_hooks
        or part._backward_pre_hooks
        for part in parts
    )


def _is_sum_known(skip):
    # the sum is put where the branch's output was
    is_plain = type(skip.linear) is nn.Linear and skip.linear.bias is None
    return is_plain and _leaves_output(skip.branch)


def _leaves_output(part):
    """Return whether a part has no use for what it returned: that of a linear layer at its end."""
    if isinstance(part, nn.Sequential):
        return len(part) > 0 and _leaves_output(part[-1])
    return _leaves_output(part.branch) if type(part) is LinearSkip else type(part) is nn.Linear


def _error(module, criterion):
    """Return a function of a decoder's output and the target that returns the mean loss.

    It makes the output its gradient by the output.
    """
    if type(criterion) is SquaredError:
        return _SquaredError()
    if not len(criterion.categorical):
        return partial(_observed_error, criterion.weights)
    return _MixedError(module.output, criterion)


class _SquaredError:
    def __init__(self):
        self.factors = {}  # tensors, as each call takes half as long with these

    def __call__(self, output, target):
        values = output.sub_(target).view(-1)
        n = len(values)
        if n not in self.factors:
            self.factors[n] = values.new_tensor(n), values.new_tensor(2 / n)
        count, factor = self.factors[n]
        error = torch.dot(values, values).div_(count)
        output.mul_(factor)
        return error


def _observed_error(weights, output, target):
    output.sub_(target).masked_fill_(target.isnan(), 0.0)
    weighted = output * weights
    error = torch.dot(output.view(-1), weighted.view(-1)).div_(len(target))
    torch.mul(weighted, 2 / len(target), out=output)
    return error


class _MixedError:
    """The gradient by a category's output is like that by a number: what is expected less what is.

    That is the mean of the category's inputs under the decoded probabilities, less its inputs, as
    in any exponential family. (Of the squared error of a number it is twice as much.)
    """

    def __init__(self, output, criterion):
        self.output, self.inputs, self.criterion = output, output.inputs, criterion
        self.shares = self.inputs.roots.square()
        owners = self.inputs.one_hot.index_select(0, self.inputs.blocks)
        weights = criterion.weights
        self.weights = torch.cat([2 * weights[criterion.numbers], weights[owners]])

    def __call__(self, output, target):
        decoded = self.output(output)
        error = self.criterion(decoded, target).mean()
        numbers, log_probabilities = decoded.tensor_split([self.criterion.n_numbers], dim=1)
        expected = (log_probabilities.exp() - self.shares) / self.inputs.roots
        torch.cat([numbers, expected], dim=1, out=output)
        output.sub_(self.inputs.plain(target)).mul_(self.weights / len(target))
        output.nan_to_num_()  # where the target is missing
        return error


# Each of the following is what a module does to batches of one shape. `forward` returns a tensor
# that stays as it is until the next call. `backward` is given the gradient by that tensor, which it
# may overwrite; it sets the gradients of the weights and returns that by the input, if wanted.


def _layer(module, shape, kinds):
    make = kinds[type(module)]
    parts = (kinds,) if make in (_Sequence, _Skip) else ()
    return make(module, shape, *parts)


class _Sequence:
    def __init__(self, sequence, shape, kinds):
        self.layers = [_layer(module, shape, kinds) for module in sequence]
        for before, layer in itertools.pairwise(self.layers):
            # nobody else looks at what comes before it
            if isinstance(before, _Linear) and isinstance(layer, _Activation) and layer.of_output:
                layer.output = before.output

    def forward(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, gradient, wanted):
        first = self.layers[0]
        for layer in reversed(self.layers):
            gradient = layer.backward(gradient, wanted or layer is not first)
        return gradient


class _Linear:
    input_gradient = None

    def __init__(self, linear, shape):
        self.weight, self.weight_gradient = linear.weight.detach(), linear.weight.grad
        if self.weight_gradient is not None:  # in training
            # not that tensor, which has other memory after the module has been elsewhere and back
            self.weight_gradient = self.weight_gradient.detach()
        self.transposed = self.weight.mT
        self.mm, self.addmm = products(self.weight)
        self.bias = linear.bias
        if self.bias is not None:
            self.bias, gradient = linear.bias.detach(), linear.bias.grad
            if gradient is not None:
                *stack, n_rows = shape
                self.bias_gradient = gradient.view(*stack, 1, -1)
                self.ones = gradient.new_ones(*stack, 1, n_rows)
        self.output = self.weight.new_empty(*shape, self.weight.shape[-2])

    def forward(self, x):
        self.input = x
        if self.bias is None:
            return self.mm(x, self.transposed, out=self.output)
        return self.addmm(self.bias, x, self.transposed, out=self.output)

    def backward(self, gradient, wanted):
        self._set_weight_gradient(gradient)
        if self.bias is not None:
            # a sum, which takes GPUs a fourth of the time in this way
            self.mm(self.ones, gradient, out=self.bias_gradient)
        if not wanted:
            return None
        if self.input_gradient is None:
            self.input_gradient = torch.empty_like(self.input)
        return self.mm(gradient, self.transposed.mT, out=self.input_gradient)

    def _set_weight_gradient(self, gradient):
        self.mm(gradient.mT, self.input, out=self.weight_gradient)


class _ThinLinear(_Linear):
    """Of few inputs, as codes are: BLAS multiplies a matrix of few columns faster transposed."""

    def __init__(self, linear, shape):
        super().__init__(linear, shape)
        self.transposed = self.transposed.contiguous()
        self.transposed_gradient = torch.empty_like(self.transposed)

    def forward(self, x):
        self.transposed.copy_(self.weight.mT)
        return super().forward(x)

    def _set_weight_gradient(self, gradient):
        self.mm(self.input.mT, gradient, out=self.transposed_gradient)
        self.weight_gradient.copy_(self.transposed_gradient.mT)


# The most columns with which the copies take less time than they save, from a tenth of it with 2
# to a half with 8 in batches of 128.
_MAX_THIN = 8


def _linear(linear, shape):
    is_thin = linear.in_features <= _MAX_THIN and linear.weight.device.type == "cpu"
    return (_ThinLinear if is_thin else _Linear)(linear, shape)


class _Skip:
    """The linear path is added to what the branch gives by the call that computes it."""

    def __init__(self, skip, shape, kinds):
        self.clip, self.branch = (_layer(m, shape, kinds) for m in (skip.clip, skip.branch))
        self.linear = _Linear(skip.linear, shape)

    def forward(self, x):
        self.linear.input = x
        output = self.branch.forward(self.clip.forward(x))
        return self.linear.addmm(output, x, self.linear.transposed, out=output)

    def backward(self, gradient, wanted):
        self.linear.backward(gradient, False)
        by_branch = self.clip.backward(self.branch.backward(gradient, wanted), wanted)
        if not wanted:
            return None
        return self.linear.addmm(by_branch, gradient, self.linear.weight, out=by_branch)


class _Clip:
    """``c(u) = u / sqrt(1 + (u / bound)**2)``, whose derivative is ``(c(u) / u)**3``."""

    def __init__(self, clip, shape):
        self.inverse_bound = clip.bound.reciprocal()
        self.one = torch.ones_like(clip.bound)
        self.output = clip.bound.new_empty(*shape, clip.bound.shape[-1])
        self.root = torch.empty_like(self.output)

    def forward(self, u):
        # Not hypot, which takes several times as long: training rows are within sqrt(n_samples)
        # of their deviations, whose squares do not overflow.
        torch.mul(u, self.inverse_bound, out=self.output)
        torch.addcmul(self.one, self.output, self.output, out=self.root).rsqrt_()
        return torch.mul(u, self.root, out=self.output)

    def backward(self, gradient, wanted):
        return gradient.mul_(self.root.pow_(3)) if wanted else None


class _BoundedClip(_Clip):
    """The same for rows of any size, whose squares may overflow, with two more passes over them."""

    def __init__(self, clip, shape):
        super().__init__(clip, shape)
        self.bound = clip.bound

    def forward(self, u):
        torch.mul(u, self.inverse_bound, out=self.output).clamp_(-1e18, 1e18)
        torch.addcmul(self.one, self.output, self.output, out=self.root).rsqrt_()
        return self.output.mul_(self.root).mul_(self.bound)


class _Activation:
    output = None

    def __init__(self, function, derivative, module, shape, of_output=False):
        self.function, self.derivative, self.of_output = function, derivative, of_output

    def forward(self, x):
        if self.output is None:
            self.output = torch.empty_like(x)
        self.function(x, out=self.output)
        self.argument = self.output if self.of_output else x
        return self.output

    def backward(self, gradient, wanted):
        return self.derivative(gradient, self.argument, grad_input=gradient)


class _Identity:
    def __init__(self, module, shape):
        pass

    def forward(self, x):
        return x

    def backward(self, gradient, wanted):
        return gradient


# The GELU that torch has from oneDNN spends 10 us before it begins, and its derivative 17: for up
# to so many values torch's own is faster. That is what tensors get that are not contiguous.
_FEW_VALUES = 2**15


def _gelu(module, shape):
    kind = {"approximate": module.approximate}

    def function(x, out):
        if x.numel() <= _FEW_VALUES:
            x, out = x.mT, out.mT
        _aten.gelu.out(x, **kind, out=out)

    def derivative(gradient, x, grad_input):
        if x.numel() <= _FEW_VALUES:
            _aten.gelu_backward.grad_input(gradient.mT, x.mT, **kind, grad_input=grad_input.mT)
        else:
            _aten.gelu_backward.grad_input(gradient, x, **kind, grad_input=grad_input)
        return grad_input

    return _Activation(function, derivative, module, shape)


_LAYERS = {
    nn.Linear: _linear,
    nn.GELU: _gelu,
    nn.ReLU: partial(
        _Activation,
        partial(torch.clamp_min, min=0),
        partial(_aten.threshold_backward.grad_input, threshold=0),
        of_output=True,  # which is above zero where its input is
    ),
    nn.SiLU: partial(_Activation, _aten.silu.out, _aten.silu_backward.grad_input),
    nn.Tanh: partial(_Activation, torch.tanh, _aten.tanh_backward.grad_input, of_output=True),
    nn.Sigmoid: partial(
        _Activation, torch.sigmoid, _aten.sigmoid_backward.grad_input, of_output=True
    ),
    nn.Identity: _Identity,
    MLP: _Sequence,
    LinearSkip: _Skip,
    SoftClip: _Clip,
}
_EVALUATED = {
    **_LAYERS,
    nn.Sequential: _Sequence,
    nn.Dropout: _Identity,
    SoftClip: _BoundedClip,
}
