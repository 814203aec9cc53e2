"""What displays draw is what the estimator says, and PCA beside it is scikit-learn's."""

import inspect
import itertools
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from numpydoc.docscrape import FunctionDoc
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction import DictVectorizer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import KFold, ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)
from sklearn.utils import check_random_state

from skae import AutoencoderTransformer
from skae.losses import SquaredError
from skae.plotting import (
    ExplainedVarianceDisplay,
    LatentSpaceDisplay,
    LatentTraversalDisplay,
    LossCurveDisplay,
    ReconstructionDisplay,
)

plt = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is not installed")
import matplotlib as mpl  # noqa: E402

DISPLAYS = [
    ExplainedVarianceDisplay,
    LatentSpaceDisplay,
    LatentTraversalDisplay,
    LossCurveDisplay,
    ReconstructionDisplay,
]
# Networks are float32, and so are the components that they keep: of numbers up to 16, as digits
# are, products of some ten of these are right to about 1e-5.
ATOL = 1e-4


def fitted(X, n_components=3, **params):
    params = {"max_iter": 3, "hidden_layer_sizes": 16, "random_state": 0, **params}
    return AutoencoderTransformer(n_components, **params).fit(X)


@pytest.fixture(scope="module")
def images(digits):
    return digits[:200]


@pytest.fixture(scope="module")
def free(images):
    """Trained without a judge: it is not PCA, and cannot have gone back to it."""
    return fitted(images, early_stopping=False)


@pytest.fixture(scope="module")
def wine():
    return load_wine(as_frame=True).data


@pytest.fixture(scope="module")
def pipeline(wine):
    autoencoder = AutoencoderTransformer(
        3, hidden_layer_sizes=16, early_stopping=False, max_iter=3, random_state=0
    )
    return make_pipeline(StandardScaler(), autoencoder).fit(wine)


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    u = rng.standard_normal(80)
    frame = pd.DataFrame(
        {
            "size": 100 + 30 * u,
            "kind": pd.Categorical(np.where(u > 0.3, "house", "flat")),
            "rent": 900 + 200 * u + 50 * rng.standard_normal(80),
            "lift": u < 0,
        }
    )
    return frame.mask(rng.random(frame.shape) < 0.1)


@pytest.fixture(scope="module")
def mixed(frame):
    return fitted(frame, 2, early_stopping=False)


def from_estimator(display, estimator, X, **params):
    """Draw any of the displays."""
    rows = () if display in (LatentTraversalDisplay, LossCurveDisplay) else (X,)
    return display.from_estimator(estimator, *rows, **params)


def drawn(artists):
    return np.array([artist.get_array() for artist in artists.flat])


# ------------------------------------------------------------------------------------ all of them


def test_importing_the_module_does_not_import_matplotlib():
    code = "import sys, skae.plotting; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("display", DISPLAYS)
def test_without_matplotlib_what_to_install_is_said_before_anything_else(display, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot")
    with pytest.raises(ImportError, match=rf'{display.__name__} .*pip install "skae\[plot\]"'):
        from_estimator(display, None, None)


@pytest.mark.parametrize("display", DISPLAYS)
def test_drawing_again_returns_the_display_and_needs_no_estimator(display, free, images):
    first = from_estimator(display, free, images)
    figure = first.figure_
    assert first.plot() is first
    assert first.figure_ is not figure


@pytest.mark.parametrize("display", DISPLAYS)
@pytest.mark.parametrize("style", ["default", "dark_background"])
def test_matplotlibs_settings_and_the_estimator_are_left_as_they_are(display, style, free, images):
    with plt.style.context(style):
        settings, backend = dict(mpl.rcParams), mpl.get_backend()
        weights = {name: w.clone() for name, w in free.net_.module_.state_dict().items()}
        attributes = {name: id(value) for name, value in vars(free).items()}
        state = np.random.get_state()[1].copy()
        from_estimator(display, free, images).figure_.canvas.draw()
        assert dict(mpl.rcParams) == settings
        assert mpl.get_backend() == backend
    assert {name: id(value) for name, value in vars(free).items()} == attributes
    assert all((w == weights[name]).all() for name, w in free.net_.module_.state_dict().items())
    assert not free.net_.module_.training
    assert (np.random.get_state()[1] == state).all()


@pytest.mark.parametrize("display", DISPLAYS)
def test_an_estimator_that_is_not_fitted_or_no_autoencoder_is_refused(display, images):
    for estimator in (AutoencoderTransformer(), make_pipeline(AutoencoderTransformer())):
        with pytest.raises(NotFittedError):
            from_estimator(display, estimator, images)
    for estimator in (PCA().fit(images), make_pipeline(PCA()).fit(images)):
        with pytest.raises(ValueError, match=r"must be a fitted AutoencoderTransformer.* got PCA"):
            from_estimator(display, estimator, images)
    assert plt.get_fignums() == []


@pytest.mark.parametrize("display", DISPLAYS)
def test_what_is_given_to_draw_in_is_drawn_in(display, free, images):
    figure, (ax, other) = plt.subplots(1, 2)
    shown = from_estimator(display, free, images, ax=ax)
    assert shown.figure_ is figure
    assert plt.get_fignums() == [figure.number]
    assert not other.has_data()
    axes = np.atleast_1d(getattr(shown, "axes_", getattr(shown, "ax_", None)))
    box = ax.get_position().expanded(1 + 1e-9, 1 + 1e-9)  # roundings
    for one in axes.flat:
        inner = one.get_position()
        assert box.x0 <= inner.x0 < inner.x1 <= box.x1
        assert box.y0 <= inner.y0 < inner.y1 <= box.y1
    again = plt.figure().subplots(*np.atleast_2d(axes).shape, squeeze=False)
    shown.plot(ax=again if axes.size > 1 else again[0, 0])
    assert shown.figure_ is again[0, 0].figure
    if axes.size > 1:
        assert list(shown.axes_.flat) == list(again.flat)
        with pytest.raises(ValueError, match=f"ax must be one axes or {axes.size}, got 1"):
            shown.plot(ax=[again[0, 0]])


def test_images_are_drawn_in_given_axes_too(free, images):
    figure, ax = plt.subplots(layout="constrained")
    display = ReconstructionDisplay.from_estimator(free, images, image_shape=(8, 8), ax=ax)
    assert display.figure_ is figure
    assert type(figure.get_layout_engine()).__name__ == "ConstrainedLayoutEngine"
    figure.canvas.draw()
    assert len(figure.axes) == 1 + 3 * 8


def test_no_model_is_written_and_read_to_be_drawn(free, images, monkeypatch):
    monkeypatch.setattr(AutoencoderTransformer, "__reduce_ex__", None)
    ExplainedVarianceDisplay.from_estimator(free, images)


@pytest.mark.parametrize("ax", ["axes", 3], ids=type)
def test_what_are_no_axes_are_refused(ax, images):
    with pytest.raises(ValueError, match=f"ax must be Matplotlib's axes, got {ax!r}; pass"):
        LatentSpaceDisplay.from_estimator(fitted(images, 2, max_iter=0), images, ax=ax)


def test_targets_may_be_a_column(images):
    estimator, y = fitted(images, 2, max_iter=0), np.arange(len(images)) % 3
    row, column = (
        LatentSpaceDisplay.from_estimator(estimator, images, some) for some in (y, y[:, np.newaxis])
    )
    colors = [shown.axes_[0, 0].collections[0].get_facecolors() for shown in (row, column)]
    np.testing.assert_array_equal(*colors)


def test_targets_of_two_columns_are_refused(images):
    estimator, y = fitted(images, 2, max_iter=0), np.zeros((len(images), 2))
    with pytest.raises(ValueError, match="y should be a 1d array"):
        LatentSpaceDisplay.from_estimator(estimator, images, y)


def test_axes_that_are_in_no_grid_are_divided_too(free):
    ax = plt.figure().add_axes((0.1, 0.2, 0.3, 0.4))
    display = LatentTraversalDisplay.from_estimator(free, ax=ax)
    boxes = [one.get_position() for one in display.axes_.flat]
    assert boxes[0].y1 == pytest.approx(0.6)
    assert boxes[-1].y0 == pytest.approx(0.2)
    assert {(round(box.x0, 9), round(box.x1, 9)) for box in boxes} == {(0.1, 0.4)}


@pytest.mark.parametrize("display", DISPLAYS)
@pytest.mark.parametrize("name", ["from_estimator", "plot"])
def test_methods_document_what_they_take(display, name):
    method = getattr(display, name)
    documented = [
        part.strip()
        for parameter in FunctionDoc(method)["Parameters"]
        for part in parameter.name.split(",")
    ]
    parameters = list(inspect.signature(method).parameters)
    assert documented == [parameter for parameter in parameters if parameter != "self"]
    assert FunctionDoc(method)["Returns"]


# -------------------------------------------------------------------------------- how it trained


def test_curves_are_those_of_the_estimator(digits):
    judged = fitted(digits[:1000], max_iter=4)
    display = LossCurveDisplay.from_estimator(judged)
    loss, score = display.loss_line_, display.score_line_
    assert list(loss.get_ydata()) == judged.loss_curve_
    assert list(loss.get_xdata()) == [1, 2, 3, 4]
    assert list(score.get_ydata()) == judged.validation_scores_
    assert list(score.get_xdata()) == [0, 1, 2, 3, 4]
    assert [line.axes for line in (loss, score)] == list(display.axes_)
    assert [set(line.get_xdata()) for line in display.best_lines_] == [{judged.best_iter_}] * 2
    assert [line.axes for line in display.best_lines_] == list(display.axes_)
    assert judged.best_iter_ > 0
    for line in (loss, score):
        (at,) = line.get_markevery()
        assert line.get_xdata()[at] == judged.best_iter_
    assert display.axes_[1].get_ylabel() == "Held-out R²"


def left_by_pca(X_train, X, mean, k):
    """Return squared errors of rows by the components of others, and those of the mean."""
    components = PCA(k).fit(X_train).components_
    X = X - mean
    return ((X - X @ components.T @ components) ** 2).sum(), (X**2).sum()


def test_the_level_of_pca_is_scikit_learns(digits):
    X = digits[:1000]
    display = LossCurveDisplay.from_estimator(fitted(X, 4, max_iter=1))
    seed = check_random_state(0).randint(np.iinfo(np.int32).max)
    _, valid = next(ShuffleSplit(1, test_size=100, random_state=seed).split(X))
    left, total = left_by_pca(X, X[valid], X.mean(axis=0), 4)
    # held-out errors are means of float32
    assert display.start_line_.get_ydata() == pytest.approx([1 - left / total] * 2, abs=1e-5)
    assert display.start_line_.get_label() == "PCA"


def test_in_folds_the_level_is_that_of_pcas_of_four_fifths(images):
    display = LossCurveDisplay.from_estimator(fitted(images, 4, max_iter=1))
    seed = check_random_state(0).randint(np.iinfo(np.int32).max)
    folds = KFold(5, shuffle=True, random_state=seed).split(images)
    sums = [left_by_pca(images[a], images[b], images.mean(axis=0), 4) for a, b in folds]
    left, total = np.sum(sums, axis=0)
    assert display.start_line_.get_ydata()[0] == pytest.approx(1 - left / total, abs=1e-5)
    assert display.start_line_.get_ydata()[0] == display.score_line_.get_ydata()[0]


def test_where_rows_were_judged_in_folds_the_loss_ends_at_the_epoch_that_was_kept():
    display = LossCurveDisplay(
        loss_curve=[0.3, 0.2], validation_scores=[0.5, 0.6, 0.7, 0.65], best_iter=2
    ).plot()
    assert list(display.loss_line_.get_xdata()) == [1, 2]
    assert list(display.score_line_.get_xdata()) == [0, 1, 2, 3]
    assert "all rows" in display.axes_[0].get_ylabel()
    for line in (display.loss_line_, display.score_line_):
        (at,) = line.get_markevery()
        assert line.get_xdata()[at] == 2
    assert display.start_line_ is None


def test_without_a_judge_there_is_the_loss_alone(free):
    display = LossCurveDisplay.from_estimator(free)
    assert display.axes_.shape == (1,)
    assert display.score_line_ is display.start_line_ is None
    assert list(display.loss_line_.get_ydata()) == free.loss_curve_


def test_where_nothing_was_better_than_pca_there_are_the_scores_alone(images):
    noise = np.random.default_rng(0).standard_normal((60, 5))
    judged = fitted(noise, 2)
    assert judged.best_iter_ == 0
    assert judged.loss_curve_ == []
    display = LossCurveDisplay.from_estimator(judged)
    assert display.axes_.shape == (1,)
    assert display.loss_line_ is None
    assert list(display.score_line_.get_ydata()) == judged.validation_scores_
    assert display.score_line_.get_markevery() == [0]
    display = LossCurveDisplay.from_estimator(fitted(images, max_iter=0))
    assert (display.axes_[0].get_xticks() % 1 == 0).all()  # no fractions of epochs


def test_a_stream_has_an_epoch_for_each_call(images):
    stream = AutoencoderTransformer(2, hidden_layer_sizes=8, random_state=0)
    stream.partial_fit(images[:100]).partial_fit(images[100:])
    display = LossCurveDisplay.from_estimator(stream)
    assert list(display.loss_line_.get_ydata()) == stream.loss_curve_
    assert len(stream.loss_curve_) == 2


def test_where_no_epoch_was_run_there_is_nothing_to_draw(images):
    with pytest.raises(ValueError, match="must have run an epoch or held rows out"):
        LossCurveDisplay.from_estimator(fitted(images, max_iter=0, early_stopping=False))


@pytest.mark.parametrize(
    ("params", "start", "score"),
    [
        ({}, "PCA", "Held-out R²"),
        ({"alpha": 0, "penalty": "kl"}, "PCA", "Held-out R²"),
        ({"init": "random"}, None, "Held-out R²"),
        ({"warm_start": True}, "Start", "Held-out R²"),
        ({"loss": SquaredError()}, "PCA", "Held-out R²"),
        ({"loss": "huber"}, "PCA", "Held-out score"),
        ({"penalty": "kl"}, "PCA", "Held-out score"),
        ({"corruption": "gaussian"}, "PCA", "Held-out score"),
        ({"corruption": "gaussian", "corruption_level": 0}, "PCA", "Held-out R²"),
    ],
)
def test_what_is_judged_and_from_where_training_started_are_named(params, start, score, images):
    params = {"validation_fraction": 0.1, "max_iter": 1, **params}
    display = LossCurveDisplay.from_estimator(fitted(images, **params))
    assert display.start_name == start
    assert (display.start_line_ is None) == (start is None)
    assert display.axes_[-1].get_ylabel() == score


def test_a_fitted_start_and_a_table_with_categories_are_named(free, images, frame):
    going_on = fitted(images, init=free, max_iter=1)
    assert LossCurveDisplay.from_estimator(going_on).start_name == "Start"
    judged = fitted(frame, 2, max_iter=1)
    assert LossCurveDisplay.from_estimator(judged).score_name == "Held-out score"


# -------------------------------------------------------------------------------------- the codes


def test_two_components_are_one_scatter(images):
    estimator = fitted(images, 2)
    display = LatentSpaceDisplay.from_estimator(estimator, images)
    codes = estimator.transform(images)
    np.testing.assert_array_equal(display.scatters_[0, 0].get_offsets(), codes)
    assert display.axes_.shape == (1, 1)
    assert display.colorbar_ is None
    assert display.axes_[0, 0].get_legend() is None


def test_more_components_are_a_grid_of_pairs_and_the_first_four_of_many(images):
    estimator = fitted(images, 6, max_iter=0)
    codes = estimator.transform(images)
    display = LatentSpaceDisplay.from_estimator(estimator, images)
    assert display.axes_.shape == (3, 3)
    for (row, column), scatter in np.ndenumerate(display.scatters_):
        if column > row:
            assert scatter is None
            assert not display.axes_[row, column].axison
            continue
        np.testing.assert_array_equal(scatter.get_offsets(), codes[:, [column, row + 1]])
    assert [ax.get_xlabel() for ax in display.axes_[-1]] == [f"Component {i}" for i in range(3)]
    assert [ax.get_ylabel() for ax in display.axes_[:, 0]] == [f"Component {i}" for i in (1, 2, 3)]
    display = LatentSpaceDisplay.from_estimator(estimator, images, components=[5, 1])
    np.testing.assert_array_equal(display.scatters_[0, 0].get_offsets(), codes[:, [5, 1]])
    assert display.axes_[0, 0].get_xlabel() == "Component 5"
    assert display.axes_[0, 0].get_ylabel() == "Component 1"


def handles(ax):
    return {
        text.get_text(): mpl.colors.to_rgba(handle.get_color())
        for text, handle in zip(
            ax.get_legend().get_texts(), ax.get_legend().legend_handles, strict=True
        )
    }


@pytest.mark.parametrize(
    "y",
    [
        np.arange(200) % 3,
        (np.arange(200) % 3).astype(float),
        np.array(["one", "two", "three"])[np.arange(200) % 3],
        (np.arange(200) % 3).tolist(),
        pd.Series(np.arange(200) % 2 == 0),
        pd.Series(pd.Categorical(np.array(["b", "a"])[np.arange(200) % 2], ["b", "a"])),
        np.arange(200) % 15,
        [f"class {i % 30}" for i in range(200)],
    ],
    ids=["int", "float", "str", "list", "bool", "category", "15", "30"],
)
def test_classes_have_colours_and_a_legend(y, free, images):
    display = LatentSpaceDisplay.from_estimator(free, images, y)
    colors = handles(display.axes_[0, -1])
    names = [f"{value:g}" if isinstance(value, float) else str(value) for value in y]
    assert set(colors) == set(names)
    assert len(set(colors.values())) == len(colors)
    for scatter in (display.scatters_[0, 0], display.scatters_[1, 0], display.scatters_[1, 1]):
        np.testing.assert_allclose(scatter.get_facecolors(), [colors[name] for name in names])
    assert display.colorbar_ is None


@pytest.mark.parametrize(("n_classes", "n_names"), [(42, 42), (43, 0), (100, 0)])
def test_so_many_classes_have_no_legend_that_they_leave_room_for_the_picture(
    n_classes, n_names, free, images
):
    y = [f"class {i % n_classes}" for i in range(200)]
    display = LatentSpaceDisplay.from_estimator(free, images, y)
    legends = [ax.get_legend() for ax in display.axes_.flat if ax.get_legend()]
    assert sum(len(legend.get_texts()) for legend in legends) == n_names
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a layout that has no room
        display.figure_.canvas.draw()
    colors = display.scatters_[0, 0].get_facecolors()
    assert len(np.unique(colors, axis=0)) == n_classes


def test_classes_have_the_colours_of_the_style_and_the_order_of_their_dtype(free, images):
    y = pd.Series(pd.Categorical(np.array(["a", "b"])[np.arange(200) % 2], ["b", "a"]), name="kind")
    with plt.style.context("dark_background"):
        display = LatentSpaceDisplay.from_estimator(free, images, y)
        cycle = mpl.rcParams["axes.prop_cycle"].by_key()["color"]
    colors = handles(display.axes_[0, -1])
    assert list(colors) == ["b", "a"]
    assert list(colors.values()) == [mpl.colors.to_rgba(color) for color in cycle[:2]]
    assert display.axes_[0, -1].get_legend().get_title().get_text() == "kind"


@pytest.mark.parametrize("y", [np.linspace(0, 1, 200), np.arange(200) % 21], ids=["float", "21"])
def test_a_scale_has_a_colour_bar(y, free, images):
    display = LatentSpaceDisplay.from_estimator(free, images, y, y_name="far")
    np.testing.assert_array_equal(display.scatters_[1, 0].get_array(), y)
    assert display.colorbar_.mappable is display.scatters_[0, 0]
    assert display.colorbar_.ax.get_ylabel() == "far"
    assert all(ax.get_legend() is None for ax in display.axes_.flat)


def test_what_is_missing_in_the_target_is_grey(images):
    estimator = fitted(images, 2, max_iter=0)
    grey = mpl.colors.to_rgba("black", 0.4)
    y = np.where(np.arange(200) < 3, np.nan, np.arange(200) % 2)
    display = LatentSpaceDisplay.from_estimator(estimator, images, y)
    assert handles(display.axes_[0, 0])["missing"] == grey
    is_grey = (display.scatters_[0, 0].get_facecolors() == grey).all(axis=1)
    np.testing.assert_array_equal(is_grey, np.isnan(y))
    y = np.where(np.arange(200) < 3, np.nan, np.linspace(0, 1, 200))
    display = LatentSpaceDisplay.from_estimator(estimator, images, y)
    display.figure_.canvas.draw()  # only now values become colours
    is_grey = (display.scatters_[0, 0].get_facecolors() == grey).all(axis=1)
    np.testing.assert_array_equal(is_grey, np.isnan(y))
    assert not np.ma.getmaskarray(display.scatters_[0, 0].get_offsets()).any()


def test_one_component_is_a_histogram_stacked_by_class(free, images):
    codes = free.transform(images)[:, 1]
    y = np.arange(200) % 3
    expected = [np.histogram(codes[y == i], 30, (codes.min(), codes.max()))[0] for i in range(3)]
    display = LatentSpaceDisplay.from_estimator(free, images, y, components=1)
    counts = [[bar.get_height() for bar in bars] for bars in display.bars_]
    np.testing.assert_allclose(counts, expected)
    bottoms = [[bar.get_y() for bar in bars] for bars in display.bars_]
    np.testing.assert_allclose(bottoms, np.cumsum([np.zeros(30), *expected[:2]], axis=0))
    colors = [mpl.colors.to_rgba(bars[0].get_facecolor()) for bars in display.bars_]
    assert colors == list(handles(display.axes_[0, 0]).values())
    display = LatentSpaceDisplay.from_estimator(free, images, components=1)
    (bars,) = display.bars_
    np.testing.assert_allclose([bar.get_height() for bar in bars], np.sum(expected, axis=0))
    assert display.axes_[0, 0].get_xlabel() == "Component 1"


def test_one_component_stands_below_a_scale(images):
    estimator = fitted(images, 1, max_iter=0)
    y = pd.Series(np.linspace(0, 1, 200), name="height")
    display = LatentSpaceDisplay.from_estimator(estimator, images, y)
    points = np.column_stack([estimator.transform(images)[:, 0], y])
    np.testing.assert_array_equal(display.scatters_[0, 0].get_offsets(), points)
    assert display.axes_[0, 0].get_ylabel() == "height"


def test_codes_are_those_of_pipelines_frames_and_tables_with_gaps(pipeline, wine, mixed, frame):
    display = LatentSpaceDisplay.from_estimator(pipeline, wine, wine["alcohol"])
    np.testing.assert_array_equal(display.codes, pipeline.transform(wine))
    assert display.y_name == "alcohol"
    display = LatentSpaceDisplay.from_estimator(clone_with_pandas(pipeline, wine), wine)
    np.testing.assert_allclose(display.codes, pipeline.transform(wine), atol=1e-6)
    display = LatentSpaceDisplay.from_estimator(mixed, frame, frame["kind"])
    np.testing.assert_array_equal(display.codes, mixed.transform(frame))
    assert "missing" in handles(display.axes_[0, 0])


def clone_with_pandas(pipeline, X):
    return clone(pipeline).set_output(transform="pandas").fit(X)


@pytest.mark.parametrize("components", [[0, 0], [3], -1, [], [0.0], ["a"], [True, False]])
def test_components_that_do_not_exist_are_refused(components, free, images):
    for display in (LatentSpaceDisplay, LatentTraversalDisplay):
        with pytest.raises(ValueError, match=r"components must be .*n_components_ - 1=2, got"):
            from_estimator(display, free, images, components=components)


def test_a_target_of_another_length_is_refused_before_anything_is_computed(free, images):
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        LatentSpaceDisplay.from_estimator(free, np.full_like(images, np.inf), np.zeros(3))


# ---------------------------------------------------------------------------- what is reconstructed


def test_images_are_rows_their_reconstruction_and_that_of_scikit_learns_pca(free, images):
    rows = images[50:]
    display = ReconstructionDisplay.from_estimator(free, rows, image_shape=(8, 8))
    pca = PCA(3).fit(images)
    expected = [
        rows[:8],
        free.inverse_transform(free.transform(rows[:8])),
        pca.inverse_transform(pca.transform(rows[:8])),
    ]
    np.testing.assert_allclose(
        drawn(display.images_).reshape(3, 8, 64), expected, rtol=0, atol=ATOL
    )
    # the second is neither the first nor the third
    assert abs(expected[1] - expected[2]).max() > 1000 * ATOL
    limits = {(image.norm.vmin, image.norm.vmax) for image in display.images_.flat}
    assert limits == {(rows[:8].min(), rows[:8].max())}
    assert [ax.get_ylabel() for ax in display.axes_[:, 0]] == ["Input", "Autoencoder", "PCA"]


def test_profiles_are_the_same_rows_as_lines(free, images):
    display = ReconstructionDisplay.from_estimator(free, images, n_samples=2)
    assert display.axes_.shape == (2, 1)
    assert display.images_ is None
    for i, (given, found, linear) in enumerate(display.lines_):
        np.testing.assert_array_equal(given.get_ydata(), images[i])
        np.testing.assert_allclose(found.get_ydata(), free.reconstruct(images[i : i + 1])[0])
        np.testing.assert_array_equal(linear.get_ydata(), display.X_pca[i])
        assert [line.get_label() for line in display.lines_[i]] == ["Input", "Autoencoder", "PCA"]


def test_pca_can_be_left_out_and_four_profiles_are_the_most(free, images):
    display = ReconstructionDisplay.from_estimator(free, images, pca=False)
    assert display.X_pca is None
    assert [len(lines) for lines in display.lines_] == [2] * 4


def test_a_pipelines_rows_are_in_the_units_of_its_input(pipeline, wine):
    display = ReconstructionDisplay.from_estimator(pipeline, wine)
    rows = wine[:4]
    np.testing.assert_array_equal(display.X, rows)
    np.testing.assert_allclose(
        display.X_hat, pipeline.inverse_transform(pipeline.transform(rows)), rtol=1e-9
    )
    linear = make_pipeline(StandardScaler(), PCA(3)).fit(wine)
    # relative to columns that are up to some thousand
    np.testing.assert_allclose(
        display.X_pca, linear.inverse_transform(linear.transform(rows)), rtol=1e-5, atol=1e-4
    )
    labels = [label.get_text() for label in display.axes_[-1, 0].get_xticklabels()]
    assert labels == list(wine.columns)


def test_a_pipelines_rows_can_be_as_the_last_step_sees_them(pipeline, wine):
    display = ReconstructionDisplay.from_estimator(pipeline, wine, inverse_transform=False)
    seen = pipeline[0].transform(wine[:4])
    np.testing.assert_array_equal(display.X, seen)
    np.testing.assert_allclose(display.X_hat, pipeline[-1].reconstruct(seen), rtol=1e-9)
    assert list(display.feature_names) == list(wine.columns)
    traversal = LatentTraversalDisplay.from_estimator(pipeline, inverse_transform=False)
    back = LatentTraversalDisplay.from_estimator(pipeline)
    np.testing.assert_allclose(
        pipeline[0].inverse_transform(traversal.decoded.reshape(-1, 13)),
        back.decoded.reshape(-1, 13),
    )
    np.testing.assert_allclose(
        back.decoded[0, 0], pipeline.inverse_transform(codes_along(pipeline[-1], 0, -2))[0]
    )


def test_a_scaler_that_works_in_place_does_not_change_what_is_drawn(images):
    X = images.copy()
    scaled = make_pipeline(MinMaxScaler(copy=False), AutoencoderTransformer(2, max_iter=0))
    scaled.fit(X)
    given = images[:4].copy()
    display = ReconstructionDisplay.from_estimator(scaled, given)
    np.testing.assert_array_equal(display.X, images[:4])


def test_a_pipeline_without_a_way_back_is_refused_and_told_what_to_do(images):
    one_way = make_pipeline(
        make_column_transformer((StandardScaler(), slice(0, 64))),
        AutoencoderTransformer(2, max_iter=0),
    ).fit(images)
    for display in (ReconstructionDisplay, LatentTraversalDisplay):
        with pytest.raises(ValueError, match=r"\['columntransformer'\].*inverse_transform=False"):
            from_estimator(display, one_way, np.full_like(images, np.inf))
        from_estimator(display, one_way, images, inverse_transform=False)


def test_a_way_back_that_is_not_open_is_told_as_none_is(images):
    imputed = make_pipeline(SimpleImputer(), AutoencoderTransformer(2, max_iter=0)).fit(images)
    for display in (ReconstructionDisplay, LatentTraversalDisplay):
        with pytest.raises(ValueError, match=r"\['simpleimputer'\].*inverse_transform=False"):
            from_estimator(display, imputed, images)
        from_estimator(display, imputed, images, inverse_transform=False)


@pytest.mark.parametrize(
    "steps",
    [
        [OneHotEncoder(sparse_output=False)],
        [OrdinalEncoder()],
        [FunctionTransformer(lambda X: X.to_dict("records")), DictVectorizer()],
        [AutoencoderTransformer(3, max_iter=0)],
    ],
    ids=["one-hot", "ordinal", "dicts", "categories"],
)
def test_what_is_no_table_of_numbers_before_the_steps_has_no_way_back(steps):
    rng = np.random.RandomState(0)
    X = pd.DataFrame(rng.choice(list("uvw"), size=(60, 4)), columns=list("abcd"))
    fitted = make_pipeline(*steps, AutoencoderTransformer(2, max_iter=0)).fit(X)
    for display in (ReconstructionDisplay, LatentTraversalDisplay):
        with pytest.raises(ValueError, match=r"and numbers before.*inverse_transform=False"):
            from_estimator(display, fitted, X)
        from_estimator(display, fitted, X, inverse_transform=False)


def test_missing_entries_leave_gaps_in_the_rows_alone(free, images):
    gappy = images[:3].copy()
    gappy[:, 20:30] = np.nan
    display = ReconstructionDisplay.from_estimator(free, gappy, image_shape=(8, 8))
    shown = display.images_[0, 0].get_array()
    np.testing.assert_array_equal(np.ma.getmaskarray(shown).ravel(), np.isnan(gappy[0]))
    assert not np.ma.getmaskarray(drawn(display.images_[1:])).any()
    np.testing.assert_allclose(display.X_hat, free.reconstruct(gappy))
    assert display.images_[0, 0].get_cmap().get_bad()[3] == 1  # not seen through
    nothing = np.full((2, 64), np.nan)
    with pytest.warns(UserWarning, match="Nothing is known of 2 rows"):
        ReconstructionDisplay.from_estimator(free, nothing, image_shape=(8, 8))


def test_pca_of_a_table_with_gaps_is_the_start(images):
    gappy = np.where(np.random.default_rng(0).random(images.shape) < 0.1, np.nan, images)
    start, trained = (fitted(gappy, early_stopping=False, max_iter=n) for n in (0, 3))
    display = ReconstructionDisplay.from_estimator(trained, gappy)
    np.testing.assert_allclose(display.X_pca, start.reconstruct(gappy[:4]), rtol=0, atol=ATOL)
    assert abs(display.X_hat - display.X_pca).max() > 1000 * ATOL


@pytest.mark.parametrize(
    "params",
    [
        {"init": "random"},
        {"penalty": "kl"},
        {"penalty": "activity_l1"},
        {"tied_weights": True},
        {"linear_skip": False, "init": "random", "output_activation": "logistic"},
    ],
    ids=str,
)
def test_pca_does_not_depend_on_how_the_autoencoder_is_made(params, images):
    X = images / 16
    estimator = fitted(X, 3, early_stopping=False, **params)
    display = ReconstructionDisplay.from_estimator(estimator, X)
    pca = PCA(3).fit(X)
    expected = pca.inverse_transform(pca.transform(X[:4]))
    np.testing.assert_allclose(display.X_pca, expected, rtol=0, atol=ATOL / 16)
    np.testing.assert_allclose(display.X_hat, estimator.reconstruct(X[:4]))


def test_pca_of_a_stream_follows_the_rows():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 10)) * np.r_[1.8, np.ones(9)]
    stream = AutoencoderTransformer(1, hidden_layer_sizes=8, random_state=0)
    scores = [
        ExplainedVarianceDisplay.from_estimator(stream.partial_fit(part), X).pca_scores[0]
        for part in (X[:100], X[100:])
    ]
    of_all = PCA(1).fit(X).explained_variance_ratio_[0]
    # the mean and the units stay those of the first part
    assert scores[0] < of_all - 0.01
    assert scores[1] == pytest.approx(of_all, abs=0.1 * (of_all - scores[0]))


def test_colours_are_brought_to_what_imshow_takes():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (60, 12)).astype(float)
    estimator = fitted(X, 2, max_iter=0)
    X[1, 4] = np.nan
    display = ReconstructionDisplay.from_estimator(estimator, X, image_shape=(2, 2, 3))
    low, high = np.nanmin(X[:8]), np.nanmax(X[:8])
    units = (X[0].reshape(2, 2, 3) - low) / (high - low)
    np.testing.assert_allclose(display.images_[0, 0].get_array(), units)
    hole = display.images_[0, 1].get_array()[0, 1]
    np.testing.assert_allclose(hole, mpl.colors.to_rgb("C0"))
    found = (display.X_hat[3].reshape(2, 2, 3) - low) / (high - low)
    np.testing.assert_allclose(display.images_[1, 3].get_array(), found.clip(0, 1))


@pytest.mark.parametrize("shape", [(8, 7), (64,), 64, (2, 2, 16), (4, 4, 4), (8.0, 8.0), "8x8"])
def test_a_shape_that_no_image_has_is_refused_before_anything_is_computed(shape, free, images):
    for display in (ReconstructionDisplay, LatentTraversalDisplay):
        with pytest.raises(ValueError, match=r"image_shape must be .* 64, got"):
            from_estimator(display, free, np.full_like(images, np.inf), image_shape=shape)


def test_a_shape_is_that_of_the_rows_that_are_drawn(images):
    reduced = make_pipeline(PCA(16), AutoencoderTransformer(2, max_iter=0)).fit(images)
    display = ReconstructionDisplay.from_estimator(reduced, images, image_shape=(8, 8))
    assert display.images_[1, 0].get_array().shape == (8, 8)
    display = ReconstructionDisplay.from_estimator(
        reduced, images, image_shape=(4, 4), inverse_transform=False
    )
    assert display.images_[1, 0].get_array().shape == (4, 4)
    idle = make_pipeline("passthrough", *(step for _, step in reduced.steps))
    display = ReconstructionDisplay.from_estimator(idle, images, image_shape=(8, 8))
    assert display.images_[1, 0].get_array().shape == (8, 8)


def test_the_first_rows_of_a_frame_are_so_whatever_its_index(images):
    X = pd.DataFrame(images, index=np.arange(200, 0, -1) / 2)
    display = ReconstructionDisplay.from_estimator(fitted(X, 2, max_iter=0), X, n_samples=2)
    np.testing.assert_array_equal(display.X, images[:2])


def test_polars_frames_and_series_are_drawn_too(images):
    pl = pytest.importorskip("polars", reason="polars is not installed")
    X = pl.DataFrame(images, schema=[f"x{j}" for j in range(64)])
    estimator = fitted(X, 2, max_iter=0)
    display = ReconstructionDisplay.from_estimator(estimator, X)
    np.testing.assert_array_equal(display.X, images[:4])
    y = pl.Series("class", (np.arange(200) % 2).astype(str))
    display = LatentSpaceDisplay.from_estimator(estimator, X, y)
    assert list(handles(display.axes_[0, 0])) == ["0", "1"]
    assert display.y_name == "class"
    scaled = make_pipeline(StandardScaler(), AutoencoderTransformer(2, max_iter=0)).fit(X)
    np.testing.assert_array_equal(ReconstructionDisplay.from_estimator(scaled, X).X, images[:4])


@pytest.mark.parametrize("n_samples", [0, -1, 2.0, "all"])
def test_a_number_of_rows_that_is_none_is_refused(n_samples, free, images):
    with pytest.raises(ValueError, match="n_samples must be an integer of at least 1, got"):
        ReconstructionDisplay.from_estimator(free, images, n_samples=n_samples)


def test_sparse_tables_and_lists_are_drawn_as_dense_ones(images):
    estimator = fitted(images, 2, max_iter=0)
    dense = ReconstructionDisplay.from_estimator(estimator, images)
    for X in (scipy.sparse.csr_array(images), scipy.sparse.coo_array(images), images.tolist()):
        display = ReconstructionDisplay.from_estimator(estimator, X)
        np.testing.assert_array_equal(display.X, dense.X)
        np.testing.assert_allclose(display.X_hat, dense.X_hat)


def texts(ax):
    """Return what is written in axes, by its colour, from left to right."""
    written = {}
    for text in sorted(ax.texts, key=lambda text: text.get_position()[0]):
        written.setdefault(mpl.colors.to_rgba(text.get_color()), []).append(text.get_text())
    return written


def test_categories_are_written_and_numbers_are_in_standard_deviations(mixed, frame):
    display = ReconstructionDisplay.from_estimator(mixed, frame, n_samples=12)
    found = mixed.reconstruct(frame[:12])
    start = fitted(frame, 2, early_stopping=False, max_iter=0).reconstruct(frame[:12])
    tables = frame[:12], found, start
    for i, (ax, lines) in enumerate(zip(display.axes_[:, 0], display.lines_, strict=True)):
        written = texts(ax)
        for line, table in zip(lines, tables, strict=True):
            row = table.iloc[i]
            names = ["missing" if pd.isna(row[name]) else str(row[name]) for name in frame]
            assert written[mpl.colors.to_rgba(line.get_color())] == [names[1], names[3]]
            units = (row.iloc[[0, 2]].astype(float) - mixed.mean_[[0, 2]]) / mixed.scale_[[0, 2]]
            values = line.get_ydata()
            np.testing.assert_allclose(values[[0, 2]], units, rtol=1e-4, atol=1e-4)
            assert np.isnan(values[[1, 3]]).all()
    assert frame[:12][["kind", "lift"]].isna().any(axis=None)
    heights = {text.get_position()[1] for text in display.axes_[0, 0].texts}
    assert len(heights) == 3
    assert 0.1 < min(heights) < max(heights) < 0.9
    assert "std. dev." in display.axes_[0, 0].get_ylabel()
    with pytest.raises(ValueError, match="image_shape must be None where columns are categories"):
        ReconstructionDisplay.from_estimator(mixed, frame, image_shape=(2, 2))


# ------------------------------------------------------------------------------- what is explained


def test_on_training_rows_both_lines_are_cumulative_ratios_and_pcas_scikit_learns(free, images):
    display = ExplainedVarianceDisplay.from_estimator(free, images)
    np.testing.assert_allclose(
        display.line_.get_ydata(), np.cumsum(free.explained_variance_ratio_), atol=1e-5
    )
    pca = PCA(3).fit(images)
    np.testing.assert_allclose(
        display.pca_line_.get_ydata(), np.cumsum(pca.explained_variance_ratio_), atol=1e-5
    )
    assert list(display.line_.get_xdata()) == [1, 2, 3]


def test_of_other_rows_the_last_is_the_score(free, digits, images):
    rows = digits[500:700]
    display = ExplainedVarianceDisplay.from_estimator(free, rows)
    assert display.scores[-1] == pytest.approx(free.score(rows))
    pca = PCA(3).fit(images)
    for n, score in enumerate(display.pca_scores, start=1):
        codes = pca.transform(rows)
        codes[:, n:] = 0
        left = ((rows - pca.inverse_transform(codes)) ** 2).sum()
        total = ((rows - images.mean(axis=0)) ** 2).sum()
        assert score == pytest.approx(1 - left / total, abs=1e-5)


def test_without_rows_it_is_what_fit_found(free):
    display = ExplainedVarianceDisplay.from_estimator(free)
    np.testing.assert_array_equal(
        display.line_.get_ydata(), np.cumsum(free.explained_variance_ratio_)
    )
    assert display.pca_line_ is None


@pytest.mark.parametrize("penalty", ["activity_l1", "kl"])
def test_it_is_so_where_codes_keep_their_axes(penalty, images):
    estimator = fitted(images, penalty=penalty, early_stopping=False)
    display = ExplainedVarianceDisplay.from_estimator(estimator, images)
    np.testing.assert_allclose(
        display.scores, np.cumsum(estimator.explained_variance_ratio_), atol=1e-5
    )


def test_it_is_so_in_pipelines_and_in_tables_with_categories(pipeline, wine, mixed, frame):
    display = ExplainedVarianceDisplay.from_estimator(pipeline, wine)
    ratios = pipeline[-1].explained_variance_ratio_
    np.testing.assert_allclose(display.scores, np.cumsum(ratios), atol=1e-5)
    linear = make_pipeline(StandardScaler(), PCA(3)).fit(wine)
    ratios = linear[-1].explained_variance_ratio_
    np.testing.assert_allclose(display.pca_scores, np.cumsum(ratios), atol=1e-5)
    display = ExplainedVarianceDisplay.from_estimator(mixed, frame)
    np.testing.assert_allclose(
        display.scores, np.cumsum(mixed.explained_variance_ratio_), atol=1e-5
    )
    start = fitted(frame, 2, early_stopping=False, max_iter=0)
    np.testing.assert_allclose(
        display.pca_scores, np.cumsum(start.explained_variance_ratio_), atol=1e-5
    )
    assert display.scores[-1] > display.pca_scores[-1] + 0.001


def test_negative_shares_are_within_the_picture():
    display = ExplainedVarianceDisplay(scores=[-0.3, 0.5]).plot()
    assert display.ax_.get_ylim()[0] < -0.3
    assert display.ax_.get_ylim()[1] == 1


# --------------------------------------------------------------------------- along the components


def codes_along(autoencoder, component, steps, center=0.0):
    codes = np.zeros((np.size(steps), autoencoder.n_components_)) + center
    codes[:, component] += steps * np.sqrt(autoencoder.explained_variance_[component])
    return codes


def test_images_are_decoded_codes(free):
    display = LatentTraversalDisplay.from_estimator(free, image_shape=(8, 8))
    steps = np.linspace(-2, 2, 7)
    assert display.images_.shape == (3, 7)
    for component in range(3):
        expected = free.inverse_transform(codes_along(free, component, steps))
        np.testing.assert_allclose(
            drawn(display.images_[component]).reshape(7, 64), expected, rtol=1e-9
        )
    titles = [ax.get_title() for ax in display.axes_[0]]
    assert titles == ["−2 σ", "−1.3 σ", "−0.67 σ", "0", "+0.67 σ", "+1.3 σ", "+2 σ"]
    limits = {(image.norm.vmin, image.norm.vmax) for image in display.images_.flat}
    assert limits == {(display.decoded.min(), display.decoded.max())}


@pytest.mark.parametrize("n_steps", [3, 5, 7, 9])
@pytest.mark.parametrize("extent", [0.1, 0.7, 0.9, 1.1, 3.0])
def test_steps_are_symmetric_about_exactly_none(free, extent, n_steps):
    display = LatentTraversalDisplay.from_estimator(free, extent=extent, n_steps=n_steps)
    assert np.array_equal(display.steps, -display.steps[::-1])
    np.testing.assert_allclose(display.steps, np.linspace(-extent, extent, n_steps), atol=1e-15)


def test_profiles_are_too_from_any_center_as_far_as_is_asked_for(free, images):
    center = free.transform(images[:1])[0]
    display = LatentTraversalDisplay.from_estimator(
        free, components=[2, 0], center=center, extent=0.5, n_steps=3
    )
    for lines, component in zip(display.lines_, [2, 0], strict=True):
        codes = codes_along(free, component, np.array([-0.5, 0, 0.5]), center)
        expected = free.inverse_transform(codes)
        np.testing.assert_allclose([line.get_ydata() for line in lines], expected)
        np.testing.assert_allclose(expected[1], free.reconstruct(images[:1])[0])
    assert [ax.get_ylabel() for ax in display.axes_.flat] == ["Component 2", "Component 0"]
    low, middle, high = (mpl.colors.to_rgba(line.get_color()) for line in display.lines_[0])
    assert [low, middle, high] == [mpl.colors.to_rgba(c) for c in ("C0", "black", "C1")]


def test_of_many_components_the_first_are_drawn(images):
    many = fitted(images, 10, max_iter=0)
    display = LatentTraversalDisplay.from_estimator(many, image_shape=(8, 8))
    assert display.axes_.shape == (8, 7)
    assert LatentTraversalDisplay.from_estimator(many).axes_.shape == (4, 1)


def test_categories_are_written_at_each_step(mixed, frame):
    display = LatentTraversalDisplay.from_estimator(mixed)
    steps = np.linspace(-2, 2, 5)
    for component, (ax, lines) in enumerate(zip(display.axes_[:, 0], display.lines_, strict=True)):
        decoded = mixed.inverse_transform(codes_along(mixed, component, steps))
        written = texts(ax)
        for line, row in zip(lines, decoded.itertuples(index=False), strict=True):
            names = written[mpl.colors.to_rgba(line.get_color())]
            assert names == [str(row.kind), str(row.lift)]
    assert decoded["kind"].nunique() + decoded["lift"].nunique() > 2 or component == 1


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"center": [0.0, 0.0]}, r"center must be one code of n_components_=3 .* shape \(2,\)"),
        ({"center": [0.0, 0.0, np.nan]}, "center must be one code"),
        ({"center": [[0.0, 0.0, 0.0]]}, "center must be one code"),
        ({"extent": 0}, "extent must be a positive finite number, got 0"),
        ({"extent": np.inf}, "extent must be a positive finite number"),
        ({"extent": "far"}, "extent must be a positive finite number"),
        ({"n_steps": 1}, "n_steps must be an integer of at least 2, got 1"),
    ],
    ids=str,
)
def test_what_is_no_way_through_the_codes_is_refused(params, message, free):
    with pytest.raises(ValueError, match=message):
        LatentTraversalDisplay.from_estimator(free, **params)
    assert plt.get_fignums() == []


# -------------------------------------------------------------------------- keyword arguments


def test_artists_take_keyword_arguments_and_their_aliases(free, digits, images):
    judged = fitted(digits[:1000], max_iter=1)
    display = LossCurveDisplay.from_estimator(
        judged,
        loss_kwargs={"c": "red"},
        score_kwargs={"lw": 7},
        start_kwargs={"ls": ":"},
        best_kwargs={"color": "blue"},
    )
    assert display.loss_line_.get_color() == "red"
    assert display.score_line_.get_linewidth() == 7
    assert display.start_line_.get_linestyle() == ":"
    assert {line.get_color() for line in display.best_lines_} == {"blue"}
    display = LatentSpaceDisplay.from_estimator(free, images, scatter_kwargs={"s": 3})
    assert list(display.scatters_[0, 0].get_sizes()) == [3]
    scale = np.linspace(0, 1, 200)
    display = LatentSpaceDisplay.from_estimator(
        free, images, scale, scatter_kwargs={"cmap": "plasma"}
    )
    assert display.scatters_[0, 0].get_cmap().name == "plasma"
    display = LatentSpaceDisplay.from_estimator(free, images, components=0, hist_kwargs={"bins": 4})
    assert len(display.bars_[0]) == 4
    display = ReconstructionDisplay.from_estimator(
        free, images, image_shape=(8, 8), image_kwargs={"cmap": "gray_r", "vmin": -1}
    )
    assert display.images_[0, 0].get_cmap().name == "gray_r"
    assert display.images_[2, 3].norm.vmin == -1
    for display in (ReconstructionDisplay, LatentTraversalDisplay):
        lines = from_estimator(display, free, images, line_kwargs={"lw": 3}).lines_
        assert {line.get_linewidth() for some in lines for line in some} == {3}
    display = ExplainedVarianceDisplay.from_estimator(
        free, images, line_kwargs={"c": "red"}, pca_kwargs={"c": "blue"}
    )
    assert (display.line_.get_color(), display.pca_line_.get_color()) == ("red", "blue")


@pytest.mark.parametrize("display", DISPLAYS)
def test_no_warning_comes_of_drawing(display, mixed, frame):
    from_estimator(display, mixed, frame).figure_.canvas.draw()


def test_numbers_between_categories_are_points(mixed, frame):
    for display in (ReconstructionDisplay, LatentTraversalDisplay):
        lines = from_estimator(display, mixed, frame).lines_
        for line in [line for some in lines for line in some][1:]:
            known = ~np.isnan(line.get_ydata())
            assert list(known) == [True, False, True, False]  # size, kind, rent, lift
            assert line.get_marker() == "."
            assert line.get_markevery() in (None, [0, 2])  # of the input all are
        lines = from_estimator(display, mixed, frame, line_kwargs={"marker": "x"}).lines_
        assert {line.get_marker() for some in lines for line in some} == {"x"}


DOLLARS = ["$0-$25k", "$5_$"]  # the second is no formula: to typeset it would be an error


@pytest.fixture(scope="module")
def priced():
    u = np.random.default_rng(0).standard_normal(60)
    return pd.DataFrame({"$$ of (US$": u, "income": np.where(u > 0, *DOLLARS), "age": u**2})


def test_dollars_are_dollars(priced):
    estimator = fitted(priced, 2, max_iter=1)
    for display in (ReconstructionDisplay, LatentTraversalDisplay):
        drawn = from_estimator(display, estimator, priced)
        drawn.figure_.canvas.draw()
        texts = [*drawn.axes_.flat[0].texts, *drawn.axes_.flat[-1].get_xticklabels()]
        assert {"$$ of (US$", "income"} <= {text.get_text() for text in texts}
        assert not any(text.get_parse_math() for text in texts)
    for y in (priced["income"], priced["$$ of (US$"]):
        display = LatentSpaceDisplay.from_estimator(estimator, priced, y)
        display.figure_.canvas.draw()
    display = LatentSpaceDisplay.from_estimator(
        estimator, priced, priced["$$ of (US$"], components=0
    )
    display.figure_.canvas.draw()
    assert display.axes_[0, 0].get_ylabel() == "$$ of (US$"


def test_names_of_categories_do_not_overlap():
    rng = np.random.default_rng(0)
    names = ["male", "female", "of an unknown sex"]
    X = pd.DataFrame({f"k{i}": rng.choice(names, 60) for i in range(8)})
    display = ReconstructionDisplay.from_estimator(fitted(X, 2, max_iter=1), X)
    display.figure_.set_size_inches(6, 5)
    display.figure_.canvas.draw()
    texts = display.axes_.flat[0].texts
    boxes = [text.get_window_extent() for text in texts]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert {"male"} < {text.get_text() for text in texts}  # as there is room for it


def test_codes_may_be_a_frame(free, images):
    codes = free.transform(images)
    display = LatentSpaceDisplay(codes=pd.DataFrame(codes)).plot()
    assert len(display.scatters_[0, 0].get_offsets()) == len(codes)
