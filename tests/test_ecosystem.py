"""The estimator among others: pipelines, searches, frames, copies."""

import copy
import io
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_val_score
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skae import AutoencoderTransformer


def small(**parameters):
    return AutoencoderTransformer(
        **{"hidden_layer_sizes": (8,), "max_iter": 5, "random_state": 0, **parameters}
    )


@pytest.fixture(scope="module")
def iris():
    bunch = load_iris(as_frame=True)
    return bunch.data, bunch.target_names[bunch.target]


def test_before_a_classifier_with_string_labels(iris):
    X, y = iris
    pipeline = make_pipeline(StandardScaler(), small(), LogisticRegression())
    assert cross_val_score(pipeline, X, y).mean() > 0.8
    by_hand = small().fit_transform(StandardScaler().fit_transform(X))
    expected = LogisticRegression().fit(by_hand, y).predict(by_hand)
    assert np.array_equal(pipeline.fit(X, y).predict(X), expected)


def test_before_a_clusterer(iris):
    X, _ = iris
    pipeline = make_pipeline(small(), KMeans(3, n_init=1, random_state=0)).fit(X)
    by_hand = KMeans(3, n_init=1, random_state=0).fit_predict(small().fit_transform(X.to_numpy()))
    assert np.array_equal(pipeline[-1].labels_, by_hand)


def test_a_pipeline_inverts(iris):
    X, _ = iris
    scaler, autoencoder = StandardScaler(), small()
    pipeline = make_pipeline(scaler, autoencoder).fit(X)
    rows = pipeline.inverse_transform(pipeline.transform(X))
    expected = scaler.inverse_transform(autoencoder.reconstruct(scaler.transform(X)))
    np.testing.assert_allclose(rows, expected, atol=1e-12)
    assert pipeline.score(X) == autoencoder.score(scaler.transform(X))


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_grid_search_over_widths_and_alpha(curve, n_jobs):
    grid = {
        "autoencodertransformer__hidden_layer_sizes": [(4,), (16, 8)],
        "autoencodertransformer__alpha": [0, 1e-4, 1e6],
    }
    pipeline = make_pipeline(StandardScaler(), small(max_iter=15, early_stopping=False))
    search = GridSearchCV(pipeline, grid, cv=3, n_jobs=n_jobs, error_score="raise").fit(curve)
    scores = search.cv_results_["mean_test_score"].reshape(3, 2)  # alpha, widths
    assert scores[:2].min() > scores[2].max()  # an alpha of 1e6 is PCA
    # the same model on the same folds with the same seed, in whichever process
    assert search.best_score_ == pytest.approx(
        cross_val_score(search.best_estimator_, curve, cv=3).mean(), abs=1e-6
    )


def test_halving_search_and_own_modules_in_a_grid(curve):
    def wide(n_in, n_out):
        return nn.Sequential(nn.Linear(n_in, 16), nn.ReLU(), nn.Linear(16, n_out))

    grid = {"encoder": [None, wide, nn.Linear], "n_components": [1, 3]}
    search = HalvingGridSearchCV(
        small(early_stopping=False), grid, cv=2, random_state=0, error_score="raise"
    )
    search.fit(curve)
    assert search.best_params_["n_components"] == 3
    assert search.n_candidates_[0] == 6


def test_in_a_union_and_a_column_transformer(iris):
    X, _ = iris
    union = FeatureUnion([("pca", PCA(2)), ("ae", small())]).fit(X)
    np.testing.assert_allclose(union.transform(X)[:, 2:], small().fit_transform(X.to_numpy()))
    assert list(union.get_feature_names_out())[2:] == [
        "ae__autoencodertransformer0",
        "ae__autoencodertransformer1",
    ]
    columns = ColumnTransformer(
        [("code", small(n_components=1), X.columns[:3])], remainder="passthrough"
    )
    codes = columns.fit_transform(X)
    np.testing.assert_allclose(
        codes[:, 0], small(n_components=1).fit_transform(X.to_numpy()[:, :3])[:, 0]
    )
    assert np.array_equal(codes[:, 1], X.iloc[:, 3])


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_in_frames_out(iris, library):
    data_frame = pytest.importorskip(library).DataFrame
    X, _ = iris
    names = list(X.columns)
    frame = data_frame({name: X[name].to_numpy() for name in names})
    if library == "pandas":
        frame.index = X.index + 1000
    autoencoder = small().set_output(transform=library).fit(frame)
    codes = autoencoder.transform(frame)
    assert isinstance(codes, data_frame)
    assert list(codes.columns) == list(autoencoder.get_feature_names_out())
    assert list(autoencoder.feature_names_in_) == names
    if library == "pandas":
        assert codes.index.equals(frame.index)
        assert all(autoencoder.transform(frame.astype(np.float32)).dtypes == np.float32)
    array_codes = small().fit_transform(X.to_numpy())
    np.testing.assert_allclose(codes.to_numpy(), array_codes, atol=1e-12)
    rows = autoencoder.inverse_transform(codes)
    np.testing.assert_allclose(rows, autoencoder.reconstruct(frame), atol=1e-12)

    with pytest.raises(ValueError, match="feature names should match"):
        autoencoder.transform(frame[names[::-1]])
    with pytest.raises(ValueError, match="feature names should match"):
        autoencoder.transform(data_frame({f"{name}?": X[name].to_numpy() for name in names}))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        autoencoder.transform(X.to_numpy())


def stored(estimator, how):
    if how == "joblib":
        file = io.BytesIO()
        joblib.dump(estimator, file)
        return joblib.load(file)
    return copy.deepcopy(estimator) if how == "deepcopy" else pickle.loads(pickle.dumps(estimator))


@pytest.mark.parametrize("how", ["pickle", "joblib", "deepcopy"])
def test_copies_map_alike_and_fit_alike(curve, how):
    autoencoder = small(encoder=nn.Linear, early_stopping=False).fit(curve)
    copied = stored(autoencoder, how)
    assert np.array_equal(copied.transform(curve), autoencoder.transform(curve))
    assert copied.get_params() == autoencoder.get_params()
    again = copied.fit(curve[:200]).transform(curve)
    assert np.array_equal(again, clone(autoencoder).fit(curve[:200]).transform(curve))
    # and the copy was one: the original is as it was
    assert autoencoder.score(curve) == stored(autoencoder, how).score(curve)


def test_a_clone_is_not_fitted_and_an_instance_is_its_own(curve):
    autoencoder = small(encoder=nn.Sequential(nn.Linear(5, 2))).fit(curve)
    cloned = clone(autoencoder)
    assert not hasattr(cloned, "net_")
    assert cloned.encoder is not autoencoder.encoder
    np.testing.assert_array_equal(cloned.fit(curve).transform(curve), autoencoder.transform(curve))


# ------------------------------------------------------------- what users set for their own work


def polars_out():
    pytest.importorskip("polars")
    return config_context(transform_output="polars")


SETTINGS = {
    "autocast": lambda: torch.autocast("cpu"),
    "a default device": lambda: torch.device("meta"),  # any other has other kinds of tensors
    "polars out": polars_out,
    "errors of floats": lambda: np.errstate(all="raise"),
}


@pytest.fixture(scope="module", params=["whole", "holey", "mixed"])
def computed(request, iris):
    """Return a function that fits and maps, and what it returns where nothing is set."""
    X, _ = iris
    X = X.astype(np.float32)
    if request.param == "holey":
        X = X.mask(np.random.RandomState(0).uniform(size=X.shape) < 0.1)
    elif request.param == "mixed":
        X = X.assign(is_long=X.iloc[:, 0] > 6)

    def given():
        model = small(n_components=2).fit(X)
        again = copy.deepcopy(model)
        codes = np.asarray(again.transform(X))
        tables = again.inverse_transform(codes), again.impute(X), again.sample(5, random_state=0)
        again.partial_fit(X)
        numbers = model.score_samples(X), model.score_features(X), again.transform(X)
        return [codes, *map(np.asarray, (*tables, *numbers))]

    return given, given()


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_what_is_set_for_other_work_changes_nothing(setting, computed):
    given, expected = computed
    with setting():
        found = given()
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_warnings_are_about_the_line_that_called(iris):
    X, _ = iris
    X = X.assign(is_long=X.iloc[:, 0] > 6)
    model = small(n_components=1, max_iter=0).fit(X)
    calls = (
        lambda: small(n_components=1, max_iter=0).fit(X.assign(is_long=None)),
        lambda: small(n_components=1).partial_fit(X.assign(is_long=None)),
        lambda: small(n_components=1, max_iter=0).fit_transform(X.assign(is_long=None)),
        lambda: model.transform(X.assign(is_long="maybe")),
        lambda: model.impute(X.assign(is_long="maybe")),
        lambda: make_pipeline(model).score(X.assign(is_long="maybe")),
        lambda: small(learning_rate_init=1e30, max_iter=3).fit(X),
    )
    for call in calls:
        with pytest.warns(UserWarning, match="Nothing is known|has not seen|not finite") as caught:
            call()
        line = call.__code__.co_firstlineno
        assert [(one.filename, one.lineno) for one in caught] == [(__file__, line)]


def test_what_only_looks_like_a_table_is_refused_in_one_sentence(iris):
    pl = pytest.importorskip("polars")
    X, _ = iris
    days = np.full((5, 2), np.datetime64("2020-01-01"))
    for table, kind, match in (
        (X.iloc[:, 0], ValueError, "Expected a 2-dimensional container but got .*Series"),
        (pl.LazyFrame({"a": [1.0]}), TypeError, r"X must be a table in memory.*X\.collect\(\)"),
        (days, ValueError, r"X must hold numbers, got datetime64\[D\]; turn dates into numbers"),
    ):
        fitted = small(max_iter=0).fit(X.to_numpy())
        for call in (small().fit, small().partial_fit, fitted.transform):
            with pytest.raises(kind, match=match):
                call(table)


def test_columns_may_have_the_names_of_other_tables_methods(iris):
    X, _ = iris
    named = X.set_axis(["clear", "height", "collect", "dtype"], axis=1)
    expected = small(max_iter=0).fit(X).transform(X)
    np.testing.assert_array_equal(small(max_iter=0).fit(named).transform(named), expected)


def test_true_is_no_number_of_components(iris):
    with pytest.raises(ValueError, match="n_components must be a number, got True; give"):
        small(n_components=True).fit(iris[0])


def test_columns_of_several_levels_are_named_as_pandas_names_them(iris):
    X, _ = iris
    X = pd.concat({"sizes": X, "said": X.iloc[:, :1].gt(6).rename(columns=str.title)}, axis=1)
    expected = small(max_iter=0).fit(X)
    assert expected.categories_[-1].tolist() == [False, True]
    for named in (X.columns[-1:], [X.columns[-1]]):
        model = small(max_iter=0, categorical_features=named).fit(X)
        np.testing.assert_array_equal(model.transform(X), expected.transform(X))
