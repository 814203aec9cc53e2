"""The optimiser SOAP, of low rank, at the hidden layers of perceptrons."""

import inspect
import math

import torch
from torch import nn

from skae._torch import may_be_larger, products

# Steps whose gradients are not shortened, as it is not known what is usual.
_N_FREE_STEPS = 5


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
                if weight is not None and (weight.ndim == 2 or isinstance(layer, nn.Linear))
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

    Steps go by the mean of some ten gradients, so that one which is many times as long as others
    leads ten steps astray: on tables with heavy tails, by a single row. Such a one is shortened.

    Attributes
    ----------
    gradient : Tensor of shape (n_weights,) or None
        All gradients, where they are parts of one vector: to measure that is one call.

    Parameters
    ----------
    params : iterable
        As in any optimiser of torch.
    lr : float, default=12e-3
    betas : tuple of float, default=(0.9, 0.99)
        Decays of the means of gradients and of their squares.
    eps : float, default=1e-8
        As in Adam.
    rank : int, default=32
        Number of axes of a side. A side that is no longer has axes alone.
    memory : float, default=0.8
        Decay of the mean of outer products.
    period : int, default=10
        After how many steps axes are found again. It is after half of that at first, as they are
        known from few gradients, and after twice as many from ten periods on.
    clip : float, default=inf
        How many times the root mean square of lengths so far, weighted as the means of squares are,
        is the most that all gradients of a group together may be long. Those that are longer are
        shortened in place, as by torch's ``clip_grad_norm_``.
    in_place : bool, default=False
        Whether a step may overwrite gradients: it takes less memory then, and a fiftieth less time
        for a step of a wide network.

    References
    ----------
    N. Vyas et al., "SOAP: Improving and Stabilizing Shampoo using Adam" (2024), arXiv:2409.11321.
    Lengths are limited by those before as in G. Wang et al., "AdaGC: Enhancing LLM Pretraining
    Stability via Adaptive Gradient Clipping" (2025), arXiv:2502.11034, but all together.
    """

    gradient = None

    def __init__(
        self,
        params,
        lr=12e-3,
        betas=(0.9, 0.99),
        eps=1e-8,
        rank=32,
        memory=0.8,
        period=10,
        clip=math.inf,
        in_place=False,
    ):
        self._moving, self._counts = {}, {}
        options = {"lr": lr, "betas": betas, "eps": eps, "rank": rank, "memory": memory}
        options |= {"period": period, "clip": clip, "in_place": in_place}
        super().__init__(params, options)

    def add_param_group(self, param_group):
        # Without the wrapper that keeps it out of torch's compiler, and imports that for it: which
        # takes a second of the first fit in each process.
        inspect.unwrap(torch.optim.Optimizer.add_param_group)(self, param_group)

    def zero_grad(self, set_to_none=True):
        inspect.unwrap(torch.optim.Optimizer.zero_grad)(self, set_to_none)  # without it, too

    def __setstate__(self, state):
        super().__setstate__(state)
        # made of the state, which may be another one now
        self._moving, self._counts, self.gradient = {}, {}, None

    def turn(self, weight, side):
        """Have axes on a side of a weight, before the first step.

        Parameters
        ----------
        weight : Tensor of shape (n_out, n_in)
            Or a stack of such matrices, each of which has axes of its own.
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
        self.advance()
        self.move()
        return loss

    def advance(self):
        """Begin a step: all of it that differs from the step before but by values of tensors.

        Returns
        -------
        hashable
            Steps for which this is the same are the same calls of torch.
        """
        self._groups, kind = [], []
        for group in self.param_groups:
            moving = [self._of(w, group) for w in group["params"] if w.grad is not None]
            kind += [one.due(group["period"]) for one in moving if isinstance(one, _Turned)]
            counted = self._counted(moving)
            length = self._length_of(moving, group)
            kind.append(length is not None and length.is_known)
            self._groups.append((group, moving, counted, length))
        return tuple(kind)

    def _length_of(self, moving, group):
        """Return what is known of the length of a group's gradients, if that is limited."""
        if not moving or group["clip"] == math.inf:
            return None
        first = moving[0]
        key = "length", first.weight, group["clip"]
        if key not in self._moving:
            nothing = group["eps"] ** 2 * sum(one.weight.numel() for one in moving)
            self._moving[key] = _Length(first.state, first.weight, group["clip"], nothing)
        self._moving[key].begin(group["betas"][1])
        return self._moving[key]

    def _counted(self, moving):
        """Count the step of all that moves and return those that have made as many together."""
        alike = {}
        for one in moving:
            one.state["step"] += 1
            key = one.weight.dtype, one.weight.device, one.state["step"]
            alike.setdefault(key, []).append(one)
        counted = []
        for i, ((_, device, n_steps), some) in enumerate(alike.items()):
            place = device, len(self._groups), i
            if place not in self._counts:
                # of the type that torch's kernel takes it for
                self._counts[place] = torch.zeros((), dtype=torch.float32, device=device)
            counted.append((self._counts[place].fill_(n_steps), some))
        return counted

    def move(self):
        """Make the step that has begun, where no graph is made."""
        for group, moving, counted, length in self._groups:
            if length is not None:
                whole = len(self._groups) == 1 and self.gradient is not None
                length.limit([self.gradient] if whole else [one.weight.grad for one in moving])
            turned = [one for one in moving if isinstance(one, _Turned)]
            for one in turned:
                one.see(group["memory"], _least(group["betas"]))
            for count, some in counted:
                _adam(some, count, group)
            for one in turned:
                one.move()
            if turned:
                torch._foreach_zero_([one.change for one in turned])

    def _of(self, weight, group):
        one = self._moving.get(weight)  # once, as torch's tensors are slow to hash
        if one is None:
            state, of_axes = self.state[weight], (group["rank"], group["in_place"])
            one = _Turned(weight, state, *of_axes) if "side" in state else _Plain(weight, state)
            self._moving[weight] = one
        return one


def _adam(moving, n_steps, group):
    """Make Adam's step with all that moves.

    It is torch's, without its function for it, which adds one to a count per tensor: that takes
    longer than all the rest on small networks.
    """
    entries = [entry for one in moving for entry in one.entries()]
    beta1, beta2 = group["betas"]
    torch._fused_adam_(
        *map(list, zip(*entries, strict=True)),
        [],
        [n_steps] * len(entries),
        lr=group["lr"],
        beta1=beta1,
        beta2=beta2,
        weight_decay=0.0,
        eps=group["eps"],
        amsgrad=False,
        maximize=False,
    )


def _least(betas):
    """Return how small the mean of squares can be, as a share of the square of the mean.

    That is by the inequality of Cauchy and Schwarz, whatever gradients were.
    """
    beta1, beta2 = betas
    return (1 - beta1**2 / beta2) * (1 - beta2) / (1 - beta1) ** 2


def _remember(state, tensor, name=""):
    """Return the means, of a gradient and of its square, that are in a state; zeros at first."""
    names = f"{name}exp_avg", f"{name}exp_avg_sq"
    for name in names:
        if name not in state:
            state[name] = torch.zeros_like(tensor)
    return tuple(state[name] for name in names)


class _Length:
    """The usual length of gradients.

    Its square is a mean of those so far, and kept with a weight of theirs. All count as a little
    longer, by what Adam takes for nothing: so none is zero, and after steps without gradients they
    may be so long that weights move.
    """

    def __init__(self, state, weight, clip, nothing):
        self.state = state
        state.setdefault("square", torch.zeros((), dtype=weight.dtype, device=weight.device))
        self.share = torch.zeros_like(state["square"])
        # tensors, as each call takes half as long with these
        self.most = torch.full_like(state["square"], clip**2)
        self.nothing = torch.full_like(state["square"], nothing)

    def begin(self, decay):
        """Begin a step."""
        # not the weight's steps: it may be the first that moves only since others are frozen
        n_steps = self.state["n_lengths"] = self.state.get("n_lengths", 0) + 1
        self.is_known = n_steps > _N_FREE_STEPS
        self.share.fill_((1 - decay) / (1 - decay**n_steps))

    def limit(self, gradients):
        """Shorten gradients that are longer together than some times what is usual."""
        flat = [gradient.flatten() for gradient in gradients]
        square = sum((one.dot(one) for one in flat), start=self.nothing)
        most = self.state["square"] * self.most
        if self.is_known and may_be_larger(square, most):
            kept = torch.minimum(square, most)
            torch._foreach_mul_(gradients, (kept / square).sqrt_())
            square = kept
        self.state["square"].lerp_(square, self.share)


class _Plain:
    """A weight with Adam's steps."""

    def __init__(self, weight, state):
        self.weight, self.state = weight, state
        state.setdefault("step", 0)
        self.means = _remember(state, weight)

    def entries(self):
        """Return tensors that move, each with its gradient and the means of that."""
        return [(self.weight, self.weight.grad, *self.means)]


class _Turned:
    """A weight with axes on one side.

    Adam has what is orthogonal to the axes, and what is along them beside it.
    """

    def __init__(self, weight, state, rank, in_place):
        self.weight, self.state, self.is_columns = weight, state, state["side"] == 1
        self.mm, self.addmm = products(weight)
        *stack, n_side, n_other = weight.mT.shape if self.is_columns else weight.shape
        rank = min(rank, n_side)
        # no rest where all is along axes: of rounding Adam would make whole steps
        self.has_rest = n_side > rank
        self.buffer = torch.empty_like(weight) if self.has_rest and not in_place else None
        # for rows too, as products of few columns take several times as long as those of few rows
        self.leading = weight.new_empty(*stack, n_other, rank)
        self.change = torch.zeros_like(self.leading)
        if "axes" not in state:
            state["axes"] = torch.eye(n_side, rank).to(weight).repeat(*stack, 1, 1)
            state["product"] = torch.zeros_like(state["axes"])
        # axes, and the mean outer product of gradients times these
        self.axes, self.product = state["axes"], state["product"]
        # views that stay, made once, as that takes a third of the time of a small product
        self.along_axes, self.change_along_axes = map(self._factors, (self.leading, self.change))
        state.setdefault("step", 0)
        self.along = _remember(state, self.leading, "leading_")
        self.means = _remember(state, weight) if self.has_rest else None

    @property
    def rest(self):
        return self.weight.grad if self.buffer is None else self.buffer

    def entries(self):
        along = (self.change, self.leading, *self.along)
        return [along, (self.weight, self.rest, *self.means)] if self.has_rest else [along]

    def due(self, period):
        """Begin a step, and return whether the outer product is due in it, and new axes."""
        n_steps = self.state["step"]
        period = round(period * (0.5 if n_steps < period else 1 if n_steps < 10 * period else 2))
        # of five gradients in a period as much is learned
        self.is_due = n_steps % max(1, period // 5) == 0, n_steps % max(1, period) == 0
        return self.is_due

    def see(self, memory, least):
        """Find axes if that is due, and split the gradient.

        Parameters
        ----------
        memory : float
        least : float
            What :func:`_least` returned.
        """
        gradient, (is_product_due, are_axes_due) = self.weight.grad, self.is_due
        self._project(gradient, self.leading)
        if is_product_due:
            share = {"beta": memory, "alpha": 1 - memory}
            units = gradient.mT if self.is_columns else gradient
            self.addmm(self.product, units, self.leading, **share, out=self.product)
        if are_axes_due:
            self._find(least)
            self._project(gradient, self.leading)
        if self.has_rest:
            self.addmm(gradient, *self.along_axes, alpha=-1, out=self.rest)

    def move(self):
        """Add what is along the axes, where Adam has moved the rest of the weight."""
        self.addmm(self.weight, *self.change_along_axes, out=self.weight)

    def _find(self, least):
        """Make a step of the power method, and have the mean gradient along the new axes."""
        # on Apple's GPUs it is missing in torch's earlier versions, and slower in later ones
        product = self.product.cpu() if self.product.device.type == "mps" else self.product
        axes = torch.linalg.qr(product).Q.to(self.product)
        leading, _ = self.along
        rest = self.means[0] if self.has_rest else torch.zeros_like(self.weight)
        mean = self.addmm(rest, *self._factors(leading))
        self.product.copy_(self.product @ (self.axes.mT @ axes))
        self.axes.copy_(axes)
        self._project(mean, leading)
        if self.has_rest:
            self.addmm(mean, *self._factors(leading), alpha=-1, out=rest)
        # Means of squares are of the axes before. Where these had all of an entry, nothing is known
        # of what new ones leave there, and its step could be of any length.
        for mean, square in [self.along, self.means] if self.has_rest else [self.along]:
            torch.maximum(square, mean.square().mul_(least), out=square)

    def _project(self, x, out):
        """Write what of x is along the axes, which are columns there."""
        self.mm(x if self.is_columns else x.mT, self.axes, out=out)

    def _factors(self, leading):
        """Return the factors of what is along the axes, in the weight's shape."""
        return (leading, self.axes.mT) if self.is_columns else (self.axes, leading.mT)
