"""ONNX models give what the transformer gives."""

import re
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.special
import torch
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skae import AutoencoderTransformer
from skae import _onnx as graphs
from skae.modules import ACTIVATIONS, ConvDecoder, ConvEncoder, SoftClip, SoftThreshold
from skae.onnx import to_onnx

onnx = pytest.importorskip("onnx", reason="onnx is not installed")

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

N_TRAINED = 200


def small(**parameters):
    return AutoencoderTransformer(
        **{
            "n_components": 3,
            "hidden_layer_sizes": (16,),
            "max_iter": 60,
            "learning_rate_init": 1e-2,
            "early_stopping": False,
            "alpha": 1e-4,  # for weights so small that sums in float32 have the five digits
            "random_state": 0,
            **parameters,
        }
    )


@pytest.fixture(scope="module")
def table():
    """10 000 rows on a curved sheet in 12 dimensions, in float32."""
    rng = np.random.RandomState(0)
    places = rng.uniform(-2, 2, size=(10_000, 3))
    sheet = np.column_stack([places, places**2]) @ rng.normal(size=(6, 12))
    return (sheet + 0.1 * rng.normal(size=sheet.shape) + 5).astype(np.float32)


@pytest.fixture(scope="module")
def hard(table):
    """The same, but of half of the rows 30 % is missing, and some are far away."""
    rng = np.random.RandomState(1)
    X = table.copy()
    X[-200:] = 5 + 20 * (X[-200:] - 5)
    X[4000:9000][rng.uniform(size=(5000, 12)) < 0.3] = np.nan
    return X[~np.isnan(X).all(axis=1)]


def session_of(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def run(model, X):
    onnx.checker.check_model(model, full_check=True)
    session = session_of(model)
    return session.run(None, {session.get_inputs()[0].name: X})


def assert_close(values, expected, spread):
    """1e-5 of each value, or of what is typical of its column: float32 has seven digits.

    And as it has no more, 3e-7 of the largest value of a row: far away others are differences.
    """
    assert values.shape == expected.shape
    assert np.isfinite(values).all()
    size = np.abs(expected)
    bound = 1e-5 * (size + spread) + 3e-7 * size.max(axis=1, keepdims=True)
    assert (np.abs(values - expected) <= bound).all()


def assert_agrees(estimator, X):
    """Models give what methods give to rows in float32, and in float64."""
    for what in ("transform", "reconstruct"):
        (values,) = run(to_onnx(estimator, what=what), X)
        assert values.dtype == np.float32
        method = getattr(estimator, what)
        spread = method(X[:N_TRAINED]).std(axis=0)
        for dtype in (np.float32, np.float64):
            assert_close(values, method(X.astype(dtype)), spread)


def shares_of_branches(estimator, X):
    """Return how much of what encoder and decoder give comes from their nonlinear branches."""
    module = estimator.net_.module_
    units = torch.from_numpy((X - estimator.mean_) / estimator.scale_).float()
    with torch.no_grad():
        skips = (
            (module.encoder[0], units),
            (module.decoder[1], module.decoder[0](module.encoder(units))),
        )
        return [(skip.branch(skip.clip(x)).std() / skip(x).std()).item() for skip, x in skips]


def is_turned(estimator):
    axes = estimator.net_.module_.encoder[1].weight
    return (axes - axes.diagonal().diag()).abs().max() > 0.01


# ------------------------------------------------------------------------------ what it computes


@pytest.mark.parametrize("linear_skip", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_onnxruntime_agrees_for_every_activation(table, hard, activation, linear_skip):
    # without the linear path weights have all to do, and are larger
    textbook = {} if linear_skip else {"linear_skip": False, "init": "random", "alpha": 1e-3}
    fitted = small(activation=activation, **textbook).fit(table[:N_TRAINED])
    assert is_turned(fitted)
    if linear_skip and activation != "identity":
        assert min(shares_of_branches(fitted, table)) > 0.1
    assert_agrees(fitted, hard)


@pytest.mark.parametrize(
    "parameters",
    [
        {"tied_weights": True},
        {"n_components": 1},
        {"n_components": 6},
        {"hidden_layer_sizes": ()},
        {"hidden_layer_sizes": (16, 8), "dropout": 0.3},
        {"penalty": "kl", "alpha": 1e-3},
        {"penalty": "activity_l1", "alpha": 1e-2},
        {"penalty": "l1", "alpha": 1.0},
        {"loss": "huber", "corruption": "masking", "corruption_level": 0.3},
        {"max_iter": 0},
    ],
    ids=str,
)
def test_onnxruntime_agrees_with_options(table, hard, parameters):
    assert_agrees(small(**parameters).fit(table[:N_TRAINED]), hard)


def test_onnxruntime_agrees_for_rows_between_0_and_1(hard):
    X = scipy.special.expit(hard - 5)
    textbook = {"linear_skip": False, "init": "random", "output_activation": "logistic"}
    fitted = small(**textbook, loss="binary_cross_entropy").fit(X[:N_TRAINED])
    assert_agrees(fitted, X)
    (X_hat,) = run(to_onnx(fitted, what="reconstruct"), X)
    assert X_hat.min() >= 0
    assert X_hat.max() <= 1


def test_thresholds_of_sparse_codes_are_exported(table):
    fitted = small(penalty="activity_l1", alpha=0.3, max_iter=40).fit(table[:N_TRAINED])
    assert 0.05 < fitted.code_sparsity_ < 0.95
    (codes,) = run(to_onnx(fitted), table[:N_TRAINED])
    spread = fitted.transform(table[:N_TRAINED]).std(axis=0)
    assert np.mean(np.abs(codes) < 1e-3 * spread) == pytest.approx(fitted.code_sparsity_, abs=0.01)


def test_thresholds_below_zero_are_exported_as_none(table):
    X = table[:N_TRAINED]
    fitted = small(penalty="activity_l1", max_iter=1).fit(X)
    (layer,) = [part for part in fitted.net_.module_.modules() if isinstance(part, SoftThreshold)]
    expected = fitted.transform(X)
    with torch.no_grad():
        layer.threshold.fill_(-0.3)  # training may lead there
    codes = fitted.transform(X)
    assert np.abs(codes - expected).max() > 0  # there were thresholds
    (exported,) = run(to_onnx(fitted), X)
    assert_close(exported, codes, codes.std(axis=0))


def test_gaps_are_filled_by_what_is_known_also_after_a_fit_without(table):
    fitted = small().fit(table[:N_TRAINED])
    X = table[-300:].copy()
    X[:, 0] = np.nan
    (codes,) = run(to_onnx(fitted), X)
    with_mean = np.where(np.isnan(X), fitted.mean_.astype(np.float32), X)
    true, spread = fitted.transform(table[-300:]), fitted.transform(table).std(axis=0)
    away = np.abs(codes - true) / spread
    assert away.mean() < 0.9 * (np.abs(fitted.transform(with_mean) - true) / spread).mean()
    assert_close(codes, fitted.transform(X), spread)


def test_rows_without_entries_have_the_code_of_the_mean_row(fitted, table):
    X = table[:6].copy()
    X[1::2] = np.nan
    with pytest.warns(UserWarning, match="Nothing is known of 3 rows"):
        expected = fitted.transform(X)
    (codes,) = run(to_onnx(fitted), X)
    assert_close(codes, expected, fitted.transform(table).std(axis=0))


def test_columns_far_from_zero_are_centred_as_exactly_as_in_float64(table):
    X = (table + np.float32(1e6)).astype(np.float32)
    fitted = small().fit(X[:N_TRAINED].astype(np.float64))
    assert np.abs(fitted.mean_ - fitted.mean_.astype(np.float32)).max() > 1e-3
    (codes,) = run(to_onnx(fitted), X)
    expected = fitted.transform(X.astype(np.float64))
    assert_close(codes, expected, expected.std(axis=0))
    (X_hat,) = run(to_onnx(fitted, what="reconstruct"), X)
    # float32 has a spacing of 1/16 there, to half of which the mean is rounded, and then the rows
    assert np.abs(X_hat - fitted.reconstruct(X.astype(np.float64))).max() <= 1 / 16


def test_huge_entries_have_finite_codes(table):
    X = table[:20].copy()
    X[::2, 3] = 1e30
    X[1::2, 5] = -3e20
    fitted = small().fit(table[:N_TRAINED])
    (codes,) = run(to_onnx(fitted), X)
    np.testing.assert_allclose(codes, fitted.transform(X), rtol=1e-5)


def test_the_soft_clip_meets_its_bound_however_far_away():
    clip = SoftClip(torch.tensor([1e-9, 1.0]))
    u = torch.tensor([[1e15, -1e15], [1e-7, 3.0]])
    graph = graphs.Graph()
    graph.examples = {clip: u}
    graph.add("Identity", graphs.add_network(graph, clip, "u"), output="bent")
    described = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, 2])
        for name in ("u", "bent")
    ]
    made = onnx.helper.make_graph(
        graph.nodes, "clip", described[:1], described[1:], graph.constants
    )
    opsets = [onnx.helper.make_opsetid("", graph.opset)]
    (bent,) = run(onnx.helper.make_model(made, opset_imports=opsets, ir_version=7), u.numpy())
    np.testing.assert_allclose(bent, clip(u), rtol=1e-6)


def test_another_runtime_agrees(table, hard):
    from onnx.reference import ReferenceEvaluator

    fitted = small().fit(table[:N_TRAINED])
    X = hard[8500::10]
    (codes,) = ReferenceEvaluator(to_onnx(fitted)).run(None, {"X": X})
    assert_close(codes, fitted.transform(X), fitted.transform(table).std(axis=0))


@pytest.mark.parametrize("n_samples", [0, 1, 7, 10_000])
def test_any_number_of_rows(table, hard, n_samples):
    model = to_onnx(small().fit(table[:N_TRAINED]))
    (codes,), (all_codes,) = run(model, hard[:n_samples]), run(model, hard)
    assert codes.shape == (n_samples, 3)
    # products of few rows are summed in another order
    np.testing.assert_allclose(codes, all_codes[:n_samples], rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------------------ what it is


@pytest.fixture(scope="module")
def fitted(table):
    return small().fit(table[:N_TRAINED])


def described(value):
    dims = value.type.tensor_type.shape.dim
    return value.name, [dim.dim_param or dim.dim_value for dim in dims]


def test_a_model_says_what_it_takes_and_gives(fitted):
    model, other = to_onnx(fitted), to_onnx(fitted, what="reconstruct")
    assert [described(some) for some in model.graph.input] == [("X", ["n_samples", 12])]
    assert [described(some) for some in model.graph.output] == [("codes", ["n_samples", 3])]
    assert [described(some) for some in other.graph.output] == [("X_hat", ["n_samples", 12])]
    assert (model.producer_name, model.graph.name) == ("skae", "transform")
    assert re.match(r"\d+\.\d+\.\d+", model.producer_version)
    assert [(some.domain, some.version) for some in model.opset_import] == [("", 13)]
    assert model.ir_version == 7  # that of the first release with opset 13
    assert len(model.graph.initializer) < 25


def test_tied_weights_are_there_once(table):
    sizes = [
        len(
            to_onnx(
                small(tied_weights=tied, hidden_layer_sizes=(500,)).fit(table[:50]), what=what
            ).SerializeToString()
        )
        for tied, what in [(True, "reconstruct"), (False, "reconstruct"), (True, "transform")]
    ]
    weights = 4 * 500 * (12 + 3)
    assert sizes[1] - sizes[0] == pytest.approx(weights, rel=0.1)
    assert sizes[0] - sizes[2] < 0.2 * weights


@pytest.mark.parametrize("kind", [str, Path])
def test_a_file_is_what_is_returned(fitted, table, tmp_path, kind):
    path = tmp_path / "codes.onnx"
    path.write_text("an older one")
    model = to_onnx(fitted, kind(path))
    assert [some.name for some in tmp_path.iterdir()] == ["codes.onnx"]
    assert onnx.load(path) == model
    session = onnxruntime.InferenceSession(path)
    assert np.array_equal(session.run(None, {"X": table[:5]})[0], run(model, table[:5])[0])


def test_a_file_that_cannot_be_written_is_not_there(fitted, tmp_path):
    with pytest.raises(FileNotFoundError):
        to_onnx(fitted, tmp_path / "nowhere" / "codes.onnx")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        to_onnx(fitted, tmp_path / "folder")
    assert [some.name for some in tmp_path.iterdir()] == ["folder"]


def state_of(module):
    """What an export could leave changed in networks."""
    parts = [(part.training, len(part._forward_pre_hooks)) for part in module.modules()]
    weights = [(p.requires_grad, p.detach().clone()) for p in module.parameters()]
    return parts, weights


def test_an_export_leaves_everything_as_it_was(fitted, table, capfd):
    module = fitted.net_.module_
    module.encoder[0].branch.train()  # which an export does not follow, and does not undo
    parts, weights = state_of(module)
    before, filters = fitted.transform(table), list(warnings.filters)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1]
    for what in ("transform", "reconstruct"):
        to_onnx(fitted, what=what)
    assert capfd.readouterr() == ("", "")
    assert warnings.filters == filters
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
    assert state_of(module)[0] == parts
    for (requires, weight), (was_required, was) in zip(state_of(module)[1], weights, strict=True):
        assert requires == was_required
        assert torch.equal(weight, was)
    assert np.array_equal(fitted.transform(table), before)


# ------------------------------------------------------------------------------ what is refused


def test_what_cannot_be_exported_is_refused(fitted, table, tmp_path):
    path = tmp_path / "codes.onnx"
    with pytest.raises(NotFittedError):
        to_onnx(small(), path)
    with pytest.raises(ValueError, match="'transform' or 'reconstruct', got 'impute'"):
        to_onnx(fitted, path, what="impute")
    pipeline = make_pipeline(StandardScaler(), small(max_iter=0)).fit(table[:50])
    with pytest.raises(TypeError, match=r"got a Pipeline; skl2onnx\.to_onnx converts pipelines"):
        to_onnx(pipeline, path)
    frame = pd.DataFrame({"size": table[:50, 0], "kind": ["a", "b"] * 25})
    with pytest.raises(ValueError, match=r"got categories in \['kind'\]; .*OneHotEncoder"):
        to_onnx(small(max_iter=0, n_components=1).fit(frame), path)
    assert not path.exists()


def test_a_package_that_is_missing_is_named(fitted, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r'need the package onnx, .* pip install "skae\[onnx\]"'):
        to_onnx(fitted)


# ---------------------------------------------------------------------- networks of one's own


class Bent(nn.Linear):
    """No linear layer, though its type is one."""

    def forward(self, x):
        return super().forward(x).sin()


class Folded(nn.Module):
    """With layers that have no writer here, a norm, and a number of rows that is asked for."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.mix = nn.utils.parametrizations.weight_norm(nn.Linear(3, 4))
        self.norm, self.last = nn.LayerNorm(4), nn.Linear(4 * n_in // 3, n_out)

    def forward(self, x):
        folded = self.norm(self.mix(x.reshape(len(x), -1, 3)))
        return self.last(nn.functional.elu(folded).flatten(1))


def normed(n_in, n_out):
    return nn.Sequential(
        nn.Linear(n_in, 16),
        nn.BatchNorm1d(16),
        nn.GELU("tanh"),
        Bent(16, 16),
        nn.Hardswish(),
        nn.Linear(16, n_out),
    )


def plain(n_in, n_out):
    return nn.Sequential(nn.Linear(n_in, 8), nn.Tanh(), nn.Sequential(nn.Linear(8, n_out)))


@pytest.fixture
def exports(monkeypatch):
    """What torch has exported, by its structure, and once: that takes a second."""
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    export, exported = torch.onnx.export, {}

    def kept(module, *arguments, **options):
        if str(module) not in exported:
            exported[str(module)] = export(module, *arguments, **options)
        return exported[str(module)]

    monkeypatch.setattr(torch.onnx, "export", kept)
    return exported


OWN = [
    ({"encoder": plain, "decoder": plain(3, 12)}, 0),
    ({"encoder": Folded}, 1),
    ({"encoder": normed, "linear_skip": False, "init": "random"}, 1),
    ({"encoder": ConvEncoder((1, 4, 3), channels=(4, 8)), "penalty": "kl", "alpha": 1e-3}, 1),
]


@pytest.mark.parametrize(("parameters", "n_exports"), OWN, ids=["plain", "class", "norms", "conv"])
def test_networks_of_ones_own(table, hard, exports, parameters, n_exports):
    fitted = small(**parameters).fit(table[:N_TRAINED])
    expected = fitted.transform(hard)
    fitted.net_.module_.train()  # which an export does not follow
    model = to_onnx(fitted)
    assert len(exports) == n_exports
    assert model.opset_import[0].version == (18 if n_exports else 13)
    assert not any(node.metadata_props for node in model.graph.node)
    for rows in (hard, hard[:1]):
        (codes,) = run(model, rows)
        assert_close(codes, expected[: len(rows)], expected.std(axis=0))


def test_an_activation_may_serve_in_both_networks(table, exports):
    shared = nn.Softplus()  # torch exports it, with other layers around it in each of both

    def network(n_in, n_out):
        width = 16 if n_in > n_out else 8
        return nn.Sequential(nn.Linear(n_in, width), shared, nn.Linear(width, n_out))

    fitted = small(encoder=network, decoder=network).fit(table[:N_TRAINED])
    (rows,) = run(to_onnx(fitted, what="reconstruct"), table)
    expected = fitted.reconstruct(table)
    assert_close(rows, expected, expected.std(axis=0))


def test_a_decoder_of_ones_own(table, exports):
    fitted = small(decoder=ConvDecoder((1, 4, 3), channels=(4, 8))).fit(table[:N_TRAINED])
    to_onnx(fitted)
    assert not exports
    (X_hat,) = run(to_onnx(fitted, what="reconstruct"), table)
    expected = fitted.reconstruct(table)
    assert_close(X_hat, expected, expected.std(axis=0))


def hooked():
    layer = nn.Linear(4, 4)
    layer.register_forward_hook(lambda layer, args, out: 2 * out)
    return layer


@pytest.mark.parametrize(
    ("layer", "rows", "is_known"),
    [
        (nn.Linear(4, 4), torch.zeros(2, 4), True),
        (nn.Linear(4, 4), torch.zeros(2, 5, 4), False),
        (Bent(4, 4), torch.zeros(2, 4), False),
        (hooked(), torch.zeros(2, 4), False),
        (nn.GELU(), torch.zeros(2, 4), True),
        (nn.GELU("tanh"), torch.zeros(2, 4), False),
    ],
)
def test_only_what_is_exactly_known_is_not_left_to_torch(monkeypatch, layer, rows, is_known):
    exported = []
    monkeypatch.setattr(graphs, "_exported", lambda *export: exported.append(export))
    monkeypatch.setattr(graphs.Graph, "embed", lambda *embedded: "output")
    graph = graphs.Graph()
    graph.examples = {layer: rows}
    graphs.add_network(graph, layer.requires_grad_(False), "X")
    assert exported == ([] if is_known else [([layer], rows)])


class Fickle(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.linear = nn.Linear(n_in, n_out)

    def forward(self, x):
        return self.linear(x) if x.sum() > 0 else self.linear(x**2)


def test_a_network_that_torch_cannot_export_is_refused(table, exports):
    fitted = small(encoder=Fickle).fit(table[:50])
    with pytest.raises(ValueError, match=r"one that torch\.onnx\.export.*got Fickle,"):
        to_onnx(fitted)


def test_without_onnxscript_only_networks_of_ones_own_are_refused(table, fitted, monkeypatch):
    def export(*arguments, **options):  # torch asks for the package once, and keeps it
        raise ModuleNotFoundError("No module named 'onnxscript'", name="onnxscript")

    monkeypatch.setattr(torch.onnx, "export", export)
    to_onnx(fitted)
    with pytest.raises(ImportError, match="need the package onnxscript"):
        to_onnx(small(max_iter=1, encoder=Folded).fit(table[:50]))


# ------------------------------------------------------------------------------- in pipelines


@pytest.fixture(scope="module")
def skl2onnx():
    return pytest.importorskip("skl2onnx", reason="skl2onnx is not installed")


@pytest.fixture(scope="module")
def labels(table):
    scores = PCA(1, random_state=0).fit_transform(table)[:, 0]
    return np.array(["low", "middle", "high"])[np.digitize(scores, np.quantile(scores, [0.3, 0.7]))]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_before_a_classifier_in_one_call(skl2onnx, table, labels, dtype):
    X = table.astype(dtype)
    pipeline = make_pipeline(StandardScaler(), small(), LogisticRegression())
    pipeline.fit(X[:N_TRAINED], labels[:N_TRAINED])
    model = skl2onnx.to_onnx(pipeline, X[:1], options={"zipmap": False})
    predicted, probabilities = run(model, X)
    assert (predicted == pipeline.predict(X)).mean() > 0.999  # but for ties by rounding
    np.testing.assert_allclose(probabilities, pipeline.predict_proba(X), atol=1e-5)
    assert probabilities.dtype == dtype
    assert len(set(predicted)) == 3
    if dtype is np.float32:  # ONNX has dictionaries of those alone
        _, dictionaries = run(skl2onnx.to_onnx(pipeline, X[:1]), X[:3])
        expected = probabilities[:3]
        assert [list(some.values()) for some in dictionaries] == pytest.approx(expected, abs=1e-6)


PIPELINES = {
    "twice": lambda: make_pipeline(StandardScaler(), small(n_components=6), small()),
    "imputer": lambda: make_pipeline(SimpleImputer(), small()),
    "union": lambda: FeatureUnion([("one", small()), ("other", small(random_state=1))]),
    "the same twice": lambda: FeatureUnion([("one", small()), ("same", small())]),
    "columns": lambda: ColumnTransformer(
        [("one", small(), slice(5)), ("other", small(n_components=2), [11, 7, 9])],
        remainder="passthrough",
    ),
}


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("target_opset", [13, None])
def test_pipelines_map_alike(skl2onnx, table, hard, name, target_opset):
    pipeline = PIPELINES[name]().fit(table[:N_TRAINED])
    X = hard[:8900] if name != "columns" else table  # some columns pass their gaps through
    (values,) = run(skl2onnx.to_onnx(pipeline, X[:1], target_opset=target_opset), X)
    assert_close(values, pipeline.transform(X), pipeline.transform(table).std(axis=0))


def test_rows_in_float64_are_centred_in_float64(skl2onnx, table):
    X = table.astype(np.float64) + 1e9  # where float32 has a spacing of 64
    fitted = small().fit(X[:N_TRAINED])
    (codes,) = run(skl2onnx.to_onnx(fitted, X[:1]), X)
    assert codes.dtype == np.float64
    expected = fitted.transform(X)
    assert_close(codes, expected, expected.std(axis=0))


def test_columns_of_a_frame_are_inputs_of_their_own(skl2onnx, table):
    frame = pd.DataFrame(table[:N_TRAINED]).rename(columns="x{}".format)
    frame["x1"] = frame["x1"].astype(np.float64)
    frame["x2"] = (frame["x2"] * 10).astype(np.int64)
    fitted = small().fit(frame)
    session = session_of(skl2onnx.to_onnx(fitted, frame[:1]))
    assert [some.name for some in session.get_inputs()] == list(frame)
    (codes,) = session.run(None, {name: frame[[name]].to_numpy() for name in frame})
    expected = fitted.transform(frame)
    assert_close(codes, expected, expected.std(axis=0))


def test_integers_are_mapped(skl2onnx, table):
    X = (10 * table).astype(np.int64)
    fitted = small().fit(X[:N_TRAINED])
    (codes,) = run(skl2onnx.to_onnx(fitted, X[:1]), X)
    expected = fitted.transform(X)
    assert_close(codes, expected, expected.std(axis=0))


def test_a_network_of_ones_own_in_a_pipeline(skl2onnx, table, exports):
    pipeline = make_pipeline(StandardScaler(), small(encoder=Folded)).fit(table[:N_TRAINED])
    (codes,) = run(skl2onnx.to_onnx(pipeline, table[:1]), table)
    expected = pipeline.transform(table)
    assert_close(codes, expected, expected.std(axis=0))
    with pytest.raises(RuntimeError, match="requires at least opset 18"):
        skl2onnx.to_onnx(pipeline, table[:1], target_opset=17)


class Recurrent(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.gru = nn.GRU(1, n_out, batch_first=True)

    def forward(self, x):
        return self.gru(x.unsqueeze(2))[0][:, -1]


def test_recurrent_networks_are_refused_in_pipelines_alone(skl2onnx, table, exports):
    fitted = small(encoder=Recurrent, max_iter=1).fit(table[:50])
    (codes,) = run(to_onnx(fitted), table[:1000])
    expected = fitted.transform(table[:1000])
    assert_close(codes, expected, expected.std(axis=0))
    with pytest.raises(ValueError, match=r"export this autoencoder by skae\.onnx\.to_onnx"):
        skl2onnx.to_onnx(fitted, table[:1])


def test_what_has_no_graph_is_refused_in_pipelines(skl2onnx, fitted, table):
    with pytest.raises(NotFittedError):
        skl2onnx.to_onnx(small(), table[:1])
    with pytest.raises(ValueError, match="n_features_in_=12 columns, got 11"):
        skl2onnx.to_onnx(fitted, table[:1, 1:])
    codes = np.repeat([[0.0, 1.0], [1.0, 2.0]], 20, axis=0)
    categorical = small(max_iter=0, n_components=1, categorical_features=[1]).fit(codes)
    with pytest.raises(ValueError, match=r"got categories in \[1\]"):
        skl2onnx.to_onnx(categorical, codes[:1])


# ------------------------------------------------------------------------------------ the page


def test_the_page_runs_and_says_what_is(skl2onnx, tmp_path, monkeypatch):
    page = (Path(__file__).parent.parent / "docs" / "export.md").read_text()
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, names)
    page = types.SimpleNamespace(**names)
    assert sorted(some.name for some in tmp_path.iterdir()) == ["codes.onnx", "reconstruct.onnx"]
    assert page.codes.shape == (1797, 8)
    assert (page.labels == page.pipeline.predict(page.X)).all()
    np.testing.assert_allclose(page.probabilities, page.pipeline.predict_proba(page.X), atol=1e-5)
