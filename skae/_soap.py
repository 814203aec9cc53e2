"""The optimiser SOAP, at the hidden layers of perceptrons."""

import itertools
import math

import torch
from torch import nn

# To turn the axes of wider layers takes longer than it saves.
_MAX_WIDTH = 512


def hidden_sides(module):
    """Return the weights at hidden layers, and which of their sides belong to hidden units.

    Hidden layers are those between the linear layers of a chain of layers.

    Parameters
    ----------
    module : nn.Module

    Returns
    -------
    list of (Parameter, tuple of int)
        Weights of linear layers; 0 stands for rows, which are units that a layer feeds, and 1 for
        columns, units that feed it.
    """
    found = []
    for chain in module.modules():
        if not isinstance(chain, nn.Sequential):
            continue
        layers = [layer for layer in chain if getattr(layer, "weight", None) is not None]
        layers = [layer for layer in layers if layer.weight.ndim == 2]
        for layer in layers:
            ends = layers[-1], layers[0]
            sides = [side for side, end in enumerate(ends) if layer is not end]
            sides = [side for side in sides if layer.weight.shape[side] <= _MAX_WIDTH]
            if isinstance(layer, nn.Linear) and sides:
                found.append((layer.weight, tuple(sides)))
    return found


class Soap(torch.optim.Optimizer):
    """Adam along axes on which the gradients by hidden units are uncorrelated.

    What the units of a hidden layer do is strongly correlated, in a decoder most of all, as it is
    functions of a few codes. Along few directions of the weights the loss then falls steeply, and
    slowly along many, which are not those of single weights, for which Adam sizes its steps. Here
    they are sized along the eigenvectors of the mean outer product of gradients.

    Those sides of weights that :meth:`turn` is told are turned, which takes a matrix product there
    and one back; Adam's steps are made with all others. The full method turns both sides of each
    matrix: it needs as many steps as ours, and more time for them.

    Parameters
    ----------
    params : iterable
        As in any optimiser of torch.
    lr : float, default=8e-3
    betas : tuple of float, default=(0.9, 0.99)
        Decays of the means of gradients and of their squares.
    eps : float, default=1e-8
        As in Adam.
    memory : float, default=0.95
        Decay of the mean of outer products.
    period : int, default=20
        After how many steps axes are found again. At first it is after a quarter of that, as they
        are known from few gradients.

    References
    ----------
    N. Vyas et al., "SOAP: Improving and Stabilizing Shampoo using Adam" (2024), arXiv:2409.11321.
    """

    def __init__(self, params, lr=8e-3, betas=(0.9, 0.99), eps=1e-8, memory=0.95, period=20):
        self._parts = {}
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "memory": memory, "period": period}
        )

    def __setstate__(self, state):
        super().__setstate__(state)
        self._parts = {}  # they are made of the state, which may be another one now

    def turn(self, weight, sides):
        """Have some sides of a weight turned, before the first step.

        Parameters
        ----------
        weight : Tensor of shape (n_out, n_in)
        sides : tuple of int
            0 for rows, 1 for columns.
        """
        identities = {side: torch.eye(weight.shape[side]).to(weight) for side in sides}
        self.state[weight]["axes"] = identities
        self.state[weight]["products"] = {side: 0 * axes for side, axes in identities.items()}

    @torch.no_grad()
    def step(self, closure=None):
        """Make a step.

        Parameters
        ----------
        closure : callable, default=None
            Computes the gradients and returns the loss.

        Returns
        -------
        Tensor or None
            What the closure returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for i, group in enumerate(self.param_groups):
            if i not in self._parts:
                self._parts[i] = _parts(group["params"], self.state)
            for part in self._parts[i]:
                part.step(**group)
        return loss


def _parts(weights, state):
    kinds = {}
    for weight in weights:
        kinds.setdefault((weight.dtype, weight.device), []).append(weight)
    return [_Part(some, state) for some in kinds.values()]


class _Part:
    """Weights of one type on one device.

    What is remembered of them is in a few vectors, so that one call does for all. The optimiser's
    state has its pieces, as in torch's own optimisers.
    """

    def __init__(self, weights, state):
        self.weights, self.states = weights, [state[weight] for weight in weights]
        self.axes = [_Axes(own) for own in self.states]
        self.n_steps = self.states[0].get("step", 0)
        self.vectors = [weights[0].new_zeros(sum(w.numel() for w in weights)) for _ in range(4)]
        self.gradients, self.means, squares, self.changes = map(self._pieces, self.vectors)
        for own, mean, square in zip(self.states, self.means, squares, strict=True):
            for name, piece in (("exp_avg", mean), ("exp_avg_sq", square)):
                piece.copy_(own.get(name, piece))
                own[name] = piece

    def _pieces(self, vector):
        pieces = vector.split([weight.numel() for weight in self.weights])
        return [piece.view_as(weight) for piece, weight in zip(pieces, self.weights, strict=True)]

    def step(self, lr, betas, eps, memory, period, **others):
        gradient, mean, square, change = self.vectors
        is_due = self.n_steps % (period if self.n_steps >= period else max(1, period // 4)) == 0
        self.n_steps += 1
        for own in self.states:
            own["step"] = self.n_steps
        is_still = [weight.grad is None for weight in self.weights]
        gradients = [
            torch.zeros_like(weight) if still else weight.grad
            for weight, still in zip(self.weights, is_still, strict=True)
        ]
        for axes, one, its_mean in zip(self.axes, gradients, self.means, strict=True):
            axes.see(one, memory)
            if is_due:
                axes.find(its_mean)
        gradients = [axes.turned(one) for axes, one in zip(self.axes, gradients, strict=True)]
        torch._foreach_copy_(self.gradients, gradients)
        mean.lerp_(gradient, 1 - betas[0])
        square.mul_(betas[1]).addcmul_(gradient, gradient, value=1 - betas[1])
        by_mean, by_square = (1 - beta**self.n_steps for beta in betas)
        torch.sqrt(square, out=change).mul_(1 / math.sqrt(by_square)).add_(eps)
        torch.div(mean, change, out=change)
        if any(is_still):  # without a gradient a weight does not move, as in torch's optimisers
            for piece in itertools.compress(self.changes, is_still):
                piece.zero_()
        changes = [axes.turned_back(one) for axes, one in zip(self.axes, self.changes, strict=True)]
        torch._foreach_add_(self.weights, changes, alpha=-lr / by_mean)


class _Axes:
    """What the sides of a weight are turned to: nothing where none is to be turned."""

    def __init__(self, state):
        self.axes, self.products = state.get("axes", {}), state.get("products", {})

    def see(self, gradient, memory):
        """Take a gradient into the mean outer products."""
        for side, product in self.products.items():
            units = gradient.t() if side else gradient
            product.addmm_(units, units.t(), beta=memory, alpha=1 - memory)

    def find(self, mean):
        """Turn to the eigenvectors of the products as they are now, and with them a mean.

        That is by one step of the power iteration, which begins at the axes before.
        """
        if self.axes:
            latest = self.turned_back(mean)
            for side, product in self.products.items():
                axes = self.axes[side]
                axes.copy_(torch.linalg.qr(product @ axes).Q)
            mean.copy_(self.turned(latest))

    def turned(self, x):
        if 0 in self.axes:
            x = self.axes[0].t() @ x
        return x @ self.axes[1] if 1 in self.axes else x

    def turned_back(self, x):
        if 0 in self.axes:
            x = self.axes[0] @ x
        return x @ self.axes[1].t() if 1 in self.axes else x
