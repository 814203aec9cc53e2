"""Rows of numbers and categories: what networks see of them, what they answer, what that costs."""

import math

import numpy as np
import pytest
import torch
from sklearn.preprocessing import OneHotEncoder
from torch.nn.functional import cross_entropy

from skae._initialization import category_shares, category_vectors
from skae._mixed import (
    MAX_ONE_HOT,
    N_EMBEDDED,
    Layout,
    MixedInput,
    MixedLoss,
    MixedOutput,
    ObservedLoss,
    OnNumbers,
    in_rows,
)
from skae.corruptions import gaussian
from skae.losses import AbsoluteError, Huber, Loss, SquaredError

NAN = math.nan
MANY = MAX_ONE_HOT + 10
# Numbers and categories, few and many, in no order.
COUNTS = [3, 0, MANY, 2, 0, MAX_ONE_HOT, 0, MAX_ONE_HOT + 1]
NUMBERS, ONE_HOT, EMBEDDED = [1, 4, 6], [0, 3, 5], [2, 7]
N_ROWS = 400


def rows_of(counts, n_rows=N_ROWS, gaps=0.2, seed=0):
    """Return rows in which each category occurs, rare ones too, and a share of the entries not."""
    rng = np.random.RandomState(seed)
    X = rng.normal(size=(n_rows, len(counts)))
    for j, n in enumerate(counts):
        if n:
            frequencies = rng.dirichlet(np.full(n, 2.0))
            X[:, j] = 1 + rng.choice(n, n_rows, p=frequencies)
            X[:n, j] = 1 + np.arange(n)
    X[MANY:][rng.uniform(size=X[MANY:].shape) < gaps] = np.nan
    return X


def pieces(counts, X, dtype=torch.float32):
    """Return the layout, shares, inputs and outputs of some rows."""
    layout = Layout(counts)
    shares = category_shares(X, layout)
    chunks = [torch.from_numpy(X).float()]
    torch.manual_seed(0)
    inputs = MixedInput(layout, shares, category_vectors(layout, shares, lambda: chunks))
    return layout, shares, inputs.to(dtype), MixedOutput(layout, shares, inputs).to(dtype)


@pytest.fixture
def X():  # noqa: N802
    return rows_of(COUNTS)


@pytest.fixture
def mixed(X):
    return pieces(COUNTS, X)


# ------------------------------------------------------------------------------------- Layout


def test_a_layout_has_numbers_first_then_one_hot_and_then_embedded_columns():
    layout = Layout(COUNTS)
    assert (layout.numbers, layout.one_hot, layout.embedded) == (NUMBERS, ONE_HOT, EMBEDDED)
    assert layout.categorical == ONE_HOT + EMBEDDED
    assert layout.n_one_hot == 3 + 2 + MAX_ONE_HOT
    assert layout.n_inputs == 3 + layout.n_one_hot + 2 * N_EMBEDDED
    assert layout.blocks() == [range(3), range(3, 5), range(5, 5 + MAX_ONE_HOT)]
    # where each column of categories begins in outputs, in which embedded ones are as they are
    assert layout.starts == [3, 6, 8, 58, 58 + MANY]


def test_a_layout_of_numbers_has_only_these():
    layout = Layout([0, 0])
    assert layout.n_inputs == layout.n_numbers == 2
    assert layout.categorical == layout.starts == layout.blocks() == []


def test_a_layout_of_categories_has_no_numbers():
    layout = Layout([2, 3])
    assert (layout.n_numbers, layout.n_inputs, layout.starts) == (0, 5, [0, 2])


# ------------------------------------------------------------------------------------- inputs


@pytest.mark.parametrize("n_categories", [1, 2, 3, MAX_ONE_HOT])
def test_categories_are_one_hot_less_their_shares_over_the_roots_of_these(n_categories):
    X = rows_of([0, n_categories, 2], gaps=0)
    _, shares, inputs, _ = pieces([0, n_categories, 2], X, torch.float64)
    seen = inputs(torch.from_numpy(X)).numpy()
    np.testing.assert_array_equal(seen[:, 0], X[:, 0])
    expected = OneHotEncoder(sparse_output=False).fit_transform(X[:, 1:])
    p = expected.mean(axis=0)
    # shares are float32
    np.testing.assert_allclose(seen[:, 1:], (expected - p) / np.sqrt(p), atol=1e-5)
    np.testing.assert_allclose(torch.cat(shares).numpy(), p, rtol=1e-6)


def test_all_inputs_have_mean_zero_over_the_rows_that_have_the_entry(X, mixed):
    layout, _, inputs, _ = mixed
    with torch.no_grad():
        seen = inputs(torch.from_numpy(X).float()).double().numpy()
    means = np.nanmean(seen, axis=0)[layout.n_numbers :]
    # float32, and rare categories have inputs of 20
    np.testing.assert_allclose(means, 0, atol=2e-5)


def test_one_hot_blocks_have_one_variance_per_category_but_one(X, mixed):
    """This is what makes categorical columns count in factor analysis."""
    layout, _, inputs, _ = mixed
    seen = inputs.plain(torch.from_numpy(X).float()).double().numpy()[:, layout.n_numbers :]
    for block, j in zip(layout.blocks(), layout.one_hot, strict=True):
        variances = np.nanmean(np.square(seen[:, list(block)]), axis=0)
        assert variances.sum() == pytest.approx(COUNTS[j] - 1, rel=1e-4)  # float32


def test_missing_entries_are_missing_in_all_their_inputs_and_nowhere_else(X, mixed):
    layout, _, inputs, _ = mixed
    seen = inputs(torch.from_numpy(X).float()).isnan().numpy()
    columns = np.repeat(
        layout.numbers + layout.categorical,
        [1] * 3 + [COUNTS[j] for j in ONE_HOT] + [N_EMBEDDED] * 2,
    )
    np.testing.assert_array_equal(seen, np.isnan(X)[:, columns])


def test_inputs_of_rows_in_float64_are_float64(X):
    _, _, inputs, outputs = pieces(COUNTS, X, torch.float64)
    seen = inputs(torch.from_numpy(X))
    assert seen.dtype == torch.float64
    assert outputs(seen.nan_to_num()).dtype == torch.float64


def test_embedded_columns_have_the_vector_of_their_category(X, mixed):
    _, _, inputs, _ = mixed
    seen = inputs(torch.from_numpy(X).float())[:, inputs.n_plain :]
    for part, j, vectors in zip(
        seen.split(N_EMBEDDED, dim=1), EMBEDDED, inputs.vectors, strict=True
    ):
        known = ~np.isnan(X[:, j])
        codes = torch.from_numpy(X[known, j]).long()
        assert torch.equal(part[known], vectors.weight[codes])
        assert len(vectors.weight) == COUNTS[j] + 1  # the first is of what is missing


def test_only_the_vectors_of_categories_that_are_there_have_gradients():
    _, _, inputs, _ = pieces([MANY], rows_of([MANY], gaps=0))
    seen = inputs(torch.tensor([[4.0], [7.0], [NAN]]))
    seen.nan_to_num().square().sum().backward()
    gradients = inputs.vectors[0].weight.grad.abs().sum(dim=1)
    assert gradients.nonzero().flatten().tolist() == [4, 7]


def test_one_row_is_seen_as_it_is_among_others(X, mixed):
    _, _, inputs, _ = mixed
    rows = torch.from_numpy(X).float()
    seen = inputs(rows)
    for i in (0, 11, 399):
        torch.testing.assert_close(inputs(rows[[i]])[0], seen[i], equal_nan=True, rtol=0, atol=0)


# ------------------------------------------------------------------------------------ outputs


def parts_of(outputs, layout):
    """Return the outputs of each column of categories."""
    sizes = [layout.n_categories[j] for j in layout.categorical]
    return outputs[:, layout.n_numbers :].split(sizes, dim=1)


def test_decoded_zeros_are_the_shares(mixed):
    layout, shares, _, outputs = mixed
    given = outputs(torch.zeros(2, layout.n_inputs))
    assert torch.equal(given[:, : layout.n_numbers], torch.zeros(2, 3))
    for part, p in zip(parts_of(given, layout), shares, strict=True):
        torch.testing.assert_close(part.exp(), p.expand(2, -1))


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_probabilities_of_each_column_sum_to_one(mixed, scale):
    layout, _, _, outputs = mixed
    for part in parts_of(outputs(scale * torch.randn(20, layout.n_inputs)), layout):
        torch.testing.assert_close(part.exp().sum(dim=1), torch.ones(20))


def test_extreme_answers_have_finite_logarithms(mixed):
    layout, _, _, outputs = mixed
    v = torch.full((1, layout.n_inputs), 1e6)
    v[:, ::2] = -1e6
    assert outputs(v).isfinite().all()


def test_outputs_are_a_softmax_of_the_shares_and_the_products_with_the_vectors(X):
    layout, shares, inputs, outputs = pieces(COUNTS, X, torch.float64)
    v = torch.randn(7, layout.n_inputs, dtype=torch.float64)
    given = outputs(v)
    assert torch.equal(given[:, :3], v[:, :3])
    start = layout.n_numbers
    for part, j, p in zip(parts_of(given, layout), layout.categorical, shares, strict=True):
        n, width = COUNTS[j], COUNTS[j] if j in ONE_HOT else N_EMBEDDED
        # the vectors are what inputs are for the rows of each category
        rows = torch.ones(n, len(COUNTS), dtype=torch.float64)
        rows[:, j] = 1 + torch.arange(n)
        vectors = inputs(rows)[:, start : start + width]
        scores = p.double().log() + v[:, start : start + width] @ vectors.T
        # shares are float32, their logarithms too
        torch.testing.assert_close(part.exp(), scores.softmax(dim=1), rtol=1e-5, atol=1e-7)
        start += width


def test_to_first_order_probabilities_are_what_factor_analysis_reconstructs():
    """(p̂ - p) / sqrt(p) = v for each v that is one of inputs, that is, orthogonal to sqrt(p)."""
    X = rows_of([4], gaps=0)
    _, (p,), _, outputs = pieces([4], X, torch.float64)
    roots = p.double().sqrt()
    v = torch.randn(4, dtype=torch.float64)
    v -= (v @ roots) * roots
    small = 1e-5
    moved = outputs(small * v.unsqueeze(0)).exp()[0] - outputs(0 * v.unsqueeze(0)).exp()[0]
    # a step of 1e-5 leaves a second order of that size
    torch.testing.assert_close(moved / small / roots, v, rtol=1e-3, atol=1e-3)


def test_inputs_and_outputs_use_the_same_vectors(mixed):
    layout, _, inputs, outputs = mixed
    assert outputs.inputs is inputs
    with torch.no_grad():
        before = outputs(torch.ones(1, layout.n_inputs))
        inputs.vectors[0].weight[5] += 1
        after = outputs(torch.ones(1, layout.n_inputs))
    changed = (before != after).nonzero()[:, 1]
    first = layout.starts[len(ONE_HOT)]
    assert set(changed.tolist()) <= set(range(first, first + MANY))
    assert first + 4 in changed  # code 5


@pytest.mark.parametrize("counts", [[0, 0, 2], [2, 3], [MANY], [1, 0], [0, MANY, 0]], ids=str)
def test_any_kinds_of_columns_can_be_absent(counts):
    X = rows_of(counts)
    layout, _, inputs, outputs = pieces(counts, X)
    rows = torch.from_numpy(X).float()
    seen = inputs(rows).nan_to_num()
    assert seen.shape == (N_ROWS, layout.n_inputs)
    given = outputs(seen)
    assert given.shape == (N_ROWS, layout.n_numbers + sum(counts))
    assert given.isfinite().all()


# --------------------------------------------------------------------------------------- codes


def all_codes(counts):
    rows = torch.randn(MANY, len(counts))
    for j, n in enumerate(counts):
        if n:
            rows[:, j] = 1 + torch.arange(MANY) % n
    return rows


def test_rows_of_certain_outputs_are_the_rows_for_all_codes():
    rows, layout = all_codes(COUNTS), Layout(COUNTS)
    outputs = torch.full((MANY, layout.n_numbers + sum(COUNTS)), -9.0)
    outputs[:, : layout.n_numbers] = rows[:, NUMBERS]
    for j, part in zip(layout.categorical, parts_of(outputs, layout), strict=True):
        part[torch.arange(MANY), rows[:, j].long() - 1] = 0.0
    assert torch.equal(in_rows(outputs, layout), rows)


def test_inputs_that_are_answered_are_the_rows_for_all_codes_of_one_hot_columns():
    counts = [3, 0, 2, MAX_ONE_HOT]
    rows = all_codes(counts)
    layout, _, inputs, outputs = pieces(counts, rows_of(counts))
    assert torch.equal(in_rows(outputs(inputs(rows)), layout), rows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_of_outputs_have_the_likeliest_category(dtype):
    layout = Layout([0, 2, 3])
    outputs = torch.tensor([[1.5, -0.1, -3.0, -2.0, -1.0, -4.0]], dtype=dtype)
    rows = in_rows(outputs, layout)
    assert rows.dtype == dtype
    assert rows.tolist() == [[1.5, 1.0, 2.0]]


# -------------------------------------------------------------------------------------- losses

BY_HAND = {
    SquaredError: lambda x_hat, x: (x_hat - x) ** 2,
    AbsoluteError: lambda x_hat, x: abs(x_hat - x),
    Huber: lambda x_hat, x: torch.nn.functional.huber_loss(x_hat, x, reduction="none"),
}


def entries_by_hand(kind, given, rows, layout):
    """Return the losses of entries, one column after the other, zero where they are missing."""
    losses = torch.zeros_like(rows)
    for i, j in enumerate(layout.numbers):
        known = ~rows[:, j].isnan()
        losses[known, j] = BY_HAND[kind](given[known, i], rows[known, j])
    for j, part in zip(layout.categorical, parts_of(given, layout), strict=True):
        known = ~rows[:, j].isnan()
        codes = rows[known, j].long() - 1
        losses[known, j] = cross_entropy(part[known], codes, reduction="none")
    return losses


@pytest.mark.parametrize("kind", BY_HAND)
def test_entries_cost_errors_and_cross_entropies(X, kind):
    layout, shares, _, outputs = pieces(COUNTS, X, torch.float64)
    rows = torch.from_numpy(X)
    given = outputs(torch.randn(N_ROWS, layout.n_inputs, dtype=torch.float64))
    losses = MixedLoss(kind(), layout, shares).double().entries(given, rows)
    # what is given has sums of probabilities of 1 to rounding of float32 logarithms
    torch.testing.assert_close(
        losses, entries_by_hand(kind, given, rows, layout), rtol=1e-5, atol=1e-6
    )
    assert bool((losses[rows.isnan()] == 0).all())


def test_baselines_are_variances_and_entropies_of_what_is_there(X, mixed):
    layout, shares, _, _ = mixed
    X = X - np.where(np.isin(np.arange(len(COUNTS)), NUMBERS), np.nanmean(X, axis=0), 0)
    chunks = torch.from_numpy(X).float().split(150)
    loss = MixedLoss(SquaredError(), layout, shares).weigh(chunks)
    for j, n in enumerate(COUNTS):
        known = X[~np.isnan(X[:, j]), j]
        p = np.bincount(known.astype(int), minlength=n + 1)[1:] / len(known) if n else None
        expected = -(p * np.log(p)).sum() if n else known.var()
        assert loss.baselines[j] == pytest.approx(expected, rel=1e-5)  # float32
        assert loss.units[j] == pytest.approx(1 / expected, rel=1e-5)


@pytest.mark.parametrize("kind", BY_HAND)
def test_the_loss_is_the_mean_over_columns_of_the_share_of_the_baseline_that_is_left(X, kind):
    layout, shares, _, outputs = pieces(COUNTS, X, torch.float64)
    rows = torch.from_numpy(X)
    loss = MixedLoss(kind(), layout, shares).double().weigh(rows.split(90))
    given = outputs(torch.randn(N_ROWS, layout.n_inputs, dtype=torch.float64))
    left = entries_by_hand(kind, given, rows, layout).sum(dim=0)
    at_mean = outputs(torch.zeros(N_ROWS, layout.n_inputs, dtype=torch.float64))
    baseline = entries_by_hand(kind, at_mean, rows, layout).sum(dim=0)
    expected = (left / baseline).mean().item()
    assert loss(given, rows).mean().item() == pytest.approx(expected, rel=1e-5)  # float32 shares
    assert loss.of_mean(rows).mean().item() == pytest.approx(1, rel=1e-5)


def test_columns_that_are_constant_count_nothing(X):
    counts = [3, 0, 1, 0, MANY]
    X = rows_of(counts)
    X[~np.isnan(X[:, 3]), 3] = 0.0
    rows = torch.from_numpy(X).float()
    layout, shares, _, outputs = pieces(counts, X)
    loss = MixedLoss(SquaredError(), layout, shares).weigh([rows])
    assert loss.units[[2, 3]].tolist() == loss.weights[[2, 3]].tolist() == [0, 0]
    assert loss.of_mean(rows).mean().item() == pytest.approx(1, rel=1e-5)  # over the other three
    given = outputs(torch.randn(N_ROWS, layout.n_inputs))
    other = given.clone()
    other[:, 1] += 5.0  # the constant number
    assert torch.equal(loss(given, rows), loss(other, rows))


def test_a_table_that_is_constant_costs_nothing():
    layout = Layout([0, 1])
    rows = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    loss = MixedLoss(SquaredError(), layout, [torch.ones(1)]).weigh([rows])
    assert loss(torch.ones(2, 2), rows).tolist() == [0.0, 0.0]


def test_numbers_alone_keep_one_unit_and_lose_only_what_is_missing():
    rows = torch.tensor([[3.0, NAN], [3.0, 1.0], [-3.0, -1.0]])
    loss = MixedLoss(SquaredError(), Layout([0, 0]), []).weigh([rows[:1], rows[1:]])
    assert loss.baselines.tolist() == [9, 1]
    assert loss.units.tolist() == [1, 1]
    x_hat = torch.tensor([[1.0, 70.0], [3.0, 1.0], [-3.0, 1.0]])
    # errors of 4, 0, 0, 0 and 4 over five entries
    assert loss(x_hat, rows).mean().item() == pytest.approx(8 / 5)
    # and without gaps it is the plain loss
    whole, x_hat = torch.randn(5, 2), torch.randn(5, 2)
    loss = MixedLoss(SquaredError(), Layout([0, 0]), []).weigh([whole])
    torch.testing.assert_close(loss(x_hat, whole), SquaredError()(x_hat, whole))


def test_missing_entries_have_no_gradient_and_no_say(X):
    layout, shares, inputs, outputs = pieces(COUNTS, X)
    rows = torch.from_numpy(X).float()
    v = torch.randn(N_ROWS, layout.n_inputs, requires_grad=True)
    loss = MixedLoss(SquaredError(), layout, shares).weigh([rows])
    loss(outputs(v), rows).sum().backward()
    missing = inputs(rows).isnan()
    assert bool((v.grad[missing] == 0).all())
    counts = (v.grad != 0).any(dim=0)
    assert counts.all()  # of what is there each input counts
    assert v.grad.isfinite().all()


def test_the_gradient_of_the_loss_is_that_of_its_definition():
    X = rows_of([3, 0, MANY], n_rows=80)
    layout, shares, _, outputs = pieces([3, 0, MANY], X, torch.float64)
    rows = torch.from_numpy(X[-6:])
    loss = MixedLoss(SquaredError(), layout, shares).double().weigh([torch.from_numpy(X)])
    v = torch.randn(6, layout.n_inputs, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: loss(outputs(v), rows), v)


def test_of_whole_rows_missing_entries_are_taken_to_be_met():
    rows = torch.tensor([[1.0, NAN], [2.0, 5.0]])
    x_hat = torch.tensor([[0.0, 9.0], [2.0, 3.0]], requires_grad=True)
    loss = ObservedLoss(Loss(lambda x_hat, x: (x_hat - x).square().sum(dim=1)), 0.75)
    losses = loss(x_hat, rows)
    assert losses.tolist() == pytest.approx([1 / 0.75, 4 / 0.75])
    losses.sum().backward()
    assert x_hat.grad[0, 1] == 0
    assert x_hat.grad[0, 0] != 0


def test_what_is_taken_for_missing_entries_is_no_function_of_weights():
    x = torch.tensor([[1.0, NAN], [2.0, 5.0]])
    x_hat = torch.tensor([[0.5, 9.0], [2.0, 3.0]], requires_grad=True)
    product = Loss(lambda x_hat, x: -(x_hat * x).mean(dim=1))  # by both arguments alike
    ObservedLoss(product, 0.75)(x_hat, x).sum().backward()
    expected = -torch.where(x.isnan(), x_hat.detach(), x) / 2 / 0.75
    torch.testing.assert_close(x_hat.grad, expected)


def test_a_loss_of_whole_rows_says_what_the_mean_row_is():
    class Sevens(Loss):
        def mean_output(self, x):
            return torch.full_like(x, 7.0)

    rows = torch.tensor([[1.0, NAN], [2.0, 5.0]])
    loss = ObservedLoss(Sevens(lambda x_hat, x: (x_hat - x).square().sum(dim=1)), 0.75)
    assert loss.of_mean(rows).tolist() == pytest.approx([36 / 0.75, 29 / 0.75])


# ----------------------------------------------------------------------------- what is corrupted


def test_noise_is_for_numbers_and_leaves_categories_and_gaps_as_they_are(X):
    rows = torch.from_numpy(X).float()
    layout = Layout(COUNTS)
    torch.manual_seed(0)
    noisy = OnNumbers(gaussian, layout)(rows, 0.5)
    categorical = layout.categorical
    torch.testing.assert_close(
        noisy[:, categorical], rows[:, categorical], equal_nan=True, rtol=0, atol=0
    )
    torch.manual_seed(0)
    expected = gaussian(rows, 0.5)[:, NUMBERS]
    torch.testing.assert_close(noisy[:, NUMBERS], expected, equal_nan=True, rtol=0, atol=0)


# --------------------------------------------------------------------- vectors to begin with


def test_shares_are_those_of_rows_that_have_a_category(X):
    layout = Layout(COUNTS)
    for j, p in zip(layout.categorical, category_shares(X, layout), strict=True):
        known = X[~np.isnan(X[:, j]), j]
        expected = [(known == code).mean() for code in range(1, COUNTS[j] + 1)]
        np.testing.assert_allclose(p.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("counts", [[0, MANY], [MANY], [MANY, 3, 0, MAX_ONE_HOT], [MANY, MANY]])
def test_vectors_have_mean_zero_and_unit_covariance_over_the_rows(counts):
    X = rows_of(counts)
    layout = Layout(counts)
    shares = category_shares(X, layout)
    rows = torch.from_numpy(X).float()
    vectors = category_vectors(layout, shares, lambda: rows.split(64))
    assert len(vectors) == counts.count(MANY)
    for some, p in zip(vectors, shares[len(layout.one_hot) :], strict=True):
        assert some.shape == (MANY, N_EMBEDDED)
        p, some = p.double(), some.double()
        torch.testing.assert_close(p @ some, torch.zeros(N_EMBEDDED).double(), atol=1e-5, rtol=0)
        covariance = (p.unsqueeze(1) * some).T @ some
        torch.testing.assert_close(covariance, torch.eye(N_EMBEDDED).double(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("n_numbers", [2, 5])
def test_the_first_vectors_are_what_categories_do_to_other_columns(n_numbers):
    rng = np.random.RandomState(0)
    codes = rng.randint(MANY, size=4000)
    codes[:MANY] = np.arange(MANY)
    effects = rng.normal(size=(MANY, 2))
    X = np.empty((4000, 1 + n_numbers))
    X[:, 0] = codes + 1
    X[:, 1:] = rng.normal(size=(4000, n_numbers))
    X[:, 1] += 3 * effects[codes, 0]
    X[:, 2] += 2 * effects[codes, 1]
    X[:, 1:] = (X[:, 1:] - X[:, 1:].mean(axis=0)) / X[:, 1:].std(axis=0)
    counts = [MANY] + [0] * n_numbers
    layout = Layout(counts)
    shares = category_shares(X, layout)
    rows = torch.from_numpy(X).float()
    vectors = category_vectors(layout, shares, lambda: [rows])[0].numpy()
    # the two effects are explained by the first two entries: noise of means is a seventh or so
    found = np.column_stack([vectors[:, :2], np.ones(MANY)])
    weights = np.sqrt(shares[0].numpy())[:, np.newaxis]
    _, left, *_ = np.linalg.lstsq(weights * found, weights * effects, rcond=None)
    assert (left < 0.1).all()
    # all 16 entries but these two are orthogonal to both
    others = vectors[:, 2:].T @ (weights**2 * effects)
    assert np.abs(others).max() < 0.3


def test_vectors_do_not_depend_on_how_rows_come():
    counts = [0, MANY, 4, 0]
    X = rows_of(counts)
    layout = Layout(counts)
    shares = category_shares(X, layout)
    rows = torch.from_numpy(X).float()
    found = []
    for n_rows in (N_ROWS, 33):
        torch.manual_seed(1)
        found += category_vectors(layout, shares, lambda n=n_rows: rows.split(n))
    # sums in another order, and directions of small singular values are sensitive
    torch.testing.assert_close(*found, atol=1e-2, rtol=0)


def test_first_vectors_are_by_means_that_are_shrunk_by_ten_rows():
    rng = np.random.RandomState(0)
    n_rows = rng.permutation(np.r_[np.arange(1, 56), 40, 50, 60, 70, 80])
    codes = np.repeat(np.arange(60), n_rows)
    x = rng.normal(size=len(codes)) + rng.normal(size=60)[codes]
    rows = torch.tensor(np.column_stack([x, codes + 1]), dtype=torch.float32)
    shares = torch.tensor(n_rows / n_rows.sum(), dtype=torch.float32)
    (vectors,) = category_vectors(Layout([0, 60]), [shares], lambda: [rows[:300], rows[300:]])
    # of one column of numbers there is one direction, here centred and of variance 1
    means = np.bincount(codes, weights=x) / (n_rows + 10)
    weights = n_rows / n_rows.sum()
    expected = means - weights @ means
    expected /= np.sqrt(weights @ expected**2)
    found = vectors[:, 0].numpy()
    # float32
    np.testing.assert_allclose(found * np.sign(found @ expected), expected, atol=1e-4)
