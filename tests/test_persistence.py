"""Fitted estimators outlive their process: in files, pickles and skops' archives, to the bit."""

import copy
import functools
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import types
import warnings
import zipfile
import zlib
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import sklearn
import torch
from safetensors.numpy import load_file, save
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback, EpochScoring
from torch import nn

import skae
from skae import AutoencoderTransformer, _model_file, _persistence
from skae._frames import no_rows_of
from skae.losses import Huber, Loss
from skae.modules import Autoencoder, ConvDecoder, ConvEncoder, LinearSkip
from skae.penalties import L1, Penalty

MODELS = Path(__file__).parent / "models"
RNG = np.random.RandomState(0)
X = RNG.normal(size=(120, 6)) @ RNG.normal(size=(6, 6))
HOLEY = np.where(RNG.uniform(size=X.shape) < 0.1, np.nan, X)
UNIT = (X - X.min(axis=0)) / (X.max(axis=0) - X.min(axis=0))
TEXTBOOK = {"linear_skip": False, "init": "random", "output_activation": "logistic"}


def frame(library="pandas"):
    """Numbers, some missing, beside categories of several dtypes."""
    kind = np.select([X[:, 0] < -1, X[:, 0] < 1], ["flat", "terraced"], "détaché")
    columns = {
        "area": HOLEY[:, 1],
        "built": np.rint(1970 + 10 * X[:, 2]).astype(np.int16),
        "lift": X[:, 3] > 0,
        "heating": np.where(X[:, 4] > 0, "oil", "gas").astype(object),
        "kind": kind,
        "street": np.array([f"street {i % 60}" for i in range(len(X))]),
    }
    if library == "polars":
        import polars as pl

        kinds = pl.Enum(["flat", "terraced", "détaché"])
        return pl.DataFrame(
            [pl.Series(name, some.tolist()) for name, some in columns.items()]
        ).with_columns(pl.col("kind").cast(kinds), pl.col("built").cast(pl.Int16))
    table = pd.DataFrame(columns)
    table["built"] = table["built"].astype("Int16").mask(X[:, 5] > 2)
    table["kind"] = pd.Categorical(kind, ["flat", "terraced", "détaché"], ordered=True)
    return table


def small(**parameters):
    return AutoencoderTransformer(
        **{"hidden_layer_sizes": (5,), "max_iter": 3, "random_state": 0, **parameters}
    )


class Own(nn.Module):
    """A network of a user's own, which no file describes."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.layer = nn.Linear(n_in, n_out)
        self.norm = nn.BatchNorm1d(n_out)

    def forward(self, x):
        return self.norm(self.layer(x)).tanh()


class Skipping(LinearSkip):
    """A network of a user's own that is made as a fit makes networks."""

    def __init__(self, n_in, n_out):
        super().__init__(nn.Linear(n_in, n_out), Own(n_in, n_out), nn.Identity())


class Slack(nn.Module):
    """A loss with a weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x_hat, x):
        return (x_hat - x).square().mean(dim=1) * (1 + self.weight.square())


class Shrunk(nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, code):
        return self.factor * code


class WithLayer(Penalty):
    """A penalty that has a part in networks."""

    needs = ("code",)

    def __call__(self, code):
        return (code / code.detach().std()).square().mean()

    def code_layer(self, n_components):
        return Shrunk()


def quartic(x_hat, x):
    return (x_hat - x).pow(4).mean(dim=1)


def rounded(x, level):
    return (x / level).round() * level


class Quiet(Callback):
    pass


SPARSE = scipy.sparse.csr_array(np.where(X > 0.5, X, 0.0))
ENDS = {"encoder": ConvEncoder((1, 6), (2,)), "decoder": ConvDecoder((1, 6), (2,))}
STRINGS = np.where(X[:, :3] > 0, "more", "a")
MIXED = np.column_stack([X[:, :2].astype(object), STRINGS])
# what is fitted: parameters, rows, and what has to be given again
CASES = {
    "plain": ({}, X, ()),
    "float32": ({}, X.astype(np.float32), ()),
    "PCA": ({"max_iter": 0, "n_components": 0.8}, X, ()),
    "gaps": ({"corruption": "masking"}, HOLEY, ()),
    "tied": ({"tied_weights": True, "dropout": 0.2, "activation": "silu"}, X, ()),
    "textbook": ({**TEXTBOOK, "loss": "binary_cross_entropy"}, UNIT, ()),
    "huber": ({"loss": "huber", "corruption": "swap", "early_stopping": False}, HOLEY, ()),
    "variational": ({"penalty": "kl", "alpha": 0.01}, X, ()),
    "activity": ({"penalty": "activity_l1", "alpha": 0.1, "validation_fraction": 0.2}, X, ()),
    "contractive": ({"penalty": "contractive", "linear_skip": False, "init": "random"}, X, ()),
    "convolutions": (ENDS, X, ()),
    "objects of ours": ({"penalty": L1(), "loss": Huber(), "callbacks": []}, X, ()),
    "sparse": ({}, SPARSE, ()),
    "strings": ({"categorical_features": [0, 1, 2]}, STRINGS, ()),
    "objects": ({"categorical_features": [2, 3, 4], "corruption": "gaussian"}, MIXED, ()),
    "frame": ({}, frame(), ()),
    "frame of numbers": ({}, pd.DataFrame(HOLEY, columns=[*"abcdef"]), ()),
    "known layers": (
        {"encoder": nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 2))},
        X,
        (),
    ),
    "a class": ({"encoder": nn.Linear}, X, ("encoder",)),
    "own networks": ({"encoder": Own, "decoder": Own}, X, ("encoder", "decoder")),
    "own instance": ({"encoder": Own(6, 4), "penalty": "kl"}, X, ("encoder",)),
    "own, alone": ({"decoder": Own, "linear_skip": False, "init": "random"}, X, ("decoder",)),
    "own with a path": (
        {"encoder": Skipping, "decoder": Skipping, "linear_skip": False, "init": "random"},
        X,
        ("encoder", "decoder"),
    ),
    "own beside categories": ({"encoder": Own}, frame(), ("encoder",)),
    "own loss": ({"loss": quartic}, X, ("loss",)),
    "own loss with gaps": ({"loss": Loss(quartic)}, HOLEY, ("loss",)),
    "own loss with weights": ({"loss": Slack()}, X, ("loss",)),
    "own penalty": ({"penalty": WithLayer()}, X, ("penalty",)),
    "own corruption": ({"corruption": rounded}, X, ("corruption",)),
    "own optimizer": ({"optimizer": torch.optim.Adagrad}, X, ("optimizer",)),
    "own callbacks": ({"callbacks": [Quiet(), ("r2", EpochScoring("r2"))]}, X, ("callbacks",)),
}
FITTED, ANSWERS = {}, {}


def fitted(case):
    if case not in FITTED:
        parameters, rows, _ = CASES[case]
        FITTED[case] = clone(small(**parameters)).fit(rows)
    return FITTED[case]


def own_of(case):
    model = fitted(case)
    return {name: getattr(model, name) for name in CASES[case][2]}


def by_file(model, own, folder):
    model.save_model(folder / "model.safetensors")
    return type(model).load_model(folder / "model.safetensors", **own)


def by_joblib(model, own, folder):
    joblib.dump(model, folder / "model.joblib", compress=3)
    return joblib.load(folder / "model.joblib")


def by_skops(model, own, folder):
    skops_io = pytest.importorskip("skops.io", reason="skops is not installed")
    skops_io.dump(model, folder / "model.skops")
    trusted = [AutoencoderTransformer]
    untrusted = set(skops_io.get_untrusted_types(file=folder / "model.skops"))
    assert own or untrusted == {"skae._autoencoder.AutoencoderTransformer"}
    # a user's own, and what of others a user has given
    assert not any(name.startswith("skae._net") for name in untrusted)
    trusted += [name for name in untrusted if not name.startswith("skae.")]
    return skops_io.load(folder / "model.skops", trusted=trusted)


WAYS = {
    "file": by_file,
    "pickle": lambda model, own, folder: pickle.loads(pickle.dumps(model)),
    "old pickle": lambda model, own, folder: pickle.loads(pickle.dumps(model, protocol=0)),
    "joblib": by_joblib,
    "skops": by_skops,
    "deepcopy": lambda model, own, folder: copy.deepcopy(model),
}


def answers(model, rows):
    """Return what a model says, of all its methods."""
    codes = model.transform(rows)
    results = [
        codes,
        model.inverse_transform(np.asarray(codes)),
        model.reconstruct(rows),
        model.score(rows),
        model.score_samples(rows),
        model.score_features(rows),
        model.sample(5, random_state=3),
        model.density_.score_samples(np.asarray(codes)),
        model.get_feature_names_out(),
    ]
    if not scipy.sparse.issparse(rows):
        if model.categorical_features == "from_dtype":
            results.append(model.inverse_transform(np.asarray(codes), as_frame=True))
        results += [model.impute(rows), model.reconstruction_errors(rows)]
    return results


def assert_same(one, other):
    """Equality of types, dtypes and bits, as far down as there is something."""
    assert type(one) is type(other)
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    elif isinstance(one, pd.Series):
        pd.testing.assert_series_equal(one, other, check_exact=True)
    elif type(one).__module__.startswith("polars"):
        assert one.schema == other.schema
        assert one.equals(other)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        if one.dtype == object:
            assert_same(one.ravel().tolist(), other.ravel().tolist())
        else:
            assert one.tobytes() == other.tobytes()
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
        assert (one.dtype, one.stride(), one.requires_grad) == (
            *(other.dtype, other.stride()),
            other.requires_grad,
        )
    elif isinstance(one, dict):
        assert_same([*one.items()], [*other.items()])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    elif isinstance(one, float):
        assert np.float64(one).tobytes() == np.float64(other).tobytes()
    elif isinstance(one, nn.Module):
        assert str(one) == str(other)
        assert_same(dict(one.named_parameters()), dict(other.named_parameters()))
        assert_same(dict(one.named_buffers()), dict(other.named_buffers()))
        assert_same(dict(one.state_dict()), dict(other.state_dict()))
        if isinstance(one, Autoencoder):
            assert not any(part.training for part in other.modules())
    elif isinstance(one, np.random.RandomState):
        assert_same(one.get_state(legacy=False), other.get_state(legacy=False))
    elif isinstance(one, BaseEstimator):
        assert_same(one.get_params(deep=False), other.get_params(deep=False))
        assert_same(learned(one), learned(other))
    elif hasattr(one, "__dict__") and not isinstance(one, type | types.FunctionType):
        assert_same(vars(one), vars(other))
    else:
        assert one == other


def learned(model):
    """Return all attributes but parameters and the net, of which what it maps and tells."""
    parameters = model.get_params(deep=False)
    attributes = {name: v for name, v in vars(model).items() if name not in parameters}
    net = attributes.pop("net_", None)
    if net is not None:
        attributes |= {"module": net.module_, "criterion": net.criterion_.eval()}
        attributes |= {"history": [*net.history], "device": torch.device(net.device)}
    return dict(sorted(attributes.items()))


def original(case):
    """Return the answers of a model that was never stored."""
    if case not in ANSWERS:
        ANSWERS[case] = answers(fitted(case), CASES[case][1])
    return ANSWERS[case]


# ------------------------------------------------------------------------------- as it was before

FEW = ("plain", "tied", "frame", "own networks", "own callbacks")
INSTANCES = ("own instance", "own loss with gaps", "own loss with weights")
PAIRS = [(case, "file") for case in CASES]
PAIRS += [(case, way) for case in CASES for way in WAYS if way != "file" and case in FEW]
PAIRS += [(case, "pickle") for case in CASES if CASES[case][2] and case not in FEW]
PAIRS += [
    (case, "skops")
    for case in CASES
    if (CASES[case][2] or case in ("strings", "objects of ours")) and case not in (*FEW, *INSTANCES)
]


@pytest.mark.parametrize(("case", "way"), PAIRS)
def test_what_is_loaded_is_what_was_saved(case, way, tmp_path):
    model, own = fitted(case), own_of(case)
    state = torch.get_rng_state()
    loaded = WAYS[way](model, own, tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert_same(original(case), answers(loaded, CASES[case][1]))
    assert_same(learned(model), learned(loaded))
    if not own:
        assert_same(model.get_params(deep=False), loaded.get_params(deep=False))
    elif way == "file":
        assert all(getattr(loaded, name) is value for name, value in own.items())


@pytest.mark.parametrize("way", ["file", "pickle", "skops"])
def test_polars_frames_come_back(way, tmp_path):
    pytest.importorskip("polars", reason="polars is not installed")
    rows = frame("polars")
    model = small().fit(rows)
    loaded = WAYS[way](model, {}, tmp_path)
    assert_same(answers(model, rows), answers(loaded, rows))
    assert loaded.sample(3, random_state=0).schema == rows.schema


def test_polars_is_asked_for_where_it_is_not(tmp_path, monkeypatch):
    pytest.importorskip("polars", reason="polars is not installed")
    small().fit(frame("polars")).save_model(tmp_path / "model")
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ImportError, match="pip install polars"):
        AutoencoderTransformer.load_model(tmp_path / "model")


@pytest.mark.parametrize("way", ["file", "pickle", "skops"])
def test_parameters_keep_their_types(way, tmp_path):
    parameters = {
        "n_components": np.int64(2),
        "hidden_layer_sizes": [np.int32(4), 3],
        "alpha": np.float32(0.1),
        "learning_rate_init": np.float64(1e-3),
        "tied_weights": np.True_,
        "tol": float("1e-300"),
        "categorical_features": np.array([], dtype=object),
        "device": torch.device("cpu"),
        "random_state": np.random.RandomState(7),
        "callbacks": (),
    }
    model = small(**parameters).fit(X)
    loaded = WAYS[way](model, {}, tmp_path)
    assert_same(model.get_params(deep=False), loaded.get_params(deep=False))
    # the generator goes on where it was
    assert_same(clone(model).fit(X).transform(X), clone(loaded).fit(X).transform(X))


@pytest.mark.parametrize("way", ["file", "pickle", "skops"])
@pytest.mark.parametrize("frozen", [lambda start: start, FrozenEstimator])
def test_a_fitted_start_is_kept_too(frozen, way, tmp_path):
    start = small().fit(X)
    model = small(init=frozen(start)).fit(X[:60])
    loaded = WAYS[way](model, {}, tmp_path)
    assert_same(model.get_params(deep=False), loaded.get_params(deep=False))
    assert_same(model.transform(X), loaded.transform(X))
    assert_same(model.fit(X).transform(X), loaded.fit(X).transform(X))


@pytest.mark.parametrize("case", ["plain", "frame", "variational", "own networks"])
def test_training_goes_on_as_after_a_pickle(case, tmp_path):
    rows = CASES[case][1]
    one = pickle.loads(pickle.dumps(fitted(case)))
    other = by_file(fitted(case), own_of(case), tmp_path)
    assert_same(one.partial_fit(rows).transform(rows), other.partial_fit(rows).transform(rows))
    for model in (one, other):
        model.set_params(warm_start=True, max_iter=2).fit(rows)
    assert_same(one.transform(rows), other.transform(rows))
    assert not np.array_equal(one.transform(rows), fitted(case).transform(rows))
    cold = clone(other).set_params(warm_start=False, max_iter=3).fit(rows)
    assert_same(np.asarray(cold.transform(rows)), np.asarray(fitted(case).transform(rows)))


def test_a_stream_goes_on(tmp_path):
    model = small()
    for rows in (X[:40], X[40:80]):
        model.partial_fit(rows)
    one, other = pickle.loads(pickle.dumps(model)), by_file(model, {}, tmp_path)
    for each in (one, other):
        each.partial_fit(X[80:])
    one.net_.history_ = other.net_.history_  # which has durations
    assert_same(learned(one), learned(other))
    assert other.n_iter_ == 3


def test_the_output_stays_set(tmp_path):
    model = small().set_output(transform="pandas").fit(X)
    loaded = by_file(model, {}, tmp_path)
    assert_same(model.transform(X), loaded.transform(X))


def test_histories_of_any_form_are_kept(tmp_path):
    model = small(validation_fraction=0.2, n_iter_no_change=50).fit(X)
    history = model.net_.history
    history.record("odd", None)
    history[0]["only_there"] = float("nan")
    history[1]["batches"].append({"train_loss": 1.0})
    history[1]["batches"].append({})
    history[2]["batches"] = []
    loaded = by_file(model, {}, tmp_path)
    assert repr([*loaded.net_.history]) == repr([*history])
    assert loaded.net_.history[:, "train_loss"] == history[:, "train_loss"]


@pytest.mark.parametrize("way", ["file", "pickle", "skops"])
def test_the_net_works(way, tmp_path):
    model = fitted("gaps")
    net, loaded = model.net_, WAYS[way](model, {}, tmp_path).net_
    rows = torch.tensor(HOLEY, dtype=torch.float32)
    assert_same(net.predict(rows), loaded.predict(rows))
    # both are seeded by themselves, as rows are corrupted
    assert_same(net.losses(net.get_dataset(rows)), loaded.losses(loaded.get_dataset(rows)))
    assert net.settings() == {**loaded.settings(), "penalty": net.penalty}
    assert loaded.callbacks_ == []
    assert "Autoencoder" in repr(loaded)
    loaded.fit(rows)


def test_unfitted_estimators_have_pickles_and_archives(tmp_path):
    for way in ("pickle", "skops", "deepcopy"):
        loaded = WAYS[way](small(alpha=0.5), {}, tmp_path)
        assert_same(small(alpha=0.5).get_params(), loaded.get_params())
        assert not hasattr(loaded, "net_")
    with pytest.raises(NotFittedError):
        small().save_model(tmp_path / "model")


def test_pipelines_are_stored_whole(tmp_path):
    y = (X[:, 0] > 0).astype(int)
    pipeline = make_pipeline(StandardScaler(), small(), LogisticRegression()).fit(X, y)
    for way in ("pickle", "joblib", "skops"):
        loaded = WAYS[way](pipeline, {}, tmp_path)
        assert_same(pipeline.predict_proba(X), loaded.predict_proba(X))


def test_equal_models_have_equal_bytes():
    # joblib.Memory, which pipelines remember their steps with, goes by them
    one, other = (small(callbacks=[]) for _ in range(2))
    assert joblib.hash(one) == joblib.hash(other)
    assert joblib.hash(one) != joblib.hash(small(alpha=0.5))
    assert {content_of() for _ in range(10)} == {content_of()}


def test_what_is_shared_stays_shared(tmp_path):
    module = by_file(fitted("frame"), {}, tmp_path).net_.module_
    assert module.output.inputs is module.input[0]
    module = by_file(fitted("tied"), {}, tmp_path).net_.module_
    assert module.decoder[1].linear.weight is module.encoder[0].linear.weight


def test_tensors_are_told_apart_that_are_gone_when_the_next_one_comes():
    writer = _persistence.Writer()
    for i in range(50):
        writer.describe(torch.full((1,), float(i)), "tensor")
    assert sorted(float(array[0]) for array in writer.arrays.values()) == [*range(50)]


def test_callbacks_of_scikit_learn_are_no_part_of_a_model(tmp_path):
    pytest.importorskip("sklearn.callback", reason="scikit-learn 1.9 has callbacks")

    class Told:
        setup = teardown = on_fit_task_begin = on_fit_task_end = lambda *args, **kwargs: None

    model = small().set_callbacks(Told()).fit(X)
    for way in ("file", "skops"):
        loaded = WAYS[way](model, {}, tmp_path)
        assert not hasattr(loaded, "_skl_callbacks")
        assert_same(loaded.transform(X), fitted("plain").transform(X))


def test_a_shallow_copy_shares_no_weights():
    model = fitted("plain")
    copied = copy.copy(model)
    nn.init.zeros_(copied.net_.module_.decoder[1].branch[2].weight)
    assert_same(original("plain")[0], model.transform(X))


# -------------------------------------------------------------------------------- small, data-free


@pytest.mark.parametrize("way", ["file", "pickle", "joblib", "skops"])
def test_what_is_stored_is_the_weights_and_little_else(way, tmp_path):
    rows = np.random.RandomState(0).normal(size=(2000, 40))
    model = small(hidden_layer_sizes=(64,), n_components=8).fit(rows)
    n_bytes = 4 * sum(p.numel() for p in model.net_.module_.parameters())
    n_bytes += sum(v.nbytes for v in vars(model.density_).values() if isinstance(v, np.ndarray))
    n_bytes += 4 * 8 * 40  # PCA's components, for gaps
    WAYS[way](model, {}, tmp_path)
    stored = (
        len(pickle.dumps(model)) if way == "pickle" else next(tmp_path.iterdir()).stat().st_size
    )
    if way != "joblib":  # which is compressed here
        assert n_bytes < stored
    assert stored < n_bytes + 20_000 < rows.nbytes / 5


def test_what_is_stored_has_no_training_rows(tmp_path):
    rows = X.copy()
    rows[:, 0] = 12345.678  # would be found as such in any precision, or in units
    rows[::2, 1] = -7654.321
    model = small(callbacks=None, early_stopping=False).fit(rows)
    model.save_model(tmp_path / "model")
    for content in ((tmp_path / "model").read_bytes(), pickle.dumps(model)):
        for row in rows:
            for dtype in (np.float32, np.float64):
                assert row[2:].astype(dtype).tobytes() not in content
    sizes = []
    for n_rows in (1000, 4000):
        repeated = np.repeat(X, n_rows // 100, axis=0)[:n_rows]
        sizes.append(len(pickle.dumps(small(max_iter=1).fit(repeated))))
    assert abs(sizes[1] - sizes[0]) < 200  # digits of the numbers


def test_a_file_is_loaded_where_its_device_is_not(tmp_path):
    model = small().fit(X)
    codes = model.transform(X)
    model.net_.device = "cuda:99"
    model.save_model(tmp_path / "model")
    stored = pickle.dumps(model)
    with pytest.warns(UserWarning, match="was on device 'cuda:99'"):
        loaded = AutoencoderTransformer.load_model(tmp_path / "model")
    assert loaded.device_ == torch.device("cpu")
    assert_same(codes, loaded.transform(X))
    with pytest.warns(UserWarning, match="was on device 'cuda:99'"):
        assert_same(codes, pickle.loads(stored).transform(X))


# ------------------------------------------------------------------------------- code of one's own


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][2]])
def test_code_is_asked_for_by_name(case, tmp_path):
    own = own_of(case)
    fitted(case).save_model(tmp_path / "model")
    with pytest.raises(ValueError, match="code of your own and not in the file, got") as raised:
        AutoencoderTransformer.load_model(tmp_path / "model")
    assert all(f"{name}=" in str(raised.value) for name in own)
    with pytest.raises(ValueError, match=r"got .*'alpha'"):
        AutoencoderTransformer.load_model(tmp_path / "model", alpha=1.0, **own)


def test_parameters_that_are_in_the_file_are_not_given(tmp_path):
    fitted("plain").save_model(tmp_path / "model")
    with pytest.raises(
        ValueError, match=r"got \['alpha'\]; call load_model\(path\), and set_params"
    ):
        AutoencoderTransformer.load_model(tmp_path / "model", alpha=1.0)


def failing(n_in, n_out):
    raise RuntimeError("no network today")


@pytest.mark.parametrize(
    "encoder",
    [nn.Linear, Own(5, 2), Own(6, 3), failing, lambda n_in, n_out: "a string"],
    ids=["class", "n_in", "n_out", "failing", "string"],
)
def test_another_network_than_the_saved_one_is_refused(encoder, tmp_path):
    fitted("own networks").save_model(tmp_path / "model")
    with pytest.raises(ValueError, match="encoder must be what the model was saved with"):
        AutoencoderTransformer.load_model(tmp_path / "model", encoder=encoder, decoder=Own)


def test_an_instance_that_is_given_stays_as_it_is(tmp_path):
    fitted("own instance").save_model(tmp_path / "model")
    own = Own(6, 4)
    before = copy.deepcopy(own)
    loaded = AutoencoderTransformer.load_model(tmp_path / "model", encoder=own)
    assert loaded.encoder is own
    assert_same(before.state_dict(), own.state_dict())


@pytest.mark.parametrize("case", INSTANCES)
def test_skops_does_not_store_instances_of_networks(case):
    skops_io = pytest.importorskip("skops.io", reason="skops is not installed")
    with pytest.raises(TypeError, match="must be a class or function to be stored by skops"):
        skops_io.dumps(fitted(case))


def test_an_archive_of_ones_own_asks_for_that_alone(tmp_path):
    skops_io = pytest.importorskip("skops.io", reason="skops is not installed")
    content = skops_io.dumps(fitted("own networks"))
    ours = "skae._autoencoder.AutoencoderTransformer"
    assert skops_io.get_untrusted_types(data=content) == sorted([ours, f"{__name__}.Own"])
    with pytest.raises(Exception, match="Untrusted types found"):
        skops_io.loads(content, trusted=[AutoencoderTransformer])


def test_what_a_file_cannot_hold_is_refused_in_a_sentence(tmp_path):
    dates = pd.DataFrame({"a": X[:, 0], "day": pd.date_range("2020-01-01", periods=4).repeat(30)})
    model = small(categorical_features=["day"]).fit(dates)
    with pytest.raises(TypeError, match=r"got a Timestamp as categories_\.1.*or use pickle"):
        model.save_model(tmp_path / "model")
    loaded = pickle.loads(pickle.dumps(model))
    assert_same(model.transform(dates), loaded.transform(dates))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("hook", ["register_forward_hook", "register_forward_pre_hook"])
def test_networks_with_hooks_are_not_described_without_them(hook, tmp_path):
    model = copy.deepcopy(fitted("plain"))
    getattr(model.net_.module_.encoder[0].branch[0], hook)(print)
    with pytest.raises(TypeError, match=r"got a Linear as net_\.module\.encoder\.0\.branch\.0"):
        model.save_model(tmp_path / "model")


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(1, 2, 3, padding=1, groups=1, padding_mode="circular"),
        nn.Conv1d(1, 2, 3, padding="same"),
        nn.Conv1d(2, 2, 3, padding=1, groups=2),
        nn.Upsample(scale_factor=2),
        nn.GELU(approximate="tanh"),
        nn.Flatten(0),
        nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)),
    ],
    ids=repr,
)
def test_layers_with_more_to_them_than_is_described_are_not_known(layer):
    assert not _persistence.is_describable(nn.Sequential(layer))


# ------------------------------------------------------------------------------------------- frames

FRAMES = {
    "no names": pd.DataFrame(X[:, :2]),
    "numbers for names": pd.DataFrame(X[:, :2], columns=[3, 1.5]),
    "two levels": pd.DataFrame(X[:, :2], columns=pd.MultiIndex.from_tuples([("a", 1), ("a", 2)])),
    "named columns": pd.DataFrame(X[:, :2], columns=pd.Index(["a", "b"], name="quantity")),
    "objects": pd.DataFrame(X[:, :2], columns=pd.Index(["a", "\ud800"], dtype=object)),
    "nullable": pd.DataFrame(
        {"a": pd.array([1, None], "Int8"), "b": pd.array([1, 2.5], "Float32")}
    ),
    "boolean": pd.DataFrame({"a": pd.array([True, None], "boolean"), "b": [True, False]}),
    "unsigned": pd.DataFrame({"a": np.array([1], np.uint8), "b": np.array([1], np.float16)}),
    "strings": pd.DataFrame({"a": pd.array(["x"], pd.StringDtype("python")), "b": ["y"]}),
    "categories": pd.DataFrame({"a": pd.Categorical([1, 2]), "b": pd.Categorical(["u", "v"])}),
    "ordered": pd.DataFrame({"a": pd.Categorical([True, False], [True, False], ordered=True)}),
    "sparse": pd.DataFrame({"a": pd.arrays.SparseArray([0.0, 1.0], fill_value=0.0)}),
    "sparse NaN": pd.DataFrame({"a": pd.arrays.SparseArray([np.nan, 1.0])}),
}


@pytest.mark.parametrize("name", FRAMES)
def test_pandas_frames_are_described(name):
    template = no_rows_of(FRAMES[name])
    text, arrays = _persistence.described({"frame": template})
    attributes, _ = _persistence.restored(text, arrays)
    pd.testing.assert_frame_equal(attributes["frame"], template)
    assert attributes["frame"].columns.identical(template.columns)


@pytest.mark.parametrize(
    "dtype", ["int64[pyarrow]", "double[pyarrow]", "bool[pyarrow]", "string[pyarrow]"]
)
def test_arrow_frames_are_described(dtype):
    # of another numpy's, as good as none
    pytest.importorskip("pyarrow", reason="pyarrow is not installed", exc_type=ImportError)
    template = pd.DataFrame({"a": pd.Series([], dtype=dtype)})
    text, arrays = _persistence.described({"frame": template})
    assert_same(_persistence.restored(text, arrays)[0]["frame"], template)


@pytest.mark.parametrize(
    "template",
    [
        pd.DataFrame({"a": pd.Series([], dtype="datetime64[ns, Europe/Berlin]")}),
        pd.DataFrame({"a": pd.Series([], dtype="period[D]")}),
        pd.DataFrame(columns=pd.date_range("2020-01-01", periods=2)),
        pd.DataFrame({"a": [1.0]}),
    ],
    ids=["zone", "period", "dates", "rows"],
)
def test_other_frames_are_not(template):
    assert not _persistence.is_describable(template)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int8).reshape(2, 3),
        np.asfortranarray(X[:3]),
        np.array([np.nan, -0.0, np.inf]),
        np.array(3.5),
        np.array([True, False]),
        np.array(["ä", "longer", ""]),
        np.array([["a"], ["b"]], dtype="<U7"),
        np.array(["a", 1, None, 2.5, True, np.float32(3)], dtype=object),
        np.array([["a"], [None]], dtype=object),
        np.empty((0, 4), dtype=np.float32),
        np.empty((0, 4), dtype="<U7"),
        np.empty((0, 4), dtype=">f8"),
        np.empty((0, 4), dtype="<M8[ns]"),
        np.empty((0, 2), dtype=object),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_are_described(array):
    content = _model_file.dumps(*_persistence.described({"array": array}), {})
    read = _persistence.restored(*_model_file.loads(content, "It"))[0]["array"]
    assert_same(array, read)
    assert array.flags.c_contiguous == read.flags.c_contiguous
    read[...] = read  # it can be written to


@pytest.mark.parametrize(
    "array",
    [np.array([1j]), np.array(["2020"], "M8[D]"), np.array([b"a"]), np.array([(1, 2)], "i4,i4")],
    ids=str,
)
def test_other_arrays_are_not(array):
    assert not _persistence.is_describable(array)


@pytest.mark.parametrize(
    "scalar",
    [np.str_("ä"), np.float32(0.1), np.float64(np.nan), np.int8(-3), np.bool_(True)],
    ids=lambda scalar: type(scalar).__name__,
)
def test_scalars_of_numpy_are_described(scalar):
    content = _model_file.dumps(*_persistence.described({"scalar": scalar}), {})
    read = _persistence.restored(*_model_file.loads(content, "It"))[0]["scalar"]
    assert type(read) is type(scalar)
    np.testing.assert_array_equal(read, scalar)


@pytest.mark.parametrize(
    "value",
    [
        np.datetime64("2020"),
        np.complex64(1j),
        torch.ones(2, dtype=torch.bfloat16),
        torch.ones(2) * 1j,
    ],
    ids=lambda value: str(value.dtype),
)
def test_other_scalars_and_tensors_are_not(value):
    assert not _persistence.is_describable(value)


# -------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), OSError("No space left"), KeyboardInterrupt()]
)
def test_a_save_that_fails_leaves_what_was_there(error, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    fitted("plain").save_model(path)
    before = path.read_bytes()

    def full(descriptor):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(type(error)) as raised:
            fitted("frame").save_model(path)
    assert raised.value.args[:2] == error.args
    assert getattr(raised.value, "filename", None) == (str(path) if len(error.args) == 2 else None)
    assert path.read_bytes() == before
    assert [*tmp_path.iterdir()] == [path]
    fitted("frame").save_model(path)
    assert path.read_bytes() != before
    assert [*tmp_path.iterdir()] == [path]


class Storing(Callback):
    """Stores a model at the end of its training, by `store`, which is none of what is stored."""

    store = None

    def on_train_end(self, net, **kwargs):
        type(self).store()


def test_models_that_are_stored_within_a_fit_are_as_after_the_fit_before(tmp_path, monkeypatch):
    path, kept = tmp_path / "model.safetensors", []
    model = small(warm_start=True, callbacks=[Storing()])
    monkeypatch.setattr(Storing, "store", lambda: None)
    names, codes = {*vars(model.fit(X))}, model.transform(X)
    monkeypatch.setattr(
        Storing, "store", lambda: [kept.append(pickle.dumps(model)), model.save_model(path)]
    )
    model.fit(X)
    (content,) = kept
    for stored in (pickle.loads(content), AutoencoderTransformer.load_model(path, callbacks=[])):
        assert {*vars(stored)} == names
        assert_same(codes, stored.transform(X))


def test_files_have_the_usual_permissions_and_links_stay(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link, target = tmp_path / "link", tmp_path / "elsewhere" / "model"
    try:
        link.symlink_to(target)
    except OSError:
        pytest.skip("links are not allowed here")
    fitted("plain").save_model(link)
    assert link.is_symlink()
    (tmp_path / "other").write_bytes(b"")
    assert target.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_paths_are_strings_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fitted("plain").save_model("model")
    assert_same(original("plain")[0], AutoencoderTransformer.load_model("model").transform(X))


def test_a_subclass_loads_as_such(tmp_path):
    class Named(AutoencoderTransformer):
        pass

    fitted("plain").save_model(tmp_path / "model")
    assert type(Named.load_model(tmp_path / "model")) is Named


def test_any_reader_of_safetensors_finds_the_weights(tmp_path):
    fitted("plain").save_model(tmp_path / "model.safetensors")
    arrays = load_file(tmp_path / "model.safetensors")
    weight = fitted("plain").net_.module_.encoder[0].linear.weight
    assert np.array_equal(arrays["net_.module.encoder.0.linear.weight"], weight.detach().numpy())


# ---------------------------------------------------------------------------- of earlier releases


def loaded_from(path):
    if path.suffix == ".pickle":
        return pickle.loads(path.read_bytes())
    if path.suffix == ".skops":
        skops_io = pytest.importorskip("skops.io", reason="skops is not installed")
        return skops_io.load(path, trusted=[AutoencoderTransformer])
    return AutoencoderTransformer.load_model(path)


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(MODELS.glob("*-protocol*")) if path.suffix != ".json"],
    ids=lambda path: path.name,
)
def test_models_of_each_release_load_and_answer_as_then(path):
    model, then = loaded_from(path), json.loads(path.with_suffix(".json").read_text())
    rows = pd.DataFrame(then["rows"])
    if not hasattr(model, "feature_names_in_"):
        rows = rows.to_numpy(dtype=np.float64)
    # Rows are mapped in float64, from weights that are kept to the bit; what another processor or
    # release of torch may change is the order of sums.
    close = {"rtol": 1e-9, "atol": 1e-9}
    np.testing.assert_allclose(model.transform(rows), then["codes"], **close)
    np.testing.assert_allclose(model.score_samples(rows), then["score_samples"], **close)
    decoded = pd.DataFrame(model.reconstruct(rows))
    decoded.columns = decoded.columns.map(str)
    pd.testing.assert_frame_equal(
        decoded.astype(object), pd.DataFrame(then["decoded"]).astype(object), **close
    )
    assert model.explained_variance_.tolist() == then["explained_variance_"]
    assert model.alpha == then["alpha"]
    assert len(model.sample(3, random_state=0)) == 3
    with warnings.catch_warnings():  # parts of a table have rows and columns without entries
        warnings.simplefilter("ignore", UserWarning)
        model.partial_fit(rows)


def test_there_are_models_of_protocol_1_and_all_are_small():
    paths = [*MODELS.glob("*-protocol1-*.safetensors")]
    assert len(paths) >= 6
    assert all(path.stat().st_size < 30_000 for path in MODELS.iterdir() if path.is_file())


# ------------------------------------------------------------------------------- files of strangers

CANARY = "executed"


class Hostile:
    """A pickle of it makes a directory where it is loaded."""

    def __reduce__(self):
        return os.mkdir, (CANARY,)


def content_of(case="plain"):
    return fitted(case)._content(fitted(case)._own_parameters())


def parts_of(case="plain"):
    """Return a model's description and its arrays, to be changed."""
    text, arrays = _model_file.loads(content_of(case), "It")
    return json.loads(text), arrays


def rewritten(change, case="plain"):
    """Return a file as a stranger may write it: with the checksum of what was changed."""
    text, arrays = parts_of(case)
    text = change(text["attributes"], arrays) or text
    text = text if isinstance(text, str) else json.dumps(text)
    return _model_file.dumps(text, arrays, {"skae": "0.1"})


def raw(header, data=b"", n_header=None):
    """Return the bytes of a safetensors file with such a header."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header) if n_header is None else n_header) + header + data


def with_header(change, data=None):
    """Return a model's file with a header that is changed."""
    content = content_of()
    n = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + n])
    return raw(change(header) or header, content[8 + n :] if data is None else data)


def about(**changes):
    """Return a model's file with another protocol, or other versions."""

    def change(header):
        entries = {**json.loads(header["__metadata__"]["skae"]), **changes}
        header["__metadata__"]["skae"] = json.dumps(entries)

    return with_header(change)


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../../outside", b"x")
    return file.getvalue()


def torch_saved():
    file = io.BytesIO()
    torch.save({"weight": torch.ones(3)}, file)
    return file.getvalue()


def set_at(path, value):
    """Return a change of the attribute, or of what is in it, at a path."""

    def change(attributes, arrays):
        *way, last = path.split("/")
        place = attributes
        for step in way:
            place = place[int(step) if isinstance(place, list) else step]
        place[int(last) if isinstance(place, list) else last] = value

    return change


def change_array(name, change):
    def changed(attributes, arrays):
        arrays[name] = change(arrays[name])

    return changed


def twice(header):
    text = json.dumps(header)
    entry = json.dumps(header["mean_"])
    return text.replace('"mean_":', f'"mean_": {entry}, "mean_":', 1).encode()


def overlapping(header):
    header["mean_"]["data_offsets"] = header["scale"] = header["_no_rows"]["data_offsets"]
    del header["scale"]


def huge_in_header(header):
    header["mean_"]["shape"] = [2**40]


LINEAR = "net_/module/parts/encoder/parts/0/parts/branch/parts/0"
WEIGHT = "net_.module.encoder.0.branch.0.weight"
OUTSIDE = "../../outside"
DEEP = 100_000
UPSAMPLE = {
    "is": "module",
    "class": "Upsample",
    "attributes": {"size": {"is": "tuple", "of": [1e9]}},
}

NO_MODEL = {
    "empty": (lambda: b"", "0 that do not begin"),
    "one byte": (lambda: b"{", "1 that do not begin"),
    "text": (lambda: b"area,built,rent\n1,2,3\n" * 99, "do not begin"),
    "pickle": (lambda: pickle.dumps(Hostile()), "a pickle"),
    "old pickle": (lambda: pickle.dumps(Hostile(), protocol=0), "do not begin"),
    "pickle behind a header": (
        lambda: raw(
            {"x": {"dtype": "U8", "shape": [9], "data_offsets": [0, 9]}}, b"\x80\x04cos\n..."
        ),
        "something else",
    ),
    "compressed pickle": (lambda: zlib.compress(pickle.dumps(Hostile())), "something compressed"),
    "zip": (zipped, "a zip archive"),
    "torch": (torch_saved, "a zip archive"),
    "another model": (lambda: save({"a": np.ones(3)}, {"format": "pt"}), "something else"),
    "no metadata": (
        lambda: with_header(lambda header: header.pop("__metadata__") and None),
        "else",
    ),
    "huge header": (lambda: raw({}, n_header=2**63 - 1), "do not begin"),
    "negative header": (lambda: raw({}, n_header=2**64 - 1), "do not begin"),
    "header as long as the file": (lambda: raw({}, n_header=2**24 + 1), "do not begin"),
    "header that is no JSON": (lambda: raw(b"{" * 64), "damaged"),
    "deep header": (lambda: raw(b'{"a":' * DEEP + b"1" + b"}" * DEEP), "damaged"),
    "newer": (lambda: about(protocol=2, skae="9.1"), "written by skae 9.1.*upgrade skae"),
    "protocol 0": (lambda: about(protocol=0), "protocol 0, which there is not"),
    "protocol -1": (lambda: about(protocol=-1), "protocol -1, which there is not"),
    "protocol true": (lambda: about(protocol=True), "protocol True, which there is not"),
    "protocol text": (lambda: about(protocol="1"), "protocol '1', which there is not"),
    "protocol null": (lambda: about(protocol=None), "something else"),
    "protocol list": (lambda: about(protocol=[1]), "which there is not"),
    "checksum": (lambda: about(sha256="0" * 64), "checksum"),
    "no checksum": (lambda: about(sha256=None), "checksum"),
    "version changed": (lambda: about(torch="1.0"), "checksum"),
    "metadata list": (
        lambda: with_header(lambda h: h["__metadata__"].update(skae="[]")),
        "damaged",
    ),
    "metadata number": (lambda: with_header(lambda h: h["__metadata__"].update(skae=1)), "damaged"),
    "key twice": (lambda: with_header(twice), "damaged"),
    "overlap": (lambda: with_header(overlapping), "damaged"),
    "huge shape in the header": (lambda: with_header(huge_in_header), "damaged"),
    "more data": (lambda: content_of() + b"\0", "damaged"),
    "less data": (lambda: content_of()[:-1], "damaged"),
    "no description": (lambda: with_header(lambda h: h.pop("description") and None), "damaged"),
}
NO_ESTIMATOR = {
    "missing array": lambda attributes, arrays: arrays.pop(WEIGHT) is None,
    "more arrays": lambda attributes, arrays: arrays.update({OUTSIDE: np.ones(1)}),
    "absolute path": set_at("mean_/array", "/etc/passwd"),
    "path outside": set_at("mean_/array", OUTSIDE),
    "wrong shape": change_array(WEIGHT, lambda array: array.T.copy()),
    "transposed mean": change_array("mean_", lambda array: array[:, None]),
    "short mean": change_array("mean_", lambda array: array[1:]),
    "wrong dtype": change_array(WEIGHT, lambda array: array.astype(np.float64)),
    "whole numbers": change_array(WEIGHT, lambda array: array.astype(np.int32)),
    "wrong buffer": change_array("net_.module.encoder.0.clip.bound", lambda array: array[:2]),
    "wrong components": change_array("net_.module.input.components", lambda array: array[:, 1:]),
    "wrong density": change_array("density_.means_", lambda array: array[:, :1]),
    "huge width": set_at(f"{LINEAR}/attributes/in_features", 10**12),
    "huge widths": set_at(f"{LINEAR}/attributes", {"in_features": 2**40, "out_features": 2**40}),
    "negative width": set_at(f"{LINEAR}/attributes/in_features", -6),
    "infinite width": set_at(f"{LINEAR}/attributes/in_features", {"is": "float", "value": "inf"}),
    "width that is text": set_at(f"{LINEAR}/attributes/in_features", "6"),
    "huge image": set_at(f"{LINEAR}", UPSAMPLE),
    "huge n_components_": set_at("n_components_", 10**12),
    "negative n_components_": set_at("n_components_", -1),
    "huge n_features_in_": set_at("n_features_in_", 10**12),
    "huge layout": set_at("_layout/n_categories", [10**12]),
    "negative layout": set_at("_layout/n_categories", [-(10**12)] * 6),
    "huge empty array": set_at("_no_rows", {"is": "empty", "shape": [2**40], "dtype": "<f8"}),
    "huge empty dtype": set_at("_no_rows", {"is": "empty", "shape": [0, 1], "dtype": "<U99999999"}),
    "huge shape": set_at("_no_rows", {"is": "objects", "shape": [2**40], "of": []}),
    "NaN": lambda attributes, arrays: '{"own": {}, "attributes": {"scale_": NaN}}',
    "deep": lambda attributes, arrays: "[" * DEEP + "]" * DEEP,
    "no JSON": lambda attributes, arrays: "{",
    "a list": lambda attributes, arrays: "[]",
    "no attributes": lambda attributes, arrays: '{"own": {}}',
    "half the attributes": lambda attributes, arrays: attributes.pop("categories_") is None,
    "no net": lambda attributes, arrays: attributes.pop("net_") is None,
    "long number": lambda attributes, arrays: '{"own": {}, "attributes": ' + "9" * 10**6 + "}",
    "os.system": set_at(LINEAR, {"is": "module", "class": "os.system", "attributes": {}}),
    "function": set_at("loss", {"is": "constant", "name": "os.system"}),
    "class": set_at("density_/class", "subprocess.Popen"),
    "other module": set_at(f"{LINEAR}/class", "torch.nn.modules.rnn.LSTM"),
    "known to torch alone": set_at(f"{LINEAR}/class", "Bilinear"),
    "unknown kind": set_at("density_", {"is": "pickle", "of": "gASVHQ=="}),
    "own that was not": set_at(LINEAR, {"is": "own", "role": "encoder", "n_out": 2, "state": {}}),
    "dunder": set_at("__class__", "os.system"),
    "dunder of a part": set_at("density_/attributes/__setstate__", 1),
    "attribute of a module": set_at(f"{LINEAR}/attributes/forward", "x"),
    "attribute of ours": set_at("net_/module/attributes", {"forward": "x"}),
    "setting": set_at("net_/settings/compile", True),
    "optimiser": set_at("net_/settings/optimizer", {"is": "constant", "name": "LBFGS"}),
    "device": set_at("net_/settings/device", {"is": "device", "name": "x"}),
    "part before it is there": set_at("net_/module/parts/input", {"is": "the same", "number": 0}),
    "part that is not there": set_at("net_/module/parts/input", {"is": "the same", "number": 99}),
    "parameter for a part": set_at("net_/module/parts/input", 1.0),
    "history": set_at("net_/history/sizes", [10**12]),
    "random state": set_at(
        "random_state", {"is": "random state", "state": {"is": "dict", "items": [["state", 1]]}}
    ),
    "time zone": set_at(
        "_no_rows",
        {
            "is": "frame",
            "of": {
                "is": "dict",
                "items": [
                    ["library", "pandas"],
                    ["columns", {"is": "dict", "items": [["range", [0, 1, 1]], ["names", [None]]]}],
                    ["dtypes", [f"datetime64[ns, dateutil/{OUTSIDE}]"]],
                ],
            },
        },
    ),
}
HOSTILE = {
    **{name: make for name, (make, _) in NO_MODEL.items()},
    **{name: functools.partial(rewritten, change) for name, change in NO_ESTIMATOR.items()},
}


def load(content, folder):
    path = folder / "model.safetensors"
    path.write_bytes(content)
    return AutoencoderTransformer.load_model(path)


@pytest.mark.parametrize("name", NO_MODEL)
def test_what_is_no_model_is_refused_in_a_sentence(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, reason = NO_MODEL[name]
    with pytest.raises(ValueError, match=rf"The file .*model\.safetensors' must hold.*{reason}"):
        load(make(), tmp_path)
    assert not Path(CANARY).exists()


@pytest.mark.parametrize("name", NO_ESTIMATOR)
def test_what_does_not_hold_together_is_refused_in_a_sentence(name, tmp_path):
    content = rewritten(NO_ESTIMATOR[name])
    with pytest.raises(
        ValueError, match=r"must hold.*damaged ones \(.*; load a copy that is whole"
    ):
        load(content, tmp_path)


def test_a_rewritten_file_is_accepted_where_nothing_is_changed(tmp_path):
    # or the tests above could not fail
    loaded = load(rewritten(lambda attributes, arrays: None), tmp_path)
    assert_same(original("plain")[0], loaded.transform(X))
    changed = load(rewritten(set_at("alpha", 0.5)), tmp_path)
    assert changed.alpha == 0.5


def test_parameters_that_a_file_does_not_know_have_their_defaults(tmp_path):
    def as_before_it_was_added(attributes, arrays):
        del attributes["n_iter_no_change"], attributes["density_"]["attributes"]["verbose"]

    loaded = load(rewritten(as_before_it_was_added), tmp_path)
    assert loaded.n_iter_no_change == 15
    assert loaded.density_.get_params() == fitted("plain").density_.get_params()


IMAGE = "net_/module/parts/decoder/parts/1/parts/branch/parts"


@pytest.mark.parametrize(
    ("place", "layer"),
    [
        ("2", {"class": "Upsample", "attributes": {"size": {"is": "tuple", "of": [2**40]}}}),
        ("4/attributes/padding", {"is": "tuple", "of": [2**40]}),
    ],
    ids=["enlarged", "padded"],
)
def test_images_that_get_huge_on_their_way_are_refused(place, layer, tmp_path):
    def huge(attributes, arrays):
        set_at(f"{IMAGE}/{place}", {"is": "module", **layer})(attributes, arrays)
        again = {"class": "Upsample", "attributes": {"size": {"is": "tuple", "of": [6]}}}
        branch = functools.reduce(dict.__getitem__, IMAGE.split("/"), attributes)
        branch["5"], branch["6"] = {"is": "module", **again}, branch["5"]

    with pytest.raises(ValueError, match="makes too much of a row"):
        load(rewritten(huge, "convolutions"), tmp_path)


def test_ones_own_networks_are_not_asked_for_sizes_that_are_not_in_the_file(tmp_path):
    text, arrays = parts_of("own networks")
    text["attributes"]["categories_"] = [None] * 20_000
    arrays["explained_variance_"] = np.ones(20_000)
    text["attributes"]["net_"]["module"]["parts"]["encoder"]["parts"]["0"]["parts"]["branch"][
        "parts"
    ]["module"]["n_out"] = 20_000
    (tmp_path / "model").write_bytes(_model_file.dumps(json.dumps(text), arrays, {}))
    asked = []

    def encoder(n_in, n_out):
        asked.append((n_in, n_out))
        return Own(n_in, n_out)

    with pytest.raises(ValueError, match="are more than there is"):
        AutoencoderTransformer.load_model(tmp_path / "model", encoder=encoder, decoder=Own)
    assert not asked


def test_strings_are_of_characters(tmp_path):
    none_of_these = change_array("categories_.0", lambda array: array + np.uint32(2**30))
    with pytest.raises(ValueError, match="those of no characters"):
        load(rewritten(none_of_these, "strings"), tmp_path)


def test_a_random_state_is_within_itself(tmp_path):
    def beyond(attributes, arrays):
        writer = _persistence.Writer()
        attributes["random_state"] = writer.describe(np.random.RandomState(0), "random_state")
        items = dict(attributes["random_state"]["state"]["items"])
        position = dict(items["state"]["items"])
        assert position["pos"] == 624
        next(item for item in items["state"]["items"] if item[0] == "pos")[1] = 10**6
        arrays.update(writer.arrays)

    with pytest.raises(ValueError, match="1000000 must be one of"):
        load(rewritten(beyond), tmp_path)


@pytest.mark.parametrize("name", ["pickle", "newer", "checksum", "less data"])
def test_the_state_in_pickles_and_archives_is_checked_too(name):
    with pytest.raises(ValueError, match="The state of the estimator must hold"):
        AutoencoderTransformer().__setstate__({"_content": HOSTILE[name]()})
    for state in ({}, {"_content": 10**12}, {"_content": "text"}):
        with pytest.raises(ValueError, match="The state of the estimator must hold"):
            AutoencoderTransformer().__setstate__(state)


def lists():
    return [
        (pd.Index(["heating"]), pd.Series([5, 4])),
        (pd.Series([False, False, False, True, False, False]), range(4, 6)),
        (np.array([3]), np.array([5])),
    ]


@pytest.mark.parametrize("case", range(3))
def test_lists_of_other_libraries_are_in_files_as_lists(case, tmp_path):
    named, widths = lists()[case]
    table = frame().drop(columns=["street", "kind"]).assign(kind=1.0, street=2.0)
    model = small(categorical_features=named, hidden_layer_sizes=widths).fit(table)
    model.save_model(tmp_path / "model")
    loaded = AutoencoderTransformer.load_model(tmp_path / "model")
    assert list(loaded.categorical_features) == list(named)
    assert list(loaded.hidden_layer_sizes) == list(widths)
    np.testing.assert_array_equal(loaded.transform(table), model.transform(table))
    again = pickle.loads(pickle.dumps(model))
    assert type(again.categorical_features) is type(named)
    np.testing.assert_array_equal(clone(loaded).fit_transform(table), model.transform(table))


def test_requests_for_metadata_and_masked_arrays_do_not_hinder(tmp_path):
    with sklearn.config_context(enable_metadata_routing=True):
        model = small().fit(np.ma.masked_array(X, np.zeros_like(X, dtype=bool)))
        model.set_inverse_transform_request(as_frame=True)
        model.save_model(tmp_path / "model")
        again = pickle.loads(pickle.dumps(model))
    loaded = AutoencoderTransformer.load_model(tmp_path / "model")
    np.testing.assert_array_equal(loaded.transform(X), model.transform(X))
    assert again.get_metadata_routing().inverse_transform.requests == {"as_frame": True}


def test_where_no_file_can_be_written_it_is_named(tmp_path):
    path = tmp_path / "none" / "model"
    with pytest.raises(FileNotFoundError, match=f"{path}'$"):
        fitted("plain").save_model(path)
    with pytest.raises(IsADirectoryError, match=f"{tmp_path}'$"):
        fitted("plain").save_model(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_there_must_be_a_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        AutoencoderTransformer.load_model(tmp_path / "none")
    with pytest.raises(ValueError, match="got a directory or device; name a file"):
        AutoencoderTransformer.load_model(tmp_path)


def test_a_file_that_is_cut_off_anywhere_is_refused(tmp_path):
    content = content_of()
    n_header = 8 + struct.unpack("<Q", content[:8])[0]
    lengths = {*range(40), *range(40, n_header, 97), n_header - 1, n_header, n_header + 1}
    lengths |= {*range(n_header, len(content), 997), len(content) - 1}
    for length in sorted(lengths):
        with pytest.raises(ValueError, match="must hold bytes as save_model wrote them"):
            load(content[:length], tmp_path)


def test_a_changed_bit_is_found_wherever_it_is(tmp_path):
    content, messages = content_of(), []
    n_header = 8 + struct.unpack("<Q", content[:8])[0]
    rng = np.random.RandomState(0)
    places = [*rng.randint(n_header, size=300), *rng.randint(n_header, len(content), size=100)]
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.randint(8)
        try:
            loaded = load(bytes(damaged), tmp_path)
        except ValueError as error:
            messages.append(str(error))
        else:  # what says the same in other letters
            assert_same(original("plain")[0], loaded.transform(X))
    assert len(messages) > 390
    assert all("must hold bytes as save_model wrote them" in message for message in messages)


JUNK = [
    *(None, True, -1, 0, 1, 10**12, 1e308, -0.5, "", "x", "__class__", OUTSIDE, [], [[]], {}),
    *({"is": "tensor", "array": "mean_"}, {"is": "array", "array": WEIGHT}, {"is": 1}, ["a"] * 3),
]


@pytest.mark.parametrize("case", ["plain", "frame", "convolutions"])
def test_a_description_of_anything_gives_an_estimator_or_an_error(case, tmp_path):
    text, arrays = parts_of(case)
    rng, messages = np.random.RandomState(0), []
    for _ in range(60):
        changed = copy.deepcopy(text)
        place = changed["attributes"]
        while True:  # down to a random depth
            keys = [*place] if isinstance(place, dict) else [*range(len(place))]
            key = keys[rng.randint(len(keys))]
            below = place[key]
            if not isinstance(below, dict | list) or not below or rng.uniform() < 0.1:
                break
            place = below
        place[key] = JUNK[rng.randint(len(JUNK))]
        try:
            load(_model_file.dumps(json.dumps(changed), arrays, {}), tmp_path)
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > 10
    assert all("must hold bytes as save_model wrote them" in message for message in messages)


LOAD_ALL = """
import json, os, pathlib, resource, sys, warnings
from skae import AutoencoderTransformer

folder = pathlib.Path(sys.argv[1])
AutoencoderTransformer.load_model(folder / "good")  # imports what it needs
allowed, seen, results = None, [], {}

def hook(event, args):
    if event == "open" and str(args[0]) != str(allowed):
        seen.append(f"{event} {args[0]}")
    if event.split(".")[0] in ("os", "subprocess", "socket", "shutil", "ctypes", "pty"):
        seen.append(event)
    if event in ("pickle.find_class", "exec", "compile", "import"):
        seen.append(f"{event} {args[0]!r:.80}")

size = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 2**28, size + 2**28))
sys.addaudithook(hook)
for name in sorted(path.name for path in folder.iterdir() if path.name != "good"):
    allowed = folder / name
    seen.clear()
    try:
        AutoencoderTransformer.load_model(allowed)
        kind = None
    except BaseException as error:
        kind = type(error).__name__
    results[name] = [kind, seen[:]]
print(json.dumps(results))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits are set as on Linux")
def test_nothing_is_executed_or_opened_and_no_memory_exhausted(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "good").write_bytes(content_of())
    for name, make in HOSTILE.items():
        (folder / name).write_bytes(make())
    done = subprocess.run(
        [sys.executable, "-c", LOAD_ALL, str(folder)],
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(skae.__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr.decode()
    results = json.loads(done.stdout)
    assert set(results) == set(HOSTILE)
    assert {name: kind for name, (kind, _) in results.items() if kind != "ValueError"} == {}
    assert {name: events for name, (_, events) in results.items() if events} == {}
    assert [path.name for path in tmp_path.iterdir()] == ["files"]


def test_an_archive_runs_nothing_that_is_not_trusted(tmp_path, monkeypatch):
    skops_io = pytest.importorskip("skops.io", reason="skops is not installed")
    monkeypatch.chdir(tmp_path)
    # as an attacker would put code where a parameter is
    hostile = AutoencoderTransformer()
    hostile.encoder = os.mkdir
    content = skops_io.dumps(hostile)
    with pytest.raises(Exception, match="mkdir"):
        skops_io.loads(content, trusted=[AutoencoderTransformer])
    assert not Path(CANARY).exists()


def test_a_loaded_net_has_the_settings_of_the_saved_one(tmp_path):
    rows = np.tile(X, (10, 1))
    model = small(average=False, max_iter=1).fit(rows)
    model.save_model(tmp_path / "model")
    loaded = AutoencoderTransformer.load_model(tmp_path / "model")
    settings = [one.net_.get_params(deep=False) for one in (model, loaded)]
    plain = [
        {name: value for name, value in some.items() if isinstance(value, bool | int | float | str)}
        for some in settings
    ]
    assert plain[0] == plain[1]
    assert plain[0]["eases"]


def test_the_mean_of_a_cross_entropy_is_in_the_file():
    assert "mean" in fitted("textbook").net_.criterion_.state_dict()
