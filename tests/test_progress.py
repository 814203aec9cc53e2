"""How a fit says how far it is."""

import contextlib
import io
import re

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback
from tqdm import auto

from skae import AutoencoderTransformer, _progress
from skae._net import ReconstructionNet
from skae._progress import ProgressBar
from skae.losses import SquaredError
from skae.modules import MLP, Autoencoder


@pytest.fixture(name="X", scope="module")
def table():
    return np.random.RandomState(0).normal(size=(60, 4)).astype(np.float32)


def fitted(X, **parameters):
    """Return a transformer whose rows are judged in no folds, so that it is trained once."""
    defaults = {"hidden_layer_sizes": (6,), "max_iter": 6, "validation_fraction": 0.2}
    return AutoencoderTransformer(**{**defaults, "random_state": 0, **parameters}).fit(X)


# ----------------------------------------------------------------------------------------- bars


class Terminal(io.StringIO):
    def isatty(self):
        return True


def written(place, X, **parameters):
    """Return what a fit writes where errors go, and the fitted transformer."""
    with contextlib.redirect_stderr(place()) as errors:
        model = fitted(X, **{"verbose": 1, **parameters})
    return errors.getvalue(), model


def last_state(text):
    """Return what a bar shows at last."""
    return re.split(r"[\r\n]", text.rstrip("\n"))[-1]


@pytest.mark.parametrize("place", [Terminal, io.StringIO])
def test_a_bar_ends_with_the_epochs_and_latest_losses(X, place, capsys):
    text, model = written(place, X)
    shown = last_state(text)
    assert " 6/6 " in shown
    assert "epoch" in shown
    for name in ("train_loss", "valid_loss"):
        assert f"{name}={model.net_.history[-1, name]:.3g}" in shown
    assert text.endswith("\n")
    assert capsys.readouterr() == ("", "")


def test_a_bar_is_one_line_in_a_terminal(X):
    text, _ = written(Terminal, X)
    assert text.count("\n") == 1
    assert "\r" in text


def test_a_bar_is_few_lines_in_a_file(X):
    text, _ = written(io.StringIO, X)
    first, last = text.splitlines()  # less than ten seconds apart
    assert " 0/6 " in first
    assert " 6/6 " in last
    assert "\r" not in text
    assert text.isascii()


def test_in_a_file_each_line_is_another_state(X, monkeypatch):
    monkeypatch.setattr(_progress, "_SECONDS_BETWEEN_LINES", 0)
    text, _ = written(io.StringIO, X)
    lines = text.splitlines()
    epochs = [re.search(r" (\d)/6 ", line).group(1) for line in lines]
    assert list(dict.fromkeys(epochs)) == list("0123456")
    assert len(set(lines)) == len(lines)


def test_a_notebook_has_the_bar_of_notebooks(X, monkeypatch):
    made = []

    class NotebookBar(auto.std_tqdm):
        def __init__(self, **options):
            made.append(self)
            super().__init__(**options, file=io.StringIO())

    for name in ("notebook_tqdm", "tqdm"):
        monkeypatch.setattr(auto, name, NotebookBar)
    text, _ = written(io.StringIO, X)
    assert [bar.n for bar in made] == [6]
    assert text == ""


def test_where_the_start_is_kept_all_rows_are_not_trained_and_have_no_bar(curve):
    text, model = written(Terminal, curve, validation_fraction="auto", alpha=1e6)
    assert model.best_iter_ == 0
    assert text.count("\n") == 1
    assert "5 folds" in text


@pytest.mark.parametrize("parameters", [{"verbose": 0}, {"max_iter": 0}])
def test_nothing_is_shown_where_nobody_asked_or_nothing_happens(X, capsys, parameters):
    text, _ = written(Terminal, X, **parameters)
    assert text == ""
    assert capsys.readouterr() == ("", "")


def test_folds_and_the_training_of_all_rows_have_a_bar_each(curve):
    text, model = written(Terminal, curve, validation_fraction="auto")
    folds, training, _ = text.split("\n")
    assert f" {len(model.validation_scores_) - 1}/6 " in last_state(folds)
    assert "5 folds" in folds
    assert f" {model.best_iter_}/{model.best_iter_} " in last_state(training)


def test_the_bar_shows_no_held_out_loss_where_there_is_none(X):
    text, _ = written(Terminal, X, early_stopping=False)
    assert "train_loss=" in last_state(text)
    assert "valid_loss" not in text


@pytest.mark.parametrize("interrupted", [False, True])
def test_the_bar_of_training_that_ends_early_stays_where_it_was(X, interrupted):
    class End(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 2 and interrupted:
                raise KeyboardInterrupt
            net.stop_training_ = len(net.history) == 2

    bar = ProgressBar()
    net = ReconstructionNet(
        Autoencoder(MLP([4, 2]), MLP([2, 4])),
        SquaredError,
        optimizer=torch.optim.Adam,
        max_epochs=9,
        train_split=None,
        callbacks=[bar, End()],
        verbose=0,
    )
    expected = pytest.raises(KeyboardInterrupt) if interrupted else contextlib.nullcontext()
    with contextlib.redirect_stderr(Terminal()) as errors, expected:
        net.fit(torch.from_numpy(X))
    text = errors.getvalue()
    assert " 2/9 " in last_state(text)
    assert text.count("\n") == 1
    assert not hasattr(bar, "bar_")


# ----------------------------------------------------------------------- scikit-learn's callbacks


class Diary:
    """A callback of scikit-learn's that writes down all it is told."""

    max_propagation_depth = None  # it follows into a search and a pipeline

    def __init__(self, stop_at=None):
        self.stop_at = stop_at
        self.told = []

    def setup(self, estimator, context):
        self.told.append(("set up",))

    def teardown(self, estimator, context):
        self.told.append(("torn down",))

    def on_fit_task_begin(self, estimator, context, *, X=None):
        self.told.append(("begin", type(estimator), context.task_name, X))

    def on_fit_task_end(self, estimator, context, *, X=None):
        self.told.append(("end", type(estimator), context.task_name, X))
        return context.task_name == "epoch" and context.task_id == self.stop_at

    def of(self, event, kind=AutoencoderTransformer):
        return [one[2] for one in self.told if one[0] == event and one[1] is kind]


@pytest.fixture
def diary():
    pytest.importorskip("sklearn.callback", reason="scikit-learn 1.9 has callbacks")
    return Diary()


def watched(X, diary, **parameters):
    model = fitted(X, **{**parameters, "max_iter": 0})
    return model.set_params(**{"max_iter": 6, **parameters}).set_callbacks(diary).fit(X)


def test_callbacks_are_told_of_the_fit_its_training_and_each_epoch(X, diary):
    model = watched(X, diary)
    epochs = ["epoch"] * 6
    assert diary.of("begin") == ["fit", "training", *epochs]
    assert diary.of("end") == [*epochs, "training", "fit"]
    assert (diary.told[0], diary.told[-1]) == (("set up",), ("torn down",))
    assert diary.told[1][3] is X
    assert np.array_equal(model.transform(X), fitted(X).transform(X))


def test_callbacks_are_told_of_folds_and_then_of_the_training_of_all_rows(curve, diary):
    model = watched(curve, diary, validation_fraction="auto")
    folds = ["epoch"] * (len(model.validation_scores_) - 1)
    epochs = ["epoch"] * model.best_iter_
    assert diary.of("begin") == ["fit", "folds", *folds, "training", *epochs]
    assert diary.of("end") == [*folds, "folds", *epochs, "training", "fit"]
    assert model.best_iter_ > 0


@pytest.mark.parametrize("fraction", ["auto", 0.2])
def test_a_callback_ends_training(curve, diary, fraction):
    diary.stop_at = 2
    model = watched(curve, diary, validation_fraction=fraction)
    assert len(model.validation_scores_) == 4  # epochs 0, 1 and 2, and the start
    diary.stop_at = None
    longer = watched(curve, diary, validation_fraction=fraction)
    assert longer.validation_scores_[:4] == model.validation_scores_


def test_each_start_is_a_training(X, diary):
    watched(X, diary, n_init=2, init="random", max_iter=2)
    assert diary.of("begin").count("training") == 2


def test_a_fit_that_fails_takes_leave_of_its_callbacks(X, diary):
    model = fitted(X).set_params(n_components=99).set_callbacks(diary)
    with pytest.raises(ValueError, match="n_components must be at most"):
        model.fit(X)
    assert [one[0] for one in diary.told] == ["set up", "begin", "torn down"]
    assert not hasattr(model, "_callback_fit_ctx")


def test_nothing_of_a_fit_stays_on_its_callbacks(X, diary):
    model = watched(X, diary)
    task = next(c for _, c in model.net_.callbacks_ if isinstance(c, _progress.TrainingTask))
    assert vars(task) == {}
    assert not hasattr(model, "_callback_fit_ctx")


def test_a_search_passes_its_callbacks_on(X, diary):
    pipeline = make_pipeline(StandardScaler(), fitted(X).set_params(max_iter=2))
    search = GridSearchCV(pipeline, {"autoencodertransformer__alpha": [0, 1]}, cv=2)
    search.set_callbacks(diary).fit(X)
    begun = diary.of("begin")
    assert begun.count("training") == 5  # two values, two folds, and the best on all rows
    assert begun.count("epoch") == 10
    assert diary.of("begin", GridSearchCV)


@pytest.mark.usefixtures("diary")
def test_scikit_learns_progress_bar_shows_epochs_inside_a_search(X, capsys, monkeypatch):
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "200")
    from sklearn.callback import ProgressBar

    search = GridSearchCV(fitted(X).set_params(max_iter=2), {"alpha": [0, 1]}, cv=2)
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X)
    shown = capsys.readouterr().out
    assert "AutoencoderTransformer - training #0 100%" in re.sub(r"\s+[━╸╺]*\s*", " ", shown)
