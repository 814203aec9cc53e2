"""Training: skorch's ``NeuralNet`` with the few steps that autoencoders need done differently."""

import contextlib
import math

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, EpochTimer, LRScheduler, PassthroughScoring

from skae import corruptions
from skae._backpropagation import Evaluated, FlatWeights, WrittenOut, is_known, is_untouched
from skae._batches import TensorBatches
from skae._capture import Captured
from skae._compat import bare_step
from skae._mixed import OnNumbers
from skae._soap import Soap, hidden_sides
from skae._torch import copied_state, device_or_cpu, seeded
from skae.penalties import L1, L2, Penalty

# Those that never ask for the value of J.
_GRADIENT_OPTIMIZERS = (
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.SGD,
    torch.optim.RMSprop,
    Soap,
)
_CAPTURABLE_OPTIMIZERS = (torch.optim.Adam, torch.optim.AdamW, Soap)
# How often held-out rows are corrupted: what one draw hides is mostly luck. Of four the mean tells
# epochs apart as twice as many rows or more would.
_N_DRAWS = 4
# Those that leave gaps as they are, and draw from torch's generator alone. One's own need not.
_KNOWN_CORRUPTIONS = (corruptions.gaussian, corruptions.masking, corruptions.swap)
# The share of the variance below which a loss counts as noise, and the most halvings of a weight.
_NOISE, _MOST_HALVINGS = 0.1, 20
_BATCH_EVENTS = ("on_batch_begin", "on_grad_computed", "on_batch_end")


def _is_out_of_patience(callback):
    return isinstance(callback, EarlyStopping) and callback.misses_ == callback.patience


def _watches_batches(callback):
    if type(callback) is LRScheduler and callback.step_every == "epoch":
        return False  # it has a method for their end, in which it does nothing then
    return any(
        getattr(getattr(callback, event), "__func__", None) is not getattr(Callback, event)
        for event in _BATCH_EVENTS
    )


def mean(losses):
    """Return the mean of losses in float64."""
    return losses.cpu().double().mean().item()  # on the CPU: some devices have no float64


def eased(loss):
    """Return by what the weight of a penalty is multiplied at some training loss.

    Where noise is normal, and its variance is not known but found with the weights, a prior on
    weights counts for less the less noise is left. What a code cannot express is no noise, so that
    a loss of more than a tenth of the variance says nothing. Below, the weight is halved as often
    as the loss is, and not all the time, since captured steps are captured again for it.
    """
    n_halvings = math.log2(_NOISE / max(loss, 1e-30)) if 0 <= loss < _NOISE else 0  # or NaN
    return 0.5 ** min(math.ceil(n_halvings), _MOST_HALVINGS)


def share_avoided(loss, baseline):
    """Return one minus a loss as a share of a baseline; for squared errors this is R².

    Where the baseline is zero, as for rows that are all the mean row, it has no unit, and only zero
    loss is no loss.
    """
    return 1 - loss / baseline if baseline else float(loss == 0)


class WeightAverage:
    """Exponential moving average of parameters, which stands in their place outside of training.

    A constant high learning rate whose iterates are averaged reaches in few epochs what a low one
    reaches in many, and the average needs no horizon, so that it goes with early stopping.

    :class:`torch.optim.swa_utils.AveragedModel` does the same in some ten times the time, a tenth
    of a step on a small network.

    Parameters
    ----------
    parameters : iterable of Tensor
    decay : float
        Weight of the past in each step, or the most that it comes to.
    warm_up : float, default=0.0
        After ``t`` steps the weight of the past is ``t / (warm_up + t)`` at most: the average is of
        the latest ``t / warm_up`` steps, roughly. With 0 it is `decay` from the first step, so that
        the average holds on to the start for ``1 / (1 - decay)`` steps.
    """

    def __init__(self, parameters, decay, warm_up=0.0):
        # also those that are frozen, as a callback may have them trained later
        self.parameters = [p for p in parameters if p.is_floating_point()]
        self.average = [p.detach().clone() for p in self.parameters]
        self.decay = decay
        self.warm_up = warm_up
        self.n_steps = 0
        self.share, self.kept_share = 0.0, None
        self._place()

    @torch.no_grad()
    def update(self):
        """Take the parameters after one more step into the average."""
        self.advance()
        self.move()

    def advance(self):
        """Begin an update: all of it that differs from the one before but by values of tensors."""
        self.n_steps += 1
        before = self.share
        self.share = 1 - min(self.decay, self.n_steps / (self.warm_up + self.n_steps))
        if self.kept_share is not None and self.share != before:
            self.kept_share.fill_(self.share)

    def move(self):
        """Make the update that has begun, where no graph is made."""
        shares = self.share
        if self.kept_share is not None:
            shares = [self.kept_share] * len(self.parameters)
        torch._foreach_lerp_(self.average, self.parameters, shares)

    def keep_in_place(self):
        """Have what differs from update to update in a tensor, where a CUDA graph finds it."""
        self.kept_share = torch.full((), self.share, device=self.parameters[0].device)

    @contextlib.contextmanager
    def set_aside(self):
        """Have the latest weights in the parameters for a block, and the averages again after it.

        What others have changed in the averages since is changed in the latest weights too.
        """
        with torch.no_grad():
            for now, placed, latest in zip(self.parameters, self.placed, self.average, strict=True):
                latest.copy_(torch.where(now == placed, latest, now))
        self._change_places()
        try:
            yield
        finally:
            self._change_places()
            self._place()

    def _place(self):
        """Remember the averages as they are in the parameters."""
        self.placed = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def _change_places(self):
        # the values, not the tensors, of which others may be views
        latest = [parameter.clone() for parameter in self.parameters]
        torch._foreach_copy_(self.parameters, self.average)
        torch._foreach_copy_(self.average, latest)


# What nets have for training, and no longer when that has ended: the initial module is another one
# then.
_OF_TRAINING = (
    "optimizer_",
    "average_",
    "flat_",
    "written_out_",
    "evaluated_",
    "captured_",
    "captured_options_",
    "step_",
    "is_soap_alone_",
    "penalized_",
    "module",
)


class ReconstructionNet(NeuralNet):
    """A net whose target is its input.

    It differs from :class:`skorch.NeuralNet` in that

    - the criterion, a :class:`skae.losses.Loss`, gives one loss per row, to which a penalty on rows
      is added; those of the latest validation are in ``valid_losses_``;
    - the gradient of a penalty on weights is added before callbacks see the gradients;
    - weights are averaged while it trains, and between the training passes (validation, epoch
      ends, the end) the averages are the module's weights;
    - events of batches are sent, and losses of single batches recorded, only if a callback
      listens to them: reading a loss makes the device wait. Otherwise each pass is recorded as
      the one batch that it is to the history, and steps of networks that
      :mod:`skae._backpropagation` knows are made by it, with one vector for all weights;
    - a callback ends training by ``net.stop_training_ = True`` at the end of an epoch, and
      ``KeyboardInterrupt`` is raised, not swallowed.

    Parameters
    ----------
    penalty : skae.penalties.Penalty, default=None
    alpha : float, default=0.0
        Weight of the penalty.
    eases : bool, default=False
        Whether a penalty on weights counts for less where little loss is left, as :func:`eased`
        says of the last epoch's: ``alpha_`` is its weight in an epoch. Before the first, the last
        of ``earlier_losses_`` counts, if there are any.
    corruption : callable, default=None
        What makes the rows that are encoded from the clean ones, ``(x, level) -> x``, where a loss
        is computed: held-out rows are judged by what training is to make small.
    corruption_level : float, default=0.0
        Its second argument.
    average_decay : float, default=0.99
        As in :class:`WeightAverage`; with 0 the average is the latest weights.
    average_warm_up : float, default=0.0
        As there.
    **kwargs : dict
        As in :class:`skorch.NeuralNet`.
    """

    stop_training_ = False

    def __init__(
        self,
        *args,
        penalty=None,
        alpha=0.0,
        eases=False,
        corruption=None,
        corruption_level=0.0,
        average_decay=0.99,
        average_warm_up=0.0,
        iterator_train=TensorBatches,
        iterator_valid=TensorBatches,
        **kwargs,
    ):
        super().__init__(
            *args, iterator_train=iterator_train, iterator_valid=iterator_valid, **kwargs
        )
        self.penalty = penalty
        self.alpha = alpha
        self.eases = eases
        self.corruption = corruption
        self.corruption_level = corruption_level
        self.average_decay = average_decay
        self.average_warm_up = average_warm_up

    @property
    def _default_callbacks(self):
        return [
            ("epoch_timer", EpochTimer()),
            ("train_loss", PassthroughScoring(name="train_loss", on_train=True)),
            ("valid_loss", PassthroughScoring(name="valid_loss")),
        ]

    def initialize(self):
        super().initialize()
        super()._set_training(True)  # all parts, also those that come from a fitted model
        self.valid_losses_ = self.average_ = self.flat_ = None
        self.written_out_ = self.evaluated_ = self.captured_ = None
        self._see_listeners()
        self.penalized_, self.alpha_, self.earlier_losses_ = [], self.alpha, []
        self._see_callbacks()
        if isinstance(self.optimizer_, Soap):
            for weight, side in hidden_sides(self.module_):
                self.optimizer_.turn(weight, side)
        self._choose_steps()
        return self

    def go_on_with(self, callbacks):
        """Have other callbacks in the training that follows."""
        self.callbacks = callbacks
        self.initialize_callbacks()
        self._see_callbacks()
        if self.objective_read_ and self.written_out_ is not None:
            self._leave_written_out()
        for group in self.optimizer_.param_groups:
            # for schedules, which begin at the rate of now if none has set this
            group.setdefault("initial_lr", group["lr"])

    def _see_callbacks(self):
        self.batches_watched_ = any(_watches_batches(callback) for _, callback in self.callbacks_)
        # Optimisers that search along a line go by the value of J, not by its gradient alone. To
        # the others, and where no callback looks, the value of a penalty on weights is nothing.
        self.objective_read_ = self.batches_watched_ or not isinstance(
            self.optimizer_, _GRADIENT_OPTIMIZERS
        )

    def notify(self, method_name, **cb_kwargs):
        if method_name in _BATCH_EVENTS and not self.batches_watched_:
            return
        getattr(self, method_name)(self, **cb_kwargs)
        for _, callback in self.callbacks_:
            try:
                getattr(callback, method_name)(self, **cb_kwargs)
            except KeyboardInterrupt:
                # skorch's own EarlyStopping says "stop" in this way; anybody else means it.
                if method_name != "on_epoch_end" or not _is_out_of_patience(callback):
                    raise
                self.stop_training_ = True

    def partial_fit(self, X, y=None, classes=None, **fit_params):
        # As skorch's, but an interrupt goes on to the caller once callbacks have ended their work.
        if not self.initialized_:
            self.initialize()
        self.stop_training_ = False
        self.notify("on_train_begin", X=X, y=y)
        try:
            self.fit_loop(X, y)
        except KeyboardInterrupt:
            self.notify("on_train_end", X=X, y=y)
            raise
        self.notify("on_train_end", X=X, y=y)
        return self

    def fit_loop(self, X, y=None, epochs=None, **fit_params):
        # As skorch's, but with a way out by which every callback sees the last epoch's end.
        training = self.epochs(X, y)
        for _ in range(self.max_epochs if epochs is None else epochs):
            next(training)
            if self.stop_training_:
                break
        return self

    def epochs(self, X, y=None):
        """Train for one more epoch at each ``next``."""
        train, valid = self.get_split_datasets(X, y)
        datasets = {"dataset_train": train, "dataset_valid": valid}
        train_batches = self.get_iterator(train, training=True)
        valid_batches = None if valid is None else self.get_iterator(valid)
        self._look_around()
        if self.average_ is None:  # not earlier: callbacks may set weights when training begins
            weights = self.module_.parameters()
            if self.written_out_ is not None:
                weights = [self.flat_.vector]
            self.average_ = WeightAverage(weights, self.average_decay, self.average_warm_up)
        while True:
            self.notify("on_epoch_begin", **datasets)
            self._look_around()
            if self.written_out_ is not None:
                self._capture()
            # no graph is made of steps that are written out: to say so in each takes microseconds
            records = self.written_out_ is None
            with self.average_.set_aside(), torch.set_grad_enabled(records):
                self.run_single_epoch(train_batches, True, "train", self.train_step)
            self.run_single_epoch(valid_batches, False, "valid", self.validation_step)
            self.notify("on_epoch_end", **datasets)
            yield

    def _choose_steps(self):
        """Have gradients computed by written-out backpropagation where that knows all about it."""
        if self.objective_read_ or not self._is_known(self.module_, self.criterion_):
            return
        weights = list(self.module_.parameters())
        self.penalized_ = self.module_.penalized_weights()
        is_soap = isinstance(self.optimizer_, Soap)  # it treats some weights as matrices
        self.flat_ = FlatWeights(weights, self.penalized_, None if is_soap else self.optimizer_)
        if is_soap:
            self.optimizer_.gradient = self.flat_.vector.grad
            for group in self.optimizer_.param_groups:
                group["in_place"] = True  # nobody else reads the gradients
        elif self.flat_.vector.is_cuda and type(self.optimizer_) in _CAPTURABLE_OPTIMIZERS:
            for group in self.optimizer_.param_groups:
                group["capturable"] = True  # its count of steps is on the device
        self.written_out_ = WrittenOut(self.module_, self.criterion_)

    def can_be_stacked(self):
        """Return whether such nets' modules can be trained as one, as a stack.

        It is asked before they are initialized, of nets without callbacks.
        """
        return (
            self._is_known(self.module, self.criterion)
            and self.corruption is None
            and (self.penalty is None or self.penalty.separable)
        )

    def _is_known(self, module, criterion):
        is_usual = self.optimizer in _GRADIENT_OPTIMIZERS and not self._needs
        return is_usual and is_known(module, criterion)

    def _look_around(self):
        """Find the weights that are trained and penalised, and who listens to the optimiser.

        Callbacks may have changed them. Once an epoch, as it takes a tenth of a small step.
        """
        self._see_listeners()
        latest = [epoch["train_loss"] for epoch in self.history[-2:] if "train_loss" in epoch]
        losses = self.earlier_losses_ + latest
        self.alpha_ = self.alpha * (eased(losses[-1]) if self.eases and losses else 1)
        if self.written_out_ is not None:
            if is_untouched(self.written_out_.parts, self.flat_.weights):
                self.flat_.attach()
                # not before, as it looks at weights where they are
                self.evaluated_ = self.evaluated_ or Evaluated(self.module_)
                return
            self._leave_written_out()
        self.penalized_ = self.module_.penalized_weights()

    def _capture(self):
        """Have steps launched as one, if that is known to be the same, with options as they are."""
        if not self._can_be_captured():
            self.captured_ = None
            return
        options = [g | {"params": None} for g in self.optimizer_.param_groups]
        options += self.alpha_, self.corruption, self.corruption_level
        if self.captured_ is None or options != self.captured_options_:
            self.captured_, self.captured_options_ = Captured(self._moved), options
            self.average_.keep_in_place()

    def _can_be_captured(self):
        return (
            self.flat_.vector.is_cuda
            and type(self.optimizer_) in _CAPTURABLE_OPTIMIZERS
            and self._is_penalty_known()
            and self._is_corruption_known()
            and self._is_step_bare()
        )

    def _see_listeners(self):
        self.step_ = bare_step(self.optimizer_)
        self.is_soap_alone_ = isinstance(self.optimizer_, Soap) and self._is_step_bare()

    def _is_step_bare(self):
        """Return whether nobody listens to the optimiser's steps."""
        return self.step_ != self.optimizer_.step

    def _is_corruption_known(self):
        # that of numbers beside categories is none of one's own
        is_ours = type(self.corruption) is OnNumbers
        return is_ours or self.corruption in (None, *_KNOWN_CORRUPTIONS)

    def _leave_written_out(self):
        self.written_out_ = self.evaluated_ = self.captured_ = None
        self.flat_.give_back()
        if isinstance(self.optimizer_, Soap):
            self.optimizer_.gradient = None
        if self.average_ is not None:
            self.average_.parameters = self.flat_.weights
            self.average_.average = self.flat_.parts(*self.average_.average)
            self.average_.placed = self.flat_.parts(*self.average_.placed)

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        if iterator is None:
            return
        means, sizes = None, []
        # As in `losses`: small tensors that are kept between large ones make holes.
        losses = None if training else torch.empty(iterator.n_rows, device=self.device)
        for i, batch in enumerate(iterator):
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch)
            mean = step.pop("mean")
            if means is None:
                means = mean.new_empty(len(iterator))
            means[i] = mean
            sizes.append(batch[0].shape[-2])
            some = step.pop("losses", None)
            if not training:
                losses[sum(sizes) - len(some) : sum(sizes)] = some
            if self.batches_watched_:
                self._record_batch(prefix, mean.item(), sizes[-1])
            self.notify("on_batch_end", batch=batch, training=training, **step)
        self.valid_losses_ = losses
        if not self.batches_watched_:
            total = means.cpu().double() @ torch.tensor(sizes, dtype=torch.float64)
            self.history.new_batch()
            self._record_batch(prefix, total.item() / sum(sizes), sum(sizes))
        self.history.record(prefix + "_batch_count", len(sizes))

    def _record_batch(self, prefix, loss, n_rows):
        self.history.record_batch(prefix + "_loss", loss)
        self.history.record_batch(prefix + "_batch_size", n_rows)

    def _set_training(self, training=True):
        # skorch sets every module's mode at each step, a tenth of a step on a small network
        if self.module_.training is not training:
            super()._set_training(training)

    def train_step(self, batch, **fit_params):
        if self.written_out_ is not None:
            return self._written_out_step(*batch)
        if self.objective_read_:
            step = super().train_step(batch)
        else:
            # without what skorch makes of it for optimisers that ask for J, and for callbacks
            self.optimizer_.zero_grad()
            step = self.train_step_single(batch)
            self.step_()
        self.average_.update()
        return step

    def train_step_single(self, batch, **fit_params):
        self._set_training(True)
        step = self._forward_step(*batch)
        step["loss"].backward()
        weights = self._penalized() if self._penalizes_weights else []
        if weights:
            if all(w.is_leaf for w in weights):
                self.penalty.backward(weights, self.alpha_)
            else:
                Penalty.backward(self.penalty, weights, self.alpha_)  # others know leaves alone
            if self.objective_read_:
                with torch.no_grad():
                    step["loss"] = step["loss"] + self.alpha_ * self.penalty(weights)
        return step

    def _penalized(self):
        """Return what a penalty on weights sees in a step, of the weights that the loss reaches."""
        if all(w.is_leaf for w in self.penalized_):
            return [w for w in self.penalized_ if w.grad is not None]
        return self.module_.penalized_weights()  # products with the factors of gates as they are

    def _written_out_step(self, x, target):
        # torch's optimisers count on the device
        kind = self.optimizer_.advance() if self.is_soap_alone_ else None
        self.average_.advance()
        if self.captured_ is not None:
            return {"mean": self.captured_(x, kind)}
        return {"mean": self._moved(x, target)}

    def _moved(self, x, target=None):
        """Make the step that has begun, with rows that may be their own target."""
        mean = self.written_out_(self._corrupted(x), x if target is None else target)
        if self._penalizes_weights:
            weights = self.flat_.penalized if self.penalty.separable else self.penalized_
            # one's own may differentiate
            with contextlib.nullcontext() if self._is_penalty_known() else torch.enable_grad():
                if weights:
                    self.penalty.backward(weights, self.alpha_)
        if self.is_soap_alone_:
            self.optimizer_.move()
        else:
            self.step_()
        self.average_.move()
        return mean

    def _is_penalty_known(self):
        return type(self.penalty) in (type(None), L1, L2)

    @property
    def _penalizes_weights(self):
        return self.penalty is not None and not self.penalty.on_rows and self.alpha > 0

    def _corrupted(self, x):
        if self.corruption is None:
            return x
        rows = x if self.corruption in _KNOWN_CORRUPTIONS else x.nan_to_num()
        # one's own may compute in another precision, as NumPy does
        corrupted = self.corruption(rows, self.corruption_level).to(x.dtype)
        return corrupted.masked_fill(x.isnan(), torch.nan)

    def validation_step(self, batch, **fit_params):
        self._set_training(False)
        n_draws = 1 if self.corruption is None else _N_DRAWS
        step = self._forward_step if self.evaluated_ is None else self._evaluated_step
        with torch.set_grad_enabled("x" in self._needs), self._same_draws():
            steps = [step(*batch) for _ in range(n_draws)]
        step = steps[0]
        for name in step.keys() - {"y_pred"} if n_draws > 1 else ():
            step[name] = torch.stack([one[name] for one in steps]).mean(dim=0)
        return step

    def _same_draws(self):
        """Have the same random numbers at each evaluation, so that epochs meet equal terms."""
        if not self._needs and self.corruption is None:
            return contextlib.nullcontext()  # nothing is drawn
        return seeded(0, torch.device(self.device))

    @property
    def _needs(self):
        """What a penalty on rows needs."""
        on_rows = self.penalty is not None and self.penalty.on_rows and self.alpha
        return self.penalty.needs if on_rows else ()

    def _forward_step(self, x, target):
        needs, inputs = self._needs, self.module_.input(self._corrupted(x))
        if "x" in needs and not inputs.requires_grad:
            inputs.requires_grad_()
        pieces = self.module_.encoded(inputs)
        output = self.module_.decoder(pieces["code"])
        x_hat = self.module_.output(output)
        losses = self.criterion_(output if self.criterion_.from_logits else x_hat, target)
        if needs:
            if "weights" in needs:
                pieces["weights"] = self.module_.penalized_weights()
            rate = self.penalty.estimate if self.module_.training else self.penalty
            losses = losses + self.alpha * rate(*(pieces[name] for name in needs))
        mean, losses = losses.mean(), losses.detach()
        return {"loss": mean, "y_pred": x_hat, "mean": mean.detach(), "losses": losses}

    def _evaluated_step(self, x, target):
        losses = self.criterion_(self.evaluated_(self._corrupted(x)), target)
        return {"mean": losses.mean(), "losses": losses}

    def losses(self, dataset):
        """Return the loss of each row of a data set under the weights as they are."""
        # One tensor for all, as small ones that are kept between large ones that are freed leave
        # holes into which no large one fits: in time they took as much memory as the rows.
        losses, batches = torch.empty(len(dataset), device=self.device), self.get_iterator(dataset)
        for batch, part in zip(batches, losses.tensor_split(len(batches)), strict=True):
            part.copy_(self.validation_step(batch)["losses"])
        return losses

    def baseline(self, dataset):
        """Return the mean loss of the rows of a data set that are reconstructed by the mean row."""
        batches = self.get_iterator(dataset)
        return mean(torch.cat([self.criterion_.of_mean(x) for x, _ in batches]))

    def score_of(self, dataset):
        """Return the share of the baseline loss that reconstructions of a data set avoid."""
        return share_avoided(mean(self.losses(dataset)), self.baseline(dataset))

    @torch.no_grad()
    def shift(self, weight, change):
        """Add to one of the module's weights, in its average and in its latest values."""
        weight += change
        if self.average_ is None:
            return  # they are one as yet
        average = self.average_
        weights, *values = average.parameters, average.average, average.placed
        if self.written_out_ is not None:
            weights = self.flat_.weights
            values = [self.flat_.parts(*vector) for vector in values]
        for some, latest, placed in zip(weights, *values, strict=True):
            if some is weight:
                latest += change
                placed += change

    def state(self):
        """Return a copy of what the module is made of, by name."""
        if self.flat_ is None:
            return copied_state(self.module_)
        return {"weights": self.flat_.copied()}  # what else such modules store is fixed

    def load_state(self, state):
        """Go back to what `state` returned."""
        if self.flat_ is None:
            self.module_.load_state_dict(state)
        else:
            torch._foreach_copy_(
                [weight.detach() for weight in self.flat_.weights],
                self.flat_.parts(state["weights"]),
            )

    def on_train_end(self, net, **kwargs):
        self.valid_losses_ = None  # as long as the data, and of no use any more
        if self.written_out_ is not None:
            self.flat_.detach()
            self.written_out_.layers.clear()  # of all sizes of batches that a stream has had
            self.evaluated_ = self.captured_ = None

    def __getstate__(self):
        # without the initial module too, which is the trained one: skorch stores that so that it
        # loads without the device on which it was trained
        net = self.without_training() if self.initialized_ else self
        return super(ReconstructionNet, net).__getstate__()

    def without_training(self):
        """Return a net with what maps data of this one, as a pickle has it.

        What only training needs is several times the size of the weights.
        """
        other = object.__new__(type(self))
        dropped = dict.fromkeys(_OF_TRAINING)
        vars(other).update({**vars(self), **dropped, "callbacks": [], "callbacks_": []})
        return other

    def forget_training(self):
        """Keep what is kept in a pickle, and no rows, gradients or weights of other epochs."""
        for name in _OF_TRAINING:
            setattr(self, name, None)
        self.module_.zero_grad()
        self.module, self.callbacks = self.module_, []

    def __setstate__(self, state):
        # skorch looks whether there is CUDA, and not whether there are so many devices
        super().__setstate__({**state, "device": device_or_cpu(state["device"])})
        if self.initialized_:
            self.module = self.module_

    #: The parameters with which fits make nets, beside module, criterion and callbacks.
    SETTINGS = (
        "alpha",
        "average_decay",
        "average_warm_up",
        "batch_size",
        "corruption",
        "corruption_level",
        "device",
        "eases",
        "iterator_train",
        "iterator_train__shuffle",
        "iterator_valid__batch_size",
        "lr",
        "max_epochs",
        "optimizer",
        "optimizer__clip",
        "optimizer__fused",
        "optimizer__momentum",
        "optimizer__nesterov",
        "penalty",
        "train_split",
        "verbose",
    )

    def settings(self):
        """Return the parameters that `trained` needs."""
        parameters = self.get_params(deep=False)
        return {name: parameters[name] for name in self.SETTINGS if name in parameters}

    @classmethod
    def trained(cls, module, criterion, history, settings):
        """Return a net as one that was trained is when it comes out of a pickle.

        Parameters
        ----------
        module : skae.modules.Autoencoder
        criterion : skae.losses.Loss
        history : skorch.history.History
        settings : dict
            What :meth:`settings` returned.
        """
        unknown = sorted(set(settings) - set(cls.SETTINGS))
        if unknown:
            raise ValueError(f"settings must be of {cls.SETTINGS}, got {unknown}.")
        net = cls(module, criterion, callbacks=[], **settings)
        # not this class's own, which would make the weights ready for training
        super(ReconstructionNet, net).initialize()
        net.history_, net.callbacks_ = history, []
        net.forget_training()
        return net
