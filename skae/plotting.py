"""Pictures of fitted autoencoders, in the form of scikit-learn's displays.

`from_estimator` computes what is drawn and draws it, `plot` draws it again; what is drawn are
attributes of the display, and the axes and artists too. All take an
:class:`~skae.AutoencoderTransformer` or a :class:`~sklearn.pipeline.Pipeline` that ends in one, and
leave it as it is. They need matplotlib, which ``pip install "skae[plot]"`` brings, and leave its
settings as they are: colours are those of the style in use. Figures of your own have room for names
and legends with ``layout="constrained"``.

Where PCA is drawn beside, it is the one of the rows given to `fit`, from which training starts: its
components stay in the estimator, so that no training rows are asked for. Beside categories it is
the factor analysis of mixed data. In streams it has followed all rows, as far as the estimator's
linear paths have; where training went on from an earlier fit it is that of the first rows.
"""

import math
from numbers import Integral, Real
from types import SimpleNamespace

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.validation import check_is_fitted
from torch import nn

from skae._autoencoder import AutoencoderTransformer, filled_of
from skae._axes import turned
from skae._frames import is_pandas
from skae.modules import Autoencoder

__all__ = [
    "ExplainedVarianceDisplay",
    "LatentSpaceDisplay",
    "LatentTraversalDisplay",
    "LossCurveDisplay",
    "ReconstructionDisplay",
]

# The colour of missing entries of images, none of those of grey ones.
_MISSING = "C0"
# What a page has room for, where users do not say how many.
_MAX_IMAGES, _MAX_PROFILES, _MAX_PAIRED = 8, 4, 4
# Numbers with more different values are a scale, not classes.
_MAX_CLASSES = 20
# Rows of a legend beside a whole picture; within a part of it there are half as many.
_MAX_LEGEND = 14
# Names in a legend. With more there is none: it would leave no room for the picture.
_MOST_LEGEND = 3 * _MAX_LEGEND
# Names of more features would run into each other.
_MAX_NAMES = 30


# ------------------------------------------------------------------------- what estimators know


class _Fitted:
    """A fitted autoencoder, and what a pipeline does before it."""

    def __init__(self, estimator, inverse_transform=True):
        self.estimator, self.autoencoder, self.before = estimator, estimator, None
        if isinstance(estimator, Pipeline):
            self.autoencoder = estimator[-1]
            self.before = estimator[:-1] if len(estimator) > 1 else None
        if not isinstance(self.autoencoder, AutoencoderTransformer):
            raise ValueError(
                "estimator must be a fitted AutoencoderTransformer, or a Pipeline that ends in one,"
                f" got {type(self.autoencoder).__name__}; of a search pass best_estimator_."
            )
        check_is_fitted(self.autoencoder)
        self.categories = self.autoencoder._known_categories
        # whether decoded rows are brought to the units of the pipeline's input
        self.goes_back = bool(
            inverse_transform and self.before is not None and self.categories is None
        )

    @property
    def feature_names(self):
        """The names of the features that are drawn, or None."""
        seen = self.estimator if self.goes_back else self.autoencoder
        if self.before is None or self.goes_back or hasattr(seen, "feature_names_in_"):
            return getattr(seen, "feature_names_in_", None)
        try:
            return self.before.get_feature_names_out()
        except AttributeError:  # not all transformers know of names
            return None

    def check_drawable(self, image_shape):
        """Refuse rows that cannot be brought back to what is drawn, or are no such images."""
        if self.goes_back and not hasattr(self.before, "inverse_transform"):
            raise self._no_way_back()
        if image_shape is None:
            return
        if self.categories is not None:
            raise ValueError(
                f"image_shape must be None where columns are categories, got {image_shape}."
            )
        steps = [step for _, step in self.before.steps] if self.goes_back else []
        numbers = [getattr(step, "n_features_in_", None) for step in [*steps, self.autoencoder]]
        # some steps pass on what they get without counting
        _check_image_shape(image_shape, next(n for n in numbers if n is not None))

    def passed_on(self, X):
        """Return what the last step of a pipeline is given."""
        return X if self.before is None else self.before.transform(X)

    def rows(self, X):
        """Return rows as floats, as the autoencoder sees them: with codes for categories."""
        return self.autoencoder._validated(self.passed_on(X))

    def seen(self, X):
        """Return rows in the units in which they are drawn, and as the autoencoder sees them."""
        if not self.goes_back:
            rows = self.rows(X)
            return self.drawn(rows), rows
        try:
            # a copy, as steps may work in place
            given = check_array(
                X, accept_sparse=True, dtype=np.float64, ensure_all_finite="allow-nan", copy=True
            )
        except (TypeError, ValueError) as error:
            self.rows(X)  # says what is wrong with X, if it is not that steps make numbers of it
            raise self._no_way_back() from error
        return given.toarray() if scipy.sparse.issparse(given) else given, self.rows(X)

    def codes(self, X):
        return np.asarray(self.autoencoder.transform(self.passed_on(X)))

    def drawn(self, rows):
        """Return rows of the autoencoder in the units in which they are drawn.

        Where columns are categories numbers have no common unit but their standard deviations.
        """
        if scipy.sparse.issparse(rows):
            rows = rows.toarray()
        if self.categories is not None:
            return (rows - self.autoencoder.mean_) / self.autoencoder.scale_
        if not self.goes_back:
            return rows
        try:
            drawn = np.asarray(self.before.inverse_transform(rows))
        # some have it, and work only as they were set up
        except (IndexError, TypeError, ValueError) as error:
            raise self._no_way_back() from error
        if drawn.dtype.kind not in "fiub" or drawn.ndim != 2:
            raise self._no_way_back()
        return drawn

    def _no_way_back(self):
        return ValueError(
            "estimator must have inverse_transform in all steps of the pipeline, and numbers before"
            f" them, got {[name for name, _ in self.before.steps]} before the last; set"
            " inverse_transform=False for a picture of what the last step sees."
        )


def _check_image_shape(image_shape, n_features):
    shape = tuple(np.atleast_1d(image_shape))
    is_shape = len(shape) in (2, 3) and all(isinstance(n, Integral) and n > 0 for n in shape)
    if not is_shape or shape[2:] not in ((), (3,)) or math.prod(shape) != n_features:
        raise ValueError(
            "image_shape must be (height, width) or (height, width, 3) and have as many values as"
            f" X has features, {n_features}, got {image_shape!r}."
        )


def _n_drawn(image_shape):
    return _MAX_PROFILES if image_shape is None else _MAX_IMAGES


def _checked_count(name, value, default, least=1):
    if value is None:
        return default
    if not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}.")
    return value


def _checked_components(components, n_components, n_most):
    """Return which components are drawn: those asked for, or the first."""
    if components is None:
        return list(range(min(n_components, n_most)))
    chosen = np.atleast_1d(components).tolist()
    different = len(set(chosen)) == len(chosen) > 0
    if not different or not all(type(i) is int and 0 <= i < n_components for i in chosen):
        raise ValueError(
            f"components must be different integers from 0 to n_components_ - 1={n_components - 1},"
            f" got {components!r}."
        )
    return chosen


def _checked_center(center, n_components):
    if center is None:
        return np.zeros(n_components)
    code = np.asarray(center, dtype=np.float64)
    if code.shape != (n_components,) or not np.isfinite(code).all():
        raise ValueError(
            f"center must be one code of n_components_={n_components} finite numbers, got an array"
            f" of shape {code.shape}; pass for example transform(X)[0]."
        )
    return code


def _first(X, n):
    if is_pandas(X):  # which slices by labels where these are floats
        return X.iloc[:n]
    return (X.tocsr() if scipy.sparse.issparse(X) else X)[:n]


def _like(autoencoder, module):
    """Return an estimator that maps rows by other networks, and is otherwise the same."""
    other = object.__new__(type(autoencoder))  # copy.copy writes and reads the model
    vars(other).update(vars(autoencoder))
    module = module.to(autoencoder.device_)
    other.net_ = SimpleNamespace(module_=module, device=autoencoder.net_.device)
    return other


def _pca_of(autoencoder):
    """Return an estimator that is the PCA of the rows that an autoencoder was fitted to."""
    module = autoencoder.net_.module_
    components = filled_of(module).components
    if autoencoder._stream_pca is not None:
        components = torch.from_numpy(autoencoder._stream_pca.components)
    output = module.output if autoencoder._known_categories is not None else None
    nothing = Autoencoder(nn.Identity(), nn.Identity(), output, module.input)
    components = components.cpu().float()
    return _like(autoencoder, turned(nothing, components, torch.zeros_like(components[0])))


def _scores_by_components(autoencoder, rows):
    """Return the scores of the first component alone, of the first two, …, of all."""
    module = autoencoder.net_.module_
    n_components = module.encoder[-1].out_features
    axes = torch.eye(n_components, dtype=torch.float32)
    return np.array(
        [
            _like(autoencoder, turned(module, axes[:n], torch.zeros_like(axes[0])))._score(rows)
            for n in range(1, n_components + 1)
        ]
    )


# ------------------------------------------------------------------------------ axes and artists


def _pyplot(display):
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        name = display.__name__ if isinstance(display, type) else type(display).__name__
        raise ImportError(
            f'{name} needs matplotlib, which is not installed; pip install "skae[plot]".'
        ) from error
    return plt


def _grid(plt, ax, shape, height, **options):
    """Return a grid of axes: of a new figure, in the place of one, or those that are given."""
    if ax is None:
        size = plt.rcParams["figure.figsize"][0], height
        _, axes = plt.subplots(
            *shape, squeeze=False, figsize=size, **{"layout": "constrained", **options}
        )
        return axes
    options.pop("layout", None)
    if isinstance(ax, plt.Axes):
        if shape == (1, 1):
            return np.array([[ax]])
        ax.set_axis_off()
        return _grid_in_place_of(ax, shape).subplots(squeeze=False, **options)
    axes = np.asarray(ax, dtype=object)
    if not all(isinstance(one, plt.Axes) for one in axes.flat):
        raise ValueError(f"ax must be Matplotlib's axes, got {ax!r}; pass what plt.subplots gave.")
    if axes.size != math.prod(shape):
        raise ValueError(f"ax must be one axes or {math.prod(shape)}, got {axes.size}.")
    return axes.reshape(shape)


def _grid_in_place_of(ax, shape):
    spec = ax.get_subplotspec()
    if spec is not None:
        return spec.subgridspec(*shape)
    box = ax.get_position()
    return ax.figure.add_gridspec(*shape, left=box.x0, right=box.x1, bottom=box.y0, top=box.y1)


def _line_style(defaults, given):
    """Return the keyword arguments of a line, whatever aliases users have for them."""
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D

    return {**defaults, **normalize_kwargs(given or {}, Line2D)}


def _neutral(plt):
    return plt.rcParams["text.color"]


def _integer_ticks(plt):
    return plt.MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)


def _beside(ax, handles, title):
    """Draw a legend on the right of axes, or within empty ones, where it covers no data."""
    per_column = _MAX_LEGEND if ax.axison else _MAX_LEGEND // 2
    legend = ax.legend(
        handles=handles,
        title=title,
        loc="upper left",
        bbox_to_anchor=(1 if ax.axison else 0, 1),
        ncols=math.ceil(len(handles) / per_column),
        borderaxespad=0.2,
        frameon=False,
    )
    for text in (*legend.get_texts(), legend.get_title()):
        text.set_parse_math(False)
    legend.set_in_layout(ax.axison)  # within empty ones it takes no room from others


def _in_colors(image, low, high):
    """Return a coloured image as imshow takes it: from 0 to 1, and without missing entries."""
    image = np.clip((image - low) / ((high - low) or 1), 0, 1)
    missing = np.isnan(image).any(axis=2, keepdims=True)
    return np.where(missing, _rgba(_MISSING)[0, :3], image)


def _write(ax, x, height, text, color):
    """Write at a place of the x axis and a share of the height."""
    where = ax.get_xaxis_transform()
    style = {"size": "small", "ha": "center", "va": "center", "parse_math": False}
    ax.text(x, height, text, color=color, transform=where, **style)


def _alone(values):
    """Return the places of values that have no neighbours."""
    known = np.pad(~np.isnan(values), 1)
    return np.flatnonzero(known[1:-1] & ~known[:-2] & ~known[2:]).tolist()


def _shortened(name, inches):
    """Return of a name what there is room for."""
    n_most = max(int(inches / 0.08), 2)  # of a small letter
    return name if len(name) <= n_most else f"{name[: n_most - 1]}…"


def _category(code, categories):
    return "missing" if np.isnan(code) or not len(categories) else str(categories[int(code) - 1])


# --------------------------------------------------------------------------------- the displays


class LossCurveDisplay:
    """Training loss and held-out score by epoch.

    Two axes, one below the other, share the epochs, as the two are in different units. It is
    recommended to use :meth:`from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    loss_curve : array-like of shape (n_epochs,)
        Training loss of the epochs 1, 2, …
    validation_scores : array-like of shape (n_epochs + 1,), default=None
        Held-out score of the epochs 0, 1, …, where 0 is before training; None where no rows were
        held out. There can be more epochs than have a training loss.
    best_iter : int, default=None
        The epoch whose weights were kept, to be marked.
    start_name : str, default=None
        What training started from; with it the level of epoch 0 is drawn.
    score_name : str, default='Held-out R²'

    Attributes
    ----------
    axes_ : ndarray of Axes of shape (n_axes,)
        One for the loss and one for the scores; only one where there is nothing to draw in the
        other.
    figure_ : Figure
    loss_line_ : Line2D or None
        The training loss.
    score_line_ : Line2D or None
        The held-out scores.
    start_line_ : Line2D or None
        The level of the start.
    best_lines_ : list of Line2D
        The epoch that was kept, in each of the axes.

    See Also
    --------
    ExplainedVarianceDisplay : How much each number of components explains.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import AutoencoderTransformer
    >>> from skae.plotting import LossCurveDisplay
    >>> X = load_iris().data
    >>> autoencoder = AutoencoderTransformer(early_stopping=False, max_iter=5).fit(X)
    >>> display = LossCurveDisplay.from_estimator(autoencoder)
    >>> len(display.loss_line_.get_ydata())
    5
    """

    def __init__(
        self,
        *,
        loss_curve,
        validation_scores=None,
        best_iter=None,
        start_name=None,
        score_name="Held-out R²",
    ):
        self.loss_curve = loss_curve
        self.validation_scores = validation_scores
        self.best_iter = best_iter
        self.start_name = start_name
        self.score_name = score_name

    @classmethod
    def from_estimator(
        cls,
        estimator,
        *,
        ax=None,
        loss_kwargs=None,
        score_kwargs=None,
        start_kwargs=None,
        best_kwargs=None,
    ):
        """Draw how an autoencoder was trained.

        Parameters
        ----------
        estimator : AutoencoderTransformer or Pipeline
            Fitted; a pipeline must end in an AutoencoderTransformer. Fewer than 1000 rows are by
            default judged in folds: the scores are then of networks that were trained for them
            alone, and the loss is that of all rows, which were trained for as many epochs as were
            best. After `partial_fit` each call is an epoch.
        ax : Axes or array-like of Axes, default=None
            Where to draw: one, which is divided, or as many as there are to draw. None is a new
            figure.
        loss_kwargs, score_kwargs, start_kwargs, best_kwargs : dict, default=None
            Keyword arguments of matplotlib's ``plot`` for the two curves, of ``axhline`` for the
            level of the start, and of ``axvline`` for the kept epoch.

        Returns
        -------
        display : LossCurveDisplay

        Raises
        ------
        ValueError
            If the estimator is no autoencoder, or no epoch was run and no rows were held out.
        NotFittedError
            If it is not fitted.
        ImportError
            If matplotlib is not installed.
        """
        _pyplot(cls)
        autoencoder = _Fitted(estimator).autoencoder
        display = cls(
            loss_curve=autoencoder.loss_curve_,
            validation_scores=autoencoder.validation_scores_,
            best_iter=autoencoder.best_iter_,
            start_name=_start_name(autoencoder),
            score_name="Held-out R²" if _judges_by_r2(autoencoder) else "Held-out score",
        )
        return display.plot(
            ax=ax,
            loss_kwargs=loss_kwargs,
            score_kwargs=score_kwargs,
            start_kwargs=start_kwargs,
            best_kwargs=best_kwargs,
        )

    def plot(
        self,
        ax=None,
        *,
        loss_kwargs=None,
        score_kwargs=None,
        start_kwargs=None,
        best_kwargs=None,
    ):
        """Draw the display.

        Parameters
        ----------
        ax : Axes or array-like of Axes, default=None
            Where to draw: one, which is divided, or as many as there are to draw. None is a new
            figure.
        loss_kwargs, score_kwargs, start_kwargs, best_kwargs : dict, default=None
            Keyword arguments of matplotlib's ``plot`` for the two curves, of ``axhline`` for the
            level of the start, and of ``axvline`` for the kept epoch.

        Returns
        -------
        display : LossCurveDisplay
            Itself.

        Raises
        ------
        ValueError
            If there is nothing to draw.
        """
        plt = _pyplot(self)
        has_scores = self.validation_scores is not None
        n_axes = bool(len(self.loss_curve)) + has_scores
        if not n_axes:
            raise ValueError(
                "estimator must have run an epoch or held rows out, got neither; fit it with"
                " max_iter of at least 1."
            )
        axes = _grid(plt, ax, (n_axes, 1), 0.8 + 1.8 * n_axes, sharex=True)[:, 0]
        self.axes_, self.figure_ = axes, axes[0].figure
        self.loss_line_ = self.score_line_ = self.start_line_ = None
        if len(self.loss_curve):
            self._plot_loss(axes[0], loss_kwargs)
        if has_scores:
            self._plot_scores(plt, axes[-1], score_kwargs, start_kwargs)
        self._mark_best(plt, best_kwargs)
        axes[-1].set_xlabel("Epoch")
        axes[-1].xaxis.set_major_locator(_integer_ticks(plt))
        return self

    def _plot_loss(self, ax, loss_kwargs):
        self.loss_line_ = self._curve(ax, self.loss_curve, 1, "C0", loss_kwargs)
        in_folds = (
            self.validation_scores is not None
            and len(self.loss_curve) < len(self.validation_scores) - 1
        )
        ax.set_ylabel("Training loss\n(of all rows)" if in_folds else "Training loss")

    def _plot_scores(self, plt, ax, score_kwargs, start_kwargs):
        self.score_line_ = self._curve(ax, self.validation_scores, 0, "C1", score_kwargs)
        if self.start_name is not None:
            style = {"color": _neutral(plt), "linestyle": "--", "label": self.start_name}
            level = self.validation_scores[0]
            self.start_line_ = ax.axhline(level, **_line_style(style, start_kwargs))
        ax.set_ylabel(self.score_name)

    def _curve(self, ax, values, first_epoch, color, kwargs):
        """Draw a curve, with a marker at the epoch that was kept."""
        epochs = np.arange(first_epoch, first_epoch + len(values))
        kept = np.flatnonzero(epochs == self.best_iter).tolist()
        style = {"color": color, "marker": "o", "markevery": kept}
        return ax.plot(epochs, values, **_line_style(style, kwargs))[0]

    def _mark_best(self, plt, best_kwargs):
        self.best_lines_ = []
        if self.best_iter is not None:
            style = {"color": _neutral(plt), "linestyle": ":", "zorder": 1}
            style = _line_style({**style, "label": f"Epoch kept: {self.best_iter}"}, best_kwargs)
            self.best_lines_ = [ax.axvline(self.best_iter, **style) for ax in self.axes_]
        marks = [line for line in (self.start_line_, *self.best_lines_[:1]) if line is not None]
        if marks:
            self.axes_[0].legend(handles=marks)


def _start_name(autoencoder):
    """Return what is known of the start, or None if it was drawn at random."""
    if autoencoder.warm_start or not isinstance(autoencoder.init, str):
        return "Start"
    return "PCA" if autoencoder.init == "pca" else None


def _judges_by_r2(autoencoder):
    """Return whether held-out scores are R² alone, see ``validation_scores_``."""
    penalty = autoencoder._active_penalty()
    return (
        autoencoder._loses_r2()
        and autoencoder._corruption() is None
        and not (penalty is not None and penalty.on_rows)
    )


class LatentSpaceDisplay:
    """Codes of rows, coloured by a target.

    Two components are one picture, more are a grid of pairs. Of one component it is a histogram, or
    where the target is a scale, the target above the component. It is recommended to use
    :meth:`from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    codes : ndarray of shape (n_samples, n_shown)
        The components that are drawn.
    components : array-like of int of shape (n_shown,), default=None
        Their numbers, from 0. None is all in order.
    y : array-like of shape (n_samples,), default=None
        Target of the rows. It is a scale (with a colour bar) if it has numbers with fractions, or
        more than 20 different ones, and classes (with a legend of 42 names at most) else. Missing
        ones are grey.
    y_name : str, default=None
        What it is called.

    Attributes
    ----------
    axes_ : ndarray of Axes of shape (n_shown - 1, n_shown - 1), or (1, 1)
        Those above the diagonal are hidden.
    figure_ : Figure
    scatters_ : ndarray of (PathCollection or None), of the shape of `axes_`
        The codes.
    bars_ : list of BarContainer or None
        The histogram of one component, stacked by class.
    colorbar_ : Colorbar or None

    See Also
    --------
    LatentTraversalDisplay : What moving along a component does.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import AutoencoderTransformer
    >>> from skae.plotting import LatentSpaceDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> autoencoder = AutoencoderTransformer(n_components=3, max_iter=0).fit(X)
    >>> display = LatentSpaceDisplay.from_estimator(autoencoder, X, y)
    >>> display.axes_.shape
    (2, 2)
    """

    def __init__(self, *, codes, components=None, y=None, y_name=None):
        self.codes = np.asarray(codes)
        self.components = components
        self.y = y
        self.y_name = y_name

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y=None,
        *,
        components=None,
        y_name=None,
        ax=None,
        scatter_kwargs=None,
        hist_kwargs=None,
    ):
        """Encode rows and draw their codes.

        Parameters
        ----------
        estimator : AutoencoderTransformer or Pipeline
            Fitted; a pipeline must end in an AutoencoderTransformer.
        X : array-like of shape (n_samples, n_features)
            As for `transform`.
        y : array-like of shape (n_samples,), default=None
            Target of the rows, by which they are coloured. It is a scale (with a colour bar) if it
            has numbers with fractions, or more than 20 different ones, and classes (with a legend
            of 42 names at most) else. Missing ones are grey.
        components : int or array-like of int, default=None
            Which components to draw, from 0. None is all, but only the first four of more.
        y_name : str, default=None
            What the target is called. None is the name of a Series.
        ax : Axes or array-like of Axes, default=None
            Where to draw: one, which is divided where there are more pairs, or the whole grid. None
            is a new figure.
        scatter_kwargs : dict, default=None
            Keyword arguments of matplotlib's ``scatter``.
        hist_kwargs : dict, default=None
            Those of matplotlib's ``hist``, for one component.

        Returns
        -------
        display : LatentSpaceDisplay

        Raises
        ------
        ValueError
            If the estimator is no autoencoder, or y or components do not fit to the codes.
        NotFittedError
            If it is not fitted.
        ImportError
            If matplotlib is not installed.
        """
        _pyplot(cls)
        fitted = _Fitted(estimator)
        chosen = _checked_components(components, fitted.autoencoder.n_components_, _MAX_PAIRED)
        check_consistent_length(X, y)
        display = cls(
            codes=fitted.codes(X)[:, chosen],
            components=chosen,
            y=y,
            y_name=getattr(y, "name", None) if y_name is None else y_name,
        )
        return display.plot(ax=ax, scatter_kwargs=scatter_kwargs, hist_kwargs=hist_kwargs)

    def plot(self, ax=None, *, scatter_kwargs=None, hist_kwargs=None):
        """Draw the display.

        Parameters
        ----------
        ax : Axes or array-like of Axes, default=None
            Where to draw: one, which is divided where there are more pairs, or the whole grid. None
            is a new figure.
        scatter_kwargs : dict, default=None
            Keyword arguments of matplotlib's ``scatter``.
        hist_kwargs : dict, default=None
            Those of matplotlib's ``hist``, for one component.

        Returns
        -------
        display : LatentSpaceDisplay
            Itself.
        """
        plt = _pyplot(self)
        n_shown = self.codes.shape[1]
        n_rows = max(n_shown - 1, 1)
        height = 0.75 * plt.rcParams["figure.figsize"][0]
        self.axes_ = _grid(plt, ax, (n_rows, n_rows), height, sharex="col", sharey="row")
        self.figure_ = self.axes_[0, 0].figure
        self.scatters_ = np.full(self.axes_.shape, None)
        self.bars_ = self.colorbar_ = None
        target = _Target(plt, self.y, len(self.codes))
        if n_shown > 1:
            self._plot_pairs(target, scatter_kwargs)
        elif target.is_scale:
            self._plot_against(target, scatter_kwargs)
        else:
            self._plot_histogram(target, hist_kwargs)
        return self

    def _plot_pairs(self, target, scatter_kwargs):
        for (row, column), ax in np.ndenumerate(self.axes_):
            if column > row:
                ax.set_axis_off()
                continue
            x, y = self.codes[:, column], self.codes[:, row + 1]
            self.scatters_[row, column] = target.scatter(ax, x, y, scatter_kwargs)
            if column == 0:
                ax.set_ylabel(self._name_of(row + 1))
            if row == len(self.axes_) - 1:
                ax.set_xlabel(self._name_of(column))
        if target.is_scale:
            self.colorbar_ = self.figure_.colorbar(self.scatters_[0, 0], ax=list(self.axes_.flat))
            self.colorbar_.set_label(self.y_name, parse_math=False)
        else:
            target.draw_legend(self.axes_[0, -1], self.y_name)

    def _plot_against(self, target, scatter_kwargs):
        (ax,) = self.axes_.flat
        self.scatters_[0, 0] = target.scatter(ax, self.codes[:, 0], target.values, scatter_kwargs)
        ax.set_xlabel(self._name_of(0))
        ax.set_ylabel(self.y_name or "Target", parse_math=False)

    def _plot_histogram(self, target, hist_kwargs):
        (ax,) = self.axes_.flat
        groups = [g for g in range(-1, len(target.colors) - 1) if (target.groups == g).any()]
        *_, bars = ax.hist(
            [self.codes[target.groups == g, 0] for g in groups],
            **{"bins": 30, "stacked": True, "color": target.colors[groups], **(hist_kwargs or {})},
        )
        self.bars_ = [bars] if len(groups) == 1 else list(bars)
        ax.set(xlabel=self._name_of(0), ylabel="Number of rows")
        target.draw_legend(ax, self.y_name)

    def _name_of(self, i):
        return f"Component {i if self.components is None else self.components[i]}"


class _Target:
    """What rows are coloured by: a scale, classes, or nothing."""

    def __init__(self, plt, y, n_samples):
        self.plt, self.values, self.names = plt, None, []
        self.groups, self.colors = np.zeros(n_samples, dtype=np.intp), ["C0"]
        if y is not None:
            self._read(pd.Series(column_or_1d(y) if np.ndim(y) > 1 else y))
        # the last colour, that of group -1, is for what is missing
        self.missing = _rgba(_neutral(plt), alpha=0.4)
        self.colors = np.vstack([_rgba(self.colors), self.missing])

    @property
    def is_scale(self):
        return self.values is not None

    def _read(self, y):
        types = pd.api.types
        if types.is_numeric_dtype(y) and not types.is_bool_dtype(y):
            values = y.to_numpy(dtype=np.float64, na_value=np.nan)
            known = values[np.isfinite(values)]
            if (known % 1).any() or len(np.unique(known)) > _MAX_CLASSES:
                self.values = np.where(np.isfinite(values), values, np.nan)
                return
        self.groups, names = pd.factorize(y, sort=True)
        self.names = [f"{name:g}" if isinstance(name, float) else str(name) for name in names]
        self.colors = self._class_colors()

    def _class_colors(self):
        n_classes = len(self.names)
        colors = self.plt.rcParams["axes.prop_cycle"].by_key().get("color", [])
        if n_classes <= len(colors):
            return colors[:n_classes]
        return self.plt.get_cmap("gist_rainbow")(np.linspace(0, 1, n_classes))

    def scatter(self, ax, x, y, kwargs):
        """Draw points in their colours."""
        if not self.is_scale:
            style = {"s": 12, "linewidths": 0, "c": self.colors[self.groups]}
            return ax.scatter(x, y, **{**style, **(kwargs or {})})
        # edges, as one end of a scale may have the colour of the background
        style = {"s": 12, "linewidths": 0.3, "edgecolors": _neutral(self.plt), **(kwargs or {})}
        cmap = self.plt.get_cmap(style.pop("cmap", None)).with_extremes(bad=self.missing[0])
        return ax.scatter(x, y, c=self.values, cmap=cmap, plotnonfinite=True, **style)

    def draw_legend(self, ax, title):
        """Name the classes beside an axes, or within one that is empty."""
        groups = [g for g in [*range(len(self.names)), -1] if (self.groups == g).any()]
        handles = [self._handle(g) for g in groups if self.names]
        if 0 < len(handles) <= _MOST_LEGEND:
            _beside(ax, handles, title)

    def _handle(self, group):
        name = "missing" if group < 0 else self.names[group]
        style = {"marker": "o", "linestyle": "", "color": self.colors[group]}
        return self.plt.Line2D([], [], label=name, **style)


def _rgba(colors, alpha=None):
    from matplotlib.colors import to_rgba_array

    return to_rgba_array(colors, alpha)


class _RowsDisplay:
    """Base of displays that draw rows, as images or as profiles."""

    def _plot_images(self, plt, ax, images, values, names, image_kwargs):
        """Draw a grid of flat images, all from the smallest to the largest of some values."""
        shape = images.shape[:2]
        tall = self.image_shape[0] / self.image_shape[1]
        # inches; beside and above there are names
        height = 0.3 + shape[0] * tall * (plt.rcParams["figure.figsize"][0] - 1.3) / shape[1]
        self.axes_ = _grid(plt, ax, shape, height, layout="compressed")
        self.figure_ = self.axes_[0, 0].figure
        values = values[np.isfinite(values)]
        low, high = (values.min(), values.max()) if values.size else (0, 1)
        options = {"cmap": "gray", "vmin": low, "vmax": high, **(image_kwargs or {})}
        options["cmap"] = plt.get_cmap(options["cmap"]).with_extremes(bad=_MISSING)
        self.images_, self.lines_ = np.empty(shape, dtype=object), None
        for place, one in np.ndenumerate(self.axes_):
            image = images[place].reshape(self.image_shape)
            if image.ndim == 3:
                image = _in_colors(image, options["vmin"], options["vmax"])
            self.images_[place] = one.imshow(image, **options)
            one.set(xticks=[], yticks=[])
        for one, name in zip(self.axes_[:, 0], names, strict=True):
            one.set_ylabel(name, rotation=0, ha="right", va="center")

    def _plot_profiles(self, plt, ax, rows, styles, names, line_kwargs):
        """Draw some lines over the features in each of several axes.

        Rows are of shape ``(n_axes, n_lines, n_features)``.
        """
        n_axes, _, n_features = rows.shape
        is_named = self.feature_names is not None and n_features <= _MAX_NAMES
        below = 0.06 * max(map(len, self.feature_names)) if is_named else 0.2  # inches
        self.axes_ = _grid(plt, ax, (n_axes, 1), 0.5 + below + 1.2 * n_axes, sharex=True)
        self.figure_, self.images_ = self.axes_[0, 0].figure, None
        axes = self.axes_[:, 0]
        self.lines_ = [
            self._plot_profile(*both, styles, line_kwargs) for both in zip(axes, rows, strict=True)
        ]
        for one, name in zip(axes, names, strict=True):
            one.set_ylabel(name if self.categories is None else f"{name}\n(std. dev.)")
        over = {"loc": "lower center", "bbox_to_anchor": (0.5, 1), "ncols": len(styles)}
        axes[0].legend(handles=self.lines_[0], frameon=False, **over)  # where it covers no data
        if is_named:
            slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
            slanted["parse_math"] = False  # names have dollars for other reasons
            axes[-1].set_xticks(range(n_features), self.feature_names, **slanted)
        else:
            axes[-1].set_xlabel("Feature")

    def _plot_profile(self, ax, profiles, styles, line_kwargs):
        """Draw a line for each row, and write its categories where columns are such."""
        lines, places = [], np.arange(profiles.shape[1])
        named = [j for j, some in enumerate(self.categories or []) if some is not None]
        numbers = np.where(np.isin(places, named), np.nan, profiles)
        for values, style in zip(numbers, styles, strict=True):
            style = _line_style(style, line_kwargs)
            if (alone := _alone(values)) and "marker" not in style:  # of a point there is no line
                style |= {"marker": ".", "markevery": alone}
            lines += ax.plot(places, values, **style)
        ax.set_xlim(-0.5, len(places) - 0.5)
        heights = np.linspace(1, 0, 2 * len(lines) + 1)[1::2]
        inches = ax.get_window_extent().width / ax.figure.dpi / len(places)
        for row, height, line in zip(profiles, heights, lines, strict=True):
            for j in named:
                name = _shortened(_category(row[j], self.categories[j]), inches)
                _write(ax, j, height, name, line.get_color())
        return lines


class ReconstructionDisplay(_RowsDisplay):
    """Rows, what an autoencoder reconstructs of them, and what PCA does.

    As images, one below the other, or as profiles: a line over the features for each. It is
    recommended to use :meth:`from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Rows, NaN where entries are missing. Where columns are categories, numbers are in standard
        deviations from the mean, and categories are their positions, from 1.
    X_hat : ndarray of shape (n_samples, n_features)
        Their reconstruction.
    X_pca : ndarray of shape (n_samples, n_features), default=None
        That by PCA.
    image_shape : tuple, default=None
        (height, width) or (height, width, 3) of the images that rows are.
    feature_names : array-like of str of shape (n_features,), default=None
    categories : list of (ndarray or None), default=None
        The categories of each column that holds some.

    Attributes
    ----------
    axes_ : ndarray of Axes of shape (n_kinds, n_samples) or (n_samples, 1)
        For images a row of them for `X`, `X_hat` and `X_pca` each; one for each profile.
    figure_ : Figure
    images_ : ndarray of AxesImage, of the shape of `axes_`, or None
    lines_ : list of list of Line2D, or None
        For each profile the lines of `X`, `X_hat` and `X_pca`.

    See Also
    --------
    LatentTraversalDisplay : What moving along a component does.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> from skae.plotting import ReconstructionDisplay
    >>> X = load_digits().data
    >>> autoencoder = AutoencoderTransformer(n_components=8, max_iter=0).fit(X)
    >>> display = ReconstructionDisplay.from_estimator(autoencoder, X, image_shape=(8, 8))
    >>> display.images_.shape
    (3, 8)
    """

    def __init__(
        self, *, X, X_hat, X_pca=None, image_shape=None, feature_names=None, categories=None
    ):
        self.X = X
        self.X_hat = X_hat
        self.X_pca = X_pca
        self.image_shape = image_shape
        self.feature_names = feature_names
        self.categories = categories

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        *,
        image_shape=None,
        inverse_transform=True,
        n_samples=None,
        pca=True,
        ax=None,
        image_kwargs=None,
        line_kwargs=None,
    ):
        """Reconstruct rows and draw both.

        Parameters
        ----------
        estimator : AutoencoderTransformer or Pipeline
            Fitted; a pipeline must end in an AutoencoderTransformer. What it reconstructs is drawn
            in the units of X, by the ``inverse_transform`` of the steps before. (Where columns are
            categories it is drawn as the last step sees it.)
        X : array-like of shape (n_samples, n_features)
            Rows, of which the first are drawn. Missing entries leave gaps, and are filled in what
            is reconstructed.
        image_shape : tuple, default=None
            (height, width) or (height, width, 3) of the images that rows are. Grey values go from
            the smallest to the largest of the rows that are drawn. None is for profiles.
        inverse_transform : bool, default=True
            Whether rows that end a pipeline go back through the steps before, to the units of its
            input. False draws what the last step sees, for example standardised features, which can
            share an axis.
        n_samples : int, default=None
            How many rows to draw at most. None is 8 images or 4 profiles.
        pca : bool, default=True
            Whether to draw the reconstruction by as many components of PCA, that of the rows given
            to `fit` (see :mod:`skae.plotting`).
        ax : Axes or array-like of Axes, default=None
            Where to draw: one, which is divided, or as many as there are to draw. None is a new
            figure.
        image_kwargs, line_kwargs : dict, default=None
            Keyword arguments of matplotlib's ``imshow`` for images, and of ``plot`` for all lines
            of profiles.

        Returns
        -------
        display : ReconstructionDisplay

        Raises
        ------
        ValueError
            If the estimator is no autoencoder, or ends a pipeline that has no
            ``inverse_transform``, or image_shape does not fit to X.
        NotFittedError
            If it is not fitted.
        ImportError
            If matplotlib is not installed.
        """
        _pyplot(cls)
        fitted = _Fitted(estimator, inverse_transform)
        fitted.check_drawable(image_shape)
        n_samples = _checked_count("n_samples", n_samples, _n_drawn(image_shape))
        given, rows = fitted.seen(_first(X, n_samples))
        autoencoder = fitted.autoencoder
        display = cls(
            X=given,
            X_hat=fitted.drawn(autoencoder._reconstructed(rows)),
            X_pca=fitted.drawn(_pca_of(autoencoder)._reconstructed(rows)) if pca else None,
            image_shape=image_shape,
            feature_names=fitted.feature_names,
            categories=fitted.categories,
        )
        return display.plot(ax=ax, image_kwargs=image_kwargs, line_kwargs=line_kwargs)

    def plot(self, ax=None, *, image_kwargs=None, line_kwargs=None):
        """Draw the display.

        Parameters
        ----------
        ax : Axes or array-like of Axes, default=None
            Where to draw: one, which is divided, or as many as there are to draw. None is a new
            figure.
        image_kwargs, line_kwargs : dict, default=None
            Keyword arguments of matplotlib's ``imshow`` for images, and of ``plot`` for all lines
            of profiles.

        Returns
        -------
        display : ReconstructionDisplay
            Itself.
        """
        plt = _pyplot(self)
        kinds = {"Input": self.X, "Autoencoder": self.X_hat, "PCA": self.X_pca}
        kinds = {name: rows for name, rows in kinds.items() if rows is not None}
        drawn = np.stack(list(kinds.values()))
        if self.image_shape is not None:
            self._plot_images(plt, ax, drawn, self.X, kinds, image_kwargs)
            return self
        styles = [
            {"color": _neutral(plt), "marker": "."},
            {"color": "C0"},
            {"color": "C1", "linestyle": "--"},
        ]
        styles = [{"label": name, **style} for name, style in zip(kinds, styles, strict=False)]
        names = [f"Row {i}" for i in range(drawn.shape[1])]
        self._plot_profiles(plt, ax, drawn.swapaxes(0, 1), styles, names, line_kwargs)
        return self


class ExplainedVarianceDisplay:
    """How much of the variance the first components explain, beside PCA's.

    The first components of an autoencoder are not the best that so few could do: they are those of
    one that was trained for all of its components together. It is recommended to use
    :meth:`from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    scores : array-like of shape (n_components,)
        Share that is explained by the first component, by the first two, and so on.
    pca_scores : array-like of shape (n_components,), default=None
        The same of PCA.

    Attributes
    ----------
    ax_ : Axes
    figure_ : Figure
    line_ : Line2D
        The autoencoder.
    pca_line_ : Line2D or None

    See Also
    --------
    LossCurveDisplay : Training loss and held-out score by epoch.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> from skae.plotting import ExplainedVarianceDisplay
    >>> X = load_digits().data
    >>> autoencoder = AutoencoderTransformer(n_components=8, max_iter=5, random_state=0).fit(X)
    >>> display = ExplainedVarianceDisplay.from_estimator(autoencoder, X)
    >>> display.scores[-1] > display.pca_scores[-1]
    np.True_
    """

    def __init__(self, *, scores, pca_scores=None):
        self.scores = scores
        self.pca_scores = pca_scores

    @classmethod
    def from_estimator(cls, estimator, X=None, *, ax=None, line_kwargs=None, pca_kwargs=None):
        """Compute what the first components explain and draw it.

        Parameters
        ----------
        estimator : AutoencoderTransformer or Pipeline
            Fitted; a pipeline must end in an AutoencoderTransformer. Shares are in the units that
            this one sees.
        X : array-like of shape (n_samples, n_features), default=None
            Rows to explain, for example held-out ones: the last value is `score`, and that of PCA
            is of the PCA of the rows given to `fit` (see :mod:`skae.plotting`). On training rows
            they are the cumulative sums of ``explained_variance_ratio_``, of both. None draws the
            autoencoder's ``explained_variance_ratio_`` without PCA, which would need rows.
        ax : Axes, default=None
            Where to draw. None is a new figure.
        line_kwargs, pca_kwargs : dict, default=None
            Keyword arguments of matplotlib's ``plot`` for the lines of the autoencoder and of PCA.

        Returns
        -------
        display : ExplainedVarianceDisplay

        Raises
        ------
        ValueError
            If the estimator is no autoencoder.
        NotFittedError
            If it is not fitted.
        ImportError
            If matplotlib is not installed.
        """
        _pyplot(cls)
        fitted = _Fitted(estimator)
        autoencoder = fitted.autoencoder
        if X is None:
            display = cls(scores=np.cumsum(autoencoder.explained_variance_ratio_))
        else:
            rows = fitted.rows(X)
            display = cls(
                scores=_scores_by_components(autoencoder, rows),
                pca_scores=_scores_by_components(_pca_of(autoencoder), rows),
            )
        return display.plot(ax=ax, line_kwargs=line_kwargs, pca_kwargs=pca_kwargs)

    def plot(self, ax=None, *, line_kwargs=None, pca_kwargs=None):
        """Draw the display.

        Parameters
        ----------
        ax : Axes, default=None
            Where to draw. None is a new figure.
        line_kwargs, pca_kwargs : dict, default=None
            Keyword arguments of matplotlib's ``plot`` for the lines of the autoencoder and of PCA.

        Returns
        -------
        display : ExplainedVarianceDisplay
            Itself.
        """
        plt = _pyplot(self)
        ax = _grid(plt, ax, (1, 1), 0.6 * plt.rcParams["figure.figsize"][0])[0, 0]
        style = {"marker": "o", "color": "C0", "label": "Autoencoder"}
        self.line_ = self._line(ax, self.scores, style, line_kwargs)
        self.pca_line_ = None
        if self.pca_scores is not None:
            style = {"marker": "o", "color": "C1", "linestyle": "--", "label": "PCA"}
            self.pca_line_ = self._line(ax, self.pca_scores, style, pca_kwargs)
            ax.legend()
        ax.set(xlabel="Number of components", ylabel="Explained variance ratio, cumulative")
        ax.set_ylim(min(0, ax.get_ylim()[0]), 1)
        ax.xaxis.set_major_locator(_integer_ticks(plt))
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _line(self, ax, scores, style, kwargs):
        return ax.plot(range(1, len(scores) + 1), scores, **_line_style(style, kwargs))[0]


class LatentTraversalDisplay(_RowsDisplay):
    """What each component does: rows decoded on the way along it.

    The other components stay where they are. It is recommended to use :meth:`from_estimator`. All
    parameters are stored as attributes.

    Parameters
    ----------
    decoded : ndarray of shape (n_shown, n_steps, n_features)
        Decoded codes, of each step along each component that is drawn. Where columns are
        categories, numbers are in standard deviations from the mean, and categories are their
        positions, from 1.
    steps : ndarray of shape (n_steps,)
        Where codes are, in standard deviations of their component from the center.
    components : array-like of int of shape (n_shown,), default=None
        The numbers of the components, from 0. None is all in order.
    image_shape : tuple, default=None
        (height, width) or (height, width, 3) of the images that rows are.
    feature_names : array-like of str of shape (n_features,), default=None
    categories : list of (ndarray or None), default=None
        The categories of each column that holds some.

    Attributes
    ----------
    axes_ : ndarray of Axes of shape (n_shown, n_steps) or (n_shown, 1)
        For images; and for profiles, which are in one axes for all steps.
    figure_ : Figure
    images_ : ndarray of AxesImage, of the shape of `axes_`, or None
    lines_ : list of list of Line2D, or None
        For each component the line of each step.

    See Also
    --------
    LatentSpaceDisplay : Where the codes of rows are.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> from skae.plotting import LatentTraversalDisplay
    >>> autoencoder = AutoencoderTransformer(n_components=2, max_iter=0).fit(load_digits().data)
    >>> display = LatentTraversalDisplay.from_estimator(autoencoder, image_shape=(8, 8))
    >>> display.images_.shape
    (2, 7)
    """

    def __init__(
        self,
        *,
        decoded,
        steps,
        components=None,
        image_shape=None,
        feature_names=None,
        categories=None,
    ):
        self.decoded = decoded
        self.steps = steps
        self.components = components
        self.image_shape = image_shape
        self.feature_names = feature_names
        self.categories = categories

    @classmethod
    def from_estimator(
        cls,
        estimator,
        *,
        components=None,
        center=None,
        extent=2.0,
        n_steps=None,
        image_shape=None,
        inverse_transform=True,
        ax=None,
        image_kwargs=None,
        line_kwargs=None,
    ):
        """Decode codes along components and draw them.

        Parameters
        ----------
        estimator : AutoencoderTransformer or Pipeline
            Fitted; a pipeline must end in an AutoencoderTransformer. What it decodes is drawn in
            the units of the pipeline's input, by the ``inverse_transform`` of the steps before.
            (Where columns are categories it is drawn as the last step sees it.)
        components : int or array-like of int, default=None
            Which components to draw, from 0. None is all, but only the first 8 of more as images,
            and the first 4 as profiles.
        center : array-like of shape (n_components,), default=None
            The code from which to go, for example one that `transform` gives. None is zero, the
            mean of the training codes (but where the penalty depends on the axes, which keeps their
            origin).
        extent : float, default=2.0
            How far to go, both ways, in standard deviations of the component over the training
            codes (the root of ``explained_variance_``).
        n_steps : int, default=None
            Number of codes along each component, from one end to the other; an odd number has the
            center among them. None is 7 images or 5 profiles.
        image_shape : tuple, default=None
            (height, width) or (height, width, 3) of the images that rows are. Grey values go from
            the smallest to the largest that is drawn. None is for profiles.
        inverse_transform : bool, default=True
            Whether rows that end a pipeline go back through the steps before, to the units of its
            input. False draws what the last step sees, for example standardised features, which can
            share an axis.
        ax : Axes or array-like of Axes, default=None
            Where to draw: one, which is divided, or as many as there are to draw. None is a new
            figure.
        image_kwargs, line_kwargs : dict, default=None
            Keyword arguments of matplotlib's ``imshow`` for images, and of ``plot`` for all lines
            of profiles.

        Returns
        -------
        display : LatentTraversalDisplay

        Raises
        ------
        ValueError
            If the estimator is no autoencoder, or ends a pipeline that has no
            ``inverse_transform``, or an argument does not fit to it.
        NotFittedError
            If it is not fitted.
        ImportError
            If matplotlib is not installed.
        """
        _pyplot(cls)
        fitted = _Fitted(estimator, inverse_transform)
        fitted.check_drawable(image_shape)
        autoencoder = fitted.autoencoder
        n_components = autoencoder.n_components_
        chosen = _checked_components(components, n_components, _n_drawn(image_shape))
        n_steps = _checked_count("n_steps", n_steps, 5 if image_shape is None else 7, least=2)
        if not (isinstance(extent, Real) and 0 < extent < math.inf):
            raise ValueError(f"extent must be a positive finite number, got {extent!r}.")
        # symmetric to the last bit, so that a step of none is zero
        steps = extent * (np.arange(1 - n_steps, n_steps, 2) / (n_steps - 1))
        ways = np.sqrt(autoencoder.explained_variance_)[:, None] * np.eye(n_components)
        codes = _checked_center(center, n_components) + steps[:, None] * ways[chosen][:, None]
        decoded = fitted.drawn(autoencoder._decoded(codes.reshape(-1, n_components)))
        display = cls(
            decoded=decoded.reshape(len(chosen), n_steps, -1),
            steps=steps,
            components=chosen,
            image_shape=image_shape,
            feature_names=fitted.feature_names,
            categories=fitted.categories,
        )
        return display.plot(ax=ax, image_kwargs=image_kwargs, line_kwargs=line_kwargs)

    def plot(self, ax=None, *, image_kwargs=None, line_kwargs=None):
        """Draw the display.

        Parameters
        ----------
        ax : Axes or array-like of Axes, default=None
            Where to draw: one, which is divided, or as many as there are to draw. None is a new
            figure.
        image_kwargs, line_kwargs : dict, default=None
            Keyword arguments of matplotlib's ``imshow`` for images, and of ``plot`` for all lines
            of profiles.

        Returns
        -------
        display : LatentTraversalDisplay
            Itself.
        """
        plt = _pyplot(self)
        numbers = range(len(self.decoded)) if self.components is None else self.components
        names = [f"Component {i}" for i in numbers]
        step_names = [f"{step:+.2g} σ".replace("-", "−") if step else "0" for step in self.steps]
        if self.image_shape is not None:
            self._plot_images(plt, ax, self.decoded, self.decoded, names, image_kwargs)
            for above, name in zip(self.axes_[0], step_names, strict=True):
                above.set_title(name, fontsize="medium")
            return self
        colors = self._colors(plt)
        styles = [{"color": c, "label": n} for c, n in zip(colors, step_names, strict=True)]
        self._plot_profiles(plt, ax, self.decoded, styles, names, line_kwargs)
        return self

    def _colors(self, plt):
        """Return a colour for one way, one for the other, paler near the center, and its own."""
        far = np.abs(self.steps) / np.abs(self.steps).max()
        ways = np.where(np.isclose(self.steps, 0), 1, np.sign(self.steps).astype(int) + 1)
        colors = _rgba(["C0", _neutral(plt), "C1"])[ways]
        colors[:, 3] = np.where(ways == 1, 1, 0.3 + 0.7 * far)
        return colors
