"""What the documentation shows runs, and does what it says."""

import contextlib
import io
import pickle
import re
import sys
import tomllib
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr
from sphinx.ext.autosummary.generate import find_autosummary_in_files

from skae import AutoencoderTransformer

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)
PAGES = sorted(path.name for path in DOCS.glob("*.md") if BLOCK.search(path.read_text()))
# What a page may need beside the package's requirements, and the word that says so.
OPTIONAL = {"skae.plotting": "matplotlib"} | {
    name: name
    for name in ("matplotlib", "onnx", "onnxruntime", "polars", "pyarrow", "skl2onnx", "skops")
}


def python_blocks(name):
    return [code for code, _ in BLOCK.findall((DOCS / name).read_text())]


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Return a function that runs the code of a page once, as a module that pickles can name.

    Files that it writes are in a folder of their own.
    """
    modules = {}

    def run(name):
        if name in modules:
            return modules[name]
        code = "\n".join(python_blocks(name))
        for word, package in OPTIONAL.items():
            if re.search(rf"\b{word}\b", code):
                pytest.importorskip(package, reason=f"docs/{name} needs {package}")
        module = types.ModuleType(f"written_in_{Path(name).stem}")
        modules[name] = sys.modules[module.__name__] = module
        module.printed = []
        with contextlib.chdir(tmp_path_factory.mktemp(module.__name__)):
            for block in python_blocks(name):
                with contextlib.redirect_stdout(io.StringIO()) as out:
                    exec(block, vars(module))
                module.printed.append(out.getvalue())
        return module

    yield run
    for module in modules.values():
        del sys.modules[module.__name__]


# ------------------------------------------------------------------------------------- all pages

ROUNDED = re.compile(r"-?\b\d+\.\d\d?\b")


@pytest.mark.parametrize("name", PAGES)
def test_the_code_of_a_page_runs_and_prints_what_is_shown(name, executed):
    shown = [text for _, text in BLOCK.findall((DOCS / name).read_text())]
    for here, there in zip(executed(name).printed, shown, strict=True):
        assert ROUNDED.sub("#", here).split() == ROUNDED.sub("#", there).split()
        here, there = (np.array(ROUNDED.findall(text), dtype=float) for text in (here, there))
        # training makes more of how other versions and machines round
        np.testing.assert_allclose(here, there, atol=0.03, rtol=0.03)


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_links_lead_somewhere_on_a_code_host_too(path):
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        assert link.startswith("https://") or (DOCS / link).exists(), link


# ---------------------------------------------------------------------- links of representations


def test_the_link_of_an_estimator_is_the_page_that_is_made_for_it():
    entries = find_autosummary_in_files([str(DOCS / "api.md")])
    (folder,) = {entry.path for entry in entries if entry.name == "skae.AutoencoderTransformer"}
    page = f"{Path(folder).relative_to(DOCS).as_posix()}/skae.AutoencoderTransformer.html"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert AutoencoderTransformer()._get_doc_link() == project["urls"]["Documentation"] + page


@pytest.mark.parametrize("wrap", [lambda estimator: estimator, make_pipeline], ids=["", "pipeline"])
@pytest.mark.parametrize("is_fitted", [False, True])
def test_the_html_representation_links_to_the_documentation(wrap, is_fitted, curve):
    autoencoder = AutoencoderTransformer(max_iter=0)
    estimator = wrap(autoencoder).fit(curve) if is_fitted else wrap(autoencoder)
    assert f'href="{autoencoder._get_doc_link()}"' in estimator_html_repr(estimator)


def test_every_parameter_is_linked_where_scikit_learn_links_any():
    html = estimator_html_repr(AutoencoderTransformer())
    linked = set(re.findall(r'href="https://skae[^"#]*#:~:text=(\w+),', html))
    assert linked in (set(), set(AutoencoderTransformer().get_params()))


def test_the_link_is_that_of_our_class_alone_among_the_steps_of_a_pipeline():
    html = estimator_html_repr(make_pipeline(StandardScaler(), AutoencoderTransformer()))
    (ours,) = re.findall(r'href="(https://skae[^"#]*)"', html)
    assert ours.endswith("skae.AutoencoderTransformer.html")
    assert re.search(r'href="https://scikit-learn\.org/[^"]*StandardScaler\.html"', html)


def test_a_class_of_somebody_else_has_no_link_to_a_page_that_is_not_there():
    class Mine(AutoencoderTransformer):
        pass

    assert "readthedocs" not in estimator_html_repr(Mine())


# ------------------------------------------------------------------------------------- objective


@pytest.fixture(scope="module")
def objective(executed):
    return executed("objective.md")


def test_ones_own_penalty_loss_and_corruption_take_ten_lines_each():
    blocks = python_blocks("objective.md")
    assert len(blocks) == 4
    assert all(len([line for line in b.splitlines() if line.strip()]) <= 10 for b in blocks[:3])


def test_a_search_goes_over_ones_own(objective):
    scores = objective.search.cv_results_["mean_test_score"]
    assert len(scores) == 6
    assert np.isfinite(scores).all()
    assert len(set(scores)) > 3


@pytest.mark.parametrize(
    "names",
    [
        {"penalty": "Uncorrelated", "alpha": 0.1},
        {"loss": "log_cosh"},
        {"corruption": "dropped_rows_of_pixels", "corruption_level": 0.3},
    ],
    ids=lambda names: next(iter(names)),
)
def test_a_fit_with_ones_own_is_pickled(objective, names, digits):
    own = {key: getattr(objective, v) if isinstance(v, str) else v for key, v in names.items()}
    if "penalty" in own:
        own["penalty"] = own["penalty"]()
    fitted = clone(objective.autoencoder).set_params(**own).fit(digits[:300])
    loaded = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(loaded.transform(digits), fitted.transform(digits))
    plain = clone(objective.autoencoder).fit(digits[:300])
    assert not np.array_equal(plain.transform(digits), loaded.transform(digits))


def test_the_penalty_of_the_docs_is_zero_for_uncorrelated_codes(objective):
    penalty = objective.Uncorrelated()
    code = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    assert penalty(code).item() == 0
    assert penalty(code[:, [0, 0]]).item() == pytest.approx(1, rel=1e-6)  # 1e-12 added to squares


def test_the_loss_of_the_docs_is_the_logarithm_of_the_hyperbolic_cosine(objective):
    x_hat, x = torch.randn(2, 5, 3).double()
    losses = objective.log_cosh(x_hat, x)
    torch.testing.assert_close(losses, (x_hat - x).cosh().log().mean(dim=1))
    assert objective.log_cosh(x + 1e4, x).isfinite().all()


def test_the_corruption_of_the_docs_loses_whole_rows_of_pixels(objective):
    images = objective.dropped_rows_of_pixels(torch.ones(200, 64), 0.3).reshape(200, 8, 8)
    assert torch.equal(images.amin(dim=2), images.amax(dim=2))
    # of 1600 rows of pixels: standard error .011
    assert images.mean().item() == pytest.approx(0.7, abs=0.05)


# ------------------------------------------------------------------------------------- dataframes


@pytest.fixture(scope="module")
def dataframes(executed):
    return executed("dataframes.md")


def test_a_frame_with_gaps_has_complete_codes_with_its_index(dataframes):
    assert dataframes.frame.isna().any(axis=None)
    assert not dataframes.codes.isna().any(axis=None)
    assert list(dataframes.codes.index) == list(dataframes.frame.index)


@pytest.mark.parametrize("name", ["decoded", "filled"])
def test_decoded_and_filled_frames_are_complete_and_like_the_first(dataframes, name):
    frame, made = dataframes.frame, getattr(dataframes, name)
    assert not made.isna().any(axis=None)
    assert list(made.dtypes) == list(frame.dtypes)
    assert list(made.index) == list(frame.index)


def test_filling_changes_the_gaps_alone_and_meets_more_than_the_most_frequent(dataframes):
    frame, filled, complete = dataframes.frame, dataframes.filled, dataframes.complete
    assert filled.mask(dataframes.gaps).equals(frame)
    kinds = complete.loc[dataframes.gaps[:, 3], "kind"]
    assert dataframes.right > kinds.value_counts(normalize=True).iloc[0] + 0.2


def test_the_formula_of_the_docs_is_that_of_scores_and_errors(dataframes):
    by_column, by_cell = dataframes.by_column, dataframes.by_cell
    # the rows are those of fit, whose baselines are in float32
    np.testing.assert_allclose(by_cell.mean(), 1 - by_column, atol=1e-5)
    assert dataframes.total == pytest.approx(by_column.mean())
    assert by_cell.isna().equals(dataframes.frame.isna())
    squares = by_cell.mean(axis=1) * by_cell.shape[1]
    known = squares.notna()
    np.testing.assert_allclose(dataframes.by_row[known], -np.sqrt(squares[known]), rtol=1e-5)
    assert dataframes.oddest.iloc[0] == by_cell.max(axis=None)


def test_other_tables_of_the_docs(dataframes):
    assert list(dataframes.with_categories) == ["detached", "flat", "terraced"]
    assert dataframes.topics.shape == (500, 4)
    assert dataframes.stream.n_iter_ == 3
    assert list(dataframes.table.columns) == ["area", "rent"]
    assert dataframes.table.index.equals(dataframes.numbers.index)


# ------------------------------------------------------------------------------------- persistence


@pytest.fixture(scope="module")
def persistence(executed):
    return executed("persistence.md")


@pytest.mark.parametrize("way", ["loaded", "loaded_own", "loaded_pipeline", "loaded_pickle"])
def test_each_way_to_save_of_the_docs_keeps_what_was_fitted(persistence, way):
    first = {"loaded_own": "own", "loaded_pipeline": "pipeline"}.get(way, "autoencoder")
    rows, first = persistence.X, getattr(persistence, first)
    assert np.array_equal(getattr(persistence, way).transform(rows), first.transform(rows))
