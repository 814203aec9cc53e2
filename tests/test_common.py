"""scikit-learn's own checks, over many configurations. No failure is expected, none is skipped."""

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.utils.estimator_checks import parametrize_with_checks
from skorch.callbacks import GradientNormClipping, LRScheduler
from torch import nn

from skae import AutoencoderTransformer
from skae.modules import ConvDecoder, ConvEncoder
from skae.penalties import Penalty


class Encoder(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_in, 8), nn.Tanh(), nn.Linear(8, n_out))

    def forward(self, x):
        return self.layers(x)


class Decoder(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_in, 8), nn.BatchNorm1d(8), nn.Linear(8, n_out))

    def forward(self, z):
        return self.layers(z)


class Clipping(GradientNormClipping):
    def __repr__(self):
        return "Clipping()"  # the same in every process, as the tests' names must be


class Decay(LRScheduler):
    def __repr__(self):
        return "Decay()"


def configuration(**parameters):
    # Where early stopping judges, most of the checks' tables are too small to leave PCA: it is off
    # where it is not named, so that what is checked is trained.
    brief = {"hidden_layer_sizes": (16,), "max_iter": 3, "early_stopping": False}
    return AutoencoderTransformer(**{**brief, **parameters})


class OnUnitInterval(AutoencoderTransformer):
    """Is fitted to what the checks bring, scaled to where the cross-entropy is defined.

    A MinMaxScaler in a pipeline would do the same, but pipelines fail checks of their own: their
    parameters are the fitted steps.
    """

    def _fit(self, X, origin):
        super()._fit(on_unit_interval(X), origin)

    def _partial_fit(self, X, origin):
        super()._partial_fit(on_unit_interval(X), origin)


def on_unit_interval(X):
    rows = X.toarray() if scipy.sparse.issparse(X) else X
    low, high = rows.min(axis=0), rows.max(axis=0)
    rows = (rows - low) / np.where(high > low, high - low, 1)
    return scipy.sparse.csr_array(rows) if scipy.sparse.issparse(X) else rows


def in_unit_interval(**parameters):
    return OnUnitInterval(**configuration(**parameters).get_params())


class Decorrelation(Penalty):
    needs = ("code",)

    def __call__(self, code):
        centred = code - code.mean(dim=0)
        covariance = centred.T @ centred / len(code)
        return covariance.triu(diagonal=1).square().sum()


class LargestError:
    def __call__(self, x_hat, x):
        return (x_hat - x).abs().amax(dim=1)

    def __repr__(self):
        return "LargestError()"


class FlippedSigns:
    def __call__(self, x, level):
        return torch.where(torch.rand_like(x) < level, -x, x)

    def __repr__(self):
        return "FlippedSigns()"


# The checks have tables of all widths, so these take the shape from the number of features.


class LengthEncoder(ConvEncoder):
    def __init__(self, channels=(4,)):
        super().__init__((1, 0), channels)

    def get_params(self, deep=True):
        return {"channels": self.channels}

    def __call__(self, n_in, n_out):
        return ConvEncoder((1, n_in), self.channels)(n_in, n_out)


class ImageDecoder(ConvDecoder):
    def __init__(self, channels=(4,)):
        super().__init__((1, 1, 0), channels)

    def get_params(self, deep=True):
        return {"channels": self.channels}

    def __call__(self, n_in, n_out):
        return ConvDecoder((1, 1, n_out), self.channels)(n_in, n_out)


TEXTBOOK = {
    "linear_skip": False,
    "init": "random",
    "activation": "relu",
    "output_activation": "logistic",
}

# Options that do not concern each other share a configuration, and where folds are no stack few
# have early stopping: the checks take long.
CONFIGURATIONS = [
    AutoencoderTransformer(max_iter=10),
    configuration(hidden_layer_sizes=(16, 8), activation="silu", init="glorot_uniform"),
    configuration(hidden_layer_sizes=(), n_components=0.9, early_stopping=True, warm_start=True),
    configuration(n_components=1, activation="tanh", n_init=2),
    configuration(n_components=20, linear_skip=False, init="random", loss="huber"),
    configuration(encoder=Encoder, decoder=Decoder),
    configuration(encoder=Encoder, decoder=Decoder, linear_skip=False, init="random"),
    configuration(encoder=LengthEncoder(channels=(2, 3)), decoder=ImageDecoder()),
    configuration(dropout=0.5, callbacks=[Decay("ExponentialLR", gamma=0.9)]),
    configuration(optimizer="sgd", learning_rate_init=1e-3, init="he_normal"),
    configuration(optimizer=torch.optim.Adagrad, loss="absolute_error", penalty=None, batch_size=8),
    configuration(alpha=1e6, init="orthogonal", average=False),
    configuration(callbacks=[Clipping(1.0)], init="random", corruption="swap"),
    configuration(penalty="l1", alpha=0.01, corruption="gaussian"),
    configuration(penalty="activity_l1", alpha=0.01, tied_weights=True),
    configuration(penalty="kl", alpha=0.01, corruption=FlippedSigns()),
    configuration(penalty=Decorrelation(), alpha=0.01, loss=LargestError()),
    configuration(optimizer="adam", **TEXTBOOK),
    configuration(penalty="contractive", alpha=0.01, tied_weights=True, **TEXTBOOK),
    in_unit_interval(loss="binary_cross_entropy", early_stopping=True, penalty="kl", **TEXTBOOK),
    configuration(categorical_features=[0], early_stopping=True),
    configuration(categorical_features=[0], n_components=0.9, corruption="masking", penalty="kl"),
]


# The checks' columns are continuous: taken for categories, rows that are held out have new ones.
@pytest.mark.filterwarnings("ignore:Categories that fit has not seen")
@parametrize_with_checks(CONFIGURATIONS)
def test_scikit_learn_check(estimator, check):
    check(estimator)
