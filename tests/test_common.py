"""scikit-learn's own checks, over many configurations. No failure is expected, none is skipped."""

import torch
from sklearn.utils.estimator_checks import parametrize_with_checks
from skorch.callbacks import GradientNormClipping, LRScheduler
from torch import nn

from skae import AutoencoderTransformer


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
    return AutoencoderTransformer(**{"hidden_layer_sizes": (16,), "max_iter": 8, **parameters})


TEXTBOOK = {
    "linear_skip": False,
    "init": "random",
    "activation": "relu",
    "output_activation": "logistic",
}

CONFIGURATIONS = [
    AutoencoderTransformer(max_iter=20),
    configuration(),
    configuration(hidden_layer_sizes=(16, 8), activation="silu"),
    configuration(hidden_layer_sizes=()),
    configuration(n_components=1),
    configuration(n_components=0.9),
    configuration(**TEXTBOOK),
    configuration(linear_skip=False, init="random", n_components=20),
    configuration(init="random"),
    configuration(early_stopping=False),
    configuration(encoder=Encoder, decoder=Decoder),
    configuration(encoder=Encoder, decoder=Decoder, linear_skip=False, init="random"),
    configuration(activation="tanh"),
    configuration(dropout=0.5),
    configuration(optimizer="sgd", learning_rate_init=0.01),
    configuration(optimizer=torch.optim.Adagrad),
    configuration(warm_start=True),
    configuration(alpha=1e6),
    configuration(penalty=None),
    configuration(average=False, batch_size=8),
    configuration(callbacks=[Clipping(1.0)]),
    configuration(callbacks=[Decay("ExponentialLR", gamma=0.9)]),
]


@parametrize_with_checks(CONFIGURATIONS)
def test_scikit_learn_check(estimator, check):
    check(estimator)
