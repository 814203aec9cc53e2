"""Tables that come in parts: `partial_fit`, and files that are only read."""

import copy
import pickle
import re

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import InvalidParameterError
from skorch.callbacks import (
    Callback,
    Checkpoint,
    GradientNormClipping,
    LoadInitState,
    LRScheduler,
)
from torch import nn

from skae import AutoencoderTransformer, _autoencoder, _batches
from skae.modules import MLP, Filled, LinearSkip, SoftClip
from skae.penalties import Penalty


def small(**parameters):
    defaults = {
        "hidden_layer_sizes": (16,),
        "batch_size": 32,
        "max_iter": 1,
        "early_stopping": False,
        "random_state": 0,
    }
    return AutoencoderTransformer(**{**defaults, **parameters})


@pytest.fixture(scope="module")
def sheet():
    """4000 rows on a curved sheet in six dimensions, in random order."""
    rng = np.random.RandomState(0)
    u, v = rng.uniform(-1, 1, size=(2, 4000))
    X = np.column_stack([u, v, u**2, u * v, np.sin(3 * v), np.cos(2 * u)])
    return X + 0.01 * rng.normal(size=X.shape)


def streamed(fitted, X, n_rows):
    for i in range(0, len(X), n_rows):
        fitted.partial_fit(X[i : i + n_rows])
    return fitted


# ------------------------------------------------------------------------ where it begins anew


def pickled(fitted, folder):
    return pickle.loads(pickle.dumps(fitted))


def stored(fitted, folder):
    fitted.save_model(folder / "model.safetensors")
    return AutoencoderTransformer.load_model(folder / "model.safetensors")


@pytest.mark.parametrize("way", [pickled, stored, lambda fitted, folder: copy.deepcopy(fitted)])
def test_a_stream_that_begins_training_anew_weighs_the_penalty_as_one_that_does_not(
    sheet, way, tmp_path
):
    # with little noise, by which the weight of the penalty falls
    fitted = AutoencoderTransformer(5, random_state=0)
    parts = sheet[:3900].reshape(3, 1300, 6)
    for part in parts[:2]:
        fitted.partial_fit(part)
    again = way(fitted, tmp_path).partial_fit(parts[2])
    fitted.partial_fit(parts[2])
    assert again.loss_curve_[:2] == fitted.loss_curve_[:2]
    assert again.net_.alpha_ == fitted.net_.alpha_ < fitted.alpha_ / 4


# -------------------------------------------------------------------------------- the first chunk


class Still(torch.optim.SGD):
    """Makes no steps."""

    def step(self, closure=None):
        return None


def test_it_starts_at_the_pca_of_the_first_chunk(sheet):
    first = sheet[:200]
    fitted = small(optimizer=Still).partial_fit(first)
    pca = PCA(2).fit(first)
    np.testing.assert_allclose(fitted.mean_, first.mean(axis=0), rtol=1e-12)
    assert fitted.scale_ == pytest.approx(np.sqrt(first.var(axis=0).mean()), rel=1e-12)
    # weights are float32; the axes are computed anew
    np.testing.assert_allclose(fitted.transform(sheet), pca.transform(sheet), atol=1e-5)
    assert fitted.score(first) == pytest.approx(pca.explained_variance_ratio_.sum(), abs=1e-6)


def test_mean_and_scale_stay_those_of_the_first_chunk(sheet):
    fitted = small().partial_fit(sheet[:200])
    mean, scale = fitted.mean_.copy(), fitted.scale_
    fitted.partial_fit(sheet[200:900] + 5)
    np.testing.assert_array_equal(fitted.mean_, mean)
    assert fitted.scale_ == scale


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"batch_size": "auto"},
        {"average": False},
        {"loss": "huber"},
        {"penalty": "kl", "alpha": 0.01},
        {"dropout": 0.3},
        {"corruption": "masking"},
        {"linear_skip": False, "init": "random"},
    ],
    ids=str,
)
def test_one_pass_over_the_whole_table_is_fit_with_one_epoch(curve, parameters):
    # on the CPU, as a GPU's sums are in more orders
    # The same steps, of which one computes the gradient by written-out backpropagation and one by
    # autograd, in float32: Adam makes much of such roundings, where gradients vanish, and SOAP
    # more, whose axes they determine there. These steps are as small as gradients.
    parameters = {"optimizer": "sgd", "learning_rate_init": 0.2, "device": "cpu", **parameters}
    fitted, streaming = small(**parameters).fit(curve), small(**parameters).partial_fit(curve)
    codes = fitted.transform(curve)
    np.testing.assert_allclose(streaming.transform(curve), codes, atol=1e-6)
    assert abs(codes - small(**parameters, max_iter=0).fit(curve).transform(curve)).max() > 0.02
    np.testing.assert_allclose(streaming.loss_curve_, fitted.loss_curve_, rtol=1e-6)
    assert streaming.n_iter_ == fitted.n_iter_ == 1
    np.testing.assert_allclose(streaming.explained_variance_, fitted.explained_variance_, rtol=1e-6)


def test_a_chunk_of_fewer_rows_than_components_is_no_start(sheet):
    fitted = small(n_components=3)
    with pytest.raises(ValueError, match=r"^n_components must be at most .*=2 with init='pca'"):
        fitted.partial_fit(sheet[:2])
    assert not hasattr(fitted, "n_features_in_")
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        small(n_components=1).partial_fit(sheet[:1])
    small(n_components=2).partial_fit(sheet[:2])  # so many are enough


# --------------------------------------------------------------------------------- later chunks


@pytest.mark.parametrize("n_rows", [500, 1000, 2000])
def test_one_pass_in_chunks_is_as_good_as_one_over_the_whole_table(sheet, n_rows):
    fitted = small().fit(sheet)
    score = streamed(small(), sheet, n_rows).score(sheet)
    # 125 steps, and 126 or 128
    assert abs(score - fitted.score(sheet)) < 0.01
    assert score > PCA(2).fit(sheet).explained_variance_ratio_.sum() + 0.1


def test_a_first_chunk_followed_by_single_rows_learns(sheet):
    fitted = small(n_components=2).partial_fit(sheet[:500])
    before = fitted.score(sheet)
    streamed(fitted, sheet[500:700], 1)
    assert fitted.score(sheet) > before + 0.05
    assert fitted.n_iter_ == len(fitted.loss_curve_) == 201


@pytest.mark.parametrize("parameters", [{}, {"optimizer": "sgd"}, {"average": False}], ids=str)
def test_chunks_of_a_batch_each_are_the_batches_of_one_pass(sheet, parameters, monkeypatch):
    # in the order of the table, and from a start that does not follow PCA
    parameters = {"init": "random", "alpha": 1e-4, **parameters}
    monkeypatch.setattr(_batches.TensorBatches, "_order", lambda self: self.rows)
    one, other = (
        small(learning_rate_init=0.02, **parameters).partial_fit(sheet[3000:3032]) for _ in range(2)
    )
    start = one.reconstruct(sheet)
    streamed(one, sheet[:640], 640)
    streamed(other, sheet[:640], 32)
    way = np.abs(one.reconstruct(sheet) - start).max()
    # between calls axes are turned to and fro, in float32
    assert np.abs(other.reconstruct(sheet) - one.reconstruct(sheet)).max() < 0.02 * way
    assert way > 5e-3
    assert (len(one.loss_curve_), len(other.loss_curve_)) == (2, 21)
    assert np.mean(other.loss_curve_[1:]) == pytest.approx(one.loss_curve_[1], rel=1e-4)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_what_the_optimiser_remembers_is_carried_over(sheet, optimizer):
    remembering, forgetting = (
        small(optimizer=optimizer).partial_fit(sheet[:500]) for _ in range(2)
    )
    optimizer = remembering.net_.optimizer_
    forgetting = pickle.loads(pickle.dumps(forgetting))  # without its optimiser
    for fitted in (remembering, forgetting):
        fitted.partial_fit(sheet[500:532])
    assert remembering.net_.optimizer_ is optimizer
    assert forgetting.net_.optimizer_ is not optimizer
    distance = np.abs(remembering.reconstruct(sheet) - forgetting.reconstruct(sheet)).max()
    assert distance > 1e-4  # of rounding it would be a thousandth
    if hasattr(optimizer, "betas"):
        steps = {int(state["step"]) for state in optimizer.state.values()}
        assert steps == {17}


def test_the_average_is_carried_over(sheet):
    fitted = small().partial_fit(sheet[:500])
    average = fitted.net_.average_
    fitted.partial_fit(sheet[500:1000])
    assert fitted.net_.average_ is average


def test_epochs_and_losses_are_counted(sheet):
    fitted = small()
    for n_passes in (1, 2, 3):
        fitted.partial_fit(sheet[:100])
        assert fitted.n_iter_ == fitted.best_iter_ == len(fitted.loss_curve_) == n_passes
        assert fitted.validation_scores_ is None
        assert fitted.best_validation_score_ is None
    assert fitted.loss_curve_[2] < fitted.loss_curve_[1] < fitted.loss_curve_[0]


class Watching(nn.Module):
    """Notes whether it is trained."""

    modes = ()

    def __init__(self, n_in, n_out):
        super().__init__()
        self.layer = nn.Linear(n_in, n_out)

    def forward(self, x):
        Watching.modes = (*Watching.modes, self.training)
        return self.layer(x)


@pytest.mark.parametrize("n_rows", [100, 10])
def test_networks_are_in_training_in_later_calls_too(sheet, n_rows):
    fitted = small(encoder=Watching).partial_fit(sheet[:100])
    for _ in range(2):
        Watching.modes = ()
        fitted.partial_fit(sheet[:n_rows])
        assert Watching.modes[0]
        assert not fitted.encoder_.training


@pytest.mark.parametrize(
    "parameters",
    # at PCA, what is dropped would count for nothing
    [{"dropout": 0.5, "init": "random"}, {"penalty": "kl", "alpha": 0.01}, {"corruption": "swap"}],
)
def test_what_is_drawn_in_training_is_drawn_in_later_calls_too(sheet, parameters):
    # learning rate zero by a still optimiser: losses differ by what is drawn alone
    fitted = small(optimizer=Still, **parameters, random_state=np.random.RandomState(0))
    for _ in range(3):
        fitted.partial_fit(sheet[:100])
    # in float32 the order of rows changes their sum in the seventh digit
    gaps = np.diff(np.sort(fitted.loss_curve_))
    assert gaps.min() > 1e-5 * fitted.loss_curve_[0]


@pytest.mark.parametrize("k", [1, 2, 4])
def test_axes_are_those_of_chunks_of_ten_rows_per_component(sheet, k):
    fitted = small(n_components=k).partial_fit(sheet[:500])
    few, many = sheet[500 : 500 + 10 * k - 1], sheet[1000 : 1000 + 10 * k]
    axes = _autoencoder.axes_of(fitted.net_.module_)
    variances = fitted.explained_variance_
    fitted.partial_fit(few)
    for before, after in zip(axes, _autoencoder.axes_of(fitted.net_.module_), strict=True):
        # folded in again, of float32
        torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)
    assert fitted.explained_variance_ is variances
    fitted.partial_fit(many)
    codes = fitted.transform(many)
    # float32 codes
    np.testing.assert_allclose(codes.mean(axis=0), 0, atol=1e-5)
    covariance = np.cov(codes.T).reshape(k, k)
    np.testing.assert_allclose(covariance, np.diag(covariance.diagonal()), atol=1e-5)
    np.testing.assert_allclose(covariance.diagonal(), fitted.explained_variance_, rtol=1e-4)


# -------------------------------------------------------------------------------- other company


def test_a_pickled_stream_goes_on(sheet):
    fitted = streamed(small(), sheet[:1000], 250)
    loaded = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(loaded.transform(sheet), fitted.transform(sheet))
    before = loaded.score(sheet)
    streamed(loaded, sheet[1000:2000], 250)
    assert loaded.score(sheet) > before + 0.01
    assert loaded.n_iter_ == 8


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_stream_goes_on_after_fit(sheet, early_stopping):
    fitted = small(max_iter=3, early_stopping=early_stopping).fit(sheet[:500])
    n_losses, before = len(fitted.loss_curve_), fitted.score(sheet)
    mean = fitted.mean_
    streamed(fitted, sheet[500:1500], 250)
    assert fitted.score(sheet) > before + 0.005
    assert fitted.n_iter_ == len(fitted.loss_curve_) == n_losses + 4
    assert fitted.mean_ is mean


def test_fit_begins_anew_after_a_stream(sheet):
    fitted = streamed(small(), sheet[:500], 100).fit(sheet)
    np.testing.assert_array_equal(fitted.transform(sheet), small().fit(sheet).transform(sheet))
    assert fitted.n_iter_ == 1


def test_a_stream_may_start_from_a_fitted_transformer(sheet):
    start = small(max_iter=3).fit(sheet[:500])
    fitted = small(init=start).partial_fit(sheet[500:1000])
    np.testing.assert_array_equal(fitted.mean_, start.mean_)
    assert fitted.score(sheet) > start.score(sheet)
    assert fitted.n_iter_ == 1


def test_the_same_stream_gives_the_same_bits(sheet):
    one, other = (streamed(small(), sheet[:1000], 300) for _ in range(2))
    np.testing.assert_array_equal(one.transform(sheet), other.transform(sheet))


@pytest.mark.parametrize("origin", ["stream", "pickle", "copy", "file", "fit"])
def test_small_parts_are_learned_wherever_the_model_comes_from(sheet, tmp_path, origin):
    stream = small().fit(sheet[:500]) if origin == "fit" else small().partial_fit(sheet[:500])
    if origin == "pickle":
        stream = pickle.loads(pickle.dumps(stream))
    elif origin == "copy":
        stream = copy.deepcopy(stream)
    elif origin == "file":
        stream.save_model(tmp_path / "model")
        stream = AutoencoderTransformer.load_model(tmp_path / "model")
    before = stream.reconstruct(sheet)
    stream.partial_fit(2 * sheet[500:510])  # too few rows for axes of the codes
    net, once = stream.net_, stream.reconstruct(sheet)
    stream.partial_fit(2 * sheet[510:520])
    assert stream.net_ is net  # as it knows the steps before
    twice = stream.reconstruct(sheet)
    assert min(np.abs(once - before).max(), np.abs(twice - once).max()) > 1e-3


class Interrupting(Callback):
    now = False

    def on_epoch_end(self, net, **kwargs):
        if Interrupting.now:
            raise KeyboardInterrupt


def interrupted(fitted, X):
    Interrupting.now = True
    try:
        with pytest.raises(KeyboardInterrupt):
            fitted.partial_fit(X)
    finally:
        Interrupting.now = False


def test_an_interrupted_call_leaves_the_transformer_as_it_was(sheet):
    fitted = small(callbacks=[Interrupting()]).partial_fit(sheet[:500])
    codes, decoded = fitted.transform(sheet), fitted.reconstruct(sheet)
    interrupted(fitted, sheet[500:1000])
    np.testing.assert_array_equal(fitted.transform(sheet), codes)
    np.testing.assert_array_equal(fitted.reconstruct(sheet), decoded)
    assert (fitted.n_samples_seen_, fitted.alpha_) == (500, 2e-4)
    before = fitted.score(sheet)
    assert fitted.partial_fit(sheet[500:1000]).score(sheet) > before
    assert fitted.n_iter_ == 2


def test_a_model_that_was_loaded_in_inference_mode_is_trained_and_interrupted(sheet, tmp_path):
    small().fit(sheet[:500]).save_model(tmp_path / "model")
    with torch.inference_mode():
        fitted = AutoencoderTransformer.load_model(tmp_path / "model")
    fitted.set_params(callbacks=[Interrupting()])
    codes = fitted.transform(sheet)
    interrupted(fitted, sheet[500:1000])
    np.testing.assert_array_equal(fitted.transform(sheet), codes)
    assert not np.array_equal(fitted.partial_fit(sheet[500:1000]).transform(sheet), codes)


def test_an_interrupted_call_leaves_no_trace_in_a_pickle(sheet):
    fitted = small(callbacks=[Interrupting()], batch_size="auto").partial_fit(sheet[:500])
    before = pickle.loads(pickle.dumps(fitted)).partial_fit(sheet[:900])
    interrupted(fitted, sheet[500:3000])
    after = pickle.loads(pickle.dumps(fitted)).partial_fit(sheet[:900])
    assert len(fitted.net_.history) == len(fitted.loss_curve_) == 1
    np.testing.assert_array_equal(after.transform(sheet), before.transform(sheet))
    assert fitted.net_.batch_size == fitted._batch_size(500)


class Looking(Callback):
    """Calls a function, which pickles do not hold, at each epoch's end."""

    look = None

    def on_epoch_end(self, net, **kwargs):
        if Looking.look:
            Looking.look()


@pytest.mark.parametrize("begin", ["fit", "partial_fit"])
def test_callbacks_see_the_transformer_as_it_was_before_the_call(sheet, monkeypatch, begin):
    fitted = small(callbacks=[Looking()], dropout=0.1)
    getattr(fitted, begin)(sheet[:1000])
    codes, n_epochs, seen = fitted.transform(sheet), len(fitted.loss_curve_), []

    def look():
        for one in fitted, pickle.loads(pickle.dumps(fitted)):
            seen.append(one.transform(sheet))
            assert len(one.net_.history) == len(one.loss_curve_) == n_epochs

    monkeypatch.setattr(Looking, "look", look)
    assert not np.array_equal(fitted.partial_fit(sheet[500:1000]).transform(sheet), codes)
    assert len(seen) == 2
    for one in seen:
        np.testing.assert_array_equal(one, codes)


@pytest.mark.parametrize("begin", ["fit", "partial_fit"])
def test_each_part_draws_other_numbers_and_two_streams_the_same(sheet, begin):
    drawn = []

    def corruption(x, level):
        if len(x) == 32:  # a batch, and not a trial
            drawn.append(torch.rand(1).item())
        return x

    def numbers():
        del drawn[:]
        fitted = small(corruption=corruption, corruption_level=1.0)
        getattr(fitted, begin)(sheet[:64])
        for _ in range(3):
            fitted.partial_fit(sheet[:64])  # the same rows, as in another pass over a table
        return drawn.copy()

    first = numbers()
    assert len(set(first)) == len(first) >= 8  # two batches in each part
    assert numbers() == first


class Infinite(Penalty):
    """No finite value while it is asked to have none."""

    now = False

    def __call__(self, weights):
        return sum(weight.square().sum() for weight in weights) * (np.inf if Infinite.now else 1.0)


@pytest.mark.parametrize("parameters", [{}, {"optimizer": "adam"}, {"average": False}], ids=str)
def test_after_a_part_that_diverges_a_stream_goes_on_as_its_pickle_does(sheet, parameters):
    fitted = small(penalty=Infinite(), alpha=1e-4, **parameters)
    streamed(fitted, sheet[:1000], 500)
    before = fitted.score(sheet)
    Infinite.now = True
    try:
        with pytest.warns(ConvergenceWarning, match="not finite"):
            fitted.partial_fit(sheet[1000:1500])
    finally:
        Infinite.now = False
    # linear paths have followed PCA, and nothing else has changed
    assert fitted.score(sheet) == pytest.approx(before, abs=0.002)
    again = pickle.loads(pickle.dumps(fitted))
    for stream in (fitted, again):
        streamed(stream, sheet[1500:], 500)
    assert fitted.score(sheet) > before + 0.001
    np.testing.assert_array_equal(fitted.transform(sheet), again.transform(sheet))


def test_the_automatic_weight_of_the_penalty_is_that_for_all_rows_so_far(sheet):
    fitted, given = small(), small()
    for start, end in ((0, 700), (700, 1400), (1400, 2000)):
        alpha = 0.2 / max(end, 1000)
        fitted.partial_fit(sheet[start:end])
        given.set_params(alpha=alpha).partial_fit(sheet[start:end])
        assert fitted.n_samples_seen_ == end
        assert fitted.alpha_ == fitted.net_.alpha == alpha
    assert given.loss_curve_ == fitted.loss_curve_
    np.testing.assert_array_equal(given.transform(sheet), fitted.transform(sheet))


def test_gradients_are_limited_from_1000_rows_on_however_small_the_parts(sheet):
    rows = np.array(sheet[:3600])
    rows[1250, 0] = 1e7  # without a limit R² falls to 0.56
    scores = [streamed(small(), X, 300).score(sheet[3600:]) for X in (sheet[:3600], rows)]
    assert scores[1] > scores[0] - 0.01


class Batches(Callback):
    n_batches = n_gradients = 0

    def on_batch_end(self, net, **kwargs):
        self.n_batches += 1

    def on_grad_computed(self, net, **kwargs):
        self.n_gradients += 1


@pytest.mark.parametrize("optimizer", ["soap", "adam"])
def test_callbacks_of_batches_may_come_and_go(sheet, optimizer):
    watching = Batches()
    fitted, other = (small(optimizer=optimizer).partial_fit(sheet[:200]) for _ in range(2))
    for X, callbacks in ((sheet[200:520], [watching]), (sheet[520:840], None)):
        fitted.set_params(callbacks=callbacks).partial_fit(X)
        other.partial_fit(X)
    assert watching.n_batches == watching.n_gradients == 10  # the second part's, of 32 rows each
    n_recorded = [len(epoch["batches"]) for epoch in fitted.net_.history]
    assert n_recorded == [1, 10, 1]
    # steps that are not written out round differently
    np.testing.assert_allclose(fitted.transform(sheet), other.transform(sheet), atol=1e-3)


def test_a_clipping_that_comes_later_clips(sheet):
    # without momentum of steps that were not clipped
    plain = {"optimizer": torch.optim.SGD, "learning_rate_init": 0.1, "average": False}
    fitted, moved = (small(**plain).partial_fit(sheet[:200]) for _ in range(2))
    before = copy.deepcopy(fitted.encoder_)
    moved.partial_fit(sheet[200:400])
    fitted.set_params(callbacks=[GradientNormClipping(1e-9)]).partial_fit(sheet[200:400])

    def change(model):
        pairs = zip(
            before[0].branch.parameters(), model.encoder_[0].branch.parameters(), strict=True
        )
        return max((one - other).abs().max().item() for one, other in pairs)

    assert change(fitted) < 1e-6 < 1e-3 < change(moved)


@pytest.mark.parametrize("optimizer", ["soap", "adam", "sgd"])
def test_a_schedule_may_come_later(sheet, optimizer):
    fitted = small(optimizer=optimizer, learning_rate_init=0.01).partial_fit(sheet[:200])
    fitted.set_params(callbacks=[LRScheduler("StepLR", step_size=1, gamma=0.5)])
    rates = []
    for start in (200, 400):
        fitted.partial_fit(sheet[start : start + 200])
        rates.append(fitted.net_.optimizer_.param_groups[0]["lr"])
    assert rates[0] < 0.01
    assert rates[1] < rates[0]


def test_a_part_that_fails_leaves_the_history_that_was_there(sheet, tmp_path):
    checkpoint = Checkpoint(dirname=tmp_path, monitor=None)
    small(callbacks=[checkpoint]).partial_fit(sheet[:200])
    fitted = streamed(small(), sheet[:800], 200)
    history = [*fitted.net_.history]
    fitted.set_params(callbacks=[LoadInitState(checkpoint), Failing()])
    with pytest.raises(ArithmeticError):
        fitted.partial_fit(sheet[800:1000])
    assert [*fitted.net_.history] == history
    assert len(history) == len(fitted.loss_curve_) == 4


class Failing(Callback):
    def on_epoch_end(self, net, **kwargs):
        raise ArithmeticError


class Counter(Callback):
    n_epochs = 0

    def on_epoch_end(self, net, **kwargs):
        self.n_epochs += 1


def test_callbacks_hear_of_all_parts(sheet):
    counter, later = Counter(), Counter()
    fitted = small(callbacks=[counter]).partial_fit(sheet[:200])
    for n_parts in (2, 3):
        fitted.partial_fit(sheet[:200])
        assert counter.n_epochs == n_parts
    assert [name for name in vars(counter) if name.endswith("_")] == []
    fitted.set_params(callbacks=[later]).partial_fit(sheet[:200])
    assert (counter.n_epochs, later.n_epochs) == (3, 1)


def test_rows_are_counted_from_a_fit_on_and_in_a_file(sheet, tmp_path):
    fitted = small().fit(sheet[:1600])
    assert fitted.n_samples_seen_ == 1600
    fitted.save_model(tmp_path / "model")
    loaded = AutoencoderTransformer.load_model(tmp_path / "model").partial_fit(sheet[1600:])
    assert loaded.n_samples_seen_ == 4000
    assert loaded.alpha_ == loaded.net_.alpha == 0.2 / 4000
    assert fitted.fit(sheet[:50]).n_samples_seen_ == 50


# ------------------------------------------------------------------------- gaps, names, categories


@pytest.mark.parametrize("parameters", [{}, {"loss": "absolute_error"}, {"corruption": "masking"}])
def test_gaps_may_come_in_later_chunks_alone(sheet, parameters):
    fitted = small(**parameters).partial_fit(sheet[:500])
    X = sheet[500:1500].copy()
    gone = np.random.RandomState(0).uniform(size=X.shape) < 0.2
    gone[:, 0] = False
    X[gone] = np.nan
    before = fitted.score(sheet)
    streamed(fitted, X, 250)
    assert np.isfinite(fitted.loss_curve_).all()
    assert fitted.score(sheet) > before + 0.01
    assert np.isfinite(fitted.transform(X)).all()
    assert any(isinstance(part, Filled) for part in fitted.net_.module_.modules())


def test_a_chunk_of_nothing_warns_and_goes_on(sheet):
    fitted = small().partial_fit(sheet[:500])
    with pytest.warns(UserWarning, match="Nothing is known of 1 rows and the columns") as given:
        fitted.partial_fit(np.full((1, 6), np.nan))
    assert len(given) == 1
    assert np.isfinite(fitted.transform(sheet)).all()


def frame(X, colours=("red", "green", "blue")):
    table = pd.DataFrame(X, columns=[f"n{j}" for j in range(X.shape[1])])
    return table.assign(colour=np.asarray(colours)[(X[:, 0] > 0).astype(int) + (X[:, 1] > 0)])


def test_categories_are_those_of_the_first_chunk(sheet):
    fitted = small().partial_fit(frame(sheet[:500]))
    assert fitted.categories_[-1].tolist() == ["blue", "green", "red"]
    with pytest.warns(
        UserWarning,
        match=re.escape("that fit has not seen, in columns ['colour'], are treated as missing."),
    ) as given:
        fitted.partial_fit(frame(sheet[500:1000], ("red", "green", "violet")))
    assert len(given) == 1
    assert fitted.categories_[-1].tolist() == ["blue", "green", "red"]
    assert np.isfinite(fitted.loss_curve_).all()
    decoded = fitted.inverse_transform(fitted.transform(frame(sheet[:50])))
    assert set(decoded["colour"]) <= {"blue", "green", "red"}


def test_mixed_frames_in_chunks_are_as_good_as_whole(sheet):
    table = frame(sheet)
    whole, streamed = small(max_iter=4).fit(table), small()
    for _ in range(4):  # in the first epoch a few steps more or less make a difference
        streamed_frame(streamed, table, 500)
    assert streamed.score(table) == pytest.approx(whole.score(table), abs=0.01)


def streamed_frame(fitted, table, n_rows):
    for i in range(0, len(table), n_rows):
        fitted.partial_fit(table.iloc[i : i + n_rows])
    return fitted


def test_names_and_numbers_of_columns_are_checked(sheet):
    table = pd.DataFrame(sheet, columns=list("abcdef"))
    fitted = small().partial_fit(table[:500])
    codes = fitted.transform(table)
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.partial_fit(table[500:600].rename(columns={"a": "x"}))
    with pytest.raises(ValueError, match="must be in the same order"):
        fitted.partial_fit(table[500:600][list("bacdef")])
    with pytest.raises(ValueError, match="seen at fit time, yet now missing"):
        fitted.partial_fit(table[500:600][list("abcde")])
    with pytest.raises(ValueError, match="X has 5 features, but"):
        small().partial_fit(sheet[:500]).partial_fit(sheet[500:600, :5])
    np.testing.assert_array_equal(fitted.transform(table), codes)


@pytest.mark.parametrize(
    "parameters",
    [{"alpha": -1}, {"alpha": np.nan}, {"batch_size": 0}, {"penalty": "none"}],
    ids=str,
)
def test_parameters_are_checked_in_later_calls_too(sheet, parameters):
    fitted = small().partial_fit(sheet[:500])
    codes = fitted.transform(sheet)
    with pytest.raises(InvalidParameterError, match=next(iter(parameters))):
        fitted.set_params(**parameters).partial_fit(sheet[500:])
    np.testing.assert_array_equal(fitted.transform(sheet), codes)
    with config_context(skip_parameter_validation=True), pytest.raises(KeyError):
        fitted.set_params(penalty="none").partial_fit(sheet[500:])


def test_a_weight_of_the_penalty_may_come_later(sheet):
    def stream(first):
        fitted = small(alpha=first).partial_fit(sheet).set_params(alpha=10.0)
        return [fitted.partial_fit(sheet).score(sheet) for _ in range(5)][-1]

    none = small(alpha=0)
    for _ in range(6):
        none.partial_fit(sheet)
    assert stream(0) == pytest.approx(stream(1e-9), abs=0.01)
    assert stream(0) < none.score(sheet) - 0.05


def test_buffers_of_a_stream_are_not_kept(sheet):
    fitted = small(batch_size=1000)
    for n_rows in (500, 400, 300):
        fitted.partial_fit(sheet[:n_rows])
    assert fitted.net_.written_out_.layers == {}


def test_no_rows_are_refused(sheet):
    fitted = small().partial_fit(sheet[:500])
    with pytest.raises(ValueError, match="0 sample"):
        fitted.partial_fit(sheet[:0])


# -------------------------------------------------------------------------- files that are read


@pytest.fixture
def mapped(sheet, tmp_path):
    np.save(tmp_path / "sheet.npy", sheet)
    return np.load(tmp_path / "sheet.npy", mmap_mode="r")


@pytest.mark.parametrize("read", [2**24, 100], ids=["small", "large"])
def test_read_only_maps_are_taken_and_left_alone(sheet, mapped, monkeypatch, read):
    monkeypatch.setattr(_autoencoder, "_MAX_READ", read)
    assert not mapped.flags.writeable
    # components of a large map are found by its Gram matrix, to another rounding, of which SOAP
    # makes more than Adam
    adam = small(optimizer="adam", learning_rate_init=4e-3)
    fitted, expected = clone(adam).fit(mapped), clone(adam).fit(sheet)
    np.testing.assert_allclose(fitted.transform(mapped), expected.transform(sheet), atol=1e-2)
    one, other = (streamed(clone(adam), X[:1000], 500) for X in (mapped, sheet))
    np.testing.assert_allclose(one.transform(mapped), other.transform(sheet), atol=1e-2)
    np.testing.assert_array_equal(mapped, sheet)


@pytest.mark.parametrize("read", [2**24, 6000], ids=["small", "large"])
def test_maps_may_have_gaps(sheet, tmp_path, monkeypatch, read):
    monkeypatch.setattr(_autoencoder, "_MAX_READ", read)
    X = sheet.copy()
    X[np.random.RandomState(0).uniform(size=X.shape) < 0.2] = np.nan
    X[:, 0] = sheet[:, 0]
    np.save(tmp_path / "gaps.npy", X)
    fitted = small(max_iter=2).fit(np.load(tmp_path / "gaps.npy", mmap_mode="r"))
    # of a large map the start is computed of some rows
    assert fitted.score(X) == pytest.approx(small(max_iter=2).fit(X).score(X), abs=0.02)
    assert np.isfinite(fitted.transform(X)).all()


# --------------------------------------------------------------------------- following PCA


def with_a_path_of_its_own(n_in, n_out):
    skip = LinearSkip(nn.Linear(6, 6), MLP([6, 4, 6]), SoftClip(torch.ones(6)))
    return nn.Sequential(nn.Linear(n_in, 6), skip, nn.Linear(6, n_out))


@pytest.mark.parametrize(
    "parameters",
    [{}, {"tied_weights": True}, {"encoder": with_a_path_of_its_own}],
    ids=["plain", "tied", "own"],
)
def test_linear_paths_follow_the_pca_of_all_rows_so_far(parameters):
    rng = np.random.RandomState(0)
    X = rng.normal(size=(3000, 5)) * [3, 2, 1, 0.5, 0.2] @ rng.normal(size=(5, 8))
    # steps that are none: what changes is what follows
    still = small(learning_rate_init=1e-12, **parameters).partial_fit(X[:40])
    mean, first = still.mean_, still.reconstruct(X)
    streamed(still, X[40:], 40)
    np.testing.assert_array_equal(still.mean_, mean)  # that of the first rows stays
    components = PCA(2).fit(X).components_
    # ten components more than two are kept, of data that have five directions: nothing is lost
    expected = mean + (X - mean) @ components.T @ components
    np.testing.assert_allclose(still.reconstruct(X), expected, atol=1e-4)
    assert np.abs(first - expected).max() > 0.05


def test_components_that_change_places_are_not_followed():
    rng = np.random.RandomState(0)
    X = rng.normal(size=(4000, 3)) * [2.0, 1.0, 0.01]
    X[200:] = X[200:, [0, 2, 1]]  # the second axis is the third one from here on
    still = small(learning_rate_init=1e-12).partial_fit(X[:200])
    streamed(still, X[200:], 200)
    codes = still.transform(np.eye(3))
    origin = still.transform(np.zeros((1, 3)))
    # a code for the axis that was the second, and none for the other
    assert np.abs(codes[1] - origin).max() > 0.9
    assert np.abs(codes[2] - origin).max() < 0.1


def test_a_stream_that_starts_elsewhere_does_not_follow_pca(sheet):
    for parameters in ({"init": "random"}, {"penalty": "kl"}):
        still = small(learning_rate_init=1e-12, average=False, **parameters)
        before = still.partial_fit(sheet[:500]).reconstruct(sheet)
        streamed(still, sheet[500:], 500)
        # axes are turned to and fro, in float32
        np.testing.assert_allclose(still.reconstruct(sheet), before, atol=1e-5)


def test_a_stream_may_begin_with_rows_that_are_all_one(sheet):
    streamed(small().partial_fit(np.ones((50, sheet.shape[1]))), sheet, 500)  # without a warning
