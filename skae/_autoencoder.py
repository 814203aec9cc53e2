"""The estimator: scikit-learn's face of an autoencoder."""

import contextlib
import copy
import copyreg
import functools
import itertools
import math
import os
import sys
from numbers import Integral, Real

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import KFold, ShuffleSplit
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from skorch.callbacks import Callback
from skorch.dataset import Dataset, ValidSplit
from torch import nn
from torch.optim import Optimizer

from skae import _model_file, corruptions
from skae._axes import CodeMoments, axes_of, ordered_axes, principal_axes, turned, unturned
from skae._backpropagation import Evaluated, is_evaluated, is_small
from skae._batches import (
    InputRows,
    RowsOnDemand,
    TensorBatches,
    TimedBatches,
    chunk_rows,
    chunks_of,
    is_mapped,
)
from skae._callbacks import (
    DivergenceGuard,
    EarlyStopping,
    Floor,
    left_as_they_are,
)
from skae._compat import (
    WHILE_FITTED,
    CallbackSupportMixin,
    Interval,
    StrOptions,
    fit_context,
    warn,
)
from skae._density import code_density, density_rows, draw
from skae._folds import cross_fitted, folds_of
from skae._frames import (
    categories_of,
    check_table,
    encoded,
    filled,
    float_dtype,
    frame_of,
    is_frame,
    is_pandas,
    is_plain,
    like,
    n_empty_rows,
    no_rows_of,
    with_categories,
)
from skae._initialization import (
    INITS,
    StreamPCA,
    adding_nothing,
    category_shares,
    category_vectors,
    checked_output,
    chunked_components,
    column_units,
    completed_components,
    data_units,
    deviations_along,
    linear_paths,
    log_variances,
    observed_rows,
    own_network,
    perceptron,
    principal_components,
    set_to_pca,
    share_kept,
    with_linear_skip,
)
from skae._mixed import (
    Layout,
    MixedInput,
    MixedLoss,
    MixedOutput,
    ObservedLoss,
    OnNumbers,
    in_rows,
)
from skae._net import ReconstructionNet, share_avoided
from skae._onnx import OnnxMixin
from skae._persistence import (
    OtherCodeError,
    UndescribableError,
    describable,
    described,
    is_describable,
    restored,
    shapes_of,
)
from skae._progress import ProgressBar, TrainingTask, fit_task
from skae._soap import Soap
from skae._threads import one_thread, restored_threads
from skae._torch import (
    converted,
    copied_state,
    inference_dtype,
    may_have_gaps,
    resolve_device,
    seeded,
    usual,
)
from skae.losses import AbsoluteError, BinaryCrossEntropy, EntrywiseLoss, Huber, Loss, SquaredError
from skae.modules import (
    ACTIVATIONS,
    Autoencoder,
    Filled,
    Gate,
    LinearSkip,
    Logistic,
    Variational,
)
from skae.penalties import KL, L1, L2, PIECES, ActivityL1, Contractive, Penalty

# Nesterov's momentum as in scikit-learn's networks.
_OPTIMIZERS = {
    "soap": (Soap, {"clip": 1.5}),
    "adam": (torch.optim.Adam, {"fused": True}),
    "adamw": (torch.optim.AdamW, {"fused": True}),
    "sgd": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "rmsprop": (torch.optim.RMSprop, {}),
}
_ARRAY_LIKES = {"categorical_features", "hidden_layer_sizes"}
_LOSSES = {"squared_error": SquaredError, "absolute_error": AbsoluteError, "huber": Huber}
_PENALTIES = {
    "l2": L2,
    "l1": L1,
    "activity_l1": ActivityL1,
    "contractive": Contractive,
    "kl": KL,
}

# Values of a mapped file that are read as a whole: as float32 they take 64 MB.
_MAX_READ = 2**24

# From so many rows on the weight of a penalty on weights falls as one over their number. Data sets
# of 1000 to 75000 rows are best at about that; for fewer rows early stopping does as much.
_ROWS_OF_ALPHA = 1000

# Rows of which a tenth are enough to judge by. Fewer judge all, in folds.
_MANY_ROWS = 1000
_N_FOLDS = 5

# Of tables of fewer rows for each component the axes of codes would be accidental.
_ROWS_PER_AXIS = 10

# Floating point operations of a training step below which two threads gain little, a third at most,
# and can lose much. Steps of more try how many threads are faster, as they have some ten
# milliseconds to lose.
_SMALL_STEP = 1e8


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


@contextlib.contextmanager
def _its_former_self(estimator):
    """Have an estimator be as it was while its net is trained, and go on so if that raises.

    Callbacks and other threads may map rows by it, or store it. What the net's optimiser remembers
    is lost if training raises, as it is in a pickle.
    """
    net = estimator.net_
    former = estimator.net_ = net.without_training()
    former.module = former.module_ = copy.deepcopy(net.module_)
    former.history_ = copy.copy(net.history)
    try:
        yield net
    except BaseException:
        vars(net).clear()
        vars(net).update(vars(former))
        raise


@describable
class AutoencoderTransformer(
    CallbackSupportMixin,
    OnnxMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
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

    activation : {'relu', 'gelu', 'silu', 'tanh', 'logistic', 'identity'}, default='relu'
        What follows each hidden layer. ``'gelu'`` is smooth, as is then what is learned.

    output_activation : {'identity', 'logistic'}, default='identity'
        What follows the decoder's last layer. ``'logistic'`` is for data in [0, 1] and needs
        ``linear_skip=False``.

    linear_skip : bool, default=True
        Whether the networks have a linear path around them. With it the branches see input that is
        softly clipped at four times its largest value, so that far outside the training data the
        model is linear.

    tied_weights : bool, default=False
        Whether the decoder uses the encoder's weights, transposed: the same parameters, not equal
        ones. Not for networks of your own, nor for a variational encoder.

    dropout : float, default=0.0
        Probability with which a hidden unit is left out of a training step.

    encoder : nn.Module or callable, default=None
        A network of your own in the place of the multilayer perceptron: a class or any callable
        ``(n_in, n_out) -> nn.Module``, or an instance, which is copied. It maps
        ``(batch, n_features)`` to ``(batch, n_components)`` (where columns are categories, there
        are more inputs than features, see Notes). With the linear skip it is the branch, times a
        learned factor that starts at 0. For images and sounds there is
        :class:`skae.modules.ConvEncoder`.

    decoder : nn.Module or callable, default=None
        The same for the way back, as :class:`skae.modules.ConvDecoder`.

    categorical_features : 'from_dtype', array-like or None, default='from_dtype'
        Which columns hold categories. ``'from_dtype'`` is those of a pandas or polars DataFrame
        that are categorical, strings, booleans or other objects, but for fractions and decimals,
        which are numbers. Else names, positions or a mask, or None for none.

    init : {'pca', 'random', 'glorot_uniform', 'glorot_normal', 'he_uniform', 'he_normal', \
            'orthogonal'} or fitted AutoencoderTransformer, default='pca'
        Where training starts. ``'pca'`` needs ``linear_skip=True``. ``'random'`` is torch's way to
        draw weights, the others are the literature's, with zero biases. Networks of your own start
        as you made them. From a fitted transformer of the same structure training goes on with
        its weights, mean and scale. (``clone``, which searches use, would unfit it: there, put it
        into a :class:`~sklearn.frozen.FrozenEstimator`.)

    n_init : int, default=1
        Number of starts, of which the best is kept: that of the highest score on the held-out
        rows, or on the training rows without early stopping.

    loss : {'squared_error', 'absolute_error', 'huber', 'binary_cross_entropy'} or callable, \
            default='squared_error'
        The L of the objective, see Notes. ``'huber'`` is linear beyond one standard deviation of
        the mean feature. ``'binary_cross_entropy'`` is for data in [0, 1] and needs
        ``output_activation='logistic'``. A callable ``(x_hat, x) -> losses`` gives one value per
        row, of tensors of shape ``(batch, n_features)`` in the units that the networks see.

    penalty : {'l2', 'l1', 'activity_l1', 'contractive', 'kl'}, Penalty or None, default='l2'
        The R of the objective, see Notes. On the weights: ``'l2'`` is the sum of their squares,
        ``'l1'`` that of their absolute values. On the codes: ``'activity_l1'`` makes them sparse,
        ``'contractive'`` makes them change little with the input, and ``'kl'`` makes the
        autoencoder variational. A :class:`skae.penalties.Penalty` is your own.

    alpha : float or 'auto', default='auto'
        Weight of the penalty, without unit: it carries over between data sets. With the linear
        skip and a penalty on weights it says how nonlinear the model is: 0 is the free autoencoder,
        infinity (1e15 at most) is PCA (with another loss than the squared error, or beside
        categories, a linear model, which goes on from there to smaller losses). 0 is the same as
        ``penalty=None``, but that with ``'kl'`` an encoder of your own still gives two outputs for
        each component.
        ``'auto'`` is 1e-4, and with a penalty on weights ``0.2 / max(n_samples_seen_, 1000)``: like
        a prior it counts for less the more rows there are, and the less noise: with the squared
        error of numbers, a penalty on weights and 1000 rows or more, it is halved each time that
        the training loss is, from a tenth of the variance on.

    corruption : {'gaussian', 'masking', 'swap'} or callable, default=None
        What is done to rows before they are encoded, in `fit` alone, while the clean ones stay the
        target: noise is added to numbers, entries are hidden as if they were missing, or they are
        replaced by what another row has there. Early stopping judges by how well held-out rows are
        restored from such corruption, the same in each epoch. A callable ``(x, level) -> x`` is
        your own.

    corruption_level : float, default=0.1
        Standard deviation of the noise, in units of the data's mean feature standard deviation, or
        share of the entries. 0 is the same as ``corruption=None``.

    optimizer : {'soap', 'adam', 'adamw', 'sgd', 'rmsprop'} or type, default='soap'
        Optimiser, or a subclass of ``torch.optim.Optimizer``. ``'soap'`` (Vyas et al., 2024, of
        rank 32 here) is Adam along the axes on which the gradients by the units of a hidden layer
        are largest, and beside them, and needs some quarter of Adam's steps. Hidden layers are
        those between linear layers of a chain (``torch.nn.Sequential``); other weights get Adam's
        steps. From 1000 rows on, a gradient that is longer than one and a half times the root mean
        square of those so far is shortened to that. ``'sgd'`` has Nesterov's momentum of 0.9.

    learning_rate_init : float, default=12e-3
        Learning rate. Where rows are held out it is a quarter of this once training has come to
        an end for the first time, see `n_iter_no_change`; otherwise it is constant, unless a
        callback changes it.

    batch_size : int or 'auto', default='auto'
        Largest number of rows in a training step. ``'auto'`` is four times the square root of the
        number of training rows, rounded to a power of two between 32 and 256.

    max_iter : int, default=200
        Largest number of epochs. 0 gives the start, that is PCA.

    average : bool, default=True
        Whether weights are averaged while training: an exponential moving average with a memory of
        up to 100 steps, less at first. The average is validated and kept.

    early_stopping : bool, default=True
        Whether to hold out rows, to end training when their error stops falling, and to keep the
        weights of the epoch that was best on them. The start is a candidate, and an epoch beats PCA
        only by a gain that is significant at the 5 % level (paired t-test over the held-out rows,
        and in the end over the training rows too).
        Of fewer than four rows none can be held out, and a start at PCA is kept.

    validation_fraction : float or 'auto', default='auto'
        Share of the rows to hold out, two rows at least; PCA is computed from all rows. ``'auto'``
        is a tenth of 1000 rows and more. Fewer are all held out in turn: five networks, each
        trained on four fifths of the rows from their PCA, show how many epochs are best for rows
        that they have not seen, and all rows are then trained for as many. There the t-test is at
        1 % instead of 5 % where the mean error is not below that of the PCA of all rows. (With
        `callbacks`, where training goes on from an earlier fit, for large mapped files, and for
        codes longer than four fifths of the rows, ``'auto'`` is a tenth of any number.)

    n_iter_no_change : int, default=15
        How many epochs may pass without a gain of ``tol`` before training ends. With rows that are
        held out once, and not in turn, it goes on from the best epoch at a quarter of the learning
        rate then, until as many pass again.

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
        With 1 a progress bar is shown; where messages go to a file, a line in ten seconds. For
        progress inside a search there are scikit-learn's own callbacks (1.9 and later), see
        ``set_callbacks``.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The trained net; its ``history`` has the losses and times of all epochs.
    encoder_ : nn.Module
        The trained encoder, from ``(x - mean_) / scale_`` to ``code / code_scale_``. Gaps and
        categories are not for it: it sees what ``net_.module_.input`` makes of them.
    decoder_ : nn.Module
        The trained decoder, from ``code / code_scale_`` to ``(x̂ - mean_) / scale_``; beside
        categories to numbers in such units, and then the logarithms of the probabilities.
    device_ : torch.device
        Where the model is. A model that is loaded on a machine without that device is on the CPU.
    n_components_ : int
        Size of the code.
    alpha_ : float
        The weight of the penalty: `alpha`, or what ``'auto'`` comes to where the loss is a tenth of
        the variance or more.
    n_samples_seen_ : int
        Number of rows of `fit`, and of the calls of `partial_fit` after it.
    categories_ : list of (ndarray or None)
        The categories of each column that holds some, in the order of its dtype or sorted.
    mean_ : ndarray of shape (n_features,)
        Mean of the training rows, 0 for categories.
    scale_ : float or ndarray of shape (n_features,)
        Square root of the mean variance of the features. The networks see ``(x - mean_) / scale_``.
        Where columns are categories, the standard deviation of each column of numbers, and 1.
    code_scale_ : float
        Unit of the codes: ``scale_``, or 1 if the model is variational, where N(0, I) is, or if
        columns are categories.
    code_sparsity_ : float
        Share of the entries of the training codes whose size is at most a thousandth of their
        component's root mean square.
    density_ : GaussianMixture
        Fitted to training codes, 2000 at most, in units of ``code_scale_``; what `sample` draws
        from. That is done when it is first asked for, or the estimator is stored or copied.
    explained_variance_ : ndarray of shape (n_components,)
        Variance of each component of the training codes, in squared units of the codes. It falls,
        but where a fitted start is kept (`init`, `warm_start`), with the axes that it has.
    explained_variance_ratio_ : ndarray of shape (n_components,)
        By how much training R² grows when component i joins the first i - 1; the sum is the
        training R². Single values can be negative, as a nonlinear decoder may need components
        together.
    loss_curve_ : list of float
        Training loss of each epoch: L, and ``alpha * R`` if R is on the codes. Where rows are held
        out in turn these are the epochs in which all rows are trained.
    validation_scores_ : list of float or None
        Held-out R² of each epoch; entry 0 is before training. None where no rows are held out:
        without early stopping, of fewer than four rows, and in a stream. Where rows are held out
        in turn, that of all rows by the networks that have not seen them, which begin at the PCA
        of four fifths of the rows. With another loss than the squared error, a penalty on the
        codes, or corruption, it is one minus what training is to make small, as a share of the
        loss of the mean row.
    best_validation_score_ : float or None
        The one of the weights that were kept.
    init_scores_ : list of float
        ``best_validation_score_`` of each of the starts, or the same score of the training rows
        where none are held out; empty in a stream.
    n_iter_ : int
        Number of epochs that were run; with early stopping those that were judged, one less than
        there are ``validation_scores_``.
    best_iter_ : int
        The epoch whose weights were kept; 0 is the start. Where rows are held out in turn, the
        number of epochs that all rows were trained for, as with ``early_stopping=False`` and
        ``max_iter=best_iter_``, if there was one start.
    n_features_in_ : int
        Number of features seen during `fit`.
    feature_names_in_ : ndarray of shape (n_features,)
        Their names, if all are strings.

    See Also
    --------
    sklearn.decomposition.PCA : The linear model that this one starts from.
    sklearn.decomposition.KernelPCA : Nonlinear components by a kernel.

    Notes
    -----
    The objective is ``J = L + alpha * R``. L is the loss averaged over rows and features of
    ``(x - mean_) / scale_``; for the squared error that is one minus R² on the training rows. R is
    the penalty. On weights it sees those of the nonlinear branches where there is a linear skip,
    and all weights elsewhere. On codes it is a mean over rows; it measures codes relative to their
    own scale, so that the decoder cannot undo it, and early stopping then judges epochs by J, not
    by L. :mod:`skae.penalties` has the definitions.

    With ``penalty='kl'`` codes are those of :class:`~sklearn.decomposition.PCA` with
    ``whiten=True`` before the first step, and `transform` gives the means of their distributions.

    One scale serves all features, as in PCA: features in different units are brought to one by a
    :class:`~sklearn.preprocessing.StandardScaler` in front.

    **Missing entries** (NaN, pandas' ``NA``, polars' null) are left out of L and of all scores. PCA
    is then the regularised iterative one (Josse and Husson, 2016), and the encoder sees what its
    components reconstruct of the other entries of the row: codes have no gaps. So has nothing that
    is decoded; `impute` fills the gaps of a table. Training with ``corruption='masking'``, which
    hides further entries that are known, is best for that.

    **Categories** have no common unit with numbers, and every column counts alike: L is the mean
    over columns of what is left of their baseline loss, the variance of numbers or the entropy of
    categories, whose loss is the cross-entropy of their decoded probabilities. The networks see
    standardised numbers, and a vector of inputs for each category: its one-hot vector less the
    shares of the categories, over the square roots of these. PCA of that is the factor analysis of
    mixed data (Pagès, 2004). Columns of more than 50 categories have learned vectors of 16 inputs.
    A category that `fit` has not seen is treated as missing. ``mean_`` and ``scale_`` are by column
    then.

    After training the codes are turned to their principal axes: on the training rows they are
    centred, uncorrelated and in falling variance, and each covaries positively with the principal
    component that it covaries most with. (Nearly so where PCA is kept and entries are missing. A
    fitted start that is kept keeps its axes, which are those of the rows before.)
    Reconstructions are not changed by this. Where the penalty depends on the axes
    (``'activity_l1'``, ``'kl'``) codes are ordered by their variance and given that sign, and stay
    as they are otherwise.

    Weights are float32. Rows are mapped in their own precision, float64 in float64.

    References
    ----------
    G. E. Hinton and R. R. Salakhutdinov, "Reducing the Dimensionality of Data with Neural
    Networks", Science 313 (2006), doi:10.1126/science.1127647.

    J. Josse and F. Husson, "missMDA: A Package for Handling Missing Values in Multivariate Data
    Analysis", J. Stat. Softw. 70 (2016), doi:10.18637/jss.v070.i01.

    J. Pagès, "Analyse factorielle de données mixtes", Revue de statistique appliquée 52 (2004).

    B. T. Polyak and A. B. Juditsky, "Acceleration of Stochastic Approximation by Averaging",
    SIAM J. Control Optim. 30 (1992), doi:10.1137/0330046.

    N. Vyas et al., "SOAP: Improving and Stabilizing Shampoo using Adam" (2024), arXiv:2409.11321.

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

    # What scikit-learn's HTML representation links to.
    _doc_link_module = "skae"
    _doc_link_template = (
        "https://skae.readthedocs.io/en/latest/generated/{estimator_module}.{estimator_name}.html"
    )

    # The PCA of a stream's rows so far. Files of early versions do not say.
    _stream_pca = None

    _parameter_constraints: dict = {
        "n_components": [
            Interval(Integral, 1, None, closed="left"),
            Interval(Real, 0, 1, closed="neither"),
        ],
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "output_activation": [StrOptions({"identity", "logistic"})],
        "linear_skip": ["boolean"],
        "tied_weights": ["boolean"],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "encoder": [callable, None],
        "decoder": [callable, None],
        "categorical_features": [StrOptions({"from_dtype"}), "array-like", None],
        "init": [StrOptions({"pca", "random", *INITS}), BaseEstimator],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "loss": [StrOptions({*_LOSSES, "binary_cross_entropy"}), callable],
        "penalty": [StrOptions(set(_PENALTIES)), Penalty, None],
        # of gradients optimisers form the squares, in float32
        "alpha": [StrOptions({"auto"}), Interval(Real, 0, 1e15, closed="both")],
        "corruption": [StrOptions(set(corruptions.__all__)), callable, None],
        "corruption_level": [Interval(Real, 0, None, closed="left")],
        "optimizer": [StrOptions(set(_OPTIMIZERS)), type],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "average": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="neither")],
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
        activation="relu",
        output_activation="identity",
        linear_skip=True,
        tied_weights=False,
        dropout=0.0,
        encoder=None,
        decoder=None,
        categorical_features="from_dtype",
        init="pca",
        n_init=1,
        loss="squared_error",
        penalty="l2",
        alpha="auto",
        corruption=None,
        corruption_level=0.1,
        optimizer="soap",
        learning_rate_init=12e-3,
        batch_size="auto",
        max_iter=200,
        average=True,
        early_stopping=True,
        validation_fraction="auto",
        n_iter_no_change=15,
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
        self.tied_weights = tied_weights
        self.dropout = dropout
        self.encoder = encoder
        self.decoder = decoder
        self.categorical_features = categorical_features
        self.init = init
        self.n_init = n_init
        self.loss = loss
        self.penalty = penalty
        self.alpha = alpha
        self.corruption = corruption
        self.corruption_level = corruption_level
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
        module = self.net_.module_
        if isinstance(module.output, nn.Identity):
            return module.decoder
        return nn.Sequential(module.decoder, module.output)

    @property
    def device_(self):
        return torch.device(self.net_.device)

    @property
    def density_(self):
        # Most who want codes never ask, and it takes longer than to train on a part of a stream.
        if "density_" not in vars(self):
            raise AttributeError("density_ is an attribute of fitted estimators; call fit first.")
        density = vars(self)["density_"]
        if isinstance(density, functools.partial):
            density = vars(self)["density_"] = density()
        return density

    @property
    def _n_features_out(self):
        return self.n_components_

    def __sklearn_is_fitted__(self):
        return hasattr(self, "net_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = not self._names_categories()
        return tags

    def _names_categories(self):
        named = self.categorical_features
        return named is not None and not isinstance(named, str) and len(named) > 0

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn to encode and decode the rows of X.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Two rows or more, without infinity. A sparse matrix stays sparse, its rows are made
            dense a batch at a time.
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
        UserWarning
            If columns or rows have no entries.
        """
        origin = self._origin()
        with fit_task(self, X, y), _all_or_nothing(self):
            self._check_start(X, origin)
            rows = self._learned_rows(X, origin)
            self._fit(rows, origin)
            self._no_rows = self._template(X, origin)
        return self

    def partial_fit(self, X, y=None):
        """Go on learning by one pass over the rows of X, for tables that come in parts.

        The first call starts at the PCA of its rows, whose mean and scale stay those of the model.
        Later ones go on, with the parameters of training that the first had, but for `alpha`,
        `batch_size` and `callbacks` (and with those of now where the model was copied or loaded,
        `alpha` was 0, or a call was interrupted, as training begins anew then): the linear paths
        follow :class:`~sklearn.decomposition.IncrementalPCA`, as far as its axes turn by less than
        25 degrees from those that the paths began with, and all weights are trained. After a `fit`
        training goes on from that. No rows are held out, so that nothing is compared with PCA.
        Codes have the axes of the latest X that has ten rows or more for each component, or of the
        first; their variances and ratios, and the density that `sample` draws from, are of that X.
        Callbacks begin anew in each call: skorch's `LoadInitState` would go back to its checkpoint
        each time, and belongs to one call alone.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            As for `fit`; in the first call `n_components` rows or more and at least two, later any
            number.
            Categories are those of the first call.
        y : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        self : AutoencoderTransformer

        Raises
        ------
        ValueError
            As in `fit`.
        """
        return self._fit_part(X)

    @fit_context(prefer_skip_nested_validation=True)
    def _fit_part(self, X):
        """Check parameters, which scikit-learn does of a `partial_fit` in the first call alone."""
        origin = self if hasattr(self, "net_") else self._origin()
        with _all_or_nothing(self):
            self._check_start(X, origin)
            rows = self._learned_rows(X, origin, ensure_min_samples=1 if origin is self else 2)
            self._partial_fit(rows, origin)
            if origin is not self:
                self._no_rows = self._template(X, origin)
        return self

    def transform(self, X):
        """Encode rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        X_new : ndarray of shape (n_samples, n_components)
            Codes, in the units of the data; float32 if X is, float64 otherwise.
        """
        X = self._validated(X)
        encode, to_units = self._module(X).encode, self._chunks_to_units(X)
        return self._map(
            lambda rows: encode(to_units(rows)) * self.code_scale_, X, self.n_components_
        )

    def inverse_transform(self, X, as_frame=False):
        """Decode codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            Codes.
        as_frame : bool, default=False
            Whether to return a DataFrame also where all columns are numbers.

        Returns
        -------
        X_original : ndarray or DataFrame of shape (n_samples, n_features)
            Rows; float32 if X is, float64 otherwise. Where columns are categories it is a table
            like that of `fit`: of its library, columns and dtypes.
        """
        check_is_fitted(self)
        codes = check_array(X, dtype=[np.float64, np.float32], input_name="X")
        if codes.shape[1] != self.n_components_:
            raise ValueError(
                f"X must have as many columns as the code, n_components_={self.n_components_},"
                f" got {codes.shape[1]}; pass what transform returned."
            )
        return self._table(self._decoded(codes), X, as_frame)

    def reconstruct(self, X):
        """Encode rows and decode them again: ``inverse_transform(transform(X))`` in one pass.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        X_hat : ndarray or DataFrame of shape (n_samples, n_features)
            Complete, whatever is missing in X, but for columns of categories of which `fit` saw
            none; as `inverse_transform` returns it.
        """
        return self._table(self._reconstructed(self._validated(X)), X)

    def impute(self, X):
        """Fill the missing entries with their reconstruction, and leave all others as they are.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            NaN, pandas' ``NA`` or polars' null where entries are missing.

        Returns
        -------
        X_filled : ndarray or DataFrame of shape (n_samples, n_features)
            A copy of X, of its type and dtypes. A categorical dtype that lacks a category which
            is filled in gets it. Categories that `fit` has not seen stay.
        """
        rows = self._validated(X, accept_sparse=False)
        table = X
        if not is_frame(X) and not isinstance(X, np.ndarray):
            table = rows if self._known_categories is None else np.array(X, dtype=object)
        missing = np.isnan(rows)
        values = self._reconstructed(rows)
        # once more from what was found, which is nearer to the truth than what the encoder saw
        values = self._reconstructed(np.where(missing, values, rows))
        return filled(table, values, self._known_categories, self._no_rows)

    def score_samples(self, X):
        """Return how well each row is reconstructed, minus the distance ‖x − x̂‖₂.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            In the units of the data; higher is better, and rows unlike the training data are low.
            As in :func:`~sklearn.metrics.pairwise.nan_euclidean_distances` the square of the
            distance is that of the observed entries, times all by observed, and NaN where there
            are none. Where columns are categories, the square is the sum over columns of the loss
            as a share of the training rows' baseline, see `score_features`.
        """
        X = self._validated(X)
        judged, _ = self._judged(X)
        units = self._tensor(self._judge.units.astype(X.dtype))

        def squares(rows):
            losses, rows = judged(rows)
            known = n_features = rows.shape[1]
            if may_have_gaps(rows):
                known = rows.isfinite().sum(dim=1)
            return losses @ units * (n_features / known)

        losses = self._map(squares, X)
        # outside of the root: the square of a scale may be none of float32's numbers
        return -np.sqrt(losses) * (1.0 if self._layout.categorical else self.scale_)

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
            ``1 − Σ‖x − x̂‖² / Σ‖x − mean_‖²`` over the entries that are not missing: 1 is perfect, 0
            is the mean row. Of a linear model on its training rows it is PCA's cumulative explained
            variance ratio. Where columns are categories there is no common unit, and it is the mean
            of `score_features` without columns that were constant in `fit`. NaN where all entries
            are missing.
        """
        return self._score(self._validated(X))

    def _score(self, X):
        losses, baselines, n_observed = self._feature_losses(X)
        if not n_observed.any():
            return np.nan
        # what was constant in fit has no unit
        counts = (n_observed > 0) & (self._judge.baselines > 0)
        if not self._layout.categorical or not counts.any():
            return share_avoided(losses.sum(), baselines.sum())
        both = zip(losses[counts], baselines[counts], strict=True)
        return float(np.mean([share_avoided(*one) for one in both]))

    def score_features(self, X):
        """Return how well each feature is reconstructed: R², or the share of the entropy explained.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        scores : pandas.Series of shape (n_features,)
            Of a feature of numbers ``1 − Σ(x − x̂)² / Σ(x − mean_)²``. Of one of categories it is 1
            minus the cross-entropy of the decoded probabilities as a share of that of the training
            frequencies (D. McFadden's R², 1974). Missing entries are left out; NaN where all are.
        """
        sums = zip(*self._feature_losses(self._validated(X)), strict=True)
        scores = [share_avoided(loss, baseline) if n else np.nan for loss, baseline, n in sums]
        return pd.Series(scores, index=self._labels())

    def reconstruction_errors(self, X):
        """Return how badly each entry is reconstructed, to find the odd ones.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        errors : pandas.DataFrame of shape (n_samples, n_features)
            The loss of each entry (squared error, or minus the logarithm of the probability of the
            category) as a share of the mean baseline loss of its feature on the training rows
            (variance, or entropy), so that features can be compared: the mean of a column is 1
            minus its `score_features` on those. NaN where an entry is missing. Where the feature
            was constant it is the loss itself, in units of ``scale_``. The index is that of X.
        """
        rows = self._validated(X, accept_sparse=False)
        judged, _ = self._judged(rows)
        losses = self._map(lambda some: judged(some)[0], rows, self.n_features_in_)
        baselines = self._judge.baselines
        errors = losses / np.where(baselines > 0, baselines, 1.0)
        errors[np.isnan(rows)] = np.nan
        index = X.index if is_pandas(X) else None
        return pd.DataFrame(errors, columns=self._labels(), index=index)

    def sample(self, n_samples=1, random_state=None):
        """Return new rows: codes drawn from ``density_``, decoded.

        The last step of a pipeline is asked as ``pipeline[:-1].inverse_transform(
        pipeline[-1].sample(n_samples))``.

        Parameters
        ----------
        n_samples : int, default=1
            How many, at least 1.
        random_state : int, RandomState instance or None, default=None
            ``None`` is a new seed at each call.

        Returns
        -------
        X_new : ndarray or DataFrame of shape (n_samples, n_features)
            Of the type, columns and dtypes of the training data (dense, where that was sparse);
            integers are rounded.

        References
        ----------
        P. Ghosh et al., "From Variational to Deterministic Autoencoders" (2019),
        arXiv:1903.12436, on densities that are fitted when training has ended.
        """
        check_is_fitted(self)
        if not isinstance(n_samples, Integral) or n_samples < 1:
            raise ValueError(f"n_samples must be an integer of at least 1, got {n_samples!r}.")
        codes = draw(self.density_, n_samples, random_state) * self.code_scale_
        return like(self._no_rows, self._decoded(codes), self._known_categories)

    # ------------------------------------------------------------------------------ persistence

    def save_model(self, path):
        """Save a fitted transformer as one safetensors file, which runs no code when it is loaded.

        It holds parameters, weights and what else `fit` has learned, as arrays and JSON, and no
        training data. What is code of your own (networks, callable losses and corruptions,
        penalties, callbacks, optimisers) is not in it: its name is, and `load_model` asks for it.
        Of networks of your own the weights are in the file.

        Parameters
        ----------
        path : str or os.PathLike
            The file, conventionally ``*.safetensors``. What was there is replaced when the new
            file is complete, and stays if it cannot be written.

        Returns
        -------
        None

        Raises
        ------
        NotFittedError
            If the transformer is not fitted.
        TypeError
            If it holds something that such a file cannot hold faithfully, as categories that are
            dates; `pickle` can.

        See Also
        --------
        load_model : The way back.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from sklearn.datasets import load_iris
        >>> from skae import AutoencoderTransformer
        >>> X = load_iris().data
        >>> autoencoder = AutoencoderTransformer(max_iter=5, random_state=0).fit(X)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     autoencoder.save_model(Path(folder) / "iris.safetensors")
        ...     loaded = AutoencoderTransformer.load_model(Path(folder) / "iris.safetensors")
        >>> bool((loaded.transform(X) == autoencoder.transform(X)).all())
        True
        """
        check_is_fitted(self)
        _model_file.write(path, self._content(self._own_parameters()))

    @classmethod
    def load_model(cls, path, **own):
        """Load a transformer that `save_model` has saved.

        Nothing of a file is run, and a file that is not whole, has been changed or is something
        else is an error. The checksum in it tells of damage, not of who wrote it: whether the
        numbers are those of a good model is a matter of where the file comes from.

        Parameters
        ----------
        path : str or os.PathLike
        **own : dict
            The parameters that are code of your own, by their names: ``encoder=MyEncoder``. Those
            that the file lacks have to be given, and no others.

        Returns
        -------
        autoencoder : AutoencoderTransformer
            It maps rows to the bit as the saved one did on the same machine. It is on the device
            on which it was trained, or with a warning on the CPU where that is not to be had.

        Raises
        ------
        ValueError
            If the file is not as `save_model` wrote it or of a newer protocol, or `own` has other
            names, or does not fit the file. (Of a network of torch's own layers all is in the file,
            and what is given for it is but kept as the parameter.)
        OSError
            If there is no such file, or it cannot be read.

        See Also
        --------
        save_model : With an example.
        """
        source = f"The file {os.fspath(path)!r}"
        return cls()._restored(_model_file.read(path, source), source, own)

    def __reduce_ex__(self, protocol):
        # For pickles and copies. What can be is the content of such a file: small, without handles
        # to a device, and nothing in it is a class that another release might have moved. All else
        # is as it is, networks of one's own with all that they remember.
        others = {name: v for name, v in self._attributes().items() if not is_describable(v)}
        return copyreg.__newobj__, (type(self),), {**others, "_content": self._content(others)}

    def __getstate__(self):
        # For skops, which shall have to trust no class but this one and those of one's own.
        own = self._own_parameters()
        instances = [name for name, value in own.items() if isinstance(value, nn.Module)]
        if instances:
            raise TypeError(
                f"{instances[0]} must be a class or function to be stored by skops, which has no"
                " way to store tensors, got an instance; give what makes it, or use save_model."
            )
        return {**own, "_content": self._content(own)}

    def __setstate__(self, state):
        others = dict(state)
        content = others.pop("_content", b"")
        own = {name: others.pop(name) for name in self._get_param_names() if name in others}
        super().__setstate__(others)
        self._restored(content, "The state of the estimator", own)

    def _attributes(self):
        """Return all attributes by name, none of which is to be computed later."""
        computed = {"density_": self.density_} if "density_" in vars(self) else {}
        lasting = {n: v for n, v in vars(self).items() if n not in WHILE_FITTED}
        return {**lasting, **computed}

    def _own_parameters(self):
        """Return the parameters that hold what a file does not."""
        parameters = self.get_params(deep=False)
        return {
            name: own
            for name, own in parameters.items()
            if name not in _ARRAY_LIKES and not is_describable(own)
        }

    def _content(self, left_out):
        """Return the content of a file with all attributes but some."""
        # scikit-learn's callbacks, and what metadata it passes on, are no part of a model
        left_out = {**left_out, "_skl_callbacks": None, "_metadata_request": None}
        attributes = {n: v for n, v in self._attributes().items() if n not in left_out}
        for name in _ARRAY_LIKES & attributes.keys():
            if not is_describable(attributes[name]):  # another library's kind of list
                attributes[name] = list(attributes[name])
        names = {n: _named(own) for n, own in left_out.items() if n in self._get_param_names()}
        parts = {}
        if "net_" in attributes:
            parts = {i: own for i, own in _own_parts(self).items() if own[0] in names}
            attributes["net_"] = attributes.pop("net_")  # the last, as own networks need the others
        try:
            text, arrays = described(attributes, names, parts)
        except UndescribableError as error:
            raise TypeError(
                "A model must be made of numbers, strings and known networks to be saved to a file,"
                f" got a {type(error.value).__name__} as {error.path}; turn it into one of these,"
                " or use pickle."
            ) from error
        return _model_file.dumps(text, arrays, _versions())

    def _restored(self, content, source, own):
        """Get the attributes that are in the content of a file, and return self."""
        text, arrays = _model_file.loads(content, source)
        try:
            n_values = sum(array.size for array in arrays.values())
            own_part = functools.partial(_own_part, own, n_values, {})
            # weights that are trained on, whatever mode the caller is in
            with usual(torch.device("cpu")), torch.inference_mode(False):
                attributes, modules = restored(text, arrays, own, own_part)
                vars(self).update(attributes, **own)
                if "net_" in attributes:
                    self._check_networks(modules)
        except (OtherCodeError, ImportError):
            raise
        except Exception as error:  # whatever comes of what anybody may have written
            reason = f"damaged ones ({type(error).__name__}: {error})"
            raise _model_file.refused(source, reason) from error
        return self

    def _check_networks(self, own):
        """Refuse what does not fit together."""
        n_features, k = self.n_features_in_, self.n_components_
        layout, density = _layout_of(self.categories_), self.density_
        module, judge, device = self.net_.module_, self._judge, "cpu"
        if own or not is_small(module):
            # tried without values: who knows how long these make a row on its way
            stand_ins = {id(module): _Shaped(text.get("n_out")) for module, text in own}
            module, judge = (shapes_of(m, stand_ins) for m in (module, judge))
            device = "meta"
        with torch.no_grad():
            rows = torch.full((2, len(self.mean_)), math.nan, device=device, dtype=torch.float32)
            codes = module.encode(rows)
            losses = judge.entries(module.decode(codes), rows)
        for name, here, there in (
            ("_layout", self._layout.n_categories, layout.n_categories),
            ("mean_", self.mean_.shape, (n_features,)),
            ("scale_", np.shape(self.scale_), (n_features,) if layout.categorical else ()),
            ("codes", codes.shape, (2, k)),
            ("losses", losses.shape, (2, n_features)),
            ("baselines", judge.baselines.shape, (n_features,)),
            ("units", judge.units.shape, (n_features,)),
            ("explained_variance_", self.explained_variance_.shape, (k,)),
            ("means of density_", density.means_.shape, (len(density.weights_), k)),
            ("covariances of density_", density.covariances_.shape, (*density.means_.shape, k)),
        ):
            if here != there:
                raise ValueError(f"{name} must have the size {there}, got {here}")

    # --------------------------------------------------------------------- from array to array

    def _validated(self, X, **options):
        check_is_fitted(self)
        # scikit-learn's check and the look for empty rows, in one pass of all threads
        is_finite = self._known_categories is None and _is_lent(X) and _has_finite_sum(X)
        if is_finite:
            options["ensure_all_finite"] = False
        rows, _ = self._rows(X, self.categories_, reset=False, **options)
        if not is_finite:
            _warn_of_nothing(n_empty_rows(rows), [])
        return rows

    def _check_start(self, X, origin):
        """Refuse a fitted start that is none, or that knows other columns than those of X."""
        if origin is None or origin is self:
            return
        if not isinstance(origin, AutoencoderTransformer) or not hasattr(origin, "net_"):
            raise ValueError(
                "init must be a fitted AutoencoderTransformer where it is an estimator, got a"
                f" {type(origin).__name__} that is not; fit it, and put it into a FrozenEstimator"
                " where it is cloned, as by a search."
            )
        validate_data(origin, X, reset=False, skip_check_array=True)

    def _learned_rows(self, X, origin, ensure_min_samples=2):
        """Validate what `fit` is given, learn its categories, and return it as floats."""
        known = None if origin is None else origin.categories_
        rows, self.categories_ = self._rows(
            X, known, reset=origin is not self, ensure_min_samples=ensure_min_samples
        )
        self._layout = _layout_of(self.categories_)
        names = np.array(self._names(), dtype=object)
        _warn_of_nothing(n_empty_rows(rows), names[observed_rows(rows) == 0].tolist())
        return rows

    def _rows(self, X, categories, reset, **options):
        """Return validated rows as floats, with codes for categories and NaN for missing entries.

        Categories that are None are learned; they are returned beside the rows.
        """
        check_table(X)
        options = {
            "dtype": [np.float64, np.float32],
            "accept_sparse": "csr",
            "ensure_all_finite": "allow-nan",
            **options,
        }
        first = options
        if is_frame(X):
            first = {"skip_check_array": True}
        elif self._names_categories() if categories is None else _any_known(categories):
            first = {**options, "dtype": None, "ensure_all_finite": False}  # they may be no numbers
            X = np.array(X, dtype=object) if isinstance(X, list | tuple) else X  # not all strings
        if isinstance(X, np.ndarray) and X.dtype == object:
            X = np.where(pd.isna(X), np.nan, X)  # NumPy knows no other kind of gap
        validated = validate_data(self, X, reset=reset, **first)
        if scipy.sparse.issparse(validated) and not validated.has_canonical_format:
            # entries that are stored in parts, whose sums are meant; what is given stays as it is
            validated = validated.copy()
            validated.sum_duplicates()
        if categories is None:
            categories = categories_of(validated, self.categorical_features)
        if not _any_known(categories) and is_plain(validated):
            if first is not options:
                options["dtype"] = float_dtype(validated, categories)
                validated = check_array(validated, estimator=self, input_name="X", **options)
            return validated, categories
        rows, unknown = encoded(validated, categories)
        if unknown:
            warn(f"Categories that fit has not seen, in columns {unknown}, are treated as missing.")
        return check_array(rows, estimator=self, input_name="X", **options), categories

    @property
    def _known_categories(self):
        """Return what codes stand for, or None if all columns are numbers."""
        return self.categories_ if _any_known(self.categories_) else None

    def _names(self):
        if hasattr(self, "feature_names_in_"):
            return self.feature_names_in_
        return [f"x{j}" for j in range(self.n_features_in_)]

    def _labels(self):
        """Return the names of columns as the table of `fit` has them, which may be no strings."""
        return self._no_rows.columns if is_frame(self._no_rows) else self._names()

    def _template(self, X, origin):
        """Return the table without rows that decoded rows are like."""
        empty = no_rows_of(X)
        if origin is None or self._known_categories is None:
            return empty
        return with_categories(empty, origin._no_rows, self._known_categories)

    def _table(self, values, X, as_frame=False):
        """Return decoded rows in the form in which users get them."""
        template = None if self._known_categories is None else self._no_rows
        if as_frame:
            template = frame_of(self._no_rows, self._names(), self.categories_)
        index = X.index if is_pandas(X) else None
        return like(template, values, self._known_categories, index)

    def _reconstructed(self, X):
        module, to_units = self._module(X), self._chunks_to_units(X)
        return self._mapped_to_rows(lambda rows: module(to_units(rows)), X)

    @property
    def _width(self):
        """How long a row is where it is longest, with an input or output per category."""
        return max(self._layout.n_inputs, self._layout.n_outputs)

    def _map(self, function, X, *shape, put=torch.Tensor.copy_):
        """Apply a function of some rows to all, and put what it gives, of a shape for each row.

        It is written where it belongs, by all threads, and not by NumPy's one.
        """
        mapped = np.empty((X.shape[0], *shape), X.dtype)
        with usual(self.device_), torch.inference_mode():
            for rows in chunks_of(X, self._width):
                put(torch.from_numpy(mapped[rows]), function(X[rows]))
        return mapped

    def _decoded(self, codes):
        decode = self._module(codes).decode
        return self._mapped_to_rows(
            lambda rows: decode(self._tensor(rows) / self.code_scale_), codes
        )

    def _mapped_to_rows(self, function, X):
        """Apply a function of some rows, giving rows in units, to all, and leave the units.

        There is no tensor between: as new memory is slow, each pass over rows counts beside a small
        decoder.
        """
        return self._map(function, X, self.n_features_in_, put=self._put_in_units)

    def _module(self, X):
        """Return the networks in the precision in which X is mapped."""
        module = self.net_.module_
        is_double = inference_dtype(X.dtype, self.device_) is torch.float64
        # one chunk would make its buffers, and use them once
        has_chunks = X.shape[0] > chunk_rows(self._width)
        is_known = (is_double or has_chunks) and is_evaluated(module)
        if is_double and is_known:
            module = converted(module, dtype=torch.float64)
        elif is_double:
            module = copy.deepcopy(module).double()
        return Evaluated(module) if has_chunks and is_known else module

    def _tensor(self, rows, device=None):
        device = self.device_ if device is None else device
        # a copy, always: rows are the caller's, and may be read-only or have negative strides
        rows = rows.toarray() if scipy.sparse.issparse(rows) else np.array(rows, order="C")
        return torch.from_numpy(rows).to(device, inference_dtype(rows.dtype, device))

    def _chunks_to_units(self, X):
        """Return a function that brings chunks of X to the networks' units, each where the one
        before was."""
        dtype = inference_dtype(X.dtype, self.device_)
        n_rows = min(X.shape[0], chunk_rows(self._width))
        kept = torch.empty(n_rows, X.shape[1], dtype=dtype, device=self.device_)
        return lambda rows: self._to_units(rows, out=kept[: rows.shape[0]])

    def _to_units(self, rows, device=None, out=None):
        device = self.device_ if device is None else device
        # the caller's memory, where that will do, and so not to be changed
        is_lent = device.type == "cpu" and _is_lent(rows)
        rows = torch.from_numpy(rows) if is_lent else self._tensor(rows, device)
        mean, scale = self._mean_and_scale(rows)
        units = torch.sub(rows, mean, out=out).div_(scale)
        # Beyond any data, and small enough that no sum of squares is infinite in float32: finite
        # rows have finite codes.
        return units.clamp_(-1e15, 1e15)

    def _mean_and_scale(self, rows):
        return (
            # copies, as these may be read-only
            torch.tensor(some, dtype=rows.dtype, device=rows.device)
            for some in (self.mean_, self.scale_)
        )

    def _put_in_units(self, rows, outputs):
        """Write what the networks give into rows, in the units of the data."""
        units = in_rows(outputs, self._layout) if self._layout.categorical else outputs
        mean, scale = self._mean_and_scale(units)
        if units.device == rows.device:
            torch.addcmul(mean, units, scale, out=rows)
        else:
            rows.copy_(torch.addcmul(mean, units, scale))
        if isinstance(self.net_.module_.output, Logistic):
            rows.clamp_(0, 1)  # which units and back may have left by a rounding

    def _judged(self, X):
        """Return a function of rows that gives the loss of each entry, and the rows in units.

        The loss is zero where the entry is missing. Beside it, what computes losses.
        """
        module = self._module(X)
        judge = converted(self._judge, self.device_, inference_dtype(X.dtype, self.device_))
        constant = torch.from_numpy(judge.baselines == 0).to(self.device_)
        constant = constant if constant.any() else None
        to_units = self._chunks_to_units(X)

        def judged(rows):
            rows = to_units(rows)
            losses = judge.entries(module(rows), rows)
            if constant is not None:  # beside no variance at all even a rounding would count
                losses = losses.masked_fill(constant & (losses < 1e-10), 0.0)
            return losses, rows

        return judged, judge

    def _feature_losses(self, X):
        """Return sums over rows, for each feature: its losses, those of its baseline, and how many
        entries they are of."""
        judged, judge = self._judged(X)
        sums = np.zeros((2, self.n_features_in_))
        with usual(self.device_), torch.inference_mode():
            for rows in chunks_of(X, self._width):
                losses, rows = judged(X[rows])
                both = losses, judge.entries(judge.mean_output(rows), rows)
                sums += [some.cpu().sum(dim=0, dtype=torch.float64) for some in both]
        return (*sums, observed_rows(X))

    # --------------------------------------------------------------------------------- fitting

    def _origin(self):
        """Return the fitted transformer from which training goes on, or None."""
        if self.warm_start and hasattr(self, "net_"):
            return self
        if isinstance(self.init, str):
            return None
        return self.init.estimator if isinstance(self.init, FrozenEstimator) else self.init

    @contextlib.contextmanager
    def _fitting(self, X, origin, n_before=0):
        """Check parameters, and give the context, device, random state and seed of a fit of X.

        After some rows of a stream another seed than after others is drawn from the same state.
        """
        with seeded(0, torch.device("cpu")):  # a penalty's layer may draw weights
            self._check_combinations()
            self._check_data(X, origin)
        device = resolve_device(self.device)
        random_state = self.random_state
        if random_state is None:
            random_state = np.random.RandomState()  # not the global one, which is the user's
        seed = check_random_state(random_state).randint(np.iinfo(np.int32).max)
        if n_before:
            seed = np.random.RandomState([seed, n_before % 2**32]).randint(np.iinfo(np.int32).max)
        with (
            usual(device),
            seeded(seed, device),
            self._threads(X, device),
            torch.inference_mode(False),
            torch.enable_grad(),
        ):
            yield device, random_state, seed

    def _fit(self, X, origin):
        with self._fitting(X, origin) as (device, random_state, seed):
            columns, pca = self._prepared(X, origin, device, random_state)
            data = columns.data
            self.init_scores_, best_score = [], math.nan
            for _ in range(self.n_init):
                net, course, at_start = self._trained(X, columns, pca, origin, seed)
                score = net.score_of(Dataset(data)) if course is None else course.best_score
                if math.isnan(best_score) or score > best_score:  # any is better than none
                    best, best_score = (net, course, at_start), score
                self.init_scores_.append(score)
            net, course, at_start = best
            self._read_training(net, course)
            self._settle(net, data, pca.components_, at_start, origin, seed)
            net.forget_training()
            self._stream_pca = None

    def _prepared(self, X, origin, device, random_state):
        """Learn what does not need training; return the rows, and the PCA that is the start."""
        if origin is None:
            layout = self._layout
            units = column_units(X, layout.numbers) if layout.categorical else data_units(X)
            self.mean_, self.scale_ = units
            # products of narrow integers would not fit; a share is no integer
            n_components = int(self.n_components) or self.n_components
        else:
            self.mean_, self.scale_ = origin.mean_, origin.scale_
            n_components = origin.n_components_
        data = self._training_data(X, device)
        columns = self._columns(X, data, origin)
        self._judge = self._weighed(SquaredError(), data).cpu()  # where it can be loaded
        pca = self._pca(X, columns, n_components, random_state)
        self.n_components_ = len(pca.components_) if n_components < 1 else n_components
        self._fitted_structure = (
            self._structure(self.n_components_) if origin is None else origin._fitted_structure
        )
        self._see(X)
        return columns, pca

    def _see(self, X, n_before=0):
        """Count rows, and choose a weight of the penalty for so many."""
        self.n_samples_seen_ = n_before + X.shape[0]
        self.alpha_ = self.alpha
        if self.alpha == "auto":
            penalty = self._penalty()
            on_rows = penalty is not None and penalty.on_rows
            self.alpha_ = 1e-4 if on_rows else 0.2 / max(self.n_samples_seen_, _ROWS_OF_ALPHA)

    def _partial_fit(self, X, origin):
        is_first, axes = origin is not self, None
        former = contextlib.nullcontext() if is_first else _its_former_self(self)
        n_before = 0 if is_first else getattr(self, "n_samples_seen_", 0)
        fitting = self._fitting(X, origin, n_before)
        with fitting as (device, random_state, seed), former as net:
            if is_first:
                net, data = self._begun(X, origin, device, random_state)
            else:
                if X.shape[0] < _ROWS_PER_AXIS * self.n_components_:
                    axes = axes_of(net.module_)
                net, data = self._gone_on(net, X)
            self._run(net, data)
            if _callback(net, DivergenceGuard).diverged_:
                net.optimizer_ = None  # what it and the average remember is not finite
            if is_first and self._stream_pca is not None:
                self._stream_pca.add(InputRows(data, net.module_.input))
            earlier = self.loss_curve_
            self._read_training(net, None)
            self.loss_curve_ = earlier + self.loss_curve_
            self.n_iter_ = self.best_iter_ = len(self.loss_curve_)
            if axes is None:
                components = filled_of(net.module_).components.cpu().numpy()
                self._settle(net, data, components, False, origin, seed)
            else:
                net.module_ = turned(net.module_, *axes).to(data.device).eval()
                self.net_ = net  # another one where nothing of the optimiser was left

    def _begun(self, X, origin, device, random_state):
        """Return the net of a new stream, and the first rows."""
        columns, pca = self._prepared(X, origin, device, random_state)
        self.loss_curve_, self.init_scores_ = [], []
        # drawn as `fit` does, so that one pass over the same rows is the same
        with seeded(torch.randint(2**31, ()).item(), device):
            module = self._start(columns, pca, origin, X.dtype)
        is_pca = origin is None and self.init == "pca" and not self._is_variational()
        self._stream_pca = StreamPCA(pca.components_) if is_pca else None
        return self._net_of_stream(module, columns.data), columns.data

    def _gone_on(self, net, X):
        """Return the net of the rows before, and more rows."""
        self._see(X, getattr(self, "n_samples_seen_", 0))  # files of early versions do not say
        data = self._training_data(X, self.device_)
        net = self._net_going_on(net, data)
        if self._stream_pca is not None:
            self._follow_pca(net, data)
        return net, data

    def _follow_pca(self, net, data):
        """Move the linear paths by as much as more rows move the principal components."""
        self._stream_pca = copy.deepcopy(self._stream_pca)  # an interrupt goes back to the other
        change = self._stream_pca.add(InputRows(data, net.module_.input))
        change = torch.from_numpy(change).to(data.device, torch.float32)
        to_code, to_row = (
            # the first, as networks of a user's own may have some too
            next(part.linear for part in half.modules() if isinstance(part, LinearSkip))
            for half in (net.module_.encoder, net.module_.decoder)
        )
        net.shift(to_code.weight, change)
        if to_row.weight is not to_code.weight:
            net.shift(to_row.weight, change.T)

    def _net_going_on(self, net, data):
        """Return the net with what its optimiser remembers of the rows before."""
        has_all = net.penalty is not None or self._active_penalty() is None
        # else it was fitted, or loaded, or had no weight of a penalty
        if net.optimizer_ is None or not has_all:
            module = unturned(copy.deepcopy(net.module_))
            net = self._net_of_stream(module, data).initialize()
            # not the history, of which schedules think that this optimiser has made its steps
            net.earlier_losses_ = self.loss_curve_[-1:]
            return net
        net.module_ = unturned(net.module_).train()  # all parts of it
        net.batch_size = self._batch_size(len(data))
        net.alpha, net.eases = self.alpha_, self._eases()
        optimizer, options = self._optimizer()
        if type(net.optimizer_) is optimizer is Soap:
            for group in net.optimizer_.param_groups:
                group.update(options)
        return net

    def _net_of_stream(self, module, data):
        """Return a net for one epoch of each of several tables, of which any may have gaps."""
        self._is_whole = False
        filled_of(module).in_training = True
        return self._make_net(module, data, 1, [DivergenceGuard()])

    def _has_small_steps(self, X):
        """Return whether a training step is too small to gain by a second thread."""
        if self.encoder is not None or self.decoder is not None:
            return False  # a convolution's work is not told by its weights
        n_samples, n_inputs = X.shape[0], self._layout.n_inputs
        k = int(self.n_components) if self.n_components >= 1 else min(n_samples, n_inputs)
        widths = [n_inputs, *self._hidden_widths(), k]
        n_weights = 2 * sum(n_in * n_out for n_in, n_out in itertools.pairwise(widths))
        batch_size = min(self._batch_size(n_samples), n_samples)
        # a product and a sum per weight and row, in the forward pass and twice in the backward one
        return 6 * batch_size * n_weights < _SMALL_STEP

    def _threads(self, X, device):
        """Return a context in which to fit."""
        if device.type == "cpu" and self._has_small_steps(X):
            return one_thread()
        return restored_threads()

    def _trained(self, X, columns, pca, origin, seed):
        """Train and return the net, its course, and whether its weights are still the first.

        The course is None where no rows judge.
        """
        has_floor = origin is not None or self.init == "pca"
        device, draws = columns.device, torch.randint(2**31, ()).item()

        def start(pca):
            with seeded(draws, device):  # folds draw the weights that all rows do
                return self._start(columns, pca, origin, X.dtype)

        module = start(pca)
        first = copied_state(module.to(device))
        n_valid = self._n_held_out(len(columns))
        if not n_valid:
            # without a judge nothing can be known to be better than the start
            max_iter = 0 if self.early_stopping and has_floor else self.max_iter
            net, course = self._fitted_net(module, columns.data, max_iter), None
        elif self._is_cross_fitted(X, origin):
            with seeded(draws, device):  # the folds' training leaves no trace in that of all
                course = self._cross_fitted(X, columns, module, start, seed)
            floor = [Floor(course)] if has_floor else []
            net = self._fitted_net(module, columns.data, course.best_iter, floor)
            if has_floor and _callback(net, DivergenceGuard).diverged_:
                course.best_iter = 0  # no row has judged where it got to
                net.module_.load_state_dict(first)
        else:
            split = ValidSplit(ShuffleSplit(1, test_size=n_valid, random_state=seed))
            judge = EarlyStopping(self.n_iter_no_change, self.tol, has_floor)
            net = self._fitted_net(module, columns.data, self.max_iter, [judge], split)
            judge = _callback(net, EarlyStopping)
            judge.restore(net)
            del judge.best_weights_
            course = judge.course_
        return net, course, _same_weights(net.module_, first)

    def _is_cross_fitted(self, X, origin):
        """Return whether all rows judge, in folds, and not a few that are held out.

        Callbacks are for one training, and rows that an earlier fit has seen are no judges of it.
        """
        n_samples = X.shape[0]
        return (
            self.validation_fraction == "auto"
            and n_samples < _MANY_ROWS
            and self.n_components_ <= n_samples - math.ceil(n_samples / _N_FOLDS)
            and origin is None
            and not self.callbacks
            and not (X.size > _MAX_READ and is_mapped(X))
        )

    def _cross_fitted(self, X, columns, module, start, seed):
        """Return the course of folds that start as the module does, but from their own PCA."""
        n_folds = min(_N_FOLDS, len(columns))
        splits = list(
            KFold(n_folds, shuffle=True, random_state=seed).split(np.arange(len(columns)))
        )

        def net_of(module, **own):
            return self._make_net(module, columns.data, self.max_iter).set_params(**own)

        def fold(rows):
            if self.init != "pca":
                return copy.deepcopy(module)
            return start(self._pca(X[rows], columns.subset(rows), self.n_components_, seed))

        modules = [fold(train) for train, _ in splits]
        folds = folds_of(net_of, modules, splits, columns.data)
        folds.nets[0].callbacks_ += [("task", task) for task in self._tasks("folds")]  # one for all
        return cross_fitted(
            folds,
            self.max_iter,
            floor=net_of(module).initialize() if self.init == "pca" else None,
            verbose=bool(self.verbose),
            n_iter_no_change=self.n_iter_no_change,
            tol=self.tol,
        )

    def _fitted_net(self, module, data, max_iter, callbacks=(), split=None):
        progress = [ProgressBar()] if self.verbose else []
        callbacks = [DivergenceGuard(), *callbacks, *progress, *self._tasks("training")]
        return self._run(self._make_net(module, data, max_iter, callbacks, split), data)

    def _tasks(self, name):
        """Return what tells scikit-learn's callbacks of a training, if there are any."""
        return [TrainingTask(self, name)] if getattr(self, "_skl_callbacks", []) else []

    def _run(self, net, data):
        """Train a net, new or not, and return it."""
        with left_as_they_are(self.callbacks or []):
            if net.initialized_:  # where there are copies, or those of an earlier part
                net.go_on_with([DivergenceGuard(), *(self.callbacks or [])])
            # the target is the input; this one is for callbacks of skorch's that ask for one
            net.partial_fit(data, None if isinstance(data, RowsOnDemand) else data)
            net.callbacks_ = [(name, copy.copy(callback)) for name, callback in net.callbacks_]
        return net

    # --------------------------------------------------------------- what does not fit together

    def _penalty(self):
        if isinstance(self.penalty, str):
            return _PENALTIES[self.penalty]()
        return copy.deepcopy(self.penalty)  # what it may remember of a fit is that fit's

    def _active_penalty(self):
        """Return the penalty, or None where it has no weight."""
        return self._penalty() if self.alpha else None

    def _code_layer(self, n_components):
        """Return what the penalty has an encoder end in, or None."""
        penalty = self._active_penalty()
        layer = None if penalty is None else penalty.code_layer(n_components)
        if layer is not None and (penalty.variational or not isinstance(layer, nn.Module)):
            raise ValueError(
                "penalty must have a code_layer that is an nn.Module, and none if it needs a"
                f" distribution of codes, got {type(penalty).__name__} with {layer!r}."
            )
        return layer

    def _is_variational(self):
        penalty = self._active_penalty()
        return penalty is not None and penalty.variational

    def _check_combinations(self):
        """Refuse parameters that do not fit together."""
        self._check_penalty()
        own = self.encoder is not None or self.decoder is not None
        level = self.corruption_level
        for refused, sentence in (
            (
                isinstance(self.n_components, bool),
                f"n_components must be a number, got {self.n_components}; give an integer, or the"
                " share of the variance to keep as a float below 1.",
            ),
            (
                self.init == "pca" and not self.linear_skip,
                "init='pca' must come with linear_skip=True, the path that can be PCA, got"
                " linear_skip=False; set init='random' for a network without it.",
            ),
            (
                self.output_activation == "logistic" and self.linear_skip,
                "output_activation='logistic' must come with linear_skip=False, as nothing is"
                " linear behind a logistic, got linear_skip=True; set linear_skip=False and"
                " init='random'.",
            ),
            (
                self._is_cross_entropy() and self.output_activation != "logistic",
                "loss='binary_cross_entropy' must come with output_activation='logistic', got"
                f" output_activation={self.output_activation!r}; set that, linear_skip=False and"
                " init='random'.",
            ),
            (
                self.tied_weights and own,
                "tied_weights=True must come without an encoder or decoder of your own, whose"
                " layers it does not know, got one; tie their weights in your own code.",
            ),
            (
                self.tied_weights and self._is_variational(),
                "tied_weights=True must come without a variational penalty, for which the encoder"
                f" has two outputs per component, got penalty={self.penalty!r}; set"
                " tied_weights=False.",
            ),
            (
                self._corruption() in (corruptions.masking, corruptions.swap) and level > 1,
                "corruption_level must be a share of at most 1 with"
                f" corruption={self.corruption!r}, got {level}.",
            ),
            (
                isinstance(self.optimizer, type) and not issubclass(self.optimizer, Optimizer),
                "optimizer must be a subclass of torch.optim.Optimizer where it is a class, got"
                f" {getattr(self.optimizer, '__name__', '')}; or use one of"
                f" {sorted(_OPTIMIZERS)}.",
            ),
        ):
            if refused:
                raise ValueError(sentence)
        self._hidden_widths()
        self._check_callbacks()

    def _check_objective(self, module, rows):
        """Try a loss, corruption or penalty of one's own on some rows."""
        rows, whole = rows.nan_to_num(), rows
        if callable(self.loss):
            x_hat = torch.zeros_like(rows).requires_grad_()
            loss = copy.deepcopy(self.loss)  # a module may count, or remember
            advice = "; give one for each row, or put one for each entry into an EntrywiseLoss"
            losses = checked_output("loss", loss, (x_hat, rows), (len(rows),), advice=advice)
            _check_gradient("loss", losses)
        if callable(self.corruption):
            inputs = rows.clone(), self.corruption_level
            shape = tuple(rows.shape)
            corruption = copy.deepcopy(self.corruption)  # as the loss
            # NaN hides entries
            checked_output("corruption", corruption, inputs, shape, allow_nan=True)
        penalty = self._active_penalty()
        if isinstance(self.penalty, Penalty) and penalty is not None:
            module.cpu().eval()
            pieces = module.encoded(module.input(whole).detach().requires_grad_())
            pieces["weights"] = module.penalized_weights()
            if not pieces["weights"] and not penalty.on_rows:
                return  # networks without matrices: there is nothing to penalise
            shapes = [(), (len(rows),)] if penalty.on_rows else [()]
            inputs = tuple(pieces[name] for name in penalty.needs)
            for value in (penalty, penalty.estimate):
                _check_gradient("penalty", checked_output("penalty", value, inputs, *shapes))

    def _check_penalty(self):
        if not isinstance(self.penalty, Penalty):
            return
        name, needs = type(self.penalty).__name__, self.penalty.needs
        if not isinstance(needs, tuple | list) or not needs or not all(n in PIECES for n in needs):
            raise ValueError(
                f"penalty must say in needs, as a tuple, which of {list(PIECES)} it is about, got"
                f" {name} with needs={needs!r}."
            )

    def _check_data(self, X, origin):
        """Refuse data that parameters do not fit."""
        if origin is not None:
            self._check_origin(origin)
        largest = min(X.shape[0], self._layout.n_inputs)
        if self._layout.categorical:
            self._check_beside_categories()
        inputs = "n_inputs, categories counted" if self._layout.categorical else "n_features"
        if self.init == "pca" and origin is None and self.n_components > largest:
            raise ValueError(
                f"n_components must be at most min(n_samples, {inputs})={largest} with"
                f" init='pca', got {self.n_components}; set linear_skip=False and init='random'"
                " for a code wider than that."
            )
        if self._is_cross_entropy():
            values = X.data if scipy.sparse.issparse(X) else X
            low, high = np.nanmin(values, initial=0.0), np.nanmax(values, initial=0.0)
            rounding = 4 * np.finfo(values.dtype).eps  # scalers leave it; the loss clamps
            if low < -rounding or high > 1 + rounding:
                raise ValueError(
                    "X must lie in [0, 1] with loss='binary_cross_entropy', got values from"
                    f" {float(low)} to {float(high)}; put a MinMaxScaler(clip=True) in front."
                )

    def _check_beside_categories(self):
        """Refuse parameters that are about numbers alone."""
        for name, kept in (
            ("loss", list(_LOSSES)),
            ("corruption", [None, *corruptions.__all__]),
            ("output_activation", ["identity"]),
        ):
            if getattr(self, name) not in kept:
                raise ValueError(
                    f"{name} must be one of {kept} where columns are categories, got"
                    f" {getattr(self, name)!r}; set it to one of these, or"
                    " categorical_features=None."
                )

    def _check_origin(self, origin):
        """Refuse parameters that do not fit the networks from which training goes on."""
        if self.n_components >= 1 and self.n_components != origin.n_components_:
            raise ValueError(
                f"n_components must stay as it was, {origin.n_components_}, where training goes on"
                f" from an earlier fit (warm_start or init), got {self.n_components}; set it to"
                " that, or start anew."
            )
        # With warm_start the networks are known to stay, but what they end in has to fit the loss
        # and the penalty.
        structure = self._structure(origin.n_components_)
        for name in ("output_activation", "penalty") if origin is self else structure:
            here, there = structure[name], origin._fitted_structure[name]
            if here != there:
                also = " (alpha=0 is no penalty)" if name == "penalty" else ""
                raise ValueError(
                    f"{name} must be such that networks are as in the earlier fit from which"
                    f" training goes on (warm_start or init), {there}, got {here}; set one to the"
                    f" other{also}, or start anew."
                )

    def _structure(self, n_components):
        """Return what networks are made of, by the parameter that says so."""
        has_ending = self._is_variational() or self._code_layer(n_components) is not None
        return {
            "encoder": _named(self.encoder),
            "decoder": _named(self.decoder),
            "hidden_layer_sizes": tuple(self._hidden_widths()),
            "activation": self.activation,
            "output_activation": self.output_activation,
            "linear_skip": self.linear_skip,
            "tied_weights": self.tied_weights,
            "dropout": self.dropout,
            "penalty": type(self._penalty()).__name__
            if has_ending
            else "without a part in networks",
        }

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
        widths = [sizes] if np.ndim(sizes) == 0 else list(sizes)
        if not all(
            isinstance(width, Integral) and not isinstance(width, bool) and width > 0
            for width in widths
        ):
            raise ValueError(
                "hidden_layer_sizes must hold integers of at least 1, got"
                f" {self.hidden_layer_sizes}."
            )
        return [int(width) for width in widths]  # products of narrow integers would not fit

    def _training_data(self, X, device):
        """Return the rows as the networks see them: one float32 tensor on the device.

        Those of a large mapped file are left there, and sparse ones sparse; they are brought to
        units whenever they are read.
        """
        if scipy.sparse.issparse(X) or (X.size > _MAX_READ and is_mapped(X)):
            return RowsOnDemand(X, lambda rows: self._to_units(rows, device).float(), device)
        data = torch.empty(X.shape, dtype=torch.float32, device=device)
        for rows in chunks_of(X):
            data[rows] = self._to_units(X[rows], device)
        return data

    def _columns(self, X, data, origin):
        """Return the rows with inputs in the place of categories.

        Their vectors are made for the rows, or those of an earlier fit.
        """
        self._is_whole = observed_rows(X).min() == X.shape[0]
        layout = self._layout
        self._shares = category_shares(X, layout) if origin is None else origin._shares
        if not layout.categorical:
            return InputRows(data, nn.Identity())
        if origin is not None:
            module = copy.deepcopy(origin.net_.module_.input[0])
        else:
            chunks = functools.partial(data.split, chunk_rows(layout.n_inputs))
            vectors = category_vectors(layout, self._shares, chunks)
            module = MixedInput(layout, self._shares, vectors)
        return InputRows(data, module.to(data.device))

    def _pca(self, X, columns, n_components, random_state):
        """Return the PCA of the rows; beside categories the factor analysis of mixed data."""
        n_samples, n_inputs = len(columns), self._layout.n_inputs
        n_components = min(n_components, n_samples, n_inputs)
        is_large = n_samples * n_inputs > _MAX_READ
        if self._is_whole:
            if is_large and n_samples > n_inputs and (is_mapped(X) or self._layout.categorical):
                return chunked_components(columns.chunks(), n_components, random_state)
            if not self._layout.categorical:
                return principal_components(X, self.mean_, self.scale_, n_components, random_state)
        if is_large:
            n_some = min(n_samples, max(_MAX_READ // n_inputs, 2 * n_components))
            some = check_random_state(random_state).choice(n_samples, n_some, replace=False)
            columns = columns.subset(some)
        rows = columns[:].cpu().double().numpy()
        return completed_components(rows, self._n_directions(), n_components, random_state)

    def _start(self, columns, pca, origin, dtype):
        """Return the networks as they are before training on data that came in some dtype."""
        if origin is not None:
            module = unturned(copy.deepcopy(origin.net_.module_))
            filled_of(module).in_training = self._has_gaps_in_training()
            self._check_objective(module, columns.data[:3].cpu())
            return module
        filled = self._filled(pca).to(columns.device)
        input = filled
        if self._layout.categorical:
            input = nn.Sequential(copy.deepcopy(columns.module), filled)
        inputs, n_inputs = InputRows(columns.data, input), self._layout.n_inputs
        encoder, decoder = self._networks(inputs, dtype)
        log_variance = torch.zeros(self.n_components_)
        if self.linear_skip:
            to_code, to_row = linear_paths(
                n_inputs, self.n_components_, self.init, self.tied_weights
            )
            if self.init == "pca":
                deviations = np.ones(self.n_components_)
                if self._is_variational():
                    deviations = deviations_along(pca.components_, inputs)
                    log_variance = log_variances(deviations, n_inputs, self.alpha_)
                set_to_pca(to_code, to_row, pca.components_, deviations)
                encoder = adding_nothing(encoder, self.tied_weights)
                decoder = adding_nothing(decoder, self.tied_weights)
            n_more = self._n_codes() - self.n_components_
            encoder, decoder = with_linear_skip(
                encoder, decoder, to_code, to_row, inputs, columns, n_more
            )
        encoder = self._ended(encoder, log_variance)
        module = Autoencoder(encoder, decoder, self._output(input), input)
        module.to("cpu", torch.float32)  # whatever torch's default is
        self._check_objective(module, columns.data[:3].cpu())
        return module

    def _n_directions(self):
        """Return in how many directions inputs can vary."""
        layout = self._layout
        n_vary = np.count_nonzero(self._judge.baselines[layout.numbers])
        return n_vary + layout.n_inputs - layout.n_numbers - len(layout.one_hot)

    def _filled(self, pca):
        """Return what fills missing entries of inputs."""
        values = pca.components_, share_kept(pca, self._n_directions())
        values = [torch.from_numpy(v).to(torch.float32) for v in values]
        return Filled(*values, self._has_gaps_in_training())

    def _has_gaps_in_training(self):
        """Return whether entries may be missing in training, also by corruption."""
        return not self._is_whole or self._corruption() is not None

    def _n_codes(self):
        """Return the number of the encoder's outputs: two per component for distributions.

        A variational encoder of your own gives both also where the penalty has no weight.
        """
        penalty = self._penalty()
        gives_both = self.encoder is not None or bool(self.alpha)
        return self.n_components_ * (1 + bool(penalty and penalty.variational and gives_both))

    def _networks(self, inputs, dtype):
        """Return the encoder and decoder, or their branches where there is a linear skip."""
        widths = [self._layout.n_inputs, *self._hidden_widths(), self.n_components_]
        n_inputs, n_components, n_codes = widths[0], widths[-1], self._n_codes()
        kind, copied = (self.activation, self.dropout, self.init), {}
        if self.encoder is None:
            encoder = perceptron([*widths[:-1], n_codes], *kind)
        else:
            encoder = own_network(self.encoder, n_inputs, n_codes, copied)
        if self.decoder is None:
            decoder = perceptron(widths[::-1], *kind, encoder if self.tied_weights else None)
        else:
            decoder = own_network(self.decoder, n_components, n_inputs, copied)
        if self.encoder is None and self.decoder is None:
            return encoder, decoder  # of the right widths: to try them takes half of a start
        role = "encoder"
        if n_codes > n_components:
            role = "with a variational penalty (means beside logarithms of variances), encoder"
        rows = inputs[:2].cpu()
        for precision in dict.fromkeys((torch.float32, inference_dtype(dtype, inputs.device))):
            rows = rows.to(precision)
            with torch.no_grad():
                one, other = copy.deepcopy((encoder, decoder))
                one, other = one.to(precision).eval(), other.to(precision).eval()
                codes = checked_output(role, one, (rows,), (len(rows), n_codes))
                codes = codes[:, :n_components].clone()
                checked_output("decoder", other, (codes,), (len(rows), n_inputs))
        return encoder, decoder

    def _ended(self, encoder, log_variance):
        """Return an encoder with what the penalty has it end in."""
        if self._n_codes() > self.n_components_:
            encoder = Variational(encoder, log_variance, draws=self._is_variational())
        code_layer = self._code_layer(self.n_components_)
        return encoder if code_layer is None else nn.Sequential(encoder, code_layer)

    def _output(self, input):
        if self._layout.categorical:
            return MixedOutput(self._layout, self._shares, input[0])
        if self.output_activation == "identity":
            return None
        return Logistic(torch.tensor(self.mean_, dtype=torch.float32), self.scale_)

    def _is_cross_entropy(self):
        return self.loss == "binary_cross_entropy" or isinstance(self.loss, BinaryCrossEntropy)

    def _named_loss(self):
        if self.loss == "binary_cross_entropy":
            return BinaryCrossEntropy(torch.tensor(self.mean_, dtype=torch.float32), self.scale_)
        if isinstance(self.loss, str):
            return _LOSSES[self.loss]()
        loss = copy.deepcopy(self.loss)  # a module may have weights, which a fit trains
        return loss if isinstance(loss, Loss) else Loss(loss)

    def _weighed(self, loss, data):
        """Return a loss of the entries that are there, whose mean over the rows is L."""
        rows = data.split(chunk_rows(self._width))
        return MixedLoss(loss, self._layout, self._shares).to(data.device).weigh(rows)

    def _criterion(self, data):
        loss = self._named_loss()
        if self._is_whole and not self._layout.categorical:
            return loss
        if type(loss) is SquaredError:
            return copy.deepcopy(self._judge)
        if isinstance(loss, EntrywiseLoss):
            return self._weighed(loss, data)
        if loss.from_logits:
            raise ValueError(
                "loss must be a skae.losses.EntrywiseLoss where it is of logits and entries are"
                f" missing, whose place what is decoded takes else, got {type(loss).__name__};"
                " impute them first, or derive it from EntrywiseLoss."
            )
        observed = sum((~rows.isnan()).sum().item() for rows in data.split(chunk_rows(1)))
        return ObservedLoss(loss, observed / (len(data) * self.n_features_in_))

    def _corruption(self):
        """Return what corrupts rows, or None where it has no strength."""
        if not self.corruption_level:
            return None
        is_named = isinstance(self.corruption, str)
        corruption = getattr(corruptions, self.corruption) if is_named else self.corruption
        if corruption is corruptions.gaussian and self._layout.categorical:
            return OnNumbers(corruption, self._layout)
        return corruption

    def _optimizer(self):
        """Return the class of the optimiser, and its options."""
        optimizer, options = _OPTIMIZERS.get(self.optimizer, (self.optimizer, {}))
        if optimizer is Soap and self.n_samples_seen_ < _MANY_ROWS:
            options = {}  # folds are trained as one, and so have one length of their gradients
        return optimizer, options

    def _make_net(self, module, data, max_iter, callbacks=(), split=None):
        optimizer, options = self._optimizer()
        n_valid = 0 if split is None else self._n_held_out(len(data))
        on_cpu = data.device.type == "cpu"
        return ReconstructionNet(
            module,
            self._criterion(data),
            # where steps are small there is one thread, and nothing to try
            iterator_train=TimedBatches if on_cpu else TensorBatches,
            optimizer=optimizer,
            lr=self.learning_rate_init,
            max_epochs=max_iter,
            batch_size=self._batch_size(len(data) - n_valid),
            iterator_train__shuffle=True,
            iterator_valid__batch_size=chunk_rows(self._width),
            train_split=split,
            callbacks=[*callbacks, *(self.callbacks or [])],
            penalty=self._active_penalty(),
            alpha=self.alpha_,
            eases=self._eases(),
            corruption=copy.deepcopy(self._corruption()),  # what it may remember is that fit's
            corruption_level=self.corruption_level,
            average_decay=0.99 if self.average else 0.0,
            # The shorter the average's memory, the sooner it has left the start behind, and the
            # more it has of single steps, by which epochs of few rows are judged wrongly.
            average_warm_up=min(max(len(data) / 100, 1.5), 10.0),
            verbose=self.verbose,
            device=data.device,
            **{f"optimizer__{name}": value for name, value in options.items()},
        )

    def _eases(self):
        """Return whether the weight of the penalty falls with the training loss.

        Few rows are fitted closer than to their noise.
        """
        return self.alpha == "auto" and self._loses_r2() and self.n_samples_seen_ >= _ROWS_OF_ALPHA

    def _loses_r2(self):
        """Return whether L is one minus R², as other losses and that of categories are not."""
        is_squared = self.loss == "squared_error" or type(self.loss) is SquaredError
        return is_squared and not self._layout.categorical

    def _n_held_out(self, n_samples):
        """Return how many rows early stopping holds out: two or more, or none."""
        if not self.early_stopping:
            return 0
        fraction = 0.1 if self.validation_fraction == "auto" else self.validation_fraction
        n_valid = max(2, math.ceil(fraction * n_samples))
        return min(n_valid, n_samples - 2) if n_samples >= 4 else 0

    def _batch_size(self, n_samples):
        if self.batch_size != "auto":
            return int(self.batch_size)
        return min(max(2 ** round(math.log2(4 * math.sqrt(n_samples))), 32), 256)

    def _read_training(self, net, course):
        """Set what the course of training tells."""
        guard = _callback(net, DivergenceGuard)
        self.loss_curve_ = guard.losses_
        self.n_iter_ = len(guard.losses_)
        self.best_iter_ = guard.good_iter_
        self.validation_scores_ = self.best_validation_score_ = None
        if course is not None:
            self.validation_scores_ = course.scores
            self.n_iter_ = len(course.scores) - 1
            self.best_iter_ = min(course.best_iter, guard.good_iter_)
            self.best_validation_score_ = course.scores[self.best_iter_]

    def _settle(self, net, data, components, at_start, origin, seed):
        """Give the codes of a trained net their axes and set what they explain."""
        module = net.module_.eval()
        variational, penalty = self._is_variational(), self._active_penalty()
        self.code_scale_ = 1.0 if variational or self._layout.categorical else self.scale_
        at_pca = at_start and self.init == "pca" and origin is None
        n_rows = chunk_rows(self._layout.n_inputs)
        judge = converted(self._judge, data.device)
        with torch.no_grad():
            moments = _code_moments(module, components, data.split(n_rows))
            if at_pca:
                # PCA's own codes: turning them could only add rounding, or new arbitrary axes
                # where components explain equally much
                axes, mean = torch.eye(self.n_components_).double(), torch.zeros_like(moments.mean)
            elif at_start and origin is not None:
                axes, mean = axes_of(origin.net_.module_)
            else:
                keeps_axes = penalty is not None and penalty.depends_on_axes
                axes, mean = (ordered_axes if keeps_axes else principal_axes)(moments)
            net.module_ = turned(module, axes, mean).to(data.device).eval()
            squares = moments.squares_along(axes, mean)
            is_linear = self._is_whole and not self._layout.categorical and not variational
            total = judge.baselines.sum() * len(data)
            if at_pca and is_linear and total:
                ratios = squares.numpy() * len(data) / total
            else:
                baseline, *errors = _errors_by_components(net.module_, judge, data.split(n_rows))
                ratios = np.diff([share_avoided(error, baseline) for error in errors], prepend=0.0)
            self.code_sparsity_ = _sparsity(net.module_.encode, data.split(n_rows), squares)
            some = torch.from_numpy(density_rows(len(data), seed)).to(data.device)
            codes = torch.cat(
                [net.module_.encode(data.index_select(0, rows)) for rows in some.split(n_rows)]
            )
            codes = codes.cpu().double().numpy()
        self.net_ = net
        variances = moments.variances_along(axes).numpy() * (len(data) / (len(data) - 1))
        self.explained_variance_ = variances * self.code_scale_**2
        self.explained_variance_ratio_ = ratios
        vars(self)["density_"] = functools.partial(code_density, codes, seed)


def _any_known(categories):
    """Return whether some columns hold categories."""
    return any(some is not None for some in categories)


def _is_lent(rows):
    """Return whether something is an array of floats that torch can read where it is."""
    return (
        isinstance(rows, np.ndarray)
        and rows.dtype in (np.float32, np.float64)  # no other byte order is
        and rows.flags.writeable
        and rows.flags.c_contiguous
        and min(rows.strides) >= 0  # that of a single row or column may be negative
    )


def _has_finite_sum(X):
    """Return whether the sum of all entries is finite, so that none is missing or infinite."""
    return bool(torch.from_numpy(X).sum().isfinite())


def _layout_of(categories):
    return Layout([0 if some is None else len(some) for some in categories])


def _warn_of_nothing(n_rows, columns):
    nothing = [f"{n_rows} rows"] if n_rows else []
    nothing += [f"the columns {columns}"] if columns else []
    if nothing:
        warn(f"Nothing is known of {' and '.join(nothing)} of X: the mean takes their place.")


def _named(own):
    """Return a name of a network of one's own that tells it from others, or None."""
    if own is None or hasattr(own, "__name__"):
        return getattr(own, "__name__", None)
    return repr(own) if hasattr(own, "get_params") else type(own).__name__


def _check_gradient(role, value):
    if not value.requires_grad:
        raise ValueError(
            f"{role} must be a function of its arguments that torch can differentiate, got a value"
            " without a gradient; compute it with torch, and without detach() or no_grad()."
        )


def filled_of(module):
    """Return the part of networks that fills missing entries."""
    return next(part for part in module.input.modules() if isinstance(part, Filled))


def _callback(net, kind):
    """Return the net's callback of exactly a class."""
    return next(callback for _, callback in net.callbacks_ if type(callback) is kind)


def _same_weights(module, weights):
    return all(
        torch.equal(value, weights[name])
        for name, value in module.state_dict().items()
        if isinstance(value, torch.Tensor)  # a layer of one's own may store more
    )


def _code_moments(module, components, chunks):
    """Return the moments of the codes of the rows, as the encoder has them."""
    components = torch.from_numpy(components)
    inputs = map(module.input, chunks)
    pairs = ((module.encoder(rows), rows @ components.to(rows).T) for rows in inputs)
    moments = CodeMoments(*next(pairs))
    for pair in pairs:
        moments.add(*pair)
    return moments


def _sparsity(encode, chunks, squares):
    """Return the share of near zeros in the codes, whose components have these mean squares."""
    n_zeros = n_codes = 0
    for rows in chunks:
        codes = encode(rows)
        near_zero = 1e-3 * squares.sqrt().to(codes)
        n_zeros += int((codes.abs() <= near_zero).sum())
        n_codes += codes.numel()
    return n_zeros / n_codes


def _errors_by_components(module, loss, chunks):
    """Return the loss of the mean row, that which the first component leaves, the first two, …"""
    errors = 0.0
    for rows in chunks:
        codes = module.encode(rows)
        kept = torch.zeros_like(codes)
        left = [_sum(loss.of_mean(rows))]
        for i, component in enumerate(codes.T):
            kept[:, i] = component
            left.append(_sum(loss(module.decode(kept), rows)))
        errors += np.array(left)
    return errors


def _sum(values):
    return values.cpu().sum(dtype=torch.float64).item()  # on the CPU: some devices have no float64


# ------------------------------------------------------------------------------------ persistence


def _versions():
    names = ("skae", "numpy", "sklearn", "skorch", "torch")
    # found there, and not imported, as the package is above this module
    return {name: sys.modules[name].__version__ for name in names}


def _own_parts(autoencoder):
    """Return where in a net there may be code of a user's own: its role, by the part's id."""
    net, n_components, parts = autoencoder.net_, autoencoder.n_components_, {}
    encoder, decoder = net.module_.encoder[0], net.module_.decoder[1]
    with seeded(0, torch.device("cpu")):
        has_layer = net.penalty is not None and net.penalty.code_layer(n_components) is not None
    if has_layer:
        encoder, layer = encoder
        parts[id(layer)] = "penalty", {"part": "code_layer"}
    n_out = n_components
    if isinstance(encoder, Variational):
        encoder, n_out = encoder.network, 2 * n_components
    has_skip = autoencoder._fitted_structure["linear_skip"]
    parts[id(_branch(encoder, has_skip))] = "encoder", {"n_out": n_out}
    n_inputs = autoencoder._layout.n_inputs
    parts[id(_branch(decoder, has_skip))] = "decoder", {"n_out": n_inputs}
    loss = net.criterion_
    while isinstance(loss, ObservedLoss | MixedLoss):
        loss = loss.loss
    parts[id(loss if isinstance(autoencoder.loss, Loss) else loss.function)] = "loss", {}
    for role in ("penalty", "corruption", "optimizer"):
        parts[id(getattr(net, role))] = role, {}
    return parts


def _branch(network, has_skip):
    """Return what of an encoder or decoder may be of a user's own."""
    if not has_skip:
        return network
    return network.branch.module if isinstance(network.branch, Gate) else network.branch


def _own_part(given, n_values, copied, text, known):
    """Return what stands in a net for what a user has given, as a fit makes it of that."""
    role, own = text["role"], given[text["role"]]
    n_inputs, k = _layout_of(known["categories_"]).n_inputs, len(known["explained_variance_"])
    if n_inputs * k > n_values:  # a file has PCA's components, at least
        raise ValueError(f"{k} components of {n_inputs} inputs are more than there is")
    with seeded(0, torch.device("cpu")):  # it may draw weights, which those of the file replace
        if role == "encoder" and text["n_out"] in (k, 2 * k):
            return own_network(own, n_inputs, text["n_out"], copied)
        if role == "decoder":
            return own_network(own, k, n_inputs, copied)
        own = copy.deepcopy(own)
        return own.code_layer(k) if "part" in text else own


class _Shaped(nn.Module):
    """Stands in for a network of a user's own where shapes are asked for."""

    def __init__(self, n_out):
        super().__init__()
        self.n_out = n_out

    def forward(self, x):
        return x if self.n_out is None else x.new_empty(len(x), self.n_out)
