"""Training."""

import copy
import itertools
import math
import pickle
import re
import signal

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import r2_score
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    GradientNormClipping,
    LRScheduler,
    ProgressBar,
)
from skorch.dataset import ValidSplit
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from skae._batches import TensorBatches
from skae._compat import bare_step
from skae._net import ReconstructionNet, WeightAverage
from skae._soap import Soap
from skae.corruptions import gaussian
from skae.losses import Huber, SquaredError
from skae.modules import MLP, Autoencoder, Gate, LinearSkip, SoftClip
from skae.penalties import L1, L2, ActivityL1, Penalty

N_ROWS, N_FEATURES = 25, 4
# skorch's split by 5 holds out the first fifth of the rows, so 20 rows are trained on, in batches
# of at most 8: 7, 7 and 6, whose mean of means is not the mean of rows
N_VALID, BATCH_SIZES = 5, [7, 7, 6]
BATCH_EVENTS = ["on_batch_begin", "on_grad_computed", "on_batch_end"]


@pytest.fixture(name="X")
def table():
    return torch.tensor(np.random.RandomState(0).normal(size=(N_ROWS, N_FEATURES))).float()


def autoencoder(seed=0, dropout=0.0):
    torch.manual_seed(seed)
    return Autoencoder(MLP([4, 6, 2], "tanh", dropout), MLP([2, 6, 4], "tanh", dropout))


def make_net(module=None, **parameters):
    defaults = {
        "criterion": SquaredError,
        "optimizer": torch.optim.Adam,
        "lr": 0.02,
        "max_epochs": 3,
        "batch_size": 8,
        "train_split": ValidSplit(5),
        "iterator_train__shuffle": True,
        "verbose": 0,
    }
    module = autoencoder() if module is None else module
    return ReconstructionNet(module, **{**defaults, **parameters})


def fitted(X, module=None, seed=1, **parameters):
    net = make_net(module, **parameters)
    torch.manual_seed(seed)
    return net.fit(X)


def weights(module):
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def assert_same_weights(module, expected):
    for name, value in module.state_dict().items():
        assert torch.equal(value, expected[name]), name


def differs(module, expected):
    return any(not torch.equal(v, expected[name]) for name, v in module.state_dict().items())


class DoNothing(Callback):
    """Listens to single batches, which costs the fast path, and does nothing."""

    def on_batch_end(self, net, **kwargs):
        pass


class Recorder(Callback):
    """Writes down each event and what it says of a batch."""

    def __init__(self):
        self.events_ = []

    def initialize(self):
        self.events_ = []
        return self

    def names(self):
        return [name for name, _ in self.events_]

    def of(self, *names):
        return [kwargs for name, kwargs in self.events_ if name in names]

    def on_train_begin(self, net, **kwargs):
        self.events_.append(("on_train_begin", kwargs))

    def on_epoch_begin(self, net, **kwargs):
        self.events_.append(("on_epoch_begin", kwargs))

    def on_batch_begin(self, net, **kwargs):
        self.events_.append(("on_batch_begin", kwargs))

    def on_grad_computed(self, net, **kwargs):
        self.events_.append(("on_grad_computed", kwargs))

    def on_batch_end(self, net, **kwargs):
        self.events_.append(("on_batch_end", kwargs))

    def on_epoch_end(self, net, **kwargs):
        self.events_.append(("on_epoch_end", kwargs))

    def on_train_end(self, net, **kwargs):
        self.events_.append(("on_train_end", kwargs))


class At(Callback):
    """Calls a function of the net at one kind of event."""

    def __init__(self, event, function):
        self.event = event
        self.function = function
        setattr(self, event, lambda net, **kwargs: function(net, **kwargs))

    def initialize(self):
        self.seen_ = []
        return self


def at(event, function):
    """Return a callback that keeps what a function of the net gives at each event of a kind."""
    seen = []
    return seen, At(event, lambda net, **kwargs: seen.append(function(net, **kwargs)))


def raise_interrupt(net, **kwargs):
    raise KeyboardInterrupt


class WatchedSquaredError(SquaredError):
    """The loss, keeping what it was given and what it gave."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, x_hat, x):
        losses = super().forward(x_hat, x)
        self.calls.append((self.training, x_hat.detach(), x, losses.detach()))
        return losses


# --------------------------------------------------------------------------- target and history


def test_the_target_is_the_input_whatever_y_is(X):
    inputs = []
    module = autoencoder()
    module.encoder.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    net = make_net(module, criterion=WatchedSquaredError)
    torch.manual_seed(1)
    net.fit(X, torch.full((N_ROWS,), torch.nan))
    targets = [x for _, _, x, _ in net.criterion_.calls]
    assert len(targets) == 3 * (len(BATCH_SIZES) + 1)
    assert all(torch.equal(x, target) for x, target in zip(inputs, targets, strict=True))
    # by autograd too
    assert_same_weights(net.module_, weights(fitted(X, callbacks=[DoNothing()]).module_))


def test_an_epoch_trains_on_each_row_that_is_not_held_out_and_validates_the_others(X):
    net = fitted(X, criterion=WatchedSquaredError, max_epochs=1)
    for training, expected in [(True, X[N_VALID:]), (False, X[:N_VALID])]:
        rows = torch.cat([x for mode, _, x, _ in net.criterion_.calls if mode is training])
        assert torch.equal(rows[rows[:, 0].argsort()], expected[expected[:, 0].argsort()])


@pytest.mark.parametrize("callbacks", [None, [DoNothing()]])
def test_recorded_losses_are_means_over_the_rows_of_an_epoch(X, callbacks):
    net = fitted(X, criterion=WatchedSquaredError, callbacks=callbacks)
    calls = iter(net.criterion_.calls)
    for epoch in net.history:
        batches = [next(calls)[3] for _ in BATCH_SIZES]
        expected = torch.cat(batches).double().mean().item()
        assert [len(batch) for batch in batches] == BATCH_SIZES
        # rounding of a float32 mean; the mean of the batches' means is another number
        assert epoch["train_loss"] == pytest.approx(expected, rel=1e-6)
        unweighted = np.mean([batch.mean().item() for batch in batches])
        assert epoch["train_loss"] != pytest.approx(unweighted, rel=1e-4)
        expected = next(calls)[3].double().mean().item()
        assert epoch["valid_loss"] == pytest.approx(expected, rel=1e-6)


def test_the_history_has_the_entries_of_any_skorch_net(X):
    history = fitted(X, max_epochs=5).history
    assert history[:, "epoch"] == [1, 2, 3, 4, 5]
    assert history[:, "train_batch_count"] == [len(BATCH_SIZES)] * 5
    assert history[:, "valid_batch_count"] == [1] * 5
    assert all(isinstance(seconds, float) and seconds > 0 for seconds in history[:, "dur"])
    for name in ("train_loss", "valid_loss"):
        losses = history[:, name]
        expected = [loss < min([math.inf, *losses[:i]]) for i, loss in enumerate(losses)]
        assert history[:, f"{name}_best"] == expected


def test_valid_loss_best_is_false_where_the_loss_rises(X):
    net = fitted(X, lr=1.0, max_epochs=8)
    assert {True, False} == set(net.history[:, "valid_loss_best"])


@pytest.mark.parametrize("callbacks", [None, [DoNothing()]])
def test_without_held_out_rows_there_is_no_validation(X, callbacks):
    net = fitted(X, train_split=None, callbacks=callbacks)
    assert net.history[:, "train_batch_count"] == [4] * 3
    assert not {"valid_loss", "valid_loss_best", "valid_batch_count"} & set(net.history[-1])


def test_no_epochs_leave_weights_and_history_as_they_were(X):
    module = autoencoder()
    before = weights(module)
    net = fitted(X, module, max_epochs=0)
    assert len(net.history) == 0
    assert_same_weights(net.module_, before)


def test_epochs_of_fit_loop_come_before_max_epochs(X):
    net = make_net(max_epochs=7).initialize()
    assert net.fit_loop(X, epochs=2) is net
    assert len(net.history) == 2


def test_valid_losses_are_those_of_the_latest_validation_in_the_order_of_its_rows(X):
    seen, callback = at("on_epoch_end", lambda net, **kwargs: net.valid_losses_)
    net = fitted(X, criterion=WatchedSquaredError, callbacks=[callback])
    validations = [call for call in net.criterion_.calls if not call[0]]
    assert len(seen) == 3
    for valid_losses, (_, x_hat, x, losses) in zip(seen, validations, strict=True):
        assert torch.equal(valid_losses, losses)
        assert torch.equal(x, X[:N_VALID])
        # float32 rounding: numpy sums in another order
        expected = np.square((x_hat - x).numpy()).mean(axis=1)
        np.testing.assert_allclose(losses, expected, rtol=1e-6)
        assert not valid_losses.requires_grad


def test_valid_losses_which_are_as_long_as_the_data_are_gone_after_training(X):
    assert fitted(X).valid_losses_ is None


def test_losses_are_those_of_the_rows_under_the_weights_as_they_are(X):
    net = fitted(X, autoencoder(dropout=0.5))
    net.module_.train()
    losses = net.losses(net.get_dataset(X))
    expected = SquaredError()(net.module_.eval()(X), X)
    # batches of other sizes may round otherwise
    torch.testing.assert_close(losses, expected.detach(), rtol=1e-5, atol=0)
    assert not losses.requires_grad


def test_held_out_rows_are_judged_by_the_mean_of_four_draws_of_corruption(X):
    net = fitted(X, corruption=gaussian, corruption_level=0.5, iterator_valid__batch_size=len(X))
    losses = net.losses(net.get_dataset(X))
    torch.manual_seed(0)
    draws = [SquaredError()(net.module_.eval()(gaussian(X, 0.5)), X) for _ in range(4)]
    torch.testing.assert_close(losses, torch.stack(draws).mean(dim=0).detach(), rtol=1e-5, atol=0)
    assert torch.equal(losses, net.losses(net.get_dataset(X)))  # the same in each epoch


# ------------------------------------------------------------------------------------ fast path


@pytest.mark.parametrize("penalty", [None, L2()])
def test_listening_to_batches_changes_no_bit_of_the_weights(X, penalty):
    fast, slow = (
        fitted(X, autoencoder(dropout=0.3), callbacks=callbacks, penalty=penalty, alpha=0.1)
        for callbacks in (None, [DoNothing()])
    )
    assert_same_weights(slow.module_, weights(fast.module_))
    assert_same_history(slow, fast)


def assert_same_history(net, other):
    for name in ("train_loss", "valid_loss"):
        # a mean of all rows in float32, or of float32 means of batches
        np.testing.assert_allclose(net.history[:, name], other.history[:, name], rtol=1e-6)
    for name in ("epoch", "train_batch_count", "valid_batch_count", "valid_loss_best"):
        assert net.history[:, name] == other.history[:, name]


class LargestWeights(Penalty):
    """Not a sum over the entries of the weights."""

    def __call__(self, weights):
        return sum(weight.abs().max() for weight in weights)


WRITTEN_OUT = [
    {},
    {"penalty": L2(), "alpha": 0.1},
    {"penalty": L1(), "alpha": 0.1},
    {"penalty": LargestWeights(), "alpha": 0.1},
    {"corruption": gaussian, "corruption_level": 0.5},
    {"average_decay": 0.5},
    {"optimizer": torch.optim.AdamW, "optimizer__fused": True, "optimizer__weight_decay": 0.1},
    {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9},
    {"optimizer": torch.optim.RMSprop},
    # of more axes than a gradient has it would make whole steps of rounding
    {"optimizer": Soap, "optimizer__rank": 1},
    {"average_warm_up": 10.0},
]


@pytest.mark.parametrize("parameters", WRITTEN_OUT)
def test_written_out_backpropagation_trains_as_autograd_does(X, parameters):
    fast = fitted(X, **parameters)
    slow = fitted(X, callbacks=[DoNothing()], **parameters)
    assert fast.written_out_ is not None
    assert slow.written_out_ is None
    assert differs(fast.module_, weights(autoencoder()))
    # nine steps, each with the rounding of another order of sums
    for name, value in slow.module_.state_dict().items():
        torch.testing.assert_close(fast.module_.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    for name in ("train_loss", "valid_loss"):
        np.testing.assert_allclose(slow.history[:, name], fast.history[:, name], rtol=1e-5)


@pytest.mark.parametrize(
    "parameters",
    [
        {"criterion": Huber},
        {"module": autoencoder(dropout=0.1)},
        {"penalty": ActivityL1(), "alpha": 0.1},
        {"optimizer": torch.optim.Adagrad},
        {"optimizer": torch.optim.LBFGS},
        {"callbacks": [DoNothing()]},
    ],
)
def test_what_written_out_backpropagation_does_not_know_goes_by_autograd(X, parameters):
    net = make_net(**parameters).initialize()
    assert net.written_out_ is None
    assert net.flat_ is None


@pytest.mark.parametrize("event", ["on_train_begin", "on_epoch_begin"])
def test_weights_that_a_callback_freezes_stay_and_the_others_train_as_ever(X, event):
    def freeze(net, **kwargs):
        if event == "on_train_begin" or len(net.history) == 3:
            net.module_.encoder[0].weight.requires_grad_(False)
            frozen.append(net.module_.encoder[0].weight.clone())

    nets = []
    for others in ([], [DoNothing()]):
        frozen = []
        net = fitted(X, callbacks=[At(event, freeze), *others], max_epochs=6)
        assert net.written_out_ is None
        # frozen is what is trained; what is kept is the average, which comes nearer to it
        before = weights(autoencoder())["encoder.0.weight"] if event == "on_epoch_begin" else None
        assert before is None or not torch.equal(frozen[0], before)
        assert len(frozen) == 1
        nets.append(net)
    for name, value in nets[1].module_.state_dict().items():
        torch.testing.assert_close(nets[0].module_.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_weights_that_a_callback_replaces_are_those_that_are_trained(X):
    def replace(net, **kwargs):
        if len(net.history) == 2:
            for weight in net.module_.parameters():
                weight.data = torch.full_like(weight, 0.1)

    fast, slow = (
        fitted(X, callbacks=[At("on_epoch_begin", replace), *others], max_epochs=4)
        for others in ([], [DoNothing()])
    )
    assert fast.written_out_ is not None
    for name, value in slow.module_.state_dict().items():
        torch.testing.assert_close(fast.module_.state_dict()[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("average_decay", [0.0, 0.99])
@pytest.mark.parametrize("others", [[], [DoNothing()]], ids=["fast", "slow"])
@pytest.mark.parametrize("event", ["on_epoch_begin", "on_epoch_end"])
def test_weights_that_a_callback_sets_are_trained_and_averaged(X, event, others, average_decay):
    def constant(net, **kwargs):
        if len(net.history) == 1 and not net.seen:
            nn.init.constant_(net.module_.decoder[0].weight, 0.1)
            net.seen = True

    def start(net, **kwargs):
        net.seen = False
        seen.append(net.average_)

    seen, parameters = [], {"average_decay": average_decay, "lr": 0.0, "alpha": 0.0}
    callbacks = [At("on_train_begin", start), At(event, constant), *others]
    net = fitted(X, callbacks=callbacks, **parameters)
    assert seen == [None]
    weight = net.module_.decoder[0].weight
    assert torch.equal(weight, torch.full_like(weight, 0.1))  # by steps of no length


def test_a_module_that_was_elsewhere_and_came_back_is_trained_as_others_are(X):
    def look(net, **kwargs):
        net.module_.double().float()

    one, other = (fitted(X, callbacks=some) for some in ([At("on_epoch_end", look)], []))
    assert one.written_out_ is not None
    assert_same_weights(one.module_, weights(other.module_))


@pytest.mark.parametrize("kind", ["register_hook", "register_post_accumulate_grad_hook"])
def test_hooks_of_weights_are_called_in_each_step(X, kind):
    calls = []

    def look(net, **kwargs):
        getattr(net.module_.encoder[0].weight, kind)(lambda _: calls.append(1))

    fitted(X, callbacks=[At("on_train_begin", look)])
    assert len(calls) == 3 * len(BATCH_SIZES)


def test_hooks_of_the_criterion_are_called_for_each_batch(X):
    calls = []

    def look(net, **kwargs):
        net.criterion_.register_forward_hook(lambda *args: calls.append(1))

    fitted(X, callbacks=[At("on_train_begin", look)])
    assert len(calls) == 3 * (len(BATCH_SIZES) + 1)


def test_weights_that_are_trained_later_are_averaged_too(X):
    def freeze(net, **kwargs):
        net.module_.encoder.requires_grad_(False)

    def thaw(net, **kwargs):
        net.module_.encoder.requires_grad_(len(net.history) > 1)

    steps = []

    def step(net, **kwargs):
        steps.append(net.module_.encoder[0].weight.detach().clone())

    events = {"on_train_begin": freeze, "on_epoch_begin": thaw, "on_batch_end": step}
    callbacks = [At(*item) for item in events.items()]
    net = fitted(X, callbacks=callbacks, average_decay=0.5, train_split=None)
    average = steps[0].double()
    for latest in steps:
        average = 0.5 * average + 0.5 * latest.double()
    torch.testing.assert_close(
        net.module_.encoder[0].weight.double(), average, rtol=1e-5, atol=1e-7
    )
    assert not torch.equal(average, steps[-1].double())


def test_a_hook_of_a_callback_sees_each_batch(X):
    calls = []

    def look(net, **kwargs):
        net.module_.encoder.register_forward_hook(lambda *args: calls.append(args))

    fitted(X, callbacks=[At("on_train_begin", look)])
    assert len(calls) == 3 * (len(BATCH_SIZES) + 1)


def test_hooks_of_the_optimizer_see_each_step(X):
    steps, others = [], []

    def look(net, **kwargs):
        net.optimizer_.register_step_post_hook(lambda *args: steps.append(args[0]))

    removable = register_optimizer_step_pre_hook(lambda *args: others.append(args[0]))
    try:
        net = fitted(X, max_epochs=2)
    finally:
        removable.remove()
    assert others == [net.optimizer_] * 2 * len(BATCH_SIZES)
    net = fitted(X, callbacks=[At("on_train_begin", look)])
    assert net.written_out_ is not None
    assert steps == [net.optimizer_] * 3 * len(BATCH_SIZES)


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, Soap])
def test_only_where_nobody_listens_a_step_is_made_without_torchs_wrapper(optimizer):
    optimizer = optimizer([nn.Parameter(torch.zeros(2))], lr=0.01)
    assert bare_step(optimizer).func is type(optimizer).step.__wrapped__
    hook = optimizer.register_step_pre_hook(lambda *args: None)
    assert bare_step(optimizer) == optimizer.step
    hook.remove()
    assert bare_step(optimizer) != optimizer.step
    LambdaLR(optimizer, lr_lambda=lambda epoch: 1.0)  # which counts steps
    assert bare_step(optimizer) is optimizer.step


@pytest.mark.parametrize("watched", [False, True])
def test_in_training_losses_are_those_of_the_module_as_it_is(X, watched):
    def losses(net, **kwargs):
        with torch.no_grad():
            expected = SquaredError()(net.module_(X), X)
        # batches of other sizes may round otherwise
        torch.testing.assert_close(net.losses(net.get_dataset(X)), expected, rtol=1e-5, atol=1e-6)
        return net.evaluated_ is not None, expected.mean().item()

    seen, look = at("on_epoch_end", losses)
    _, look_again = at("on_train_end", losses)
    fitted(X, callbacks=[look, look_again] + [DoNothing()] * watched)
    assert [is_evaluated for is_evaluated, _ in seen] == [not watched] * 3
    assert len({mean for _, mean in seen}) == 3


def test_training_goes_on_where_it_ended(X):
    """The weights leave the vector at the end, and are attached again."""
    once = fitted(X, max_epochs=4)
    twice = fitted(X, max_epochs=2)
    twice.fit_loop(X)
    # other random orders of rows, so that they are only alike
    assert len(twice.history) == len(once.history) == 4
    assert twice.history[-1, "train_loss"] < twice.history[1, "train_loss"]
    assert differs(twice.module_, weights(fitted(X, max_epochs=2).module_))


def test_a_schedule_by_epochs_does_not_watch_batches(X):
    schedule = LRScheduler(LambdaLR, lr_lambda=lambda epoch: 0.0 if epoch else 1.0)
    net = fitted(X, callbacks=[schedule], average_decay=0.0)
    assert not net.batches_watched_
    assert_same_weights(net.module_, weights(fitted(X, average_decay=0.0, max_epochs=1).module_))
    by_batch = LRScheduler(LambdaLR, lr_lambda=lambda epoch: 1.0, step_every="batch")
    assert fitted(X, callbacks=[by_batch]).batches_watched_


def test_a_schedule_of_ones_own_may_watch_batches_also_if_it_steps_by_epochs(X):
    class Own(LRScheduler):
        def on_batch_end(self, net, training, **kwargs):
            seen.append(training)

    seen = []
    fitted(X, callbacks=[Own(LambdaLR, lr_lambda=lambda epoch: 1.0)])
    assert len(seen) == 3 * (len(BATCH_SIZES) + 1)


def batch_records(net):
    return [
        {key: value for key, value in batch.items() if key.endswith("batch_size")}
        for batch in net.history[-1]["batches"]
    ]


def test_if_nobody_listens_a_pass_is_recorded_as_one_batch(X):
    assert batch_records(fitted(X)) == [
        {"train_batch_size": sum(BATCH_SIZES)},
        {"valid_batch_size": N_VALID},
    ]


@pytest.mark.parametrize("event", BATCH_EVENTS)
def test_each_event_of_batches_is_enough_to_have_them_recorded(X, event):
    class Listener(Callback):
        pass

    setattr(Listener, event, lambda self, net, **kwargs: None)
    expected = [{"train_batch_size": n} for n in BATCH_SIZES] + [{"valid_batch_size": N_VALID}]
    assert batch_records(fitted(X, callbacks=[Listener])) == expected
    # a method of the instance alone counts too
    assert batch_records(fitted(X, callbacks=[at(event, lambda net, **k: None)[1]])) == expected


@pytest.mark.parametrize("event", ["on_train_begin", "on_epoch_begin", "on_epoch_end"])
def test_other_events_do_not_cost_the_fast_path(X, event):
    seen, callback = at(event, lambda net, **kwargs: None)
    assert len(batch_records(fitted(X, callbacks=[callback]))) == 2
    assert seen


# --------------------------------------------------------------------------------------- events


def test_each_event_arrives_in_order_as_often_as_it_happens(X):
    recorder = Recorder()
    fitted(X, callbacks=[recorder], max_epochs=2)
    step = ["on_batch_begin", "on_grad_computed", "on_batch_end"]
    validation = ["on_batch_begin", "on_batch_end"]
    epoch = ["on_epoch_begin", *step * len(BATCH_SIZES), *validation, "on_epoch_end"]
    assert recorder.names() == ["on_train_begin", *epoch * 2, "on_train_end"]


def test_events_say_what_skorchs_say(X):
    recorder = Recorder()
    y = torch.zeros(N_ROWS)
    net = make_net(callbacks=[recorder], max_epochs=1).fit(X, y)
    for kwargs in recorder.of("on_train_begin", "on_train_end"):
        assert kwargs["X"] is X
        assert kwargs["y"] is y
    for kwargs in recorder.of("on_epoch_begin", "on_epoch_end"):
        assert len(kwargs["dataset_train"]) == sum(BATCH_SIZES)
        assert len(kwargs["dataset_valid"]) == N_VALID
    in_training = [True] * len(BATCH_SIZES) + [False]
    assert [kwargs["training"] for kwargs in recorder.of("on_batch_begin")] == in_training
    assert [kwargs["training"] for kwargs in recorder.of("on_grad_computed")] == in_training[:-1]
    names = [name for name, _ in net.module_.named_parameters()]
    for kwargs in recorder.of("on_grad_computed"):
        assert [name for name, _ in kwargs["named_parameters"]] == names
    ends = recorder.of("on_batch_end")
    assert [kwargs["training"] for kwargs in ends] == in_training
    for begin, end in zip(recorder.of("on_batch_begin"), ends, strict=True):
        x, target = end["batch"]
        assert begin["batch"] is end["batch"]
        assert torch.equal(x, target)
        # float32 rounding: numpy sums in another order
        expected = np.square((end["y_pred"] - x).detach().numpy()).mean(axis=1)
        assert set(end) == {"batch", "training", "loss", "y_pred"}
        assert end["loss"].item() == pytest.approx(expected.mean(), rel=1e-6)


def test_stop_training_ends_it_after_all_callbacks_have_seen_the_epochs_end(X):
    def stop(net, **kwargs):
        net.stop_training_ = len(net.history) == 2

    recorder = Recorder()
    net = fitted(X, callbacks=[At("on_epoch_end", stop), recorder], max_epochs=9)
    assert len(net.history) == 2
    assert recorder.names().count("on_epoch_end") == 2
    assert recorder.names()[-1] == "on_train_end"
    twice = fitted(X, callbacks=[DoNothing()], max_epochs=2)  # by autograd, as the other
    assert_same_weights(net.module_, weights(twice.module_))


def test_training_goes_on_where_it_was_at_another_partial_fit(X):
    expected = fitted(X, max_epochs=4)
    net = make_net(max_epochs=2)
    torch.manual_seed(1)
    net.partial_fit(X).partial_fit(X)
    assert_same_weights(net.module_, weights(expected.module_))
    assert net.history[:, "train_loss"] == expected.history[:, "train_loss"]


def test_another_partial_fit_goes_on_after_training_was_stopped(X):
    def stop(net, **kwargs):
        if len(net.history) == 1:
            net.stop_training_ = True

    net = fitted(X, callbacks=[At("on_epoch_end", stop)], max_epochs=3)
    assert len(net.history) == 1
    net.partial_fit(X)
    assert len(net.history) == 4


def test_fit_starts_anew(X):
    seen, callback = at("on_train_begin", lambda net, **k: (len(net.history), net.stop_training_))
    net = fitted(X, callbacks=[callback])
    net.stop_training_ = True
    net.fit(X)
    assert seen == [(0, False)] * 2
    assert len(net.history) == 3


# ----------------------------------------------------------------------------------- interrupts


@pytest.mark.parametrize("event", ["on_epoch_begin", "on_epoch_end", *BATCH_EVENTS])
def test_an_interrupt_in_a_callback_is_raised_after_the_end_of_training_was_sent(X, event):
    recorder = Recorder()
    net = make_net(callbacks=[recorder, At(event, raise_interrupt)])
    y = torch.zeros(N_ROWS)
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, y)
    assert recorder.names()[-2:] == [event, "on_train_end"]
    (kwargs,) = recorder.of("on_train_end")
    assert kwargs["X"] is X
    assert kwargs["y"] is y


@pytest.mark.parametrize("event", ["on_train_begin", "on_train_end"])
def test_an_interrupt_before_or_after_training_is_raised(X, event):
    net = make_net(callbacks=[At(event, raise_interrupt)])
    with pytest.raises(KeyboardInterrupt):
        net.fit(X)


class CtrlC(MLP):
    """A network in whose second pass somebody presses Ctrl-C."""

    def __init__(self, training):
        super().__init__([4, 2])
        self.interrupts_training = training
        self.n_passes = 0

    def forward(self, x):
        self.n_passes += self.training is self.interrupts_training
        if self.n_passes == 2:
            signal.raise_signal(signal.SIGINT)
        return super().forward(x)


@pytest.fixture
def _ctrl_c():
    # a shell's background jobs ignore it
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("watched", [True, False])
def test_ctrl_c_in_a_network_is_raised_after_the_end_of_training_was_sent(X, training, watched):
    ends, callback = at("on_train_end", lambda net, **kwargs: len(net.history))
    callbacks = [callback, DoNothing()] if watched else [callback]
    net = make_net(Autoencoder(CtrlC(training), MLP([2, 4])), callbacks=callbacks)
    with pytest.raises(KeyboardInterrupt):
        net.fit(X)
    # the second step of the first epoch, or the validation of the second
    assert ends == [1 if training else 2]


def test_an_interrupted_net_has_the_averaged_weights(X):
    module = autoencoder()
    averaged = AveragedByHand(module)

    def follow(net, training, **kwargs):
        if training:
            averaged.update_parameters(module)
            if len(net.history) == 2:
                raise KeyboardInterrupt

    at_end, callback = at("on_train_end", lambda net, **kwargs: weights(module))
    with pytest.raises(KeyboardInterrupt):
        fitted(X, module, callbacks=[callback, At("on_batch_end", follow)])
    for name, average in weights(averaged.module).items():
        # float32 rounding of each step's average
        torch.testing.assert_close(at_end[0][name], average, rtol=1e-5, atol=1e-7)
    assert_same_weights(module, at_end[0])


def test_skorchs_early_stopping_ends_training_without_an_interrupt(X, capsys):
    recorder = Recorder()
    net = fitted(X, lr=0.0, max_epochs=9, callbacks=[recorder, EarlyStopping(patience=2)])
    # the first epoch is the best so far, the two after it are no better
    assert len(net.history) == 3
    assert recorder.names()[-2:] == ["on_epoch_end", "on_train_end"]
    assert capsys.readouterr().out == ""


def test_skorchs_early_stopping_can_load_the_best_epoch(X):
    seen, callback = at("on_epoch_end", lambda net, **kwargs: weights(net.module_))
    # steps so long that the error soon rises
    callbacks = [callback, EarlyStopping(patience=4, load_best=True)]
    net = fitted(X, lr=0.3, average_decay=0.0, max_epochs=60, callbacks=callbacks)
    best = int(np.argmin(net.history[:, "valid_loss"]))
    assert len(net.history) == len(seen) == best + 1 + 4 < 60
    assert_same_weights(net.module_, seen[best])
    assert differs(net.module_, seen[-1])


def test_callbacks_behind_skorchs_early_stopping_see_the_last_epochs_end(X):
    recorder = Recorder()
    net = fitted(X, lr=0.0, max_epochs=9, callbacks=[EarlyStopping(patience=2), recorder])
    assert recorder.names().count("on_epoch_end") == len(net.history) == 3


@pytest.mark.parametrize("event", ["on_train_end", "on_epoch_end"])
def test_an_interrupt_is_raised_though_skorchs_early_stopping_has_ended_training(X, event):
    def interrupt(net, **kwargs):
        if len(net.history) == 3:
            raise KeyboardInterrupt

    callbacks = [At(event, interrupt), EarlyStopping(patience=2)]
    with pytest.raises(KeyboardInterrupt):
        fitted(X, lr=0.0, max_epochs=9, callbacks=callbacks)


# ----------------------------------------------------------------------------- skorch callbacks


def test_lr_scheduler_steps_once_an_epoch(X):
    scheduler = LRScheduler(LambdaLR, lr_lambda=lambda epoch: 0.5**epoch)
    net = fitted(X, callbacks=[scheduler], max_epochs=4)
    assert net.history[:, "event_lr"] == [0.02, 0.01, 0.005, 0.0025]


def test_lr_scheduler_steps_once_a_batch(X):
    scheduler = LRScheduler(LambdaLR, step_every="batch", lr_lambda=lambda step: 0.5**step)
    net = fitted(X, callbacks=[scheduler], max_epochs=2)
    batches = itertools.chain.from_iterable(net.history[:, "batches"])
    rates = [batch.get("event_lr") for batch in batches]
    expected = [0.02 * 0.5**step for step in range(6)]
    assert rates == [*expected[:3], None, *expected[3:], None]


def test_a_scheduled_rate_is_the_rate_of_the_steps(X):
    scheduler = LRScheduler(LambdaLR, lr_lambda=lambda epoch: float(epoch < 2))
    parameters = {"optimizer": torch.optim.SGD, "average_decay": 0.0}
    net = fitted(X, callbacks=[scheduler], max_epochs=5, **parameters)
    assert_same_weights(net.module_, weights(fitted(X, max_epochs=2, **parameters).module_))


def test_gradient_clipping_bounds_each_step(X):
    module = autoencoder()
    before = nn.utils.parameters_to_vector(module.parameters()).detach().clone()
    net = fitted(
        *(X, module),
        optimizer=torch.optim.SGD,
        lr=0.5,
        max_epochs=1,
        batch_size=N_ROWS,
        average_decay=0.0,
        callbacks=[GradientNormClipping(1e-2)],
    )
    after = nn.utils.parameters_to_vector(net.module_.parameters()).detach()
    # float32 rounding of weights of size 0.5, of which the step is a hundredth; clip_grad_norm_
    # adds 1e-6 to the norm
    assert (after - before).norm().item() == pytest.approx(0.5 * 1e-2, rel=1e-3)


def test_gradient_clipping_sees_the_penalty_too(X):
    norms, look = at(
        "on_grad_computed",
        lambda net, **kwargs: nn.utils.get_total_norm(
            [p.grad.detach() for p in net.module_.parameters()]
        ).item(),
    )
    fitted(X, penalty=L2(), alpha=100.0, callbacks=[GradientNormClipping(0.5), look])
    # each gradient was far above: the norm of the penalty's alone is 200 times that of the weights
    np.testing.assert_allclose(norms, 0.5, rtol=1e-5)  # float32, and the 1e-6 of clip_grad_norm_


def test_epoch_scoring_on_held_out_rows_is_the_score_of_the_averaged_weights(X):
    expected, callback = at(
        "on_epoch_end", lambda net, **k: r2_score(X[:N_VALID].numpy(), net.predict(X[:N_VALID]))
    )
    scoring = EpochScoring("r2", lower_is_better=False, name="valid_r2")
    net = fitted(X, callbacks=[scoring, callback])
    # predictions are the same to the bit, but for the batches they are made in
    np.testing.assert_allclose(net.history[:, "valid_r2"], expected, rtol=1e-5)


def test_epoch_scoring_on_training_rows_scores_what_the_steps_predicted(X):
    recorder = Recorder()
    scoring = EpochScoring("r2", lower_is_better=False, on_train=True, name="train_r2")
    net = fitted(X, callbacks=[scoring, recorder])
    steps = [kwargs for kwargs in recorder.of("on_batch_end") if kwargs["training"]]
    for i, recorded in enumerate(net.history[:, "train_r2"]):
        epoch = steps[i * len(BATCH_SIZES) : (i + 1) * len(BATCH_SIZES)]
        truth = torch.cat([step["batch"][1] for step in epoch])
        predicted = torch.cat([step["y_pred"].detach() for step in epoch])
        assert recorded == r2_score(truth.numpy(), predicted.numpy())


def test_checkpoint_loads_the_best_epoch(X, tmp_path):
    seen, callback = at("on_epoch_end", lambda net, **kwargs: weights(net.module_))
    checkpoint = Checkpoint(dirname=tmp_path, load_best=True)
    # steps so long that the error soon rises
    callbacks = [callback, checkpoint]
    net = fitted(X, lr=0.3, average_decay=0.0, max_epochs=12, callbacks=callbacks)
    best = int(np.argmin(net.history[:, "valid_loss"]))
    assert net.history[-1, "epoch"] == best + 1  # the history is that of the checkpoint
    assert best < 11
    assert_same_weights(net.module_, seen[best])
    assert differs(net.module_, seen[-1])


def test_checkpoint_saves_the_averaged_weights_which_load_into_another_net(X, tmp_path):
    checkpoint = Checkpoint(dirname=tmp_path, monitor=None)
    net = fitted(X, callbacks=[checkpoint])
    other = make_net(autoencoder(seed=5)).initialize()
    other.load_params(checkpoint=checkpoint)
    np.testing.assert_array_equal(other.predict(X), net.predict(X))


def test_skorchs_progress_bar_counts_the_batches_of_an_epoch(X, capsys):
    bar = ProgressBar(detect_notebook=False)
    seen, callback = at("on_epoch_end", lambda net, **k: (bar.pbar_.n, bar.pbar_.total))
    fitted(X, callbacks=[callback, bar], max_epochs=2)
    n_batches = len(BATCH_SIZES) + 1
    assert seen == [(n_batches, n_batches)] * 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"0/{n_batches} " in err


# --------------------------------------------------------------------------- averaging of weights


class AveragedByHand(AveragedModel):
    """torch's averaged model, whose first entry is the model as it is."""

    def __init__(self, module, decay=0.99):
        super().__init__(module, avg_fn=get_ema_avg_fn(decay))
        self.update_parameters(module)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_weight_average_is_torchs_averaged_model(decay):
    module = autoencoder()
    expected = AveragedByHand(module, decay)
    average = WeightAverage(module.parameters(), decay)
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter += torch.randn(parameter.shape, generator=generator)
        average.update()
        expected.update_parameters(module)
        for a, b in zip(average.average, expected.module.parameters(), strict=True):
            # float32 rounding of values of size 5 in each step
            torch.testing.assert_close(a, b.detach(), rtol=1e-6, atol=1e-5)
            assert not a.requires_grad  # a graph over all steps so far


@pytest.mark.parametrize(("warm_up", "decay"), [(10.0, 0.99), (1.5, 0.8), (0.0, 0.8)])
def test_a_warmed_up_average_is_of_the_latest_share_of_the_steps(warm_up, decay):
    steps = np.random.RandomState(0).normal(size=(1 + 30, 3))  # the start, and each step's weights
    parameter = nn.Parameter(torch.tensor(steps[0]))
    average = WeightAverage([parameter], decay, warm_up)
    pasts = [min(decay, t / (warm_up + t)) for t in range(1, len(steps))]
    for t, row in enumerate(steps[1:], start=1):
        parameter.data.copy_(torch.tensor(row))
        average.update()
        # what each step has in the average: its own part, times all that is left of it since
        parts = [1 - past for past in [0.0, *pasts[:t]]]
        left = [np.prod(pasts[i:t]) for i in range(t + 1)]
        np.testing.assert_allclose(average.average[0], np.multiply(parts, left) @ steps[: t + 1])


def test_with_decay_0_the_average_is_the_latest_parameters():
    parameter = nn.Parameter(torch.randn(3))
    average = WeightAverage([parameter], 0.0)
    with torch.no_grad():
        parameter.copy_(torch.tensor([1e-30, -3.3, 1e30]))
    average.update()
    assert torch.equal(average.average[0], parameter)


def test_parameters_set_aside_change_places_with_averages_and_back_exactly():
    parameters = [nn.Parameter(torch.randn(3, 2)), nn.Parameter(torch.randn(()))]
    average = WeightAverage(parameters, 0.9)
    with average.set_aside(), torch.no_grad():
        for parameter in parameters:
            parameter.mul_(3)
        average.update()
        raw = [p.detach().clone() for p in parameters]
        averages = [a.clone() for a in average.average]

    def state(first, second):
        return all(map(torch.equal, parameters, first)) and all(
            map(torch.equal, average.average, second)
        )

    for _ in range(2):
        assert state(averages, raw)
        with average.set_aside():
            assert state(raw, averages)
        assert state(averages, raw)
        assert not any(a.requires_grad for a in average.average)
        assert all(p.requires_grad for p in parameters)
    assert not any(map(torch.equal, raw, averages))


def test_the_averages_are_back_after_an_error():
    parameter = nn.Parameter(torch.ones(2))
    average = WeightAverage([parameter], 0.5)

    def fail():
        with average.set_aside(), torch.no_grad():
            parameter.fill_(3)
            average.update()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert torch.equal(parameter, torch.full((2,), 2.0))


def test_the_average_starts_at_the_parameters_and_shares_no_memory_with_them():
    parameter = nn.Parameter(torch.ones(2))
    average = WeightAverage([parameter], 0.9)
    assert torch.equal(average.average[0], parameter)
    nn.init.zeros_(parameter)
    assert torch.equal(average.average[0], torch.ones(2))


def test_frozen_parameters_are_left_out_of_the_average():
    # integers, of which there is no average
    frozen = nn.Parameter(torch.arange(2), requires_grad=False)
    parameter = nn.Parameter(torch.ones(2))
    average = WeightAverage([frozen, parameter], 0.9)
    average.update()
    assert len(average.average) == len(average.parameters) == 1


def train_by_hand(X, module, n_epochs, decay=0.99):
    """Train a module in a plain torch loop; return losses, raw weights and averages by epoch."""
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    averaged = AveragedByHand(module, decay)
    loss_of = nn.MSELoss()
    course = []
    torch.manual_seed(1)
    for _ in range(n_epochs):
        losses = []
        for rows in torch.randperm(N_ROWS - N_VALID).tensor_split(len(BATCH_SIZES)):
            x = X[N_VALID:][rows]
            optimizer.zero_grad()
            loss = loss_of(module(x), x)
            loss.backward()
            optimizer.step()
            averaged.update_parameters(module)
            losses += [loss.item()] * len(rows)
        with torch.no_grad():
            valid_loss = loss_of(averaged.module(X[:N_VALID]), X[:N_VALID]).item()
        course.append(
            (np.mean(losses), valid_loss, weights(module), weights(copy.deepcopy(averaged.module)))
        )
    return course


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("callbacks", [[], [DoNothing()]])
def test_training_is_a_plain_torch_loop_with_an_averaged_model(X, decay, callbacks):
    at_epoch_end, callback = at("on_epoch_end", lambda net, **kwargs: weights(net.module_))
    callbacks = [callback, *callbacks]
    net = fitted(X, callbacks=callbacks, max_epochs=4, average_decay=decay)
    course = train_by_hand(X, autoencoder(), 4, decay)
    for i, (train_loss, valid_loss, _, averages) in enumerate(course):
        # float32 rounding, which Adam's division magnifies a little in each step
        assert net.history[i, "train_loss"] == pytest.approx(train_loss, rel=1e-4)
        assert net.history[i, "valid_loss"] == pytest.approx(valid_loss, rel=1e-4)
        for name, value in at_epoch_end[i].items():
            torch.testing.assert_close(value, averages[name], rtol=0, atol=1e-5)
    assert_same_weights(net.module_, at_epoch_end[-1])


def test_the_module_has_raw_weights_in_training_and_averages_elsewhere(X):
    in_training, in_validation = [], []

    def look(net, training, **kwargs):
        (in_training if training else in_validation).append(weights(net.module_))

    elsewhere, look_elsewhere = at("on_epoch_end", lambda net, **kwargs: weights(net.module_))
    fitted(X, callbacks=[At("on_batch_end", look), look_elsewhere], max_epochs=4)
    course = train_by_hand(X, autoencoder(), 4)
    last_steps = in_training[len(BATCH_SIZES) - 1 :: len(BATCH_SIZES)]
    for i, (_, _, raw, averages) in enumerate(course):
        for name, value in raw.items():
            # float32 rounding, as above; raw weights and averages are 1e-2 apart
            torch.testing.assert_close(last_steps[i][name], value, rtol=0, atol=1e-5)
            torch.testing.assert_close(in_validation[i][name], averages[name], rtol=0, atol=1e-5)
            torch.testing.assert_close(elsewhere[i][name], averages[name], rtol=0, atol=1e-5)
        assert max((raw[name] - averages[name]).abs().max() for name in raw) > 1e-3


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_weights_that_a_callback_sets_when_training_begins_are_the_start_of_the_average(X, decay):
    start = autoencoder(seed=3)
    load = At("on_train_begin", lambda net, **k: net.module_.load_state_dict(weights(start)))
    net = fitted(X, callbacks=[load], average_decay=decay)
    assert_same_weights(net.module_, weights(fitted(X, start, average_decay=decay).module_))


def test_with_decay_0_the_net_keeps_the_latest_weights(X):
    steps, callback = at("on_batch_end", lambda net, **kwargs: weights(net.module_))
    net = fitted(X, callbacks=[callback], average_decay=0.0)
    assert_same_weights(net.module_, steps[-2])  # the last is a validation batch


def test_the_average_forgets_a_hundred_steps_unless_told(X):
    assert make_net().average_decay == 0.99


def test_networks_are_in_training_mode_and_have_gradients_in_training_only(X):
    modes = []
    module = autoencoder()
    module.decoder.register_forward_hook(
        lambda module, args, x_hat: modes.append((module.training, x_hat.requires_grad))
    )
    fitted(X, module, max_epochs=2)
    assert modes == ([(True, True)] * len(BATCH_SIZES) + [(False, False)]) * 2


def test_all_parts_are_in_training_mode_in_training_whatever_they_were_before(X):
    module = autoencoder(dropout=0.5)
    module.encoder.eval()
    assert_same_weights(
        fitted(X, module).module_, weights(fitted(X, autoencoder(dropout=0.5)).module_)
    )


@pytest.mark.parametrize("n_fits", [1, 2])
def test_the_criterion_is_in_training_mode_in_training_only(X, n_fits):
    criterion = WatchedSquaredError()
    net = make_net(criterion=criterion, max_epochs=2)
    for _ in range(n_fits):
        criterion.calls = []
        net.fit(X)
        assert [call[0] for call in criterion.calls] == ([True] * len(BATCH_SIZES) + [False]) * 2


# -------------------------------------------------------------------------------------- penalty


class Cubic(Penalty):
    """A penalty without a gradient of its own."""

    def __call__(self, weights):
        return sum(weight.abs().pow(3).sum() for weight in weights)


def gated(seed=0):
    torch.manual_seed(seed)
    encoder = LinearSkip(nn.Linear(4, 2), Gate(MLP([4, 6, 2], "tanh")), SoftClip(torch.ones(4)))
    nn.init.constant_(encoder.branch.factor, 0.5)
    return Autoencoder(encoder, MLP([2, 6, 4], "tanh"))


@pytest.mark.parametrize("module", [autoencoder, gated])
@pytest.mark.parametrize("penalty", [L1(), L2(), Cubic()], ids=["L1", "L2", "base"])
def test_callbacks_see_the_gradient_of_loss_plus_alpha_times_penalty(X, penalty, module):
    def compare(net, batch, **kwargs):
        module = net.module_
        x, _ = batch
        objective = SquaredError()(module(x), x).mean() + 0.3 * penalty(module.penalized_weights())
        expected = torch.autograd.grad(objective, list(module.parameters()))
        for parameter, gradient in zip(module.parameters(), expected, strict=True):
            # float32 rounding of sums of two gradients of size 0.1
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-5, atol=1e-7)
        return True

    seen, callback = at("on_grad_computed", compare)
    fitted(X, module(), penalty=penalty, alpha=0.3, callbacks=[callback])
    assert len(seen) == 3 * len(BATCH_SIZES)


@pytest.mark.parametrize("module", [autoencoder, gated])
def test_the_loss_of_a_step_is_the_objective(X, module):
    objectives, before = at(
        "on_batch_begin",
        lambda net, batch, training, **kwargs: (
            SquaredError()(net.module_(batch[0]), batch[0]).mean()
            + 0.3 * training * L2()(net.module_.penalized_weights())
        ).item(),
    )
    losses, after = at("on_batch_end", lambda net, loss, **kwargs: loss.item())
    fitted(X, module(), penalty=L2(), alpha=0.3, callbacks=[before, after])
    # float32 rounding; the penalty is of size 1
    np.testing.assert_allclose(losses, objectives, rtol=1e-5)


def test_the_penalty_is_not_part_of_recorded_losses(X):
    def losses(alpha):
        net = fitted(X, penalty=L2(), alpha=alpha, lr=0.0, max_epochs=1)
        return net.history[0, "train_loss"], net.history[0, "valid_loss"]

    assert losses(0.0) == losses(10.0)


def test_alpha_0_is_no_penalty_to_the_bit(X):
    class Infinite(Penalty):
        def __call__(self, weights):
            return sum(weight.sum() for weight in weights) * torch.inf

    expected = weights(fitted(X, penalty=None, alpha=3.0).module_)
    assert_same_weights(fitted(X, penalty=L2(), alpha=0.0).module_, expected)
    assert_same_weights(fitted(X, penalty=Infinite(), alpha=0.0).module_, expected)
    assert_same_weights(fitted(X, penalty=L2()).module_, expected)  # unless told
    assert differs(fitted(X, penalty=L2(), alpha=0.1).module_, expected)


class Partial(nn.Module):
    """A network with a layer that it does not use."""

    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(4, 2), nn.Linear(7, 7)

    def forward(self, x):
        return self.used(x)


def test_weights_that_the_loss_does_not_reach_are_left_alone(X):
    module = Autoencoder(Partial(), MLP([2, 4]))
    before = weights(module.encoder.unused)
    net = fitted(X, module, penalty=L2(), alpha=0.1)
    assert_same_weights(net.module_.encoder.unused, before)


@pytest.mark.parametrize("penalty", [L2(), Cubic()], ids=["L2", "base"])
def test_a_net_of_which_only_biases_are_trained_has_nothing_to_penalize(X, penalty):
    def frozen():
        module = autoencoder()
        for weight in module.penalized_weights():
            weight.requires_grad_(False)
        return module

    expected = fitted(X, frozen())
    net = fitted(X, frozen(), penalty=penalty, alpha=0.1)
    assert_same_weights(net.module_, weights(expected.module_))


# ------------------------------------------------------------------- optimizers with a closure


def test_an_optimizer_that_calls_its_closure_trains_as_in_a_plain_torch_loop(X):
    options = {"lr": 0.1, "max_iter": 4}
    net = fitted(
        X,
        optimizer=torch.optim.LBFGS,
        optimizer__max_iter=4,
        lr=0.1,
        batch_size=N_ROWS,
        train_split=None,
        iterator_train__shuffle=False,
        average_decay=0.0,
    )
    module = autoencoder()
    optimizer = torch.optim.LBFGS(module.parameters(), **options)

    def closure():
        optimizer.zero_grad()
        loss = SquaredError()(module(X), X).mean()
        loss.backward()
        return loss

    # the loss of a step is that before it, and the same operations round in the same way
    losses = [optimizer.step(closure).item() for _ in range(3)]
    assert net.history[:, "train_loss"] == losses
    assert_same_weights(net.module_, weights(module))


@pytest.mark.parametrize("line_search", [None, "strong_wolfe"])
def test_a_closure_calling_optimizer_minimizes_loss_plus_penalty(X, line_search):
    X = X * torch.tensor([3.0, 2.0, 1.0, 0.3])
    alpha = 0.1
    # J = mean over entries of (x W' - x)**2 + alpha * |W|**2 is a ridge regression of X on itself
    gram = X.double().T @ X.double() / X.numel()
    expected = gram @ torch.linalg.inv(gram + alpha * torch.eye(4).double())
    net = fitted(
        X,
        Autoencoder(nn.Linear(4, 4, bias=False), nn.Identity()),
        optimizer=torch.optim.LBFGS,
        optimizer__line_search_fn=line_search,
        lr=0.5,
        max_epochs=30,
        batch_size=N_ROWS,
        train_split=None,
        average_decay=0.0,
        penalty=L2(),
        alpha=alpha,
    )
    # LBFGS stops at gradients of 1e-7 or steps of 1e-9; weights are of size 1
    torch.testing.assert_close(
        net.module_.encoder.weight.detach().double(), expected, rtol=0, atol=1e-3
    )


# ------------------------------------------------------------------------- pickles, copies, clones


def big_net(**parameters):
    torch.manual_seed(0)
    return make_net(Autoencoder(MLP([4, 5000, 2]), MLP([2, 5000, 4])), **parameters)


def test_a_pickle_maps_rows_to_the_bit_as_before(X):
    net = fitted(X)
    loaded = pickle.loads(pickle.dumps(net))
    np.testing.assert_array_equal(loaded.predict(X), net.predict(X))
    assert loaded.history == net.history
    assert loaded.module is loaded.module_
    assert torch.equal(loaded.losses(net.get_dataset(X)), net.losses(net.get_dataset(X)))


def test_a_pickle_has_the_weights_once_and_no_state_of_the_optimizer(X):
    net = big_net().fit(X)
    n_bytes = sum(4 * parameter.numel() for parameter in net.module_.parameters())
    overhead = 20_000  # of names and classes
    assert n_bytes > 10 * overhead
    assert len(pickle.dumps(net)) < n_bytes + len(pickle.dumps(net.history)) + overhead


@pytest.mark.parametrize("watched", [True, False])
def test_the_size_of_a_pickle_does_not_depend_on_the_data(watched):
    def size(n_rows):
        X = torch.tensor(np.random.RandomState(0).normal(size=(n_rows, 4))).float()
        scoring = EpochScoring("r2", on_train=True)
        keeper = Callback()
        keeper.rows_ = X
        callbacks = [keeper, scoring] if watched else [keeper]
        # batches as many, so that histories are as long
        net = fitted(X, batch_size=n_rows // 10, callbacks=callbacks)
        return len(pickle.dumps(net))

    # numbers in the history have more digits
    assert size(4000) < size(40) + 1000


def test_pickling_leaves_the_net_as_it_is(X):
    net = fitted(X, callbacks=[Recorder()])
    before = dict(vars(net))
    pickle.dumps(net)
    assert list(vars(net)) == list(before)
    assert all(vars(net)[name] is value for name, value in before.items())
    other = fitted(X, callbacks=[DoNothing()])  # by autograd, as the other
    state = torch.get_rng_state()
    net.partial_fit(X)
    torch.set_rng_state(state)
    other.partial_fit(X)
    assert_same_weights(net.module_, weights(other.module_))


def test_a_loaded_net_can_be_fitted_again(X):
    net = fitted(X)
    loaded = pickle.loads(pickle.dumps(net))
    for each in (net, loaded):
        torch.manual_seed(7)
        each.fit(X)
    assert_same_weights(loaded.module_, weights(net.module_))


def test_a_loaded_net_has_no_callbacks_and_prints_its_parameters(X):
    loaded = pickle.loads(pickle.dumps(fitted(X, callbacks=[Recorder()])))
    assert loaded.callbacks == loaded.callbacks_ == []
    assert "Autoencoder" in repr(loaded)
    assert loaded.get_params()["lr"] == 0.02


def test_a_deep_copy_maps_rows_to_the_bit_as_before_and_shares_nothing(X):
    net = fitted(X)
    duplicate = copy.deepcopy(net)
    before = net.predict(X)
    np.testing.assert_array_equal(duplicate.predict(X), before)
    for parameter in duplicate.module_.parameters():
        nn.init.zeros_(parameter)
    np.testing.assert_array_equal(net.predict(X), before)
    assert duplicate.history is not net.history


@pytest.mark.parametrize(
    "device",
    ["cuda:99", torch.device("cuda:99")] + ([] if torch.cuda.is_available() else ["cuda"]),
    ids=str,
)
def test_a_net_trained_on_a_device_that_is_not_here_loads_on_the_cpu(X, device):
    net = fitted(X)
    expected = net.predict(X)
    net.device = device
    state = pickle.dumps(net)
    with pytest.warns(UserWarning, match=f"was on device '{device}'"):
        loaded = pickle.loads(state)
    assert torch.device(loaded.device) == torch.device("cpu")
    assert all(p.device == torch.device("cpu") for p in loaded.module_.parameters())
    np.testing.assert_array_equal(loaded.predict(X), expected)


def test_a_net_that_was_not_fitted_can_be_pickled(X):
    loaded = pickle.loads(pickle.dumps(make_net()))
    torch.manual_seed(1)
    assert_same_weights(loaded.fit(X).module_, weights(fitted(X).module_))


def test_a_clone_has_all_parameters_and_trains_to_the_same_bits(X):
    net = make_net(penalty=L2(), alpha=0.2, average_decay=0.7)
    other = clone(net)
    assert isinstance(other.penalty, L2)
    assert other.get_params()["alpha"] == 0.2
    assert other.get_params()["average_decay"] == 0.7
    for each in (net, other):
        torch.manual_seed(1)
        each.fit(X)
    assert_same_weights(other.module_, weights(net.module_))


def test_batches_are_cut_by_the_packages_own_iterator():
    net = make_net(iterator_valid__batch_size=3).initialize()
    dataset = net.get_dataset(torch.zeros(7, 4))
    train, valid = net.get_iterator(dataset, training=True), net.get_iterator(dataset)
    assert type(train) is type(valid) is TensorBatches
    assert (train.batch_size, train.shuffle) == (8, True)
    assert (valid.batch_size, valid.shuffle) == (3, False)


def test_nothing_is_printed(X, capsys):
    fitted(X)
    assert re.sub(r"\s", "", "".join(capsys.readouterr())) == ""


class Objectives(Callback):
    """The loss of each step as it is told, and J before the step."""

    def __init__(self):
        self.pairs = []

    def on_batch_begin(self, net, batch, training, **kwargs):
        x, target = batch
        penalty = net.penalty(net.module_.penalized_weights())
        self.before = (net.criterion_(net.module_(x), target).mean() + net.alpha_ * penalty).item()

    def on_batch_end(self, net, training, loss=None, **kwargs):
        if training:
            self.pairs.append((loss.item(), self.before))


def test_the_loss_of_a_step_has_the_weight_that_the_penalty_has_in_the_epoch(X):
    seen = Objectives()
    net = make_net(
        Autoencoder(MLP([4, 2]), MLP([2, 4]).zero_last_layer()),
        optimizer=torch.optim.SGD,
        lr=1e-3,
        penalty=L2(),
        alpha=1.0,
        eases=True,
        average_decay=0.0,
        callbacks=[seen],
    ).fit(0.1 * X)
    assert net.alpha_ < net.alpha
    np.testing.assert_allclose(*np.transpose(seen.pairs), rtol=1e-5)
