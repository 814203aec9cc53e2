"""The estimator: scikit-learn's face of an autoencoder."""

import contextlib
import copy
import math
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.model_selection import ShuffleSplit
from sklearn.utils import check_array, check_random_state, gen_batches
from sklearn.utils.validation import check_is_fitted, validate_data
from skorch.callbacks import Callback
from skorch.dataset import ValidSplit
from torch import nn
from torch.optim import Optimizer

from skae._axes import principal_axes, turned, unturned
from skae._callbacks import DivergenceGuard, EarlyStopping, ProgressBar, left_as_they_are
from skae._compat import Interval, StrOptions, fit_context
from skae._initialization import (
    checked_output,
    data_units,
    network,
    principal_components,
    with_linear_skip,
)
from skae._net import ReconstructionNet
from skae._torch import inference_dtype, resolve_device, seeded
from skae.losses import SquaredError
from skae.modules import ACTIVATIONS, Autoencoder, Logistic
from skae.penalties import L2, Penalty

# Nesterov's momentum as in scikit-learn's networks.
_OPTIMIZERS = {
    "adam": (torch.optim.Adam, {"fused": True}),
    "adamw": (torch.optim.AdamW, {"fused": True}),
    "sgd": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "rmsprop": (torch.optim.RMSprop, {}),
}
_PENALTIES = {"l2": L2}

# How many rows are mapped at a time: enough to fill the cores, few enough to stay in cache.
_CHUNK_ROWS = 4096


@contextlib.contextmanager
def _all_or_nothing(estimator):
    """Give an estimator its attributes back if the block that sets them raises."""
    before = vars(estimator).copy()
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


class AutoencoderTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Nonlinear dimensionality reduction with an autoencoder that starts at PCA.

    An encoder f maps a row x to a short code z = f(x), a decoder g maps it back, x̂ = g(z), and
    both are trained to make ‖x − x̂‖² small. In scikit-learn's words: `transform` encodes,
    `inverse_transform` decodes, `score` is the share of variance that survives the round trip.

    Both networks are a linear path plus a nonlinear branch. The linear paths start as PCA and the
    branches at zero, so that before the first step this transformer *is*
    :class:`~sklearn.decomposition.PCA`, signs included. From there on it moves only if rows that
    are held out get better by more than luck.

    Parameters
    ----------
    n_components : int or float, default=2
        Size of the code. A float in (0, 1) picks the smallest size at which PCA explains more than
        that fraction of the variance.

    hidden_layer_sizes : int or array-like of int, default=(128,)
        Widths of the encoder's hidden layers, from the input to the code; the decoder's are the
        same in reverse. With ``()`` the branches are linear.

    activation : {'relu', 'gelu', 'silu', 'tanh', 'logistic', 'identity'}, default='gelu'
        What follows each hidden layer.

    output_activation : {'identity', 'logistic'}, default='identity'
        What follows the decoder's last layer. ``'logistic'`` is for data in [0, 1] and needs
        ``linear_skip=False``.

    linear_skip : bool, default=True
        Whether the networks have a linear path around them. With it the branches see input that is
        softly clipped at 4 of its standard deviations, so that far outside the training data the
        model is linear.

    dropout : float, default=0.0
        Probability with which a hidden unit is left out of a training step.

    encoder, decoder : nn.Module or callable, default=None
        A network of your own in the place of the multilayer perceptron: a class or any callable
        ``(n_in, n_out) -> nn.Module``, or an instance, which is copied. The encoder maps
        ``(batch, n_features)`` to ``(batch, n_components)``, the decoder back. With the linear
        skip it is the branch, times a learned factor that starts at 0.

    init : {'pca', 'random'}, default='pca'
        Where training starts. ``'pca'`` needs ``linear_skip=True``.

    penalty : {'l2'}, Penalty or None, default='l2'
        The R of the objective ``J = L + alpha * R``, see Notes. ``'l2'`` is the sum of squared
        weights; a :class:`skae.penalties.Penalty` is your own.

    alpha : float, default=1e-4
        Weight of the penalty, without unit: it carries over between data sets. With the linear
        skip it says how nonlinear the model is: 0 is the free autoencoder, infinity is PCA.

    optimizer : {'adam', 'adamw', 'sgd', 'rmsprop'} or type, default='adam'
        Optimiser, or a subclass of ``torch.optim.Optimizer``. ``'sgd'`` has Nesterov's momentum
        of 0.9.

    learning_rate_init : float, default=4e-3
        Learning rate. It is constant unless a callback changes it.

    batch_size : int or 'auto', default='auto'
        Largest number of rows in a training step. ``'auto'`` is a sixteenth of the training rows,
        rounded to a power of two between 32 and 256.

    max_iter : int, default=200
        Largest number of epochs. 0 gives the start, that is PCA.

    average : bool, default=True
        Whether weights are averaged while training: an exponential moving average with a memory of
        100 steps. The average is validated and kept.

    early_stopping : bool, default=True
        Whether to hold out rows, to end training when their error stops falling, and to keep the
        weights of the epoch that was best on them. The start is a candidate, and an epoch beats PCA
        only by a gain that is significant at the 5 % level (paired t-test over the held-out rows,
        and in the end over the training rows too).
        Of fewer than four rows none can be held out, and a start at PCA is kept.

    validation_fraction : float, default=0.1
        Share of the rows to hold out, two rows at least. PCA is computed from all rows.

    n_iter_no_change : int, default=10
        How many epochs may pass without a gain of ``tol`` before training ends.

    tol : float, default=1e-4
        Smallest gain in held-out R² that counts as one.

    warm_start : bool, default=False
        Whether `fit` goes on from the weights (and the mean and scale) of the fit before. The
        networks stay as they are, whatever has become of the parameters of their structure.

    callbacks : list of skorch callbacks, default=None
        Each gets every event that it implements. What training sets on them (attributes that end
        in an underscore) is found on the copies in ``net_.callbacks_``. A callback of batches or
        gradients makes training slower, as each step then waits for it.

    device : str or torch.device, default='auto'
        Where to compute: ``'cpu'``, ``'cuda'``, ``'cuda:1'``, ``'mps'``. ``'auto'`` is the first
        CUDA device where there is one, and the CPU elsewhere.

    random_state : int, RandomState instance or None, default=None
        Seeds the held-out rows, the order of rows, random weights and dropout. ``None`` is a new
        seed at each fit. The global generators of numpy and torch are left as they are.

    verbose : int, default=0
        With 1 a progress bar is shown.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The trained net; its ``history`` has the losses and times of all epochs.
    encoder_ : nn.Module
        The trained encoder, from ``(x - mean_) / scale_`` to ``code / scale_``.
    decoder_ : nn.Module
        The trained decoder, from ``code / scale_`` to ``(x̂ - mean_) / scale_``.
    device_ : torch.device
        Where the model is. A model that is loaded on a machine without that device is on the CPU.
    n_components_ : int
        Size of the code.
    mean_ : ndarray of shape (n_features,)
        Mean of the training rows.
    scale_ : float
        Square root of the mean variance of the features. The networks see ``(x - mean_) / scale_``.
    explained_variance_ : ndarray of shape (n_components_,)
        Variance of each component of the training codes, falling, in squared units of the data.
    explained_variance_ratio_ : ndarray of shape (n_components_,)
        By how much training R² grows when component i joins the first i - 1; the sum is the
        training R². Single values can be negative, as a nonlinear decoder may need components
        together.
    loss_curve_ : list of float
        Training loss L of each epoch.
    validation_scores_ : list of float or None
        Held-out R² of each epoch; entry 0 is before training. None without early stopping.
    best_validation_score_ : float or None
        Held-out R² of the weights that were kept.
    n_iter_ : int
        Number of epochs that were run.
    best_iter_ : int
        The epoch whose weights were kept; 0 is the start.
    n_features_in_ : int
        Number of features seen during `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if all are strings.

    See Also
    --------
    sklearn.decomposition.PCA : The linear model that this one starts from.
    sklearn.decomposition.KernelPCA : Nonlinear components by a kernel.

    Notes
    -----
    The objective is ``J = L + alpha * R``. L is the squared error averaged over rows and features
    of ``(x - mean_) / scale_``, that is, one minus R² on the training rows. R is the penalty, on
    the weights of the nonlinear branches where there is a linear skip, and on all weights
    elsewhere.

    One scale serves all features, as in PCA: features in different units are brought to one by a
    :class:`~sklearn.preprocessing.StandardScaler` in front.

    After training the codes are turned to their principal axes: on the training rows they are
    centred, uncorrelated and in falling variance, and each covaries positively with the principal
    component that it covaries most with. Reconstructions are not changed by this.

    Weights are float32. Rows are mapped in their own precision, float64 in float64.

    References
    ----------
    G. E. Hinton and R. R. Salakhutdinov, "Reducing the Dimensionality of Data with Neural
    Networks", Science 313 (2006), doi:10.1126/science.1127647.

    B. T. Polyak and A. B. Juditsky, "Acceleration of Stochastic Approximation by Averaging",
    SIAM J. Control Optim. 30 (1992), doi:10.1137/0330046.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> from skae import AutoencoderTransformer
    >>> X = load_digits().data
    >>> autoencoder = AutoencoderTransformer(n_components=2, max_iter=20, random_state=0).fit(X)
    >>> autoencoder.transform(X).shape
    (1797, 2)
    >>> pca = PCA(n_components=2).fit(X)
    >>> print(autoencoder.score(X) > pca.explained_variance_ratio_.sum() + 0.1)
    True
    """

    _parameter_constraints: dict = {
        "n_components": [
            Interval(Integral, 1, None, closed="left"),
            Interval(Real, 0, 1, closed="neither"),
        ],
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "output_activation": [StrOptions({"identity", "logistic"})],
        "linear_skip": ["boolean"],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "encoder": [callable, None],
        "decoder": [callable, None],
        "init": [StrOptions({"pca", "random"})],
        "penalty": [StrOptions(set(_PENALTIES)), Penalty, None],
        # weights and gradients are float32
        "alpha": [Interval(Real, 0, float(np.finfo(np.float32).max) / 2, closed="both")],
        "optimizer": [StrOptions(set(_OPTIMIZERS)), type],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "average": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "warm_start": ["boolean"],
        "callbacks": [list, tuple, None],
        "device": [str, torch.device],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_components=2,
        *,
        hidden_layer_sizes=(128,),
        activation="gelu",
        output_activation="identity",
        linear_skip=True,
        dropout=0.0,
        encoder=None,
        decoder=None,
        init="pca",
        penalty="l2",
        alpha=1e-4,
        optimizer="adam",
        learning_rate_init=4e-3,
        batch_size="auto",
        max_iter=200,
        average=True,
        early_stopping=True,
        validation_fraction=0.1,
        n_iter_no_change=10,
        tol=1e-4,
        warm_start=False,
        callbacks=None,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.output_activation = output_activation
        self.linear_skip = linear_skip
        self.dropout = dropout
        self.encoder = encoder
        self.decoder = decoder
        self.init = init
        self.penalty = penalty
        self.alpha = alpha
        self.optimizer = optimizer
        self.learning_rate_init = learning_rate_init
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.average = average
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @property
    def encoder_(self):
        return self.net_.module_.encoder

    @property
    def decoder_(self):
        return self.net_.module_.decoder

    @property
    def device_(self):
        return torch.device(self.net_.device)

    @property
    def _n_features_out(self):
        return self.n_components_

    def __sklearn_is_fitted__(self):
        return hasattr(self, "net_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn to encode and decode the rows of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Two rows or more, finite.
        y : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        self : AutoencoderTransformer

        Raises
        ------
        ValueError
            If a parameter or X is not what it must be, or they do not fit together. The estimator
            is then as it was before.

        Warns
        -----
        ConvergenceWarning
            If the loss became infinite or NaN. The last good weights are kept.
        """
        with _all_or_nothing(self):
            X = validate_data(
                self,
                X,
                reset=not self._continues(),
                dtype=[np.float64, np.float32],
                ensure_min_samples=2,
            )
            self._fit(X)
        return self

    def transform(self, X):
        """Encode rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        X_new : ndarray of shape (n_samples, n_components_)
            Codes, in the units of the data; float32 if X is, float64 otherwise.
        """
        X = self._validated(X)
        encoder = self._module(X.dtype).encoder
        return self._map(lambda rows: encoder(self._to_units(rows)) * self.scale_, X)

    def inverse_transform(self, X):
        """Decode codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components_)
            Codes.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features)
            Rows; float32 if X is, float64 otherwise.
        """
        check_is_fitted(self)
        X = check_array(X, dtype=[np.float64, np.float32], input_name="X")
        if X.shape[1] != self.n_components_:
            raise ValueError(
                f"X must have as many columns as the code, n_components_={self.n_components_},"
                f" got {X.shape[1]}; pass what transform returned."
            )
        decoder = self._module(X.dtype).decoder
        return self._map(
            lambda codes: self._from_units(decoder(self._tensor(codes) / self.scale_)), X
        )

    def reconstruct(self, X):
        """Encode rows and decode them again: ``inverse_transform(transform(X))`` in one pass.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        X_hat : ndarray of shape (n_samples, n_features)
        """
        X = self._validated(X)
        module = self._module(X.dtype)
        return self._map(lambda rows: self._from_units(module(self._to_units(rows))), X)

    def score_samples(self, X):
        """Return how well each row is reconstructed, minus the distance ‖x − x̂‖₂.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            In the units of the data; higher is better, and rows unlike the training data are low.
        """
        return -self.scale_ * np.sqrt(self._squares(self._validated(X))[:, 0])

    def score(self, X, y=None):
        """Return R², the share of variance around ``mean_`` that reconstructions keep.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        score : float
            1 − Σ‖x − x̂‖² / Σ‖x − mean_‖²: 1 is perfect, 0 is the mean row. Of a linear model on its
            training rows it is PCA's cumulative explained variance ratio.
        """
        return _r2(*self._squares(self._validated(X)).sum(axis=0, dtype=np.float64))

    # --------------------------------------------------------------------- from array to array

    def _validated(self, X):
        check_is_fitted(self)
        return validate_data(self, X, reset=False, dtype=[np.float64, np.float32])

    def _map(self, function, X):
        """Apply a function of some rows, giving a tensor, to all of them."""
        with torch.inference_mode():
            parts = [function(X[rows]).cpu().numpy() for rows in gen_batches(len(X), _CHUNK_ROWS)]
        return np.concatenate(parts).astype(X.dtype, copy=False)

    def _module(self, dtype):
        """Return the networks in the precision in which arrays of a dtype are mapped."""
        if inference_dtype(dtype, self.device_) is torch.float64:
            return copy.deepcopy(self.net_.module_).double()
        return self.net_.module_

    def _tensor(self, rows, device=None):
        device = self.device_ if device is None else device
        # a copy, always: rows are the caller's, and may be read-only
        return torch.tensor(rows, dtype=inference_dtype(rows.dtype, device), device=device)

    def _to_units(self, rows, device=None):
        mean = self._tensor(self.mean_.astype(rows.dtype), device)
        units = self._tensor(rows, device).sub_(mean).div_(self.scale_)
        # Beyond any data, and small enough that no sum of squares is infinite in float32: finite
        # rows have finite codes.
        return units.clamp_(-1e15, 1e15)

    def _from_units(self, units):
        mean = torch.as_tensor(self.mean_, dtype=units.dtype, device=units.device)
        return units.mul(self.scale_).add_(mean)

    def _squares(self, X):
        """Return ‖x − x̂‖² and ‖x − mean_‖² of each row, in units of ``scale_`` squared."""
        module = self._module(X.dtype)

        def squares(rows):
            rows = self._to_units(rows)
            return torch.stack([_row_squares(module(rows) - rows), _row_squares(rows)], dim=1)

        return self._map(squares, X)

    # --------------------------------------------------------------------------------- fitting

    def _continues(self):
        return self.warm_start and hasattr(self, "net_")

    def _fit(self, X):
        continues = self._continues()
        self._check_parameters(*X.shape)
        device = resolve_device(self.device)
        random_state = self.random_state
        if random_state is None:
            random_state = np.random.RandomState()  # not the global one, which is the user's
        seed = check_random_state(random_state).randint(np.iinfo(np.int32).max)
        with seeded(seed, device), torch.inference_mode(False), torch.enable_grad():
            if not continues:
                self.mean_, self.scale_ = data_units(X)
            n_components = self.n_components_ if continues else self.n_components
            components = principal_components(
                X, self.mean_, self.scale_, min(n_components, *X.shape), random_state
            )
            data = self._training_data(X, device)
            if continues:
                module = unturned(copy.deepcopy(self.net_.module_))
            else:
                module = self._start(data, components, X.dtype)
            start = copy.deepcopy(module).to(device).state_dict()
            net = self._make_net(module, len(X), device, seed)
            with left_as_they_are(self.callbacks or []):
                net.fit(data, data)
                net.callbacks_ = [(name, copy.copy(callback)) for name, callback in net.callbacks_]
            self._read_training(net)
            at_pca = self.init == "pca" and not continues and _same_weights(net.module_, start)
            self._settle(net, data, components, at_pca)

    def _check_parameters(self, n_samples, n_features):
        """Refuse what does not fit together or does not fit the data."""
        if self.init == "pca" and not self.linear_skip:
            raise ValueError(
                "init='pca' must come with linear_skip=True, the path that can be PCA, got"
                " linear_skip=False; set init='random' for a network without it."
            )
        if self.output_activation == "logistic" and self.linear_skip:
            raise ValueError(
                "output_activation='logistic' must come with linear_skip=False, as nothing is"
                " linear behind a logistic, got linear_skip=True; set linear_skip=False and"
                " init='random'."
            )
        largest = min(n_samples, n_features)
        if self.init == "pca" and self.n_components > largest:
            raise ValueError(
                f"n_components must be at most min(n_samples, n_features)={largest} with"
                f" init='pca', got {self.n_components}; set linear_skip=False and init='random'"
                " for a code wider than that."
            )
        if self._continues() and self.n_components >= 1 and self.n_components != self.n_components_:
            raise ValueError(
                f"n_components must stay as it was, {self.n_components_}, where warm_start=True"
                f" goes on from an earlier fit, got {self.n_components}; set warm_start=False to"
                " start anew."
            )
        if isinstance(self.optimizer, type) and not issubclass(self.optimizer, Optimizer):
            raise ValueError(
                "optimizer must be a subclass of torch.optim.Optimizer where it is a class, got"
                f" {self.optimizer.__name__}; or use one of {sorted(_OPTIMIZERS)}."
            )
        self._hidden_widths()
        self._check_callbacks()

    def _check_callbacks(self):
        for item in self.callbacks or []:
            callback = item[1] if isinstance(item, tuple) and len(item) == 2 else item
            if not isinstance(callback, Callback) and not (
                isinstance(callback, type) and issubclass(callback, Callback)
            ):
                raise ValueError(
                    "callbacks must hold skorch callbacks, classes of them, or pairs of a name and"
                    f" either, got {item!r}; derive it from skorch.callbacks.Callback."
                )

    def _hidden_widths(self):
        sizes = self.hidden_layer_sizes
        widths = [sizes] if isinstance(sizes, Integral) else list(sizes)
        if not all(
            isinstance(width, Integral) and not isinstance(width, bool) and width > 0
            for width in widths
        ):
            raise ValueError(
                "hidden_layer_sizes must hold integers of at least 1, got"
                f" {self.hidden_layer_sizes}."
            )
        return widths

    def _training_data(self, X, device):
        """Return the rows as the networks see them: one float32 tensor on the device."""
        data = torch.empty(X.shape, dtype=torch.float32, device=device)
        for rows in gen_batches(len(X), _CHUNK_ROWS):
            data[rows] = self._to_units(X[rows], device)
        return data

    def _start(self, data, components, dtype):
        """Return the networks as they are before training on data that came in some dtype."""
        self.n_components_ = len(components) if self.n_components < 1 else self.n_components
        widths = [self.n_features_in_, *self._hidden_widths(), self.n_components_]
        encoder = network(self.encoder, widths, self.activation, self.dropout)
        decoder = network(self.decoder, widths[::-1], self.activation, self.dropout)
        rows = data[:2].clone().cpu()
        codes = checked_output("encoder", encoder, rows, widths[-1])
        checked_output("decoder", decoder, codes, widths[0])
        if inference_dtype(dtype, data.device) is torch.float64:
            checked_output("encoder", copy.deepcopy(encoder).double(), rows.double(), widths[-1])
            checked_output("decoder", copy.deepcopy(decoder).double(), codes.double(), widths[0])
        if self.output_activation == "logistic":
            mean = torch.tensor(self.mean_, dtype=torch.float32)
            decoder = nn.Sequential(decoder, Logistic(mean, self.scale_))
        if not self.linear_skip:
            return Autoencoder(encoder, decoder)
        components = components if self.init == "pca" else None
        return with_linear_skip(encoder, decoder, data, self.n_components_, components)

    def _make_net(self, module, n_samples, device, seed):
        optimizer, options = _OPTIMIZERS.get(self.optimizer, (self.optimizer, {}))
        n_valid = self._n_held_out(n_samples)
        unjudged = self.early_stopping and not n_valid and self.init == "pca"
        split, callbacks = None, [DivergenceGuard()]
        if n_valid:
            split = ValidSplit(ShuffleSplit(1, test_size=n_valid, random_state=seed))
            floor = self.init == "pca"
            callbacks.append(EarlyStopping(self.n_iter_no_change, self.tol, floor))
        if self.verbose:
            callbacks.append(ProgressBar())
        return ReconstructionNet(
            module,
            SquaredError,
            optimizer=optimizer,
            lr=self.learning_rate_init,
            # without a judge nothing can be known to be better than PCA
            max_epochs=0 if unjudged else self.max_iter,
            batch_size=self._batch_size(n_samples - n_valid),
            iterator_train__shuffle=True,
            iterator_valid__batch_size=_CHUNK_ROWS,
            train_split=split,
            callbacks=[*callbacks, *(self.callbacks or [])],
            penalty=_PENALTIES[self.penalty]() if isinstance(self.penalty, str) else self.penalty,
            alpha=self.alpha,
            average_decay=0.99 if self.average else 0.0,
            verbose=self.verbose,
            device=device,
            **{f"optimizer__{name}": value for name, value in options.items()},
        )

    def _n_held_out(self, n_samples):
        """Return how many rows early stopping holds out: two or more, or none."""
        if not self.early_stopping:
            return 0
        n_valid = max(2, math.ceil(self.validation_fraction * n_samples))
        return min(n_valid, n_samples - 2) if n_samples >= 4 else 0

    def _batch_size(self, n_samples):
        if self.batch_size != "auto":
            return self.batch_size
        return min(max(2 ** round(math.log2(n_samples / 16)), 32), 256)

    def _read_training(self, net):
        """Set what the course of training tells."""
        callbacks = {type(callback): callback for _, callback in net.callbacks_}
        guard = callbacks[DivergenceGuard]
        self.loss_curve_ = guard.losses_
        self.n_iter_ = len(guard.losses_)
        self.best_iter_ = guard.good_iter_
        self.validation_scores_ = self.best_validation_score_ = None
        if EarlyStopping in callbacks:
            early_stopping = callbacks[EarlyStopping]
            early_stopping.restore(net)
            del early_stopping.best_weights_
            self.validation_scores_ = early_stopping.scores_
            self.best_validation_score_ = early_stopping.best_score_
            self.best_iter_ = early_stopping.best_iter_

    def _settle(self, net, data, components, at_pca):
        """Turn the codes of a trained net to principal axes and set what they explain."""
        module = net.module_.eval()
        with torch.no_grad():
            codes = torch.cat([module.encoder(rows) for rows in data.split(_CHUNK_ROWS)])
            codes = codes.cpu().double()
            if at_pca:
                # PCA's own codes: turning them could only add rounding, or new arbitrary axes
                # where components explain equally much
                axes, mean = torch.eye(codes.shape[1]).double(), torch.zeros_like(codes[0])
            else:
                components = torch.from_numpy(components).to(data)
                scores = torch.cat([rows @ components.T for rows in data.split(_CHUNK_ROWS)])
                axes, mean = principal_axes(codes, scores.cpu().double())
            net.module_ = turned(module, axes, mean).to(data.device).eval()
            codes = (codes - mean) @ axes.T
            total = sum(_sum(_row_squares(rows)) for rows in data.split(_CHUNK_ROWS))
            if at_pca and total:
                ratios = codes.square().sum(dim=0).numpy() / total
            else:
                errors = _errors_by_components(net.module_.decoder, codes.to(data), data)
                ratios = np.diff([_r2(error, total) for error in errors], prepend=0.0)
        self.net_ = net
        self.explained_variance_ = codes.var(dim=0).numpy() * self.scale_**2
        self.explained_variance_ratio_ = ratios


def _same_weights(module, weights):
    return all(torch.equal(value, weights[name]) for name, value in module.state_dict().items())


def _errors_by_components(decoder, codes, data):
    """Return the squared error that the first component alone leaves, the first two, …, all."""
    errors = np.zeros(codes.shape[1])
    for some_codes, rows in zip(codes.split(_CHUNK_ROWS), data.split(_CHUNK_ROWS), strict=True):
        kept = torch.zeros_like(some_codes)
        for i, component in enumerate(some_codes.T):
            kept[:, i] = component
            errors[i] += _sum(_row_squares(decoder(kept) - rows))
    return errors


def _sum(values):
    return values.cpu().sum(dtype=torch.float64).item()  # on the CPU: some devices have no float64


def _row_squares(rows):
    return rows.square().sum(dim=1)


def _r2(squared_error, squared_deviation):
    """Return 1 - error / deviation; of rows that are all the mean, whether they are met."""
    if squared_deviation == 0:
        return float(squared_error == 0)
    return float(1 - squared_error / squared_deviation)
