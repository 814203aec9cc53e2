"""The optimiser SOAP, of low rank, at the hidden layers of perceptrons."""

import math

import torch
from torch import nn


def hidden_sides(module):
    """Return the weights at hidden layers, and one of their sides that belongs to hidden units.

    Hidden layers are those between the linear layers of a chain of layers.

    Parameters
    ----------
    module : nn.Module

    Returns
    -------
    list of (Parameter, int)
        Weights of linear layers. 1 stands for columns, units that feed a layer, and 0 for rows,
        units that the first layer of a chain feeds.
    """
    found = []
    for chain in module.modules():
        if isinstance(chain, nn.Sequential):
            # not the attribute: a layer of one's own may have a number there, or compute it
            weights = [dict(layer.named_parameters(recurse=False)).get("weight") for layer in chain]
            layers = [
                (layer, weight)
                for layer, weight in zip(chain, weights, strict=True)
                if weight is not None and weight.ndim == 2
            ]
            for i, (layer, weight) in enumerate(layers if len(layers) > 1 else []):
                if isinstance(layer, nn.Linear):
                    found.append((weight, min(i, 1)))
    return found


class Soap(torch.optim.Optimizer):
    """Adam along the axes on which the gradients by hidden units are largest, and beside them.

    What the units of a hidden layer do is strongly correlated, in a decoder most of all, as it is
    functions of a few codes. Along few directions of the weights the loss then falls steeply, and
    slowly along many, which are not those of single weights, for which Adam sizes its steps. SOAP
    sizes them along the eigenvectors of the mean outer product of gradients. The steps here are
    those along the leading eigenvectors, found by the power method, plus Adam's with what of the
    gradient is orthogonal to them, which needs no more steps than all eigenvectors do, and a
    third of the time for them.

    One side of a weight has such axes, where :meth:`turn` says so; others get Adam's steps.

    Parameters
    ----------
    params : iterable
        As in any optimiser of torch.
    lr : float, default=8e-3
    betas : tuple of float, default=(0.9, 0.99)
        Decays of the means of gradients and of their squares.
    eps : float, default=1e-8
        As in Adam.
    rank : int, default=32
        Number of axes of a side. A side that is no longer has axes alone.
    memory : float, default=0.8
        Decay of the mean of outer products.
    period : int, default=10
        After how many steps axes are found again. At first it is after half of that, as they are
        known from few gradients.

    References
    ----------
    N. Vyas et al., "SOAP: Improving and Stabilizing Shampoo using Adam" (2024), arXiv:2409.11321.
    """

    def __init__(
        self, params, lr=8e-3, betas=(0.9, 0.99), eps=1e-8, rank=32, memory=0.8, period=10
    ):
        self._parts = {}
        options = {"lr": lr, "betas": betas, "eps": eps}
        super().__init__(params, {**options, "rank": rank, "memory": memory, "period": period})

    def __setstate__(self, state):
        super().__setstate__(state)
        self._parts = {}  # they are made of the state, which may be another one now

    def turn(self, weight, side):
        """Have axes on a side of a weight, before the first step.

        Parameters
        ----------
        weight : Tensor of shape (n_out, n_in)
        side : {0, 1}
            0 for rows, 1 for columns.
        """
        self.state[weight]["side"] = side

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
                self._parts[i] = _parts(group, self.state)
            for part in self._parts[i]:
                part.step(**group)
        return loss


def _parts(group, state):
    kinds = {}
    for weight in group["params"]:
        kinds.setdefault((weight.dtype, weight.device), []).append(weight)
    return [_Part(weights, state, group["rank"]) for weights in kinds.values()]


class _Part:
    """Weights of one type on one device.

    What is remembered of them is in a few vectors, so that one call does for all. The optimiser's
    state has its pieces, as in torch's own optimisers.
    """

    def __init__(self, weights, state, rank):
        self.states = [state[weight] for weight in weights]
        self.n_steps = self.states[0].get("step", 0)
        self.pieces = [
            _Turned(weight, own, rank) if "side" in own else _Plain(weight)
            for weight, own in zip(weights, self.states, strict=True)
        ]
        sizes = [piece.size for piece in self.pieces]
        self.vectors = [weights[0].new_zeros(sum(sizes)) for _ in range(4)]
        parts = zip(*(vector.split(sizes) for vector in self.vectors), strict=True)
        for piece, own, some in zip(self.pieces, self.states, parts, strict=True):
            gradient, mean, square, change = some
            piece.take(gradient, mean, change)
            for name, values in (("exp_avg", mean), ("exp_avg_sq", square)):
                values.copy_(own.get(name, values))
                own[name] = values

    def step(self, lr, betas, eps, memory, period, **others):
        gradient, mean, square, change = self.vectors
        is_due = self.n_steps % (period if self.n_steps >= period else max(1, period // 2)) == 0
        is_kept = self.n_steps % 2 == 0  # half of the gradients say as much, in half the time
        self.n_steps += 1
        for own in self.states:
            own["step"] = self.n_steps
        moving = [piece for piece in self.pieces if piece.weight.grad is not None]
        if len(moving) < len(self.pieces):
            gradient.zero_()
        turned = [piece for piece in moving if isinstance(piece, _Turned)]
        plain = [piece for piece in moving if isinstance(piece, _Plain)]
        for piece in turned:
            piece.see(memory, is_kept, is_due)
        if plain:
            torch._foreach_copy_([p.gradient for p in plain], [p.weight.grad for p in plain])
        mean.lerp_(gradient, 1 - betas[0])
        square.mul_(betas[1]).addcmul_(gradient, gradient, value=1 - betas[1])
        by_mean, by_square = (1 - beta**self.n_steps for beta in betas)
        torch.sqrt(square, out=change).mul_(1 / math.sqrt(by_square)).add_(eps)
        torch.div(mean, change, out=change)
        size = -lr / by_mean
        for piece in turned:
            piece.move(size)
        if plain:
            torch._foreach_add_([p.weight for p in plain], [p.change for p in plain], alpha=size)


class _Plain:
    """A weight with Adam's steps, and its pieces of the vectors."""

    def __init__(self, weight):
        self.weight, self.size = weight, weight.numel()

    def take(self, gradient, mean, change):
        """Take its pieces of the vectors."""
        self.gradient, self.change = gradient.view_as(self.weight), change.view_as(self.weight)


class _Turned:
    """A weight with axes on one side.

    Its pieces of the vectors have, for each entry, what is orthogonal to the axes, and then what is
    along them.
    """

    def __init__(self, weight, state, rank):
        self.weight, self.is_columns = weight, state["side"] == 1
        n_side, n_other = weight.t().shape if self.is_columns else weight.shape
        rank = min(rank, n_side)
        if "axes" not in state:
            state["axes"] = torch.eye(n_side, rank).to(weight)
            state["product"] = torch.zeros_like(state["axes"])
        # axes, and the mean outer product of gradients times these
        self.axes, self.product = state["axes"], state["product"]
        self.shape = (n_other, rank) if self.is_columns else (rank, n_other)
        # no rest where all is along axes: of rounding Adam would make whole steps
        self.n_rest = weight.numel() if n_side > rank else 0
        self.size = self.n_rest + n_other * rank

    def take(self, gradient, mean, change):
        self.gradient, self.mean, self.change = map(self._pair, (gradient, mean, change))

    def _pair(self, piece):
        rest, leading = piece[: self.n_rest], piece[self.n_rest :]
        return rest.view_as(self.weight) if self.n_rest else None, leading.view(self.shape)

    def see(self, memory, is_kept, is_due):
        """Find axes if that is due, and set the gradient."""
        gradient = self.weight.grad
        self._split(gradient, self.gradient)
        _, leading = self.gradient
        if is_kept:
            pair = (gradient.t(), leading) if self.is_columns else (gradient, leading.t())
            self.product.addmm_(*pair, beta=memory, alpha=1 - memory)
        if is_due:
            self._find()
            self._split(gradient, self.gradient)

    def move(self, size):
        rest, leading = self.change
        self._add(self.weight, leading, size, out=self.weight)
        if rest is not None:
            self.weight.add_(rest, alpha=size)

    def _find(self):
        """Make a step of the power method, and have mean and product along the new axes."""
        rest, leading = self.mean
        mean = torch.zeros_like(self.weight) if rest is None else rest.clone()
        self._add(mean, leading, 1, out=mean)
        # on Apple's GPUs it is missing in torch's earlier versions, and slower in later ones
        product = self.product.cpu() if self.product.device.type == "mps" else self.product
        axes = torch.linalg.qr(product).Q.to(self.product)
        self.product.copy_(self.product @ (self.axes.t() @ axes))
        self.axes.copy_(axes)
        self._split(mean, self.mean)

    def _split(self, x, parts):
        rest, leading = parts
        pair = (x, self.axes) if self.is_columns else (self.axes.t(), x)
        torch.mm(*pair, out=leading)
        if rest is not None:
            self._add(x, leading, -1, out=rest)

    def _add(self, x, leading, factor, out):
        """Write x plus a multiple of what is along axes."""
        pair = (leading, self.axes.t()) if self.is_columns else (self.axes, leading)
        torch.addmm(x, *pair, alpha=factor, out=out)
